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
