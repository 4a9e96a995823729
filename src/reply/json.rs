//! A reply as JSON.
#![forbid(unsafe_code)]

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{Display, Write};

use super::{Depth, DepthUnit, Finish, Mask, Reply, Target, Triplet};
use crate::trp::{Flags, Unit};

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
        let mut json = Writer::default();
        json.object(|json| {
            json.name("text").string(&self.text);
            json.name("sentence").string(&self.answer.text);
            json.name("finish").string(self.finish.name());
            json.name("flags").names(self.flags);
            match &self.answer.plan {
                None => json.name("plan").push("null"),
                Some(plan) => json.name("plan").list(&plan.items, |json, item| {
                    json.object(|json| {
                        json.name("name").string(&item.name);
                        json.name("unit").string(&item.unit);
                        json.name("count").display(item.count);
                    });
                }),
            }
            json.name("triplets").list(&self.triplets, triplet);
            json.name("ids").list(&self.ids, |json, id| json.display(id));
        });
        json.text
    }
}

fn triplet(json: &mut Writer, triplet: &Triplet) {
    json.object(|json| {
        json.name("phrase").string(&triplet.phrase);
        match triplet.unit.map(Unit::name) {
            None => json.name("unit").push("null"),
            Some(unit) => json.name("unit").string(unit),
        }
        json.name("group").display(triplet.group);
        json.name("index").display(triplet.index);
        json.name("score").number(triplet.score);
        json.name("flags").names(triplet.flags);
        if let Some(found) = &triplet.target {
            target(json, found);
        }
    });
}

fn target(json: &mut Writer, target: &Target) {
    match target {
        Target::Box(area) => json.name("box").numbers(area),
        Target::Mask(mask) => {
            let Mask { width, height, threshold, .. } = *mask;
            json.name("mask").object(|json| {
                json.name("size").list(&[height, width], |json, side| json.display(side));
                json.name("counts").string(&mask.coco_rle());
                json.name("threshold").number(threshold);
            });
        }
        Target::Keypoints(keypoints) => json.name("keypoints").object(|json| {
            json.name("area").numbers(&keypoints.area);
            json.name("points").list(&keypoints.points, |json, point| {
                json.object(|json| {
                    json.name("x").number(point.x);
                    json.name("y").number(point.y);
                    json.name("visible").display(point.visible);
                    json.name("score").number(point.score);
                });
            });
        }),
        Target::Depth(Depth { width, height, values, unit }) => json.name("depth").object(|json| {
            json.name("size").list(&[height, width], |json, side| json.display(side));
            json.name("unit").string(unit.name());
            json.name("values").numbers(values);
        }),
    }
}

/// JSON text that grows at its end.
#[derive(Default)]
struct Writer {
    text: String,
}

impl Writer {
    fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// What is the same in JSON and for readers: whole numbers and truth values.
    fn display(&mut self, value: impl Display) {
        // A string takes everything.
        let _ = write!(self.text, "{value}");
    }

    /// A number, null where it is not finite.
    fn number(&mut self, value: f32) {
        // The shortest digits that read as the same number; an exponent where there would be many zeros.
        let _ = if value.is_finite() { write!(self.text, "{value:?}") } else { self.text.write_str("null") };
    }

    fn numbers(&mut self, values: &[f32]) {
        self.list(values, |json, &value| json.number(value));
    }

    fn names(&mut self, flags: Flags) {
        let names: Vec<&str> = flags.names().collect();
        self.list(&names, |json, name| json.string(name));
    }

    fn string(&mut self, text: &str) {
        self.push("\"");
        for letter in text.chars() {
            match letter {
                '"' => self.push("\\\""),
                '\\' => self.push("\\\\"),
                '\n' => self.push("\\n"),
                '\r' => self.push("\\r"),
                '\t' => self.push("\\t"),
                letter if letter < ' ' => self.display(format_args!("\\u{:04x}", u32::from(letter))),
                letter => self.text.push(letter),
            }
        }
        self.push("\"");
    }

    /// A comma, unless this is the first of its list or object.
    fn comma(&mut self) {
        if !self.text.ends_with(['[', '{']) {
            self.push(",");
        }
    }

    /// The name of the value that is written next.
    fn name(&mut self, name: &str) -> &mut Writer {
        self.comma();
        self.string(name);
        self.push(":");
        self
    }

    fn object(&mut self, fields: impl FnOnce(&mut Writer)) {
        self.push("{");
        fields(self);
        self.push("}");
    }

    fn list<T>(&mut self, items: &[T], item: impl Fn(&mut Writer, &T)) {
        self.push("[");
        for value in items {
            self.comma();
            item(self, value);
        }
        self.push("]");
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
    use crate::arena::Buffer;
    use crate::trp::{Answer, Plan, PlanItem};

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
        let mask =
            Mask { width: 2, height: 1, probabilities: Buffer::of(&[0.9, 0.1]).unwrap(), threshold: 0.25 };
        let depth = Depth {
            width: 1,
            height: 2,
            values: Buffer::of(&[1.5, f32::NAN]).unwrap(),
            unit: DepthUnit::Metres,
        };
        let targets = [
            Some(Target::Box([0.5, 1.0, 2.0, 3.25])),
            Some(Target::Mask(mask)),
            Some(Target::Depth(depth)),
            None,
        ];
        let reply = Reply {
            text: "a\nb\u{1}\\\t[".to_string(),
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
        assert_eq!(json["text"], "a\nb\u{1}\\\t[");
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
