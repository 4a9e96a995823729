//! From what a model wrote to plan and triplets: total on any input, in linear time.
//!
//! Opening and closing delimiters are paired with a stack, each `<REF>` belongs to the nearest unit and phrase before
//! it, and whatever is malformed is given as far as it goes, with a flag.
#![forbid(unsafe_code)]

use alloc::string::String;
use alloc::vec::Vec;
use core::mem;
use core::ops::Range;

use crate::text::detokenizer::push_lossy;
use crate::text::vocabulary::{Symbol, TokenKind, Vocabulary};
use crate::trp::answer::{
    Answer, ITEM_COUNT, ITEM_UNIT, PLAN_FALSE, PLAN_TRUE, Plan, PlanItem, Reference, Spare, Triplet,
};
use crate::trp::flags::Flags;
use crate::trp::task::Unit;
use crate::words::split_at_word;

/// Parses generated ids, up to the first end token. Places in the result count ids.
pub fn parse(vocabulary: &Vocabulary, ids: &[u32]) -> Answer {
    let mut answer = Answer::default();
    Parser::default().parse_into(vocabulary, ids, &mut answer);
    answer
}

/// Parses text in which the special tokens are written out. Places in the result count bytes.
pub fn parse_text(text: &str) -> Answer {
    let mut parser = Parser::default();
    let mut chunk_start = 0;
    let mut position = 0;
    while let Some(found) = text[position..].find('<') {
        position += found;
        let rest = &text[position..];
        match Symbol::ALL.into_iter().find(|symbol| rest.starts_with(symbol.text())) {
            Some(symbol) => {
                parser.chunk(&text[chunk_start..position], Some(symbol));
                parser.symbol(symbol, position, symbol.text().len());
                position += symbol.text().len();
                chunk_start = position;
            }
            None => position += 1,
        }
    }
    parser.chunk(&text[chunk_start..], None);
    parser.finish(text.len());
    parser.answer
}

/// A pair of delimiters that is complete.
#[derive(Clone, Debug, Default)]
struct Pair {
    /// The phrase in the answer's text; unused for a unit.
    span: Range<usize>,
    unit: Option<Unit>,
    /// Token places between the delimiters.
    tokens: Range<usize>,
}

/// Reads answers, with memory that it keeps from one to the next.
#[derive(Default)]
pub(crate) struct Parser {
    /// The answer that is being read.
    answer: Answer,
    /// Text of the plan block.
    plan: String,
    /// Open `<Phrase>`: first token place and text offset.
    phrases: Vec<(usize, usize)>,
    /// Open `<Unit>`: first token place.
    units: Vec<usize>,
    unit_word: String,
    /// Text since the last symbol.
    text: Vec<u8>,
    /// The same where it is no UTF-8.
    mended: String,
    at: Place,
    /// What the answers before were made of.
    pub(crate) spare: Spare,
}

/// What was read last.
#[derive(Default)]
struct Place {
    /// Whether a plan was opened, and whether it still is.
    has_plan: bool,
    in_plan: bool,
    /// The last complete pairs, and whether a `<REF>` has yet to use them.
    phrase: Option<Pair>,
    phrase_is_new: bool,
    unit: Option<Pair>,
    unit_is_new: bool,
    /// Whether the triplet that was added last is still to be closed; `None` before the first `<REF>`.
    open: Option<bool>,
    previous: Option<Symbol>,
    index: Option<usize>,
    /// Defects that go to the next triplet.
    loose: Flags,
}

