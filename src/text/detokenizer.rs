//! Streaming from token ids to text: bytes of an unfinished UTF-8 character are held back.
#![forbid(unsafe_code)]

use alloc::string::String;
use alloc::vec::Vec;

use crate::text::vocabulary::{TokenKind, Vocabulary};

/// Turns ids into text one by one. Symbols are written with their names, control tokens are dropped, and the one
/// space that a tokenizer of the Llama-2 kind puts before a piece of text is dropped at the start and after a symbol.
#[derive(Clone, Debug)]
pub struct Detokenizer {
    pending: Vec<u8>,
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
        Detokenizer { pending: Vec::new(), at_start: true, after_symbol: false }
    }

    /// The text that `id` completes; empty while a character is unfinished. Bytes that are no UTF-8 become U+FFFD.
    pub fn push(&mut self, vocabulary: &Vocabulary, id: u32) -> String {
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
                self.take_complete()
            }
            TokenKind::Symbol(symbol) => {
                let mut text = self.finish();
                text.push_str(symbol.text());
                self.at_start = false;
                self.after_symbol = true;
                text
            }
            TokenKind::Control | TokenKind::Unused => String::new(),
        }
    }

    /// What is held back, as U+FFFD where it is an unfinished character.
    pub fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        text
    }

    fn take_complete(&mut self) -> String {
        let mut text = String::new();
        let mut rest = self.pending.as_slice();
        loop {
            match core::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, bad) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    match error.error_len() {
                        Some(length) => {
                            text.push(char::REPLACEMENT_CHARACTER);
                            rest = &bad[length..];
                        }
                        None => {
                            rest = bad;
                            break;
                        }
                    }
                }
            }
        }
        self.pending = rest.to_vec();
        text
    }
}
