//! The student: encoder and decoder, or the encoder alone for masked image modelling.
#![forbid(unsafe_code)]

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use super::builder::Builder;
use super::config::{AlignConfig, Objective};
use super::decoder::{self, Decoder};
use super::encoder::{self, Encoder};
use super::images::Images;
use super::masks::Masks;
use super::parameters::{Gradients, Parameters};
use super::rng::Rng;
use crate::backend::{Matrix, Train};
use crate::checked::Size;
use crate::error::{Error, Result};
use crate::nn::join_rows;
use crate::vision::{PoolKind, Vit, VitConfig, descend, names};
use crate::weights::Loader;

/// Which tensors a student starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// The encoder from a pre-trained model, everything else anew.
    Pretrained,
    /// Everything from a state of training.
    Resumed,
}

/// What is trained, and the parts that are not.
pub(super) enum Student<B: Train> {
    Trained { encoder: Encoder, decoder: Decoder },
    Frozen { encoder: Box<Vit<B>>, decoder: Decoder },
    Mim { encoder: Encoder },
}

/// What the backward pass needs of the forward pass.
pub(super) struct Kept<B: Train> {
    encoder: Option<encoder::Kept<B>>,
    decoder: Option<decoder::Kept<B>>,
}

impl<B: Train> Student<B> {
    /// `encoder` holds the pre-trained encoder; a resumed run has its parameters in `state`.
    pub(super) fn build(
        backend: &B,
        config: &AlignConfig,
        encoder: &Loader<B>,
        state: Option<&Loader<B>>,
        parameters: &mut Parameters<B>,
        rng: &mut Rng,
    ) -> Result<Student<B>> {
        let start = if state.is_some() { Start::Resumed } else { Start::Pretrained };
        let student = &config.student;
        let mut builder = Builder {
            backend,
            parameters,
            rng,
            loader: None,
            resumed: start == Start::Resumed,
            prefix: String::new(),
        };
        let side = config.side();
        let tokens = [student.prefix(), Size::new(side).times(side)?.get()];
        let trained = |builder: &mut Builder<B>| {
            let mut builder = builder.child("encoder");
            builder.loader = Some(match state {
                Some(state) => state.child("encoder"),
                None => root(encoder, student),
            });
            Encoder::build(&mut builder, student, config.head, config.head_width(), config.fresh_eps)
        };
        let Objective::MaskEmbed { prefix_only, freeze_encoder, decoder, .. } = config.objective else {
            return Ok(Student::Mim { encoder: trained(&mut builder)? });
        };
        let mut made = None;
        if !freeze_encoder {
            made = Some(trained(&mut builder)?);
        }
        let mut builder = builder.child("decoder");
        builder.loader = state.map(|state| state.child("decoder"));
        let outputs = config.teacher.hidden_size;
        let decoder = Decoder::build(&mut builder, &decoder, outputs, tokens, prefix_only)?;
        Ok(match made {
            Some(encoder) => Student::Trained { encoder, decoder },
            None => {
                let plain = VitConfig { pool: PoolKind::None, pool_norm: false, ..student.clone() };
                Student::Frozen { encoder: Box::new(Vit::load(encoder, &plain)?), decoder }
            }
        })
    }

    /// Predictions for every mask, those of a picture together.
    pub(super) fn forward(
        &self,
        backend: &B,
        parameters: &Parameters<B>,
        images: Images,
        masks: &Masks,
        patch: usize,
        all: bool,
    ) -> Result<(Matrix<B>, Kept<B>)> {
        match self {
            Student::Trained { encoder, decoder } => {
                let patches = patch_rows(backend, images, patch)?;
                let (tokens, kept) = encoder.forward(backend, parameters, patches, all)?;
                let (out, decoded) = decoder.forward(backend, parameters, tokens.view(), masks, all)?;
                Ok((out, Kept { encoder: Some(kept), decoder: Some(decoded) }))
            }
            Student::Frozen { encoder, decoder } => {
                let mut parts = Vec::with_capacity(images.count());
                for picture in images.iter() {
                    let pixels = backend.upload(picture.len() / 3, 3, picture)?;
                    parts.push(encoder.forward(backend, pixels.view())?.normed);
                }
                let views: Vec<_> = parts.iter().map(Matrix::view).collect();
                let tokens = join_rows(backend, &views)?;
                let (out, decoded) = decoder.forward(backend, parameters, tokens.view(), masks, all)?;
                Ok((out, Kept { encoder: None, decoder: Some(decoded) }))
            }
            Student::Mim { encoder } => {
                let patches = patch_rows(backend, images, patch)?;
                let (mut rows, mut factors) = (Vec::new(), Vec::new());
                for (index, mask) in masks.rows().enumerate() {
                    let first = index / masks.per_image() * masks.patches();
                    rows.extend(first..first + masks.patches());
                    factors.extend(mask.iter().map(|&keep| f32::from(u8::from(keep))));
                }
                let masked = backend.gather_scaled(patches.view(), &rows, &factors)?;
                let (out, kept) = encoder.forward(backend, parameters, masked, all)?;
                Ok((out, Kept { encoder: Some(kept), decoder: None }))
            }
        }
    }

    /// Adds to the gradients of all parameters, from the derivative by the predictions.
    pub(super) fn backward(
        &self,
        backend: &B,
        parameters: &Parameters<B>,
        gradients: &mut Gradients<B>,
        kept: Kept<B>,
        gradient: Matrix<B>,
    ) -> Result<()> {
        let Kept { encoder: of_encoder, decoder: of_decoder } = kept;
        match (self, of_encoder, of_decoder) {
            (Student::Trained { encoder, decoder }, Some(of_encoder), Some(of_decoder)) => {
                let by_tokens =
                    decoder.backward(backend, parameters, gradients, of_decoder, gradient.view())?;
                drop(gradient);
                encoder.backward(backend, parameters, gradients, of_encoder, by_tokens)
            }
            (Student::Frozen { decoder, .. }, _, Some(of_decoder)) => {
                decoder.backward(backend, parameters, gradients, of_decoder, gradient.view()).map(drop)
            }
            (Student::Mim { encoder }, Some(of_encoder), _) => {
                encoder.backward(backend, parameters, gradients, of_encoder, gradient)
            }
            _ => Err(Error::Shape { operand: "student.kept", reason: "is of another student".into() }),
        }
    }
}

/// All patches of all pictures as rows.
fn patch_rows<B: Train>(backend: &B, images: Images, patch: usize) -> Result<Matrix<B>> {
    let rows = images.patches(patch);
    let cols = Size::product(&[3, patch, patch])?.get();
    backend.upload(rows.len().checked_div(cols).unwrap_or(0), cols, &rows)
}

/// The part of a file that holds the model: the first root of its family with a patch embedding.
fn root<'a, B: Train>(loader: &Loader<'a, B>, config: &VitConfig) -> Loader<'a, B> {
    let table = names(config.names);
    let patch = alloc::format!("{}.weight", table.patch);
    let mut roots = table.roots.iter().map(|root| descend(loader, root));
    roots.find(|root| root.has(&patch)).unwrap_or_else(|| loader.clone())
}
