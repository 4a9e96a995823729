//! What a probe's predictions are worth: recall, intersection over union and average precision, all averaged over classes.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use crate::error::{Error, Result};

/// Counts of every class, at the threshold 1/2 of the probability: a logit above 0 is a yes. Logits and labels are kept for
/// what needs no threshold, eight bytes a prediction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Score {
    counts: Vec<Counts>,
    /// Logit and label of every row, class by class.
    kept: Vec<Vec<(f32, bool)>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counts {
    hit: u64,
    missed: u64,
    wrong: u64,
}

impl Score {
    /// No predictions yet.
    pub fn new(classes: usize) -> Score {
        Score { counts: vec![Counts::default(); classes], kept: vec![Vec::new(); classes] }
    }

    /// Adds predictions and labels, `[rows, classes]` both.
    ///
    /// # Errors
    /// [`Error::Shape`] where their lengths differ or are no whole rows.
    pub fn add(&mut self, logits: &[f32], labels: &[bool]) -> Result<()> {
        let classes = self.counts.len();
        if logits.len() != labels.len() || classes == 0 || !logits.len().is_multiple_of(classes) {
            let reason = format!("{} logits, {} labels, {classes} classes", logits.len(), labels.len());
            return Err(Error::Shape { operand: "score.logits", reason });
        }
        for (logits, labels) in logits.chunks_exact(classes).zip(labels.chunks_exact(classes)) {
            let classes = self.counts.iter_mut().zip(&mut self.kept);
            for ((&logit, &label), (counts, kept)) in logits.iter().zip(labels).zip(classes) {
                kept.push((logit, label));
                match (logit > 0.0, label) {
                    (true, true) => counts.hit += 1,
                    (false, true) => counts.missed += 1,
                    (true, false) => counts.wrong += 1,
                    (false, false) => {}
                }
            }
        }
        Ok(())
    }

    /// Share of the labels that were found, the mean of the classes that have any; 0 without labels.
    pub fn macro_recall(&self) -> f64 {
        self.mean(|counts| counts.hit + counts.missed)
    }

    /// Intersection over union of predictions and labels, the mean of the classes that have labels; 0 without labels.
    pub fn miou(&self) -> f64 {
        self.mean(|counts| counts.hit + counts.missed + counts.wrong)
    }

    /// Average precision, the mean of the classes that have labels; 0 without labels. Rows are taken from the largest logit
    /// down (equal ones together, NaN last): it is the mean over the labels of the share of labels among the rows taken by
    /// then. It needs no threshold, and so tells encoders apart where hardly any probability reaches 1/2.
    pub fn average_precision(&self) -> f64 {
        let sum: f64 = self.kept.iter().map(|kept| precision(kept)).sum();
        if self.present() == 0 { 0.0 } else { sum / self.present() as f64 }
    }

    /// Classes that have labels.
    pub fn present(&self) -> usize {
        self.counts.iter().filter(|counts| counts.hit + counts.missed > 0).count()
    }

    fn mean(&self, all: impl Fn(&Counts) -> u64) -> f64 {
        let present = self.counts.iter().filter(|counts| counts.hit + counts.missed > 0);
        let sum: f64 = present.map(|counts| counts.hit as f64 / all(counts) as f64).sum();
        if self.present() == 0 { 0.0 } else { sum / self.present() as f64 }
    }
}

/// The average precision of a class; 0 without labels.
fn precision(rows: &[(f32, bool)]) -> f64 {
    let mut rows: Vec<(f32, bool)> =
        rows.iter().map(|&(x, label)| (if x.is_nan() { f32::NEG_INFINITY } else { x }, label)).collect();
    rows.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let (mut taken, mut hits, mut sum) = (0usize, 0usize, 0.0);
    for equal in rows.chunk_by(|a, b| a.0 == b.0) {
        let new = equal.iter().filter(|(_, label)| *label).count();
        (taken, hits) = (taken + equal.len(), hits + new);
        sum += new as f64 * hits as f64 / taken as f64;
    }
    if hits == 0 { 0.0 } else { sum / hits as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_weigh_the_same_and_absent_ones_nothing() {
        let mut score = Score::new(3);
        // Class 0: three labels, two found. Class 1: one label, found, one false alarm. Class 2: a false alarm alone.
        let rows = [
            ([1.0, 2.0, -1.0], [true, true, false]),
            ([0.5, 0.1, -1.0], [true, false, false]),
            ([0.0, -3.0, 9.0], [true, false, false]),
        ];
        for (logits, labels) in rows {
            score.add(&logits, &labels).unwrap();
        }
        assert_eq!(score.present(), 2);
        assert!((score.macro_recall() - (2.0 / 3.0 + 1.0) / 2.0).abs() < 1e-12);
        assert!((score.miou() - (2.0 / 3.0 + 0.5) / 2.0).abs() < 1e-12);
        assert_eq!((Score::new(2).macro_recall(), Score::new(2).miou()), (0.0, 0.0));
        assert!(score.add(&[1.0], &[true, false]).is_err() && score.add(&[1.0], &[true]).is_err());
        assert_eq!(Score::new(2).average_precision(), 0.0);
        let mut nan = Score::new(1);
        nan.add(&[f32::NAN], &[true]).unwrap();
        assert_eq!(nan.macro_recall(), 0.0);
    }
    #[test]
    fn average_precision_takes_rows_from_the_surest_down() {
        let score = |rows: &[(f32, bool)]| {
            let mut score = Score::new(2);
            for &(logit, label) in rows {
                score.add(&[logit, 0.0], &[label, false]).unwrap();
            }
            score.average_precision()
        };
        // Labels at places 1, 3 and 4.
        let rows = [(-1.0, true), (3.0, true), (2.0, false), (-5.0, false), (1.0, true)];
        assert!((score(&rows) - (1.0 + 2.0 / 3.0 + 3.0 / 4.0) / 3.0).abs() < 1e-12);
        // Equal ones have no order: 0.5 whichever comes first, and -0 is 0.
        assert_eq!(score(&[(0.0, true), (-0.0, false)]), 0.5);
        assert_eq!(score(&[(-0.0, false), (0.0, true)]), 0.5);
        assert_eq!(score(&[(f32::NAN, true), (-9.0, false)]), 0.5, "NaN is last");
        assert_eq!(score(&[(-7.0, true), (-9.0, false)]), 1.0, "below the threshold");
    }
}
