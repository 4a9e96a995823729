//! A picture that the model has looked at, and the visual prompts on it.
#![forbid(unsafe_code)]

use alloc::vec::Vec;
use core::mem;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::backend::{Backend, Grid, Matrix, View};
use crate::error::{Error, Result};
use crate::few::Few;
use crate::image::{ImageView, Square, VisualPrompt, regions};
use crate::model::Model;
use crate::vision::{ConvNextOutput, FeatureMap, VisualPrompts, VitOutput};

/// Hidden states of a model without a tower for which there is a list of maps on the stack.
const STATES: usize = 32;

/// Tells pictures apart: the number of a picture in this process, which on a machine of 32 bits comes again after four thousand
/// million.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Identity(usize);

impl Identity {
    fn next() -> Identity {
        static LAST: AtomicUsize = AtomicUsize::new(0);
        Identity(LAST.fetch_add(1, Ordering::Relaxed))
    }
}

/// What the model sees of a picture; made once by [`Model::encode`], asked any number of times
/// by any session of the same model.
pub struct EncodedImage<B: Backend> {
    model: Model<B>,
    pub(super) identity: Identity,
    /// Projected features, `[cells, llm.hidden_size]`.
    pub(super) tokens: Matrix<B>,
    pub(super) square: Square,
    /// Hidden states of the visual encoder; with a tower the selected one alone.
    states: Vec<Matrix<B>>,
    /// Rows of a state before those of the cells.
    prefix: usize,
    grid: Grid,
    selected: usize,
    tower: Option<ConvNextOutput<B>>,
}

impl<B: Backend> EncodedImage<B> {
    /// Looks at a picture, on a backend that computes as the model's does.
    pub(crate) fn new(model: &Model<B>, backend: &B, image: &ImageView) -> Result<EncodedImage<B>> {
        let modules = model.modules();
        let square = Square::new(image.width(), image.height())?;
        let pixels = backend.prepare(&modules.encoder_pixels, image)?;
        let VitOutput { mut hidden_states, normed, pooled, prefix, grid } =
            modules.visual_encoder.forward_into(backend, pixels.view(), model.take_states())?;
        drop((pixels, normed, pooled));
        let mut selected = modules.select_layer;
        let tower = match &modules.visual_tower {
            None => None,
            Some((tower, preprocessor)) => {
                // The heads then read the selected state alone.
                if selected < hidden_states.len() {
                    let kept = hidden_states.swap_remove(selected);
                    hidden_states.clear();
                    hidden_states.push(backend.settle(kept));
                    selected = 0;
                }
                let pixels = backend.prepare(preprocessor, image)?;
                Some(tower.forward(backend, pixels.view())?)
            }
        };
        let features = state(&hidden_states, selected, prefix, grid)?;
        let tokens = backend.settle(modules.projector.forward(backend, features.view)?);
        Ok(EncodedImage {
            model: model.clone(),
            identity: Identity::next(),
            tokens,
            square,
            states: hidden_states,
            prefix,
            grid,
            selected,
            tower,
        })
    }

    /// The model that looked at it.
    pub fn model(&self) -> &Model<B> {
        &self.model
    }

    /// Width of the picture in pixels.
    pub fn width(&self) -> usize {
        self.square.width()
    }

    /// Height of the picture in pixels.
    pub fn height(&self) -> usize {
        self.square.height()
    }

