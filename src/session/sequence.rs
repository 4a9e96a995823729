//! A prompt as the language model reads it: tokens, the picture's rows, the rows of visual prompts.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::vec::Vec;
use core::ops::Range;

use super::encoded::{EncodedImage, EncodedPrompts, Identity};
use crate::backend::{Backend, Matrix};
use crate::error::{Error, Result};
use crate::language::Llama;
use crate::trp::PromptItem;

/// What stands at one position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// A token of the vocabulary.
    Token(u32),
    /// A row of the projected picture.
    Image(usize),
    /// A row of a projected visual prompt.
    Prompt { prompt: usize, row: usize },
}

/// A sequence of positions and the features that it refers to.
pub(super) struct Sequence<'a, B: Backend> {
    slots: &'a mut Vec<Slot>,
    image: &'a EncodedImage<B>,
    prompts: &'a EncodedPrompts<B>,
}

impl<'a, B: Backend> Sequence<'a, B> {
    /// Lays the items out in `slots`: the picture and every visual prompt take as many positions as they have rows.
    ///
    /// # Errors
    /// [`Error::Input`] where there is more than one picture, or another number of places than of visual prompts.
    pub(super) fn new(
        items: &[PromptItem],
        image: &'a EncodedImage<B>,
        prompts: &'a EncodedPrompts<B>,
        slots: &'a mut Vec<Slot>,
    ) -> Result<Sequence<'a, B>> {
        slots.clear();
        let places = items.iter().filter(|item| matches!(item, PromptItem::VisualPrompt)).count();
        if places != prompts.cells.len() {
            let reason =
                format!("{} given for {places} places of [VPT] in the question", prompts.cells.len());
            return Err(Error::Input { field: "prompts", reason });
        }
        if items.iter().filter(|item| matches!(item, PromptItem::Image)).count() > 1 {
            let reason = "has more than one place for the picture".into();
            return Err(Error::Input { field: "prompt", reason });
        }
        let mut prompt = 0;
        for item in items {
            match *item {
                PromptItem::Token(id) => slots.push(Slot::Token(id)),
                PromptItem::Image => slots.extend((0..image.tokens.rows()).map(Slot::Image)),
                PromptItem::VisualPrompt => {
                    slots.extend((0..prompts.tokens_per_prompt).map(|row| Slot::Prompt { prompt, row }));
                    prompt += 1;
                }
            }
        }
        if slots.is_empty() {
            return Err(Error::Input { field: "prompt", reason: "is empty".into() });
        }
        Ok(Sequence { slots, image, prompts })
    }

    /// What stands at each position.
    pub(super) fn slots(&self) -> &[Slot] {
        self.slots
    }

    /// Puts tokens behind what is there.
    pub(super) fn extend(&mut self, ids: &[u32]) {
        self.slots.extend(ids.iter().copied().map(Slot::Token));
    }

    /// The identity of the picture.
    pub(super) fn image(&self) -> Identity {
        self.image.identity
    }

    /// The cells of a visual prompt, which identify it on its picture.
    pub(super) fn region(&self, prompt: usize) -> Option<&[bool]> {
        self.prompts.cells.get(prompt).map(Vec::as_slice)
    }

    /// What the language model reads at the positions of `range`: `[range, hidden_size]`. `ids` is scratch.
    ///
    /// # Errors
    /// [`Error::Input`] for an id outside the vocabulary; [`Error::Shape`], [`Error::Memory`].
    pub(super) fn embed(
        &self,
        backend: &B,
        llm: &Llama<B>,
        range: Range<usize>,
        ids: &mut Vec<u32>,
    ) -> Result<Matrix<B>> {
        let slots = self.slots.get(range).unwrap_or(&[]);
        let mut out = backend.zeros(slots.len(), llm.config().hidden_size)?;
        let mut first = 0;
        for run in slots.chunk_by(|a, b| a.same_source(b)) {
            match run.first() {
                Some(&Slot::Image(row)) => {
                    let rows = self.image.tokens.view().row_range(row..row + run.len())?;
                    backend.copy(rows, &mut out, first, 0)?;
                }
                Some(&Slot::Prompt { prompt, row }) => {
                    let row = prompt * self.prompts.tokens_per_prompt + row;
                    let rows = self.prompts.tokens.view().row_range(row..row + run.len())?;
                    backend.copy(rows, &mut out, first, 0)?;
                }
                _ => {
                    ids.clear();
                    ids.extend(run.iter().filter_map(Slot::token));
                    let rows = llm.embed(backend, ids)?;
                    backend.copy(rows.view(), &mut out, first, 0)?;
                }
            }
            first += run.len();
        }
        Ok(out)
    }
}

impl Slot {
    fn token(&self) -> Option<u32> {
        match *self {
            Slot::Token(id) => Some(id),
            _ => None,
        }
    }

    /// Whether `next`, which follows, is the next row of the same matrix, or both are tokens.
    fn same_source(&self, next: &Slot) -> bool {
        match (*self, *next) {
            (Slot::Token(_), Slot::Token(_)) => true,
            (Slot::Image(row), Slot::Image(next)) => next == row + 1,
            (Slot::Prompt { prompt: a, row }, Slot::Prompt { prompt: b, row: next }) => {
                a == b && next == row + 1
            }
            _ => false,
        }
    }
}
