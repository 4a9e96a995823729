//! `triplet`: ask a picture in words, get geometry back.
//!
//! An image and a question go in; triplets of *concept, decoding type, targets* come out, each target a box, a mask,
//! 17 keypoints or a depth map in pixels of the caller's image. The library implements REF-VLM's Triplet-Based
//! Referring Paradigm (arXiv 2503.07413).
#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

pub mod arena;
pub mod backend;
pub mod checked;
pub mod config;
pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod device;
pub mod error;
mod few;
#[cfg(feature = "finetune")]
pub mod finetune;
pub mod heads;
pub mod image;
mod json;
pub mod language;
pub mod model;
pub mod nn;
pub mod reference;
pub mod reply;
pub mod session;
mod sort;
mod table;
pub mod text;
pub mod trp;
pub mod vision;
pub mod weights;
mod words;

pub use cpu::Cpu;
#[cfg(feature = "cuda")]
pub use cuda::Cuda;
pub use error::{Error, Result};
pub use model::Model;
pub use session::Session;

/// The README's example, compiled with the documentation tests.
#[cfg(all(doctest, feature = "std"))]
#[doc = include_str!("../README.md")]
struct Readme;
