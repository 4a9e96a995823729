//! The modules of a model, loaded and checked against each other.
#![forbid(unsafe_code)]

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::arena::Buffer;
use crate::backend::{Activation, Backend, Grid, Matrix, View};
use crate::checked::Size;
use crate::config::{Config, Fields};
use crate::error::Result;
use crate::heads::{
    BoxHead, BoxHeadConfig, DecoderConfig, DepthHead, DepthHeadConfig, DepthRange, EmptySlots, FeatureInput,
    MaskHead, MaskHeadConfig, PoseHead, PoseHeadConfig, VdAdapter, VdAdapterConfig,
};
use crate::image::{Preprocessor, PromptResize, Square};
use crate::language::{Llama, LlamaConfig};
use crate::trp::Unit;
use crate::vision::{
    ConvNext, ConvNextConfig, FeatureMap, Projector, ProjectorConfig, VisualPromptConfig,
    VisualPromptEncoder, Vit, VitConfig, select_layer,
};
use crate::weights::Loader;

/// Joints of a person.
const JOINTS: usize = 17;

/// Everything that computes.
pub(crate) struct Modules<B: Backend> {
    pub(crate) encoder_pixels: Preprocessor,
    pub(crate) visual_encoder: Vit<B>,
    /// Index into the encoder's hidden states.
    pub(crate) select_layer: usize,
    pub(crate) visual_tower: Option<(ConvNext<B>, Preprocessor)>,
    pub(crate) projector: Projector<B>,
    pub(crate) vpt_encoder: Option<VisualPromptEncoder<B>>,
    pub(crate) prompt_resize: PromptResize,
    pub(crate) llm: Llama<B>,
    pub(crate) vd_adapter: Option<VdAdapter<B>>,
    heads: Vec<(String, Head<B>)>,
}

impl<B: Backend> Modules<B> {
    /// Loads every module that the configuration names.
    ///
    /// # Errors
    /// [`Error::Missing`] without `visual_encoder`, `projector` or `llm`; [`Error::Config`] where two modules do not fit
    /// each other; [`Error::Tensor`].
    pub(crate) fn load(loader: &Loader<B>, config: &Config) -> Result<Modules<B>> {
        let encoder = VitConfig::from_fields(&config.module("visual_encoder")?)?;
        let select_layer = select_layer(config.visual_select_layer()?, encoder.layers.saturating_add(1))?;
        let projector_fields = config.module("projector")?;
        let projector = ProjectorConfig::from_fields(&projector_fields)?;
        let llm = LlamaConfig::parse(&config.module("llm")?)?;
        fits(&projector_fields, "visual_hidden_size", projector.visual_hidden_size, encoder.hidden_size)?;
        fits(&projector_fields, "llm_hidden_size", projector.llm_hidden_size, llm.hidden_size)?;

        let mut widths = vec![encoder.hidden_size; encoder.layers.saturating_add(1).min(MAX_LAYERS)];
        let visual_tower = match config.optional_module("visual_tower")? {
            None => None,
            Some(fields) => {
                let tower = ConvNextConfig::from_fields(&fields)?;
                widths = tower.dims.into_iter().chain([encoder.hidden_size]).collect();
                let pixels = Preprocessor::load(&config.preprocessor("visual_tower")?)?;
                Some((ConvNext::load(&loader.child("visual_tower"), &tower)?, pixels))
            }
        };

        let mut prompt_resize = PromptResize::default();
        let vpt_encoder = match config.optional_module("vpt_encoder")? {
            None => None,
            Some(fields) => {
                let vpt = VisualPromptConfig::from_fields(&fields)?;
                fits(&fields, "visual_hidden_size", vpt.visual_hidden_size, encoder.hidden_size)?;
                if let Some(own) = &vpt.projector {
                    fits(&fields, "llm_hidden_size", own.llm_hidden_size, llm.hidden_size)?;
                }
                prompt_resize = PromptResize::load(&fields)?;
                Some(VisualPromptEncoder::load(&loader.child("vpt_encoder"), &vpt)?)
            }
        };

        let vd_adapter = match config.optional_module("vd_adapter")? {
            None => None,
            Some(fields) => {
                let adapter = VdAdapterConfig::from_fields(&fields)?;
                fits(&fields, "d_model", adapter.d_model, llm.hidden_size)?;
                // Its picture takes the place of the last map.
                widths.pop();
                widths.push(adapter.d_model);
                Some(VdAdapter::load(&loader.child("vd_adapter"), &adapter)?)
            }
        };
        let around = Around { widths: &widths, latents: llm.hidden_size, adapted: vd_adapter.is_some() };
        let mut heads = Vec::new();
        if let Some(decoder) = config.optional_module("visual_decoder")? {
            let loader = loader.child("visual_decoder");
            for name in decoder.keys() {
                let head = Head::load(&loader.child(name), name, &decoder, &around)?;
                heads.push((name.into(), head));
            }
        }
        Ok(Modules {
            encoder_pixels: Preprocessor::load(&config.preprocessor("visual_encoder")?)?,
            visual_encoder: Vit::load(&loader.child("visual_encoder"), &encoder)?,
            select_layer,
            visual_tower,
            projector: Projector::load(&loader.child("projector"), &projector)?,
            vpt_encoder,
            prompt_resize,
            llm: Llama::load(&loader.child("llm"), &llm)?,
            vd_adapter,
            heads,
        })
    }

