//! Keys and values of the positions that the language model has read.
#![forbid(unsafe_code)]

use alloc::format;

use super::config::LlamaConfig;
use crate::backend::{Backend, Matrix, View};
use crate::checked::Size;
use crate::error::{Error, Result};

/// The KV cache of one sequence: for every block the rotated keys and the values of positions `0..len`.
///
/// One matrix holds everything, `2 * num_hidden_layers * positions` rows of `num_key_value_heads * head_dim` numbers: the
/// keys of the first block, its values, the keys of the second, and so on. It is taken whole when the cache is made.
///
/// A sliding window narrows what attention reads, not what the cache keeps, so that any prefix can be taken up again.
pub struct KvCache<B: Backend> {
    slab: Matrix<B>,
    positions: usize,
    len: usize,
    /// The positions that the model was made for.
    limit: usize,
}

impl<B: Backend> KvCache<B> {
    /// An empty cache with room for `positions` tokens, or as many as the model takes where that is less.
    ///
    /// # Errors
    /// [`Error::Memory`], or [`Error::Limit`] where sizes overflow.
    pub fn new(backend: &B, config: &LlamaConfig, positions: usize) -> Result<KvCache<B>> {
        let width = Size::new(config.num_key_value_heads).times(config.head_dim)?.get();
        let limit = config.max_position_embeddings;
        let positions = positions.min(limit);
        let rows = Size::new(config.num_hidden_layers).times(2)?.times(positions)?.get();
        Ok(KvCache { slab: backend.zeros(rows, width)?, positions, len: 0, limit })
    }

    /// Number of positions held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no position is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Most positions that the cache has room for.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// Forgets every position from `len` on; a longer `len` changes nothing.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Checks that `count` more positions have room.
    ///
    /// # Errors
    /// [`Error::Limit`] where they have not: `llm.max_position_embeddings`, or `positions` where the cache has fewer.
    pub fn check_room(&self, count: usize) -> Result<()> {
        let wanted = self.len.saturating_add(count);
        if wanted > self.positions { Err(self.beyond(wanted)) } else { Ok(()) }
    }

    /// What is said of `wanted` positions that have no room.
    pub(crate) fn beyond(&self, wanted: usize) -> Error {
        let limit = if self.positions < self.limit { "positions" } else { "llm.max_position_embeddings" };
        Error::Limit { limit, max: self.positions as u64, got: wanted as u64 }
    }

    /// Writes the rotated keys and the values of the positions after `len` for one block and gives all keys and values
    /// up to them, `[len + rows, width]` each. [`KvCache::advance`] makes them count.
    ///
    /// # Errors
    /// [`Error::Shape`] where the block does not exist; as [`KvCache::check_room`].
    pub(super) fn write(
        &mut self,
        backend: &B,
        block: usize,
        keys: View<B>,
        values: View<B>,
    ) -> Result<(View<'_, B>, View<'_, B>)> {
        self.check_room(keys.rows())?;
        let end = self.len + keys.rows();
        let first = block.saturating_mul(2).saturating_mul(self.positions);
        let second = first.saturating_add(self.positions);
        if second.saturating_add(self.positions) > self.slab.rows() {
            return Err(Error::Shape { operand: "kv_cache.write", reason: format!("no block {block}") });
        }
        backend.copy(keys, &mut self.slab, first + self.len, 0)?;
        backend.copy(values, &mut self.slab, second + self.len, 0)?;
        let slab = self.slab.view();
        Ok((slab.row_range(first..first + end)?, slab.row_range(second..second + end)?))
    }

    /// Counts `rows` written positions as held.
    pub(crate) fn advance(&mut self, rows: usize) {
        self.len += rows;
    }
}
