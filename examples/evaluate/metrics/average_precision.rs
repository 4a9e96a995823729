//! Average precision: the area under the precision-recall curve of scored predictions.

/// One prediction after matching: its score and whether it found a target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detection {
    /// The reply's score, in 0..=1.
    pub score: f32,
    /// Whether it was matched with a target.
    pub correct: bool,
}

/// Matches the predictions of one question with its targets, one to one.
///
/// The highest score chooses first (equal scores in order of appearance) and takes the free target of largest overlap,
/// if that overlap is at least `threshold`. `overlap(prediction, target)` is an intersection over union. Gives the
/// target of every prediction.
pub fn match_by_score(
    scores: &[f32],
    targets: usize,
    threshold: f64,
    overlap: impl Fn(usize, usize) -> f64,
) -> Vec<Option<usize>> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| rank(scores[b]).total_cmp(&rank(scores[a])));
    let mut free = vec![true; targets];
    let mut matched = vec![None; scores.len()];
    for prediction in order {
        let mut best: Option<(usize, f64)> = None;
        for (target, _) in free.iter().enumerate().filter(|(_, free)| **free) {
            let value = overlap(prediction, target);
            if value >= threshold && best.is_none_or(|(_, b)| value > b) {
                best = Some((target, value));
            }
        }
        if let Some((target, _)) = best {
            free[target] = false;
            matched[prediction] = Some(target);
        }
    }
    matched
}

/// Average precision of `detections` against `targets` targets, in 0..=1; `None` without targets.
///
/// Detections enter the curve by falling score, equal scores together, so that their order does not matter. The
/// precision at a recall is the largest precision at that recall or any higher one, and the area is the sum over every
/// step of the recall (all-point interpolation, as in the Pascal VOC challenge since 2010).
pub fn average_precision(detections: &[Detection], targets: usize) -> Option<f64> {
    if targets == 0 {
        return None;
    }
    let mut order: Vec<Detection> = detections.to_vec();
    order.sort_by(|a, b| rank(b.score).total_cmp(&rank(a.score)));
    // Recall and precision after each run of equal scores.
    let mut curve: Vec<(f64, f64)> = Vec::new();
    let mut correct = 0usize;
    for (index, detection) in order.iter().enumerate() {
        correct += usize::from(detection.correct);
        let last_of_run = order.get(index + 1).is_none_or(|next| rank(next.score) != rank(detection.score));
        if last_of_run {
            curve.push((correct as f64 / targets as f64, correct as f64 / (index + 1) as f64));
        }
    }
    let mut area = 0.0;
    let mut precision = 0.0f64;
    for (index, &(recall, here)) in curve.iter().enumerate().rev() {
        precision = precision.max(here);
        let before = if index == 0 { 0.0 } else { curve[index - 1].0 };
        area += (recall - before) * precision;
    }
    Some(area)
}

/// The score as a sorting key: one that is no number comes last.
fn rank(score: f32) -> f32 {
    if score.is_nan() { f32::NEG_INFINITY } else { score }
}

#[cfg(test)]
mod tests {
    use super::{Detection, average_precision, match_by_score};

    fn list(items: &[(f32, bool)]) -> Vec<Detection> {
        items.iter().map(|&(score, correct)| Detection { score, correct }).collect()
    }

    fn close(a: Option<f64>, b: f64) {
        assert!(a.is_some_and(|a| (a - b).abs() < 1e-12), "{a:?} is not {b}");
    }

    #[test]
    fn perfect_empty_and_undefined() {
        close(average_precision(&list(&[(0.9, true), (0.8, true)]), 2), 1.0);
        close(average_precision(&[], 3), 0.0);
        assert_eq!(average_precision(&list(&[(0.9, false)]), 0), None);
    }

    #[test]
    fn misses_bound_the_recall() {
        close(average_precision(&list(&[(0.9, true)]), 4), 0.25);
    }

    #[test]
    fn a_false_one_between_two_true_ones() {
        // Recall 1/2 at precision 1, then recall 1 at precision 2/3.
        close(average_precision(&list(&[(0.9, true), (0.8, false), (0.7, true)]), 2), 0.5 + 0.5 * 2.0 / 3.0);
    }

    #[test]
    fn precision_is_the_best_at_any_higher_recall() {
        // Precisions 0, 1/2, 2/3, 3/4 at recalls 0, 1/3, 2/3, 1: the envelope is 3/4 everywhere.
        let curve = list(&[(0.9, false), (0.8, true), (0.7, true), (0.6, true)]);
        close(average_precision(&curve, 3), 0.75);
    }

    #[test]
    fn equal_scores_enter_together_in_any_order() {
        let first = list(&[(0.5, true), (0.5, false)]);
        let second = list(&[(0.5, false), (0.5, true)]);
        close(average_precision(&first, 1), 0.5);
        close(average_precision(&second, 1), 0.5);
    }

    #[test]
    fn a_score_that_is_no_number_comes_last() {
        close(average_precision(&list(&[(f32::NAN, false), (0.1, true)]), 1), 1.0);
    }

    #[test]
    fn a_duplicate_finds_nothing_and_the_higher_score_chooses_first() {
        // Both overlap target 0 only; the second has the higher score although its overlap is smaller.
        let overlaps = [[0.9, 0.0], [0.6, 0.0]];
        let matched = match_by_score(&[0.3, 0.8], 2, 0.5, |p, t| overlaps[p][t]);
        assert_eq!(matched, vec![None, Some(0)]);
    }

    #[test]
    fn a_prediction_takes_its_best_free_target_at_or_above_the_threshold() {
        let overlaps = [[0.6, 0.7], [0.55, 0.9], [0.5, 0.49]];
        let matched = match_by_score(&[0.9, 0.9, 0.1], 2, 0.5, |p, t| overlaps[p][t]);
        assert_eq!(matched, vec![Some(1), Some(0), None]);
        assert_eq!(
            match_by_score(&[0.9], 1, 0.5, |_, _| 0.5),
            vec![Some(0)],
            "the threshold itself is enough"
        );
        assert_eq!(match_by_score(&[0.9], 1, 0.5, |_, _| 0.499), vec![None]);
    }
}
