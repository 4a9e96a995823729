//! Which questions a picture is asked: a mix for training, one of every task, and every prompt with every output.

use crate::asker::Asker;
use crate::language as words;
use crate::prompts::PromptKind;
use crate::render::Rendered;
use crate::turn::{Task, Turn, Unit};

/// Share of the questions of tasks that can name something absent which do so in `one_per_task`.
const ABSENT_EACH: f32 = 0.15;
/// The same share in the training mix, where fewer of the tasks can.
const ABSENT_MIX: f32 = 0.24;

/// A random mix of six to eight questions for training, the hard ones (one class with several members, referring
/// expressions, grounded captions) over-represented. No question occurs twice.
pub fn turns(r: &Rendered, seed: u64) -> Vec<Turn> {
    let mut asker = Asker::new(r, seed, 11);
    let wanted = 6 + asker.rng.below(3);
    let person = r.objects.iter().any(|o| o.target && o.keypoints.is_some());
    let (pose, region_pose) = if person { (7.0, 6.0) } else { (1.5, 0.0) };
    let weights =
        [18.0, 5.0, 9.0, 3.0, 15.0, 8.0, 5.0, 4.0, 10.0, 5.0, pose, region_pose, 4.0, 2.5, 6.0, 9.0, 11.0];
    let mut out: Vec<Turn> = Vec::new();
    for _ in 0..40 {
        if out.len() == wanted {
            break;
        }
        let absent = asker.rng.chance(ABSENT_MIX);
        let kind = PromptKind::ALL[asker.rng.below(4)];
        let turn = match asker.rng.weighted(&weights) {
            0 => asker.one_class(Task::Detection, absent),
            1 => asker.everything(Task::Detection),
            2 => asker.one_class(Task::Segmentation, absent),
            3 => asker.everything(Task::Segmentation),
            4 => asker.referring(Task::GroundingDetection, absent),
            5 => asker.referring(Task::GroundingSegmentation, absent),
            6 => asker.region(Task::GroundingDetection, kind),
            7 => asker.region(Task::GroundingSegmentation, kind),
            8 => asker.caption(Task::GcgDetection),
            9 => asker.caption(Task::GcgSegmentation),
            10 => asker.pose(),
            11 => asker.region_pose(kind),
            12 => asker.depth(None),
            13 => asker.depth(Some(kind)),
            14 => asker.region_text(kind),
            15 => asker.count(absent),
            _ => asker.question(absent),
        };
        if let Some(turn) = turn
            && !out.iter().any(|t| t.question == turn.question && t.prompts == turn.prompts)
        {
            out.push(turn);
        }
    }
    out
}

/// One question of every task, in the order of `Task::ALL`; `GroundingKeypoints` is left out where there is no
/// mannequin to point at.
pub fn one_per_task(r: &Rendered, seed: u64) -> Vec<Turn> {
    Task::ALL.iter().filter_map(|task| one(r, seed, *task)).collect()
}

/// One question of a task.
pub fn one(r: &Rendered, seed: u64, task: Task) -> Option<Turn> {
    let mut asker = Asker::new(r, seed, 100 + task as u64);
    let absent = asker.rng.chance(ABSENT_EACH);
    let kind = PromptKind::ALL[asker.rng.below(4)];
    let style = asker.rng.unit();
    match task {
        Task::Vqa if style < 0.4 => asker.count(absent),
        Task::Vqa if style < 0.6 && !absent => asker.region_text(kind),
        Task::Vqa => asker.question(absent).or_else(|| asker.count(absent)),
        Task::Detection | Task::Segmentation if absent || style < 0.75 => asker.one_class(task, absent),
        Task::Detection | Task::Segmentation => asker.everything(task),
        Task::GroundingDetection | Task::GroundingSegmentation if absent || style < 0.7 => {
            asker.referring(task, absent).or_else(|| asker.region(task, kind))
        }
        Task::GroundingDetection | Task::GroundingSegmentation => asker.region(task, kind),
        Task::GcgDetection | Task::GcgSegmentation => asker.caption(task),
        Task::KeypointDetection => asker.pose(),
        Task::GroundingKeypoints => asker.region_pose(kind),
        Task::Depth => asker.depth((style < 0.3).then_some(kind)),
    }
}

/// A question for every combination of prompt (`None`: none) and output (`None`: text) that the picture allows:
/// 25 where there is a mannequin, else 21 (no region has joints).
pub fn every_combination(r: &Rendered, seed: u64) -> Vec<(Option<PromptKind>, Option<Unit>, Turn)> {
    let mut asker = Asker::new(r, seed, 12);
    let mut out = Vec::new();
    let kinds = [None, Some(PromptKind::Point), Some(PromptKind::Box), Some(PromptKind::Scribble)];
    for kind in kinds.into_iter().chain([Some(PromptKind::Mask)]) {
        let outputs = [None, Some(Unit::Box), Some(Unit::Mask), Some(Unit::Keypoint), Some(Unit::Depth)];
        for unit in outputs {
            let turn = match (kind, unit) {
                (None, None) => asker.count(false),
                (None, Some(Unit::Box)) => asker.one_class(Task::Detection, false),
                (None, Some(Unit::Mask)) => asker.one_class(Task::Segmentation, false),
                (None, Some(Unit::Keypoint)) => asker.pose(),
                (Some(kind), None) => asker.region_text(kind),
                (Some(kind), Some(Unit::Box)) => asker.region(Task::GroundingDetection, kind),
                (Some(kind), Some(Unit::Mask)) => asker.region(Task::GroundingSegmentation, kind),
                (Some(kind), Some(Unit::Keypoint)) => asker.region_pose(kind),
                (kind, Some(Unit::Depth)) => asker.depth(kind),
            };
            out.extend(turn.map(|t| (kind, unit, t)));
        }
    }
    out
}

/// Every word of every wording, for checks of the vocabulary.
pub fn wordings() -> Vec<&'static str> {
    [
        &words::DETECT_CLASS,
        &words::DETECT_ALL,
        &words::SEGMENT_CLASS,
        &words::SEGMENT_ALL,
        &words::REFER_BOX,
        &words::REGION_BOX,
        &words::REFER_MASK,
        &words::REGION_MASK,
        &words::CAPTION_BOX,
        &words::CAPTION_MASK,
        &words::POSE_ALL,
        &words::POSE_REGION,
        &words::DEPTH_ALL,
        &words::DEPTH_REGION,
        &words::COUNT,
        &words::EXISTS,
        &words::COLOUR_OF,
        &words::SIZE_OF,
        &words::REGION_CAPTION,
        &words::REGION_COLOUR,
        &words::REGION_IS,
        &words::RELATION_HOLDS,
    ]
    .iter()
    .flat_map(|w| w.texts.iter().copied())
    .collect()
}