impl Parser {
    /// As [`parse`], into an answer that is there; what it held is dropped.
    pub(crate) fn parse_into(&mut self, vocabulary: &Vocabulary, ids: &[u32], answer: &mut Answer) {
        answer.clear(&mut self.spare);
        self.answer = mem::take(answer);
        self.at = Place::default();
        self.plan.clear();
        self.phrases.clear();
        self.units.clear();
        self.unit_word.clear();
        let mut chunk = mem::take(&mut self.text);
        chunk.clear();
        let mut chunk_starts = vocabulary.strip_first_space();
        let mut end = ids.len();
        for (position, &id) in ids.iter().enumerate() {
            if vocabulary.is_eos(id) {
                end = position;
                break;
            }
            match vocabulary.kind(id) {
                TokenKind::Text => {
                    let bytes = vocabulary.bytes(id);
                    let marked = chunk_starts && chunk.is_empty() && bytes.first() == Some(&b' ');
                    chunk.extend_from_slice(if marked { &bytes[1..] } else { bytes });
                    chunk_starts = false;
                }
                TokenKind::Symbol(symbol) => {
                    self.chunk_bytes(&chunk, Some(symbol));
                    self.symbol(symbol, position, 1);
                    chunk.clear();
                    chunk_starts = vocabulary.space_after_special();
                }
                TokenKind::Control if vocabulary.bos() == Some(id) || vocabulary.pad() == Some(id) => {}
                TokenKind::Control | TokenKind::Unused => self.answer.flags |= Flags::STRAY_TOKEN,
            }
        }
        self.chunk_bytes(&chunk, None);
        self.text = chunk;
        self.finish(end);
        *answer = mem::take(&mut self.answer);
    }

    fn chunk_bytes(&mut self, chunk: &[u8], next: Option<Symbol>) {
        if let Ok(text) = str::from_utf8(chunk) {
            return self.chunk(text, next);
        }
        self.answer.flags |= Flags::UTF8;
        let mut text = mem::take(&mut self.mended);
        text.clear();
        push_lossy(&mut text, chunk);
        self.chunk(&text, next);
        self.mended = text;
    }

    /// Text between two symbols, possibly empty; `next` is the symbol after it.
    fn chunk(&mut self, chunk: &str, next: Option<Symbol>) {
        if self.at.in_plan {
            self.plan.push_str(chunk);
            return;
        }
        if !self.units.is_empty() {
            self.unit_word.push_str(chunk);
            return;
        }
        if !self.phrases.is_empty() {
            self.answer.text.push_str(chunk);
            return;
        }
        let mut rest = chunk;
        if self.at.previous == Some(Symbol::TaskClose) {
            match chunk.strip_prefix('\n') {
                Some(stripped) => rest = stripped,
                None => self.answer.flags |= Flags::PLAN_FORMAT,
            }
        }
        if self.at.previous == Some(Symbol::Reference)
            && let Some(stripped) = rest.trim_ascii_start().strip_prefix(')')
        {
            self.at.open = Some(false);
            rest = stripped;
        }
        if next == Some(Symbol::UnitOpen) {
            match rest.trim_ascii_end().strip_suffix('(') {
                Some(before) => rest = before,
                None => self.at.loose |= Flags::PUNCTUATION,
            }
            if self.at.previous == Some(Symbol::PhraseClose) {
                rest = self.only_space(rest);
            }
        }
        if next == Some(Symbol::Reference) {
            if let Some((before, index)) = split_index(rest) {
                self.at.index = index;
                rest = before;
            }
            rest = self.only_space(rest);
        }
        self.answer.text.push_str(rest);
    }

