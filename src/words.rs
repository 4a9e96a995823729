//! Pieces of messages, and looking for words in texts. Written out because the standard library's own forms of them bring
//! code that can panic, and programs for bare machines are held to a short list of panics.
#![forbid(unsafe_code)]

use alloc::string::String;
use core::fmt::{self, Write};

/// Text in quotation marks; control characters, quotation marks and backslashes are escaped.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for letter in self.0.chars() {
            match letter {
                '"' | '\\' => {
                    f.write_char('\\')?;
                    f.write_char(letter)?;
                }
                '\n' => f.write_str("\\n")?,
                letter if letter.is_control() => write!(f, "\\u{{{:x}}}", u32::from(letter))?,
                letter => f.write_char(letter)?,
            }
        }
        f.write_char('"')
    }
}

/// A number with up to six digits after its point.
pub(crate) struct Decimal(pub(crate) f64);

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SCALE: u64 = 1_000_000;
        let size = libm::fabs(self.0);
        if self.0.is_nan() {
            return f.write_str("NaN");
        }
        if self.0 < 0.0 {
            f.write_char('-')?;
        }
        if size.is_infinite() {
            return f.write_str("inf");
        }
        if size >= 1e12 {
            return f.write_str("a number of more than 12 digits");
        }
        let scaled = libm::round(size * SCALE as f64) as u64;
        write!(f, "{}", scaled / SCALE)?;
        let mut part = scaled % SCALE;
        let mut digits = 6;
        if part > 0 {
            while part.is_multiple_of(10) {
                part /= 10;
                digits -= 1;
            }
            write!(f, ".{part:0digits$}")?;
        }
        Ok(())
    }
}

/// Numbers in brackets.
pub(crate) struct Decimals<'a>(pub(crate) &'a [f32]);

impl fmt::Display for Decimals<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, &value) in self.0.iter().enumerate() {
            f.write_str(if index == 0 { "[" } else { ", " })?;
            write!(f, "{}", Decimal(value.into()))?;
        }
        f.write_str(if self.0.is_empty() { "[]" } else { "]" })
    }
}

/// What stands before and after the first place of `word`, which is not empty.
pub(crate) fn split_at_word<'a>(text: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    let last = text.len().checked_sub(word.len())?;
    let is_here =
        |&at: &usize| text.as_bytes().get(at..).is_some_and(|rest| rest.starts_with(word.as_bytes()));
    let at = (0..=last).find(is_here)?;
    Some((text.get(..at)?, text.get(at + word.len()..)?))
}

/// How often `word`, which is not empty, stands in the text.
pub(crate) fn count_word(text: &str, word: &str) -> usize {
    let (mut count, mut rest) = (0, text);
    while let Some((_, after)) = split_at_word(rest, word) {
        count += 1;
        rest = after;
    }
    count
}

/// Whether `word`, which is not empty, stands in the text.
pub(crate) fn has_word(text: &str, word: &str) -> bool {
    split_at_word(text, word).is_some()
}

/// The text with `value` in every place of `word`, which is not empty.
pub(crate) fn replace_word(text: &str, word: &str, value: &str) -> String {
    let (mut replaced, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = split_at_word(rest, word) {
        replaced.push_str(before);
        replaced.push_str(value);
        rest = after;
    }
    replaced.push_str(rest);
    replaced
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decimals_read_as_numbers() {
        for (value, expected) in [
            (0.0, "0"),
            (-1.5, "-1.5"),
            (0.05, "0.05"),
            (1e-9, "0"),
            (999_999.999_999_9, "1000000"),
            (-1e300, "-a number of more than 12 digits"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(format!("{}", Decimal(value)), expected);
        }
        assert_eq!(format!("{}", Decimals(&[1.0, -0.25])), "[1, -0.25]");
        assert_eq!(format!("{}", Decimals(&[])), "[]");
        assert_eq!(format!("{}", Quoted("a\"b\\\n\u{1}\u{e9}")), "\"a\\\"b\\\\\\n\\u{1}\u{e9}\"");
    }

    proptest! {
        #[test]
        fn words_are_found_as_by_the_standard_library(text in "[ab\u{e9}]{0,12}", word in "[ab\u{e9}]{1,3}") {
            prop_assert_eq!(split_at_word(&text, &word), text.split_once(&word));
            prop_assert_eq!(count_word(&text, &word), text.matches(&word).count());
            prop_assert_eq!(replace_word(&text, &word, "c"), text.replace(&word, "c"));
        }
    }
}
