//! Collects the measures over questions; definitions in `docs/evaluation.md`.

use std::collections::{BTreeMap, BTreeSet};

use crate::metrics::assignment::assign;
use crate::metrics::average_precision::{Detection, average_precision, match_by_score};
use crate::metrics::depth::within_factor;
use crate::metrics::keypoints::correct_joints;
use crate::metrics::mean::Mean;
use crate::metrics::overlap::{box_iou, mask_iou};
use crate::metrics::triplets::{Claim, same_claims};
use crate::question::{Answer, Claimed, Picture, Question, Target, Truth};

/// A box is found at this intersection over union.
pub const BOX_IOU: f64 = 0.5;

/// The measures over some set of questions.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Every answered box.
    pub boxes: Vec<Detection>,
    /// Every answered box, right only when its phrase is that of the target too.
    pub named_boxes: Vec<Detection>,
    /// Share of the true boxes that were found.
    pub box_found: Mean,
    /// Intersection over union of every true mask.
    pub mask: Mean,
    /// Every visible joint: placed right or not.
    pub joints: Mean,
    /// Per depth question: share of right pixels on objects.
    pub depth_objects: Mean,
    /// Per depth question: share of right pixels.
    pub depth_all: Mean,
    /// Per question with true triplets: all claims right and no other made.
    pub triplets: Mean,
    /// Per question on an absent thing: a triplet was answered.
    pub absent: Mean,
    /// Per question of a task in words: the sentence is exact.
    pub text: Mean,
}

impl Totals {
    /// Average precision of the boxes at IoU 0.5.
    pub fn box_ap50(&self) -> Option<f64> {
        average_precision(&self.boxes, self.box_found.count())
    }

    /// The same with the phrase required.
    pub fn named_box_ap50(&self) -> Option<f64> {
        average_precision(&self.named_boxes, self.box_found.count())
    }

    /// Takes in everything of `other`.
    pub fn merge(&mut self, other: &Totals) {
        self.boxes.extend_from_slice(&other.boxes);
        self.named_boxes.extend_from_slice(&other.named_boxes);
        self.box_found.merge(&other.box_found);
        self.mask.merge(&other.mask);
        self.joints.merge(&other.joints);
        self.depth_objects.merge(&other.depth_objects);
        self.depth_all.merge(&other.depth_all);
        self.triplets.merge(&other.triplets);
        self.absent.merge(&other.absent);
        self.text.merge(&other.text);
    }

    /// The measures of one question.
    pub fn of(picture: &Picture, question: &Question, answer: &Answer) -> Totals {
        let mut totals = Totals::default();
        totals.add_boxes(picture, question, answer);
        totals.add_masks(picture, question, answer);
        totals.add_joints(picture, question, answer);
        totals.add_depth(picture, question, answer);
        totals.add_words(question, answer);
        totals
    }

    fn add_boxes(&mut self, picture: &Picture, question: &Question, answer: &Answer) {
        let mut answered: Vec<(&str, f32, [f32; 4])> = Vec::new();
        for triplet in &answer.triplets {
            for guess in &triplet.targets {
                if let Target::Box(bounds) = guess.target {
                    answered.push((triplet.phrase.trim(), guess.score, bounds));
                }
            }
        }
        let targets: Vec<(&str, [f32; 4])> = true_objects(picture, question, "box");
        let scores: Vec<f32> = answered.iter().map(|a| a.1).collect();
        let overlap = |a: usize, t: usize| box_iou(answered[a].2, targets[t].1);
        let matched = match_by_score(&scores, targets.len(), BOX_IOU, overlap);
        let named = match_by_score(&scores, targets.len(), BOX_IOU, |a, t| {
            if answered[a].0 == targets[t].0 { overlap(a, t) } else { 0.0 }
        });
        self.box_found.add_share(matched.iter().flatten().count(), targets.len());
        for (index, &score) in scores.iter().enumerate() {
            self.boxes.push(Detection { score, correct: matched[index].is_some() });
            self.named_boxes.push(Detection { score, correct: named[index].is_some() });
        }
    }

    fn add_masks(&mut self, picture: &Picture, question: &Question, answer: &Answer) {
        let phrases: BTreeSet<&str> =
            question.truth.iter().filter(|t| t.unit == "mask").map(|t| t.phrase.trim()).collect();
        for phrase in phrases {
            let truth: Vec<Vec<bool>> =
                instances_of(question, "mask", phrase).map(|id| picture.mask(id)).collect();
            let answered: Vec<&Vec<bool>> = targets_of(answer, phrase)
                .filter_map(|target| if let Target::Mask(mask) = target { Some(mask) } else { None })
                .collect();
            let mut overlaps = vec![vec![0.0; answered.len()]; truth.len()];
            for (row, mask) in overlaps.iter_mut().zip(&truth) {
                for (value, guess) in row.iter_mut().zip(&answered) {
                    *value = mask_iou(mask, guess);
                }
            }
            for (row, column) in
                assign(truth.len(), answered.len(), |r, c| overlaps[r][c]).into_iter().enumerate()
            {
                self.mask.add(column.map_or(0.0, |column| overlaps[row][column]));
            }
        }
    }

