//! Bad questions, configurations and weights get an error that names the place.

use triplet::config::ModelDir;
use triplet::image::{ImageView, VisualPrompt};
use triplet::language::Sampling;
use triplet::session::{Prompt, Question};
use triplet::trp::{PromptItem, Task};
use triplet::{Cpu, Error, Model, Result};

use crate::fixture::{Outputs, changed_model, depth, dir, model, prompted, view};

/// The name that an error gives of the place.
fn place<T>(result: Result<T>) -> String {
    match result.err() {
        Some(Error::Config { field, .. }) => field,
        Some(Error::Tensor { name, .. }) => name,
        Some(Error::Input { field, .. }) => field.into(),
        Some(Error::Limit { limit, .. }) => limit.into(),
        Some(Error::NonFinite { module } | Error::Missing { module }) => module,
        other => panic!("{other:?}"),
    }
}

/// The text encoding is made by the first question in words; what the vocabulary alone does not mind is found then.
#[test]
fn a_tokenizer_that_cannot_encode_is_named_by_questions_in_words() {
    let mut parts = ModelDir::open(dir()).unwrap();
    let mut json: serde_json::Value = serde_json::from_slice(&parts.tokenizer).unwrap();
    json["pre_tokenizer"] = serde_json::json!({"type": "Unheard", "add_prefix_space": false});
    parts.tokenizer = json.to_string().into_bytes();
    let model = Model::from_dir(Cpu::with_threads(1), parts).unwrap();
    let mut session = model.session().unwrap();
    let picture = Outputs::open().picture();
    let image = session.encode(&view(&picture)).unwrap();
    for _ in 0..2 {
        match session.ask(&image, &depth()).map(drop) {
            Err(Error::Format { file, .. }) => assert_eq!(file, "tokenizer.json"),
            other => panic!("{other:?}"),
        }
    }
    let items = Prompt::Items(vec![PromptItem::Image, PromptItem::Token(5)]);
    assert!(session.ask(&image, &Question { prompt: items, max_new_tokens: 30, ..depth() }).is_ok());
}

#[test]
fn questions() {
    let (outputs, model) = (Outputs::open(), model());
    let mut session = model.session().unwrap();
    let picture = outputs.picture();
    let image = session.encode(&view(&picture)).unwrap();
    let text = |text: String| Question::new(Task::Detection, text);
    let sampling = Sampling { temperature: -1.0, ..Sampling::GREEDY };
    let items = |items: &[PromptItem]| Question { prompt: Prompt::Items(items.to_vec()), ..depth() };
    let point = |x, y| Question { prompts: vec![VisualPrompt::Point([x, y])], ..text("[VPT]?".into()) };
    let cases = [
        (text(String::new()), "question"),
        (text("<REF>".into()), "question"),
        (text("What is <image>?".into()), "question"),
        (text("word ".repeat(600)), "llm.max_position_embeddings"),
        (text("What is [VPT]?".into()), "prompts"),
        (Question { prompts: vec![VisualPrompt::Point([1.0, 1.0])], ..text("What?".into()) }, "prompts"),
        (
            Question { prompts: vec![VisualPrompt::Point([1.0, 1.0]); 65], ..text("[VPT]".repeat(65)) },
            "prompts",
        ),
        (Question { prompts: vec![VisualPrompt::Mask(&[1; 3])], ..text("[VPT]?".into()) }, "prompt.mask"),
        (point(-1.0, 3.0), "prompt.point"),
        (point(3.0, f32::NAN), "prompt.point"),
        (Question { max_new_tokens: 0, ..depth() }, "max_new_tokens"),
        (Question { max_new_tokens: 3, ..depth() }, "max_new_tokens"),
        (Question { sampling, ..depth() }, "sampling"),
        (items(&[]), "prompt"),
        (items(&[PromptItem::Image, PromptItem::Image]), "prompt"),
        (items(&[PromptItem::Token(1_000_000)]), "ids"),
    ];
    for (question, expected) in cases {
        assert_eq!(place(session.ask(&image, &question)), expected, "{question:?}");
    }
    let other = changed_model(str::to_owned, |_, bytes| Some(bytes.to_vec())).unwrap();
    let foreign = other.encode(&view(&picture)).unwrap();
    assert_eq!(place(session.ask(&foreign, &depth())), "image");
    assert_eq!(place(session.decode_tokens(&foreign, &depth(), &[5])), "image");
    assert_eq!(place(session.decode_tokens(&image, &depth(), &[5, 1_000_000])), "ids");
    assert_eq!(place(session.decode_tokens(&image, &depth(), &[5; 600])), "llm.max_position_embeddings");
    assert!(
        session.ask(&image, &Question { max_new_tokens: 60, ..prompted() }).is_ok(),
        "the session lives on"
    );
}

