//! JSON text (RFC 8259), read piece by piece or as values.
//!
//! Stricter than the standard in two places where it leaves a choice: a name that stands twice in an object is an error, and
//! so is a number beyond `f64`. Lists and objects nest at most [`MAX_DEPTH`] deep.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use crate::table::Table;
use crate::words::Quoted;

/// Most lists and objects inside each other.
pub(crate) const MAX_DEPTH: usize = 128;

/// The reason where more text was expected.
const ENDS: &str = "the text ends too soon";

/// The reason where a string is none.
const NO_UTF8: &str = "not UTF-8 in the string that ends";

/// What is wrong with a text and where.
#[derive(Debug)]
pub(crate) struct Fault {
    reason: String,
    at: usize,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.reason, self.at)
    }
}

type Result<T, E = Fault> = core::result::Result<T, E>;

/// A number as it is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    /// Digits alone.
    Unsigned(u64),
    /// A minus and digits.
    Negative(i64),
    /// With a fraction or an exponent, or beyond 64 bits; finite.
    Float(f64),
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    Array(Vec<Value>),
    Object(Arc<Table<Value>>),
}

impl Value {
    /// Parses a whole text.
    pub(crate) fn parse(text: &[u8]) -> Result<Value> {
        let mut reader = Reader::new(text);
        let value = reader.value()?;
        reader.end()?;
        Ok(value)
    }

    /// As [`Value::parse`], without the lists that are called `left_out`: they are read, but not kept.
    pub(crate) fn parse_without(text: &[u8], left_out: &'static str) -> Result<Value> {
        let mut reader = Reader { left_out: Some(left_out), ..Reader::new(text) };
        let value = reader.value()?;
        reader.end()?;
        Ok(value)
    }

    /// The value under `name`, where this is an object that has it.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        match self {
            Value::Object(object) => object.get(name),
            _ => None,
        }
    }

    pub(crate) fn as_bool(&self) -> Option<bool> {
        if let Value::Bool(value) = self { Some(*value) } else { None }
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        if let Value::String(text) = self { Some(text) } else { None }
    }

    pub(crate) fn as_array(&self) -> Option<&[Value]> {
        if let Value::Array(values) = self { Some(values) } else { None }
    }

    pub(crate) fn as_u64(&self) -> Option<u64> {
        if let Value::Number(Number::Unsigned(value)) = self { Some(*value) } else { None }
    }

    pub(crate) fn as_i64(&self) -> Option<i64> {
        match self {
            Value::Number(Number::Unsigned(value)) => i64::try_from(*value).ok(),
            Value::Number(Number::Negative(value)) => Some(*value),
            _ => None,
        }
    }

    pub(crate) fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Number(Number::Unsigned(value)) => Some(*value as f64),
            Value::Number(Number::Negative(value)) => Some(*value as f64),
            Value::Number(Number::Float(value)) => Some(*value),
            _ => None,
        }
    }
}

