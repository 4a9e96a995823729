//! Keys and values of the positions that the language model has read.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

use super::config::LlamaConfig;
use crate::backend::{Backend, Matrix, View};
use crate::error::{Error, Result};

/// Rows that a cache holds at first; it doubles from there.
const INITIAL_ROWS: usize = 64;

/// Keys and values of one block: `[capacity, num_key_value_heads * head_dim]` each.
struct Block<B: Backend> {
    keys: Matrix<B>,
    values: Matrix<B>,
}

/// The KV cache of one sequence: for every block the rotated keys and the values of positions `0..len`.
///
/// A sliding window narrows what attention reads, not what the cache keeps, so that any prefix can be taken up again.
pub struct KvCache<B: Backend> {
    blocks: Vec<Block<B>>,
    width: usize,
    capacity: usize,
    len: usize,
    limit: usize,
}

impl<B: Backend> KvCache<B> {
    /// An empty cache; memory is taken as positions come.
    ///
    /// # Errors
    /// [`Error::Memory`], or [`Error::Limit`] where sizes overflow.
    pub fn new(backend: &B, config: &LlamaConfig) -> Result<KvCache<B>> {
        let width = crate::checked::Size::new(config.num_key_value_heads).times(config.head_dim)?.get();
        let limit = config.max_position_embeddings;
        let capacity = INITIAL_ROWS.min(limit);
        let blocks = (0..config.num_hidden_layers)
            .map(|_| {
                Ok(Block { keys: backend.zeros(capacity, width)?, values: backend.zeros(capacity, width)? })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(KvCache { blocks, width, capacity, len: 0, limit })
    }

    /// Number of positions held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no position is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The longest context in tokens (`max_position_embeddings`).
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Forgets every position from `len` on; a longer `len` changes nothing.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Makes room for `count` more positions.
    ///
    /// # Errors
    /// [`Error::Limit`] `llm.max_position_embeddings` where the context would become too long; [`Error::Memory`].
    pub fn reserve(&mut self, backend: &B, count: usize) -> Result<()> {
        let wanted = self.len.saturating_add(count);
        if wanted > self.limit {
            let (max, got) = (self.limit as u64, wanted as u64);
            return Err(Error::Limit { limit: "llm.max_position_embeddings", max, got });
        }
        if wanted <= self.capacity {
            return Ok(());
        }
        let capacity = wanted.max(self.capacity.saturating_mul(2)).min(self.limit);
        let grown = |old: &Matrix<B>| {
            let mut new = backend.zeros(capacity, self.width)?;
            backend.copy(old.view().row_range(0..self.len)?, &mut new, 0, 0)?;
            Ok(new)
        };
        let blocks = self
            .blocks
            .iter()
            .map(|block| Ok(Block { keys: grown(&block.keys)?, values: grown(&block.values)? }))
            .collect::<Result<Vec<_>>>()?;
        self.blocks = blocks;
        self.capacity = capacity;
        Ok(())
    }

    /// Writes the rotated keys and the values of the positions after `len` for one block and gives all keys and values
    /// up to them, `[len + rows, width]` each. [`KvCache::advance`] makes them count.
    ///
    /// # Errors
    /// [`Error::Shape`] where the block does not exist or the rows were not reserved.
    pub(super) fn write(
        &mut self,
        backend: &B,
        block: usize,
        keys: View<B>,
        values: View<B>,
    ) -> Result<(View<'_, B>, View<'_, B>)> {
        let end = self.len + keys.rows();
        let start = self.len;
        let Some(block) = self.blocks.get_mut(block) else {
            let reason = alloc::format!("no block {block}");
            return Err(Error::Shape { operand: "kv_cache.write", reason });
        };
        backend.copy(keys, &mut block.keys, start, 0)?;
        backend.copy(values, &mut block.values, start, 0)?;
        Ok((block.keys.view().row_range(0..end)?, block.values.view().row_range(0..end)?))
    }

    /// Counts `rows` written positions as held.
    pub(super) fn advance(&mut self, rows: usize) {
        self.len += rows;
    }
}
