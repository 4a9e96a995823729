//! Typed reading of a JSON object; every error names the dotted path of the field.
#![forbid(unsafe_code)]

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::error::{Error, Result};
use crate::json::{Number, Value};
use crate::table::Table;
use crate::words::{Decimal, Quoted};

/// Longest JSON text that [`Fields::parse`] reads, in bytes.
pub const MAX_JSON: usize = 16 << 20;

/// One object of a JSON file. Cheap to clone: the values are shared.
///
/// A field with the value `null` counts as missing, as the writers of such files mean it.
#[derive(Clone, Debug)]
pub struct Fields {
    path: String,
    object: Arc<Table<Value>>,
}

impl Fields {
    /// Parses the text of `file`, which must be one JSON object.
    ///
    /// # Errors
    /// [`Error::Format`] naming `file` where the text is not JSON (or nests more than 128 deep) or not an object;
    /// [`Error::Limit`] where it is longer than [`MAX_JSON`].
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Fields> {
        if bytes.len() > MAX_JSON {
            return Err(Error::Limit { limit: "JSON text", max: MAX_JSON as u64, got: bytes.len() as u64 });
        }
        let format = |reason| Error::Format { file: file.to_owned(), reason };
        match Value::parse(bytes) {
            Ok(Value::Object(object)) => Ok(Fields { path: String::new(), object }),
            Ok(other) => Err(format(format!("must be an object, but is {}", kind(&other)))),
            Err(error) => Err(format(error.to_string())),
        }
    }

