//! The words: a small closed vocabulary and the question wordings of every task.
//!
//! `{}` stands for the thing, `{s}` for its plural, `[VPT]` for a visual prompt.

/// Numbers as answers.
pub fn number(n: usize) -> &'static str {
    ["None", "One", "Two", "Three", "Four", "Five", "Six"].get(n).copied().unwrap_or("Many")
}

/// `red ball` to `red balls`.
pub fn plural(name: &str) -> String {
    format!("{name}s")
}

/// Fills `{}` and `{s}` of a wording.
pub fn fill(wording: &str, name: &str) -> String {
    wording.replace("{s}", &plural(name)).replace("{}", name)
}

/// First letter in upper case and a full stop.
pub fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{first}{}.", chars.as_str())
}

/// Wordings of one kind of question; `template` of a turn = `base` + index of the wording.
pub struct Wordings {
    /// Offset among the wordings of the task.
    pub base: u32,
    /// The wordings.
    pub texts: &'static [&'static str],
}

/// Boxes of one class.
pub const DETECT_CLASS: Wordings = Wordings {
    base: 0,
    texts: &[
        "Detect every {}.",
        "Find all {s}.",
        "Where are the {s}?",
        "Box each {}.",
        "Show the boxes of all {s}.",
    ],
};
/// Boxes of everything.
pub const DETECT_ALL: Wordings = Wordings {
    base: 5,
    texts: &["Detect everything.", "Find all things on the table.", "Box each thing in the picture."],
};
/// Masks of one class.
pub const SEGMENT_CLASS: Wordings = Wordings {
    base: 0,
    texts: &["Segment every {}.", "Mask all {s}.", "Show the masks of all {s}.", "Outline each {}."],
};
/// Masks of everything.
pub const SEGMENT_ALL: Wordings = Wordings {
    base: 4,
    texts: &["Segment everything.", "Mask all things on the table.", "Outline each thing in the picture."],
};
/// A referring expression to its box.
pub const REFER_BOX: Wordings = Wordings {
    base: 0,
    texts: &["Where is the {}?", "Find the {}.", "Locate the {}.", "Give the box of the {}."],
};
/// A prompted region to its box.
pub const REGION_BOX: Wordings = Wordings {
    base: 4,
    texts: &["What is [VPT] and where is it?", "Give the box of [VPT].", "Locate the thing at [VPT]."],
};
/// A referring expression to its mask.
pub const REFER_MASK: Wordings = Wordings {
    base: 0,
    texts: &["Segment the {}.", "Mask the {}.", "Outline the {}.", "Give the mask of the {}."],
};
/// A prompted region to its mask.
pub const REGION_MASK: Wordings = Wordings {
    base: 4,
    texts: &["What is [VPT] and what is its mask?", "Give the mask of [VPT].", "Segment the thing at [VPT]."],
};
/// Grounded caption with boxes.
pub const CAPTION_BOX: Wordings = Wordings {
    base: 0,
    texts: &[
        "Describe the picture with boxes.",
        "What is on the table? Give boxes.",
        "Say what you see and box it.",
    ],
};
/// Grounded caption with masks.
pub const CAPTION_MASK: Wordings = Wordings {
    base: 0,
    texts: &[
        "Describe the picture with masks.",
        "What is on the table? Give masks.",
        "Say what you see and mask it.",
    ],
};
/// Keypoints of all mannequins.
pub const POSE_ALL: Wordings = Wordings {
    base: 0,
    texts: &[
        "Find the joints of every mannequin.",
        "Give the keypoints of all mannequins.",
        "What is the pose of the mannequin?",
    ],
};
/// Keypoints of a prompted region.
pub const POSE_REGION: Wordings = Wordings {
    base: 0,
    texts: &[
        "Find the joints of [VPT].",
        "Give the keypoints of [VPT].",
        "What is the pose of the thing at [VPT]?",
    ],
};
/// Depth of the picture.
pub const DEPTH_ALL: Wordings = Wordings {
    base: 0,
    texts: &["Estimate the depth.", "How far away is everything?", "Give the depth map of the picture."],
};
/// Depth, asked about a region.
pub const DEPTH_REGION: Wordings = Wordings {
    base: 3,
    texts: &[
        "How far away is [VPT]?",
        "Give the depth of [VPT].",
        "Estimate the depth of the thing at [VPT].",
    ],
};
/// How many of a class.
pub const COUNT: Wordings =
    Wordings { base: 0, texts: &["How many {s} are there?", "Count the {s}.", "How many {s} do you see?"] };
/// Is there one.
pub const EXISTS: Wordings =
    Wordings { base: 3, texts: &["Is there a {}?", "Do you see a {}?", "Is a {} on the table?"] };
/// Colour of a described thing.
pub const COLOUR_OF: Wordings = Wordings {
    base: 6,
    texts: &["What colour is the {}?", "Which colour has the {}?", "Name the colour of the {}."],
};
/// Size of a described thing.
pub const SIZE_OF: Wordings = Wordings {
    base: 9,
    texts: &["Is the {} small or large?", "How big is the {}?", "Name the size of the {}."],
};
/// What a prompted region is.
pub const REGION_CAPTION: Wordings =
    Wordings { base: 12, texts: &["What is [VPT]?", "Describe [VPT].", "What do you see at [VPT]?"] };
/// Colour of a prompted region.
pub const REGION_COLOUR: Wordings = Wordings {
    base: 15,
    texts: &["What colour is [VPT]?", "Which colour has [VPT]?", "Name the colour of [VPT]."],
};
/// Whether a prompted region is of a class.
pub const REGION_IS: Wordings = Wordings {
    base: 18,
    texts: &["Is [VPT] a {}?", "Is the thing at [VPT] a {}?", "Do you see a {} at [VPT]?"],
};
/// Whether a relation of two things holds; `{}` is the whole statement.
pub const RELATION_HOLDS: Wordings =
    Wordings { base: 21, texts: &["Is the {}?", "Look closely: is the {}?", "Yes or no: is the {}?"] };
