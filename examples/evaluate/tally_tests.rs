use super::{Tally, Totals};
use crate::question::{Answer, Claimed, Guess, Object, Picture, Question, Target, Truth};

/// A picture of 4 x 2 pixels: object 1 on the left column, object 2 on the right one, a mannequin 3 between.
fn picture() -> Picture {
    Picture {
        seed: 1,
        width: 4,
        height: 2,
        rgb: vec![0; 24],
        instance: vec![1, 0, 3, 2, 1, 0, 3, 2],
        depth: vec![1.0, f32::NAN, 3.0, 2.0, 1.0, 4.0, 3.0, 2.0],
        objects: vec![
            Object { id: 1, bounds: [0.0, 0.0, 1.0, 2.0], target: true, joints: vec![] },
            Object { id: 2, bounds: [3.0, 0.0, 4.0, 2.0], target: true, joints: vec![] },
            Object {
                id: 3,
                bounds: [2.0, 0.0, 3.0, 2.0],
                target: true,
                joints: vec![[2.5, 0.5, 2.0], [2.5, 1.5, 2.0]],
            },
        ],
    }
}

fn question(truth: &[(&str, &str, &[u8])]) -> Question {
    Question {
        task: "task".into(),
        in_words: false,
        truth: truth
            .iter()
            .map(|(phrase, unit, ids)| Truth {
                phrase: (*phrase).into(),
                unit: (*unit).into(),
                instances: ids.to_vec(),
            })
            .collect(),
        answer: "yes".into(),
    }
}

fn answer(triplets: Vec<(&str, &str, f32, Vec<Target>)>) -> Answer {
    let triplets = triplets
        .into_iter()
        .map(|(phrase, unit, score, targets)| {
            let targets = targets.into_iter().map(|target| Guess { score, target }).collect();
            Claimed { phrase: phrase.into(), unit: unit.into(), targets }
        })
        .collect();
    Answer { text: "yes".into(), triplets }
}

#[test]
fn boxes_with_the_wrong_name_count_unless_the_name_is_required() {
    let asked = question(&[("ball", "box", &[1, 2])]);
    let reply = answer(vec![
        ("ball", "box", 0.9, vec![Target::Box([0.0, 0.0, 1.0, 2.0])]),
        ("cube", "box", 0.8, vec![Target::Box([3.0, 0.0, 4.0, 2.0])]),
    ]);
    let totals = Totals::of(&picture(), &asked, &reply);
    assert_eq!(totals.box_ap50(), Some(1.0));
    assert_eq!(totals.named_box_ap50(), Some(0.5));
    assert_eq!(totals.box_found.value(), Some(1.0));
    assert_eq!(totals.triplets.value(), Some(0.0));
}

#[test]
fn a_box_of_another_question_is_no_target() {
    let mut tally = Tally::default();
    let right_box = Target::Box([0.0, 0.0, 1.0, 2.0]);
    tally.add(&picture(), &question(&[("ball", "box", &[1])]), &answer(vec![]));
    let elsewhere = answer(vec![("ball", "box", 0.9, vec![right_box])]);
    tally.add(&picture(), &question(&[("cube", "box", &[2])]), &elsewhere);
    assert_eq!(tally.all.box_ap50(), Some(0.0));
    assert_eq!(tally.targets[&3].box_found.count(), 2);
}

#[test]
fn masks_are_matched_inside_their_phrase_and_a_miss_counts_nothing() {
    let asked = question(&[("ball", "mask", &[1, 2]), ("doll", "mask", &[3])]);
    let (one, two) = (picture().mask(1), picture().mask(2));
    // The balls in the other order, and the doll's mask under a wrong phrase.
    let reply = answer(vec![
        ("ball", "mask", 0.9, vec![Target::Mask(two), Target::Mask(one)]),
        ("dog", "mask", 0.9, vec![Target::Mask(picture().mask(3))]),
    ]);
    let totals = Totals::of(&picture(), &asked, &reply);
    assert_eq!((totals.mask.value(), totals.mask.count()), (Some(2.0 / 3.0), 3));
}

#[test]
fn a_missing_mannequin_loses_all_its_visible_joints() {
    let asked = question(&[("mannequin", "keypoint", &[3])]);
    let missing = Totals::of(&picture(), &asked, &answer(vec![]));
    assert_eq!((missing.joints.value(), missing.joints.count()), (Some(0.0), 2));
    let half =
        answer(vec![("mannequin", "keypoint", 0.5, vec![Target::Joints(vec![[2.5, 0.6], [0.0, 0.0]])])]);
    assert_eq!(Totals::of(&picture(), &asked, &half).joints.value(), Some(0.5));
}

#[test]
fn depth_over_objects_and_over_everything() {
    let asked = question(&[("depth", "depth", &[0])]);
    let map = vec![1.0, 1.0, 9.0, 2.0, 1.0, 4.0, 9.0, 2.0];
    let totals =
        Totals::of(&picture(), &asked, &answer(vec![("depth", "depth", 0.9, vec![Target::Depth(map)])]));
    assert_eq!(totals.depth_objects.value(), Some(4.0 / 6.0));
    assert_eq!(totals.depth_all.value(), Some(5.0 / 7.0));
    let missing = Totals::of(&picture(), &asked, &answer(vec![]));
    assert_eq!((missing.depth_objects.value(), missing.depth_all.value()), (Some(0.0), Some(0.0)));
}

#[test]
fn absent_things_have_their_own_measure() {
    let asked = question(&[]);
    let none = Totals::of(&picture(), &asked, &answer(vec![]));
    assert_eq!((none.absent.value(), none.triplets.count()), (Some(0.0), 0));
    let wrong = answer(vec![("cat", "box", 0.4, vec![Target::Box([0.0, 0.0, 1.0, 1.0])])]);
    let some = Totals::of(&picture(), &asked, &wrong);
    assert_eq!((some.absent.value(), some.boxes.len()), (Some(1.0), 1));
}

#[test]
fn sentences_are_compared_without_the_blanks_around_them() {
    let asked = Question { in_words: true, ..question(&[]) };
    let mut reply = answer(vec![]);
    reply.text = " yes\n".into();
    assert_eq!(Totals::of(&picture(), &asked, &reply).text.value(), Some(1.0));
    reply.text = "Yes".into();
    assert_eq!(Totals::of(&picture(), &asked, &reply).text.value(), Some(0.0));
}

#[test]
fn a_target_that_was_not_decoded_still_counts_as_claimed() {
    let asked = question(&[("ball", "box", &[1])]);
    let reply = answer(vec![("ball", "box", 0.9, vec![Target::Missing])]);
    let totals = Totals::of(&picture(), &asked, &reply);
    assert_eq!((totals.triplets.value(), totals.box_ap50()), (Some(1.0), Some(0.0)));
}