#[test]
fn pictures() {
    let model = model();
    let session = model.session().unwrap();
    assert_eq!(place(ImageView::rgb8(&[], 0, 3)), "image.width");
    assert_eq!(place(ImageView::rgb8(&[0; 3], 1, usize::MAX)), "image.height");
    assert_eq!(place(ImageView::rgb8(&[0; 3], 2, 1)), "image.pixels");
    for (width, height) in [(1, 1), (1, 300), (300, 1)] {
        let pixels = vec![7; 3 * width * height];
        let image = session.encode(&ImageView::rgb8(&pixels, width, height).unwrap()).unwrap();
        assert_eq!((image.width(), image.height()), (width, height));
    }
}

#[test]
fn configurations() {
    let replaced = |from: &'static str, to: &'static str| {
        move |text: &str| {
            assert!(text.contains(from), "{from}");
            text.replacen(from, to, 1)
        }
    };
    let keep = |_: &str, bytes: &[u8]| Some(bytes.to_vec());
    for (from, to, expected) in [
        ("\"projector\"", "\"projektor\"", "projector"),
        ("\"visual_select_layer\": -2", "\"visual_select_layer\": 9", "visual_select_layer"),
        ("\"box\": \"box\"", "\"cube\": \"box\"", "unit_heads.cube"),
        ("\"mask\": \"mask\"", "\"mask\": \"box\"", "unit_heads.mask"),
        ("\"vocab_size\": ", "\"vocab_size\": 1, \"was\": ", "llm.model.embed_tokens.weight"),
        ("\"llm_hidden_size\": 32", "\"llm_hidden_size\": 48", "projector.llm_hidden_size"),
        ("\"quries_input_dim\": 32", "\"quries_input_dim\": 33", "visual_decoder.box.quries_input_dim"),
        ("\"{system}\\n\"", "\"\"", "prompt_template.system"),
        ("\"eos_token_id\": 1", "\"eos_token_id\": -4", "llm.eos_token_id"),
        ("\"preprocessor\"", "\"processor\"", "preprocessor"),
    ] {
        assert_eq!(place(changed_model(replaced(from, to), keep)), expected, "{to}");
    }
    let model = changed_model(replaced("\"projector\"", "\"colour\": 3, \"projector\""), keep).unwrap();
    assert_eq!(model.warnings(), ["config.json: colour is not known"]);
}

#[test]
fn weights() {
    let name = "visual_decoder.pose.kpt_decoder.kpt_embedding.weight";
    let gone = changed_model(str::to_owned, |other, bytes| (other != name).then(|| bytes.to_vec()));
    assert_eq!(place(gone), name);
    let headless = |text: &str| {
        let fields = text.replacen("\"pose\": {", "\"posed\": {", 1);
        fields.replacen("\"keypoint\": \"pose\",", "", 1)
    };
    let error = changed_model(headless, |_, bytes| Some(bytes.to_vec()));
    assert_eq!(place(error), "visual_decoder.posed");
}

#[test]
fn activations_that_are_not_finite_name_their_module() {
    let outputs = Outputs::open();
    let picture = outputs.picture();
    let poisoned = |name: &'static str| {
        changed_model(str::to_owned, move |other, bytes| {
            let mut bytes = bytes.to_vec();
            if other == name {
                let nan = 0x7e00u16.to_le_bytes();
                bytes[..2].copy_from_slice(&nan);
            }
            Some(bytes)
        })
        .unwrap()
    };
    for (name, expected) in [
        ("visual_encoder.vision_model.encoder.layers.1.mlp.fc2.bias", "visual_encoder"),
        ("visual_tower.visual.trunk.stages.2.blocks.0.conv_dw.bias", "visual_tower"),
        ("projector.model.2.bias", "projector"),
        ("vpt_encoder.model.position_embedding.weight", "vpt_encoder"),
        ("llm.model.norm.weight", "llm"),
        ("visual_decoder.box.predictor.layers.2.bias", "visual_decoder.box"),
        ("visual_decoder.mask.mask_embedder.2.0.bias", "visual_decoder.mask"),
    ] {
        let model = poisoned(name);
        assert!(model.warnings().is_empty());
        let mut session = model.session().unwrap();
        let items =
            crate::fixture::model().encode_question(&prompted().command, "What is [VPT] next to [VPT]?");
        let question = Question { prompt: Prompt::Items(items.unwrap()), ..prompted() };
        let result = session
            .encode(&view(&picture))
            .and_then(|image| session.decode_tokens(&image, &question, &outputs.ids("0.answer")));
        assert_eq!(place(result), expected, "{name}");
    }
}
