//! What an answer is: its text, its triplets and their targets in pixels of the caller's picture. Plain data.
#![forbid(unsafe_code)]

mod json;
mod mask;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

pub use mask::Mask;

use crate::arena::Buffer;
use crate::trp::{Answer, Flags, Unit};

/// Why an answer ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finish {
    /// The model wrote the end-of-text token.
    EndOfText,
    /// The budget of new tokens or the context is used up.
    Length,
    /// The caller's cancel flag was set; no head has run and no triplet has a target. So is a reply that nobody has filled.
    #[default]
    Cancelled,
    /// The time limit passed; what was complete by then is decoded.
    TimeLimit,
    /// The sequence was given by the caller.
    Given,
}

/// An answer. "Nothing found" is an answer without triplets.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// The answer as the model wrote it, plan and special tokens included, end-of-text excluded.
    pub text: String,
    /// The tokens of the answer, the end-of-text token included where it was written.
    pub ids: Vec<u32>,
    /// The parsed answer: plan, plain sentence, groups.
    pub answer: Answer,
    /// One entry per `<REF>` that belongs to a group, in order of appearance.
    pub triplets: Vec<Triplet>,
    /// Why the answer ended.
    pub finish: Finish,
    /// Everything that is wrong with the answer.
    pub flags: Flags,
}

/// Concept, decoding type and one target.
#[derive(Clone, Debug)]
pub struct Triplet {
    /// The concept, for example `red mug`; empty where the model wrote none.
    pub phrase: String,
    /// The decoding type; `None` where the model wrote none or an unknown one.
    pub unit: Option<Unit>,
    /// Index of the group in [`Answer::triplets`]; targets of one phrase share it.
    pub group: usize,
    /// Place of the target within its group, from 0.
    pub index: usize,
    /// Geometric mean of the probabilities of the phrase's, unit's and `<REF>` tokens under the model's own
    /// distribution (no mask, no temperature), 0 to 1; NaN for a sequence that was given.
    pub score: f32,
    /// What is wrong with the group.
    pub flags: Flags,
    /// The target; `None` where the unit has no head, the head has no slot left or the answer was cancelled.
    pub target: Option<Target>,
}

/// Where the concept is, in pixels of the picture that was encoded: x to the right, y down, (0, 0) the upper left corner
/// of the upper left pixel.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Target {
    /// `x0, y0, x1, y1`.
    Box([f32; 4]),
    /// Every pixel's probability.
    Mask(Mask),
    /// The 17 joints of a person.
    Keypoints(Box<Keypoints>),
    /// The depth of the whole picture.
    Depth(Depth),
}

/// One joint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Keypoint {
    /// To the right, in pixels.
    pub x: f32,
    /// Down, in pixels.
    pub y: f32,
    /// Whether the joint is visible.
    pub visible: bool,
    /// Sigmoid of the visibility class, 0 to 1.
    pub score: f32,
}

/// A person's joints.
#[derive(Clone, Debug, PartialEq)]
pub struct Keypoints {
    /// The person's box, `x0, y0, x1, y1`.
    pub area: [f32; 4],
    /// The joints in COCO-17 order: nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles, left before right.
    pub points: [Keypoint; 17],
}

/// Unit of a depth map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DepthUnit {
    /// Metres along the optical axis (REP-118).
    Metres,
    /// No unit, 0 to 1; larger is farther.
    Relative,
}

/// A depth map of the picture's size.
#[derive(Clone, Debug)]
pub struct Depth {
    /// Pixels per row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Depth of every pixel, row-major; NaN where undefined.
    pub values: Buffer,
    /// What the values are in.
    pub unit: DepthUnit,
}
