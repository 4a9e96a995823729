//! How sure the model was of a triplet.
#![forbid(unsafe_code)]

use crate::trp::answer::Triplet;

/// Natural logarithm of the probability that the model, unmasked and at temperature 1, gave to `id`: log-softmax of
/// `logits`, accumulated in f64. NaN where `id` is outside or the logits are not finite at their largest.
pub fn log_probability(logits: &[f32], id: u32) -> f32 {
    let Some(&logit) = logits.get(id as usize) else { return f32::NAN };
    if logits.iter().any(|value| value.is_nan()) {
        return f32::NAN;
    }
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if !largest.is_finite() {
        return f32::NAN;
    }
    let sum: f64 = logits.iter().map(|&value| libm::exp(f64::from(value) - f64::from(largest))).sum();
    (f64::from(logit) - f64::from(largest) - libm::log(sum)) as f32
}

/// Geometric mean of the probabilities of the triplet's phrase, unit and `<REF>` tokens, in 0..=1.
///
/// `log_probabilities` holds one [`log_probability`] for each id that was parsed, NaN for ids that were given instead
/// of generated; the score is NaN where any of them counts, where a place is outside, or where the triplet has no
/// token at all.
pub fn triplet_score(triplet: &Triplet, log_probabilities: &[f32]) -> f32 {
    let places = triplet
        .phrase_tokens
        .clone()
        .chain(triplet.unit_tokens.clone())
        .chain(triplet.references.iter().map(|reference| reference.position));
    let (mut sum, mut count) = (0.0f64, 0u32);
    for place in places {
        sum += log_probabilities.get(place).copied().map_or(f64::NAN, f64::from);
        count += 1;
    }
    if count == 0 { f32::NAN } else { libm::exp(sum / f64::from(count)) as f32 }
}
