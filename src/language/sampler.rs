//! Choosing the next token: greedy, or drawn after temperature, top-k and top-p, among the tokens that are allowed.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::vec::Vec;

use super::Llama;
use crate::backend::select::{Draw, all_finite, choose};
use crate::backend::{Backend, SelectToken, Selected, View};
use crate::error::{Error, Result};
use crate::trp::TokenMask;
use crate::words::Decimal;

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the likeliest token, the lowest id among equals.
    pub temperature: f32,
    /// Keeps the `top_k` likeliest tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the likeliest tokens until their probabilities (after temperature and top-k) reach `top_p`, in (0, 1].
    pub top_p: f32,
    /// Start of the random sequence; the same seed gives the same answer.
    pub seed: u64,
}

impl Sampling {
    /// The likeliest token at every step.
    pub const GREEDY: Sampling = Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0 };

    /// The reference's default: temperature 0.1, top-p 0.75, top-k 40.
    pub const fn reference(seed: u64) -> Sampling {
        Sampling { temperature: 0.1, top_k: 40, top_p: 0.75, seed }
    }

    fn check(&self) -> Result<()> {
        let reason = if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            format!("temperature {} must be finite and not negative", Decimal(self.temperature.into()))
        } else if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            format!("top_p {} must lie in (0, 1]", Decimal(self.top_p.into()))
        } else {
            return Ok(());
        };
        Err(Error::Input { field: "sampling", reason })
    }
}

impl Default for Sampler {
    /// Greedy.
    fn default() -> Sampler {
        let sampling = Sampling::GREEDY;
        Sampler { sampling, random: SplitMix64(sampling.seed), candidates: Vec::new() }
    }
}

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling::GREEDY
    }
}

/// Chooses tokens from logits; holds the state of the random sequence.
pub struct Sampler {
    sampling: Sampling,
    random: SplitMix64,
    candidates: Vec<(u32, f32)>,
}

impl Sampler {
    /// A sampler at the start of its random sequence.
    ///
    /// # Errors
    /// [`Error::Input`] `sampling` where a parameter is out of range.
    pub fn new(sampling: Sampling) -> Result<Sampler> {
        sampling.check()?;
        Ok(Sampler { sampling, random: SplitMix64(sampling.seed), candidates: Vec::new() })
    }

    /// Begins another random sequence, with the memory of the last one.
    ///
    /// # Errors
    /// As [`Sampler::new`].
    pub fn restart(&mut self, sampling: Sampling) -> Result<()> {
        sampling.check()?;
        (self.sampling, self.random) = (sampling, SplitMix64(sampling.seed));
        Ok(())
    }

    /// Chooses among the ids for which `allowed` is true; `None` where there is none.
    ///
    /// # Errors
    /// [`Error::NonFinite`] `llm.lm_head` where a logit is NaN or infinite.
    pub fn choose(&mut self, logits: &[f32], allowed: impl Fn(u32) -> bool) -> Result<Option<u32>> {
        if !all_finite(logits) {
            return Err(Sampler::not_finite());
        }
        let Sampling { temperature, top_k, top_p, .. } = self.sampling;
        let draw = Draw { temperature, top_k, top_p };
        Ok(choose(logits, allowed, draw, || self.random.uniform(), &mut self.candidates))
    }

    /// Chooses where the logits are, among the ids of `allowed`: the id and its log-probability among all; `None` where no id is
    /// allowed. The same choice, with the same random numbers, as [`Sampler::choose`] makes. `hidden` is what the logits were made of.
    ///
    /// # Errors
    /// [`Error::NonFinite`] `llm` where a hidden state is NaN or infinite; as [`Sampler::choose`]; the backend's own.
    pub fn select<B: Backend>(
        &mut self,
        backend: &B,
        hidden: View<B>,
        logits: View<B>,
        allowed: &TokenMask,
    ) -> Result<Option<(u32, f32)>> {
        let Sampling { temperature, top_k, top_p, .. } = self.sampling;
        let uniform = if temperature == 0.0 { 0.0 } else { self.random.uniform() };
        let allowed = allowed.words();
        let candidates = &mut self.candidates;
        let mut select = SelectToken { allowed, temperature, top_k, top_p, uniform, candidates };
        match backend.select_finite(hidden, logits, &mut select)? {
            Some(Selected::Token { id, log_probability }) => Ok(Some((id, log_probability))),
            Some(Selected::Nothing) => Ok(None),
            Some(Selected::NotFinite) => Err(Sampler::not_finite()),
            None => Err(Llama::<B>::not_finite()),
        }
    }

