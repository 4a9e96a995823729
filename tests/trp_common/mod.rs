//! Two tiny tokenizers of the kinds that models have, as `tokenizer.json`.
#![allow(dead_code)] // each test binary uses its part

use serde_json::{Map, Value, json};

pub const SYMBOLS: [&str; 10] =
    ["<Task>", "</Task>", "<Unit>", "</Unit>", "<v>", "</v>", "<Phrase>", "</Phrase>", "<VRT>", "<REF>"];

/// Letters of GPT-2's byte-level alphabet by byte.
pub fn byte_letter(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return char::from(byte);
    }
    let rank = (0..byte).filter(|&other| !printable(other)).count();
    char::from_u32(0x100 + rank as u32).unwrap()
}

fn byte_word(word: &str) -> String {
    word.bytes().map(byte_letter).collect()
}

/// Adds every left-to-right prefix of a word as a merge.
fn add_word(vocab: &mut Map<String, Value>, merges: &mut Vec<String>, word: &str) {
    let letters: Vec<char> = word.chars().collect();
    for end in 2..=letters.len() {
        let left: String = letters[..end - 1].iter().collect();
        let whole: String = letters[..end].iter().collect();
        if !vocab.contains_key(&whole) {
            merges.push(format!("{left} {}", letters[end - 1]));
            vocab.insert(whole, json!(vocab.len()));
        }
    }
}

fn added(first: usize, names: &[&str]) -> Vec<Value> {
    let token = |(index, name): (usize, &&str)| {
        json!({"id": first + index, "content": name, "special": true, "single_word": false, "lstrip": false,
               "rstrip": false, "normalized": false})
    };
    names.iter().enumerate().map(token).collect()
}

/// Byte-level BPE with the 256 byte letters, multi-byte words and non-special added phrases.
pub fn byte_level_json() -> Vec<u8> {
    let (mut vocab, mut merges) = (Map::new(), Vec::new());
    for byte in 0..=255 {
        vocab.insert(byte_letter(byte).to_string(), json!(vocab.len()));
    }
    for word in [
        " red", "mug", " mug", " ball", "red", "box", " box", "mask", " Unit", " Num", "Name", "table",
        " the", "The", ").", "[0", "\n-", "é", "水", " é", "key", "point", " a", " U", "Ta",
    ] {
        add_word(&mut vocab, &mut merges, &byte_word(word));
    }
    let mut tokens = added(vocab.len(), &["<s>", "</s>"]);
    tokens.extend(added(vocab.len() + 2, &SYMBOLS));
    for (index, phrase) in
        ["\nUnit decode (False).\n", "- Name: ", " Unit: ", " Num: ", "[0]", "[1]"].into_iter().enumerate()
    {
        tokens.push(
            json!({"id": vocab.len() + 12 + index, "content": phrase, "special": false, "single_word": false,
                           "lstrip": false, "rstrip": false, "normalized": false}),
        );
    }
    serde_json::to_vec(&json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": tokens, "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab,
                  "merges": merges}
    }))
    .unwrap()
}

/// Llama-2's kind: `▁` for the space, one put before every piece, single bytes as `<0xNN>`.
pub fn llama_json() -> Vec<u8> {
    let (mut vocab, mut merges) = (Map::new(), Vec::new());
    for name in ["<unk>", "<s>", "</s>"] {
        vocab.insert(name.to_string(), json!(vocab.len()));
    }
    for byte in 0..=255u8 {
        vocab.insert(format!("<0x{byte:02X}>"), json!(vocab.len()));
    }
    for letter in "▁abcdefghijklmnopqrstuvwxyzUNTFC-:,.()[]0123456789é".chars() {
        vocab.insert(letter.to_string(), json!(vocab.len()));
    }
    for word in
        ["▁red", "▁mug", "▁ball", "▁box", "box", "▁mask", "▁the", "▁[", "▁(", "▁Unit", "▁Num", "▁Name", "▁a"]
    {
        add_word(&mut vocab, &mut merges, word);
    }
    let mut tokens = added(0, &["<unk>", "<s>", "</s>"]);
    tokens.extend(added(vocab.len(), &SYMBOLS));
    serde_json::to_vec(&json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": tokens,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": null, "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "vocab": vocab,
                  "merges": merges}
    }))
    .unwrap()
}