    /// The selected features of the visual encoder, `[cells, channels]`, prefix tokens excluded.
    ///
    /// # Errors
    /// [`Error::Shape`] never in practice: the layer was checked when the model was loaded.
    pub fn selected(&self) -> Result<FeatureMap<'_, B>> {
        state(&self.states, self.selected, self.prefix, self.grid)
    }

    /// The projected features that the language model reads, `[cells, llm.hidden_size]`.
    pub fn tokens(&self) -> View<'_, B> {
        self.tokens.view()
    }

    /// The maps that the heads read: the stages of the tower and the selected features; without a tower every hidden
    /// state of the visual encoder.
    ///
    /// # Errors
    /// As [`EncodedImage::selected`].
    pub fn features(&self) -> Result<Vec<FeatureMap<'_, B>>> {
        Ok(self.maps()?.to_vec())
    }

    /// As [`EncodedImage::features`].
    pub(super) fn maps(&self) -> Result<Few<FeatureMap<'_, B>, STATES>> {
        match &self.tower {
            Some(tower) => Ok(tower.features().chain([self.selected()?]).collect()),
            None => {
                let layers = 0..self.states.len();
                layers.map(|layer| state(&self.states, layer, self.prefix, self.grid)).collect()
            }
        }
    }
}

impl<B: Backend> Drop for EncodedImage<B> {
    /// The next picture of the model takes the list of this one's states.
    fn drop(&mut self) {
        self.model.keep_states(mem::take(&mut self.states));
    }
}

/// The cells of a hidden state.
fn state<B: Backend>(
    states: &[Matrix<B>],
    layer: usize,
    prefix: usize,
    grid: Grid,
) -> Result<FeatureMap<'_, B>> {
    let state = states.get(layer).ok_or_else(|| Error::Shape {
        operand: "encoded_image.layer",
        reason: alloc::format!("{layer} of {} hidden states", states.len()),
    })?;
    Ok(FeatureMap { view: state.view().row_range(prefix..state.rows())?, grid })
}

/// The visual prompts of one question.
pub(super) struct EncodedPrompts<B: Backend> {
    /// Projected tokens, those of one prompt together.
    pub(super) tokens: Matrix<B>,
    /// Positions that one prompt takes.
    pub(super) tokens_per_prompt: usize,
    /// Which cells of the grid each prompt covers.
    pub(super) cells: Vec<Vec<bool>>,
}

impl<B: Backend> EncodedPrompts<B> {
    /// Encodes the prompts on their picture.
    ///
    /// # Errors
    /// [`Error::Missing`] where the model has no `vpt_encoder`; those of [`regions`].
    pub(super) fn new(
        model: &Model<B>,
        backend: &B,
        image: &EncodedImage<B>,
        prompts: &[VisualPrompt],
    ) -> Result<EncodedPrompts<B>> {
        let modules = model.modules();
        if prompts.is_empty() {
            return EncodedPrompts::of_cells(model, backend, image, Vec::new());
        }
        if modules.vpt_encoder.is_none() {
            return Err(Error::Missing { module: "vpt_encoder".into() });
        }
        let (pixels, resize) = (&modules.encoder_pixels, modules.prompt_resize);
        let regions = regions(prompts, &image.square, pixels, image.grid, resize)?;
        let cells = regions.into_iter().map(|region| region.cells).collect();
        EncodedPrompts::of_cells(model, backend, image, cells)
    }

    /// Encodes regions of the grid; none where the model has no encoder for them.
    pub(super) fn of_cells(
        model: &Model<B>,
        backend: &B,
        image: &EncodedImage<B>,
        cells: Vec<Vec<bool>>,
    ) -> Result<EncodedPrompts<B>> {
        let modules = model.modules();
        let Some(encoder) = modules.vpt_encoder.as_ref().filter(|_| !cells.is_empty()) else {
            let tokens = backend.zeros(0, image.tokens.cols())?;
            return Ok(EncodedPrompts { tokens, tokens_per_prompt: 0, cells: Vec::new() });
        };
        let masks: Vec<&[bool]> = cells.iter().map(Vec::as_slice).collect();
        let VisualPrompts { mut tokens, tokens_per_region, projected } =
            encoder.forward(backend, image.selected()?, &masks)?;
        if !projected {
            tokens = modules.projector.forward(backend, tokens.view())?;
        }
        Ok(EncodedPrompts { tokens: backend.settle(tokens), tokens_per_prompt: tokens_per_region, cells })
    }
}
