//! Reads what a vocabulary needs from a Hugging Face `tokenizer.json`.
#![forbid(unsafe_code)]

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};

use crate::error::{Error, Result};
use crate::json::Value;
use crate::text::vocabulary::{Symbol, TokenKind};
use crate::words::{Quoted, replace_word};

/// The parts of a tokenizer file that decoding needs.
pub(super) struct Parsed {
    pub tokens: Vec<(Vec<u8>, TokenKind)>,
    pub bos: Option<u32>,
    pub eos: Vec<u32>,
    pub unk: Option<u32>,
    pub pad: Option<u32>,
    pub space_after_special: bool,
    pub strip_first_space: bool,
}

/// Ids above this are refused before memory is taken for the gaps below them.
const MAX_ID: u64 = 1 << 20;

const BOS: [&str; 4] = ["<s>", "<|begin_of_text|>", "<bos>", "[BOS]"];
const EOS: [&str; 8] =
    ["</s>", "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|endoftext|>", "<eos>", "[EOS]"];
const UNK: [&str; 3] = ["<unk>", "[UNK]", "<|unk|>"];
const PAD: [&str; 4] = ["<pad>", "[PAD]", "<|pad|>", "<|finetune_right_pad_id|>"];

pub(super) fn read(file: &str, json: &[u8]) -> Result<Parsed> {
    let bad = |reason: String| Error::Format { file: file.to_owned(), reason };
    // Merges, most of the file, are for encoding alone.
    let root = Value::parse_without(json, "merges").map_err(|error| bad(error.to_string()))?;
    let model = root.get("model").ok_or_else(|| bad("model: missing".to_string()))?;
    let byte_level = holds(&root, "decoder", "ByteLevel") || holds(&root, "pre_tokenizer", "ByteLevel");
    let metaspace = holds(&root, "decoder", "Metaspace")
        || holds(&root, "pre_tokenizer", "Metaspace")
        || holds(&root, "decoder", "Replace")
        || holds(&root, "normalizer", "Replace");
    if !byte_level && !metaspace {
        return Err(bad("decoder: neither ByteLevel nor Metaspace nor Replace".to_string()));
    }
    let byte_fallback = model.get("byte_fallback").and_then(Value::as_bool).unwrap_or(false)
        || holds(&root, "decoder", "ByteFallback");

    let mut tokens: Vec<(Vec<u8>, TokenKind)> = Vec::new();
    let unicode_to_byte = byte_level_table();
    for (id, text) in model_entries(model, &bad)? {
        let bytes = if byte_level {
            let mut bytes = Vec::with_capacity(text.len());
            for letter in text.chars() {
                match unicode_to_byte.get(letter as usize).copied().flatten() {
                    Some(byte) => bytes.push(byte),
                    // A token that is no byte-level text (a special one listed in the model too) stands for itself.
                    None => bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
                }
            }
            bytes
        } else if let Some(byte) = byte_fallback.then(|| fallback_byte(text)).flatten() {
            vec![byte]
        } else {
            replace_word(text, "\u{2581}", " ").into_bytes()
        };
        let kind = if text.is_empty() { TokenKind::Unused } else { TokenKind::Text };
        place(&mut tokens, id, bytes, kind, &bad)?;
    }

    let (mut bos, mut eos, mut unk, mut pad) = (None, Vec::new(), None, None);
    let added = root.get("added_tokens").and_then(Value::as_array).unwrap_or(&[]);
    for (index, token) in added.iter().enumerate() {
        let id = token
            .get("id")
            .and_then(Value::as_u64)
            .ok_or_else(|| bad(format!("added_tokens[{index}].id: not a number")))?;
        let text = token
            .get("content")
            .and_then(Value::as_str)
            .ok_or_else(|| bad(format!("added_tokens[{index}].content: not a string")))?;
        let special = token.get("special").and_then(Value::as_bool).unwrap_or(false);
        let kind = match Symbol::from_text(text.as_bytes()) {
            Some(symbol) => TokenKind::Symbol(symbol),
            None if special => TokenKind::Control,
            None if text.is_empty() => TokenKind::Unused,
            None => TokenKind::Text,
        };
        place(&mut tokens, id, text.as_bytes().to_vec(), kind, &bad)?;
        let id = id as u32;
        if special {
            if BOS.contains(&text) && bos.is_none() {
                bos = Some(id);
            }
            if EOS.contains(&text) {
                eos.push(id);
            }
            if UNK.contains(&text) {
                unk = Some(id);
            }
            if PAD.contains(&text) {
                pad = Some(id);
            }
        }
    }

    let prepends = holds(&root, "normalizer", "Prepend")
        || prepend_scheme(&root, "pre_tokenizer") == Some(Scheme::Always)
        || (byte_level && adds_prefix_space(root.get("pre_tokenizer")));
    let strips = !byte_level
        && (holds(&root, "decoder", "Strip")
            || matches!(prepend_scheme(&root, "decoder"), Some(Scheme::Always | Scheme::First)));
    Ok(Parsed { tokens, bos, eos, unk, pad, space_after_special: prepends, strip_first_space: strips })
}

