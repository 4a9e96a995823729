//! Locality alignment (MaskEmbed, arXiv 2410.11087): a vision transformer learns on unlabelled pictures to tell what is
//! where, so that its patch tokens serve a model that must point.
//!
//! A frozen [`Teacher`] sees pictures with some of their patches set to 0. The student sees the whole picture once; a small
//! decoder masks the student's tokens and predicts the teacher's. What the student must know to do so for any mask is what
//! each patch holds. [`Trainer`] takes the steps; [`Trainer::export`] gives a file that loads like any other encoder.
//!
//! ```no_run
//! # fn align(vit: triplet::vision::VitConfig, pixels: &[f32], batches: usize) -> triplet::Result<()> {
//! use triplet::finetune::{AlignConfig, Images, Schedule, Trainer};
//! use triplet::weights::{Loader, Weights};
//!
//! let backend = triplet::Cpu::new();
//! let weights = Weights::open("vit")?;
//! let loader = Loader::new(&weights, &backend, "");
//! let config = AlignConfig::recipe(&vit, Schedule::cosine(3e-4, 1000));
//! let mut trainer = Trainer::new(&backend, config, &loader, &loader, 42)?;
//! let masks = trainer.validation_masks(1, 0);
//! trainer.calibrate(&backend, [(Images::new(pixels, 224)?, masks)])?;
//! for _ in 0..batches {
//!     let images = Images::new(pixels, 224)?;
//!     let masks = trainer.sample(images.count());
//!     let loss = trainer.accumulate(&backend, images, &masks, 1)?;
//!     let norm = trainer.update(&backend)?.norm;
//!     println!("{loss} {norm}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The forward pass is the one of inference ([`Backend`](crate::backend::Backend)), the backward pass is
//! [`Train`](crate::backend::Train)'s. Same weights, pictures and seed give the same bits for any number of threads.
#![forbid(unsafe_code)]

mod augment;
mod block;
mod builder;
mod config;
mod decoder;
mod ema;
mod encoder;
mod export;
#[cfg(feature = "finetune-files")]
pub mod files;
mod images;
mod layers;
mod loss;
mod masks;
mod optimiser;
mod parameters;
pub mod probe;
mod rng;
#[cfg(feature = "finetune-files")]
pub mod run;
mod schedule;
mod state;
mod student;
mod teacher;
mod trainer;

pub use augment::Augmentation;
pub use config::{AlignConfig, Objective};
pub use decoder::DecoderConfig;
pub use ema::EmaConfig;
pub use encoder::HeadKind;
pub use images::Images;
pub use loss::Loss;
pub use masks::{MaskKind, MaskSampler, Masks};
pub use optimiser::{AdamwConfig, Decay};
pub use parameters::{Gradients, Id, Parameter, Parameters};
pub use rng::Rng;
pub use schedule::Schedule;
pub use teacher::Teacher;
pub use trainer::{Trainer, Update};
