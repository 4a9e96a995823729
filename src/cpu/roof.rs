//! The machine's limit: multiply-adds that nothing waits for. What a product reaches of it is its fraction of the roof.
#![forbid(unsafe_code)]

use super::Cpu;
use super::isa::Op;
use super::lanes::{Lanes, MAX_PANEL};

/// Chains that are independent of each other: latency times throughput of the widest machines, and few enough for the
/// registers of the narrowest.
const CHAINS: usize = 12;
/// Rounds over all chains in one piece of work.
const ROUNDS: usize = 1 << 16;

impl Cpu {
    /// Runs `pieces` pieces of nothing but independent multiply-adds in registers, on this backend's threads and with its
    /// vectors, and returns the number of floating-point operations (two to a multiply-add and lane). The caller measures
    /// the time; a piece takes some hundred microseconds.
    pub fn multiply_adds(&self, pieces: usize) -> u64 {
        let piece = || self.isa.run(Chains { rounds: ROUNDS });
        self.threads.run(usize::MAX, pieces, &|_, _| {
            core::hint::black_box(piece());
        });
        let lanes = self.isa.run(Width) as u64;
        2 * lanes * (CHAINS * ROUNDS) as u64 * pieces as u64
    }
}

struct Width;

impl Op for Width {
    type Out = usize;

    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) -> usize {
        L::N
    }
}

struct Chains {
    rounds: usize,
}

impl Op for Chains {
    type Out = f32;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> f32 {
        let mut chains: [L::V; CHAINS] = core::array::from_fn(|i| lanes.splat(i as f32));
        let factor = lanes.splat(core::hint::black_box(0.999_999));
        let term = lanes.splat(core::hint::black_box(1e-6));
        for _ in 0..self.rounds {
            for chain in &mut chains {
                *chain = lanes.mul_add(*chain, factor, term);
            }
        }
        let mut out = [0.0; MAX_PANEL];
        chains.into_iter().fold(0.0, |total, chain| {
            lanes.store(chain, &mut out);
            total + out[0]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Isa;

    #[test]
    fn operations_are_counted_for_every_instruction_set() {
        for isa in Isa::available() {
            let cpu = Cpu::with_threads(2).with_isa(isa).unwrap();
            let lanes = isa.run(Width) as u64;
            assert_eq!(cpu.multiply_adds(3), 3 * 2 * lanes * CHAINS as u64 * ROUNDS as u64);
            // x = 0.999999 x + 1e-6 tends to 1 from every start.
            let sum = isa.run(Chains { rounds: 1 << 16 });
            assert!((11.0..80.0).contains(&sum), "{} {sum}", isa.name());
        }
    }
}
