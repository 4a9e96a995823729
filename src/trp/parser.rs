//! From what a model wrote to plan and triplets: total on any input, in linear time.
//!
//! Opening and closing delimiters are paired with a stack, each `<REF>` belongs to the nearest unit and phrase before
//! it, and whatever is malformed is given as far as it goes, with a flag.
#![forbid(unsafe_code)]

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use crate::text::vocabulary::{Symbol, TokenKind, Vocabulary};
use crate::trp::answer::{
    Answer, ITEM_COUNT, ITEM_UNIT, PLAN_FALSE, PLAN_TRUE, Plan, PlanItem, Reference, Triplet,
};
use crate::trp::flags::Flags;
use crate::trp::task::Unit;
use crate::words::split_at_word;

/// Parses generated ids, up to the first end token. Places in the result count ids.
pub fn parse(vocabulary: &Vocabulary, ids: &[u32]) -> Answer {
    let mut parser = Parser::default();
    let mut chunk: Vec<u8> = Vec::new();
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
                parser.chunk_bytes(&chunk, Some(symbol));
                parser.symbol(symbol, position, 1);
                chunk.clear();
                chunk_starts = vocabulary.space_after_special();
            }
            TokenKind::Control if vocabulary.bos() == Some(id) || vocabulary.pad() == Some(id) => {}
            TokenKind::Control | TokenKind::Unused => parser.answer.flags |= Flags::STRAY_TOKEN,
        }
    }
    parser.chunk_bytes(&chunk, None);
    parser.finish(end)
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
    parser.finish(text.len())
}

/// A pair of delimiters that is complete.
#[derive(Clone, Default)]
struct Pair {
    /// The phrase in the answer's text; unused for a unit.
    span: Range<usize>,
    unit: Option<Unit>,
    /// Token places between the delimiters.
    tokens: Range<usize>,
}

#[derive(Default)]
struct Parser {
    answer: Answer,
    /// Text of the plan block, once one was opened.
    plan: Option<String>,
    in_plan: bool,
    /// Open `<Phrase>`: first token place and text offset.
    phrases: Vec<(usize, usize)>,
    /// Open `<Unit>`: first token place.
    units: Vec<usize>,
    unit_word: String,
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
    fn chunk_bytes(&mut self, chunk: &[u8], next: Option<Symbol>) {
        let text = String::from_utf8_lossy(chunk);
        if matches!(text, Cow::Owned(_)) {
            self.answer.flags |= Flags::UTF8;
        }
        self.chunk(&text, next);
    }

