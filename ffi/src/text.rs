//! Texts that C can read: UTF-8 with a NUL behind it.
#![forbid(unsafe_code)]

use core::ffi::c_char;

/// A text and a NUL behind it. A NUL within the text stays, so that lengths count.
#[derive(Debug, Default)]
pub(crate) struct Text(Vec<u8>);

impl Text {
    /// No text.
    pub(crate) const EMPTY: Text = Text(Vec::new());

    pub(crate) fn new(text: &str) -> Text {
        let mut bytes = Vec::with_capacity(text.len() + 1);
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(0);
        Text(bytes)
    }

    /// Makes it another text, in the memory that it has.
    pub(crate) fn set(&mut self, text: &str) {
        self.0.clear();
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
    }

    /// The first byte; valid while the text is neither changed nor dropped.
    pub(crate) fn as_ptr(&self) -> *const c_char {
        if self.0.is_empty() { c"".as_ptr() } else { self.0.as_ptr().cast() }
    }

    /// The bytes with the NUL at their end.
    pub(crate) fn with_nul(&self) -> &[u8] {
        if self.0.is_empty() { &[0] } else { &self.0 }
    }

    /// Bytes before the NUL at the end.
    pub(crate) fn len(&self) -> usize {
        self.0.len().saturating_sub(1)
    }
}

/// Texts one behind the other, each with its NUL.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    bytes: Vec<u8>,
    /// Where each ends, its NUL counted.
    ends: Vec<usize>,
}

impl Texts {
    /// Forgets all of them, but not their memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    pub(crate) fn push(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
        self.ends.push(self.bytes.len());
    }

    /// The first byte of a text and how many come before its NUL; valid while the texts are neither changed nor dropped. An empty
    /// text where there is none.
    pub(crate) fn get(&self, index: usize) -> (*const c_char, usize) {
        let text = self.with_nul(index);
        (text.as_ptr().cast(), text.len().saturating_sub(1))
    }

    fn with_nul(&self, index: usize) -> &[u8] {
        let start = match index.checked_sub(1) {
            None => Some(0),
            Some(before) => self.ends.get(before).copied(),
        };
        let text = start.zip(self.ends.get(index)).and_then(|(start, &end)| self.bytes.get(start..end));
        text.unwrap_or(&[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_by_their_number() {
        let mut texts = Texts::default();
        for round in 0..2 {
            for text in ["", "red cup", "a\0b"] {
                texts.push(text);
            }
            let found = [0, 1, 2, 3].map(|index| texts.with_nul(index));
            let wanted: [&[u8]; 4] = [b"\0", b"red cup\0", b"a\0b\0", b"\0"];
            assert_eq!(found, wanted, "{round}");
            assert_eq!([0, 1, 2, 3].map(|index| texts.get(index).1), [0, 7, 3, 0]);
            texts.clear();
        }
    }
}
