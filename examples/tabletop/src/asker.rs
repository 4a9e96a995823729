//! Makes single questions about a picture. Each method gives `None` where the picture does not allow its question.

use crate::labels::ObjectLabel;
use crate::language::{self as words, Wordings, fill, number, sentence};
use crate::prompts::{PromptKind, prompt};
use crate::referring::{Attributes, Relation, refer, unique_attributes};
use crate::render::Rendered;
use crate::rng::Rng;
use crate::scene::{Colour, Shape, Size};
use crate::turn::{PlanItem, Task, Turn, Unit, triplet};

/// Asks about one picture.
pub struct Asker<'a> {
    r: &'a Rendered,
    targets: Vec<&'a ObjectLabel>,
    /// The generator of every choice.
    pub rng: Rng,
}

/// A phrase with its targets, leftmost first.
struct Group<'a> {
    phrase: String,
    members: Vec<&'a ObjectLabel>,
}

impl<'a> Asker<'a> {
    /// An asker whose choices follow (`seed`, `stream`).
    pub fn new(r: &'a Rendered, seed: u64, stream: u64) -> Self {
        Asker { r, targets: r.objects.iter().filter(|o| o.target).collect(), rng: Rng::new(seed, stream) }
    }

    fn long(&self) -> f32 {
        self.r.width.max(self.r.height) as f32
    }

    fn wording(&mut self, w: &Wordings, name: &str) -> (u32, String) {
        let i = self.rng.below(w.texts.len());
        (w.base + i as u32, fill(w.texts[i], name))
    }

    fn turn(&mut self, task: Task, w: &Wordings, name: &str) -> Turn {
        let (template, question) = self.wording(w, name);
        Turn {
            task,
            template,
            question,
            prompts: Vec::new(),
            units: task.unit().into_iter().collect(),
            elements: task.elements().iter().map(|e| e.to_string()).collect(),
            plan: Vec::new(),
            answer: String::new(),
            targets: Vec::new(),
            absent: false,
        }
    }

    fn text(&mut self, w: &Wordings, name: &str, answer: String) -> Turn {
        Turn { answer, ..self.turn(Task::Vqa, w, name) }
    }

    fn missing(&mut self, task: Task, w: &Wordings, name: &str, answer: String) -> Turn {
        Turn { answer, absent: true, ..self.turn(task, w, name) }
    }

