//! Plain values of replies and prompts, and the numbers that stand for tasks and units.

use triplet::reply::Target;
use triplet::trp::{Element, Task, Unit};

use crate::status::{Failure, Result};

/// A decoding type: one bit, so that sets of them can be named.
pub type triplet_unit = u32;
/// None.
pub const TRIPLET_UNIT_NONE: triplet_unit = 0;
/// A box in pixels.
pub const TRIPLET_UNIT_BOX: triplet_unit = 1;
/// A mask of the picture's size.
pub const TRIPLET_UNIT_MASK: triplet_unit = 2;
/// The 17 COCO keypoints of one person.
pub const TRIPLET_UNIT_KEYPOINT: triplet_unit = 4;
/// A depth map of the whole picture.
pub const TRIPLET_UNIT_DEPTH: triplet_unit = 8;

/// What an answer is made of: one bit, so that sets of them can be named.
pub type triplet_element = u32;
/// Phrases.
pub const TRIPLET_ELEMENT_PHRASE: triplet_element = 1;
/// A whole sentence.
pub const TRIPLET_ELEMENT_SENTENCE: triplet_element = 2;
/// Units with targets.
pub const TRIPLET_ELEMENT_UNIT: triplet_element = 4;

/// What is asked for.
pub type triplet_task = i32;
/// An answer in words: any question.
pub const TRIPLET_TASK_VQA: triplet_task = 0;
/// Boxes of everything, of one class, or of a prompted region.
pub const TRIPLET_TASK_DETECTION: triplet_task = 1;
/// Masks of everything, of one class, or of a prompted region.
pub const TRIPLET_TASK_SEGMENTATION: triplet_task = 2;
/// The box that an expression refers to.
pub const TRIPLET_TASK_GROUNDING_DETECTION: triplet_task = 3;
/// The mask that an expression refers to.
pub const TRIPLET_TASK_GROUNDING_SEGMENTATION: triplet_task = 4;
/// A caption whose phrases are grounded with boxes.
pub const TRIPLET_TASK_GCG_DETECTION: triplet_task = 5;
/// A caption whose phrases are grounded with masks.
pub const TRIPLET_TASK_GCG_SEGMENTATION: triplet_task = 6;
/// Keypoints of every person.
pub const TRIPLET_TASK_KEYPOINT_DETECTION: triplet_task = 7;
/// Keypoints of the person that an expression or a prompted region refers to.
pub const TRIPLET_TASK_GROUNDING_KEYPOINTS: triplet_task = 8;
/// The depth map of the picture.
pub const TRIPLET_TASK_DEPTH: triplet_task = 9;

/// What a triplet's target is.
pub type triplet_target = i32;
/// There is none: the unit has no head, the head has no slot left or the answer was cancelled.
pub const TRIPLET_TARGET_NONE: triplet_target = 0;
/// A box.
pub const TRIPLET_TARGET_BOX: triplet_target = 1;
/// A mask.
pub const TRIPLET_TARGET_MASK: triplet_target = 2;
/// 17 keypoints.
pub const TRIPLET_TARGET_KEYPOINTS: triplet_target = 3;
/// A depth map.
pub const TRIPLET_TARGET_DEPTH: triplet_target = 4;

/// Joints of a person, in COCO-17 order: nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles, left before
/// right.
pub const TRIPLET_JOINTS: usize = 17;

/// A point in pixels of the original picture: x to the right, y down, (0, 0) the upper left corner of the upper left
/// pixel. Never changes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct triplet_point {
    /// To the right.
    pub x: f32,
    /// Down.
    pub y: f32,
}

/// A box in pixels of the original picture, the corner with the smaller coordinates first. Never changes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct triplet_box {
    /// Left.
    pub x0: f32,
    /// Upper.
    pub y0: f32,
    /// Right.
    pub x1: f32,
    /// Lower.
    pub y1: f32,
}

/// One joint. Never changes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct triplet_keypoint {
    /// To the right, in pixels.
    pub x: f32,
    /// Down, in pixels.
    pub y: f32,
    /// Probability that the joint is visible, 0 to 1.
    pub score: f32,
    /// 1 where the joint is visible, 0 where it is hidden.
    pub visible: u32,
}

/// One line of a plan: what is decoded, as what, how often. Never changes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct triplet_plan_item {
    /// The concept, for example "red mug".
    pub name: *const core::ffi::c_char,
    /// The unit's word: "box", "mask", "keypoint" or "depth"; a model may write anything here.
    pub unit: *const core::ffi::c_char,
    /// Number of targets.
    pub count: usize,
}

