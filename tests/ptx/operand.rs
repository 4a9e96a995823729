//! Operands in the interpreter's memory, and the comparison of what a kernel made of them.

use triplet::backend::Activation;
use triplet::reference::{Tolerance, bytes, compare, uniform};
use triplet::weights::Dtype;

use super::launch::Arg;
use super::memory::Memory;

/// The types of stored operands with their codes.
pub const TYPES: [(Dtype, usize); 3] = [(Dtype::F32, 0), (Dtype::F16, 1), (Dtype::Bf16, 2)];

/// The activations by code.
pub const ACTIVATIONS: [Activation; 8] = [
    Activation::Identity,
    Activation::Relu,
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::QuickGelu,
    Activation::Silu,
    Activation::Sigmoid,
    Activation::Tanh,
];

/// A stored operand: its address, its type's code, what it stands for.
pub struct Stored {
    /// Where it is; 0 where it is absent.
    pub address: u64,
    /// Code of its type.
    pub code: usize,
    /// Its numbers.
    pub numbers: Vec<f32>,
}

impl Stored {
    /// Random numbers of a type; `skewed` puts it where only its own alignment holds.
    pub fn new(
        memory: &Memory,
        len: usize,
        seed: u64,
        (dtype, code): (Dtype, usize),
        skewed: bool,
    ) -> Stored {
        let (stored, numbers) = bytes(&uniform(len, seed), dtype);
        let skew = if skewed { dtype.size() } else { 0 };
        Stored { address: memory.bytes(&stored, skew), code, numbers }
    }

    /// An operand that is not there.
    pub fn absent() -> Stored {
        Stored { address: 0, code: 0, numbers: Vec::new() }
    }

    /// Its address as a parameter.
    pub fn at(&self) -> Arg {
        Arg::Address(self.address)
    }

    /// Its type as a parameter.
    pub fn kind(&self) -> Arg {
        Arg::Number(self.code)
    }

    /// Its numbers, where it is there.
    pub fn some(&self) -> Option<&[f32]> {
        (self.address != 0).then_some(&self.numbers[..])
    }
}

/// Room for an output of `len` elements.
pub fn output(memory: &Memory, len: usize) -> u64 {
    memory.room(4 * len, 0)
}

/// Compares an output with what is expected.
///
/// # Errors
/// What is wrong, after `case`.
pub fn check(
    memory: &Memory,
    out: u64,
    want: &[f64],
    tolerance: Tolerance,
    case: &str,
) -> Result<(), String> {
    let got = memory.read_f32(out, want.len()).map_err(|what| format!("{case}: {what}"))?;
    compare(&got, want, tolerance).map(|_| ()).map_err(|what| format!("{case}: {what}"))
}