    /// Text between two symbols, possibly empty; `next` is the symbol after it.
    fn chunk(&mut self, chunk: &str, next: Option<Symbol>) {
        if self.in_plan {
            if let Some(plan) = &mut self.plan {
                plan.push_str(chunk);
            }
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
        let mut rest = Cow::Borrowed(chunk);
        let strip = |text: &str| Cow::Owned(String::from(text));
        if self.previous == Some(Symbol::TaskClose) {
            match chunk.strip_prefix('\n') {
                Some(stripped) => rest = strip(stripped),
                None => self.answer.flags |= Flags::PLAN_FORMAT,
            }
        }
        if self.previous == Some(Symbol::Reference)
            && let Some(stripped) = rest.trim_ascii_start().strip_prefix(')')
        {
            self.open = Some(false);
            rest = strip(stripped);
        }
        if next == Some(Symbol::UnitOpen) {
            match rest.trim_ascii_end().strip_suffix('(') {
                Some(before) => rest = strip(before),
                None => self.loose |= Flags::PUNCTUATION,
            }
            if self.previous == Some(Symbol::PhraseClose) {
                rest = self.only_space(rest);
            }
        }
        if next == Some(Symbol::Reference) {
            if let Some((before, index)) = split_index(&rest) {
                self.index = index;
                rest = strip(before);
            }
            rest = self.only_space(rest);
        }
        self.answer.text.push_str(&rest);
    }

    /// Where the grammar has no text: drops white space, flags anything else and keeps it.
    fn only_space<'a>(&mut self, rest: Cow<'a, str>) -> Cow<'a, str> {
        if rest.trim_ascii().is_empty() {
            return Cow::Borrowed("");
        }
        self.loose |= Flags::PUNCTUATION;
        rest
    }

    /// A symbol of `length` places (1 in ids, its bytes in text).
    fn symbol(&mut self, symbol: Symbol, position: usize, length: usize) {
        let after = position + length;
        if self.in_plan && symbol != Symbol::TaskClose {
            // Units written as symbols inside a plan read like the plain word.
            self.answer.flags |= Flags::PLAN_FORMAT;
            if symbol == Symbol::Reference {
                self.reference(position);
            }
            self.previous = Some(symbol);
            return;
        }
        match symbol {
            Symbol::TaskOpen => self.task_open(),
            Symbol::TaskClose if self.in_plan => self.in_plan = false,
            Symbol::TaskClose => self.answer.flags |= Flags::UNPAIRED,
            Symbol::PhraseOpen => {
                if !self.phrases.is_empty() || !self.units.is_empty() {
                    self.loose |= Flags::NESTED;
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
                    self.loose |= Flags::NESTED;
                }
                self.units.push(after);
                self.unit_word.clear();
            }
            Symbol::UnitClose => match self.units.pop() {
                Some(start) => {
                    if self.unit_is_new {
                        self.answer.flags |= Flags::UNFINISHED;
                    }
                    let unit = self.unit_word.trim_ascii().parse().ok();
                    self.unit_word.clear();
                    self.unit = Some(Pair { span: 0..0, unit, tokens: start..position });
                    self.unit_is_new = true;
                }
                None => self.answer.flags |= Flags::UNPAIRED,
            },
            Symbol::Reference => self.reference(position),
            Symbol::VOpen | Symbol::VClose | Symbol::Vrt => self.answer.flags |= Flags::STRAY_TOKEN,
        }
        self.previous = Some(symbol);
    }

    fn task_open(&mut self) {
        let first = self.previous.is_none() && self.answer.text.trim_ascii().is_empty();
        if first {
            self.answer.text.clear();
            self.plan = Some(String::new());
        } else {
            self.answer.flags |= Flags::PLAN_FORMAT;
            if self.plan.is_none() {
                self.plan = Some(String::new());
            }
        }
        self.in_plan = true;
    }

    fn phrase_complete(&mut self, pair: Pair) {
        if self.phrase_is_new {
            self.give_unfinished();
        }
        self.phrase = Some(pair);
        self.phrase_is_new = true;
    }

    /// Gives the phrase that no `<REF>` followed, with the unit that followed it, as a triplet without targets.
    fn give_unfinished(&mut self) {
        self.close_previous();
        let phrase = self.phrase.clone().unwrap_or_default();
        let unit = if self.unit_is_new { self.unit.clone().unwrap_or_default() } else { Pair::default() };
        self.phrase_is_new = false;
        self.unit_is_new = false;
        self.answer.triplets.push(Triplet {
            phrase: phrase.span,
            unit: unit.unit,
            references: Vec::new(),
            phrase_tokens: phrase.tokens,
            unit_tokens: unit.tokens,
            flags: Flags::UNFINISHED | core::mem::take(&mut self.loose),
        });
        // A later `<REF>` without phrase and unit of its own has no group to join here.
        self.open = None;
    }

    /// Flags the triplet before this one where its closing bracket is missing.
    fn close_previous(&mut self) {
        if self.open == Some(true)
            && let Some(triplet) = self.answer.triplets.last_mut()
        {
            triplet.flags |= Flags::UNFINISHED;
        }
        self.open = None;
    }

    fn reference(&mut self, position: usize) {
        let is_new = self.phrase_is_new || self.unit_is_new;
        let mut flags = core::mem::take(&mut self.loose);
        if !self.phrases.is_empty() || !self.units.is_empty() {
            flags |= Flags::NESTED;
        }
        match self.open {
            Some(open) if !is_new => {
                if !open {
                    flags |= Flags::BARE_REFERENCE;
                }
            }
            _ => {
                self.close_previous();
                if !self.phrase_is_new {
                    flags |= Flags::MISSING_PHRASE;
                }
                if !self.unit_is_new {
                    flags |= Flags::MISSING_UNIT;
                }
                let phrase = self.phrase.clone().unwrap_or_default();
                let unit = self.unit.clone().unwrap_or_default();
                if self.phrase_is_new && phrase.span.is_empty() {
                    flags |= Flags::MISSING_PHRASE;
                }
                if self.unit_is_new && unit.unit.is_none() {
                    flags |= Flags::UNKNOWN_UNIT;
                }
                if self.phrase_is_new && self.unit_is_new && unit.tokens.start < phrase.tokens.start {
                    flags |= Flags::UNIT_BEFORE_PHRASE;
                }
                self.answer.triplets.push(Triplet {
                    phrase: phrase.span,
                    unit: unit.unit,
                    references: Vec::new(),
                    phrase_tokens: phrase.tokens,
                    unit_tokens: unit.tokens,
                    flags: Flags::empty(),
                });
                self.open = Some(true);
                self.phrase_is_new = false;
                self.unit_is_new = false;
            }
        }
        let index = self.index.take();
        if let Some(triplet) = self.answer.triplets.last_mut() {
            if index != Some(triplet.references.len()) {
                flags |= Flags::INDEX;
            }
            triplet.flags |= flags;
            triplet.references.push(Reference { index, position });
        }
    }

    fn finish(mut self, end: usize) -> Answer {
        if self.in_plan {
            self.answer.flags |= Flags::PLAN_FORMAT | Flags::UNPAIRED;
        }
        if !self.units.is_empty() {
            self.loose |= Flags::UNPAIRED | Flags::UNFINISHED;
        }
        if let Some((start, from)) = self.phrases.pop() {
            self.loose |= Flags::UNPAIRED;
            let span = trimmed(&self.answer.text, from);
            self.phrase_complete(Pair { span, unit: None, tokens: start..end.max(start) });
        }
        if self.phrase_is_new || self.unit_is_new {
            if !self.phrase_is_new {
                self.phrase = None;
                self.loose |= Flags::MISSING_PHRASE;
            }
            self.give_unfinished();
        }
        self.close_previous();
        let mut flags = self.answer.flags | self.loose;
        self.answer.plan = self.plan.map(|text| parse_plan(&text, &mut flags));
        for triplet in &self.answer.triplets {
            flags |= triplet.flags;
        }
        if let Some(plan) = &self.answer.plan
            && !agrees(plan, &self.answer)
        {
            flags |= Flags::PLAN_MISMATCH;
        }
        self.answer.flags = flags;
        self.answer
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

fn parse_plan(text: &str, flags: &mut Flags) -> Plan {
    let mut plan = Plan::default();
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
        match parse_item(line) {
            Some(item) => plan.items.push(item),
            None => *flags |= Flags::PLAN_FORMAT,
        }
    }
    if decodes == plan.items.is_empty() {
        *flags |= Flags::PLAN_FORMAT;
    }
    plan
}

fn parse_item(line: &str) -> Option<PlanItem> {
    let rest = line.strip_prefix("- Name:")?.trim_ascii_start();
    let (name, rest) = split_at_word(rest, ITEM_UNIT)?;
    let (unit, count) = split_at_word(rest, ITEM_COUNT)?;
    let name = name.trim_ascii();
    if name.is_empty() || !count.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    Some(PlanItem::new(name, unit.trim_ascii(), count.parse().ok()?))
}
