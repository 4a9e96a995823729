//! A picture that the model has looked at, and the visual prompts on it.
#![forbid(unsafe_code)]

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use crate::backend::{Backend, Grid, Matrix, View};
use crate::error::{Error, Result};
use crate::image::{ImageView, PixelMap, Preprocessor, Square, VisualPrompt, regions};
use crate::model::Model;
use crate::vision::{ConvNextOutput, FeatureMap, VitOutput};

/// Tells pictures apart; two are equal only where one is a clone of the other.
#[derive(Clone, Debug)]
pub(super) struct Identity(Arc<()>);

impl PartialEq for Identity {
    fn eq(&self, other: &Identity) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
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
    encoder: VitOutput<B>,
    selected: usize,
    tower: Option<ConvNextOutput<B>>,
}

impl<B: Backend> EncodedImage<B> {
    /// Looks at a picture.
    pub(crate) fn new(model: &Model<B>, image: &ImageView) -> Result<EncodedImage<B>> {
        let backend = model.backend();
        let modules = model.modules();
        let square = Square::new(image.width(), image.height())?;
        let pixels = upload(backend, &modules.encoder_pixels, image)?;
        let mut encoder = modules.visual_encoder.forward(backend, pixels.view())?;
        let mut selected = modules.select_layer;
        let tower = match &modules.visual_tower {
            None => None,
            Some((tower, preprocessor)) => {
                // The heads then read the selected state alone.
                if selected < encoder.hidden_states.len() {
                    encoder.hidden_states = vec![encoder.hidden_states.swap_remove(selected)];
                    selected = 0;
                }
                let pixels = upload(backend, preprocessor, image)?;
                Some(tower.forward(backend, pixels.view())?)
            }
        };
        let features = encoder.features(selected)?;
        let tokens = modules.projector.forward(backend, features.view)?;
        let (model, identity) = (model.clone(), Identity(Arc::new(())));
        Ok(EncodedImage { model, identity, tokens, square, encoder, selected, tower })
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
        self.encoder.features(self.selected)
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
        match &self.tower {
            Some(tower) => {
                let mut maps: Vec<FeatureMap<B>> = tower.features().collect();
                maps.push(self.selected()?);
                Ok(maps)
            }
            None => (0..self.encoder.hidden_states.len()).map(|layer| self.encoder.features(layer)).collect(),
        }
    }
}

fn upload<B: Backend>(backend: &B, preprocessor: &Preprocessor, image: &ImageView) -> Result<Matrix<B>> {
    let PixelMap { data, width, height } = preprocessor.prepare(image)?;
    backend.upload(Grid { height, width }.cells(), 3, &data)
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
        image: &EncodedImage<B>,
        prompts: &[VisualPrompt],
    ) -> Result<EncodedPrompts<B>> {
        let (backend, modules) = (model.backend(), model.modules());
        if prompts.is_empty() {
            let tokens = backend.zeros(0, image.tokens.cols())?;
            return Ok(EncodedPrompts { tokens, tokens_per_prompt: 0, cells: Vec::new() });
        }
        let Some(encoder) = &modules.vpt_encoder else {
            return Err(Error::Missing { module: "vpt_encoder".into() });
        };
        let features = image.selected()?;
        let (pixels, resize) = (&modules.encoder_pixels, modules.prompt_resize);
        let regions = regions(prompts, &image.square, pixels, features.grid, resize)?;
        let cells: Vec<Vec<bool>> = regions.into_iter().map(|region| region.cells).collect();
        let masks: Vec<&[bool]> = cells.iter().map(Vec::as_slice).collect();
        let encoded = encoder.forward(backend, features, &masks)?;
        let tokens = match encoded.projected {
            true => encoded.tokens,
            false => modules.projector.forward(backend, encoded.tokens.view())?,
        };
        Ok(EncodedPrompts { tokens, tokens_per_prompt: encoded.tokens_per_region, cells })
    }
}