    /// Where the grammar has no text: drops white space, flags anything else and keeps it.
    fn only_space<'a>(&mut self, rest: &'a str) -> &'a str {
        if rest.trim_ascii().is_empty() {
            return "";
        }
        self.at.loose |= Flags::PUNCTUATION;
        rest
    }

    /// A symbol of `length` places (1 in ids, its bytes in text).
    fn symbol(&mut self, symbol: Symbol, position: usize, length: usize) {
        let after = position + length;
        if self.at.in_plan && symbol != Symbol::TaskClose {
            // Units written as symbols inside a plan read like the plain word.
            self.answer.flags |= Flags::PLAN_FORMAT;
            if symbol == Symbol::Reference {
                self.reference(position);
            }
            self.at.previous = Some(symbol);
            return;
        }
        match symbol {
            Symbol::TaskOpen => self.task_open(),
            Symbol::TaskClose if self.at.in_plan => self.at.in_plan = false,
            Symbol::TaskClose => self.answer.flags |= Flags::UNPAIRED,
            Symbol::PhraseOpen => {
                if !self.phrases.is_empty() || !self.units.is_empty() {
                    self.at.loose |= Flags::NESTED;
                }
                self.phrases.push((after, self.answer.text.len()));
            }
            Symbol::PhraseClose => match self.phrases.pop() {
                Some((start, from)) => {
                    let span = trimmed(&self.answer.text, from);
                    self.phrase_complete(Pair { span, unit: None, tokens: start..position });
                }
                None => self.answer.flags |= Flags::UNPAIRED,
            },
            Symbol::UnitOpen => {
                if !self.phrases.is_empty() || !self.units.is_empty() {
                    self.at.loose |= Flags::NESTED;
                }
                self.units.push(after);
                self.unit_word.clear();
            }
            Symbol::UnitClose => match self.units.pop() {
                Some(start) => {
                    if self.at.unit_is_new {
                        self.answer.flags |= Flags::UNFINISHED;
                    }
                    let unit = Unit::named(self.unit_word.trim_ascii());
                    self.unit_word.clear();
                    self.at.unit = Some(Pair { span: 0..0, unit, tokens: start..position });
                    self.at.unit_is_new = true;
                }
                None => self.answer.flags |= Flags::UNPAIRED,
            },
            Symbol::Reference => self.reference(position),
            Symbol::VOpen | Symbol::VClose | Symbol::Vrt => self.answer.flags |= Flags::STRAY_TOKEN,
        }
        self.at.previous = Some(symbol);
    }

    fn task_open(&mut self) {
        let first = self.at.previous.is_none() && self.answer.text.trim_ascii().is_empty();
        if first {
            self.answer.text.clear();
            self.plan.clear();
        } else {
            self.answer.flags |= Flags::PLAN_FORMAT;
        }
        self.at.has_plan = true;
        self.at.in_plan = true;
    }

    fn phrase_complete(&mut self, pair: Pair) {
        if self.at.phrase_is_new {
            self.give_unfinished();
        }
        self.at.phrase = Some(pair);
        self.at.phrase_is_new = true;
    }

    /// Gives the phrase that no `<REF>` followed, with the unit that followed it, as a triplet without targets.
    fn give_unfinished(&mut self) {
        self.close_previous();
        let phrase = self.at.phrase.clone().unwrap_or_default();
        let unit =
            if self.at.unit_is_new { self.at.unit.clone().unwrap_or_default() } else { Pair::default() };
        self.at.phrase_is_new = false;
        self.at.unit_is_new = false;
        self.answer.triplets.push(Triplet {
            phrase: phrase.span,
            unit: unit.unit,
            references: self.spare.references(),
            phrase_tokens: phrase.tokens,
            unit_tokens: unit.tokens,
            flags: Flags::UNFINISHED | mem::take(&mut self.at.loose),
        });
        // A later `<REF>` without phrase and unit of its own has no group to join here.
        self.at.open = None;
    }

    /// Flags the triplet before this one where its closing bracket is missing.
    fn close_previous(&mut self) {
        if self.at.open == Some(true)
            && let Some(triplet) = self.answer.triplets.last_mut()
        {
            triplet.flags |= Flags::UNFINISHED;
        }
        self.at.open = None;
    }

    fn reference(&mut self, position: usize) {
        let is_new = self.at.phrase_is_new || self.at.unit_is_new;
        let mut flags = mem::take(&mut self.at.loose);
        if !self.phrases.is_empty() || !self.units.is_empty() {
            flags |= Flags::NESTED;
        }
        match self.at.open {
            Some(open) if !is_new => {
                if !open {
                    flags |= Flags::BARE_REFERENCE;
                }
            }
            _ => {
                self.close_previous();
                if !self.at.phrase_is_new {
                    flags |= Flags::MISSING_PHRASE;
                }
                if !self.at.unit_is_new {
                    flags |= Flags::MISSING_UNIT;
                }
                let phrase = self.at.phrase.clone().unwrap_or_default();
                let unit = self.at.unit.clone().unwrap_or_default();
                if self.at.phrase_is_new && phrase.span.is_empty() {
                    flags |= Flags::MISSING_PHRASE;
                }
                if self.at.unit_is_new && unit.unit.is_none() {
                    flags |= Flags::UNKNOWN_UNIT;
                }
                if self.at.phrase_is_new && self.at.unit_is_new && unit.tokens.start < phrase.tokens.start {
                    flags |= Flags::UNIT_BEFORE_PHRASE;
                }
                self.answer.triplets.push(Triplet {
                    phrase: phrase.span,
                    unit: unit.unit,
                    references: self.spare.references(),
                    phrase_tokens: phrase.tokens,
                    unit_tokens: unit.tokens,
                    flags: Flags::empty(),
                });
                self.at.open = Some(true);
                self.at.phrase_is_new = false;
                self.at.unit_is_new = false;
            }
        }
        let index = self.at.index.take();
        if let Some(triplet) = self.answer.triplets.last_mut() {
            if index != Some(triplet.references.len()) {
                flags |= Flags::INDEX;
            }
            triplet.flags |= flags;
            triplet.references.push(Reference { index, position });
        }
    }

    /// The end of the answer.
    fn finish(&mut self, end: usize) {
        if self.at.in_plan {
            self.answer.flags |= Flags::PLAN_FORMAT | Flags::UNPAIRED;
        }
        if !self.units.is_empty() {
            self.at.loose |= Flags::UNPAIRED | Flags::UNFINISHED;
        }
        if let Some((start, from)) = self.phrases.pop() {
            self.at.loose |= Flags::UNPAIRED;
            let span = trimmed(&self.answer.text, from);
            self.phrase_complete(Pair { span, unit: None, tokens: start..end.max(start) });
        }
        if self.at.phrase_is_new || self.at.unit_is_new {
            if !self.at.phrase_is_new {
                self.at.phrase = None;
                self.at.loose |= Flags::MISSING_PHRASE;
            }
            self.give_unfinished();
        }
        self.close_previous();
        let mut flags = self.answer.flags | self.at.loose;
        if self.at.has_plan {
            let mut plan = self.spare.plan();
            parse_plan(&self.plan, &mut plan, &mut flags, &mut self.spare);
            self.answer.plan = Some(plan);
        }
        for triplet in &self.answer.triplets {
            flags |= triplet.flags;
        }
        if let Some(plan) = &self.answer.plan
            && !agrees(plan, &self.answer)
        {
            flags |= Flags::PLAN_MISMATCH;
        }
        self.answer.flags = flags;
    }
}