    /// Targets by class, groups and members from left to right.
    fn groups(&self) -> Vec<Group<'a>> {
        let mut sorted = self.targets.clone();
        sorted.sort_by(|a, b| a.centre_x().total_cmp(&b.centre_x()));
        let mut out: Vec<Group<'a>> = Vec::new();
        for o in sorted {
            match out.iter_mut().find(|g| g.phrase == o.class) {
                Some(group) => group.members.push(o),
                None => out.push(Group { phrase: o.class.clone(), members: vec![o] }),
            }
        }
        out
    }

    fn answered(
        mut turn: Turn,
        groups: &[Group<'_>],
        unit: Unit,
        join: impl Fn(&[String]) -> String,
    ) -> Turn {
        let texts: Vec<String> = groups.iter().map(|g| triplet(&g.phrase, unit, g.members.len())).collect();
        turn.answer = join(&texts);
        turn.plan =
            groups.iter().map(|g| PlanItem { name: g.phrase.clone(), unit, num: g.members.len() }).collect();
        turn.targets = groups.iter().map(|g| g.members.iter().map(|o| o.id).collect()).collect();
        turn
    }

    /// A class that no object of the scene has, more often than not close to one that is there.
    fn absent_class(&mut self) -> Option<(String, Colour, Shape)> {
        for _ in 0..40 {
            let mut colour = Colour::ALL[self.rng.below(8)];
            let mut shape = Shape::ALL[self.rng.below(5)];
            if self.rng.chance(0.6)
                && let Some(o) = self.rng.pick(&self.targets).copied()
            {
                if self.rng.chance(0.5) {
                    colour = Colour::ALL.into_iter().find(|c| c.word() == o.colour).unwrap_or(colour);
                } else {
                    shape = Shape::ALL.into_iter().find(|s| s.word() == o.shape).unwrap_or(shape);
                }
            }
            let name = format!("{} {}", colour.word(), shape.word());
            if !self.r.objects.iter().any(|o| o.class == name) {
                return Some((name, colour, shape));
            }
        }
        None
    }

    /// A class with all its targets; classes with several members come up more often.
    fn present_class(&mut self) -> Option<Group<'a>> {
        let mut groups = self.groups();
        let weights: Vec<f32> =
            groups.iter().map(|g| [1.0, 2.5, 4.0][g.members.len().clamp(1, 3) - 1]).collect();
        let chosen = self.rng.weighted(&weights);
        (chosen < groups.len()).then(|| groups.swap_remove(chosen))
    }

    /// Detection or segmentation of one class.
    pub fn one_class(&mut self, task: Task, absent: bool) -> Option<Turn> {
        let unit = task.unit()?;
        let w = if unit == Unit::Box { &words::DETECT_CLASS } else { &words::SEGMENT_CLASS };
        if absent {
            let (name, ..) = self.absent_class()?;
            return Some(self.missing(task, w, &name, format!("There is no {name}.")));
        }
        let group = self.present_class()?;
        let turn = self.turn(task, w, &group.phrase);
        Some(Self::answered(turn, &[group], unit, |t| t.join(", ")))
    }

    /// Detection or segmentation of every target, grouped by class.
    pub fn everything(&mut self, task: Task) -> Option<Turn> {
        let unit = task.unit()?;
        let w = if unit == Unit::Box { &words::DETECT_ALL } else { &words::SEGMENT_ALL };
        let turn = self.turn(task, w, "");
        Some(Self::answered(turn, &self.groups(), unit, |t| t.join(", ")))
    }

    /// A grounded caption that names every target.
    pub fn caption(&mut self, task: Task) -> Option<Turn> {
        let unit = task.unit()?;
        let w = if unit == Unit::Box { &words::CAPTION_BOX } else { &words::CAPTION_MASK };
        let turn = self.turn(task, w, "");
        Some(Self::answered(turn, &self.groups(), unit, |t| match t {
            [] => String::new(),
            [one] => format!("There is {one}."),
            [first @ .., last] => format!("There is {} and {last}.", first.join(", ")),
        }))
    }

    /// The box or mask of the one thing that a referring expression means.
    pub fn referring(&mut self, task: Task, absent: bool) -> Option<Turn> {
        let unit = task.unit()?;
        let w = if unit == Unit::Box { &words::REFER_BOX } else { &words::REFER_MASK };
        if absent {
            let (name, phrase) = self.absent_thing()?;
            return Some(self.missing(task, w, &name, format!("There is no {phrase}.")));
        }
        let o = self.rng.pick(&self.targets).copied()?;
        let long = self.long();
        let expression = refer(o, &self.r.objects, long, &mut self.rng)?;
        let turn = self.turn(task, w, &expression.words());
        let group = Group { phrase: o.full_name(), members: vec![o] };
        Some(Self::answered(turn, &[group], unit, |t| t.join(", ")))
    }

    /// Words for something that is not there (wrong class, or wrong size of a present class), and its phrase.
    fn absent_thing(&mut self) -> Option<(String, String)> {
        if self.rng.chance(0.3)
            && let Some(o) = self.rng.pick(&self.targets).copied()
            && !o.colour.is_empty()
            && self.r.objects.iter().filter(|p| p.class == o.class).all(|p| p.size == o.size)
        {
            let other = if o.size == Size::Small.word() { Size::Large } else { Size::Small };
            let name = format!("{} {}", other.word(), o.class);
            return Some((name.clone(), name));
        }
        let (class, ..) = self.absent_class()?;
        let name = match self.rng.below(3) {
            0 => class,
            1 => format!("small {class}"),
            _ => format!("large {class}"),
        };
        let landmark = self.rng.pick(&self.targets).copied();
        if let Some(landmark) = landmark
            && self.rng.chance(0.4)
            && let Some(a) = unique_attributes(landmark, &self.r.objects, &mut self.rng)
            && !a.shape.is_empty()
        {
            let relation = Relation::ALL[self.rng.below(4)];
            return Some((format!("{name} {} the {}", relation.words(), a.words()), name));
        }
        Some((name.clone(), name))
    }

    fn prompted(&mut self, turn: &mut Turn, o: &ObjectLabel, kind: PromptKind) {
        turn.prompts = vec![prompt(self.r, o, kind, &mut self.rng)];
    }

    /// The box or mask of a prompted thing.
    pub fn region(&mut self, task: Task, kind: PromptKind) -> Option<Turn> {
        let unit = task.unit()?;
        let o = self.rng.pick(&self.targets).copied()?;
        let w = if unit == Unit::Box { &words::REGION_BOX } else { &words::REGION_MASK };
        let mut turn = self.turn(task, w, "");
        self.prompted(&mut turn, o, kind);
        let group = Group { phrase: o.full_name(), members: vec![o] };
        Some(Self::answered(turn, &[group], unit, |t| t.join(", ")))
    }

    /// The joints of every mannequin.
    pub fn pose(&mut self) -> Option<Turn> {
        let members: Vec<_> = self.targets.iter().copied().filter(|o| o.keypoints.is_some()).collect();
        if members.is_empty() {
            let answer = "There is no mannequin.".to_string();
            return Some(self.missing(Task::KeypointDetection, &words::POSE_ALL, "", answer));
        }
        let turn = self.turn(Task::KeypointDetection, &words::POSE_ALL, "");
        let group = Group { phrase: "mannequin".into(), members };
        Some(Self::answered(turn, &[group], Unit::Keypoint, |t| t.join(", ")))
    }

    /// The joints of a prompted mannequin.
    pub fn region_pose(&mut self, kind: PromptKind) -> Option<Turn> {
        let o = self.targets.iter().copied().find(|o| o.keypoints.is_some())?;
        let mut turn = self.turn(Task::GroundingKeypoints, &words::POSE_REGION, "");
        self.prompted(&mut turn, o, kind);
        let group = Group { phrase: "mannequin".into(), members: vec![o] };
        Some(Self::answered(turn, &[group], Unit::Keypoint, |t| t.join(", ")))
    }

    /// The depth of the picture. Asked about a region, the phrase names the region; the map is of the whole picture
    /// all the same.
    pub fn depth(&mut self, kind: Option<PromptKind>) -> Option<Turn> {
        let (mut turn, phrase) = match kind {
            None => (self.turn(Task::Depth, &words::DEPTH_ALL, ""), "scene".to_string()),
            Some(kind) => {
                let o = self.rng.pick(&self.targets).copied()?;
                let mut turn = self.turn(Task::Depth, &words::DEPTH_REGION, "");
                self.prompted(&mut turn, o, kind);
                (turn, o.full_name())
            }
        };
        turn.answer = triplet(&phrase, Unit::Depth, 1);
        turn.plan = vec![PlanItem { name: phrase, unit: Unit::Depth, num: 1 }];
        turn.targets = vec![vec![0]];
        Some(turn)
    }

    /// A text question about a prompted region: what it is, its colour, whether it is of a class.
    pub fn region_text(&mut self, kind: PromptKind) -> Option<Turn> {
        let o = self.rng.pick(&self.targets).copied()?;
        let style = self.rng.unit();
        let mut turn = if style < 0.6 || o.colour.is_empty() {
            self.text(&words::REGION_CAPTION, "", sentence(&format!("a {}", o.full_name())))
        } else if style < 0.8 {
            self.text(&words::REGION_COLOUR, "", sentence(&o.colour))
        } else if self.rng.chance(0.5) {
            self.text(&words::REGION_IS, &o.class, "Yes.".into())
        } else {
            let others: Vec<_> = self.targets.iter().copied().filter(|p| p.class != o.class).collect();
            let name = match self.rng.pick(&others).copied() {
                Some(p) => p.class.clone(),
                None => self.absent_class()?.0,
            };
            self.text(&words::REGION_IS, &name, "No.".into())
        };
        self.prompted(&mut turn, o, kind);
        Some(turn)
    }

    /// How many there are of a class, of a shape or of a colour.
    pub fn count(&mut self, absent: bool) -> Option<Turn> {
        if absent {
            let (name, ..) = self.absent_class()?;
            return Some(self.missing(Task::Vqa, &words::COUNT, &name, "None.".into()));
        }
        let group = self.present_class()?;
        let style = self.rng.unit();
        let o = *group.members.first()?;
        if style < 0.7 || o.colour.is_empty() {
            return Some(self.text(&words::COUNT, &group.phrase, sentence(number(group.members.len()))));
        }
        let attributes = Attributes::of(o, false, style >= 0.85, style < 0.85);
        let count = self.targets.iter().filter(|p| attributes.fit(p)).count();
        Some(self.text(&words::COUNT, &attributes.words(), sentence(number(count))))
    }

    /// Existence, colour or size of a described thing, or whether a relation holds.
    pub fn question(&mut self, absent: bool) -> Option<Turn> {
        if absent {
            let (name, ..) = self.absent_class()?;
            return Some(self.missing(Task::Vqa, &words::EXISTS, &name, "No.".into()));
        }
        let style = self.rng.unit();
        let o = self.rng.pick(&self.targets).copied()?;
        if style < 0.3 || o.colour.is_empty() {
            return Some(self.text(&words::EXISTS, &o.class, "Yes.".into()));
        }
        let alone = |a: &Attributes, r: &Rendered| r.objects.iter().filter(|p| a.fit(p)).count() == 1;
        if style < 0.55 {
            let plain = Attributes::of(o, false, false, true);
            let sized = Attributes::of(o, true, false, true);
            let a = [plain, sized].into_iter().find(|a| alone(a, self.r))?;
            return Some(self.text(&words::COLOUR_OF, &a.words(), sentence(&o.colour)));
        }
        if style < 0.7 {
            let a = Attributes::of(o, false, true, true);
            return alone(&a, self.r).then(|| self.text(&words::SIZE_OF, &a.words(), sentence(&o.size)));
        }
        let others: Vec<_> = self.targets.iter().copied().filter(|p| p.id != o.id).collect();
        let other = self.rng.pick(&others).copied()?;
        let first = unique_attributes(o, &self.r.objects, &mut self.rng)?;
        let second = unique_attributes(other, &self.r.objects, &mut self.rng)?;
        let relation = Relation::ALL[self.rng.below(4)];
        let holds = relation.holds(o, other, self.long())?;
        let statement = format!("{} {} the {}", first.words(), relation.words(), second.words());
        Some(self.text(&words::RELATION_HOLDS, &statement, if holds { "Yes." } else { "No." }.into()))
    }
}