    fn add_joints(&mut self, picture: &Picture, question: &Question, answer: &Answer) {
        let phrases: BTreeSet<&str> =
            question.truth.iter().filter(|t| t.unit == "keypoint").map(|t| t.phrase.trim()).collect();
        for phrase in phrases {
            let figures: Vec<_> =
                instances_of(question, "keypoint", phrase).filter_map(|id| picture.object(id)).collect();
            let answered: Vec<&Vec<[f32; 2]>> = targets_of(answer, phrase)
                .filter_map(|target| if let Target::Joints(joints) = target { Some(joints) } else { None })
                .collect();
            let right = |figure: usize, guess: Option<usize>| {
                let figure = figures[figure];
                correct_joints(&figure.joints, figure.bounds, guess.map(|g| answered[g].as_slice()))
            };
            let pairs = assign(figures.len(), answered.len(), |f, a| right(f, Some(a)).0 as f64);
            for (figure, guess) in pairs.into_iter().enumerate() {
                let (hits, visible) = right(figure, guess);
                self.joints.add_share(hits, visible);
            }
        }
    }

    fn add_depth(&mut self, picture: &Picture, question: &Question, answer: &Answer) {
        if !question.truth.iter().any(|t| t.unit == "depth") {
            return;
        }
        let map = answer.triplets.iter().flat_map(|t| &t.targets).find_map(|guess| {
            if let Target::Depth(map) = &guess.target { Some(map.as_slice()) } else { None }
        });
        let on_object = |index: usize| picture.instance.get(index).is_some_and(|&id| id != 0);
        if let Some(share) = within_factor(&picture.depth, map, on_object) {
            self.depth_objects.add(share);
        }
        if let Some(share) = within_factor(&picture.depth, map, |_| true) {
            self.depth_all.add(share);
        }
    }

    fn add_words(&mut self, question: &Question, answer: &Answer) {
        if question.in_words {
            self.text.add_share(usize::from(question.answer.trim() == answer.text.trim()), 1);
        } else if question.is_absent() {
            self.absent.add_share(usize::from(!answer.triplets.is_empty()), 1);
        } else {
            let truth: Vec<Claim> = question
                .truth
                .iter()
                .map(|t| (t.phrase.clone(), t.unit.clone(), t.instances.len()))
                .collect();
            let claims: Vec<Claim> = answer.triplets.iter().map(claim).collect();
            self.triplets.add_share(usize::from(same_claims(&truth, &claims)), 1);
        }
    }
}

/// What a triplet says in words.
fn claim(triplet: &Claimed) -> Claim {
    (triplet.phrase.clone(), triplet.unit.clone(), triplet.targets.len())
}

/// Phrase and box of every true target of the given unit.
fn true_objects<'a>(picture: &Picture, question: &'a Question, unit: &str) -> Vec<(&'a str, [f32; 4])> {
    let mut list = Vec::new();
    for truth in question.truth.iter().filter(|t| t.unit == unit) {
        for object in truth.instances.iter().filter_map(|&id| picture.object(id)) {
            list.push((truth.phrase.trim(), object.bounds));
        }
    }
    list
}

/// The objects of all true triplets of one unit and phrase.
fn instances_of<'a>(question: &'a Question, unit: &'a str, phrase: &'a str) -> impl Iterator<Item = u8> + 'a {
    let same = move |t: &&Truth| t.unit == unit && t.phrase.trim() == phrase;
    question.truth.iter().filter(same).flat_map(|t| t.instances.iter().copied())
}

/// The targets of all answered triplets of one phrase.
fn targets_of<'a>(answer: &'a Answer, phrase: &'a str) -> impl Iterator<Item = &'a Target> + 'a {
    answer
        .triplets
        .iter()
        .filter(move |t| t.phrase.trim() == phrase)
        .flat_map(|t| &t.targets)
        .map(|g| &g.target)
}

/// The measures of one way of answering, whole and broken down.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Over all questions.
    pub all: Totals,
    /// By task.
    pub tasks: BTreeMap<String, Totals>,
    /// By the number of targets in the picture.
    pub targets: BTreeMap<usize, Totals>,
}

impl Tally {
    /// Takes in the answer to one question.
    pub fn add(&mut self, picture: &Picture, question: &Question, answer: &Answer) {
        let totals = Totals::of(picture, question, answer);
        self.all.merge(&totals);
        self.tasks.entry(question.task.clone()).or_default().merge(&totals);
        self.targets.entry(picture.targets()).or_default().merge(&totals);
    }

    /// Takes in everything of `other`.
    pub fn merge(&mut self, other: &Tally) {
        self.all.merge(&other.all);
        for (task, totals) in &other.tasks {
            self.tasks.entry(task.clone()).or_default().merge(totals);
        }
        for (count, totals) in &other.targets {
            self.targets.entry(*count).or_default().merge(totals);
        }
    }
}

#[cfg(test)]
#[path = "tally_tests.rs"]
mod tests;
