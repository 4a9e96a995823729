//! Calibration: does a score of 0.8 mean right four times in five?

use super::average_precision::Detection;

/// How many bins of equal width the scores 0..=1 are sorted into.
pub const BINS: usize = 10;

/// The predictions whose scores fall into one bin.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bin {
    /// How many predictions.
    pub count: usize,
    /// The mean of their scores; 0 of none.
    pub score: f64,
    /// The share that is correct; 0 of none.
    pub correct: f64,
}

/// Sorts predictions into `BINS` bins, bin `i` holding scores in `i / BINS .. (i + 1) / BINS`, the last one also 1.
/// Scores that are no numbers are left out.
pub fn reliability(detections: &[Detection]) -> [Bin; BINS] {
    let mut bins = [Bin::default(); BINS];
    for detection in detections.iter().filter(|d| !d.score.is_nan()) {
        // The cast saturates, so scores outside 0..=1 fall into the first or the last bin.
        let index = ((f64::from(detection.score) * BINS as f64) as usize).min(BINS - 1);
        let bin = &mut bins[index];
        bin.count += 1;
        bin.score += f64::from(detection.score);
        bin.correct += f64::from(u8::from(detection.correct));
    }
    for bin in bins.iter_mut().filter(|bin| bin.count > 0) {
        bin.score /= bin.count as f64;
        bin.correct /= bin.count as f64;
    }
    bins
}

/// Expected calibration error: the mean over predictions of |mean score - share correct| of their bin (Naeini et al.
/// 2015), in 0..=1; `None` of no predictions.
pub fn expected_calibration_error(bins: &[Bin]) -> Option<f64> {
    let total: usize = bins.iter().map(|bin| bin.count).sum();
    let gap: f64 = bins.iter().map(|bin| bin.count as f64 * (bin.score - bin.correct).abs()).sum();
    (total > 0).then(|| gap / total as f64)
}

#[cfg(test)]
mod tests {
    use super::{Detection, expected_calibration_error, reliability};

    fn list(items: &[(f32, bool)]) -> Vec<Detection> {
        items.iter().map(|&(score, correct)| Detection { score, correct }).collect()
    }

    #[test]
    fn nothing_has_no_error() {
        assert_eq!(expected_calibration_error(&reliability(&[])), None);
        assert_eq!(expected_calibration_error(&reliability(&list(&[(f32::NAN, true)]))), None);
    }

    #[test]
    fn scores_that_keep_their_word_have_none() {
        let bins =
            reliability(&list(&[(1.0, true), (0.75, true), (0.75, true), (0.75, true), (0.75, false)]));
        assert_eq!(expected_calibration_error(&bins), Some(0.0));
        assert_eq!((bins[7].count, bins[9].count), (4, 1), "a score of 1 belongs to the last bin");
    }

    #[test]
    fn the_gaps_are_weighted_by_the_bin() {
        // Bin 9: three at 0.95 of which none is right; bin 0: one at 0.0, wrong, no gap.
        let bins = reliability(&list(&[(0.95, false), (0.95, false), (0.95, false), (0.0, false)]));
        let error = expected_calibration_error(&bins).unwrap();
        assert!((error - 0.75 * f64::from(0.95f32)).abs() < 1e-9, "{error}");
    }

    #[test]
    fn opposite_gaps_of_two_bins_do_not_cancel() {
        let bins = reliability(&list(&[(0.25, true), (0.75, false)]));
        assert_eq!(expected_calibration_error(&bins), Some(0.75));
    }

    #[test]
    fn bins_are_half_open() {
        let bins = reliability(&list(&[(0.5, true), (0.499, false), (-0.5, false), (1.5, true)]));
        assert_eq!((bins[5].count, bins[4].count, bins[0].count, bins[9].count), (1, 1, 1, 1));
    }
}