    fn not_finite() -> Error {
        Error::NonFinite { module: "llm.lm_head".into() }
    }
}

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
struct SplitMix64(u64);

impl SplitMix64 {
    /// Uniform in [0, 1), 53 random bits.
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 6] = [0.5, 2.0, -1.0, 2.0, 1.0, 0.0];

    fn counts(sampling: Sampling, allowed: impl Fn(u32) -> bool + Copy) -> [usize; 6] {
        let mut sampler = Sampler::new(sampling).unwrap();
        let mut counts = [0; 6];
        for _ in 0..20_000 {
            counts[sampler.choose(&LOGITS, allowed).unwrap().unwrap() as usize] += 1;
        }
        counts
    }

    #[test]
    fn greedy_takes_the_lowest_id_among_equals_that_are_allowed() {
        let mut sampler = Sampler::new(Sampling::GREEDY).unwrap();
        assert_eq!(sampler.choose(&LOGITS, |_| true), Ok(Some(1)));
        assert_eq!(sampler.choose(&LOGITS, |id| id == 4 || id == 2), Ok(Some(4)));
        assert_eq!(sampler.choose(&LOGITS, |_| false), Ok(None));
    }

    #[test]
    fn draws_follow_the_softmax() {
        let counts = counts(Sampling { temperature: 2.0, ..Sampling::GREEDY }, |id| id != 3);
        let weights: Vec<f64> =
            (0..6).map(|i| if i == 3 { 0.0 } else { (f64::from(LOGITS[i]) / 2.0).exp() }).collect();
        let total: f64 = weights.iter().sum();
        for (count, weight) in counts.iter().zip(&weights) {
            let expected = 20_000.0 * weight / total;
            assert!((*count as f64 - expected).abs() <= 5.0 * expected.sqrt(), "{counts:?}");
        }
    }

    #[test]
    fn top_k_and_top_p_cut_the_tail() {
        let of = |top_k, top_p| counts(Sampling { temperature: 1.0, top_k, top_p, seed: 9 }, |_| true);
        let alive = |counts: [usize; 6]| counts.map(|count| count > 0);
        assert_eq!(alive(of(2, 1.0)), [false, true, false, true, false, false]);
        assert_eq!(alive(of(3, 1.0)), [false, true, false, true, true, false]);
        // Probabilities: 0.36 twice, 0.13, 0.08, 0.05, 0.02; the token that crosses the limit is kept.
        assert_eq!(alive(of(0, 0.3)), [false, true, false, false, false, false]);
        assert_eq!(alive(of(0, 0.5)), [false, true, false, true, false, false]);
        assert_eq!(alive(of(0, 0.8)), [false, true, false, true, true, false]);
    }

    #[test]
    fn a_seed_fixes_the_sequence() {
        let of = |seed| {
            let mut sampler = Sampler::new(Sampling { temperature: 3.0, seed, ..Sampling::GREEDY }).unwrap();
            (0..50).map(|_| sampler.choose(&LOGITS, |_| true).unwrap().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(of(5), of(5));
        assert_ne!(of(5), of(6));
    }

    #[test]
    fn bad_parameters_and_logits_are_named() {
        for (temperature, top_p) in [(-1.0, 1.0), (f32::NAN, 1.0), (1.0, 0.0), (1.0, 1.5), (1.0, f32::NAN)] {
            let sampling = Sampling { temperature, top_p, ..Sampling::GREEDY };
            assert!(matches!(Sampler::new(sampling), Err(Error::Input { field: "sampling", .. })));
        }
        let mut sampler = Sampler::new(Sampling::GREEDY).unwrap();
        let broken = sampler.choose(&[0.0, f32::NAN], |_| true);
        assert_eq!(broken, Err(Error::NonFinite { module: "llm.lm_head".into() }));
    }
}
