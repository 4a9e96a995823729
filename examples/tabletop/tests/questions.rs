//! Questions and answers: they agree with the labels, the expressions are unique, every combination occurs.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use tabletop::conversation::conversation;
use tabletop::record::Header;
use tabletop::{
    ObjectLabel, PromptKind, Rendered, Scene, Task, Turn, Unit, every_combination, one_per_task, render,
    turns,
};

fn pictures(first: u64, count: u64) -> impl Iterator<Item = Rendered> {
    (first..first + count).map(|seed| render(&Scene::from_seed(seed), 160))
}

/// A checker of its own: reads an expression's words and counts the objects that fit them.
fn fitting<'a>(words: &str, r: &'a Rendered) -> Vec<&'a ObjectLabel> {
    let targets: Vec<&ObjectLabel> = r.objects.iter().filter(|o| o.target).collect();
    for relation in ["left of", "right of", "in front of", "behind"] {
        let Some((head, landmark)) = words.split_once(&format!(" {relation} the ")) else { continue };
        let landmarks = fitting(landmark, r);
        assert_eq!(landmarks.len(), 1, "the landmark {landmark:?} is not unique");
        let mark = landmarks[0];
        return fitting(head, r)
            .into_iter()
            .filter(|o| o.id != mark.id)
            .filter(|o| match relation {
                "left of" => o.centre_x() < mark.centre_x(),
                "right of" => o.centre_x() > mark.centre_x(),
                "in front of" => o.depth < mark.depth,
                _ => o.depth > mark.depth,
            })
            .collect();
    }
    let extreme = words.split(' ').next().unwrap_or("");
    if ["leftmost", "rightmost", "nearest", "farthest"].contains(&extreme) {
        let key = |o: &ObjectLabel| match extreme {
            "leftmost" => o.centre_x(),
            "rightmost" => -o.centre_x(),
            "nearest" => o.depth,
            _ => -o.depth,
        };
        let group = fitting(&words[extreme.len() + 1..], r);
        return group.into_iter().min_by(|a, b| key(a).total_cmp(&key(b))).into_iter().collect();
    }
    let has = |o: &ObjectLabel, w: &str| w == "thing" || w == o.size || w == o.colour || w == o.shape;
    targets.into_iter().filter(|o| words.split(' ').all(|w| has(o, w))).collect()
}

/// The expression of a question of `grounding_*` without a prompt.
fn expression(question: &str) -> &str {
    let text = question.trim_end_matches(['.', '?']);
    text.split_once("the box of the ")
        .or(text.split_once("the mask of the "))
        .or(text.split_once(" the "))
        .map_or(text, |(_, e)| e)
}

#[test]
fn referring_expressions_are_unique() {
    let (mut plain, mut related, mut extreme) = (0, 0, 0);
    for r in pictures(0, 300) {
        for turn in turns(&r, r.seed) {
            let referring = matches!(turn.task, Task::GroundingDetection | Task::GroundingSegmentation);
            if !referring || !turn.prompts.is_empty() {
                continue;
            }
            let words = expression(&turn.question);
            let found = fitting(words, &r);
            if turn.absent {
                assert!(found.is_empty(), "seed {}: {:?}", r.seed, turn.question);
                continue;
            }
            assert_eq!(found.len(), 1, "seed {}: {:?}", r.seed, turn.question);
            assert_eq!(turn.targets, [[found[0].id]], "seed {}: {:?}", r.seed, turn.question);
            assert_eq!(turn.plan[0].name, found[0].full_name());
            match words {
                w if w.contains(" the ") => related += 1,
                w if w.contains("most ") || w.starts_with("nearest") || w.starts_with("farthest") => {
                    extreme += 1
                }
                _ => plain += 1,
            }
        }
    }
    assert!(
        plain > 50 && related > 30 && extreme > 30,
        "{plain} plain, {related} related, {extreme} extreme"
    );
}

