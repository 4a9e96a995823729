//! The C ABI of `triplet`. The header `include/triplet.h` is generated from this crate; what a function promises is said
//! there and here in the same words.
//!
//! How it is put together:
//! - every export is one call of `guard` (`guard.rs`): panics stop there, the host's floating-point state is put
//!   back, and what went wrong becomes a status and a message;
//! - handles are serial numbers that are looked up (`registry.rs`), never addresses that are followed;
//! - everything that a caller passes by address goes through `memory.rs`, which checks what can be checked;
//! - structs that a caller fills start with `struct_size` and may grow at their end; the others never change.
#![allow(non_camel_case_types)]

#[cfg(feature = "finetune")]
pub mod align;
pub mod allocator;
mod answered;
pub mod arena;
pub mod ask;
pub mod convert;
mod device;
pub mod event;
mod float_state;
mod guard;
pub mod image;
pub mod last_error;
pub mod mask;
mod memory;
pub mod model;
mod panics;
#[cfg(triplet_planted)]
pub mod planted;
pub mod prompt;
mod registry;
pub mod reply;
pub mod session;
pub mod status;
pub mod target;
mod text;
pub mod threads;
pub mod version;