fn trimmed(text: &str, from: usize) -> Range<usize> {
    let phrase = text.get(from..).unwrap_or("");
    let start = text.len() - phrase.trim_ascii_start().len();
    start..start + phrase.trim_ascii().len()
}

/// Splits a trailing `[digits]` off; the index is `None` where the digits are no number that fits.
fn split_index(text: &str) -> Option<(&str, Option<usize>)> {
    let inner = text.trim_ascii_end().strip_suffix(']')?;
    let before = inner.trim_end_matches(|digit: char| digit.is_ascii_digit());
    let digits = inner.get(before.len()..)?;
    Some((before.strip_suffix('[')?, digits.parse().ok()))
}

fn agrees(plan: &Plan, answer: &Answer) -> bool {
    plan.items.len() == answer.triplets.len()
        && plan.items.iter().zip(&answer.triplets).all(|(item, triplet)| {
            item.name == answer.phrase(triplet)
                && triplet.unit.map(Unit::name) == Some(item.unit.as_str())
                && item.count == triplet.references.len()
        })
}

fn parse_plan(text: &str, plan: &mut Plan, flags: &mut Flags, spare: &mut Spare) {
    let mut lines = text.lines().map(str::trim_ascii).filter(|line| !line.is_empty());
    let decodes = match lines.next() {
        Some(PLAN_TRUE) => true,
        Some(PLAN_FALSE) => false,
        _ => {
            *flags |= Flags::PLAN_FORMAT;
            true
        }
    };
    for line in lines {
        match parse_item(line, spare) {
            Some(item) => plan.items.push(item),
            None => *flags |= Flags::PLAN_FORMAT,
        }
    }
    if decodes == plan.items.is_empty() {
        *flags |= Flags::PLAN_FORMAT;
    }
}

fn parse_item(line: &str, spare: &mut Spare) -> Option<PlanItem> {
    let rest = line.strip_prefix("- Name:")?.trim_ascii_start();
    let (name, rest) = split_at_word(rest, ITEM_UNIT)?;
    let (unit, count) = split_at_word(rest, ITEM_COUNT)?;
    let name = name.trim_ascii();
    if name.is_empty() || !count.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let count = count.parse().ok()?;
    Some(PlanItem { name: spare.string(name), unit: spare.string(unit.trim_ascii()), count })
}