/// The model's own (id, token) pairs: an object for BPE, an array of [token, score] for Unigram.
fn model_entries<'a>(model: &'a Value, bad: &dyn Fn(String) -> Error) -> Result<Vec<(u64, &'a str)>> {
    match model.get("vocab") {
        Some(Value::Object(vocab)) => vocab
            .iter()
            .map(|(text, id)| {
                let id =
                    id.as_u64().ok_or_else(|| bad(format!("model.vocab[{}]: not a number", Quoted(text))))?;
                Ok((id, text))
            })
            .collect(),
        Some(Value::Array(vocab)) => vocab
            .iter()
            .enumerate()
            .map(|(id, entry)| {
                let text = entry
                    .as_array()
                    .and_then(|pair| pair.first()?.as_str())
                    .ok_or_else(|| bad(format!("model.vocab[{id}]: not a pair of token and score")))?;
                Ok((id as u64, text))
            })
            .collect(),
        _ => Err(bad("model.vocab: missing".to_string())),
    }
}

fn place(
    tokens: &mut Vec<(Vec<u8>, TokenKind)>,
    id: u64,
    bytes: Vec<u8>,
    kind: TokenKind,
    bad: &dyn Fn(String) -> Error,
) -> Result<()> {
    if id >= MAX_ID {
        return Err(bad(format!("token id {id} is not below the limit of {MAX_ID}")));
    }
    let id = id as usize;
    if tokens.len() <= id {
        tokens.resize(id + 1, (Vec::new(), TokenKind::Unused));
    }
    tokens[id] = (bytes, kind);
    Ok(())
}

/// `<0x41>` is the byte 0x41.
fn fallback_byte(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}

/// GPT-2's table from the letters of a byte-level token to bytes: printable Latin-1 stands for itself, the other 68
/// bytes follow from U+0100 on.
fn byte_level_table() -> Vec<Option<u8>> {
    let mut table = vec![None; 0x144];
    let mut next = 0x100;
    for byte in 0..=255u8 {
        let printable = matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
        let letter = if printable {
            usize::from(byte)
        } else {
            next += 1;
            next - 1
        };
        table[letter] = Some(byte);
    }
    table
}

/// The component under `key`, and where it is a sequence its parts.
fn parts<'a>(root: &'a Value, key: &str) -> Vec<&'a Value> {
    let Some(component) = root.get(key) else { return Vec::new() };
    let mut parts = vec![component];
    for list in ["decoders", "pretokenizers", "normalizers"] {
        if let Some(list) = component.get(list).and_then(Value::as_array) {
            parts.extend(list);
        }
    }
    parts
}

fn holds(root: &Value, key: &str, kind: &str) -> bool {
    parts(root, key).iter().any(|part| {
        part.get("type").and_then(Value::as_str) == Some(kind)
            // A Replace counts only where it is the one that turns spaces into marks or back.
            && (kind != "Replace" || holds_mark(part))
    })
}

/// Whether a string anywhere in a component has the mark that stands for a space.
fn holds_mark(component: &Value) -> bool {
    match component {
        Value::String(text) => text.contains('\u{2581}'),
        Value::Array(values) => values.iter().any(holds_mark),
        Value::Object(fields) => fields.iter().any(|(_, value)| holds_mark(value)),
        _ => false,
    }
}

#[derive(PartialEq)]
enum Scheme {
    Always,
    First,
    Never,
}

fn prepend_scheme(root: &Value, key: &str) -> Option<Scheme> {
    let metaspace = parts(root, key)
        .into_iter()
        .find(|part| part.get("type").and_then(Value::as_str) == Some("Metaspace"))?;
    Some(match metaspace.get("prepend_scheme").and_then(Value::as_str) {
        Some("never") => Scheme::Never,
        Some("first") => Scheme::First,
        Some(_) => Scheme::Always,
        None if metaspace.get("add_prefix_space").and_then(Value::as_bool) == Some(false) => Scheme::Never,
        None => Scheme::Always,
    })
}

fn adds_prefix_space(pre_tokenizer: Option<&Value>) -> bool {
    let Some(component) = pre_tokenizer else { return false };
    let adds = |part: &Value| {
        part.get("type").and_then(Value::as_str) == Some("ByteLevel")
            && part.get("add_prefix_space").and_then(Value::as_bool).unwrap_or(true)
    };
    adds(component)
        || component.get("pretokenizers").and_then(Value::as_array).is_some_and(|list| list.iter().any(adds))
}
