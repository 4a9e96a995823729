//! Query slots: latents, projected and padded to the fixed number that a head decodes.
#![forbid(unsafe_code)]

use alloc::format;

use super::config::{DecoderConfig, EmptySlots};
use crate::backend::{Backend, Epilogue, Matrix, View, Weight};
use crate::error::{Error, Result};
use crate::nn::Linear;
use crate::weights::Loader;

/// `in_proj_queries` and `query_position_embeddings` of a head.
pub(super) struct Slots<B: Backend> {
    limit: &'static str,
    config: DecoderConfig,
    project: Linear<B>,
    positions: Weight<B>,
}

impl<B: Backend> Slots<B> {
    /// `limit` names `num_queries` of this head.
    pub(super) fn load(loader: &Loader<B>, config: &DecoderConfig, limit: &'static str) -> Result<Slots<B>> {
        let (slots, width) = (config.num_queries, config.d_model);
        Ok(Slots {
            limit,
            config: config.clone(),
            project: Linear::load(&loader.child("in_proj_queries"), width, config.query_dim, true)?,
            positions: loader.weight("query_position_embeddings.weight", &[slots, width])?,
        })
    }

    /// Latents `[n, query_dim]`, n up to `num_queries`, to the queries `[num_queries, d_model]`.
    pub(super) fn fill(&self, backend: &B, latents: View<B>) -> Result<Matrix<B>> {
        let (slots, width) = (self.config.num_queries, self.config.query_dim);
        if latents.rows() > slots {
            return Err(Error::Limit { limit: self.limit, max: slots as u64, got: latents.rows() as u64 });
        }
        if latents.cols() != width {
            let reason = format!("are {} numbers wide, but quries_input_dim is {width}", latents.cols());
            return Err(Error::Input { field: "latents", reason });
        }
        match self.config.empty_slots {
            EmptySlots::Bias => {
                let mut padded = backend.zeros(slots, width)?;
                if latents.rows() > 0 {
                    backend.copy(latents, &mut padded, 0, 0)?;
                }
                self.project.forward(backend, padded.view(), Epilogue::NONE)
            }
            EmptySlots::Zeros => {
                let mut queries = backend.zeros(slots, self.config.d_model)?;
                if latents.rows() > 0 {
                    let projected = self.project.forward(backend, latents, Epilogue::NONE)?;
                    backend.copy(projected.view(), &mut queries, 0, 0)?;
                }
                Ok(queries)
            }
        }
    }

    /// The learned positions of the slots `[num_queries, d_model]`.
    pub(super) fn positions(&self, backend: &B) -> Result<Matrix<B>> {
        backend.read(&self.positions, self.config.num_queries, self.config.d_model)
    }
}