/// What must hold of every turn.
fn check(r: &Rendered, turn: &Turn) {
    let note = format!("seed {}: {turn:?}", r.seed);
    assert_eq!(turn.question.matches("[VPT]").count(), turn.prompts.len(), "{note}");
    assert_eq!(turn.units, turn.task.unit().into_iter().collect::<Vec<_>>(), "{note}");
    assert_eq!(turn.plan.len(), turn.targets.len(), "{note}");
    assert_eq!(turn.answer.matches("<REF>").count(), turn.targets.iter().flatten().count(), "{note}");
    assert_eq!(turn.answer.matches("<Phrase>").count(), turn.plan.len(), "{note}");
    assert!(!turn.answer.is_empty() && !turn.question.contains('{'), "{note}");
    if turn.absent || turn.units.is_empty() {
        assert!(turn.plan.is_empty(), "{note}");
    } else {
        assert!(!turn.plan.is_empty(), "{note}");
    }
    let mut used = BTreeSet::new();
    for (item, ids) in turn.plan.iter().zip(&turn.targets) {
        assert_eq!(item.num, ids.len(), "{note}");
        assert!(turn.units.contains(&item.unit), "{note}");
        assert!(turn.answer.contains(&tabletop::turn::triplet(&item.name, item.unit, item.num)), "{note}");
        let mut last = f32::NEG_INFINITY;
        for id in ids {
            if item.unit == Unit::Depth {
                assert_eq!(*id, 0, "{note}");
                continue;
            }
            let o = &r.objects[*id as usize - 1];
            assert!(o.target && used.insert(*id), "{note}");
            assert!(item.name == o.class || item.name == o.full_name(), "{note}");
            assert!(o.centre_x() >= last, "left to right: {note}");
            last = o.centre_x();
        }
    }
    let caption = matches!(turn.task, Task::GcgDetection | Task::GcgSegmentation);
    if caption {
        assert_eq!(used.len(), r.objects.iter().filter(|o| o.target).count(), "{note}");
    }
    if matches!(turn.task, Task::Detection | Task::Segmentation) && turn.plan.len() == 1 && turn.template < 4
    {
        let class = &turn.plan[0].name;
        assert!(turn.question.contains(class.as_str()), "{note}");
        let all = r.objects.iter().filter(|o| o.target && o.class == *class).count();
        assert_eq!(turn.plan[0].num, all, "{note}");
    }
    for p in &turn.prompts {
        let own = |q: &[f32; 2]| r.instance[q[1] as usize * r.width + q[0] as usize] == p.instance;
        match p.kind {
            PromptKind::Point => assert!(p.point.iter().all(own) && p.point.is_some(), "{note}"),
            PromptKind::Scribble => {
                let s = p.scribble.as_deref().unwrap_or(&[]);
                assert!(s.len() >= 3 && s.iter().all(own), "{note}");
            }
            PromptKind::Box => {
                let [x0, y0, x1, y1] = p.bounds.expect("a box prompt has a box");
                assert!(x0 >= 0.0 && y0 >= 0.0 && x1 <= r.width as f32 && y1 <= r.height as f32, "{note}");
                assert!(x1 > x0 && y1 > y0, "{note}");
            }
            PromptKind::Mask => assert!(r.instance.contains(&p.instance), "{note}"),
        }
    }
}

#[test]
fn answers_agree_with_the_labels() {
    for r in pictures(300, 150) {
        for turn in turns(&r, r.seed).iter().chain(&one_per_task(&r, r.seed)) {
            check(&r, turn);
        }
        for (_, _, turn) in every_combination(&r, r.seed) {
            check(&r, &turn);
        }
    }
}

#[test]
fn text_answers_are_true() {
    let words = ["None.", "One.", "Two.", "Three.", "Four.", "Five."];
    let mut counts = BTreeMap::new();
    for r in pictures(0, 300) {
        for turn in turns(&r, r.seed).into_iter().filter(|t| t.task == Task::Vqa && t.prompts.is_empty()) {
            let text = turn.question.trim_end_matches(['.', '?']);
            let counted = text
                .strip_prefix("Count the ")
                .or_else(|| text.strip_prefix("How many ")?.split_once(" are there").map(|s| s.0))
                .or_else(|| text.strip_prefix("How many ")?.split_once(" do you see").map(|s| s.0));
            let exists = ["Is there a ", "Do you see a "].iter().find_map(|p| text.strip_prefix(p));
            let exists = exists.or_else(|| text.strip_prefix("Is a ")?.strip_suffix(" on the table"));
            if let Some(plural) = counted {
                let n = fitting(plural.trim_end_matches('s'), &r).len();
                assert_eq!(turn.answer, words[n], "seed {}: {text}", r.seed);
                *counts.entry(n).or_insert(0) += 1;
            } else if let Some(name) = exists {
                let yes = !fitting(name, &r).is_empty();
                assert_eq!(turn.answer, if yes { "Yes." } else { "No." }, "seed {}: {text}", r.seed);
            } else if let Some((_, claim)) = text.split_once("s the ").filter(|_| turn.template >= 21) {
                let (subject, rest) = ["left of", "right of", "in front of", "behind"]
                    .iter()
                    .find_map(|w| Some((claim.split_once(&format!(" {w} the "))?.0, claim)))
                    .expect("a relation");
                let subject = fitting(subject, &r);
                assert_eq!(subject.len(), 1, "seed {}: {text}", r.seed);
                let yes = fitting(rest, &r).iter().any(|o| o.id == subject[0].id);
                assert_eq!(turn.answer, if yes { "Yes." } else { "No." }, "seed {}: {text}", r.seed);
            }
        }
    }
    for n in 0..=3 {
        assert!(counts.get(&n).is_some_and(|c| *c >= 15), "counts {counts:?}");
    }
}

