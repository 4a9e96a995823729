//! A reply as JSON.
#![forbid(unsafe_code)]

use alloc::string::String;
use alloc::vec::Vec;

use serde::Serialize;

use super::{Depth, DepthUnit, Finish, Keypoints, Mask, Reply, Target, Triplet};
use crate::trp::{Flags, PlanItem, Unit};

#[derive(Serialize)]
struct ReplyJson<'a> {
    text: &'a str,
    sentence: &'a str,
    finish: &'static str,
    flags: Vec<&'static str>,
    plan: Option<Vec<PlanItemJson<'a>>>,
    triplets: Vec<TripletJson<'a>>,
    ids: &'a [u32],
}

#[derive(Serialize)]
struct PlanItemJson<'a> {
    name: &'a str,
    unit: &'a str,
    count: usize,
}

#[derive(Serialize)]
struct TripletJson<'a> {
    phrase: &'a str,
    unit: Option<&'static str>,
    group: usize,
    index: usize,
    score: f32,
    flags: Vec<&'static str>,
    #[serde(flatten)]
    target: Option<TargetJson<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum TargetJson<'a> {
    Box([f32; 4]),
    Mask { size: [usize; 2], counts: String, threshold: f32 },
    Keypoints { area: [f32; 4], points: Vec<PointJson> },
    Depth { size: [usize; 2], unit: &'static str, values: &'a [f32] },
}

#[derive(Serialize)]
struct PointJson {
    x: f32,
    y: f32,
    visible: bool,
    score: f32,
}

impl Reply {
    /// The reply as JSON: `text`, `sentence` (the answer in plain words), `finish`, `flags` (names), `plan` (null or a list
    /// of `name`, `unit`, `count`), `ids`, and `triplets`, each with `phrase`, `unit`, `group`, `index`, `score`, `flags`
    /// and, where it has a target, one of
    /// - `box`: `[x0, y0, x1, y1]` in pixels;
    /// - `mask`: COCO run lengths, `size` (height, width) and `counts`, and the `threshold` that they are cut at;
    /// - `keypoints`: `area`, a box, and 17 `points` of `x`, `y`, `visible`, `score`;
    /// - `depth`: `size` (height, width), `unit` (`metre` or `relative`), row-major `values`.
    ///
    /// What is not finite is null.
    pub fn to_json(&self) -> String {
        let plan = self.answer.plan.as_ref().map(|plan| plan.items.iter().map(plan_item).collect());
        let json = ReplyJson {
            text: &self.text,
            sentence: &self.answer.text,
            finish: self.finish.name(),
            flags: names(self.flags),
            plan,
            triplets: self.triplets.iter().map(triplet).collect(),
            ids: &self.ids,
        };
        // Strings, numbers and lists can always be written.
        serde_json::to_string(&json).unwrap_or_default()
    }
}

fn plan_item(item: &PlanItem) -> PlanItemJson<'_> {
    PlanItemJson { name: &item.name, unit: &item.unit, count: item.count }
}

fn names(flags: Flags) -> Vec<&'static str> {
    flags.names().collect()
}

fn triplet(triplet: &Triplet) -> TripletJson<'_> {
    TripletJson {
        phrase: &triplet.phrase,
        unit: triplet.unit.map(Unit::name),
        group: triplet.group,
        index: triplet.index,
        score: triplet.score,
        flags: names(triplet.flags),
        target: triplet.target.as_ref().map(target),
    }
}

fn target(target: &Target) -> TargetJson<'_> {
    match target {
        Target::Box(area) => TargetJson::Box(*area),
        Target::Mask(mask) => {
            let Mask { width, height, threshold, .. } = *mask;
            TargetJson::Mask { size: [height, width], counts: mask.coco_rle(), threshold }
        }
        Target::Keypoints(keypoints) => {
            let Keypoints { area, points } = &**keypoints;
            let points = points.iter();
            let points = points.map(|p| PointJson { x: p.x, y: p.y, visible: p.visible, score: p.score });
            TargetJson::Keypoints { area: *area, points: points.collect() }
        }
        Target::Depth(Depth { width, height, values, unit }) => {
            TargetJson::Depth { size: [*height, *width], unit: unit.name(), values }
        }
    }
}

impl Finish {
    /// The name in JSON, for example `end_of_text`.
    pub const fn name(self) -> &'static str {
        match self {
            Finish::EndOfText => "end_of_text",
            Finish::Length => "length",
            Finish::Cancelled => "cancelled",
            Finish::TimeLimit => "time_limit",
            Finish::Given => "given",
        }
    }
}

impl DepthUnit {
    /// The name in JSON: `metre` or `relative`.
    pub const fn name(self) -> &'static str {
        match self {
            DepthUnit::Metres => "metre",
            DepthUnit::Relative => "relative",
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec;

    use super::*;
    use crate::trp::{Answer, Plan};

    #[test]
    fn everything_of_a_reply_is_written() {
        let whole = |index, target| Triplet {
            phrase: "red \"mug\"".to_string(),
            unit: Some(Unit::Box),
            group: 0,
            index,
            score: if index == 0 { f32::NAN } else { 0.5 },
            flags: Flags::INDEX,
            target,
        };
        let mask = Mask { width: 2, height: 1, probabilities: vec![0.9, 0.1], threshold: 0.25 };
        let depth = Depth { width: 1, height: 2, values: vec![1.5, f32::NAN], unit: DepthUnit::Metres };
        let targets = [
            Some(Target::Box([0.5, 1.0, 2.0, 3.25])),
            Some(Target::Mask(mask)),
            Some(Target::Depth(depth)),
            None,
        ];
        let reply = Reply {
            text: "a\nb".to_string(),
            ids: vec![1, 2],
            answer: Answer {
                plan: Some(Plan { items: vec![PlanItem::new("mug", "box", 2)] }),
                ..Answer::default()
            },
            triplets: targets.into_iter().enumerate().map(|(index, target)| whole(index, target)).collect(),
            finish: Finish::EndOfText,
            flags: Flags::INDEX,
        };
        let json: serde_json::Value = serde_json::from_str(&reply.to_json()).unwrap();
        assert_eq!(json["text"], "a\nb");
        assert_eq!(json["finish"], "end_of_text");
        assert_eq!(json["flags"], serde_json::json!(["index"]));
        assert_eq!(json["plan"], serde_json::json!([{"name": "mug", "unit": "box", "count": 2}]));
        assert_eq!(json["ids"], serde_json::json!([1, 2]));
        let triplets = json["triplets"].as_array().unwrap();
        assert_eq!(triplets.len(), 4);
        assert_eq!(triplets[0]["phrase"], "red \"mug\"");
        assert_eq!((&triplets[0]["score"], &triplets[1]["score"]), (&serde_json::Value::Null, &0.5.into()));
        assert_eq!(triplets[0]["box"], serde_json::json!([0.5, 1.0, 2.0, 3.25]));
        assert_eq!(
            triplets[1]["mask"],
            serde_json::json!({"size": [1, 2], "counts": "011", "threshold": 0.25})
        );
        let depth = serde_json::json!({"size": [2, 1], "unit": "metre", "values": [1.5, null]});
        assert_eq!(triplets[2]["depth"], depth);
        assert!(triplets[3].get("box").is_none() && triplets[3]["unit"] == "box");
    }
}
