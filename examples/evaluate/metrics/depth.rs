//! Depth accuracy: the share of pixels within a factor of 1.25 (Eigen et al. 2014, "delta < 1.25").

/// The factor that separates right from wrong.
pub const FACTOR: f64 = 1.25;

/// The share of the selected pixels where max(p / t, t / p) < 1.25, in 0..=1; `None` when no selected pixel has a true
/// depth.
///
/// Pixels whose true depth is not a positive number are left out. A predicted depth that is missing, not a positive
/// number or of another size is wrong. Both maps are metres, row-major.
pub fn within_factor(
    truth: &[f32],
    predicted: Option<&[f32]>,
    selected: impl Fn(usize) -> bool,
) -> Option<f64> {
    let predicted = predicted.filter(|map| map.len() == truth.len());
    let (mut right, mut count) = (0usize, 0usize);
    for (index, &t) in truth.iter().enumerate() {
        if !(t.is_finite() && t > 0.0 && selected(index)) {
            continue;
        }
        count += 1;
        if let Some(&p) = predicted.and_then(|map| map.get(index)) {
            let (p, t) = (f64::from(p), f64::from(t));
            right += usize::from(p > 0.0 && (p / t).max(t / p) < FACTOR);
        }
    }
    (count > 0).then(|| right as f64 / count as f64)
}

#[cfg(test)]
mod tests {
    use super::within_factor;

    #[test]
    fn the_factor_is_open_and_works_both_ways() {
        let truth = [4.0, 4.0, 4.0, 4.0, 5.0, 4.0];
        let guess = [4.0, 4.9, 5.0, 3.3, 4.0, -1.0];
        assert_eq!(within_factor(&truth, Some(&guess), |_| true), Some(3.0 / 6.0));
    }

    #[test]
    fn undefined_truth_and_unselected_pixels_are_left_out() {
        let truth = [f32::NAN, 2.0, 2.0, 0.0];
        assert_eq!(within_factor(&truth, Some(&[1.0, 2.0, 9.0, 1.0]), |i| i != 2), Some(1.0));
        assert_eq!(within_factor(&truth, Some(&[1.0; 4]), |i| i == 0), None);
    }

    #[test]
    fn a_missing_answer_is_zero() {
        assert_eq!(within_factor(&[1.0, 1.0], None, |_| true), Some(0.0));
        assert_eq!(within_factor(&[1.0, 1.0], Some(&[1.0]), |_| true), Some(0.0), "another size");
        assert_eq!(within_factor(&[1.0, 1.0], Some(&[f32::NAN, 1.0]), |_| true), Some(0.5));
    }
}
