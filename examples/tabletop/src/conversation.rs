//! One turn in the reference's conversation format: placeholders in the text, sequences of indices into the targets.
//!
//! `<boxes>`, `<masks>`, `<points>`, `<keypoints>` and `<depth>` each stand for one target; `boxes_seq` and its kin list,
//! phrase by phrase (or prompt by prompt), the indices of the targets in `target`.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::prompts::{Prompt, PromptKind};
use crate::render::Rendered;
use crate::rle;
use crate::turn::{Turn, Unit};

/// One line of the conversation file.
#[derive(Clone, Debug, Serialize)]
pub struct Conversation {
    /// Where the picture lies, and its size.
    pub image: Image,
    /// Lists `boxes`, `masks`, `points`, `keypoints`, `depth`: as many of them as the text needs.
    pub target: Map<String, Value>,
    /// System, human and gpt messages.
    pub conversations: Vec<Value>,
    /// Which placeholders the human's and the answer's text contain.
    pub map_placeholders: Map<String, Value>,
}

/// The picture of a line.
#[derive(Clone, Debug, Serialize)]
pub struct Image {
    /// Relative to the folder of the conversation file.
    pub path: String,
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
}

/// Name of a unit's list in `target`; the placeholder is it in angle brackets, the sequence it with `_seq`.
fn list_of(unit: Unit) -> &'static str {
    match unit {
        Unit::Box => "boxes",
        Unit::Mask => "masks",
        Unit::Keypoint => "keypoints",
        Unit::Depth => "depth",
    }
}

/// Collects targets and gives out their indices.
#[derive(Default)]
struct Targets(Map<String, Value>);

impl Targets {
    fn add(&mut self, list: &str, value: Value) -> usize {
        let entry = self.0.entry(list).or_insert_with(|| json!([]));
        match entry.as_array_mut() {
            Some(items) => {
                items.push(value);
                items.len() - 1
            }
            None => 0,
        }
    }
}

/// Turns a question into a line; `picture` and `depth` are the paths of the PNG files.
pub fn conversation(r: &Rendered, turn: &Turn, picture: &str, depth: &str) -> Conversation {
    let mut targets = Targets::default();
    let mut human = Map::new();
    let mut question = turn.question.clone();
    let mut inputs: Vec<String> = Vec::new();
    for prompt in &turn.prompts {
        let (list, value) = prompt_target(r, prompt);
        let index = targets.add(list, value);
        question = question.replacen("[VPT]", &format!("<{list}>"), 1);
        sequence(&mut human, list, vec![index]);
        inputs.push(format!("<{list}>"));
    }
    human.insert("from".into(), json!("human"));
    human.insert("value".into(), json!(format!("<image>\n{question}")));

    let mut gpt = Map::new();
    let mut answer = turn.answer.clone();
    for (item, ids) in turn.plan.iter().zip(&turn.targets) {
        let list = list_of(item.unit);
        let indices = ids.iter().map(|id| targets.add(list, unit_target(r, item.unit, *id, depth))).collect();
        sequence(&mut gpt, list, indices);
        let written = crate::turn::triplet(&item.name, item.unit, item.num);
        let short = format!("<Phrase>{}</Phrase>{}", item.name, format!("<{list}>").repeat(item.num));
        answer = answer.replacen(&written, &short, 1);
    }
    gpt.insert("from".into(), json!("gpt"));
    gpt.insert("value".into(), json!(answer));

    // The reference adds the element `unit` itself where `use_unit` is set.
    let elements: Vec<&String> = turn.elements.iter().filter(|e| *e != "unit").collect();
    let system = json!({
        "from": "system",
        "value": [{
            "task": {"task_name": turn.task.name(), "element": elements, "use_unit": !turn.units.is_empty()},
            "unit": turn.units.iter().map(|u| u.name()).collect::<Vec<_>>(),
        }],
    });
    let outputs: Vec<String> = turn.units.iter().map(|u| format!("<{}>", list_of(*u))).collect();
    let mut map_placeholders = Map::new();
    map_placeholders.insert("input".into(), json!(inputs));
    map_placeholders.insert("output".into(), json!(outputs));
    Conversation {
        image: Image { path: picture.into(), width: r.width, height: r.height },
        target: targets.0,
        conversations: vec![system, Value::Object(human), Value::Object(gpt)],
        map_placeholders,
    }
}

fn sequence(message: &mut Map<String, Value>, list: &str, indices: Vec<usize>) {
    let entry = message.entry(format!("{list}_seq")).or_insert_with(|| json!([]));
    if let Some(groups) = entry.as_array_mut() {
        groups.push(json!(indices));
    }
}

/// The list and value of a visual prompt; a scribble becomes a mask of lines.
fn prompt_target(r: &Rendered, prompt: &Prompt) -> (&'static str, Value) {
    match prompt.kind {
        PromptKind::Point => ("points", json!(prompt.point)),
        PromptKind::Box => ("boxes", json!(prompt.bounds)),
        PromptKind::Mask => ("masks", mask(r, prompt.instance)),
        PromptKind::Scribble => {
            let points = prompt.scribble.as_deref().unwrap_or(&[]);
            let reach = (r.width.max(r.height) as f32 / 160.0).max(1.0);
            let near = |i: usize| {
                let p = [(i % r.width) as f32 + 0.5, (i / r.width) as f32 + 0.5];
                points.windows(2).any(|ends| distance_squared(p, ends[0], ends[1]) <= reach * reach)
            };
            ("masks", json!(rle::encode(r.width, r.height, near)))
        }
    }
}

fn unit_target(r: &Rendered, unit: Unit, id: u8, depth: &str) -> Value {
    let object = r.objects.iter().find(|o| o.id == id);
    match unit {
        Unit::Box => json!(object.map(|o| o.bounds)),
        Unit::Mask => mask(r, id),
        Unit::Keypoint => json!(object.and_then(|o| o.keypoints.as_ref())),
        Unit::Depth => json!(depth),
    }
}

fn mask(r: &Rendered, id: u8) -> Value {
    json!(rle::encode(r.width, r.height, |i| r.instance.get(i) == Some(&id)))
}

/// Squared distance of `p` from the segment `a` to `b`.
fn distance_squared(p: [f32; 2], a: [f32; 2], b: [f32; 2]) -> f32 {
    let (px, py) = (p[0] - a[0], p[1] - a[1]);
    let (bx, by) = (b[0] - a[0], b[1] - a[1]);
    let t = ((px * bx + py * by) / (bx * bx + by * by).max(1e-9)).clamp(0.0, 1.0);
    let (dx, dy) = (px - t * bx, py - t * by);
    dx * dx + dy * dy
}
