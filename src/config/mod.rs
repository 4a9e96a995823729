//! `config.json` of a model directory: one object per module, plus what the whole model needs.
//!
//! The keys are listed in `docs/model-directory.md`. The configuration of a module is read beside the module, from the
//! [`Fields`] that this one hands out.
#![forbid(unsafe_code)]

mod fields;
#[cfg(feature = "std")]
mod model_dir;

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

pub use fields::{Fields, MAX_JSON};
#[cfg(feature = "std")]
pub use model_dir::ModelDir;

use crate::error::{Error, Result};
use crate::trp::PromptTemplate;

/// Keys that [`Config`] knows at the top level.
const KEYS: [&str; 11] = [
    "visual_encoder",
    "visual_tower",
    "projector",
    "vpt_encoder",
    "vd_adapter",
    "llm",
    "visual_decoder",
    "visual_select_layer",
    "prompt_template",
    "preprocessor",
    "unit_heads",
];

/// Units that an answer can name, each with the head that serves it unless `unit_heads` says otherwise.
const UNITS: [(&str, &str); 4] = [("box", "box"), ("mask", "mask"), ("keypoint", "pose"), ("depth", "depth")];

/// The parsed `config.json`.
#[derive(Clone, Debug)]
pub struct Config {
    root: Fields,
}

impl Config {
    /// Parses the text of `config.json`. Modules are checked when they are loaded.
    ///
    /// # Errors
    /// [`Error::Format`] where the text is no JSON object; [`Error::Limit`] where it is longer than [`MAX_JSON`].
    pub fn parse(bytes: &[u8]) -> Result<Config> {
        Ok(Config { root: Fields::parse("config.json", bytes)? })
    }

    /// The whole file.
    pub fn fields(&self) -> &Fields {
        &self.root
    }

    /// Keys of the top level that no part of the library reads: spelling mistakes show up here.
    pub fn unknown_keys(&self) -> Vec<&str> {
        self.root.keys().filter(|key| !KEYS.contains(key)).collect()
    }

    /// The configuration of the module at a dotted path, for example `llm` or `visual_decoder.box`.
    ///
    /// # Errors
    /// [`Error::Missing`] where the model has no such module; [`Error::Config`] where it is not an object.
    pub fn module(&self, path: &str) -> Result<Fields> {
        self.optional_module(path)?.ok_or_else(|| Error::Missing { module: path.to_owned() })
    }

    /// As [`Config::module`], `None` where the model has no such module.
    ///
    /// # Errors
    /// [`Error::Config`] where it is not an object.
    pub fn optional_module(&self, path: &str) -> Result<Option<Fields>> {
        let mut fields = self.root.clone();
        for name in path.split('.') {
            match fields.optional_child(name)? {
                None => return Ok(None),
                Some(child) => fields = child,
            }
        }
        Ok(Some(fields))
    }

    /// Index into the hidden states of the visual encoder; negative counts from the end. Default -2.
    ///
    /// # Errors
    /// [`Error::Config`] where it is no whole number.
    pub fn visual_select_layer(&self) -> Result<isize> {
        self.root.isize_or("visual_select_layer", -2)
    }

    /// The chat template, `None` where the directory has none; a missing `system_prefix` or `sep` is empty.
    ///
    /// # Errors
    /// [`Error::Config`] where a text is no string, or lacks its slot (see [`PromptTemplate::validate`]).
    pub fn prompt_template(&self) -> Result<Option<PromptTemplate>> {
        let Some(fields) = self.root.optional_child("prompt_template")? else { return Ok(None) };
        let template = PromptTemplate {
            system_prefix: fields.str_or("system_prefix", "")?.to_owned(),
            system: fields.str("system")?.to_owned(),
            instruction: fields.str("instruction")?.to_owned(),
            sep: fields.str_or("sep", "")?.to_owned(),
        };
        template.validate()?;
        Ok(Some(template))
    }

