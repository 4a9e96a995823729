//! The vocabulary: token id to bytes, and which ids are single symbols of the triplet paradigm.
//!
//! It is all that decoding, parsing and guiding need of a tokenizer, so it works without `std`.
#![forbid(unsafe_code)]

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{borrow::ToOwned, format};

use crate::error::{Error, Result};
use crate::text::tokenizer_json;

/// A special token of the triplet paradigm; each is one symbol of the grammar, never text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Symbol {
    /// `<Task>`: the plan begins.
    TaskOpen,
    /// `</Task>`: the plan ends.
    TaskClose,
    /// `<Unit>`: a decoding type begins.
    UnitOpen,
    /// `</Unit>`: a decoding type ends.
    UnitClose,
    /// `<Phrase>`: a concept begins.
    PhraseOpen,
    /// `</Phrase>`: a concept ends.
    PhraseClose,
    /// `<REF>`: one target; its hidden state is what a head decodes.
    Reference,
    /// `<v>`: reserved by the reference, unused in answers.
    VOpen,
    /// `</v>`: reserved by the reference, unused in answers.
    VClose,
    /// `<VRT>`: reserved by the reference, unused in answers.
    Vrt,
}

impl Symbol {
    /// Every symbol, in the order in which the reference adds them to a tokenizer.
    pub const ALL: [Symbol; 10] = [
        Symbol::TaskOpen,
        Symbol::TaskClose,
        Symbol::UnitOpen,
        Symbol::UnitClose,
        Symbol::VOpen,
        Symbol::VClose,
        Symbol::PhraseOpen,
        Symbol::PhraseClose,
        Symbol::Vrt,
        Symbol::Reference,
    ];

    /// The token's text, for example `<REF>`.
    pub const fn text(self) -> &'static str {
        match self {
            Symbol::TaskOpen => "<Task>",
            Symbol::TaskClose => "</Task>",
            Symbol::UnitOpen => "<Unit>",
            Symbol::UnitClose => "</Unit>",
            Symbol::PhraseOpen => "<Phrase>",
            Symbol::PhraseClose => "</Phrase>",
            Symbol::Reference => "<REF>",
            Symbol::VOpen => "<v>",
            Symbol::VClose => "</v>",
            Symbol::Vrt => "<VRT>",
        }
    }

    /// The symbol whose text is exactly `text`.
    pub fn from_text(text: &[u8]) -> Option<Symbol> {
        Symbol::ALL.into_iter().find(|symbol| symbol.text().as_bytes() == text)
    }
}

/// What a token id stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// Bytes of text.
    Text,
    /// One symbol of the triplet paradigm.
    Symbol(Symbol),
    /// Begin, end, padding, unknown or any other special token: never text.
    Control,
    /// An id without a token.
    Unused,
}

/// Ids of the special tokens of the triplet paradigm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpecialTokens {
    /// `<Task>`
    pub task_open: u32,
    /// `</Task>`
    pub task_close: u32,
    /// `<Unit>`
    pub unit_open: u32,
    /// `</Unit>`
    pub unit_close: u32,
    /// `<Phrase>`
    pub phrase_open: u32,
    /// `</Phrase>`
    pub phrase_close: u32,
    /// `<REF>`
    pub reference: u32,
    /// `<v>`, where the tokenizer has it.
    pub v_open: Option<u32>,
    /// `</v>`, where the tokenizer has it.
    pub v_close: Option<u32>,
    /// `<VRT>`, where the tokenizer has it.
    pub vrt: Option<u32>,
}

/// Token id to bytes and kind, the special ids, and how the tokenizer treats spaces.
#[derive(Clone, Debug)]
pub struct Vocabulary {
    file: String,
    bytes: Vec<u8>,
    ends: Vec<u32>,
    kinds: Vec<TokenKind>,
    special: SpecialTokens,
    bos: Option<u32>,
    eos: Vec<u32>,
    unk: Option<u32>,
    pad: Option<u32>,
    space_after_special: bool,
    strip_first_space: bool,
}

/// More tokens than any published vocabulary by a factor of four; a limit before memory is taken.
const MAX_TOKENS: usize = 1 << 20;

impl Vocabulary {
    /// Reads a Hugging Face `tokenizer.json`: byte-level BPE (GPT-2, Llama-3) or sentencepiece-like BPE and Unigram
    /// with `▁` for the space and `<0xNN>` for single bytes (Llama-2, Vicuna). `file` names it in errors.
    ///
    /// The beginning and end tokens are recognised by their usual names; `config.json` may override them with
    /// [`Vocabulary::with_bos`] and [`Vocabulary::with_eos`].
    ///
    /// # Errors
    /// [`Error::Format`] naming the field where the JSON is not such a tokenizer or lacks a symbol of the paradigm.
    pub fn from_tokenizer_json(file: &str, json: &[u8]) -> Result<Vocabulary> {
        let parsed = tokenizer_json::read(file, json)?;
        let mut vocabulary = Vocabulary::build(file, parsed.tokens)?;
        vocabulary.bos = parsed.bos;
        vocabulary.eos = parsed.eos;
        vocabulary.unk = parsed.unk;
        vocabulary.pad = parsed.pad;
        Ok(vocabulary.with_spaces(parsed.space_after_special, parsed.strip_first_space))
    }

    /// A vocabulary from explicit lists; a token's place in `tokens` is its id. Bytes of a symbol or control token are
    /// its name.
    ///
    /// # Errors
    /// [`Error::Format`] for file `tokens`, where a symbol is missing or twice there, a text token is empty, or an id
    /// is out of range.
    pub fn from_tokens(
        tokens: Vec<(Vec<u8>, TokenKind)>,
        bos: Option<u32>,
        eos: Vec<u32>,
    ) -> Result<Vocabulary> {
        Vocabulary::build("tokens", tokens)?.with_bos(bos)?.with_eos(eos)
    }