impl From<[f32; 4]> for triplet_box {
    fn from([x0, y0, x1, y1]: [f32; 4]) -> triplet_box {
        triplet_box { x0, y0, x1, y1 }
    }
}

pub(crate) fn unit_bit(unit: Option<Unit>) -> triplet_unit {
    match unit {
        None => TRIPLET_UNIT_NONE,
        Some(Unit::Box) => TRIPLET_UNIT_BOX,
        Some(Unit::Mask) => TRIPLET_UNIT_MASK,
        Some(Unit::Keypoint) => TRIPLET_UNIT_KEYPOINT,
        Some(Unit::Depth) => TRIPLET_UNIT_DEPTH,
    }
}

/// Puts the units of a set behind `units`.
pub(crate) fn add_units(bits: triplet_unit, units: &mut Vec<Unit>) -> Result<()> {
    add_members("units", bits, &Unit::ALL.map(|unit| (unit_bit(Some(unit)), unit)), units)
}

/// Puts the elements of a set behind `elements`, in the order of the task command.
pub(crate) fn add_elements(bits: triplet_element, elements: &mut Vec<Element>) -> Result<()> {
    let known = [
        (TRIPLET_ELEMENT_PHRASE, Element::Phrase),
        (TRIPLET_ELEMENT_SENTENCE, Element::Sentence),
        (TRIPLET_ELEMENT_UNIT, Element::Unit),
    ];
    add_members("elements", bits, &known, elements)
}

fn add_members<T: Copy>(name: &str, bits: u32, known: &[(u32, T)], members: &mut Vec<T>) -> Result<()> {
    let all = known.iter().fold(0, |all, (bit, _)| all | bit);
    if bits & !all != 0 {
        return Err(Failure::argument(name, format!("has unknown bits: {:#x}", bits & !all)));
    }
    members.extend(known.iter().filter(|(bit, _)| bits & bit != 0).map(|&(_, member)| member));
    Ok(())
}

/// The task of a number.
pub(crate) fn task(number: triplet_task) -> Result<Task> {
    let task = usize::try_from(number).ok().and_then(|number| Task::ALL.get(number)).copied();
    task.ok_or_else(|| Failure::argument("task", format!("{number} is none")))
}

pub(crate) fn target_kind(target: Option<&Target>) -> triplet_target {
    match target {
        Some(Target::Box(_)) => TRIPLET_TARGET_BOX,
        Some(Target::Mask(_)) => TRIPLET_TARGET_MASK,
        Some(Target::Keypoints(_)) => TRIPLET_TARGET_KEYPOINTS,
        Some(Target::Depth(_)) => TRIPLET_TARGET_DEPTH,
        _ => TRIPLET_TARGET_NONE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_name_the_tasks() {
        for (number, name) in [
            (TRIPLET_TASK_VQA, "vqa"),
            (TRIPLET_TASK_DETECTION, "detection"),
            (TRIPLET_TASK_SEGMENTATION, "segmentation"),
            (TRIPLET_TASK_GROUNDING_DETECTION, "grounding_detection"),
            (TRIPLET_TASK_GROUNDING_SEGMENTATION, "grounding_segmentation"),
            (TRIPLET_TASK_GCG_DETECTION, "gcg_detection"),
            (TRIPLET_TASK_GCG_SEGMENTATION, "gcg_segmentation"),
            (TRIPLET_TASK_KEYPOINT_DETECTION, "keypoint_detection"),
            (TRIPLET_TASK_GROUNDING_KEYPOINTS, "grounding_keypoints"),
            (TRIPLET_TASK_DEPTH, "depth"),
        ] {
            assert_eq!(task(number).unwrap().name(), name);
        }
        assert!(task(-1).is_err() && task(10).is_err());
    }

    #[test]
    fn sets_keep_their_order_and_refuse_unknown_bits() {
        let (mut units, mut elements) = (Vec::new(), Vec::new());
        add_units(TRIPLET_UNIT_DEPTH | TRIPLET_UNIT_BOX, &mut units).unwrap();
        add_elements(7, &mut elements).unwrap();
        assert_eq!(units, [Unit::Box, Unit::Depth]);
        assert_eq!(elements, [Element::Phrase, Element::Sentence, Element::Unit]);
        assert!(add_units(16, &mut units).is_err() && add_elements(8, &mut elements).is_err());
    }
}
