//! What can be answered without looking: the mean box, mask and pose, a fitted depth plane, the most frequent words.
//!
//! Fitted on scenes that are neither trained on nor evaluated. The shapes are `told` the true words, which makes them a
//! stronger opponent than any answer of their own; the words are `blind`.

mod counts;
mod mask;
mod plane;

use std::collections::BTreeMap;

use crate::metrics::triplets::Claim;
use crate::question::{Answer, Claimed, Guess, Picture, Question, Target};
use counts::Counts;
use mask::MeanMask;
use plane::InverseDepth;

/// How many joints a figure has.
const JOINTS: usize = 17;

/// Gathers scenes; `finish` makes the prior of them.
#[derive(Default)]
pub struct Fit {
    boxes: usize,
    box_sum: [f64; 4],
    mask: MeanMask,
    joint_sum: [[f64; 2]; JOINTS],
    joint_count: [usize; JOINTS],
    plane: InverseDepth,
    claims: BTreeMap<String, Counts<Vec<Claim>>>,
    sentences: BTreeMap<String, Counts<String>>,
}

impl Fit {
    /// Takes in one scene with its questions.
    pub fn add<'a>(&mut self, picture: &Picture, questions: impl IntoIterator<Item = &'a Question>) {
        let size = [picture.width as f64, picture.height as f64];
        self.plane.add(picture.width, picture.height, &picture.depth);
        for question in questions {
            for truth in &question.truth {
                for object in truth.instances.iter().filter_map(|&id| picture.object(id)) {
                    match truth.unit.as_str() {
                        "box" => self.add_box(object.bounds, size),
                        "mask" => self.mask.add(picture.width, picture.height, &picture.mask(object.id)),
                        "keypoint" => self.add_joints(&object.joints, size),
                        _ => {}
                    }
                }
            }
            self.add_words(question);
        }
    }

    fn add_box(&mut self, bounds: [f32; 4], size: [f64; 2]) {
        self.boxes += 1;
        for (index, sum) in self.box_sum.iter_mut().enumerate() {
            *sum += f64::from(bounds[index]) / size[index % 2];
        }
    }

    fn add_joints(&mut self, joints: &[[f32; 3]], size: [f64; 2]) {
        for (index, joint) in joints.iter().enumerate().take(JOINTS).filter(|(_, joint)| joint[2] > 0.0) {
            self.joint_count[index] += 1;
            for axis in 0..2 {
                self.joint_sum[index][axis] += f64::from(joint[axis]) / size[axis];
            }
        }
    }

    fn add_words(&mut self, question: &Question) {
        let task = question.task.clone();
        if question.in_words {
            self.sentences.entry(task).or_default().add(question.answer.trim().to_owned());
        } else if !question.is_absent() {
            let mut claims: Vec<Claim> = question
                .truth
                .iter()
                .map(|t| (t.phrase.trim().to_owned(), t.unit.clone(), t.instances.len()))
                .collect();
            claims.sort_unstable();
            self.claims.entry(task).or_default().add(claims);
        }
    }

    /// The prior of all scenes taken in.
    pub fn finish(self) -> Prior {
        let mut bounds = [0.0, 0.0, 1.0, 1.0];
        if self.boxes > 0 {
            bounds = self.box_sum.map(|sum| sum / self.boxes as f64);
        }
        let mut joints = [[0.5; 2]; JOINTS];
        for (index, joint) in joints.iter_mut().enumerate().filter(|(index, _)| self.joint_count[*index] > 0)
        {
            *joint = self.joint_sum[index].map(|sum| sum / self.joint_count[index] as f64);
        }
        Prior {
            bounds,
            mask: self.mask.finish(),
            joints,
            plane: self.plane.finish(),
            claims: self
                .claims
                .into_iter()
                .filter_map(|(task, counts)| Some((task, counts.most()?)))
                .collect(),
            sentences: self
                .sentences
                .into_iter()
                .filter_map(|(task, counts)| Some((task, counts.most()?)))
                .collect(),
        }
    }
}

/// A fitted prior. Shapes are in parts of the picture's width and height.
pub struct Prior {
    bounds: [f64; 4],
    mask: mask::GridMask,
    joints: [[f64; 2]; JOINTS],
    plane: plane::Plane,
    claims: BTreeMap<String, Vec<Claim>>,
    sentences: BTreeMap<String, String>,
}

