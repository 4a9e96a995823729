//! An answer as data: plan, sentence, triplets; and how it is written.
#![forbid(unsafe_code)]

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use core::ops::Range;

use crate::trp::flags::Flags;
use crate::trp::task::Unit;

/// What a plan without items says.
pub const PLAN_FALSE: &str = "Unit decode (False).";
/// The line above the items of a plan.
pub const PLAN_TRUE: &str = "Unit decode (True). Class name, target unit and number:";
/// What stands before the name of an item.
pub const ITEM_NAME: &str = "- Name: ";
/// What stands between the name and the unit of an item.
pub const ITEM_UNIT: &str = " Unit: ";
/// What stands between the unit and the count of an item.
pub const ITEM_COUNT: &str = " Num: ";

/// One line of a plan: what will be decoded, as what, how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanItem {
    /// The concept, for example `red mug`.
    pub name: String,
    /// The unit's word; kept as text, because a model may write anything here.
    pub unit: String,
    /// Number of targets.
    pub count: usize,
}

impl PlanItem {
    /// An item from its three parts.
    pub fn new(name: impl Into<String>, unit: impl Into<String>, count: usize) -> PlanItem {
        PlanItem { name: name.into(), unit: unit.into(), count }
    }
}

/// The plan before an answer (VD-CoT). Without items it says that the answer is text only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The items in the order in which the answer brings them.
    pub items: Vec<PlanItem>,
}

impl Plan {
    /// The block as a model writes it, `<Task>` to `</Task>`, without the newline that follows.
    pub fn write(&self) -> String {
        let mut text = String::from("<Task>\n");
        if self.items.is_empty() {
            text.push_str(PLAN_FALSE);
            text.push('\n');
        } else {
            text.push_str(PLAN_TRUE);
            text.push('\n');
            for PlanItem { name, unit, count } in &self.items {
                // Writing to a `String` cannot fail.
                let _ = writeln!(text, "{ITEM_NAME}{name}{ITEM_UNIT}{unit}{ITEM_COUNT}{count}");
            }
        }
        text.push_str("</Task>");
        text
    }
}

/// One `<REF>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The index that was written before it, where there was one.
    pub index: Option<usize>,
    /// Place of the `<REF>` token in the ids that were parsed (byte offset where text was parsed).
    pub position: usize,
}

/// Concept, decoding type, targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Triplet {
    /// The concept as a range of bytes of [`Answer::text`]; empty where there is none.
    pub phrase: Range<usize>,
    /// The decoding type; `None` where it is missing or unknown.
    pub unit: Option<Unit>,
    /// The targets, in order.
    pub references: Vec<Reference>,
    /// Places of the phrase's tokens, delimiters excluded, in the ids (bytes where text was parsed).
    pub phrase_tokens: Range<usize>,
    /// Places of the unit's tokens, delimiters excluded.
    pub unit_tokens: Range<usize>,
    /// What is wrong with this triplet.
    pub flags: Flags,
}

/// A parsed answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The plan, where one was written.
    pub plan: Option<Plan>,
    /// The triplets in order.
    pub triplets: Vec<Triplet>,
    /// The sentence in plain words: phrases in place, units and targets taken out.
    pub text: String,
    /// What is wrong, the flags of all triplets included.
    pub flags: Flags,
}

impl Answer {
    /// The concept of a triplet of this answer; empty where it has none.
    pub fn phrase(&self, triplet: &Triplet) -> &str {
        self.text.get(triplet.phrase.clone()).unwrap_or("")
    }

    /// Empties the answer into `spare`, from which the next one takes its strings and lists.
    pub(crate) fn clear(&mut self, spare: &mut Spare) {
        if let Some(mut plan) = self.plan.take() {
            for item in plan.items.drain(..).rev() {
                spare.keep_string(item.unit);
                spare.keep_string(item.name);
            }
            keep(&mut spare.plans, plan);
        }
        for mut triplet in self.triplets.drain(..).rev() {
            triplet.references.clear();
            keep(&mut spare.references, triplet.references);
        }
        self.text.clear();
        self.flags = Flags::empty();
    }

    /// The answer as a model writes it. Parsing a well-formed answer's writing gives the answer back (token places
    /// apart); of one with flags it writes what can be written.
    pub fn write(&self) -> String {
        let mut written = String::new();
        if let Some(plan) = &self.plan {
            written.push_str(&plan.write());
            written.push('\n');
        }
        let mut done = 0;
        for triplet in &self.triplets {
            let phrase = triplet.phrase.clone();
            if let Some(between) = self.text.get(done..phrase.start) {
                written.push_str(between);
                done = phrase.end;
            }
            written.push_str("<Phrase>");
            written.push_str(self.phrase(triplet));
            written.push_str("</Phrase>");
            if triplet.references.is_empty() {
                continue;
            }
            let unit = triplet.unit.map_or("", Unit::name);
            let _ = write!(written, "(<Unit>{unit}</Unit>");
            for index in 0..triplet.references.len() {
                let _ = write!(written, "[{index}]<REF>");
            }
            written.push(')');
        }
        written.push_str(self.text.get(done..).unwrap_or(""));
        written
    }
}

/// Most parts of a kind that are kept: more than an answer has. Replies that another session has filled bring their parts along,
/// time and again.
const MOST: usize = 1024;

/// Keeps a part, unless there are enough.
pub(crate) fn keep<T>(parts: &mut Vec<T>, part: T) {
    if parts.len() < MOST {
        parts.push(part);
    }
}

/// Strings and lists of answers that are no longer needed, all of them empty. Who empties an answer gives its parts back last
/// first, so that the same answer finds the same parts.
#[derive(Default)]
pub(crate) struct Spare {
    strings: Vec<String>,
    references: Vec<Vec<Reference>>,
    plans: Vec<Plan>,
}

impl Spare {
    /// A string that holds `text`.
    pub(crate) fn string(&mut self, text: &str) -> String {
        let mut string = self.strings.pop().unwrap_or_default();
        string.push_str(text);
        string
    }

    /// Takes a string back.
    pub(crate) fn keep_string(&mut self, mut string: String) {
        string.clear();
        keep(&mut self.strings, string);
    }

    /// A list without references.
    pub(super) fn references(&mut self) -> Vec<Reference> {
        self.references.pop().unwrap_or_default()
    }

    /// A plan without items.
    pub(super) fn plan(&mut self) -> Plan {
        self.plans.pop().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_answers_has_an_end() {
        let mut spare = Spare::default();
        for _ in 0..3 * MOST {
            let item = PlanItem { name: "ball".into(), unit: "box".into(), count: 1 };
            let plan = Plan { items: alloc::vec![item] };
            let mut answer = Answer { plan: Some(plan), ..Answer::default() };
            answer.clear(&mut spare);
        }
        assert_eq!([spare.strings.len(), spare.plans.len()], [MOST; 2]);
        assert_eq!(spare.string("can"), "can");
        assert_eq!(spare.strings.len(), MOST - 1);
    }
}
