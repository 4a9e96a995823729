//! The five losses and their derivatives by the prediction. Sums run in f64 in the order of the rows.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use crate::error::{Error, Result};

/// What is compared with the teacher's tokens. Means run over all tokens and channels, masked or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Mean of `(x - y)^2`.
    Mse,
    /// 1 less the mean cosine of the angle between token and target.
    Cosine,
    /// Mean of `|x - y|`.
    L1,
    /// Squares at tokens whose patch is not kept; the others count as 0.
    MaskedMse,
    /// Squares at tokens whose patch is kept; the others count as 0.
    UnmaskedMse,
}

impl Loss {
    /// Loss and derivative of `prediction` and `target`, rows of `width` numbers. `kept` has a value a row: whether the
    /// token's patch was kept; prefix tokens count as masked for [`Loss::MaskedMse`] and as kept for [`Loss::UnmaskedMse`]
    /// (`None`), so they always weigh in.
    ///
    /// # Errors
    /// [`Error::Shape`] where the lengths do not fit.
    pub fn evaluate(
        self,
        prediction: &[f32],
        target: &[f32],
        width: usize,
        kept: &[Option<bool>],
    ) -> Result<(f64, Vec<f32>)> {
        if prediction.len() != target.len() || kept.len().checked_mul(width) != Some(prediction.len()) {
            let (a, b, rows) = (prediction.len(), target.len(), kept.len());
            let reason = format!("{a} numbers and {b} targets for {rows} rows of {width}");
            return Err(Error::Shape { operand: "loss.prediction", reason });
        }
        let count = prediction.len().max(1) as f64;
        let mut gradient = vec![0.0f32; prediction.len()];
        let mut sum = 0.0;
        let rows = prediction.chunks_exact(width.max(1)).zip(target.chunks_exact(width.max(1)));
        for ((x, y), (kept, out)) in rows.zip(kept.iter().zip(gradient.chunks_exact_mut(width.max(1)))) {
            let weighs = match self {
                Loss::MaskedMse => *kept != Some(true),
                Loss::UnmaskedMse => *kept != Some(false),
                _ => true,
            };
            if !weighs {
                continue;
            }
            sum += match self {
                Loss::Cosine => cosine(x, y, kept_share(count, width), out),
                Loss::L1 => absolute(x, y, count, out),
                Loss::Mse | Loss::MaskedMse | Loss::UnmaskedMse => squares(x, y, count, out),
            };
        }
        let loss = match self {
            Loss::Cosine => 1.0 - sum / kept_share(count, width),
            _ => sum / count,
        };
        Ok((loss, gradient))
    }
}

/// Number of rows.
fn kept_share(count: f64, width: usize) -> f64 {
    count / width.max(1) as f64
}

fn squares(x: &[f32], y: &[f32], count: f64, out: &mut [f32]) -> f64 {
    let mut sum = 0.0;
    for ((&x, &y), out) in x.iter().zip(y).zip(out) {
        let difference = f64::from(x) - f64::from(y);
        *out = (2.0 * difference / count) as f32;
        sum += difference * difference;
    }
    sum
}

fn absolute(x: &[f32], y: &[f32], count: f64, out: &mut [f32]) -> f64 {
    let mut sum = 0.0;
    for ((&x, &y), out) in x.iter().zip(y).zip(out) {
        let difference = f64::from(x) - f64::from(y);
        let sign = f64::from(u8::from(difference > 0.0)) - f64::from(u8::from(difference < 0.0));
        *out = (sign / count) as f32;
        sum += if difference.is_nan() { difference } else { sign * difference };
    }
    sum
}

/// The cosine of two rows, lengths below 1e-8 counting as 1e-8 (PyTorch); the derivative of its negative over `rows`.
fn cosine(x: &[f32], y: &[f32], rows: f64, out: &mut [f32]) -> f64 {
    const LEAST: f64 = 1e-8;
    let dot =
        |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum() };
    let (x_length, y_length) = (libm::sqrt(dot(x, x)), libm::sqrt(dot(y, y)));
    let (a, b) = (x_length.max(LEAST), y_length.max(LEAST));
    let product = dot(x, y);
    let cosine = product / (a * b);
    // A length that counts as 1e-8 does not change with x.
    let along = if x_length > LEAST { cosine / (a * a) } else { 0.0 };
    for ((&x, &y), out) in x.iter().zip(y).zip(out) {
        *out = (-(f64::from(y) / (a * b) - along * f64::from(x)) / rows) as f32;
    }
    cosine
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::uniform;

    const ALL: [Loss; 5] = [Loss::Mse, Loss::Cosine, Loss::L1, Loss::MaskedMse, Loss::UnmaskedMse];

    #[test]
    fn derivatives_agree_with_differences() {
        let (width, kept) = (5, [None, Some(true), Some(false), Some(true), Some(false), None]);
        let lattice = |seed| -> Vec<f32> {
            uniform(width * kept.len(), seed).iter().map(|x| (x * 4096.0).round() / 4096.0).collect()
        };
        let (x, y) = (lattice(1), lattice(2));
        let h = 1.0 / 512.0;
        for loss in ALL {
            let (_, gradient) = loss.evaluate(&x, &y, width, &kept).unwrap();
            let at = |i: usize, step: f32| {
                let mut moved = x.clone();
                moved[i] += step;
                loss.evaluate(&moved, &y, width, &kept).unwrap().0
            };
            for (i, &got) in gradient.iter().enumerate() {
                let near = at(i, h) - at(i, -h);
                let far = at(i, 2.0 * h) - at(i, -2.0 * h);
                let want = (8.0 * near - far) / (12.0 * f64::from(h));
                assert!((f64::from(got) - want).abs() < 3e-8, "{loss:?} {i}: {got} {want}");
            }
        }
    }

    #[test]
    fn values_by_hand() {
        let kept = [None, Some(true), Some(false)];
        let (x, y) = ([3.0, 4.0, 1.0, 0.0, 0.0, 2.0], [0.0, 0.0, 0.0, 1.0, 0.0, 1.0]);
        let value = |loss: Loss| loss.evaluate(&x, &y, 2, &kept).unwrap().0;
        assert_eq!(value(Loss::Mse), 28.0 / 6.0);
        assert_eq!(value(Loss::L1), 10.0 / 6.0);
        // The prefix token weighs in both.
        assert_eq!(value(Loss::MaskedMse), 26.0 / 6.0);
        assert_eq!(value(Loss::UnmaskedMse), 27.0 / 6.0);
        assert!((value(Loss::Cosine) - 2.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn a_nan_is_seen_and_lengths_are_checked() {
        for loss in ALL {
            let (value, _) = loss.evaluate(&[f32::NAN, 1.0], &[1.0, 1.0], 2, &[None]).unwrap();
            assert!(value.is_nan(), "{loss:?}");
            assert!(matches!(loss.evaluate(&[1.0], &[1.0], 2, &[None]), Err(Error::Shape { .. })));
        }
    }
}
