//! Referring expressions: attributes, superlatives and relations that fit exactly one target of a picture.

use serde::{Deserialize, Serialize};

use crate::labels::ObjectLabel;
use crate::rng::Rng;

/// How two objects stand to each other, seen from the camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Relation {
    /// Further left on the picture.
    LeftOf,
    /// Further right on the picture.
    RightOf,
    /// Nearer to the camera.
    InFrontOf,
    /// Farther from the camera.
    Behind,
}

impl Relation {
    /// All relations.
    pub const ALL: [Relation; 4] =
        [Relation::LeftOf, Relation::RightOf, Relation::InFrontOf, Relation::Behind];
    /// The words.
    pub fn words(self) -> &'static str {
        ["left of", "right of", "in front of", "behind"][self as usize]
    }
    /// The superlative that picks the extreme of a group.
    pub fn superlative(self) -> &'static str {
        ["leftmost", "rightmost", "nearest", "farthest"][self as usize]
    }
    /// Whether it holds of (`a`, `b`) on a picture with a `long` side: `None` when too close to call.
    pub fn holds(self, a: &ObjectLabel, b: &ObjectLabel, long: f32) -> Option<bool> {
        let (gap, least) = match self {
            Relation::LeftOf => (b.centre_x() - a.centre_x(), 0.05 * long),
            Relation::RightOf => (a.centre_x() - b.centre_x(), 0.05 * long),
            Relation::InFrontOf => (b.depth - a.depth, 0.06),
            Relation::Behind => (a.depth - b.depth, 0.06),
        };
        if gap.abs() < least { None } else { Some(gap > 0.0) }
    }
}

/// Attributes that a thing must have; empty means any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Size word.
    pub size: String,
    /// Colour word.
    pub colour: String,
    /// Shape word.
    pub shape: String,
}

impl Attributes {
    /// Some of an object's attributes.
    pub fn of(o: &ObjectLabel, size: bool, colour: bool, shape: bool) -> Attributes {
        let take = |on: bool, s: &str| if on { s.to_string() } else { String::new() };
        Attributes {
            size: take(size, &o.size),
            colour: take(colour, &o.colour),
            shape: take(shape, &o.shape),
        }
    }
    /// Whether an object has them all.
    pub fn fit(&self, o: &ObjectLabel) -> bool {
        (self.size.is_empty() || self.size == o.size)
            && (self.colour.is_empty() || self.colour == o.colour)
            && (self.shape.is_empty() || self.shape == o.shape)
    }
    /// The words, `thing` for any shape.
    pub fn words(&self) -> String {
        let shape = if self.shape.is_empty() { "thing" } else { &self.shape };
        [self.size.as_str(), self.colour.as_str(), shape]
            .iter()
            .filter(|w| !w.is_empty())
            .copied()
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// What an expression says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// `small red ball`.
    Plain(Attributes),
    /// `leftmost red ball`.
    Extreme(Relation, Attributes),
    /// `red ball left of the green can`.
    Related(Attributes, Relation, Attributes),
}

impl Expression {
    /// The words, without an article.
    pub fn words(&self) -> String {
        match self {
            Expression::Plain(a) => a.words(),
            Expression::Extreme(r, a) => format!("{} {}", r.superlative(), a.words()),
            Expression::Related(a, r, b) => format!("{} {} the {}", a.words(), r.words(), b.words()),
        }
    }

    /// The targets it fits; `None` when a needed comparison is too close to call or the landmark is not unique.
    pub fn matches<'a>(&self, objects: &'a [ObjectLabel], long: f32) -> Option<Vec<&'a ObjectLabel>> {
        let fitting = |a: &Attributes| -> Vec<&'a ObjectLabel> {
            objects.iter().filter(|o| o.target && a.fit(o)).collect()
        };
        match self {
            Expression::Plain(a) => Some(fitting(a)),
            Expression::Extreme(relation, a) => {
                let group = fitting(a);
                if group.len() < 2 {
                    return None;
                }
                let mut out = Vec::new();
                for o in &group {
                    let mut first = true;
                    for other in group.iter().filter(|p| p.id != o.id) {
                        match relation.holds(o, other, long) {
                            Some(holds) => first &= holds,
                            // A tie between two that are both beaten by a third does no harm.
                            None => {
                                let beaten = group.iter().any(|p| relation.holds(p, o, long) == Some(true));
                                if !beaten {
                                    return None;
                                }
                                first = false;
                            }
                        }
                    }
                    if first {
                        out.push(*o);
                    }
                }
                Some(out)
            }
            Expression::Related(a, relation, b) => {
                let landmark = fitting(b);
                let [landmark] = landmark.as_slice() else { return None };
                let mut out = Vec::new();
                for o in fitting(a).into_iter().filter(|o| o.id != landmark.id) {
                    if relation.holds(o, landmark, long)? {
                        out.push(o);
                    }
                }
                Some(out)
            }
        }
    }

    /// Whether it fits `id` and nothing else.
    pub fn identifies(&self, id: u8, objects: &[ObjectLabel], long: f32) -> bool {
        self.matches(objects, long).is_some_and(|m| matches!(m.as_slice(), [o] if o.id == id))
    }
}

/// The shortest attributes, by a random preference, that fit only `o`.
pub fn unique_attributes(o: &ObjectLabel, objects: &[ObjectLabel], rng: &mut Rng) -> Option<Attributes> {
    if o.colour.is_empty() {
        return Some(Attributes::of(o, false, false, true));
    }
    let mut forms = [(false, true, true), (true, false, true), (false, true, false), (true, true, true)];
    let wanted = rng.weighted(&[0.5, 0.15, 0.1, 0.25]);
    forms.swap(0, wanted);
    forms.into_iter().map(|(s, c, p)| Attributes::of(o, s, c, p)).find(|a| {
        let clashes = objects.iter().filter(|p| p.id != o.id && a.fit(p)).count();
        clashes == 0
    })
}

/// A random expression that identifies target `o`: relations and superlatives are preferred where attributes alone
/// are not enough, and are used now and then where they are.
pub fn refer(o: &ObjectLabel, objects: &[ObjectLabel], long: f32, rng: &mut Rng) -> Option<Expression> {
    let plain = unique_attributes(o, objects, rng).map(Expression::Plain);
    if let Some(plain) = &plain
        && (o.colour.is_empty() || rng.chance(0.55))
    {
        return Some(plain.clone());
    }
    let heads = [
        Attributes::of(o, false, true, true),
        Attributes::of(o, true, true, true),
        Attributes::of(o, false, false, true),
    ];
    let mut choices = Vec::new();
    for head in &heads {
        for relation in Relation::ALL {
            choices.push(Expression::Extreme(relation, head.clone()));
            for other in objects.iter().filter(|p| p.target && p.id != o.id) {
                if let Some(landmark) = unique_attributes(other, objects, rng)
                    && !landmark.shape.is_empty()
                {
                    choices.push(Expression::Related(head.clone(), relation, landmark));
                }
            }
        }
    }
    rng.shuffle(&mut choices);
    choices.into_iter().find(|c| c.identifies(o.id, objects, long)).or(plain)
}
