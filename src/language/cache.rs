//! Keys and values of the positions that the language model has read.
#![forbid(unsafe_code)]

use alloc::format;

use super::config::LlamaConfig;
use crate::backend::{Backend, CacheType, Matrix, View};
use crate::checked::Size;
use crate::error::{Error, Result};

/// The KV cache of one sequence: for every block the rotated keys and the values of positions `0..len`.
///
/// One matrix holds everything, `2 * num_hidden_layers * positions` rows of `num_key_value_heads * head_dim` numbers in the
/// type of the cache: the keys of the first block, its values, the keys of the second, and so on. It is taken whole when the
/// cache is made. A position takes `2 * num_hidden_layers * 4` bytes for each of [`CacheType::columns`]: 1 MiB in `f32`, 512 KiB
/// in `f16` and 264 KiB in `int8` with the sizes of Llama-2-7B.
///
/// A sliding window narrows what attention reads, not what the cache keeps, so that any prefix can be taken up again.
pub struct KvCache<B: Backend> {
    slab: Matrix<B>,
    kind: CacheType,
    kv_heads: usize,
    positions: usize,
    len: usize,
    /// The positions that the model was made for.
    limit: usize,
}

impl<B: Backend> KvCache<B> {
    /// An empty cache in `f32` with room for `positions` tokens, or as many as the model takes where that is less.
    ///
    /// # Errors
    /// [`Error::Memory`], or [`Error::Limit`] where sizes overflow.
    pub fn new(backend: &B, config: &LlamaConfig, positions: usize) -> Result<KvCache<B>> {
        KvCache::of(CacheType::F32, backend, config, positions)
    }

    /// As [`KvCache::new`] with a choice of the type: `f16` and `int8` take a half and about a quarter of the memory, and round
    /// every key and value once, when it is written.
    ///
    /// # Errors
    /// As [`KvCache::new`]; [`Error::Input`] `cache` where the backend has no cache of this type.
    pub fn of(kind: CacheType, backend: &B, config: &LlamaConfig, positions: usize) -> Result<KvCache<B>> {
        let kv_heads = config.num_key_value_heads;
        let width = backend.cache_columns(kind, kv_heads, config.head_dim)?;
        let limit = config.max_position_embeddings;
        let positions = positions.min(limit);
        let rows = Size::new(config.num_hidden_layers).times(2)?.times(positions)?.get();
        Ok(KvCache { slab: backend.zeros(rows, width)?, kind, kv_heads, positions, len: 0, limit })
    }

    /// How keys and values are stored.
    pub fn kind(&self) -> CacheType {
        self.kind
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
    /// up to them, `len + rows` rows each, as [`Backend::attention_cached`] takes them. [`KvCache::advance`] makes them count.
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
        backend.cache(keys, self.kv_heads, self.kind, &mut self.slab, first + self.len)?;
        backend.cache(values, self.kv_heads, self.kind, &mut self.slab, second + self.len)?;
        let slab = self.slab.view();
        Ok((slab.row_range(first..first + end)?, slab.row_range(second..second + end)?))
    }

    /// Counts `rows` written positions as held.
    pub(crate) fn advance(&mut self, rows: usize) {
        self.len += rows;
    }
}
