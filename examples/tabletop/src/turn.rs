//! The shape of one question with its answer.

use serde::{Deserialize, Serialize};

use crate::prompts::Prompt;

/// Names of the ten tasks of the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Text only.
    Vqa,
    /// Boxes of one class or of everything.
    Detection,
    /// Masks of one class or of everything.
    Segmentation,
    /// The box of a described or prompted thing.
    GroundingDetection,
    /// The mask of a described or prompted thing.
    GroundingSegmentation,
    /// A caption with boxes.
    GcgDetection,
    /// A caption with masks.
    GcgSegmentation,
    /// The joints of every mannequin.
    KeypointDetection,
    /// The joints of a prompted mannequin.
    GroundingKeypoints,
    /// The depth map.
    Depth,
}

impl Task {
    /// All tasks, in the order of the design page.
    pub const ALL: [Task; 10] = [
        Task::Vqa,
        Task::Detection,
        Task::Segmentation,
        Task::GroundingDetection,
        Task::GroundingSegmentation,
        Task::GcgDetection,
        Task::GcgSegmentation,
        Task::KeypointDetection,
        Task::GroundingKeypoints,
        Task::Depth,
    ];

    /// The unit of the task command, `None` for text only.
    pub fn unit(self) -> Option<Unit> {
        match self {
            Task::Vqa => None,
            Task::Detection | Task::GroundingDetection | Task::GcgDetection => Some(Unit::Box),
            Task::Segmentation | Task::GroundingSegmentation | Task::GcgSegmentation => Some(Unit::Mask),
            Task::KeypointDetection | Task::GroundingKeypoints => Some(Unit::Keypoint),
            Task::Depth => Some(Unit::Depth),
        }
    }

    /// The answer elements of the task command.
    pub fn elements(self) -> &'static [&'static str] {
        match self {
            Task::Vqa => &["sentence"],
            Task::GcgDetection | Task::GcgSegmentation => &["phrase", "sentence", "unit"],
            _ => &["phrase", "unit"],
        }
    }

    /// The task's name, as in the task command.
    pub fn name(self) -> &'static str {
        match self {
            Task::Vqa => "vqa",
            Task::Detection => "detection",
            Task::Segmentation => "segmentation",
            Task::GroundingDetection => "grounding_detection",
            Task::GroundingSegmentation => "grounding_segmentation",
            Task::GcgDetection => "gcg_detection",
            Task::GcgSegmentation => "gcg_segmentation",
            Task::KeypointDetection => "keypoint_detection",
            Task::GroundingKeypoints => "grounding_keypoints",
            Task::Depth => "depth",
        }
    }
}

/// The decoding types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A box.
    Box,
    /// A mask.
    Mask,
    /// 17 joints.
    Keypoint,
    /// A depth map of the whole picture.
    Depth,
}

impl Unit {
    /// The name between `<Unit>` and `</Unit>`.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Box => "box",
            Unit::Mask => "mask",
            Unit::Keypoint => "keypoint",
            Unit::Depth => "depth",
        }
    }
}

/// One line of the plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanItem {
    /// The phrase of the triplet.
    pub name: String,
    /// Its decoding type.
    pub unit: Unit,
    /// How many targets it has.
    pub num: usize,
}

/// One question and its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// The task.
    pub task: Task,
    /// Which wording the question has, among all of the task.
    pub template: u32,
    /// The question; each `[VPT]` stands for the next visual prompt.
    pub question: String,
    /// Visual prompts in the order of the placeholders.
    pub prompts: Vec<Prompt>,
    /// Target units of the task command, empty for text only.
    pub units: Vec<Unit>,
    /// Answer elements of the task command.
    pub elements: Vec<String>,
    /// The plan; empty: `Unit decode (False).`
    pub plan: Vec<PlanItem>,
    /// The answer with its triplets.
    pub answer: String,
    /// Per triplet the instance id of each `<REF>` in order; 0: the whole picture (depth).
    pub targets: Vec<Vec<u8>>,
    /// The question names something that is not there.
    pub absent: bool,
}

/// The text of one triplet: `<Phrase>red ball</Phrase>(<Unit>box</Unit>[0]<REF>[1]<REF>)`.
pub fn triplet(phrase: &str, unit: Unit, count: usize) -> String {
    let refs: String = (0..count).map(|i| format!("[{i}]<REF>")).collect();
    format!("<Phrase>{phrase}</Phrase>(<Unit>{}</Unit>{refs})", unit.name())
}
