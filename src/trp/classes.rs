//! Where a byte leaves running text: valid UTF-8 in sentences and phrases, and the name of a plan's item.
//!
//! The classes are few, so the tokens that lead from one to another are kept as bit sets; a mask is their union.
#![forbid(unsafe_code)]

use alloc::vec;
use alloc::vec::Vec;

use crate::text::vocabulary::{TokenKind, Vocabulary};
use crate::trp::mask::TokenMask;
use crate::trp::trie::NEVER;

/// What ends a name.
pub(super) const NAME_END: &[u8] = b" Unit: ";

/// Text in which nothing but white space was written.
pub(super) const BLANK: u8 = 0;
/// Text at a character's boundary.
pub(super) const SEEN: u8 = 1;
const TEXT_MIDDLE: u8 = 2;
const TEXT_CLASSES: usize = 9;

/// Before the space that stands before a name.
pub(super) const LEAD: u8 = 0;
/// At the first byte of a name.
pub(super) const FIRST: u8 = 1;
/// In a name; class `INSIDE + k` has written the first `k` bytes of [`NAME_END`].
pub(super) const INSIDE: u8 = 2;
pub(super) const NAME_MIDDLE: u8 = INSIDE + 7;
const NAME_CLASSES: usize = 16;

/// Seven states inside a UTF-8 character: which bytes come next, and the state after (7 is the boundary).
const MIDDLE: [(u8, u8, u8); 7] = [
    (0x80, 0xbf, 7), // one more
    (0x80, 0xbf, 0), // two more
    (0x80, 0xbf, 1), // three more
    (0xa0, 0xbf, 0), // after E0: no overlong form
    (0x80, 0x9f, 0), // after ED: no surrogate
    (0x90, 0xbf, 1), // after F0: no overlong form
    (0x80, 0x8f, 1), // after F4: nothing above U+10FFFF
];

fn lead_byte(byte: u8) -> Option<u8> {
    Some(match byte {
        0xc2..=0xdf => 0,
        0xe0 => 3,
        0xed => 4,
        0xe1..=0xef => 1,
        0xf0 => 5,
        0xf1..=0xf3 => 2,
        0xf4 => 6,
        _ => return None,
    })
}

/// The class after `byte` in a sentence or phrase.
pub(super) fn text_step(class: u8, byte: u8) -> Option<u8> {
    if class >= TEXT_MIDDLE {
        let (from, to, next) = MIDDLE[usize::from(class - TEXT_MIDDLE)];
        return (from..=to).contains(&byte).then_some(if next == 7 { SEEN } else { TEXT_MIDDLE + next });
    }
    match byte {
        0..0x80 if class == BLANK && byte.is_ascii_whitespace() => Some(BLANK),
        0..0x80 => Some(SEEN),
        _ => lead_byte(byte).map(|middle| TEXT_MIDDLE + middle),
    }
}

/// The class after `byte` in a name: no control characters, no space at the start or the end, no two spaces together.
/// The byte that completes [`NAME_END`] is not part of the name.
pub(super) fn name_step(class: u8, byte: u8) -> Option<u8> {
    if class >= NAME_MIDDLE {
        let (from, to, next) = MIDDLE[usize::from(class - NAME_MIDDLE)];
        return (from..=to).contains(&byte).then_some(if next == 7 { INSIDE } else { NAME_MIDDLE + next });
    }
    let matched = class.saturating_sub(INSIDE);
    match (class, byte) {
        (LEAD, b' ') => Some(FIRST),
        (LEAD, _) | (FIRST, b' ') | (_, 0..0x20 | 0x7f) => None,
        (_, b' ') if matched == 1 || matched == 6 => None,
        (FIRST, 0..0x80) => Some(INSIDE),
        (_, 0..0x80) if NAME_END[usize::from(matched)] == byte => Some(class + 1),
        (_, b' ') => Some(INSIDE + 1),
        (_, 0..0x80) => Some(INSIDE),
        _ => lead_byte(byte).map(|middle| NAME_MIDDLE + middle),
    }
}

/// For one kind of running text: which tokens lead from which class to which.
pub(super) struct ClassTable {
    classes: usize,
    /// `moves[from * classes + to]`, where any token makes that move.
    moves: Vec<Option<TokenMask>>,
    /// All moves from a class.
    union: Vec<TokenMask>,
    /// Least number of tokens from a class to the boundary class.
    distance: Vec<u32>,
}

impl ClassTable {
    pub fn text(vocabulary: &Vocabulary) -> ClassTable {
        ClassTable::new(vocabulary, TEXT_CLASSES, text_step, |_| true, SEEN)
    }

    /// Tokens that hold name bytes and the beginning of [`NAME_END`] are left out: a name ends where a token ends.
    pub fn name(vocabulary: &Vocabulary) -> ClassTable {
        let ends = |class: u8| class == FIRST || class == INSIDE || class >= NAME_MIDDLE;
        ClassTable::new(vocabulary, NAME_CLASSES, name_step, ends, INSIDE)
    }

    fn new(
        vocabulary: &Vocabulary,
        classes: usize,
        step: fn(u8, u8) -> Option<u8>,
        ends: fn(u8) -> bool,
        goal: u8,
    ) -> ClassTable {
        let size = vocabulary.len();
        let mut moves: Vec<Option<TokenMask>> = vec![None; classes * classes];
        let mut union = vec![TokenMask::none(size); classes];
        // The classes after each byte, from the first class from which the whole token goes through, and from another one.
        let (mut way, mut other) = (Vec::new(), Vec::new());
        for id in (0..size as u32).filter(|&id| vocabulary.kind(id) == TokenKind::Text) {
            let bytes = vocabulary.bytes(id);
            way.clear();
            for from in 0..classes {
                other.clear();
                let mut through = |mut class: u8| {
                    for (place, &byte) in bytes.iter().enumerate() {
                        class = step(class, byte)?;
                        // Most ways meet after a byte or two, and go on as one.
                        if way.get(place) == Some(&class) {
                            return way.last().copied();
                        }
                        other.push(class);
                    }
                    Some(class)
                };
                let end = through(from as u8);
                if way.is_empty() && end.is_some() {
                    core::mem::swap(&mut way, &mut other);
                }
                if let Some(to) = end.filter(|&class| ends(class)) {
                    moves[from * classes + usize::from(to)]
                        .get_or_insert_with(|| TokenMask::none(size))
                        .insert(id);
                    union[from].insert(id);
                }
            }
        }
        let mut distance = vec![NEVER; classes];
        distance[usize::from(goal)] = 0;
        for _ in 0..classes {
            for from in 0..classes {
                let next = (0..classes).filter(|&to| moves[from * classes + to].is_some());
                let best = next.map(|to| distance[to] + 1).min().unwrap_or(NEVER);
                distance[from] = distance[from].min(best);
            }
        }
        ClassTable { classes, moves, union, distance }
    }

    /// Moves from a class as (class after, tokens).
    pub fn moves(&self, from: u8) -> impl Iterator<Item = (u8, &TokenMask)> {
        let row = usize::from(from) * self.classes;
        let row = &self.moves[row..row + self.classes];
        row.iter().enumerate().filter_map(|(to, tokens)| Some((to as u8, tokens.as_ref()?)))
    }

    pub fn has(&self, from: u8, to: u8) -> bool {
        self.moves[usize::from(from) * self.classes + usize::from(to)].is_some()
    }

    pub fn union(&self, from: u8) -> &TokenMask {
        &self.union[usize::from(from)]
    }

    pub fn distance(&self, from: u8) -> u32 {
        self.distance[usize::from(from)]
    }
}
