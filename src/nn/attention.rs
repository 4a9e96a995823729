//! Multi-head attention: projections of queries, keys and values, softmax attention, output projection.
#![forbid(unsafe_code)]

use alloc::format;

use super::{LayerNorm, Linear};
use crate::backend::{Attention, AttentionMask, Backend, Epilogue, Matrix, Operands, View};
use crate::error::{Error, Result};
use crate::weights::Loader;

/// How the projections of queries, keys and values are stored.
pub enum Projections<B: Backend> {
    /// Three layers.
    Separate {
        /// To the queries.
        q: Linear<B>,
        /// To the keys.
        k: Linear<B>,
        /// To the values.
        v: Linear<B>,
    },
    /// One layer to queries, keys and values, in this order.
    Fused(Linear<B>),
    /// One layer to the queries, one to keys and values.
    Paired {
        /// To the queries.
        q: Linear<B>,
        /// To keys and values, in this order.
        kv: Linear<B>,
    },
}

/// Names of four separate projections, relative to the attention.
#[derive(Clone, Copy, Debug)]
pub struct AttentionNames {
    /// To the queries.
    pub q: &'static str,
    /// To the keys.
    pub k: &'static str,
    /// To the values.
    pub v: &'static str,
    /// From the heads to the output.
    pub out: &'static str,
}

impl AttentionNames {
    /// `q_proj`, `k_proj`, `v_proj`, `out_proj`.
    pub const PROJ: AttentionNames =
        AttentionNames { q: "q_proj", k: "k_proj", v: "v_proj", out: "out_proj" };
}

/// Attention with as many key as query heads and no mask.
pub struct MultiHeadAttention<B: Backend> {
    /// To queries, keys and values.
    pub projections: Projections<B>,
    /// Norm of every query head, after its projection.
    pub q_norm: Option<LayerNorm<B>>,
    /// Norm of every key head, after its projection.
    pub k_norm: Option<LayerNorm<B>>,
    /// From the heads to the output.
    pub out: Linear<B>,
    /// Number of heads.
    pub heads: usize,
    /// Width of all query heads together; `heads` divides it.
    pub inner: usize,
    /// Soft cap of the scaled logits; see [`Attention::soft_cap`].
    pub soft_cap: Option<f32>,
}

impl<B: Backend> MultiHeadAttention<B> {
    /// Loads four separate projections with biases, between rows of `width` numbers and heads of `inner` numbers in all.
    ///
    /// # Errors
    /// [`Error::Tensor`].
    pub fn load(
        loader: &Loader<B>,
        names: AttentionNames,
        width: usize,
        inner: usize,
        heads: usize,
    ) -> Result<MultiHeadAttention<B>> {
        let project = |name| Linear::load(&loader.child(name), inner, width, true);
        Ok(MultiHeadAttention {
            projections: Projections::Separate {
                q: project(names.q)?,
                k: project(names.k)?,
                v: project(names.v)?,
            },
            q_norm: None,
            k_norm: None,
            out: Linear::load(&loader.child(names.out), width, inner, true)?,
            heads,
            inner,
            soft_cap: None,
        })
    }

