//! Text to token ids, through the `tokenizers` crate.
#![forbid(unsafe_code)]

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::mem;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::error::{Error, Result};
use crate::text::vocabulary::Vocabulary;
use crate::trp::prompt::{IMAGE_PLACEHOLDER, PromptItem, PromptTemplate, VISUAL_PROMPT_PLACEHOLDER};
use crate::trp::task::TaskCommand;

/// A `tokenizer.json` that is read when text is first encoded.
///
/// Reading one of 32,000 tokens takes longer than opening the model, and who asks in token ids never needs it.
pub(crate) struct LateTokenizer {
    file: &'static str,
    /// Empty once it was read.
    json: Mutex<Vec<u8>>,
    tokenizer: OnceLock<Result<Tokenizer>>,
}

impl LateTokenizer {
    /// `file` names it in errors.
    pub(crate) fn new(file: &'static str, json: Vec<u8>) -> LateTokenizer {
        LateTokenizer { file, json: Mutex::new(json), tokenizer: OnceLock::new() }
    }

    /// The tokenizer; threads that ask for it at once wait for one that reads it.
    ///
    /// # Errors
    /// As [`Tokenizer::from_bytes`], every time the same.
    pub(crate) fn get(&self) -> Result<&Tokenizer> {
        let read = || {
            let json = mem::take(&mut *self.json.lock().unwrap_or_else(PoisonError::into_inner));
            Tokenizer::from_bytes(self.file, &json)
        };
        self.tokenizer.get_or_init(read).as_ref().map_err(Clone::clone)
    }
}

/// A text encoder read from `tokenizer.json`.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    specials: Vec<String>,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`; `file` names it in errors.
    ///
    /// # Errors
    /// [`Error::Format`] where the file is no tokenizer.
    pub fn from_bytes(file: &str, json: &[u8]) -> Result<Tokenizer> {
        let mut inner = tokenizers::Tokenizer::from_bytes(json)
            .map_err(|error| Error::Format { file: file.to_owned(), reason: error.to_string() })?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| Error::Format {
            file: file.to_owned(),
            reason: format!("truncation: {error}"),
        })?;
        let mut specials: Vec<String> = inner
            .get_added_tokens_decoder()
            .values()
            .filter(|token| token.special && !token.content.is_empty())
            .map(|token| token.content.clone())
            .collect();
        specials.sort();
        Ok(Tokenizer { inner, specials })
    }

    /// Ids of a text, without beginning and end tokens. Special tokens that are written out become their ids, so this
    /// is not for text from outside.
    ///
    /// # Errors
    /// [`Error::Input`] naming `text` where the tokenizer cannot encode it.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|error| Error::Input { field: "text", reason: error.to_string() })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Items of a text with placeholders: the beginning token once, then every piece between placeholders encoded by
    /// itself.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_prompt(&self, vocabulary: &Vocabulary, text: &str) -> Result<Vec<PromptItem>> {
        let mut items: Vec<PromptItem> = vocabulary.bos().map(PromptItem::Token).into_iter().collect();
        for (image, piece) in text.split(IMAGE_PLACEHOLDER).enumerate() {
            if image > 0 {
                items.push(PromptItem::Image);
            }
            for (prompt, piece) in piece.split(VISUAL_PROMPT_PLACEHOLDER).enumerate() {
                if prompt > 0 {
                    items.push(PromptItem::VisualPrompt);
                }
                items.extend(self.encode(piece)?.into_iter().map(PromptItem::Token));
            }
        }
        Ok(items)
    }

    /// Items of the prompt of one question: [`PromptTemplate::render`], then [`Tokenizer::encode_prompt`].
    ///
    /// # Errors
    /// As those two, and [`Error::Input`] naming `question` where it holds any special token of this tokenizer.
    pub fn encode_question(
        &self,
        vocabulary: &Vocabulary,
        template: &PromptTemplate,
        command: &TaskCommand,
        question: &str,
    ) -> Result<Vec<PromptItem>> {
        if let Some(name) = self.specials.iter().find(|name| question.contains(name.as_str())) {
            return Err(Error::Input {
                field: "question",
                reason: format!("holds {name:?}, which is no text"),
            });
        }
        self.encode_prompt(vocabulary, &template.render(command, question)?)
    }
}