    /// The head of this name.
    pub(crate) fn head(&self, name: &str) -> Option<&Head<B>> {
        self.heads.iter().find(|(head, _)| head == name).map(|(_, head)| head)
    }
}

/// Hidden states of an encoder for which widths are listed; one with more fails on its tensors.
const MAX_LAYERS: usize = 1024;

/// What a head meets in this model.
struct Around<'a> {
    /// Channels of the feature maps.
    widths: &'a [usize],
    /// Width of a latent.
    latents: usize,
    /// Whether the adapter stands before the heads.
    adapted: bool,
}

impl Around<'_> {
    /// Checks a head's inputs and says what its empty slots hold.
    fn check(&self, fields: &Fields, input: &FeatureInput, decoder: &mut DecoderConfig) -> Result<()> {
        fits(fields, "quries_input_dim", decoder.query_dim, self.latents)?;
        for (&index, &width) in input.index.iter().zip(&input.dims) {
            match self.widths.get(index) {
                Some(&have) => fits(fields, "encoder_input_dim", width, have)?,
                None => {
                    let reason = format!("has {index}, but the model has {} feature maps", self.widths.len());
                    return Err(fields.error("encoder_input_index", reason));
                }
            }
        }
        if self.adapted {
            decoder.empty_slots = EmptySlots::Zeros;
        }
        Ok(())
    }
}

/// [`Error::Config`] where a width is not that of the neighbour.
fn fits(fields: &Fields, name: &str, width: usize, neighbour: usize) -> Result<()> {
    match width == neighbour {
        true => Ok(()),
        false => Err(fields.error(name, format!("is {width}, but its neighbour's width is {neighbour}"))),
    }
}

/// A head of any kind.
pub(crate) enum Head<B: Backend> {
    Box(BoxHead<B>, usize),
    Mask(MaskHead<B>, usize),
    Pose(Box<PoseHead<B>>, usize),
    Depth(DepthHead<B>, usize),
}

/// What a head found, on the host: one entry per latent.
pub(crate) enum Found {
    /// Centre boxes as fractions of the square, four numbers each.
    Boxes(Buffer),
    /// Which pixels of the picture belong to each mask, as [`Backend::mask_pixels`] says it.
    Masks(Vec<u32>),
    /// Sigmoid maps over the square.
    /// One after the other.
    Maps {
        maps: Buffer,
        grid: Grid,
        range: Option<DepthRange>,
    },
    Poses(Poses),
}

/// Persons.
pub(crate) struct Poses {
    areas: Buffer,
    joints: Buffer,
    visibility: Buffer,
}

/// One person.
pub(crate) struct Pose {
    /// Centre box, as fractions of the square.
    pub(crate) area: [f32; 4],
    /// In fractions of the square.
    pub(crate) joints: [[f32; 2]; JOINTS],
    /// The sigmoids of (hidden, visible).
    pub(crate) visibility: [[f32; 2]; JOINTS],
}

impl Poses {
    /// One after the other.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Pose> {
        let pairs = |values| <[f32]>::as_chunks::<2>(values).0.as_chunks::<JOINTS>().0;
        let people = pairs(&self.joints).iter().zip(pairs(&self.visibility));
        let poses = self.areas.as_chunks::<4>().0.iter().zip(people);
        poses.map(|(&area, (&joints, &visibility))| Pose { area, joints, visibility })
    }
}