impl Prior {
    /// The mean shape for every true target: words, units and counts are those of the truth.
    pub fn told(&self, picture: &Picture, question: &Question) -> Answer {
        let mut answer = Answer { text: question.answer.clone(), triplets: Vec::new() };
        for truth in &question.truth {
            let target = self.target(picture, &truth.unit);
            answer.triplets.push(Claimed {
                phrase: truth.phrase.clone(),
                unit: truth.unit.clone(),
                targets: vec![Guess::given(target); truth.instances.len()],
            });
        }
        answer
    }

    /// The most frequent words of the task, without shapes.
    pub fn blind(&self, question: &Question) -> Answer {
        let mut answer = Answer::default();
        if question.in_words {
            answer.text = self.sentences.get(&question.task).cloned().unwrap_or_default();
        }
        for (phrase, unit, count) in self.claims.get(&question.task).into_iter().flatten() {
            answer.triplets.push(Claimed {
                phrase: phrase.clone(),
                unit: unit.clone(),
                targets: vec![Guess::given(Target::Missing); *count],
            });
        }
        answer
    }

    fn target(&self, picture: &Picture, unit: &str) -> Target {
        let size = [picture.width as f64, picture.height as f64];
        match unit {
            "box" => Target::Box(std::array::from_fn(|index| (self.bounds[index] * size[index % 2]) as f32)),
            "mask" => Target::Mask(self.mask.stretch(picture.width, picture.height)),
            "keypoint" => Target::Joints(
                self.joints.iter().map(|j| [(j[0] * size[0]) as f32, (j[1] * size[1]) as f32]).collect(),
            ),
            "depth" => Target::Depth(self.plane.map(picture.width, picture.height)),
            _ => Target::Missing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Fit;
    use crate::question::{Object, Picture, Question, Target, Truth};

    fn picture(bounds: [f32; 4], joints: Vec<[f32; 3]>) -> Picture {
        Picture {
            seed: 0,
            width: 10,
            height: 20,
            rgb: vec![0; 600],
            instance: vec![1; 200],
            depth: vec![2.0; 200],
            objects: vec![Object { id: 1, bounds, target: true, joints }],
        }
    }

    fn question(phrase: &str, unit: &str) -> Question {
        Question {
            task: "task".into(),
            in_words: false,
            truth: vec![Truth { phrase: phrase.into(), unit: unit.into(), instances: vec![1] }],
            answer: String::new(),
        }
    }

    #[test]
    fn the_mean_box_scales_with_the_picture() {
        let mut fit = Fit::default();
        fit.add(&picture([0.0, 0.0, 4.0, 10.0], vec![]), &[question("ball", "box")]);
        fit.add(&picture([2.0, 10.0, 10.0, 20.0], vec![]), &[question("ball", "box")]);
        let mut wide = picture([0.0; 4], vec![]);
        wide.width = 100;
        let answer = fit.finish().told(&wide, &question("cube", "box"));
        assert_eq!(answer.triplets[0].phrase, "cube");
        let Target::Box(bounds) = answer.triplets[0].targets[0].target else { panic!("no box") };
        for (value, wanted) in bounds.into_iter().zip([10.0, 5.0, 70.0, 15.0]) {
            assert!((value - wanted).abs() < 1e-4, "{bounds:?}");
        }
    }

    #[test]
    fn joints_outside_the_picture_have_no_part_in_the_mean() {
        let mut fit = Fit::default();
        fit.add(&picture([0.0; 4], vec![[5.0, 10.0, 2.0]]), &[question("mannequin", "keypoint")]);
        fit.add(&picture([0.0; 4], vec![[90.0, 90.0, 0.0]]), &[question("mannequin", "keypoint")]);
        let answer = fit.finish().told(&picture([0.0; 4], vec![]), &question("mannequin", "keypoint"));
        let Target::Joints(joints) = &answer.triplets[0].targets[0].target else { panic!("no joints") };
        assert_eq!((joints.len(), joints[0]), (17, [5.0, 10.0]));
    }

    #[test]
    fn words_are_the_most_frequent_ones() {
        let mut fit = Fit::default();
        for phrase in ["ball", "cube", "ball"] {
            fit.add(&picture([0.0; 4], vec![]), &[question(phrase, "box")]);
        }
        let prior = fit.finish();
        let answer = prior.blind(&question("cone", "box"));
        assert_eq!((answer.triplets[0].phrase.as_str(), answer.triplets.len()), ("ball", 1));
        let mut other = question("cone", "box");
        other.task = "never seen".into();
        assert!(prior.blind(&other).triplets.is_empty());
    }
}