#[test]
fn every_combination_occurs_in_the_mix() {
    let mut seen: BTreeMap<(Option<PromptKind>, Option<Unit>), usize> = BTreeMap::new();
    let (mut all, mut absent) = (0, 0);
    let mut tasks = BTreeSet::new();
    let mut numbers = [0usize; 4];
    for r in pictures(0, 500) {
        for turn in turns(&r, r.seed) {
            let kind = turn.prompts.first().map(|p| p.kind);
            *seen.entry((kind, turn.units.first().copied())).or_default() += 1;
            tasks.insert(turn.task);
            all += 1;
            absent += usize::from(turn.absent);
            if turn.task == Task::Detection && turn.template < 5 && !turn.absent {
                numbers[turn.plan[0].num.min(3)] += 1;
            }
        }
    }
    assert_eq!(tasks.len(), Task::ALL.len());
    assert_eq!(seen.len(), 25, "{seen:?}");
    let share = absent as f32 / all as f32;
    assert!((0.13..=0.17).contains(&share), "{share} of the questions name something absent");
    assert!(numbers[1..].iter().all(|n| *n > 60), "boxes of one class by number: {numbers:?}");
}

#[test]
fn evaluation_asks_every_task() {
    let (mut all, mut absent) = (0, 0);
    for r in pictures(2_000_000, 200) {
        let asked = one_per_task(&r, r.seed);
        let person = r.objects.iter().any(|o| o.target && o.keypoints.is_some());
        assert_eq!(asked.len(), if person { 10 } else { 9 }, "seed {}", r.seed);
        assert_eq!(every_combination(&r, r.seed).len(), if person { 25 } else { 21 }, "seed {}", r.seed);
        all += asked.len();
        absent += asked.iter().filter(|t| t.absent).count();
    }
    let share = absent as f32 / all as f32;
    assert!((0.12..=0.18).contains(&share), "{share} of the questions name something absent");
}

#[test]
fn json_round_trip() {
    for r in pictures(0, 20) {
        let turns = turns(&r, r.seed);
        let header = Header { seed: r.seed, width: r.width, height: r.height, objects: r.objects, turns };
        let json = serde_json::to_string(&header).expect("labels are plain data");
        let back: Header = serde_json::from_str(&json).expect("what was written can be read");
        assert_eq!(back, header);
    }
}

#[test]
fn conversations_have_as_many_placeholders_as_indices() {
    for r in pictures(0, 60) {
        for turn in turns(&r, r.seed) {
            let line = serde_json::to_value(conversation(&r, &turn, "a.png", "b.png")).expect("plain data");
            let messages = line["conversations"].as_array().expect("a list");
            assert_eq!(messages.len(), 3);
            for message in &messages[1..] {
                let text = message["value"].as_str().expect("text");
                assert!(!text.contains("<REF>") && !text.contains("[VPT]"), "{text}");
                for list in ["boxes", "masks", "points", "keypoints", "depth"] {
                    let indices: Vec<u64> = message[format!("{list}_seq")]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .flat_map(|group| group.as_array().into_iter().flatten())
                        .filter_map(|v| v.as_u64())
                        .collect();
                    assert_eq!(text.matches(&format!("<{list}>")).count(), indices.len(), "{line}");
                    let known = line["target"][list].as_array().map_or(0, |t| t.len());
                    assert!(indices.iter().all(|i| (*i as usize) < known), "{line}");
                }
            }
        }
    }
}
