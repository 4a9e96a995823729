//! The optional adapter between language model and heads: a two-way transformer over the tokens of every phrase and the
//! picture.
//!
//! The reference feeds it image embeddings that are all zero at inference and the rows of its first picture for all;
//! here the picture's own hidden states go in, as was meant.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::string::String;
use core::f64::consts::TAU;

use super::check_finite;
use super::two_way::{DOWNSAMPLE, TwoWay, TwoWaySize};
use crate::backend::{Activation, Backend, Epilogue, Grid, Matrix, View, Weight};
use crate::checked::{Size, quotient, remainder};
use crate::config::Fields;
use crate::error::{Error, Result};
use crate::nn::Mlp;
use crate::weights::Loader;

/// Fields of the reference's `VDAdapterConfig`.
#[derive(Clone, Debug)]
pub struct VdAdapterConfig {
    /// Phrase tokens of a group; longer phrases are cut.
    pub phrase_max_length: usize,
    /// REF tokens of a group.
    pub ref_max_length: usize,
    /// Width of everything; the reference's `d_input_image`, `d_input_token` and `d_model` only work when equal.
    pub d_model: usize,
    /// Attention heads.
    pub heads: usize,
    /// Hidden width of the feed-forward parts.
    pub ffn: usize,
    /// Layers of the two-way transformer.
    pub layers: usize,
}

impl VdAdapterConfig {
    /// Reads the fields of `vd_adapter`.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field.
    pub fn from_fields(fields: &Fields) -> Result<VdAdapterConfig> {
        let d_model = fields.usize_or("d_model", 1024)?;
        for (name, default) in [("d_input_image", 1024), ("d_input_token", 4096)] {
            let width = fields.usize_or(name, default)?;
            if width != d_model {
                return Err(fields.error(name, format!("is {width}, but must equal d_model {d_model}")));
            }
        }
        let heads = fields.usize_or("n_heads", 8)?;
        let divides = Size::new(heads).times(DOWNSAMPLE)?.get();
        if divides == 0 || d_model == 0 || !d_model.is_multiple_of(divides) {
            let reason = format!("is {heads}, but {divides} must divide d_model {d_model}");
            return Err(fields.error("n_heads", reason));
        }
        Ok(VdAdapterConfig {
            phrase_max_length: fields.usize_or("phrase_max_length", 100)?,
            ref_max_length: fields.usize_or("ref_max_length", 100)?,
            d_model,
            heads,
            ffn: fields.usize_or("d_ffn", 2048)?,
            layers: fields.usize_or("num_layers", 2)?,
        })
    }
}

/// The reference's `VDAdapterModel`.
pub struct VdAdapter<B: Backend> {
    config: VdAdapterConfig,
    tokens: usize,
    module: String,
    project_image: Mlp<B>,
    project_text: Mlp<B>,
    text_embedding: Weight<B>,
    frequencies: Weight<B>,
    model: TwoWay<B>,
}

/// The tokens of one phrase: hidden states of the language model one position before each token.
pub struct AdapterGroup<'a, B: Backend> {
    /// `[n, d_model]`: of its REF tokens.
    pub refs: View<'a, B>,
    /// `[m, d_model]`: of its phrase, from the opening to the closing token.
    pub phrase: View<'a, B>,
}

/// What the heads read instead of latents and the last feature map.
pub struct VdAdapterOutput<B: Backend> {
    /// `[REF tokens of all groups, d_model]`, in order of appearance. A head's empty slots hold zeros behind the adapter.
    pub latents: Matrix<B>,
    /// `[cells, d_model]`: the picture, mean over the groups.
    pub image: Matrix<B>,
}

impl<B: Backend> VdAdapter<B> {
    /// Loads the tensors of `config` under the loader's prefix; the width inside the input projections (8192 in the
    /// reference) is that of the file. The reference's unused `output_tokens` is not read.
    ///
    /// # Errors
    /// [`Error::Tensor`] naming a missing or misshapen tensor.
    pub fn load(loader: &Loader<B>, config: &VdAdapterConfig) -> Result<VdAdapter<B>> {
        let width = config.d_model;
        let project = |name| {
            let loader = loader.child(name);
            let hidden = match loader.shape("lin1.weight").as_deref() {
                Some(&[hidden, _]) => hidden,
                _ => 8192,
            };
            Mlp::load(&loader, &["lin1", "lin2"], &[width, hidden, width], Activation::Gelu, true)
        };
        let tokens = Size::new(config.ref_max_length).plus(config.phrase_max_length)?.get();
        let size = TwoWaySize { width, heads: config.heads, ffn: config.ffn, layers: config.layers };
        let frequencies = "pe_image.positional_encoding_gaussian_matrix";
        Ok(VdAdapter {
            module: loader.prefix().into(),
            project_image: project("in_proj_image")?,
            project_text: project("in_proj_text")?,
            text_embedding: loader.weight("text_embedding.weight", &[tokens, width])?,
            frequencies: loader.weight(frequencies, &[2, width / 2])?,
            model: TwoWay::load(&loader.child("model"), size)?,
            config: config.clone(),
            tokens,
        })
    }

