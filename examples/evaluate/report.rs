//! All figures of a run, the floors they are held against, and their JSON.

use serde_json::{Map, Value, json};

use crate::metrics::calibration::{expected_calibration_error, reliability};
use crate::tally::{Tally, Totals};

/// A measure must be this much above its prior, unless it is above `NEARLY_ALL`.
const ABOVE_PRIOR: f64 = 0.2;

/// A measure above this needs no distance from its prior.
const NEARLY_ALL: f64 = 0.95;

/// What a run gave.
pub struct Report {
    /// Seed of the first scene.
    pub first_seed: u64,
    /// How many scenes.
    pub scenes: u64,
    /// How many questions.
    pub questions: usize,
    /// Seed of the first scene that the prior was fitted on, and how many there were.
    pub prior_scenes: (u64, u64),
    /// The model's own answers.
    pub free: Tally,
    /// The model's targets with the true words given.
    pub forced: Option<Tally>,
    /// The prior's shapes, with the true words given.
    pub told: Tally,
    /// The prior's words.
    pub blind: Tally,
    /// Questions that ended in an error.
    pub errors: usize,
    /// Answers in which the parser or the router flagged something.
    pub flagged: usize,
}

/// One measure in every way of answering.
pub struct Row {
    /// What is measured.
    pub name: &'static str,
    /// Its name in the result line and in the JSON.
    pub key: &'static str,
    /// Over how many things.
    pub count: usize,
    /// The model's own answers.
    pub model: Option<f64>,
    /// The model with the true words given.
    pub forced: Option<f64>,
    /// The prior.
    pub prior: Option<f64>,
    /// Less than this is a failure.
    pub floor: Option<f64>,
    /// What training strives for.
    pub aim: Option<f64>,
}

impl Row {
    /// Whether the floor holds; `None` where there is none. A measure without a value misses its floor.
    pub fn holds(&self) -> Option<bool> {
        let floor = self.floor?;
        let above =
            |value: f64| value > NEARLY_ALL || self.prior.is_none_or(|prior| value >= prior + ABOVE_PRIOR);
        Some(self.model.is_some_and(|value| value >= floor && above(value)))
    }
}

impl Report {
    /// Every measure. Shapes stand beside the prior that is told the words, words beside the blind one.
    pub fn rows(&self) -> Vec<Row> {
        let model = &self.free.all;
        let shape = |name, key, count, value: &dyn Fn(&Totals) -> Option<f64>| Row {
            name,
            key,
            count,
            model: value(model),
            forced: self.forced.as_ref().and_then(|forced| value(&forced.all)),
            prior: value(&self.told.all),
            floor: None,
            aim: None,
        };
        let words = |name, key, count, value: &dyn Fn(&Totals) -> Option<f64>| Row {
            forced: None,
            prior: value(&self.blind.all),
            ..shape(name, key, count, value)
        };
        let held = |row: Row, floor, aim| Row { floor: Some(floor), aim: Some(aim), ..row };
        let boxes = model.box_found.count();
        let (masks, joints) = (model.mask.count(), model.joints.count());
        vec![
            held(shape("box AP50", "box_ap50", boxes, &Totals::box_ap50), 0.80, 0.95),
            shape("  with the right phrase", "box_ap50_named", boxes, &Totals::named_box_ap50),
            shape("  boxes found at IoU 0.5", "box_found", boxes, &|t| t.box_found.value()),
            held(shape("mask, mean IoU", "mask_miou", masks, &|t| t.mask.value()), 0.70, 0.85),
            held(shape("PCK, visible joints within 0.1", "pck", joints, &|t| t.joints.value()), 0.65, 0.85),
            held(
                shape("depth delta<1.25 on objects", "depth_d125", model.depth_objects.count(), &|t| {
                    t.depth_objects.value()
                }),
                0.90,
                0.95,
            ),
            shape("depth delta<1.25 everywhere", "depth_d125_all", model.depth_all.count(), &|t| {
                t.depth_all.value()
            }),
            held(
                words("triplets exact", "triplet", model.triplets.count(), &|t| t.triplets.value()),
                0.75,
                0.95,
            ),
            words("false positives on absent things", "false_positive", model.absent.count(), &|t| {
                t.absent.value()
            }),
            words("sentences exact", "sentence", model.text.count(), &|t| t.text.value()),
        ]
    }

    /// Whether every floor holds and every question was answered.
    pub fn passes(&self) -> bool {
        self.errors == 0 && self.rows().iter().all(|row| row.holds() != Some(false))
    }

    /// The last line: the figures that decide, by name.
    pub fn result_line(&self) -> String {
        let rows = self.rows();
        let mut line = format!("result scenes={}", self.scenes);
        for key in ["box_ap50", "mask_miou", "pck", "depth_d125", "triplet", "false_positive"] {
            let value = rows.iter().find(|row| row.key == key).and_then(|row| row.model);
            line.push_str(&format!(" {key}={:.4}", value.unwrap_or(f64::NAN)));
        }
        line
    }

