//! A moving average of the parameters (timm's `ModelEmaV3`).
#![forbid(unsafe_code)]

use alloc::vec::Vec;

use super::parameters::Parameters;
use crate::backend::{Train, Weight};
use crate::error::Result;

/// How fast the average forgets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EmaConfig {
    /// Share of the old average that an update keeps.
    pub decay: f64,
    /// Whether early updates keep less: `1 - (1 + n)^(-2/3)` where that is below `decay`.
    pub warmup: bool,
}

impl EmaConfig {
    /// The share kept by update `update`, counted from 1; the first one takes the parameters as they are.
    pub fn keeps(&self, update: u64) -> f64 {
        let n = update.saturating_sub(1);
        if n == 0 {
            return 0.0;
        }
        if !self.warmup {
            return self.decay;
        }
        (1.0 - libm::pow(1.0 + n as f64, -2.0 / 3.0)).min(self.decay).max(0.0)
    }
}

/// The average of every parameter.
pub(super) struct Ema<B: Train> {
    pub(super) config: EmaConfig,
    pub(super) weights: Vec<Weight<B>>,
}

impl<B: Train> Ema<B> {
    pub(super) fn new(config: EmaConfig, parameters: &Parameters<B>) -> Ema<B> {
        Ema { config, weights: parameters.iter().map(|parameter| parameter.weight.clone()).collect() }
    }

    /// Follows update `update`, counted from 1.
    pub(super) fn update(&mut self, backend: &B, parameters: &Parameters<B>, update: u64) -> Result<()> {
        let amount = (1.0 - self.config.keeps(update)) as f32;
        for (average, parameter) in self.weights.iter_mut().zip(parameters.iter()) {
            backend.lerp(average, &parameter.weight, amount)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_update_copies_and_warm_up_rises_to_the_decay() {
        let plain = EmaConfig { decay: 0.99, warmup: false };
        assert_eq!([plain.keeps(1), plain.keeps(2)], [0.0, 0.99]);
        let warm = EmaConfig { warmup: true, ..plain };
        assert!((warm.keeps(2) - (1.0 - 2f64.powf(-2.0 / 3.0))).abs() < 1e-12);
        assert!((2..5000).all(|n| warm.keeps(n) <= warm.keeps(n + 1)));
        assert_eq!(warm.keeps(100_000), 0.99);
    }
}