    /// Dotted path of this object, empty for the whole file.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Names of the fields that are not `null`.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.object.iter().filter(|(_, value)| **value != Value::Null).map(|(key, _)| key)
    }

    /// Whether the field is there and not `null`.
    pub fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// An [`Error::Config`] about the field `name` of this object, for checks of meaning.
    pub fn error(&self, name: &str, reason: impl Into<String>) -> Error {
        Error::Config { field: self.join(name), reason: reason.into() }
    }

    /// The object under `name`.
    ///
    /// # Errors
    /// [`Error::Config`] where it is missing or not an object.
    pub fn child(&self, name: &str) -> Result<Fields> {
        self.required(name, self.optional_child(name)?)
    }

    /// The object under `name`, if there is one.
    ///
    /// # Errors
    /// [`Error::Config`] where it is not an object.
    pub fn optional_child(&self, name: &str) -> Result<Option<Fields>> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(Fields { path: self.join(name), object: object.clone() })),
            Some(other) => Err(self.wrong(name, "an object", other)),
        }
    }

    /// A number that is a size or an index.
    ///
    /// # Errors
    /// [`Error::Config`] where it is missing, negative, fractional or beyond `usize`.
    pub fn usize(&self, name: &str) -> Result<usize> {
        self.required(name, self.optional_usize(name)?)
    }

    /// As [`Fields::usize`], with a value for a missing field.
    ///
    /// # Errors
    /// [`Error::Config`] where the field is there but no size.
    pub fn usize_or(&self, name: &str, default: usize) -> Result<usize> {
        Ok(self.optional_usize(name)?.unwrap_or(default))
    }

    /// As [`Fields::usize`], `None` where the field is missing.
    ///
    /// # Errors
    /// [`Error::Config`] where the field is there but no size.
    pub fn optional_usize(&self, name: &str) -> Result<Option<usize>> {
        self.value(name).map(|value| self.size(name, value)).transpose()
    }

    /// A list of sizes; a lone number counts as a list of one.
    ///
    /// # Errors
    /// [`Error::Config`] where it is missing or an element is no size.
    pub fn usizes(&self, name: &str) -> Result<Vec<usize>> {
        self.required(name, self.optional_usizes(name)?)
    }

    /// As [`Fields::usizes`], `None` where the field is missing.
    ///
    /// # Errors
    /// [`Error::Config`] where an element is no size.
    pub fn optional_usizes(&self, name: &str) -> Result<Option<Vec<usize>>> {
        self.list(name, |name, value| self.size(name, value))
    }

    /// A whole number of either sign (an index that may count from the end), or `default`.
    ///
    /// # Errors
    /// [`Error::Config`] where it is fractional or beyond `isize`.
    pub fn isize_or(&self, name: &str, default: isize) -> Result<isize> {
        match self.value(name) {
            None => Ok(default),
            Some(value) => self.signed(name, value),
        }
    }

    /// A list of whole numbers of either sign, if there is one; a lone number counts as a list of one.
    ///
    /// # Errors
    /// [`Error::Config`] where an element is fractional or beyond `isize`.
    pub fn optional_isizes(&self, name: &str) -> Result<Option<Vec<isize>>> {
        self.list(name, |name, value| self.signed(name, value))
    }

    /// A finite number.
    ///
    /// # Errors
    /// [`Error::Config`] where it is missing, no number or beyond `f32`.
    pub fn f32(&self, name: &str) -> Result<f32> {
        self.required(name, self.optional_f32(name)?)
    }

    /// As [`Fields::f32`], with a value for a missing field.
    ///
    /// # Errors
    /// [`Error::Config`] where the field is there but no finite `f32`.
    pub fn f32_or(&self, name: &str, default: f32) -> Result<f32> {
        Ok(self.optional_f32(name)?.unwrap_or(default))
    }

    /// As [`Fields::f32`], `None` where the field is missing.
    ///
    /// # Errors
    /// [`Error::Config`] where the field is there but no finite `f32`.
    pub fn optional_f32(&self, name: &str) -> Result<Option<f32>> {
        self.value(name).map(|value| self.single(name, value)).transpose()
    }

    /// A list of finite numbers, if there is one; a lone number counts as a list of one.
    ///
    /// # Errors
    /// [`Error::Config`] where an element is no finite `f32`.
    pub fn optional_f32s(&self, name: &str) -> Result<Option<Vec<f32>>> {
        self.list(name, |name, value| self.single(name, value))
    }

    /// As [`Fields::optional_f32s`] in double precision.
    ///
    /// # Errors
    /// [`Error::Config`] where an element is no number.
    pub fn optional_f64s(&self, name: &str) -> Result<Option<Vec<f64>>> {
        self.list(name, |name, value| value.as_f64().ok_or_else(|| self.wrong(name, "a number", value)))
    }

    /// A number, or `default`.
    ///
    /// # Errors
    /// [`Error::Config`] where it is no number.
    pub fn f64_or(&self, name: &str, default: f64) -> Result<f64> {
        match self.value(name) {
            None => Ok(default),
            Some(value) => value.as_f64().ok_or_else(|| self.wrong(name, "a number", value)),
        }
    }

    /// A truth value, or `default`.
    ///
    /// # Errors
    /// [`Error::Config`] where it is neither `true` nor `false`.
    pub fn bool_or(&self, name: &str, default: bool) -> Result<bool> {
        match self.value(name) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(name, "true or false", value)),
        }
    }

    /// A string.
    ///
    /// # Errors
    /// [`Error::Config`] where it is missing or no string.
    pub fn str(&self, name: &str) -> Result<&str> {
        self.required(name, self.optional_str(name)?)
    }

    /// As [`Fields::str`], with a value for a missing field.
    ///
    /// # Errors
    /// [`Error::Config`] where the field is there but no string.
    pub fn str_or<'a>(&'a self, name: &str, default: &'a str) -> Result<&'a str> {
        Ok(self.optional_str(name)?.unwrap_or(default))
    }

    /// As [`Fields::str`], `None` where the field is missing.
    ///
    /// # Errors
    /// [`Error::Config`] where the field is there but no string.
    pub fn optional_str(&self, name: &str) -> Result<Option<&str>> {
        self.value(name)
            .map(|value| value.as_str().ok_or_else(|| self.wrong(name, "a string", value)))
            .transpose()
    }

    /// A list of strings; a lone string counts as a list of one.
    ///
    /// # Errors
    /// [`Error::Config`] where it is missing or an element is no string.
    pub fn strings(&self, name: &str) -> Result<Vec<String>> {
        let list = self.list(name, |name, value| match value {
            Value::String(text) => Ok(text.clone()),
            other => Err(self.wrong(name, "a string", other)),
        })?;
        self.required(name, list)
    }

    fn value(&self, name: &str) -> Option<&Value> {
        self.object.get(name).filter(|value| **value != Value::Null)
    }

    fn join(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn required<T>(&self, name: &str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| self.error(name, "is missing"))
    }

    fn wrong(&self, name: &str, wanted: &str, value: &Value) -> Error {
        self.error(name, format!("must be {wanted}, but is {}", kind(value)))
    }

    fn list<T>(&self, name: &str, element: impl Fn(&str, &Value) -> Result<T>) -> Result<Option<Vec<T>>> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Array(values)) => values
                .iter()
                .enumerate()
                .map(|(index, value)| element(&format!("{name}[{index}]"), value))
                .collect::<Result<_>>()
                .map(Some),
            Some(value) => Ok(Some(alloc::vec![element(name, value)?])),
        }
    }

    fn size(&self, name: &str, value: &Value) -> Result<usize> {
        let size = value.as_u64().and_then(|size| usize::try_from(size).ok());
        size.ok_or_else(|| self.wrong(name, "a whole number from 0", value))
    }

    fn signed(&self, name: &str, value: &Value) -> Result<isize> {
        let number = value.as_i64().and_then(|number| isize::try_from(number).ok());
        number.ok_or_else(|| self.wrong(name, "a whole number", value))
    }

    fn single(&self, name: &str, value: &Value) -> Result<f32> {
        let number = value.as_f64().map(|number| number as f32).filter(|number| number.is_finite());
        number.ok_or_else(|| self.wrong(name, "a number within f32", value))
    }
}

