//! Compares a kernel's output with the reference.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::string::String;

/// How far a kernel may be off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Norm of the difference over norm of the expectation.
    pub norm: f64,
    /// Largest difference of an element over the largest magnitude expected anywhere.
    pub element: f64,
}

impl Tolerance {
    /// Equal but for the rounding of the expectation to `f32`.
    pub const EXACT: Tolerance = Tolerance { norm: 6e-8, element: 6e-8 };
}

/// What was measured, both as in [`Tolerance`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// Norm of the difference over norm of the expectation.
    pub norm: f64,
    /// Largest difference of an element over the largest magnitude expected anywhere.
    pub element: f64,
    /// Where that element is.
    pub at: usize,
}

/// Compares `got` with `want`.
///
/// A NaN is expected exactly where `want` is NaN and an infinity exactly where `want` rounds to it in `f32`; all other
/// elements must be finite and within both bounds. Where everything expected is 0, nothing but 0 passes.
///
/// # Errors
/// What is wrong and where.
pub fn compare(got: &[f32], want: &[f64], tolerance: Tolerance) -> Result<Difference, String> {
    if got.len() != want.len() {
        return Err(format!("{} elements where {} are expected", got.len(), want.len()));
    }
    let mut difference = Difference { norm: 0.0, element: 0.0, at: 0 };
    let (mut largest, mut size, mut squares, mut worst) = (0.0f64, 0.0f64, 0.0f64, 0.0f64);
    for (at, (&got, &want)) in got.iter().zip(want).enumerate() {
        let special = want.is_nan() || (want as f32).is_infinite();
        let agrees = if want.is_nan() { got.is_nan() } else { !special || got == want as f32 };
        if !agrees || (!special && !got.is_finite()) {
            return Err(format!("element {at} is {got} where {want} is expected"));
        }
        if special {
            continue;
        }
        let error = (f64::from(got) - want).abs();
        if error > worst {
            (worst, difference.at) = (error, at);
        }
        largest = largest.max(want.abs());
        size += want * want;
        squares += error * error;
    }
    if worst > 0.0 {
        difference.element = worst / largest;
        difference.norm = libm::sqrt(squares / size);
    }
    // Written so that a NaN of 0 / 0 fails.
    if difference.norm <= tolerance.norm && difference.element <= tolerance.element {
        return Ok(difference);
    }
    let Difference { norm, element, at } = difference;
    Err(format!(
        "relative error {norm:.2e} (at most {:.0e}), worst element {at}: {} where {} is expected, {element:.2e} of the \
         largest (at most {:.0e})",
        tolerance.norm, got[at], want[at], tolerance.element
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    const TOLERANCE: Tolerance = Tolerance { norm: 1e-5, element: 1e-4 };

    fn sample() -> (Vec<f32>, Vec<f64>) {
        let mut got: Vec<f32> = (0..1000).map(|i| (i as f32 * 0.37).rem_euclid(2.0) - 1.0).collect();
        got[17] = 0.0;
        got[40] = 1.0;
        let want = got.iter().map(|&x| f64::from(x)).collect();
        (got, want)
    }

    #[test]
    fn equal_passes() {
        let (got, want) = sample();
        assert_eq!(compare(&got, &want, TOLERANCE), Ok(Difference { norm: 0.0, element: 0.0, at: 0 }));
        assert!(compare(&[], &[], TOLERANCE).is_ok());
    }

    #[test]
    fn one_element_off_by_twice_the_tolerance_fails() {
        let (mut got, want) = sample();
        got[500] += 2e-4;
        assert!(compare(&got, &want, TOLERANCE).is_err());
    }

    #[test]
    fn an_error_where_zero_is_expected_fails() {
        let (mut got, want) = sample();
        got[17] = 2e-4;
        assert!(compare(&got, &want, TOLERANCE).is_err());
        assert!(compare(&[1e-30], &[0.0], TOLERANCE).is_err());
        assert!(compare(&[0.0], &[0.0], TOLERANCE).is_ok());
    }

    #[test]
    fn many_small_errors_fail() {
        let (mut got, want) = sample();
        got.iter_mut().for_each(|x| *x += 5e-5);
        assert!(compare(&got, &want, TOLERANCE).is_err());
    }

    #[test]
    fn nan_and_unwritten_elements_fail() {
        let (got, want) = sample();
        for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut got = got.clone();
            got[3] = poison;
            assert!(compare(&got, &want, TOLERANCE).is_err());
        }
        assert!(compare(&got[1..], &want, TOLERANCE).is_err());
    }

    #[test]
    fn expected_nan_and_infinity_must_be_met() {
        let (mut got, mut want) = sample();
        want[5] = f64::NAN;
        want[6] = f64::NEG_INFINITY;
        assert!(compare(&got, &want, TOLERANCE).is_err());
        got[5] = f32::NAN;
        assert!(compare(&got, &want, TOLERANCE).is_err());
        got[6] = f32::INFINITY;
        assert!(compare(&got, &want, TOLERANCE).is_err());
        got[6] = f32::NEG_INFINITY;
        assert!(compare(&got, &want, TOLERANCE).is_ok());
    }
}
