//! Prompts: template, task command and question become one text with placeholders.
//!
//! The answer is asked for alike with and without a plan (VD-CoT): the reference trains on the same prompt and only
//! leaves the `<Task>` block out of the answer, so it is the guide that opens the block first or never.
#![forbid(unsafe_code)]

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;

use crate::error::{Error, Result};
use crate::text::vocabulary::Symbol;
use crate::trp::task::TaskCommand;
use crate::words::{Quoted, count_word, has_word, replace_word};

/// Stands for the image's features; it never reaches the vocabulary (id -200 in the reference).
pub const IMAGE_PLACEHOLDER: &str = "<image>";
/// Stands for the features of one visual prompt (id -300 in the reference).
pub const VISUAL_PROMPT_PLACEHOLDER: &str = "[VPT]";

/// One item of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PromptItem {
    /// A token.
    Token(u32),
    /// The features of the image.
    Image,
    /// The features of the next visual prompt.
    VisualPrompt,
}

/// The chat template as data, `prompt_template` of `config.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptTemplate {
    /// What stands first.
    pub system_prefix: String,
    /// The system part; `{system}` becomes the task command.
    pub system: String,
    /// The user's turn; `{input}` becomes the question.
    pub instruction: String,
    /// What stands between turns.
    pub sep: String,
}

impl PromptTemplate {
    /// Checks that the template has its slots and at most one image.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field.
    pub fn validate(&self) -> Result<()> {
        let bad = |field: &str, reason: &str| {
            Err(Error::Config { field: format!("prompt_template.{field}"), reason: reason.to_owned() })
        };
        if count_word(&self.system, "{system}") != 1 {
            return bad("system", "needs the slot {system} once");
        }
        if count_word(&self.instruction, "{input}") != 1 {
            return bad("instruction", "needs the slot {input} once");
        }
        let fields = [
            ("system_prefix", &self.system_prefix),
            ("system", &self.system),
            ("instruction", &self.instruction),
        ];
        let mut images = 0;
        for (name, text) in fields {
            images += count_word(text, IMAGE_PLACEHOLDER);
            if images > 1 {
                return bad(name, "the image stands in the template more than once");
            }
            if has_word(text, VISUAL_PROMPT_PLACEHOLDER) {
                return bad(name, "holds [VPT], which only a question may");
            }
        }
        Ok(())
    }

    /// Whether the template says where the image goes; else it goes before the question, with a newline.
    pub fn places_image(&self) -> bool {
        [&self.system_prefix, &self.system, &self.instruction]
            .into_iter()
            .any(|text| has_word(text, IMAGE_PLACEHOLDER))
    }

    /// The prompt of one question about one image, with its placeholders. White space around the question is dropped.
    ///
    /// # Errors
    /// [`Error::Config`] for a template that [`PromptTemplate::validate`] refuses, [`Error::Input`] for a question that
    /// [`check_question`] refuses.
    pub fn render(&self, command: &TaskCommand, question: &str) -> Result<String> {
        self.validate()?;
        check_question(question)?;
        let question = question.trim();
        let system = replace_word(&self.system, "{system}", &command.text());
        // The reference numbers the turns of a conversation; a prompt is the first.
        let instruction = replace_word(&self.instruction, "{round}", "1");
        let input = if self.places_image() {
            question.to_owned()
        } else {
            format!("{IMAGE_PLACEHOLDER}\n{question}").trim_end().to_owned()
        };
        Ok(format!("{}{system}{}", self.system_prefix, replace_word(&instruction, "{input}", &input)))
    }
}

/// Checks a question from outside and counts the visual prompts that it names: text cannot smuggle in an image or a
/// special token.
///
/// # Errors
/// [`Error::Input`] naming `question` where it is empty or holds `<image>` or a special token of the paradigm.
pub fn check_question(question: &str) -> Result<usize> {
    let bad = |reason: String| Err(Error::Input { field: "question", reason });
    if question.trim().is_empty() {
        return bad("is empty".to_owned());
    }
    let names = Symbol::ALL.into_iter().map(Symbol::text).chain([IMAGE_PLACEHOLDER]);
    for name in names {
        if has_word(question, name) {
            return bad(format!("holds {}, which is no text", Quoted(name)));
        }
    }
    Ok(count_word(question, VISUAL_PROMPT_PLACEHOLDER))
}