/// Reads a text from its start; every method takes one value off.
pub(crate) struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    depth: usize,
    /// Of strings that are not kept.
    scratch: Vec<u8>,
    /// Lists of this name are not kept either.
    left_out: Option<&'static str>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Reader<'a> {
        Reader { text, at: 0, depth: 0, scratch: Vec::new(), left_out: None }
    }

    /// Nothing but white space may be left.
    pub(crate) fn end(&mut self) -> Result<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.fault("more text after the value")),
        }
    }

    /// A fault at the present place.
    pub(crate) fn fault(&self, reason: impl Into<String>) -> Fault {
        Fault { reason: reason.into(), at: self.at }
    }

    /// Any value.
    pub(crate) fn value(&mut self) -> Result<Value> {
        Ok(match self.peek() {
            Some(b'{') => {
                let mut pairs = Vec::new();
                self.object(|reader, name| {
                    if reader.left_out == Some(name.as_str()) && reader.peek() == Some(b'[') {
                        return reader.skip();
                    }
                    let value = reader.value()?;
                    pairs.push((name, value));
                    Ok(())
                })?;
                let table = Table::new(pairs);
                Value::Object(Arc::new(table.map_err(|name| self.twice(&name))?))
            }
            Some(b'[') => {
                let mut values = Vec::new();
                self.array(|reader| {
                    values.push(reader.value()?);
                    Ok(())
                })?;
                Value::Array(values)
            }
            Some(b'"') => Value::String(self.string()?),
            Some(b't') => self.word(b"true", Value::Bool(true))?,
            Some(b'f') => self.word(b"false", Value::Bool(false))?,
            Some(b'n') => self.word(b"null", Value::Null)?,
            _ => Value::Number(self.number()?),
        })
    }

    /// The fault of a name that stands twice in the object that ends here.
    pub(crate) fn twice(&self, name: &str) -> Fault {
        self.fault(format!("the object has {} twice, which ends", Quoted(name)))
    }

    /// An object; `field` takes the value of the name that it is given.
    pub(crate) fn object(&mut self, mut field: impl FnMut(&mut Self, String) -> Result<()>) -> Result<()> {
        self.list(b'{', b'}', "expected an object", |reader| {
            let name = reader.string()?;
            reader.expect(b':', "expected a colon")?;
            field(reader, name)
        })
    }

    /// A list; `element` takes one element.
    pub(crate) fn array(&mut self, element: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        self.list(b'[', b']', "expected a list", element)
    }

    fn list(
        &mut self,
        open: u8,
        close: u8,
        what: &str,
        mut item: impl FnMut(&mut Self) -> Result<()>,
    ) -> Result<()> {
        self.expect(open, what)?;
        if self.depth == MAX_DEPTH {
            return Err(self.fault("lists and objects nest too deep"));
        }
        self.depth += 1;
        if self.peek() == Some(close) {
            self.at += 1;
        } else {
            loop {
                item(self)?;
                match self.peek() {
                    Some(b',') => self.at += 1,
                    Some(byte) if byte == close => {
                        self.at += 1;
                        break;
                    }
                    Some(_) => return Err(self.fault("expected a comma or the end of the list")),
                    None => return Err(self.fault(ENDS)),
                }
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// Goes past a value, which is read as any other but not kept.
    pub(crate) fn skip(&mut self) -> Result<()> {
        match self.peek() {
            Some(b'{') => self.object(|reader, _| reader.skip()),
            Some(b'[') => self.array(Reader::skip),
            Some(b'"') => {
                let mut scratch = core::mem::take(&mut self.scratch);
                scratch.clear();
                let read = self.string_to(&mut scratch);
                let is_text = core::str::from_utf8(&scratch).is_ok();
                self.scratch = scratch;
                if is_text { read } else { read.and(Err(self.fault(NO_UTF8))) }
            }
            _ => self.value().map(drop),
        }
    }

    /// A string.
    pub(crate) fn string(&mut self) -> Result<String> {
        let mut bytes = Vec::new();
        self.string_to(&mut bytes)?;
        String::from_utf8(bytes).map_err(|_| self.fault(NO_UTF8))
    }

    /// The bytes of a string.
    fn string_to(&mut self, bytes: &mut Vec<u8>) -> Result<()> {
        self.expect(b'"', "expected a string")?;
        loop {
            let rest = self.rest();
            let plain = rest.iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < b' ');
            let (plain, rest) = rest.split_at_checked(plain.unwrap_or(rest.len())).unwrap_or((rest, &[]));
            bytes.extend_from_slice(plain);
            self.at += plain.len();
            match rest {
                [b'"', ..] => {
                    self.at += 1;
                    break;
                }
                [b'\\', escape, ..] => {
                    self.at += 2;
                    let letter = self.escaped(*escape)?;
                    bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                }
                [] | [b'\\'] => return Err(self.fault("the text ends inside a string")),
                _ => return Err(self.fault("a control character inside a string")),
            }
        }
        Ok(())
    }

    /// The character of an escape, behind its first letter.
    fn escaped(&mut self, letter: u8) -> Result<char> {
        Ok(match letter {
            b'"' | b'\\' | b'/' => char::from(letter),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hex()?;
                let code = match first {
                    0xd800..0xdc00 => {
                        let Some(b"\\u") = self.rest().get(..2) else {
                            return Err(self.fault("half of a surrogate pair"));
                        };
                        self.at += 2;
                        match self.hex()? {
                            second @ 0xdc00..0xe000 => 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00),
                            _ => return Err(self.fault("half of a surrogate pair")),
                        }
                    }
                    code => code,
                };
                char::from_u32(code).ok_or_else(|| self.fault("half of a surrogate pair"))?
            }
            _ => return Err(self.fault("an unknown escape")),
        })
    }

    /// Four hexadecimal digits.
    fn hex(&mut self) -> Result<u32> {
        let Some(digits) = self.rest().first_chunk::<4>() else {
            return Err(self.fault("the text ends inside an escape"));
        };
        let mut code = 0;
        for &digit in digits {
            let digit = char::from(digit).to_digit(16).ok_or_else(|| self.fault("no hexadecimal digit"))?;
            code = code << 4 | digit;
        }
        self.at += 4;
        Ok(code)
    }

    /// A number.
    pub(crate) fn number(&mut self) -> Result<Number> {
        match self.peek() {
            Some(b'-' | b'0'..=b'9') => {}
            Some(_) => return Err(self.fault("expected a value")),
            None => return Err(self.fault(ENDS)),
        }
        let text = self.rest();
        let (negative, digits) = match text {
            [b'-', rest @ ..] => (true, rest),
            _ => (false, text),
        };
        let (whole, mut rest) = split_digits(digits);
        if whole.is_empty() || (whole.len() > 1 && whole.first() == Some(&b'0')) {
            return Err(self.fault("a number that starts wrongly"));
        }
        let mut is_whole = true;
        if let [b'.', fraction @ ..] = rest {
            is_whole = false;
            let (fraction, after) = split_digits(fraction);
            if fraction.is_empty() {
                return Err(self.fault("a number without digits after its point"));
            }
            rest = after;
        }
        if let [b'e' | b'E', b'+' | b'-', exponent @ ..] | [b'e' | b'E', exponent @ ..] = rest {
            is_whole = false;
            let (exponent, after) = split_digits(exponent);
            if exponent.is_empty() {
                return Err(self.fault("a number without digits in its exponent"));
            }
            rest = after;
        }
        let length = text.len() - rest.len();
        let text = text.get(..length).and_then(|text| core::str::from_utf8(text).ok()).unwrap_or("");
        let number = match (is_whole, negative) {
            (true, false) => text.parse().ok().map(Number::Unsigned),
            // Minus zero is no whole number.
            (true, true) => text.parse().ok().filter(|&value| value != 0).map(Number::Negative),
            (false, _) => None,
        };
        let float = || text.parse().ok().filter(|value: &f64| value.is_finite()).map(Number::Float);
        let number = number.or_else(float).ok_or_else(|| self.fault("a number out of range"))?;
        self.at += length;
        Ok(number)
    }

    fn word<T>(&mut self, word: &[u8], value: T) -> Result<T> {
        if !self.rest().starts_with(word) {
            return Err(self.fault("expected a value"));
        }
        self.at += word.len();
        Ok(value)
    }

    /// Takes `byte` after white space.
    fn expect(&mut self, byte: u8, what: &str) -> Result<()> {
        match self.peek() {
            Some(found) if found == byte => {
                self.at += 1;
                Ok(())
            }
            Some(_) => Err(self.fault(what)),
            None => Err(self.fault(ENDS)),
        }
    }

    /// The next byte that is no white space, which is skipped.
    fn peek(&mut self) -> Option<u8> {
        let rest = self.rest();
        let blank = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
        self.at += blank;
        rest.get(blank).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or(&[])
    }
}