    /// Self-attention over the rows of `x`.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub fn forward_self(&self, backend: &B, x: View<B>, epilogue: Epilogue<B>) -> Result<Matrix<B>> {
        self.forward_each(backend, x, 1, epilogue)
    }

    /// As [`MultiHeadAttention::forward_self`] of each of `count` runs of as many rows: a row attends to those of its run.
    ///
    /// # Errors
    /// [`Error::Shape`], also where the rows are no such runs.
    pub fn forward_each(
        &self,
        backend: &B,
        x: View<B>,
        count: usize,
        epilogue: Epilogue<B>,
    ) -> Result<Matrix<B>> {
        let run = |layer: &Linear<B>| layer.forward(backend, x, Epilogue::NONE);
        match &self.projections {
            Projections::Fused(qkv) => {
                let qkv = run(qkv)?;
                let part = |index: usize| self.part(qkv.view(), index);
                self.attend_each(backend, [part(0)?, part(1)?, part(2)?], count, epilogue)
            }
            Projections::Separate { q, k, v } => {
                let (q, k, v) = (run(q)?, run(k)?, run(v)?);
                self.attend_each(backend, [q.view(), k.view(), v.view()], count, epilogue)
            }
            Projections::Paired { q, kv } => {
                let (q, kv) = (run(q)?, run(kv)?);
                let (k, v) = (self.part(kv.view(), 0)?, self.part(kv.view(), 1)?);
                self.attend_each(backend, [q.view(), k, v], count, epilogue)
            }
        }
    }

    /// Queries from `query [n, width]`, keys from `key [m, width]`, values from `value [m, width]`; gives `[n, width]`.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub fn forward(
        &self,
        backend: &B,
        query: View<B>,
        key: View<B>,
        value: View<B>,
        epilogue: Epilogue<B>,
    ) -> Result<Matrix<B>> {
        let run = |layer: &Linear<B>, x| layer.forward(backend, x, Epilogue::NONE);
        match &self.projections {
            Projections::Separate { q, k, v } => {
                let (q, k, v) = (run(q, query)?, run(k, key)?, run(v, value)?);
                self.attend(backend, q.view(), k.view(), v.view(), epilogue)
            }
            Projections::Fused(qkv) => {
                let (q, k, v) = (run(qkv, query)?, run(qkv, key)?, run(qkv, value)?);
                let (q, k, v) = (self.part(q.view(), 0)?, self.part(k.view(), 1)?, self.part(v.view(), 2)?);
                self.attend(backend, q, k, v, epilogue)
            }
            Projections::Paired { q, kv } => {
                let (q, k, v) = (run(q, query)?, run(kv, key)?, run(kv, value)?);
                self.attend(backend, q.view(), self.part(k.view(), 0)?, self.part(v.view(), 1)?, epilogue)
            }
        }
    }

    /// The `index`-th run of `inner` columns.
    fn part<'a>(&self, x: View<'a, B>, index: usize) -> Result<View<'a, B>> {
        let start = self.inner.saturating_mul(index);
        x.col_range(start..start.saturating_add(self.inner))
    }

    /// Each of `count` runs of rows for itself, and what comes after of all of them.
    fn attend_each(
        &self,
        backend: &B,
        [q, k, v]: [View<B>; 3],
        count: usize,
        epilogue: Epilogue<B>,
    ) -> Result<Matrix<B>> {
        if count == 1 {
            return self.attend(backend, q, k, v, epilogue);
        }
        let rows = q.rows().checked_div(count).unwrap_or(0);
        if rows == 0 || !q.rows().is_multiple_of(rows) {
            let reason = format!("{} rows are not {count} equal runs", q.rows());
            return Err(Error::Shape { operand: "attention.x", reason });
        }
        let mut all = backend.zeros(q.rows(), self.inner)?;
        for first in (0..q.rows()).step_by(rows) {
            let run = first..first + rows;
            let (q, k, v) = (q.row_range(run.clone())?, k.row_range(run.clone())?, v.row_range(run)?);
            let mixed = self.mix(backend, q, k, v)?;
            backend.copy(mixed.view(), &mut all, first, 0)?;
        }
        self.out.forward(backend, all.view(), epilogue)
    }

    fn attend(
        &self,
        backend: &B,
        q: View<B>,
        k: View<B>,
        v: View<B>,
        epilogue: Epilogue<B>,
    ) -> Result<Matrix<B>> {
        let mixed = self.mix(backend, q, k, v)?;
        self.out.forward(backend, mixed.view(), epilogue)
    }

    /// Operands that projections in integers made need be no more exact than those.
    fn operands(&self) -> Operands {
        let quantised = match &self.projections {
            Projections::Separate { q, k, v } => [q, k, v].into_iter().all(Linear::is_quantised),
            Projections::Fused(qkv) => qkv.is_quantised(),
            Projections::Paired { q, kv } => q.is_quantised() && kv.is_quantised(),
        };
        if quantised { Operands::Rounded } else { Operands::Exact }
    }

    /// The values as the weights of queries and keys mix them.
    fn mix(&self, backend: &B, q: View<B>, k: View<B>, v: View<B>) -> Result<Matrix<B>> {
        let q_normed = match &self.q_norm {
            Some(norm) => Some(norm.forward_parts(backend, q, self.heads)?),
            None => None,
        };
        let k_normed = match &self.k_norm {
            Some(norm) => Some(norm.forward_parts(backend, k, self.heads)?),
            None => None,
        };
        let attention = Attention {
            heads: self.heads,
            kv_heads: self.heads,
            scale: 1.0 / libm::sqrtf((self.inner / self.heads.max(1)) as f32),
            soft_cap: self.soft_cap,
            mask: AttentionMask::Full,
            operands: self.operands(),
        };
        let q = q_normed.as_ref().map_or(q, Matrix::view);
        let k = k_normed.as_ref().map_or(k, Matrix::view);
        backend.attention(q, k, v, &attention)
    }
}