    /// Runs the adapter: `image [grid.cells, d_model]` are the language model's hidden states at the image's positions,
    /// every group is decoded on its own.
    ///
    /// # Errors
    /// [`Error::Input`] where there is no group or a size differs; [`Error::Limit`] where a group has more REF tokens
    /// than `ref_max_length`; [`Error::NonFinite`] naming the module.
    pub fn forward(
        &self,
        backend: &B,
        image: View<B>,
        grid: Grid,
        groups: &[AdapterGroup<B>],
    ) -> Result<VdAdapterOutput<B>> {
        self.check(image, grid, groups)?;
        let positions = self.image_positions(backend, grid)?;
        let keys = self.project_image.forward(backend, image, Epilogue::NONE)?;
        let token_positions = self.token_positions(backend)?;
        let refs = groups.iter().try_fold(Size::new(0), |refs, group| refs.plus(group.refs.rows()))?;
        let mut latents = backend.zeros(refs.get(), self.config.d_model)?;
        let mut row = 0;
        let mut sum: Option<Matrix<B>> = None;
        for group in groups {
            let input = self.project(backend, group, token_positions.view())?;
            let (output, image) = self.model.forward(backend, input.view(), keys.view(), positions.view())?;
            let refs = group.refs.rows();
            if refs > 0 {
                backend.copy(output.view().row_range(0..refs)?, &mut latents, row, 0)?;
            }
            row += refs;
            let total = match &sum {
                None => image,
                Some(sum) => backend.add(sum.view(), image.view())?,
            };
            drop((input, output, sum.take()));
            sum = Some(backend.settle(total));
        }
        let sum = sum.as_ref().map_or(keys.view(), Matrix::view);
        let share = backend.written(sum.rows(), sum.cols(), &mut |share| {
            share.fill(1.0 / groups.len() as f32);
            Ok(())
        })?;
        let image = backend.gated(share.view(), sum, Activation::Identity)?;
        check_finite(backend, &self.module, &[latents.view(), image.view()])?;
        Ok(VdAdapterOutput { latents, image })
    }

    fn check(&self, image: View<B>, grid: Grid, groups: &[AdapterGroup<B>]) -> Result<()> {
        if groups.is_empty() {
            return Err(Error::Input { field: "groups", reason: "are none".into() });
        }
        if image.rows() != grid.cells() || image.rows() == 0 {
            let reason = format!("has {} rows for a grid of {grid:?}", image.rows());
            return Err(Error::Input { field: "image", reason });
        }
        let views = groups.iter().flat_map(|group| [("refs", group.refs), ("phrase", group.phrase)]);
        for (field, view) in views.chain([("image", image)]) {
            if view.cols() != self.config.d_model && view.rows() > 0 {
                let reason = format!("is {} numbers wide instead of {}", view.cols(), self.config.d_model);
                return Err(Error::Input { field, reason });
            }
        }
        let most = groups.iter().map(|group| group.refs.rows()).max().unwrap_or_default();
        if most > self.config.ref_max_length {
            let max = self.config.ref_max_length as u64;
            return Err(Error::Limit { limit: "vd_adapter.ref_max_length", max, got: most as u64 });
        }
        Ok(())
    }

    /// A group's tokens, padded with zeros to the full length, projected and placed.
    fn project(&self, backend: &B, group: &AdapterGroup<B>, positions: View<B>) -> Result<Matrix<B>> {
        let cut = group.phrase.rows().min(self.config.phrase_max_length);
        let phrase = group.phrase.row_range(0..cut)?;
        let mut padded = backend.zeros(self.tokens, self.config.d_model)?;
        for (view, row) in [(group.refs, 0), (phrase, self.config.ref_max_length)] {
            if view.rows() > 0 {
                backend.copy(view, &mut padded, row, 0)?;
            }
        }
        self.project_text.forward(backend, padded.view(), Epilogue::residual(positions, None))
    }

    /// The learned embedding of a token's place plus its sine position.
    fn token_positions(&self, backend: &B) -> Result<Matrix<B>> {
        let width = self.config.d_model;
        let sines = backend.written(self.tokens, width, &mut |sines| {
            for (place, row) in sines.chunks_exact_mut(width.max(1)).enumerate() {
                for (channel, value) in row.iter_mut().enumerate() {
                    let pair = (channel / 2 * 2) as f64;
                    let angle = place as f64 * libm::exp(-pair * libm::log(10_000.0) / width as f64);
                    let even = channel.is_multiple_of(2);
                    *value = if even { libm::sin(angle) } else { libm::cos(angle) } as f32;
                }
            }
            Ok(())
        })?;
        let learned = backend.read(&self.text_embedding, self.tokens, width)?;
        backend.add(learned.view(), sines.view())
    }

    /// Random Fourier features of the cells' centres: sines, then cosines.
    fn image_positions(&self, backend: &B, grid: Grid) -> Result<Matrix<B>> {
        let width = self.config.d_model;
        let matrix = backend.read(&self.frequencies, 2, width / 2)?;
        let mut frequencies = backend.arena().take("vd_adapter.frequencies", width / 2 * 2)?;
        backend.download_to(matrix.view(), &mut frequencies)?;
        let centre = |index: usize, count: usize| 2.0 * (index as f64 + 0.5) / count as f64 - 1.0;
        let out = backend.written(grid.cells(), width, &mut |out| {
            let (across, down) = frequencies.split_at(width / 2);
            for (cell, row) in out.chunks_exact_mut(width.max(1)).enumerate() {
                let (x, y) = (
                    centre(remainder(cell, grid.width), grid.width),
                    centre(quotient(cell, grid.width), grid.height),
                );
                let (sines, cosines) = row.split_at_mut(width / 2);
                let places = sines.iter_mut().zip(cosines);
                for ((sine, cosine), (&a, &d)) in places.zip(across.iter().zip(down)) {
                    let angle = TAU * (x * f64::from(a) + y * f64::from(d));
                    (*sine, *cosine) = (libm::sin(angle) as f32, libm::cos(angle) as f32);
                }
            }
            Ok(())
        })?;
        drop((matrix, frequencies));
        Ok(backend.settle(out))
    }
}
