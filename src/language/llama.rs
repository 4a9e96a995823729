//! The Llama-family decoder: Llama-2, Vicuna, Llama-3, Mistral. Tensor names of Hugging Face's `LlamaForCausalLM`.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::vec::Vec;

use super::cache::KvCache;
use super::config::LlamaConfig;
use super::rope;
use crate::backend::{Attention, AttentionMask, Backend, Epilogue, Matrix, Operands, View, Weight};
use crate::checked::Size;
use crate::error::{Error, Result};
use crate::nn::Linear;
use crate::weights::Loader;

/// One block: `x += attention(norm(x))`, `x += feed_forward(norm(x))`.
struct Block<B: Backend> {
    input_layernorm: Weight<B>,
    q_proj: Linear<B>,
    k_proj: Linear<B>,
    v_proj: Linear<B>,
    o_proj: Linear<B>,
    post_attention_layernorm: Weight<B>,
    gate_proj: Linear<B>,
    up_proj: Linear<B>,
    down_proj: Linear<B>,
}

/// A decoder-only language model (weights `model.*` and, where untied, `lm_head.weight`).
pub struct Llama<B: Backend> {
    config: LlamaConfig,
    frequencies: Vec<f32>,
    embed_tokens: Weight<B>,
    blocks: Vec<Block<B>>,
    norm: Weight<B>,
    lm_head: Weight<B>,
}

impl<B: Backend> Llama<B> {
    /// Takes the weights under the loader's prefix. The linear layers of the blocks and an `lm_head` of its own may be
    /// quantised.
    ///
    /// # Errors
    /// [`Error::Tensor`] naming a tensor that is missing or misshapen.
    pub fn load(loader: &Loader<B>, config: &LlamaConfig) -> Result<Llama<B>> {
        let hidden = config.hidden_size;
        let model = loader.child("model");
        let embed_tokens = model.weight("embed_tokens.weight", &[config.vocab_size, hidden])?;
        let blocks = (0..config.num_hidden_layers)
            .map(|index| Block::load(&model.child(&format!("layers.{index}")).quantised(), config))
            .collect::<Result<Vec<_>>>()?;
        let norm = model.weight("norm.weight", &[hidden])?;
        let lm_head = match config.tie_word_embeddings {
            true => embed_tokens.clone(),
            false => loader.quantised().matrix("lm_head.weight", &[config.vocab_size, hidden])?,
        };
        let frequencies = rope::frequencies(config);
        Ok(Llama { config: config.clone(), frequencies, embed_tokens, blocks, norm, lm_head })
    }

    /// The configuration that the weights were loaded with.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// Embeddings of token ids: `[ids, hidden_size]`.
    ///
    /// # Errors
    /// [`Error::Input`] `ids` where an id is not below `vocab_size`.
    pub fn embed(&self, backend: &B, ids: &[u32]) -> Result<Matrix<B>> {
        if let Some(id) = ids.iter().find(|&&id| id as usize >= self.config.vocab_size) {
            let reason = format!("token {id} is not below llm.vocab_size = {}", self.config.vocab_size);
            return Err(Error::Input { field: "ids", reason });
        }
        backend.embedding(&self.embed_tokens, ids)
    }

    /// Reads `embeddings [n, hidden_size]` at the positions after those in `cache` and gives their final hidden states
    /// after the last norm, `[n, hidden_size]`. The cache then holds `n` positions more; on an error it is unchanged.
    ///
    /// A row's bits do not depend on how the sequence is cut into calls.
    ///
    /// # Errors
    /// [`Error::Limit`] where the context becomes too long, [`Error::NonFinite`] `llm`, [`Error::Shape`],
    /// [`Error::Memory`].
    pub fn forward(&self, backend: &B, embeddings: View<B>, cache: &mut KvCache<B>) -> Result<Matrix<B>> {
        let first = cache.len();
        let out = self.forward_unchecked(backend, embeddings, cache)?;
        match backend.is_finite(out.view()) {
            Ok(true) => Ok(out),
            checked => {
                cache.truncate(first);
                checked.and(Err(Llama::<B>::not_finite()))
            }
        }
    }