    /// All figures as JSON; what is undefined is null.
    pub fn json(&self) -> Value {
        let mut measures = Map::new();
        for row in self.rows() {
            let value = json!({
                "count": row.count, "model": row.model, "teacher_forced": row.forced, "prior": row.prior,
                "floor": row.floor, "aim": row.aim, "holds": row.holds(),
            });
            measures.insert(row.key.into(), value);
        }
        let bins = reliability(&self.free.all.boxes);
        let bin_list: Vec<Value> =
            bins.iter().map(|b| json!({"count": b.count, "score": b.score, "correct": b.correct})).collect();
        let tasks: Map<String, Value> =
            self.free.tasks.iter().map(|(task, totals)| (task.clone(), breakdown(totals))).collect();
        let targets: Map<String, Value> =
            self.free.targets.iter().map(|(count, totals)| (count.to_string(), breakdown(totals))).collect();
        json!({
            "first_seed": self.first_seed, "scenes": self.scenes, "questions": self.questions,
            "prior_first_seed": self.prior_scenes.0, "prior_scenes": self.prior_scenes.1,
            "errors": self.errors, "flagged": self.flagged, "measures": measures, "tasks": tasks, "targets": targets,
            "calibration": {"expected_error": expected_calibration_error(&bins), "bins": bin_list},
        })
    }
}

/// The model's measures over one row of a breakdown.
fn breakdown(totals: &Totals) -> Value {
    json!({
        "triplet": totals.triplets.value(), "triplet_count": totals.triplets.count(),
        "false_positive": totals.absent.value(), "absent_count": totals.absent.count(),
        "sentence": totals.text.value(), "sentence_count": totals.text.count(),
        "box_ap50": totals.box_ap50(), "box_count": totals.box_found.count(),
        "mask_miou": totals.mask.value(), "mask_count": totals.mask.count(),
        "pck": totals.joints.value(), "joint_count": totals.joints.count(),
        "depth_d125": totals.depth_objects.value(), "depth_count": totals.depth_objects.count(),
    })
}

#[cfg(test)]
mod tests {
    use super::{Report, Row};
    use crate::tally::Tally;

    fn row(model: Option<f64>, prior: Option<f64>) -> Row {
        Row { name: "x", key: "x", count: 1, model, forced: None, prior, floor: Some(0.8), aim: None }
    }

    #[test]
    fn a_floor_wants_the_value_and_the_distance_from_the_prior() {
        assert_eq!(row(Some(0.8), Some(0.6)).holds(), Some(true));
        assert_eq!(row(Some(0.79), Some(0.1)).holds(), Some(false));
        assert_eq!(row(Some(0.9), Some(0.75)).holds(), Some(false), "too near to the prior");
        assert_eq!(row(Some(0.96), Some(0.9)).holds(), Some(true), "over 0.95 the prior does not matter");
        assert_eq!(row(Some(0.8), None).holds(), Some(true));
        assert_eq!(row(None, Some(0.0)).holds(), Some(false), "nothing measured is no pass");
        assert_eq!(Row { floor: None, ..row(Some(0.0), None) }.holds(), None);
    }

    fn report() -> Report {
        let mut free = Tally::default();
        for mean in [&mut free.all.mask, &mut free.all.joints, &mut free.all.triplets] {
            mean.add_share(9, 10);
        }
        free.all.depth_objects.add_share(10, 10);
        free.all.box_found.add_share(1, 1);
        free.all.absent.add_share(1, 8);
        free.all.boxes.push(crate::metrics::average_precision::Detection { score: 0.5, correct: true });
        Report {
            first_seed: 0,
            scenes: 7,
            questions: 1,
            prior_scenes: (800_000, 5),
            free,
            forced: None,
            told: Tally::default(),
            blind: Tally::default(),
            errors: 0,
            flagged: 0,
        }
    }

    #[test]
    fn the_result_line_has_the_issue_s_form() {
        assert_eq!(
            report().result_line(),
            "result scenes=7 box_ap50=1.0000 mask_miou=0.9000 pck=0.9000 depth_d125=1.0000 triplet=0.9000 \
             false_positive=0.1250"
        );
    }

    #[test]
    fn one_error_or_one_missed_floor_fails() {
        assert!(report().passes());
        assert!(!Report { errors: 1, ..report() }.passes());
        let mut missed = report();
        missed.free.all.mask.add_share(0, 10);
        assert!(!missed.passes());
    }

    #[test]
    fn the_json_holds_every_measure() {
        let json = report().json();
        assert_eq!(json["measures"]["pck"]["model"], 0.9);
        assert_eq!(json["measures"]["pck"]["prior"], serde_json::Value::Null);
        assert_eq!(json["calibration"]["bins"][5]["count"], 1);
    }
}
