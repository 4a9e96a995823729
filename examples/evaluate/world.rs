//! Scenes of the tabletop world as pictures and questions.

use tabletop::{FULL, Rendered, Scene, Turn};

use crate::library;
use crate::question::{Object, Picture, Question, Truth};

/// A question of the world: what is asked, the masks of its visual prompts, and what is measured.
pub struct Case {
    /// The question as the world states it.
    pub turn: Turn,
    /// Per visual prompt one byte a pixel; empty for prompts that are not masks.
    pub masks: Vec<Vec<u8>>,
    /// Its task and its true answer.
    pub question: Question,
}

/// Renders a seed's scene at full size with one question of every task that the scene allows.
pub fn scene(seed: u64) -> (Picture, Vec<Case>) {
    let rendered = tabletop::render(&Scene::from_seed(seed), FULL);
    let case = |turn: Turn| Case { masks: library::masks(&rendered, &turn), question: question(&turn), turn };
    let cases = tabletop::one_per_task(&rendered, seed).into_iter().map(case).collect();
    (picture(rendered), cases)
}

fn picture(rendered: Rendered) -> Picture {
    let objects = rendered
        .objects
        .into_iter()
        .map(|label| Object {
            id: label.id,
            bounds: label.bounds,
            target: label.target,
            joints: label.keypoints.unwrap_or_default(),
        })
        .collect();
    Picture {
        seed: rendered.seed,
        width: rendered.width,
        height: rendered.height,
        rgb: rendered.rgb,
        instance: rendered.instance,
        depth: rendered.depth,
        objects,
    }
}

/// What is true of a turn.
fn question(turn: &Turn) -> Question {
    let truth = turn.plan.iter().zip(&turn.targets).map(|(item, instances)| Truth {
        phrase: item.name.clone(),
        unit: item.unit.name().into(),
        instances: instances.clone(),
    });
    Question {
        task: turn.task.name().into(),
        in_words: turn.units.is_empty(),
        truth: truth.collect(),
        answer: turn.answer.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Case, scene};
    use crate::question::{Answer, Claimed, Guess, Target};
    use crate::tally::Tally;

    /// An answer that says what is true and decodes it without fault.
    fn perfect(picture: &crate::question::Picture, question: &crate::question::Question) -> Answer {
        let mut answer = Answer { text: question.answer.clone(), triplets: vec![] };
        for truth in &question.truth {
            let target = |&id: &u8| match truth.unit.as_str() {
                "box" => Target::Box(picture.object(id).unwrap().bounds),
                "mask" => Target::Mask(picture.mask(id)),
                "keypoint" => {
                    Target::Joints(picture.object(id).unwrap().joints.iter().map(|j| [j[0], j[1]]).collect())
                }
                _ => Target::Depth(picture.depth.clone()),
            };
            answer.triplets.push(Claimed {
                phrase: truth.phrase.clone(),
                unit: truth.unit.clone(),
                targets: truth.instances.iter().map(|id| Guess { score: 0.9, target: target(id) }).collect(),
            });
        }
        answer
    }

    #[test]
    fn the_truth_scores_full_marks_and_silence_none() {
        let (mut right, mut silent) = (Tally::default(), Tally::default());
        let mut tasks = BTreeSet::new();
        for seed in 900_000..900_012 {
            let (picture, cases) = scene(seed);
            assert!(picture.targets() > 0, "seed {seed}");
            for Case { turn, question, .. } in &cases {
                let places = turn.question.matches("[VPT]").count();
                assert_eq!(places, turn.prompts.len(), "{}", turn.question);
                tasks.insert(question.task.clone());
                right.add(&picture, question, &perfect(&picture, question));
                silent.add(&picture, question, &Answer::default());
            }
        }
        assert_eq!(tasks.len(), 10, "{tasks:?}");
        for (tally, wanted) in [(right, 1.0), (silent, 0.0)] {
            let all = tally.all;
            for measure in [
                all.box_ap50(),
                all.named_box_ap50(),
                all.mask.value(),
                all.joints.value(),
                all.depth_objects.value(),
                all.depth_all.value(),
                all.triplets.value(),
                all.text.value(),
            ] {
                assert_eq!(measure, Some(wanted));
            }
            assert_eq!(all.absent.value(), Some(0.0));
        }
    }
}
