//! Ready questions for every use of the paradigm, in our own words.
#![forbid(unsafe_code)]

use alloc::string::String;
use alloc::{borrow::ToOwned, format};

use crate::error::{Error, Result};
use crate::trp::task::Task;

/// A use for which there are ready questions. Slots in the texts: `<cls>` a class name, `<expr>` a referring
/// expression, `<question>` a question, and `[VPT]`, the placeholder of one visual prompt, which stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QuestionTemplate {
    /// A caption of the picture.
    Caption,
    /// A question answered directly.
    Vqa,
    /// A question answered after reasoning in words.
    VqaChainOfThought,
    /// A question answered after reasoning that grounds its objects with boxes.
    VqaBoxChainOfThought,
    /// A question answered after reasoning that points at its objects.
    VqaPointChainOfThought,
    /// Boxes of everything.
    Detect,
    /// Boxes of one class.
    DetectClass,
    /// The box of a prompted region.
    DetectRegion,
    /// Masks of everything.
    Segment,
    /// Masks of one class.
    SegmentClass,
    /// The mask of a prompted region.
    SegmentRegion,
    /// The box that an expression refers to.
    ReferToBox,
    /// The mask that an expression refers to.
    ReferToMask,
    /// What a region prompted with a box shows.
    CaptionBoxRegion,
    /// What a region prompted with a mask shows.
    CaptionMaskRegion,
    /// A caption grounded with boxes.
    CaptionWithBoxes,
    /// A caption grounded with masks.
    CaptionWithMasks,
    /// Keypoints of every person.
    Keypoints,
    /// Keypoints of the person in a prompted region.
    KeypointsRegion,
    /// The depth of the picture.
    Depth,
}

impl QuestionTemplate {
    /// Every use.
    pub const ALL: [QuestionTemplate; 20] = [
        QuestionTemplate::Caption,
        QuestionTemplate::Vqa,
        QuestionTemplate::VqaChainOfThought,
        QuestionTemplate::VqaBoxChainOfThought,
        QuestionTemplate::VqaPointChainOfThought,
        QuestionTemplate::Detect,
        QuestionTemplate::DetectClass,
        QuestionTemplate::DetectRegion,
        QuestionTemplate::Segment,
        QuestionTemplate::SegmentClass,
        QuestionTemplate::SegmentRegion,
        QuestionTemplate::ReferToBox,
        QuestionTemplate::ReferToMask,
        QuestionTemplate::CaptionBoxRegion,
        QuestionTemplate::CaptionMaskRegion,
        QuestionTemplate::CaptionWithBoxes,
        QuestionTemplate::CaptionWithMasks,
        QuestionTemplate::Keypoints,
        QuestionTemplate::KeypointsRegion,
        QuestionTemplate::Depth,
    ];

    /// The task that goes into the task command.
    pub const fn task(self) -> Task {
        match self {
            QuestionTemplate::Caption
            | QuestionTemplate::Vqa
            | QuestionTemplate::VqaChainOfThought
            | QuestionTemplate::VqaPointChainOfThought
            | QuestionTemplate::CaptionBoxRegion
            | QuestionTemplate::CaptionMaskRegion => Task::Vqa,
            QuestionTemplate::VqaBoxChainOfThought | QuestionTemplate::CaptionWithBoxes => Task::GcgDetection,
            QuestionTemplate::CaptionWithMasks => Task::GcgSegmentation,
            QuestionTemplate::Detect | QuestionTemplate::DetectClass => Task::Detection,
            QuestionTemplate::Segment | QuestionTemplate::SegmentClass => Task::Segmentation,
            QuestionTemplate::DetectRegion | QuestionTemplate::ReferToBox => Task::GroundingDetection,
            QuestionTemplate::SegmentRegion | QuestionTemplate::ReferToMask => Task::GroundingSegmentation,
            QuestionTemplate::Keypoints => Task::KeypointDetection,
            QuestionTemplate::KeypointsRegion => Task::GroundingKeypoints,
            QuestionTemplate::Depth => Task::Depth,
        }
    }