/// What a value is, for messages; long text and nested values are not repeated.
fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(Number::Unsigned(number)) => number.to_string(),
        Value::Number(Number::Negative(number)) => number.to_string(),
        Value::Number(Number::Float(number)) => Decimal(*number).to_string(),
        Value::String(text) if text.len() <= 64 => Quoted(text).to_string(),
        Value::String(_) => "a string".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Fields {
        let text = br#"{"llm": {"hidden_size": 64, "eps": 1e-5, "rope": null, "act": "silu", "eos": 2,
            "deep": {"index": [0, 1, -2]}, "bad": -3, "huge": 1e300}, "flag": true}"#;
        Fields::parse("config.json", text).unwrap()
    }

    fn field_of<T: core::fmt::Debug>(result: Result<T>) -> String {
        match result {
            Err(Error::Config { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn reads_typed_values() {
        let llm = fields().child("llm").unwrap();
        assert_eq!(llm.path(), "llm");
        assert_eq!(llm.usize("hidden_size").unwrap(), 64);
        assert_eq!(llm.f32("eps").unwrap(), 1e-5);
        assert_eq!(llm.str("act").unwrap(), "silu");
        assert_eq!(llm.usizes("eos").unwrap(), [2]);
        assert_eq!(llm.usize_or("window", 7).unwrap(), 7);
        assert!(llm.optional_child("rope").unwrap().is_none());
        assert!(!llm.has("rope") && llm.keys().all(|key| key != "rope"));
        assert_eq!(llm.child("deep").unwrap().optional_isizes("index").unwrap().unwrap(), [0, 1, -2]);
        assert!(fields().bool_or("flag", false).unwrap());
    }

    #[test]
    fn errors_name_the_dotted_path() {
        let llm = fields().child("llm").unwrap();
        assert_eq!(field_of(llm.usize("rope")), "llm.rope");
        assert_eq!(field_of(llm.usize("bad")), "llm.bad");
        assert_eq!(field_of(llm.f32("huge")), "llm.huge");
        assert_eq!(field_of(llm.child("deep").unwrap().usizes("index")), "llm.deep.index[2]");
        assert_eq!(field_of(llm.child("act")), "llm.act");
        assert_eq!(field_of(fields().child("vision")), "vision");
    }

    #[test]
    fn hostile_text_is_a_format_error() {
        let deep = "[".repeat(1 << 20);
        for text in ["", "[1]", "{\"a\": 1", "{} x", deep.as_str(), "{\"a\": NaN}"] {
            assert!(matches!(Fields::parse("config.json", text.as_bytes()), Err(Error::Format { .. })));
        }
        let long = alloc::vec![b' '; MAX_JSON + 1];
        assert!(matches!(Fields::parse("config.json", &long), Err(Error::Limit { .. })));
    }
}