impl<B: Backend> Head<B> {
    fn load(loader: &Loader<B>, name: &str, decoder: &Fields, around: &Around) -> Result<Head<B>> {
        let fields = decoder.child(name)?;
        match name {
            "box" => {
                let mut config = BoxHeadConfig::from_fields(&fields)?;
                around.check(&fields, &config.input, &mut config.decoder)?;
                Ok(Head::Box(BoxHead::load(loader, &config)?, config.decoder.num_queries))
            }
            "mask" => {
                let mut config = MaskHeadConfig::from_fields(&fields)?;
                around.check(&fields, &config.input, &mut config.decoder)?;
                Ok(Head::Mask(MaskHead::load(loader, &config)?, config.decoder.num_queries))
            }
            "depth" => {
                let mut config = DepthHeadConfig::from_fields(&fields)?;
                around.check(&fields, &config.mask.input, &mut config.mask.decoder)?;
                Ok(Head::Depth(DepthHead::load(loader, &config)?, config.mask.decoder.num_queries))
            }
            "pose" => {
                let mut config = PoseHeadConfig::from_fields(&fields)?;
                around.check(&fields, &config.box_head.input, &mut config.box_head.decoder)?;
                if config.keypoints.body_points != JOINTS {
                    let reason = format!("is {}, but a person has {JOINTS}", config.keypoints.body_points);
                    return Err(fields.error("keypoint_config.num_body_points", reason));
                }
                Ok(Head::Pose(
                    Box::new(PoseHead::load(loader, &config)?),
                    config.box_head.decoder.num_queries,
                ))
            }
            _ => Err(decoder.error(name, "is no head: box, mask, pose and depth are")),
        }
    }

    /// Slots of the head.
    pub(crate) fn num_queries(&self) -> usize {
        match *self {
            Head::Box(_, slots) | Head::Mask(_, slots) | Head::Pose(_, slots) | Head::Depth(_, slots) => {
                slots
            }
        }
    }

    /// Whether the head can decode the unit.
    pub(crate) fn gives(&self, unit: Unit) -> bool {
        match self {
            Head::Box(..) => unit == Unit::Box,
            Head::Mask(..) => unit == Unit::Mask,
            Head::Pose(..) => matches!(unit, Unit::Box | Unit::Keypoint),
            Head::Depth(..) => unit == Unit::Depth,
        }
    }

    /// Decodes latents `[n, width]`, `n` at most [`Head::num_queries`]. `decided` asks for the pixels of masks above a threshold
    /// where the backend can say them.
    ///
    /// # Errors
    /// Those of the head.
    pub(crate) fn decode(
        &self,
        backend: &B,
        features: &[FeatureMap<B>],
        latents: View<B>,
        decided: Option<(&Square, f32)>,
    ) -> Result<Found> {
        let rows = latents.rows();
        match self {
            Head::Box(head, _) => {
                let found = head.forward(backend, features, latents)?;
                Ok(Found::Boxes(host("boxes", backend, &found.boxes, rows)?))
            }
            Head::Mask(head, _) => {
                let found = head.forward(backend, features, latents)?;
                let shares = backend.activate(found.logits.view(), Activation::Sigmoid)?;
                if let Some((square, threshold)) = decided {
                    let wanted = shares.view().row_range(0..rows)?;
                    if let Some(bits) = backend.mask_pixels(wanted, found.grid, square, threshold)? {
                        return Ok(Found::Masks(bits));
                    }
                }
                Ok(Found::Maps { maps: host("maps", backend, &shares, rows)?, grid: found.grid, range: None })
            }
            Head::Depth(head, _) => {
                let found = head.forward(backend, features, latents)?;
                let maps = host("maps", backend, &found.shares, rows)?;
                Ok(Found::Maps { maps, grid: found.mask.grid, range: found.range })
            }
            Head::Pose(head, _) => {
                let found = head.forward(backend, features, latents)?.pose;
                let visibility = backend.activate(found.visibility.view(), Activation::Sigmoid)?;
                Ok(Found::Poses(Poses {
                    areas: host("boxes", backend, &found.boxes, rows)?,
                    joints: host("keypoints", backend, &found.keypoints, rows * JOINTS)?,
                    visibility: host("keypoints", backend, &visibility, rows * JOINTS)?,
                }))
            }
        }
    }
}

/// The first `rows` rows of a matrix.
fn host<B: Backend>(what: &'static str, backend: &B, matrix: &Matrix<B>, rows: usize) -> Result<Buffer> {
    let mut values = backend.arena().take(what, Size::new(rows).times(matrix.cols())?.get())?;
    backend.download_to(matrix.view().row_range(0..rows)?, &mut values)?;
    Ok(values)
}
