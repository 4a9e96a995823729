//! Vocabulary, detokenizer and tokenizer against each other, over both kinds of tokenizers.
#![cfg(feature = "std")]

mod trp_common;

use proptest::prelude::*;
use triplet::Error;
use triplet::text::{Detokenizer, Symbol, TokenKind, Tokenizer, Vocabulary};
use triplet::trp::{PromptItem, PromptTemplate, Task};

fn both() -> [(Vocabulary, Tokenizer); 2] {
    [trp_common::byte_level_json(), trp_common::llama_json()].map(|json| {
        (
            Vocabulary::from_tokenizer_json("tokenizer.json", &json).unwrap(),
            Tokenizer::from_bytes("tokenizer.json", &json).unwrap(),
        )
    })
}

fn detokenize(vocabulary: &Vocabulary, ids: &[u32]) -> String {
    let mut stream = Detokenizer::new();
    let mut text = String::new();
    ids.iter().for_each(|&id| text.push_str(stream.push(vocabulary, id)));
    text.push_str(stream.finish());
    text
}

#[test]
fn special_ids_and_bytes() {
    let [(bytes, _), (llama, _)] = both();
    for vocabulary in [&bytes, &llama] {
        let special = vocabulary.special();
        assert_eq!(vocabulary.bytes(special.reference), b"<REF>");
        assert_eq!(vocabulary.kind(special.task_open), TokenKind::Symbol(Symbol::TaskOpen));
        assert_eq!(vocabulary.bytes(special.vrt.unwrap()), b"<VRT>");
        assert_eq!(vocabulary.kind(vocabulary.bos().unwrap()), TokenKind::Control);
        assert_eq!(vocabulary.eos().len(), 1);
        assert_eq!(vocabulary.bytes(u32::MAX), b"");
        assert_eq!(vocabulary.kind(u32::MAX), TokenKind::Unused);
    }
    assert!(llama.space_after_special() && llama.strip_first_space() && !bytes.space_after_special());
    assert_eq!(llama.bytes(3), &[0]);
    assert_eq!(llama.bytes(3 + 255), &[255]);
    assert_eq!(llama.unk(), Some(0));
    let newline = (0..bytes.len() as u32).find(|&id| bytes.bytes(id) == b"\n").unwrap();
    assert_eq!(bytes.kind(newline), TokenKind::Text);
    assert!((0..bytes.len() as u32).any(|id| bytes.bytes(id) == "水".as_bytes()));
    assert!(
        (0..bytes.len() as u32).any(|id| bytes.bytes(id) == b" Unit: " && bytes.kind(id) == TokenKind::Text)
    );
}

#[test]
fn errors_name_file_and_field() {
    let reason = |json: &[u8]| match Vocabulary::from_tokenizer_json("m/tokenizer.json", json) {
        Err(Error::Format { file, reason }) => {
            assert_eq!(file, "m/tokenizer.json");
            reason
        }
        other => panic!("{other:?}"),
    };
    assert!(reason(b"{").contains("the text ends too soon at byte 1"));
    assert!(reason(b"{}").contains("model"));
    assert!(reason(br#"{"model":{}}"#).contains("decoder"));
    assert!(reason(br#"{"model":{},"decoder":{"type":"ByteLevel"}}"#).contains("model.vocab"));
    let huge = br#"{"model":{"vocab":{"a":4000000000}},"decoder":{"type":"ByteLevel"}}"#;
    assert!(reason(huge).contains("limit"));
    let no_symbols = br#"{"model":{"vocab":{"a":0}},"decoder":{"type":"ByteLevel"}}"#;
    assert!(reason(no_symbols).contains("<Task>"));
    let (vocabulary, _) = &both()[0];
    let end = vocabulary.special().reference;
    assert!(
        matches!(vocabulary.clone().with_eos(vec![end]), Err(Error::Config { field, .. }) if field == "llm.eos_token_id")
    );
    assert!(
        matches!(vocabulary.clone().with_bos(Some(99_999)), Err(Error::Config { field, .. }) if field == "llm.bos_token_id")
    );
}

#[test]
fn prompt_pieces_are_encoded_by_themselves() {
    let template = PromptTemplate {
        system_prefix: "S ".into(),
        system: "{system}\n".into(),
        instruction: "USER: {input} ASSISTANT:".into(),
        sep: "\n".into(),
    };
    for (vocabulary, tokenizer) in both() {
        let command = Task::GroundingDetection.command();
        let items =
            tokenizer.encode_question(&vocabulary, &template, &command, " What is [VPT] or [VPT]?").unwrap();
        assert_eq!(items[0], PromptItem::Token(vocabulary.bos().unwrap()));
        assert_eq!(items.iter().filter(|&&item| item == PromptItem::Image).count(), 1);
        assert_eq!(items.iter().filter(|&&item| item == PromptItem::VisualPrompt).count(), 2);
        let image = items.iter().position(|&item| item == PromptItem::Image).unwrap();
        let between: Vec<u32> = items[image + 1..]
            .iter()
            .map_while(|item| if let PromptItem::Token(id) = item { Some(*id) } else { None })
            .collect();
        assert_eq!(between, tokenizer.encode("\nWhat is ").unwrap());
        assert!(items.contains(&PromptItem::Token(vocabulary.special().unit_open)));
        for question in ["", "  ", "a <REF> b", "<image>", "</s> x", "<Task>"] {
            let error = tokenizer.encode_question(&vocabulary, &template, &command, question).unwrap_err();
            assert!(matches!(error, Error::Input { field: "question", .. }), "{question:?}: {error:?}");
        }
    }
}

#[test]
fn symbols_of_a_written_answer_become_single_ids() {
    let text = "<Task>\nUnit decode (False).\n</Task>\nno <Phrase>red mug</Phrase>(<Unit>box</Unit>[0]<REF>)";
    for (vocabulary, tokenizer) in both() {
        let ids = tokenizer.encode(text).unwrap();
        for id in [
            vocabulary.special().task_open,
            vocabulary.special().phrase_close,
            vocabulary.special().reference,
        ] {
            assert_eq!(ids.iter().filter(|&&other| other == id).count(), 1);
        }
        assert_eq!(detokenize(&vocabulary, &ids), text);
    }
}

proptest! {
    #[test]
    fn text_survives(text in "[ a-zé水\u{1F600}\n]{1,40}") {
        for (vocabulary, tokenizer) in both() {
            let ids = tokenizer.encode(&text).unwrap();
            prop_assert_eq!(detokenize(&vocabulary, &ids), text.clone());
        }
    }

    #[test]
    fn bytes_one_by_one_read_as_they_do_together(
        pieces in proptest::collection::vec(prop_oneof![
            Just("a".as_bytes().to_vec()), Just("é".as_bytes().to_vec()), Just("\u{1F600}".as_bytes().to_vec()),
            Just("水".as_bytes()[..2].to_vec()), proptest::collection::vec(any::<u8>(), 1..3),
        ], 0..12)
    ) {
        let [(vocabulary, _), _] = both();
        let bytes = pieces.concat();
        // The ids of the vocabulary's first 256 tokens are their bytes.
        let ids: Vec<u32> = bytes.iter().map(|&byte| byte.into()).collect();
        prop_assert_eq!(detokenize(&vocabulary, &ids), String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_ids_become_text(ids in proptest::collection::vec(0u32..400, 0..60)) {
        for (vocabulary, _) in both() {
            let mut stream = Detokenizer::new();
            for &id in &ids {
                prop_assert!(stream.push(&vocabulary, id).len() < 200);
            }
            stream.finish();
        }
    }
}
