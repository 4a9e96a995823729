//! Streaming from token ids to text: bytes of an unfinished UTF-8 character are held back.
#![forbid(unsafe_code)]

use alloc::string::String;
use alloc::vec::Vec;

use crate::text::vocabulary::{TokenKind, Vocabulary};

/// Turns ids into text one by one. Symbols are written with their names, control tokens are dropped, and the one
/// space that a tokenizer of the Llama-2 kind puts before a piece of text is dropped at the start and after a symbol.
#[derive(Clone, Debug)]
pub struct Detokenizer {
    /// Bytes of a character that is not whole yet.
    pending: Vec<u8>,
    /// What the last call gave.
    text: String,
    at_start: bool,
    after_symbol: bool,
}

impl Default for Detokenizer {
    fn default() -> Detokenizer {
        Detokenizer::new()
    }
}

impl Detokenizer {
    /// At the start of a text.
    pub fn new() -> Detokenizer {
        Detokenizer { pending: Vec::new(), text: String::new(), at_start: true, after_symbol: false }
    }

    /// Begins another text, with the memory of the last one.
    pub fn restart(&mut self) {
        self.pending.clear();
        self.text.clear();
        (self.at_start, self.after_symbol) = (true, false);
    }

    /// The text that `id` completes; empty while a character is unfinished. Bytes that are no UTF-8 become U+FFFD.
    pub fn push(&mut self, vocabulary: &Vocabulary, id: u32) -> &str {
        self.text.clear();
        match vocabulary.kind(id) {
            TokenKind::Text => {
                let mut bytes = vocabulary.bytes(id);
                let drops_space = (self.at_start && vocabulary.strip_first_space())
                    || (self.after_symbol && vocabulary.space_after_special());
                if drops_space && bytes.first() == Some(&b' ') {
                    bytes = &bytes[1..];
                }
                self.at_start = false;
                self.after_symbol = false;
                self.pending.extend_from_slice(bytes);
                self.take_complete();
            }
            TokenKind::Symbol(symbol) => {
                self.take_all();
                self.text.push_str(symbol.text());
                self.at_start = false;
                self.after_symbol = true;
            }
            TokenKind::Control | TokenKind::Unused => {}
        }
        &self.text
    }

    /// What is held back, as U+FFFD where it is an unfinished character.
    pub fn finish(&mut self) -> &str {
        self.text.clear();
        self.take_all();
        &self.text
    }

    /// Moves what is held back to the text.
    fn take_all(&mut self) {
        push_lossy(&mut self.text, &self.pending);
        self.pending.clear();
    }

    /// Moves all but the bytes of an unfinished character at the end to the text.
    fn take_complete(&mut self) {
        let mut unfinished = 0;
        for chunk in self.pending.utf8_chunks() {
            if unfinished > 0 {
                // Something else came after it.
                self.text.push(char::REPLACEMENT_CHARACTER);
            }
            self.text.push_str(chunk.valid());
            unfinished = 0;
            match core::str::from_utf8(chunk.invalid()) {
                Err(error) if error.error_len().is_none() => unfinished = chunk.invalid().len(),
                Err(_) => self.text.push(char::REPLACEMENT_CHARACTER),
                Ok(_) => {}
            }
        }
        let complete = self.pending.len().saturating_sub(unfinished);
        self.pending.drain(..complete);
    }
}

/// Puts the text of `bytes` behind `text`, U+FFFD for what is no UTF-8, as [`String::from_utf8_lossy`] makes it.
pub(crate) fn push_lossy(text: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
}