    /// Preprocessing of one encoder, `visual_encoder` or `visual_tower`, for
    /// [`Preprocessor::load`](crate::image::Preprocessor::load).
    ///
    /// # Errors
    /// [`Error::Config`] where it is missing.
    pub fn preprocessor(&self, encoder: &str) -> Result<Fields> {
        self.root.child("preprocessor")?.child(encoder)
    }

    /// Which head serves which unit, as pairs (unit, head) in the order box, mask, keypoint, depth. Without `unit_heads`
    /// every head that the model has serves its own unit; keypoints belong to the head `pose`.
    ///
    /// # Errors
    /// [`Error::Config`] for an unknown unit or a head that the model does not have.
    pub fn unit_heads(&self) -> Result<Vec<(String, String)>> {
        let heads = self.root.optional_child("visual_decoder")?;
        let present = |head: &str| heads.as_ref().is_some_and(|heads| heads.has(head));
        let Some(fields) = self.root.optional_child("unit_heads")? else {
            let own = UNITS.iter().filter(|(_, head)| present(head));
            return Ok(own.map(|&(unit, head)| (unit.to_owned(), head.to_owned())).collect());
        };
        if let Some(unit) = fields.keys().find(|key| UNITS.iter().all(|(unit, _)| unit != key)) {
            return Err(fields.error(unit, "is no unit: box, mask, keypoint and depth are"));
        }
        let mut pairs = Vec::new();
        for (unit, _) in UNITS {
            let Some(head) = fields.optional_str(unit)? else { continue };
            if !present(head) {
                return Err(fields.error(unit, format!("the model has no visual_decoder.{head}")));
            }
            pairs.push((unit.to_owned(), head.to_owned()));
        }
        Ok(pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn modules_are_found_by_dotted_path() {
        let config = config(r#"{"visual_decoder": {"box": {"num_queries": 8}}, "lmm": {}}"#);
        assert_eq!(config.module("visual_decoder.box").unwrap().usize("num_queries").unwrap(), 8);
        let missing = Error::Missing { module: "visual_decoder.depth".to_owned() };
        assert_eq!(config.module("visual_decoder.depth").unwrap_err(), missing);
        assert_eq!(config.unknown_keys(), ["lmm"]);
        assert_eq!(config.visual_select_layer().unwrap(), -2);
    }

    #[test]
    fn units_find_their_heads() {
        let pair = |unit: &str, head: &str| (unit.to_owned(), head.to_owned());
        let own = config(r#"{"visual_decoder": {"pose": {}, "box": {}, "sam": null}}"#);
        assert_eq!(own.unit_heads().unwrap(), [pair("box", "box"), pair("keypoint", "pose")]);
        let pose = config(r#"{"visual_decoder": {"pose": {}}, "unit_heads": {"box": "pose"}}"#);
        assert_eq!(pose.unit_heads().unwrap(), [pair("box", "pose")]);
        for (heads, field) in
            [("\"boxes\": \"pose\"", "unit_heads.boxes"), ("\"box\": \"box\"", "unit_heads.box")]
        {
            let text = format!("{{\"visual_decoder\": {{\"pose\": {{}}}}, \"unit_heads\": {{{heads}}}}}");
            match config(&text).unit_heads() {
                Err(Error::Config { field: got, .. }) => assert_eq!(got, field),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn prompt_template_names_the_wrong_text() {
        assert_eq!(config("{}").prompt_template().unwrap(), None);
        for (text, expected) in [
            (r#"{"system": "{system}"}"#, "prompt_template.instruction"),
            (r#"{"system": "{system}", "instruction": "USER:"}"#, "prompt_template.instruction"),
            (r#"{"system": 1, "instruction": "{input}"}"#, "prompt_template.system"),
        ] {
            match config(&format!("{{\"prompt_template\": {text}}}")).prompt_template() {
                Err(Error::Config { field, .. }) => assert_eq!(field, expected),
                other => panic!("{other:?}"),
            }
        }
        let whole = config(r#"{"prompt_template": {"system": "{system}\n", "instruction": "{input}"}}"#);
        assert_eq!(whole.prompt_template().unwrap().unwrap().system, "{system}\n");
    }
}
