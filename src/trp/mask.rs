//! Sets of token ids as bits.
#![forbid(unsafe_code)]

use alloc::vec;
use alloc::vec::Vec;

/// A set of token ids below [`TokenMask::len`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenMask {
    words: Vec<u64>,
    len: usize,
}

impl TokenMask {
    /// No id of `len`.
    pub fn none(len: usize) -> TokenMask {
        TokenMask { words: vec![0; len.div_ceil(64)], len }
    }

    /// Every id of `len`.
    pub fn all(len: usize) -> TokenMask {
        let mut mask = TokenMask::none(len);
        for id in 0..len {
            mask.insert(id as u32);
        }
        mask
    }

    /// Number of ids that the set speaks of; larger ids are never in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no id is in the set.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }

    /// Whether `id` is in the set.
    pub fn contains(&self, id: u32) -> bool {
        let id = id as usize;
        self.words.get(id / 64).is_some_and(|word| word >> (id % 64) & 1 == 1)
    }

    /// Number of ids in the set.
    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The ids in the set, smallest first.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().enumerate().flat_map(|(index, &word)| {
            let mut rest = word;
            core::iter::from_fn(move || {
                let bit = rest.trailing_zeros();
                rest &= rest.checked_sub(1)?;
                Some((index * 64) as u32 + bit)
            })
        })
    }

    /// The bits, 64 ids a word, the smallest id lowest.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Sets the logits of all ids that are not in the set to minus infinity.
    pub fn apply(&self, logits: &mut [f32]) {
        for (index, chunk) in logits.chunks_mut(64).enumerate() {
            let word = self.words.get(index).copied().unwrap_or(0);
            if word != u64::MAX {
                for (bit, logit) in chunk.iter_mut().enumerate() {
                    if word >> bit & 1 == 0 {
                        *logit = f32::NEG_INFINITY;
                    }
                }
            }
        }
    }

    /// Adds an id; one that is out of range is ignored.
    pub(super) fn insert(&mut self, id: u32) {
        let id = id as usize;
        if id < self.len {
            self.words[id / 64] |= 1 << (id % 64);
        }
    }

    pub(super) fn clear(&mut self) {
        self.words.fill(0);
    }

    pub(super) fn union(&mut self, other: &TokenMask) {
        for (word, &more) in self.words.iter_mut().zip(&other.words) {
            *word |= more;
        }
    }
}
