//! What the session's language model has read: its KV cache, its hidden states, and what stood at every position.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

use super::encoded::Identity;
use super::question::Watch;
use super::sequence::{Sequence, Slot};
use crate::backend::{Backend, Matrix, View};
use crate::error::Result;
use crate::language::{KvCache, Llama};
use crate::reply::Finish;

/// Positions that are read in one go; the cancel flag is looked at between.
const CHUNK: usize = 256;

/// What stood at a position, with everything that fixes its features.
#[derive(Clone, Debug)]
enum Held {
    Token(u32),
    Image(Identity, usize),
    /// Picture, index into `Context::regions`, row.
    Prompt(Identity, usize, usize),
}

/// The positions read so far.
pub(super) struct Context<B: Backend> {
    cache: KvCache<B>,
    /// Post-norm hidden states, `[capacity, hidden_size]`; the first `held.len()` rows count.
    hidden: Matrix<B>,
    held: Vec<Held>,
    /// Cells of the visual prompts that `held` refers to.
    regions: Vec<Vec<bool>>,
}

impl<B: Backend> Context<B> {
    pub(super) fn new(backend: &B, llm: &Llama<B>) -> Result<Context<B>> {
        let cache = KvCache::new(backend, llm.config())?;
        let hidden = backend.zeros(0, llm.config().hidden_size)?;
        Ok(Context { cache, hidden, held: Vec::new(), regions: Vec::new() })
    }

    /// Number of positions read.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Hidden states of all positions read, `[len, hidden_size]`.
    pub(super) fn hidden(&self) -> Result<View<'_, B>> {
        self.hidden.view().row_range(0..self.held.len())
    }

    /// Position of the picture's first row, where there is a picture.
    pub(super) fn image_first(&self) -> Option<usize> {
        self.held.iter().position(|held| matches!(held, Held::Image(..)))
    }

    /// Forgets what differs from `sequence` and everything after it.
    pub(super) fn keep_common_prefix(&mut self, sequence: &Sequence<B>) {
        let same = |(held, slot): &(&Held, &Slot)| match (held, slot) {
            (Held::Token(id), Slot::Token(other)) => id == other,
            (Held::Image(image, row), Slot::Image(other)) => image == sequence.image() && row == other,
            (Held::Prompt(image, region, row), Slot::Prompt { prompt, row: other }) => {
                image == sequence.image()
                    && row == other
                    && self.regions.get(*region).map(Vec::as_slice) == sequence.region(*prompt)
            }
            _ => false,
        };
        let common = self.held.iter().zip(&sequence.slots).take_while(same).count();
        self.truncate(common);
    }

    fn truncate(&mut self, len: usize) {
        self.held.truncate(len);
        self.cache.truncate(len);
        let used = self.held.iter().filter_map(|held| match held {
            Held::Prompt(_, region, _) => Some(region + 1),
            _ => None,
        });
        let used = used.max().unwrap_or(0);
        self.regions.truncate(used);
    }

    /// Reads the positions of `sequence` after those already held. Stops between chunks where the watch says so.
    ///
    /// # Errors
    /// Those of [`Llama::forward`]; what was read until then stays held.
    pub(super) fn read(
        &mut self,
        backend: &B,
        llm: &Llama<B>,
        sequence: &Sequence<B>,
        watch: &Watch,
    ) -> Result<Option<Finish>> {
        while self.len() < sequence.slots.len() {
            if let Some(finish) = watch.stop() {
                return Ok(Some(finish));
            }
            let start = self.len();
            let end = sequence.slots.len().min(start + CHUNK);
            let embeddings = sequence.embed(backend, llm, start..end)?;
            self.forward(backend, llm, embeddings.view())?;
            for slot in sequence.slots.get(start..end).unwrap_or(&[]) {
                let held = self.hold(sequence, *slot);
                self.held.push(held);
            }
        }
        Ok(None)
    }

    /// Reads one more token.
    ///
    /// # Errors
    /// As [`Context::read`].
    pub(super) fn push(&mut self, backend: &B, llm: &Llama<B>, id: u32) -> Result<()> {
        let embedding = llm.embed(backend, &[id])?;
        self.forward(backend, llm, embedding.view())?;
        self.held.push(Held::Token(id));
        Ok(())
    }

    fn forward(&mut self, backend: &B, llm: &Llama<B>, embeddings: View<B>) -> Result<()> {
        let held = self.held.len();
        let rows = held + embeddings.rows();
        if rows > self.hidden.rows() {
            let capacity = rows.max(2 * self.hidden.rows());
            let mut grown = backend.zeros(capacity, self.hidden.cols())?;
            backend.copy(self.hidden.view().row_range(0..held)?, &mut grown, 0, 0)?;
            self.hidden = grown;
        }
        let out = llm.forward(backend, embeddings, &mut self.cache)?;
        let copied = backend.copy(out.view(), &mut self.hidden, held, 0);
        if copied.is_err() {
            self.cache.truncate(held);
        }
        copied
    }

    /// What to remember of a slot.
    fn hold(&mut self, sequence: &Sequence<B>, slot: Slot) -> Held {
        match slot {
            Slot::Token(id) => Held::Token(id),
            Slot::Image(row) => Held::Image(sequence.image().clone(), row),
            Slot::Prompt { prompt, row } => {
                let cells = sequence.region(prompt).unwrap_or(&[]);
                let known = self.regions.iter().position(|region| region == cells);
                let region = known.unwrap_or_else(|| {
                    self.regions.push(cells.to_vec());
                    self.regions.len() - 1
                });
                Held::Prompt(sequence.image().clone(), region, row)
            }
        }
    }
}