/// The decimal digits at the start, and the rest.
fn split_digits(text: &[u8]) -> (&[u8], &[u8]) {
    let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    text.split_at_checked(count).unwrap_or((text, &[]))
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use proptest::prelude::*;

    use super::*;

    /// What `serde_json` reads, as a [`Value`].
    fn other(value: &serde_json::Value) -> Value {
        use serde_json::Value as Other;
        match value {
            Other::Null => Value::Null,
            Other::Bool(value) => Value::Bool(*value),
            Other::Number(number) => Value::Number(match (number.as_u64(), number.as_i64()) {
                (Some(value), _) => Number::Unsigned(value),
                (None, Some(value)) => Number::Negative(value),
                _ => Number::Float(number.as_f64().unwrap()),
            }),
            Other::String(text) => Value::String(text.clone()),
            Other::Array(values) => Value::Array(values.iter().map(other).collect()),
            Other::Object(map) => {
                let pairs = map.iter().map(|(name, value)| (name.clone(), other(value))).collect();
                Value::Object(Arc::new(Table::new(pairs).unwrap()))
            }
        }
    }

    fn same(a: &Value, b: &Value) -> bool {
        match (a, b) {
            (Value::Number(Number::Float(a)), Value::Number(Number::Float(b))) => {
                (a - b).abs() <= 4.0 * f64::EPSILON * a.abs()
            }
            (Value::Array(a), Value::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
            }
            (Value::Object(a), Value::Object(b)) => {
                a.names().eq(b.names()) && a.iter().zip(b.iter()).all(|((_, a), (_, b))| same(a, b))
            }
            (a, b) => a == b,
        }
    }

    /// Both parsers refuse the text, or both read the same. (`serde_json` rounds some fractions wrongly by a bit.)
    fn agrees(text: &[u8]) -> bool {
        let mut reader = Reader::new(text);
        let skipped = reader.skip().and_then(|()| reader.end());
        let agrees_skipping = match Value::parse(text) {
            Err(fault) if fault.reason.contains("twice") => true,
            parsed => parsed.is_ok() == skipped.is_ok(),
        };
        agrees_skipping && agrees_reading(text)
    }

    fn agrees_reading(text: &[u8]) -> bool {
        match (Value::parse(text), serde_json::from_slice::<serde_json::Value>(text)) {
            (Ok(ours), Ok(theirs)) => same(&ours, &other(&theirs)),
            (Err(_), Err(_)) => true,
            // A name that stands twice.
            (Err(fault), Ok(_)) => fault.reason.contains("twice"),
            (Ok(_), Err(_)) => false,
        }
    }

    #[test]
    fn lists_of_a_name_can_be_left_out() {
        let text =
            br#"{"merges": [["a", "b\n"], {"c": [1.5]}], "vocab": {"merges": 7, "a": 1}, "last": [true]}"#;
        let expected = br#"{"vocab": {"merges": 7, "a": 1}, "last": [true]}"#;
        assert_eq!(Value::parse_without(text, "merges").unwrap(), Value::parse(expected).unwrap());
        for wrong in
            [r#"{"merges": [1, ]}"#, r#"{"merges": ["a}"#, r#"{"merges": [}"#, r#"{"merges": [nul]}"#]
        {
            assert!(Value::parse_without(wrong.as_bytes(), "merges").is_err(), "{wrong}");
        }
    }

    #[test]
    fn reads_what_is_json_and_nothing_else() {
        for text in [
            "null",
            " true\n",
            "[false,[],{}]",
            "0",
            "-0",
            "18446744073709551615",
            "-9223372036854775808",
            "18446744073709551616",
            "1.5e3",
            "2E-2",
            "1e+2",
            "\"\"",
            r#""\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00""#,
            r#"{"a": {"b": [1, 2.5, "x"]}, "": null}"#,
            "\"\u{e9}\u{1f600}\"",
            "\"\u{7f}\"",
            "",
            " ",
            "nul",
            "tru e",
            "01",
            "-",
            "1.",
            ".5",
            "1e",
            "1e+",
            "+1",
            "1e999",
            "-1e999",
            "[1,]",
            "[,1]",
            "[1 2]",
            "{\"a\":1,}",
            "{\"a\"}",
            "{a:1}",
            "{\"a\":1",
            "[",
            "\"",
            "\"\\",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\ud800\"",
            "\"\\ud800\\u0041\"",
            "\"\\udc00\"",
            "\"\n\"",
            "1 2",
            "NaN",
            "[1]]",
            "\u{feff}1",
            "'a'",
            "//\n1",
        ] {
            assert!(agrees(text.as_bytes()), "{text:?}: {:?}", Value::parse(text.as_bytes()));
        }
        for text in [&b"\"\xff\""[..], b"\"\xc3\"", b"\xff", b"[1\0]"] {
            assert!(agrees(text), "{text:?}");
        }
    }

    #[test]
    fn depth_has_a_limit_and_faults_a_place() {
        let nested = |depth: usize| ["[".repeat(depth), "]".repeat(depth)].concat();
        assert!(Value::parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        let fault = Value::parse(nested(MAX_DEPTH + 1).as_bytes()).unwrap_err();
        assert_eq!(fault.to_string(), "lists and objects nest too deep at byte 129");
        assert!(Value::parse("[".repeat(1 << 20).as_bytes()).is_err());
        let fault = Value::parse(br#"{"a": 1, "a": 2}"#).unwrap_err();
        assert_eq!(fault.to_string(), "the object has \"a\" twice, which ends at byte 16");
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json(text in r#"[\[\]{}:,"\\u0-9a-f\.eE+\- ntrue]{0,24}"#) {
            prop_assert!(agrees(text.as_bytes()), "{:?}", text);
        }

        #[test]
        fn agrees_on_bytes(text in proptest::collection::vec(any::<u8>(), 0..32)) {
            prop_assert!(agrees(&text), "{:?}", text);
        }
    }
}
