//! The CPU backend: every operation of [`Backend`](crate::backend::Backend) on one machine's cores.
//!
//! How it is put together:
//! - [`Isa`] names an instruction set; the fastest that the machine has is chosen when a [`Cpu`] is made. An operation is a
//!   generic body over `Lanes` (`lanes.rs`), compiled once for every instruction set and entered through `Isa::run` once
//!   for a row, a tile or a block of rows, never for an element.
//! - Work is cut into pieces whose size depends on the operands' shapes only (`threads.rs`), and every sum has one order,
//!   so the number of threads and the other rows of a batch never change a bit of a row.
//! - Weights are read where they lie, in their type and at any alignment; the blocked product (`product.rs`) converts and
//!   transposes one panel at a time. A few rows, and quantised weights, go by `dots.rs` and `bytes.rs`: products by
//!   row, in the same order.
//!
//! To add an operation: its definition in `crate::reference`, its shape check in `crate::backend::check`, one file here
//! with an `Op`, a test in `tests/ops`. To add an instruction set: one file with `Lanes`, one with `Bytes` and `Dots`, a variant of
//! [`Isa`].
#![deny(unsafe_code)]

#[cfg(target_endian = "big")]
compile_error!("weights are little endian and used in place; big-endian machines are not supported");

mod activate;
mod add;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
#[allow(unsafe_code)]
mod amx;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
#[allow(unsafe_code)]
mod amx_attention;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
#[allow(unsafe_code)]
mod amx_thirds;
mod attention;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
mod attention_tiles;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
#[allow(unsafe_code)]
mod avx2;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
#[allow(unsafe_code)]
mod avx2_dots;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
#[allow(unsafe_code)]
mod avx512;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
#[allow(unsafe_code)]
mod avx512_bytes;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
#[allow(unsafe_code)]
mod avx512_dots;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
#[allow(unsafe_code)]
mod avx512_panels;
mod backend;
#[allow(unsafe_code)]
mod blocks;
// Without vectors only the vocabulary is used.
#[cfg_attr(
    not(any(all(target_arch = "x86_64", target_feature = "sse2"), target_arch = "aarch64")),
    allow(dead_code)
)]
mod bytes;
mod cache;
mod conv2d;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
mod conv2d_thirds;
#[cfg(feature = "std")]
#[allow(unsafe_code)]
mod crew;
mod depthwise;
mod digits;
mod dots;
mod embedding;
mod finish;
mod group_norm;
#[allow(unsafe_code)]
mod isa;
mod lanes;
mod layer_norm;
mod mat;
mod maths;
mod matvec;
#[cfg(all(target_arch = "aarch64", target_feature = "neon", not(miri)))]
#[allow(unsafe_code)]
mod neon;
#[cfg(all(target_arch = "aarch64", target_feature = "neon", not(miri)))]
#[allow(unsafe_code)]
mod neon_dots;
mod packed;
mod packed_int8;
mod portable;
mod portable_dots;
mod product;
mod product_int4;
mod product_int8;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
mod product_thirds;
mod quantise;
mod resize;
mod rms_norm;
mod roof;
mod room;
mod rope;
mod softmax;
mod threads;
#[cfg(feature = "finetune")]
mod train;

use alloc::format;
#[cfg(feature = "std")]
use alloc::sync::Arc;

pub use isa::Isa;
pub use mat::Stored;
pub use packed::Packed;
pub use packed_int8::PackedInt8;
#[cfg(feature = "std")]
pub use threads::ParallelFor;

use crate::arena::Arena;
use crate::error::{Error, Result};
use threads::Threads;

/// The CPU backend: an instruction set, a pool of threads and an arena. Cheap to clone; clones share pool and arena.
#[derive(Clone)]
pub struct Cpu {
    isa: Isa,
    threads: Threads,
    arena: Arena,
    poison: bool,
    /// Activations stay `f32` where weights are quantised.
    exact: bool,
    /// Linear layers are packed when they are loaded.
    packs: bool,
}

impl Cpu {
    /// The machine's fastest instruction set on all its cores (one thread without the `std` feature).
    ///
    /// Under `std` the environment variable `TRIPLET_ISA` asks for another instruction set by its [`Isa::name`]; one that the
    /// machine lacks is ignored, see [`Cpu::isa`].
    pub fn new() -> Cpu {
        Cpu::with_threads(threads::cores())
    }

