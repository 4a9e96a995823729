//! Random numbers that a seed fixes: SplitMix64 (Steele, Lea, Flood 2014).
#![forbid(unsafe_code)]

/// A stream of random numbers; its whole state is one number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rng(u64);

impl Rng {
    /// The stream of a seed, or the rest of the stream that had this [`Rng::state`].
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// What [`Rng::new`] takes to go on from here.
    pub fn state(&self) -> u64 {
        self.0
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform over `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform over `[low, high)`.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Uniform over `0..end`; 0 where `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.bits()) * end as u128) >> 64) as usize
    }

    /// Normal with mean 0 and variance 1 (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.unit()));
        radius * libm::cos(2.0 * core::f64::consts::PI * self.unit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_bounds() {
        let mut rng = Rng::new(1);
        let count = 100_000;
        let mut sums = [0.0; 3];
        for _ in 0..count {
            let (unit, normal) = (rng.unit(), rng.normal());
            assert!((0.0..1.0).contains(&unit) && rng.below(7) < 7 && rng.below(1) == 0);
            sums = [sums[0] + unit, sums[1] + normal, sums[2] + normal * normal];
        }
        let [unit, mean, square] = sums.map(|sum| sum / f64::from(count));
        assert!((unit - 0.5).abs() < 0.005 && mean.abs() < 0.02 && (square - 1.0).abs() < 0.02);
    }

    #[test]
    fn a_state_goes_on_where_it_was_taken() {
        let mut rng = Rng::new(5);
        rng.bits();
        let mut copy = Rng::new(rng.state());
        assert_eq!(rng.bits(), copy.bits());
        assert_ne!(Rng::new(1).bits(), Rng::new(2).bits());
    }
}