    fn build(file: &str, tokens: Vec<(Vec<u8>, TokenKind)>) -> Result<Vocabulary> {
        let format_error = |reason: String| Error::Format { file: file.to_owned(), reason };
        if tokens.len() > MAX_TOKENS {
            return Err(Error::Limit {
                limit: "tokens of a vocabulary",
                max: MAX_TOKENS as u64,
                got: tokens.len() as u64,
            });
        }
        let mut ids: [Option<u32>; 10] = [None; 10];
        let (mut bytes, mut ends, mut kinds) = (Vec::new(), Vec::new(), Vec::new());
        for (id, (token, kind)) in tokens.into_iter().enumerate() {
            if kind == TokenKind::Text && token.is_empty() {
                return Err(format_error(format!("token {id} is empty")));
            }
            if let TokenKind::Symbol(symbol) = kind
                && ids[symbol as usize].replace(id as u32).is_some()
            {
                return Err(format_error(format!("token \"{}\" is there twice", symbol.text())));
            }
            bytes.extend_from_slice(&token);
            let end = u32::try_from(bytes.len())
                .map_err(|_| format_error("more than 4 GiB of tokens".to_string()))?;
            ends.push(end);
            kinds.push(kind);
        }
        let need = |symbol: Symbol| {
            ids[symbol as usize]
                .ok_or_else(|| format_error(format!("added_tokens: no token \"{}\"", symbol.text())))
        };
        let special = SpecialTokens {
            task_open: need(Symbol::TaskOpen)?,
            task_close: need(Symbol::TaskClose)?,
            unit_open: need(Symbol::UnitOpen)?,
            unit_close: need(Symbol::UnitClose)?,
            phrase_open: need(Symbol::PhraseOpen)?,
            phrase_close: need(Symbol::PhraseClose)?,
            reference: need(Symbol::Reference)?,
            v_open: ids[Symbol::VOpen as usize],
            v_close: ids[Symbol::VClose as usize],
            vrt: ids[Symbol::Vrt as usize],
        };
        Ok(Vocabulary {
            file: file.to_owned(),
            bytes,
            ends,
            kinds,
            special,
            bos: None,
            eos: Vec::new(),
            unk: None,
            pad: None,
            space_after_special: false,
            strip_first_space: false,
        })
    }

    /// The same vocabulary with another beginning token (`llm.bos_token_id`).
    ///
    /// # Errors
    /// [`Error::Config`] where the id is outside the vocabulary.
    pub fn with_bos(mut self, id: Option<u32>) -> Result<Vocabulary> {
        if let Some(id) = id {
            self.make_control("llm.bos_token_id", id)?;
        }
        self.bos = id;
        Ok(self)
    }

    /// The same vocabulary with other end tokens (`llm.eos_token_id`, one or several).
    ///
    /// # Errors
    /// [`Error::Config`] where an id is outside the vocabulary or is a symbol of the paradigm.
    pub fn with_eos(mut self, ids: Vec<u32>) -> Result<Vocabulary> {
        for &id in &ids {
            self.make_control("llm.eos_token_id", id)?;
        }
        self.eos = ids;
        Ok(self)
    }

    fn make_control(&mut self, field: &str, id: u32) -> Result<()> {
        let count = self.len();
        match self.kinds.get_mut(id as usize) {
            Some(TokenKind::Symbol(symbol)) => Err(Error::Config {
                field: field.to_owned(),
                reason: format!("{id} is the token \"{}\" in {}", symbol.text(), self.file),
            }),
            Some(kind) => {
                *kind = TokenKind::Control;
                Ok(())
            }
            None => Err(Error::Config {
                field: field.to_owned(),
                reason: format!("{id} is not a token of {}, which has {count}", self.file),
            }),
        }
    }

    /// The same vocabulary with other space rules: `space_after_special`, the tokenizer puts one space before a piece
    /// of text that follows a special token (Llama-2); `strip_first_space`, its decoder drops one leading space.
    pub fn with_spaces(mut self, space_after_special: bool, strip_first_space: bool) -> Vocabulary {
        self.space_after_special = space_after_special;
        self.strip_first_space = strip_first_space;
        self
    }

    /// Number of ids.
    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    /// Whether there is no id at all.
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// The bytes of a text token, the name of a symbol or control token; empty for an unused or foreign id.
    pub fn bytes(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let Some(&end) = self.ends.get(id) else { return &[] };
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        &self.bytes[start as usize..end as usize]
    }

    /// What an id stands for; [`TokenKind::Unused`] for an id outside the vocabulary.
    pub fn kind(&self, id: u32) -> TokenKind {
        self.kinds.get(id as usize).copied().unwrap_or(TokenKind::Unused)
    }

    /// Ids of the symbols of the paradigm.
    pub fn special(&self) -> &SpecialTokens {
        &self.special
    }

    /// The token that begins a sequence.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The tokens that end a sequence.
    pub fn eos(&self) -> &[u32] {
        &self.eos
    }

    /// Whether `id` ends a sequence.
    pub fn is_eos(&self, id: u32) -> bool {
        self.eos.contains(&id)
    }

    /// The unknown token, where the tokenizer has one.
    pub fn unk(&self) -> Option<u32> {
        self.unk
    }

    /// The padding token, where the tokenizer has one.
    pub fn pad(&self) -> Option<u32> {
        self.pad
    }

    /// Whether the tokenizer puts one space before a piece of text that follows a special token.
    pub fn space_after_special(&self) -> bool {
        self.space_after_special
    }

    /// Whether decoding drops one leading space.
    pub fn strip_first_space(&self) -> bool {
        self.strip_first_space
    }
}
