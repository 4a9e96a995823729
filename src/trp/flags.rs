//! What an answer got wrong, as a set of named bits.
#![forbid(unsafe_code)]

use core::fmt;
use core::ops::{BitOr, BitOrAssign};

/// A set of defects; empty for a well-formed answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(u32);

impl Flags {
    /// Targets without a phrase of their own; the nearest phrase before them is given where there is one.
    pub const MISSING_PHRASE: Flags = Flags(1);
    /// Targets without a unit of their own; the nearest unit before them is given where there is one.
    pub const MISSING_UNIT: Flags = Flags(1 << 1);
    /// A unit that is none of `box mask keypoint depth`.
    pub const UNKNOWN_UNIT: Flags = Flags(1 << 2);
    /// A phrase, unit or triplet that is not finished.
    pub const UNFINISHED: Flags = Flags(1 << 3);
    /// A `<REF>` after a complete triplet, which it joins.
    pub const BARE_REFERENCE: Flags = Flags(1 << 4);
    /// The unit stands before the phrase.
    pub const UNIT_BEFORE_PHRASE: Flags = Flags(1 << 5);
    /// The plan names other items, units or counts than the answer has.
    pub const PLAN_MISMATCH: Flags = Flags(1 << 6);
    /// Indices that are missing or do not count up from 0.
    pub const INDEX: Flags = Flags(1 << 7);
    /// More targets than the head has slots; those beyond are not decoded.
    pub const TOO_MANY_REFERENCES: Flags = Flags(1 << 8);
    /// A delimiter inside another pair of delimiters.
    pub const NESTED: Flags = Flags(1 << 9);
    /// A closing delimiter that closes nothing, or an opening one that is never closed.
    pub const UNPAIRED: Flags = Flags(1 << 10);
    /// Brackets of a triplet that are missing, or other text in their place.
    pub const PUNCTUATION: Flags = Flags(1 << 11);
    /// A plan that is not written as plans are, stands in the wrong place or is not finished.
    pub const PLAN_FORMAT: Flags = Flags(1 << 12);
    /// Bytes that are no UTF-8; they became U+FFFD.
    pub const UTF8: Flags = Flags(1 << 13);
    /// A special token that has no place in an answer.
    pub const STRAY_TOKEN: Flags = Flags(1 << 14);
    /// The model has no head for the unit.
    pub const NO_HEAD: Flags = Flags(1 << 15);

    const NAMES: [&'static str; 16] = [
        "missing phrase",
        "missing unit",
        "unknown unit",
        "unfinished",
        "bare reference",
        "unit before phrase",
        "plan mismatch",
        "index",
        "too many references",
        "nested",
        "unpaired",
        "punctuation",
        "plan format",
        "utf-8",
        "stray token",
        "no head",
    ];

    /// No defect.
    pub const fn empty() -> Flags {
        Flags(0)
    }

    /// Whether there is no defect.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether every defect of `other` is there.
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// These defects less those of `other`.
    pub const fn without(self, other: Flags) -> Flags {
        Flags(self.0 & !other.0)
    }

    /// The bits, for storage; bit numbers never change.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Names of the defects, lowest bit first.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Flags::NAMES
            .into_iter()
            .enumerate()
            .filter(move |(bit, _)| self.0 >> bit & 1 == 1)
            .map(|(_, name)| name)
    }
}

impl BitOr for Flags {
    type Output = Flags;
    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

impl BitOrAssign for Flags {
    fn bitor_assign(&mut self, other: Flags) {
        self.0 |= other.0;
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.names().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}