    /// As [`Cpu::new`] with `threads` threads. 0 counts as 1, and threads that the system refuses to start leave the
    /// calling thread alone, see [`Cpu::threads`].
    pub fn with_threads(threads: usize) -> Cpu {
        Cpu::on(Threads::new(threads))
    }

    /// As [`Cpu::new`] on threads of the caller's, which are asked for every operation that is worth sharing.
    #[cfg(feature = "std")]
    pub fn with_parallel_for(threads: Arc<dyn ParallelFor>) -> Cpu {
        Cpu::on(Threads::of_caller(threads))
    }

    /// The same threads with another instruction set.
    ///
    /// # Errors
    /// [`Error::Input`] where the machine lacks it.
    pub fn with_isa(self, isa: Isa) -> Result<Cpu> {
        if !isa.is_available() {
            return Err(Error::Input { field: "isa", reason: format!("this machine has no {}", isa.name()) });
        }
        Ok(Cpu { isa, ..self })
    }

    fn on(threads: Threads) -> Cpu {
        Cpu {
            isa: preferred_isa(),
            threads,
            arena: Arena::pooled(Arena::POOLED),
            poison: false,
            exact: false,
            packs: false,
        }
    }

    /// The same instruction set and threads with memory from `arena`. Weights are no part of it.
    ///
    /// With [`Arena::measuring`] no operation computes, but each takes the memory that it would: see
    /// [`Model::memory`](crate::Model::memory).
    pub fn in_arena(&self, arena: Arena) -> Cpu {
        Cpu { arena, ..self.clone() }
    }

    /// With `exact`, quantised weights are multiplied as the numbers that they stand for, by activations in `f32`; otherwise,
    /// and by default, activations are quantised as well, which is several times faster: for weights of eight bits to eight
    /// bits with a scale for each row, or sixteen where it has outliers; for weights of four to eight bits with a scale for each
    /// [`GROUP`](crate::weights::GROUP).
    pub fn with_exact_activations(self, exact: bool) -> Cpu {
        Cpu { exact, ..self }
    }

    /// With `packed`, the weights of linear layers in `f32` and in eight bits, and of dense convolutions in `f32`, are copied when
    /// they are loaded, in the order in which products read them for this instruction set: products of more than a few rows in `f32`
    /// then take about 0.8 times as long, and 0.6 times with [`Isa::Avx512Amx`], whose matrix unit multiplies them. The copies take as
    /// much memory as the tensors, which stay mapped. The bits of the results are the same but for the matrix unit, whose sums have
    /// another order: they are as exact.
    ///
    /// [`Memory::packed`](crate::session::Memory::packed) says how much they take; of a model that is opened on this backend
    /// [in an arena](Cpu::in_arena) that is [measuring](Arena::measuring), without making them.
    pub fn with_packed_weights(self, packed: bool) -> Cpu {
        Cpu { packs: packed, ..self }
    }

    /// Where copies of weights lie: the heap; where sizes are measured, nowhere.
    fn for_copies(&self) -> &Arena {
        if self.arena.is_measuring() { &self.arena } else { &Arena::HEAP }
    }

    /// For tests: outputs start as NaN instead of zeros, and [`Cpu::CANARY`] more elements follow every matrix, so that an
    /// element left unwritten and a write past the end both show.
    pub fn poisoned(self) -> Cpu {
        Cpu { poison: true, ..self }
    }

    /// Elements after the end of a matrix of a [`Cpu::poisoned`] backend; all are NaN.
    pub const CANARY: usize = 64;

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The number of threads in use.
    pub fn threads(&self) -> usize {
        self.threads.count()
    }
}

impl Default for Cpu {
    fn default() -> Cpu {
        Cpu::new()
    }
}

#[cfg(feature = "std")]
fn preferred_isa() -> Isa {
    let wanted = std::env::var("TRIPLET_ISA").ok().and_then(|name| Isa::from_name(&name));
    wanted.filter(|isa| isa.is_available()).unwrap_or_else(Isa::best)
}

#[cfg(not(feature = "std"))]
fn preferred_isa() -> Isa {
    Isa::best()
}
