//! The tasks of the paradigm: their names, what an answer holds, and the units that targets are decoded to.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::str::FromStr;

use crate::error::{Error, Result};
use crate::words::Quoted;

/// A decoding type: what a `<REF>` becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unit {
    /// A box, `x0 y0 x1 y1` in pixels.
    Box,
    /// A mask of the picture's size.
    Mask,
    /// The 17 COCO keypoints of one person.
    Keypoint,
    /// A depth map of the whole picture.
    Depth,
}

impl Unit {
    /// Every unit.
    pub const ALL: [Unit; 4] = [Unit::Box, Unit::Mask, Unit::Keypoint, Unit::Depth];

    /// The word between `<Unit>` and `</Unit>`.
    pub const fn name(self) -> &'static str {
        match self {
            Unit::Box => "box",
            Unit::Mask => "mask",
            Unit::Keypoint => "keypoint",
            Unit::Depth => "depth",
        }
    }

    /// The unit of a word.
    pub(crate) fn named(word: &str) -> Option<Unit> {
        Unit::ALL.into_iter().find(|unit| unit.name() == word)
    }
}

impl FromStr for Unit {
    type Err = Error;

    fn from_str(word: &str) -> Result<Unit> {
        Unit::named(word).ok_or_else(|| Error::Input {
            field: "unit",
            reason: format!("{} is none of box, mask, keypoint, depth", Quoted(word)),
        })
    }
}

/// What an answer is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// A whole sentence.
    Sentence,
    /// Phrases between `<Phrase>` and `</Phrase>`.
    Phrase,
    /// Units with targets.
    Unit,
}

impl Element {
    /// The word in the task command.
    pub const fn name(self) -> &'static str {
        match self {
            Element::Sentence => "sentence",
            Element::Phrase => "phrase",
            Element::Unit => "unit",
        }
    }
}

/// A task, as named in the task command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Task {
    /// Answer in words: captions, questions, what a prompted region shows.
    Vqa,
    /// Boxes of everything, of one class, or of a prompted region.
    Detection,
    /// Masks of everything, of one class, or of a prompted region.
    Segmentation,
    /// The box that an expression refers to.
    GroundingDetection,
    /// The mask that an expression refers to.
    GroundingSegmentation,
    /// A caption whose phrases are grounded with boxes.
    GcgDetection,
    /// A caption whose phrases are grounded with masks.
    GcgSegmentation,
    /// Keypoints of every person.
    KeypointDetection,
    /// Keypoints of the person that an expression or a prompted region refers to.
    GroundingKeypoints,
    /// The depth map of the picture.
    Depth,
}

impl Task {
    /// Every task.
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

    /// The reference's name, for example `grounding_detection`.
    pub const fn name(self) -> &'static str {
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

    /// What the answer holds, in the order of the task command; the unit, where there is one, comes last.
    pub const fn elements(self) -> &'static [Element] {
        match self {
            Task::Vqa => &[Element::Sentence],
            Task::GcgDetection | Task::GcgSegmentation => {
                &[Element::Phrase, Element::Sentence, Element::Unit]
            }
            _ => &[Element::Phrase, Element::Unit],
        }
    }

    /// What targets are decoded to; `None` for an answer in words.
    pub const fn unit(self) -> Option<Unit> {
        match self {
            Task::Vqa => None,
            Task::Detection | Task::GroundingDetection | Task::GcgDetection => Some(Unit::Box),
            Task::Segmentation | Task::GroundingSegmentation | Task::GcgSegmentation => Some(Unit::Mask),
            Task::KeypointDetection | Task::GroundingKeypoints => Some(Unit::Keypoint),
            Task::Depth => Some(Unit::Depth),
        }
    }

    /// The task's usual command.
    pub fn command(self) -> TaskCommand {
        TaskCommand {
            task: self,
            elements: self.elements().to_vec(),
            units: self.unit().into_iter().collect(),
        }
    }
}

impl FromStr for Task {
    type Err = Error;

    fn from_str(name: &str) -> Result<Task> {
        Task::ALL
            .into_iter()
            .find(|task| task.name() == name)
            .ok_or_else(|| Error::Input { field: "task", reason: format!("{} is no task", Quoted(name)) })
    }
}

/// The task command of a prompt: task, answer elements, units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskCommand {
    /// The task.
    pub task: Task,
    /// What the answer holds.
    pub elements: Vec<Element>,
    /// What targets are decoded to; empty for an answer in words.
    pub units: Vec<Unit>,
}

impl TaskCommand {
    /// The text of the command, `Task Command:` to the line of units. As in the reference, the line of units ends in a
    /// newline, but the line that says `None` does not.
    pub fn text(&self) -> String {
        let mut text = format!("Task Command:\n- task name: {}\n- answer element: ", self.task.name());
        for (index, element) in self.elements.iter().enumerate() {
            text.push_str(if index > 0 { ", " } else { "" });
            text.push_str(element.name());
        }
        text.push_str("\n- unit: ");
        for (index, unit) in self.units.iter().enumerate() {
            text.push_str(if index > 0 { ", " } else { "" });
            text.push_str("<Unit>");
            text.push_str(unit.name());
            text.push_str("</Unit>");
        }
        text.push_str(if self.units.is_empty() { "None" } else { "\n" });
        text
    }
}