    /// As [`Llama::forward`], but nobody looks whether the hidden states are finite: for a token whose successor
    /// [`Sampler::select`](super::Sampler::select) chooses, which does. A device then answers once for both.
    ///
    /// # Errors
    /// As [`Llama::forward`], but for [`Error::NonFinite`].
    pub fn forward_unchecked(
        &self,
        backend: &B,
        embeddings: View<B>,
        cache: &mut KvCache<B>,
    ) -> Result<Matrix<B>> {
        cache.check_room(embeddings.rows())?;
        let first = cache.len();
        let mut hidden: Option<Matrix<B>> = None;
        for (index, block) in self.blocks.iter().enumerate() {
            let x = hidden.as_ref().map_or(embeddings, |hidden| hidden.view());
            let next = self.block(backend, block, index, x, first, cache)?;
            drop(hidden.take());
            hidden = Some(backend.settle(next));
        }
        let x = hidden.as_ref().map_or(embeddings, |hidden| hidden.view());
        let out = backend.rms_norm(x, &self.norm, self.config.rms_norm_eps)?;
        cache.advance(embeddings.rows());
        Ok(out)
    }

    /// What is said of hidden states that are not finite.
    pub(crate) fn not_finite() -> Error {
        Error::NonFinite { module: "llm".into() }
    }

    /// Scores of every vocabulary entry after each of the hidden states: `[n, vocab_size]`.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::Memory`].
    pub fn logits(&self, backend: &B, hidden: View<B>) -> Result<Matrix<B>> {
        backend.linear(hidden, &self.lm_head, None, Epilogue::NONE)
    }

    fn block(
        &self,
        backend: &B,
        block: &Block<B>,
        index: usize,
        x: View<B>,
        first: usize,
        cache: &mut KvCache<B>,
    ) -> Result<Matrix<B>> {
        let config = &self.config;
        let (heads, kv_heads) = (config.num_attention_heads, config.num_key_value_heads);
        let normed = backend.rms_norm(x, &block.input_layernorm, config.rms_norm_eps)?;
        let q = block.q_proj.forward(backend, normed.view(), Epilogue::NONE)?;
        let k = block.k_proj.forward(backend, normed.view(), Epilogue::NONE)?;
        let v = block.v_proj.forward(backend, normed.view(), Epilogue::NONE)?;
        let q = backend.rope(q.view(), heads, first, &self.frequencies)?;
        let k = backend.rope(k.view(), kv_heads, first, &self.frequencies)?;
        let attention = Attention {
            heads,
            kv_heads,
            scale: 1.0 / libm::sqrtf(config.head_dim as f32),
            soft_cap: None,
            mask: AttentionMask::Causal { first, window: config.sliding_window },
            operands: Operands::Exact,
        };
        let kind = cache.kind();
        let (keys, values) = cache.write(backend, index, k.view(), v.view())?;
        let mixed = backend.attention_cached(q.view(), keys, values, kind, &attention)?;
        let x = block.o_proj.forward(backend, mixed.view(), Epilogue::residual(x, None))?;

        let normed = backend.rms_norm(x.view(), &block.post_attention_layernorm, config.rms_norm_eps)?;
        let gate = block.gate_proj.forward(backend, normed.view(), Epilogue::NONE)?;
        let up = block.up_proj.forward(backend, normed.view(), Epilogue::NONE)?;
        let gated = backend.gated(gate.view(), up.view(), config.hidden_act)?;
        block.down_proj.forward(backend, gated.view(), Epilogue::residual(x.view(), None))
    }
}

impl<B: Backend> Block<B> {
    fn load(loader: &Loader<B>, config: &LlamaConfig) -> Result<Block<B>> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let q_width = Size::new(config.num_attention_heads).times(config.head_dim)?.get();
        let kv_width = Size::new(config.num_key_value_heads).times(config.head_dim)?.get();
        let linear =
            |name: &str, outputs, inputs, bias| Linear::load(&loader.child(name), outputs, inputs, bias);
        let bias = config.attention_bias;
        Ok(Block {
            input_layernorm: loader.weight("input_layernorm.weight", &[hidden])?,
            q_proj: linear("self_attn.q_proj", q_width, hidden, bias)?,
            k_proj: linear("self_attn.k_proj", kv_width, hidden, bias)?,
            v_proj: linear("self_attn.v_proj", kv_width, hidden, bias)?,
            o_proj: linear("self_attn.o_proj", hidden, q_width, bias)?,
            post_attention_layernorm: loader.weight("post_attention_layernorm.weight", &[hidden])?,
            gate_proj: linear("mlp.gate_proj", inner, hidden, config.mlp_bias)?,
            up_proj: linear("mlp.up_proj", inner, hidden, config.mlp_bias)?,
            down_proj: linear("mlp.down_proj", hidden, inner, config.mlp_bias)?,
        })
    }
}
