//! What the session's language model has read: its KV cache, its hidden states, and what stood at every position.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

use super::SessionOptions;
use super::encoded::Identity;
use super::question::Watch;
use super::sequence::{Sequence, Slot};
use crate::arena::ALIGNMENT;
use crate::backend::{Backend, Matrix, View};
use crate::error::Result;
use crate::language::{KvCache, Llama};
use crate::reply::Finish;

/// Positions that are read in one go; the cancel flag is looked at between.
pub(super) const CHUNK: usize = 256;

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
    /// Post-norm hidden states, `[positions, hidden_size]`; the first `held.len()` rows count.
    hidden: Matrix<B>,
    held: Vec<Held>,
    /// Cells of the visual prompts that `held` refers to.
    regions: Vec<Vec<bool>>,
    /// Tokens that are embedded together.
    ids: Vec<u32>,
}

impl<B: Backend> Context<B> {
    /// Room for as many positions as the options ask for, or as many as the language model takes where that is less.
    pub(super) fn new(backend: &B, llm: &Llama<B>, options: SessionOptions) -> Result<Context<B>> {
        let cache = KvCache::of(options.cache, backend, llm.config(), options.positions)?;
        let hidden = backend.zeros(cache.positions(), llm.config().hidden_size)?;
        Ok(Context { cache, hidden, held: Vec::new(), regions: Vec::new(), ids: Vec::new() })
    }

    /// Checks that the prompt leaves room for an answer, and says for how many tokens.
    pub(super) fn room_after(&self, prompt: usize) -> Result<usize> {
        let rest = self.cache.positions().checked_sub(prompt).filter(|&rest| rest > 0);
        rest.ok_or_else(|| self.cache.beyond(prompt.saturating_add(1)))
    }

    /// Takes the memory of reading as many positions in one go as ever, at the end of the context, and forgets them.
    pub(super) fn measure(&mut self, backend: &B, llm: &Llama<B>) -> Result<()> {
        let rows = self.cache.positions().min(CHUNK);
        self.cache.truncate(0);
        self.cache.advance(self.cache.positions() - rows);
        let mut embeddings = backend.zeros(rows, llm.config().hidden_size)?;
        let ids = alloc::vec![0; rows];
        let tokens = llm.embed(backend, &ids)?;
        backend.copy(tokens.view(), &mut embeddings, 0, 0)?;
        drop(tokens);
        let out = llm.forward(backend, embeddings.view(), &mut self.cache)?;
        self.cache.truncate(0);
        drop((out, embeddings));
        Ok(())
    }

    /// Bytes of the hidden states.
    pub(super) fn hidden_bytes(&self) -> usize {
        (self.hidden.rows() * self.hidden.cols() * size_of::<f32>()).next_multiple_of(ALIGNMENT)
    }

    /// Hidden states of all positions that there is room for.
    pub(super) fn all_hidden(&self) -> View<'_, B> {
        self.hidden.view()
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
            (Held::Image(image, row), Slot::Image(other)) => *image == sequence.image() && row == other,
            (Held::Prompt(image, region, row), Slot::Prompt { prompt, row: other }) => {
                *image == sequence.image()
                    && row == other
                    && self.regions.get(*region).map(Vec::as_slice) == sequence.region(*prompt)
            }
            _ => false,
        };
        let common = self.held.iter().zip(sequence.slots()).take_while(same).count();
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
        while self.len() < sequence.slots().len() {
            if let Some(finish) = watch.stop() {
                return Ok(Some(finish));
            }
            let start = self.len();
            let end = sequence.slots().len().min(start + CHUNK);
            let embeddings = sequence.embed(backend, llm, start..end, &mut self.ids)?;
            self.forward(backend, llm, embeddings.view())?;
            for slot in sequence.slots().get(start..end).unwrap_or(&[]) {
                let held = self.hold(sequence, *slot);
                self.held.push(held);
            }
        }
        Ok(None)
    }

    /// Reads one more token. Whether its hidden state is finite is for the caller to look at, who otherwise has it forgotten
    /// by [`Context::pop`].
    ///
    /// # Errors
    /// As [`Context::read`].
    pub(super) fn push(&mut self, backend: &B, llm: &Llama<B>, id: u32) -> Result<()> {
        let embedding = llm.embed(backend, &[id])?;
        let out = llm.forward_unchecked(backend, embedding.view(), &mut self.cache)?;
        self.keep(backend, out.view())?;
        self.held.push(Held::Token(id));
        Ok(())
    }

    /// Forgets the last position.
    pub(super) fn pop(&mut self) {
        self.truncate(self.held.len().saturating_sub(1));
    }

    fn forward(&mut self, backend: &B, llm: &Llama<B>, embeddings: View<B>) -> Result<()> {
        let out = llm.forward(backend, embeddings, &mut self.cache)?;
        self.keep(backend, out.view())
    }

    /// Keeps the hidden states of the positions after those held.
    fn keep(&mut self, backend: &B, out: View<B>) -> Result<()> {
        let held = self.held.len();
        let copied = backend.copy(out, &mut self.hidden, held, 0);
        if copied.is_err() {
            self.cache.truncate(held);
        }
        copied
    }

    /// What to remember of a slot.
    fn hold(&mut self, sequence: &Sequence<B>, slot: Slot) -> Held {
        match slot {
            Slot::Token(id) => Held::Token(id),
            Slot::Image(row) => Held::Image(sequence.image(), row),
            Slot::Prompt { prompt, row } => {
                let cells = sequence.region(prompt).unwrap_or(&[]);
                let known = self.regions.iter().position(|region| region == cells);
                let region = known.unwrap_or_else(|| {
                    self.regions.push(cells.to_vec());
                    self.regions.len() - 1
                });
                Held::Prompt(sequence.image(), region, row)
            }
        }
    }
}