    /// The slot that [`QuestionTemplate::fill`] replaces, where there is one.
    pub const fn slot(self) -> Option<&'static str> {
        match self {
            QuestionTemplate::Vqa
            | QuestionTemplate::VqaChainOfThought
            | QuestionTemplate::VqaBoxChainOfThought
            | QuestionTemplate::VqaPointChainOfThought => Some("<question>"),
            QuestionTemplate::DetectClass | QuestionTemplate::SegmentClass => Some("<cls>"),
            QuestionTemplate::ReferToBox | QuestionTemplate::ReferToMask => Some("<expr>"),
            _ => None,
        }
    }

    /// The wordings; never empty.
    pub const fn texts(self) -> &'static [&'static str] {
        match self {
            QuestionTemplate::Caption => &[
                "What does this picture show?",
                "Sum up the scene in one sentence.",
                "Tell me briefly what is in front of the camera.",
            ],
            QuestionTemplate::Vqa => {
                &["<question>", "<question> Keep it short.", "A question on this picture: <question>"]
            }
            QuestionTemplate::VqaChainOfThought => &[
                "<question> Reason in steps, then answer.",
                "<question> Think it through aloud before you decide.",
            ],
            QuestionTemplate::VqaBoxChainOfThought => &[
                "<question> Reason in steps and box every object you rely on.",
                "<question> Think aloud, grounding each thing you mention with a box, then answer.",
            ],
            QuestionTemplate::VqaPointChainOfThought => &[
                "<question> Reason in steps and say where you are looking.",
                "<question> Think aloud, telling the place of each thing you mention, then answer.",
            ],
            QuestionTemplate::Detect => &[
                "Box every object you can see.",
                "Which objects are here? Give each a box.",
                "List all things in view with their boxes.",
            ],
            QuestionTemplate::DetectClass => &[
                "Box every <cls>.",
                "Are there any <cls> here? Give each a box.",
                "Put a box around each <cls> in view.",
            ],
            QuestionTemplate::DetectRegion => &[
                "Which object is at [VPT]? Box it.",
                "Give the tight box of what [VPT] marks.",
                "Turn the mark [VPT] into a box of the whole object.",
            ],
            QuestionTemplate::Segment => &[
                "Mask every object you can see.",
                "Which objects are here? Outline each with a mask.",
                "Split the scene into objects, one mask each.",
            ],
            QuestionTemplate::SegmentClass => &[
                "Mask every <cls>.",
                "Are there any <cls> here? Outline each with a mask.",
                "Show the pixels of each <cls> in view.",
            ],
            QuestionTemplate::SegmentRegion => &[
                "Which object is at [VPT]? Mask it.",
                "Give the exact mask of what [VPT] marks.",
                "Turn the mark [VPT] into a mask of the whole object.",
            ],
            QuestionTemplate::ReferToBox => {
                &["Box <expr>.", "Where is <expr>? Answer with a box.", "I need the box of <expr>."]
            }
            QuestionTemplate::ReferToMask => {
                &["Mask <expr>.", "Where is <expr>? Answer with a mask.", "I need the mask of <expr>."]
            }
            QuestionTemplate::CaptionBoxRegion => {
                &["What is inside the box [VPT]?", "Name the object framed by [VPT]."]
            }
            QuestionTemplate::CaptionMaskRegion => {
                &["What does the mask [VPT] cover?", "Name the object under the mask [VPT]."]
            }
            QuestionTemplate::CaptionWithBoxes => &[
                "Describe the scene and box what you mention.",
                "What is going on here? Ground your words with boxes.",
            ],
            QuestionTemplate::CaptionWithMasks => &[
                "Describe the scene and mask what you mention.",
                "What is going on here? Ground your words with masks.",
            ],
            QuestionTemplate::Keypoints => {
                &["Find the body joints of everyone in view.", "Is anyone here? Mark their keypoints."]
            }
            QuestionTemplate::KeypointsRegion => &[
                "Find the body joints of the person at [VPT].",
                "Mark the keypoints of whoever [VPT] points out.",
            ],
            QuestionTemplate::Depth => {
                &["How far away is everything? Give the depth map.", "Estimate the depth of this picture."]
            }
        }
    }

    /// Wording number `index` (counted modulo their number) with `value` in its slot; `value` is ignored where there
    /// is no slot.
    ///
    /// # Errors
    /// [`Error::Input`] where a slot needs a value and `value` is empty.
    pub fn fill(self, index: usize, value: &str) -> Result<String> {
        let texts = self.texts();
        let text = texts[index % texts.len()];
        match self.slot() {
            None => Ok(text.to_owned()),
            Some(slot) if value.trim().is_empty() => {
                Err(Error::Input { field: "question", reason: format!("the slot {slot} needs a value") })
            }
            Some(slot) => Ok(text.replace(slot, value.trim())),
        }
    }
}
