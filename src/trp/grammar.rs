//! The grammar of an answer as an automaton over bytes and symbols, and the least number of tokens that ends it.
//!
//! ```text
//! answer   = [ plan "\n" ] text { triplet text } end
//! plan     = <Task> "\nUnit decode (False).\n" </Task>
//!          | <Task> "\nUnit decode (True). Class name, target unit and number:\n" item { item } </Task>
//! item     = "- Name: " name " Unit: " unit " Num: " count "\n"
//! triplet  = <Phrase> phrase </Phrase> "(" <Unit> unit </Unit> "[0]" <REF> { "[1]" <REF> ... } ")"
//! ```
//! A name begins and ends where tokens do, but for the one space before it. Where the tokenizer puts a space before
//! text that follows a special token, one such space is allowed there.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

use crate::text::vocabulary::Symbol;
use crate::trp::answer::{ITEM_COUNT, PLAN_FALSE, PLAN_TRUE};
use crate::trp::classes::{self, BLANK, ClassTable, FIRST, INSIDE, LEAD, NAME_END, NAME_MIDDLE, SEEN};
use crate::trp::task::Unit;
use crate::trp::trie::{Literal, NEVER, Trie};

/// Most tokens of a phrase and of a name in a plan.
pub const MAX_PHRASE_TOKENS: u32 = 64;

/// A place in the grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub node: Node,
    /// Whether one space may still come that the tokenizer puts after a special token.
    pub lead: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    /// Before `<Task>`.
    Start,
    /// In what both kinds of plan begin with.
    Header(u16),
    PlanFalse(u16),
    PlanTrue(u16),
    /// In the caller's plan.
    PlanForced(u32),
    /// In "- Name:" of a further item.
    ItemHead(u16),
    /// A name's class, and the tokens that it costs so far.
    Name {
        class: u8,
        cost: u32,
    },
    /// In the unit's word of an item; the word is open at its first byte.
    PlanUnit {
        unit: Option<Unit>,
        at: u8,
    },
    /// In " Num: ".
    PlanCount {
        unit: Unit,
        at: u8,
    },
    PlanNumber {
        unit: Unit,
        value: u32,
    },
    /// After an item: another one, where slots are left, or `</Task>`. An item ends where a token ends; `pending` is what
    /// it adds to the answer, until that token is taken.
    ItemNext {
        more: bool,
        pending: Option<u32>,
    },
    /// Before `</Task>`.
    PlanEnd,
    /// Before the newline after a plan.
    AfterPlan,
    Free(u8),
    Phrase {
        class: u8,
        tokens: u32,
    },
    /// In the phrase of a planned item, with the tokens written so far.
    Forced {
        at: u32,
        tokens: u32,
    },
    /// Before "(".
    Bracket,
    /// Before `<Unit>`.
    UnitOpen,
    Word {
        unit: Option<Unit>,
        at: u8,
    },
    /// In `[i]`.
    Index {
        unit: Unit,
        index: u32,
        at: u8,
    },
    /// Before `<REF>`.
    Reference {
        unit: Unit,
        index: u32,
    },
    /// After `<REF>`.
    Next {
        unit: Unit,
        index: u32,
    },
    Done,
}

impl Node {
    pub fn state(self) -> State {
        State { node: self, lead: false }
    }
}

/// One item that the answer has to bring.
pub(super) struct Target {
    pub phrase: Literal,
    pub unit: Unit,
    pub count: u32,
}

impl Target {
    /// None of this unit, before its name is spelled.
    pub fn new(unit: Unit) -> Target {
        Target { phrase: Literal::default(), unit, count: 0 }
    }
}

/// What the answer is held to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Aim {
    /// Any triplets.
    Any,
    /// Exactly the targets, which are still to be read from the model's own plan.
    OwnPlan,
    /// Exactly the targets.
    Targets,
}

/// The spellings that do not depend on the request.
pub(super) struct Spelling {
    pub plan_false: Literal,
    /// Up to "- Name:", and with the space after it.
    plan_true: [Literal; 2],
    item_head: [Literal; 2],
    /// " Unit: box Num: 1\n" by unit.
    item_tail: [Literal; 4],
    newline: Literal,
    bracket: Literal,
    close: Literal,
    words: [Literal; 4],
}

/// Length of what both kinds of plan begin with, up to the bracket.
const HEADER: u16 = 14;
const ITEM_HEAD: &str = "- Name:";

impl Spelling {
    pub fn new(trie: &Trie, spaced: bool) -> Spelling {
        let literal = |text: &str| Literal::new(trie, text.as_bytes(), spaced);
        let pair = |text: &str| [literal(text), literal(&alloc::format!("{text} "))];
        Spelling {
            plan_false: literal(&alloc::format!("\n{PLAN_FALSE}\n")),
            plan_true: pair(&alloc::format!("\n{PLAN_TRUE}\n{ITEM_HEAD}")),
            item_head: pair(ITEM_HEAD),
            item_tail: Unit::ALL
                .map(|unit| literal(&alloc::format!(" Unit: {}{ITEM_COUNT}1\n", unit.name()))),
            newline: literal("\n"),
            bracket: literal("("),
            close: literal(")"),
            words: Unit::ALL.map(|unit| literal(unit.name())),
        }
    }
}

/// The automaton of one answer: what is fixed by the request, and what was written of it so far.
pub(super) struct Grammar {
    pub aim: Aim,
    /// Whether the targets are those of the plan that the model writes.
    pub reads_plan: bool,
    /// Units of the task that have a head, with the index of the head in `slots`.
    pub units: Vec<(Unit, usize)>,
    /// Slots by head; in the plan and in the answer they are used up separately.
    pub slots: Vec<u32>,
    pub planned: Vec<u32>,
    pub used: Vec<u32>,
    pub targets: Vec<Target>,
    /// Number of targets whose phrase was opened.
    pub begun: usize,
    /// Least tokens of the targets from each on.
    pub rest: Vec<u32>,
    pub forced_plan: Option<Literal>,
    /// `[i]` and, before entry i, the tokens of the first i indices with their `<REF>`.
    pub indices: Vec<Literal>,
    pub index_cost: Vec<u32>,
    pub spaced: bool,
    /// Tokens that the items of the model's own plan will take in the answer, 0 once they are targets.
    pub own_cost: u32,
    /// At most so many tokens will the name of the item that is being written take in the answer.
    pub own_name_cost: u32,
    /// Most tokens that the part of a name in a token after its leading space can take by itself.
    pub longest_lead: u32,
}

/// The tables that a grammar is walked with.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub text: &'a ClassTable,
    pub name: &'a ClassTable,
    pub spelling: &'a Spelling,
}

impl Grammar {
    fn after_symbol(&self, node: Node) -> State {
        State { node, lead: self.spaced }
    }

    fn left(&self, counts: &[u32], unit: Unit) -> u32 {
        let head = self.units.iter().find(|(other, _)| *other == unit).map(|&(_, head)| head);
        head.map_or(0, |head| self.slots[head].saturating_sub(counts[head]))
    }

    /// Units that a new item of the plan may name.
    fn plan_units(&self) -> impl Iterator<Item = Unit> + '_ {
        self.units.iter().map(|&(unit, _)| unit).filter(|&unit| self.left(&self.planned, unit) > 0)
    }

    /// Units that a new triplet may name.
    pub fn answer_units(&self) -> impl Iterator<Item = Unit> + '_ {
        self.units.iter().map(|&(unit, _)| unit).filter(|&unit| match self.target() {
            Some(target) => target.unit == unit,
            None => self.left(&self.used, unit) > 0,
        })
    }

    /// The target whose triplet is open.
    fn target(&self) -> Option<&Target> {
        if self.aim == Aim::Any {
            None
        } else {
            self.begun.checked_sub(1).and_then(|index| self.targets.get(index))
        }
    }

    /// Whether a triplet may be opened.
    pub fn opens(&self) -> bool {
        match self.aim {
            Aim::Any => self.answer_units().next().is_some(),
            _ => self.begun < self.targets.len(),
        }
    }

    /// Whether the answer may end.
    pub fn ends(&self) -> bool {
        self.aim == Aim::Any || self.begun == self.targets.len()
    }

    /// Whether `index` may come after the `<REF>` of `index - 1`; a planned count has to be met.
    fn continues(&self, unit: Unit, index: u32) -> bool {
        // `used` counts the `<REF>`s of the open triplet already.
        match self.target() {
            Some(target) => index < target.count,
            None => self.left(&self.used, unit) > 0,
        }
    }

    /// The state after one byte.
    pub fn byte(&self, cx: Context<'_>, state: State, byte: u8) -> Option<State> {
        if state.lead && byte == b' ' {
            return Some(State { lead: false, ..state });
        }
        let spelling = cx.spelling;
        let next = match state.node {
            Node::Header(HEADER) if byte == b'T' => {
                self.plan_units().next()?;
                Node::PlanTrue(HEADER + 1)
            }
            Node::Header(at) => {
                expect(&spelling.plan_false.bytes, usize::from(at), byte)?;
                if at < HEADER { Node::Header(at + 1) } else { Node::PlanFalse(at + 1) }
            }
            Node::PlanFalse(at) => {
                let done = expect(&spelling.plan_false.bytes, usize::from(at), byte)?;
                if done { Node::PlanEnd } else { Node::PlanFalse(at + 1) }
            }
            Node::PlanTrue(at) => {
                let done = expect(&spelling.plan_true[0].bytes, usize::from(at), byte)?;
                if done { Node::Name { class: LEAD, cost: 0 } } else { Node::PlanTrue(at + 1) }
            }
            Node::PlanForced(at) => {
                let done = expect(&self.forced_plan.as_ref()?.bytes, at as usize, byte)?;
                if done { Node::PlanEnd } else { Node::PlanForced(at + 1) }
            }
            Node::ItemNext { more, pending } => {
                if !more || pending.is_some() || byte != b'-' {
                    return None;
                }
                Node::ItemHead(1)
            }
            Node::ItemHead(at) => {
                let done = expect(&spelling.item_head[0].bytes, usize::from(at), byte)?;
                if done { Node::Name { class: LEAD, cost: 0 } } else { Node::ItemHead(at + 1) }
            }
            // Inside a token a name cannot go on: only its leading space and what ends it can be passed.
            Node::Name { class: LEAD, cost } => {
                (byte == b' ').then_some(Node::Name { class: FIRST, cost })?
            }
            Node::Name { class, cost } if (INSIDE..NAME_MIDDLE).contains(&class) => {
                let done = expect(NAME_END, usize::from(class - INSIDE), byte)?;
                if done {
                    Node::PlanUnit { unit: None, at: 0 }
                } else {
                    Node::Name { class: class + 1, cost }
                }
            }
            Node::Name { .. } => return None,
            Node::PlanUnit { unit, at } => {
                let unit = match unit {
                    Some(unit) => unit,
                    None => self.plan_units().find(|unit| unit.name().as_bytes()[0] == byte)?,
                };
                let done = expect(unit.name().as_bytes(), usize::from(at), byte)?;
                if done {
                    Node::PlanCount { unit, at: 0 }
                } else {
                    Node::PlanUnit { unit: Some(unit), at: at + 1 }
                }
            }
            Node::PlanCount { unit, at } => {
                let done = expect(ITEM_COUNT.as_bytes(), usize::from(at), byte)?;
                if done { Node::PlanNumber { unit, value: 0 } } else { Node::PlanCount { unit, at: at + 1 } }
            }
            Node::PlanNumber { unit, value } => match byte {
                b'\n' if value > 0 => {
                    let head = self.units.iter().find(|(other, _)| *other == unit)?.1;
                    let more = self.units.iter().any(|&(other, of)| {
                        self.left(&self.planned, other) > if of == head { value } else { 0 }
                    });
                    Node::ItemNext { more, pending: Some(self.own_item(cx, unit, value, self.own_name_cost)) }
                }
                b'0'..=b'9' => {
                    let value = value.checked_mul(10)?.checked_add(u32::from(byte - b'0'))?;
                    if value == 0 || value > self.left(&self.planned, unit) {
                        return None;
                    }
                    Node::PlanNumber { unit, value }
                }
                _ => return None,
            },
            Node::AfterPlan => (byte == b'\n').then_some(Node::Free(SEEN))?,
            Node::Free(class) => Node::Free(classes::text_step(class, byte)?),
            Node::Phrase { class, tokens } => {
                Node::Phrase { class: classes::text_step(class, byte)?, tokens }
            }
            Node::Forced { at, tokens } => {
                expect(&self.target()?.phrase.bytes, at as usize, byte)?;
                Node::Forced { at: at + 1, tokens }
            }
            Node::Bracket => (byte == b'(').then_some(Node::UnitOpen)?,
            Node::Word { unit, at } => {
                let unit = match unit {
                    Some(unit) => unit,
                    None => self.answer_units().find(|unit| unit.name().as_bytes()[0] == byte)?,
                };
                expect(unit.name().as_bytes(), usize::from(at), byte)?;
                Node::Word { unit: Some(unit), at: at + 1 }
            }
            Node::Index { unit, index, at } => {
                let done = expect(&self.indices.get(index as usize)?.bytes, usize::from(at), byte)?;
                if done { Node::Reference { unit, index } } else { Node::Index { unit, index, at: at + 1 } }
            }
            Node::Next { unit, index } => match byte {
                b'[' if self.continues(unit, index + 1) => Node::Index { unit, index: index + 1, at: 1 },
                b')' if self.target().is_none_or(|target| index + 1 == target.count) => Node::Free(SEEN),
                _ => return None,
            },
            Node::Start | Node::PlanEnd | Node::UnitOpen | Node::Reference { .. } | Node::Done => {
                return None;
            }
        };
        Some(next.state())
    }

    /// The one symbol that may come, other than the end, and the state after it.
    pub fn symbol(&self, state: State) -> Option<(Symbol, State)> {
        let (symbol, node) = match state.node {
            Node::Start if self.forced_plan.is_some() => (Symbol::TaskOpen, Node::PlanForced(0)),
            Node::Start => (Symbol::TaskOpen, Node::Header(0)),
            Node::PlanEnd | Node::ItemNext { .. } => (Symbol::TaskClose, Node::AfterPlan),
            Node::Free(SEEN) if self.opens() => match self.aim {
                Aim::Any => (Symbol::PhraseOpen, Node::Phrase { class: BLANK, tokens: 0 }),
                _ => (Symbol::PhraseOpen, Node::Forced { at: 0, tokens: 0 }),
            },
            Node::Phrase { class: SEEN, tokens } if tokens > 0 => (Symbol::PhraseClose, Node::Bracket),
            Node::Forced { at, .. } if at as usize == self.target()?.phrase.bytes.len() => {
                (Symbol::PhraseClose, Node::Bracket)
            }
            Node::UnitOpen => (Symbol::UnitOpen, Node::Word { unit: None, at: 0 }),
            Node::Word { unit: Some(unit), at } if usize::from(at) == unit.name().len() => {
                (Symbol::UnitClose, Node::Index { unit, index: 0, at: 0 })
            }
            Node::Reference { unit, index } => (Symbol::Reference, Node::Next { unit, index }),
            _ => return None,
        };
        // In a phrase the space is text like any other.
        let state = if matches!(node, Node::Phrase { .. }) { node.state() } else { self.after_symbol(node) };
        Some((symbol, state))
    }

    /// Least tokens from `state` to the end, the end token included; [`NEVER`] where there is no way.
    pub fn cost(&self, cx: Context<'_>, state: State) -> u32 {
        let spelling = cx.spelling;
        let from = |literal: &Literal, at: usize| literal.from(at, state.lead);
        let either = |literals: &[Literal; 2], at: usize| {
            let lead = from(&literals[0], at).saturating_add(self.name_cost(cx, LEAD, 0));
            lead.min(from(&literals[1], at).saturating_add(self.name_cost(cx, FIRST, 0)))
        };
        let cost = match state.node {
            Node::Start => {
                let plan = self.forced_plan.as_ref().unwrap_or(&spelling.plan_false);
                let rest = if self.forced_plan.is_some() { self.answer_cost() } else { 1 };
                1 + plan.lead + self.plan_end(cx) + rest
            }
            Node::Header(at) | Node::PlanFalse(at) => {
                from(&spelling.plan_false, usize::from(at)) + self.plan_end(cx) + 1
            }
            Node::PlanTrue(at) => either(&spelling.plan_true, usize::from(at)),
            Node::PlanForced(at) => {
                let plan = self.forced_plan.as_ref().map_or(NEVER, |plan| from(plan, at as usize));
                plan.saturating_add(self.plan_end(cx) + self.answer_cost())
            }
            Node::ItemHead(at) => either(&spelling.item_head, usize::from(at)),
            Node::Name { class, cost } => self.name_cost(cx, class, cost),
            Node::PlanUnit { unit: None, .. } => self.tail_cost(cx, NAME_END.len(), self.own_name_cost),
            Node::PlanUnit { unit: Some(unit), at } => {
                self.unit_tail(cx, unit, NAME_END.len() + usize::from(at), self.own_name_cost)
            }
            Node::PlanCount { unit, at } => self.unit_tail(
                cx,
                unit,
                NAME_END.len() + unit.name().len() + usize::from(at),
                self.own_name_cost,
            ),
            Node::PlanNumber { unit, value: 0 } => {
                let at = NAME_END.len() + unit.name().len() + ITEM_COUNT.len();
                self.unit_tail(cx, unit, at, self.own_name_cost)
            }
            Node::PlanNumber { unit, value } => {
                spelling.newline.cost[0]
                    + self.item_end(cx)
                    + self.own_item(cx, unit, value, self.own_name_cost)
            }
            Node::ItemNext { pending, .. } => self.item_end(cx) + pending.unwrap_or(0),
            Node::PlanEnd => self.item_end(cx),
            Node::AfterPlan => from(&spelling.newline, 0) + self.answer_cost() + self.own_cost,
            Node::Free(class) => cx.text.distance(class) + self.answer_cost(),
            Node::Phrase { class, .. } => {
                cx.text.distance(class) + 1 + self.triplet_tail(cx) + self.answer_cost()
            }
            Node::Forced { at, .. } => {
                let phrase = self.target().map_or(NEVER, |target| from(&target.phrase, at as usize));
                phrase.saturating_add(1 + self.triplet_tail(cx) + self.answer_cost())
            }
            Node::Bracket => from(&spelling.bracket, 0) + 1 + self.best_word(cx) + self.answer_cost(),
            Node::UnitOpen => 1 + self.best_word(cx) + self.answer_cost(),
            Node::Word { unit: None, at } => {
                let words = self.answer_units().map(|unit| {
                    from(&spelling.words[unit as usize], usize::from(at)).saturating_add(self.after_word(cx))
                });
                words.min().unwrap_or(NEVER).saturating_add(self.answer_cost())
            }
            Node::Word { unit: Some(unit), at } => {
                from(&spelling.words[unit as usize], usize::from(at))
                    + self.after_word(cx)
                    + self.answer_cost()
            }
            Node::Index { index, at, .. } => {
                let spelled =
                    self.indices.get(index as usize).map_or(NEVER, |literal| from(literal, usize::from(at)));
                spelled.saturating_add(1 + self.after_reference(cx, index, true) + self.answer_cost())
            }
            Node::Reference { index, .. } => 1 + self.after_reference(cx, index, true) + self.answer_cost(),
            Node::Next { index, .. } => self.after_reference(cx, index, state.lead) + self.answer_cost(),
            Node::Done => 0,
        };
        cost.min(NEVER)
    }

    /// From a character's boundary outside a triplet: the targets that are left, and the end token.
    fn answer_cost(&self) -> u32 {
        1 + self.rest.get(self.begun).copied().unwrap_or(0)
    }

    /// `</Task>` and the newline after it.
    fn plan_end(&self, cx: Context<'_>) -> u32 {
        1 + cx.spelling.newline.lead
    }

    /// From the end of an item to the end of the answer.
    fn item_end(&self, cx: Context<'_>) -> u32 {
        (self.plan_end(cx) + self.answer_cost() + self.own_cost).min(NEVER)
    }

    /// What an item of the model's own plan adds to the answer, its name taking `name` tokens there.
    fn own_item(&self, cx: Context<'_>, unit: Unit, count: u32, name: u32) -> u32 {
        if self.aim != Aim::OwnPlan {
            return 0;
        }
        self.target_cost(cx, unit, count, name)
    }

    /// A whole triplet whose phrase takes `name` tokens.
    pub fn target_cost(&self, cx: Context<'_>, unit: Unit, count: u32, name: u32) -> u32 {
        let spelling = cx.spelling;
        let references = self.index_cost.get(count as usize).copied().unwrap_or(NEVER);
        let fixed = 4 + spelling.bracket.lead + spelling.words[unit as usize].lead + spelling.close.lead;
        fixed.saturating_add(references).saturating_add(name).min(NEVER)
    }

    fn unit_tail(&self, cx: Context<'_>, unit: Unit, at: usize, name: u32) -> u32 {
        let tail = cx.spelling.item_tail[unit as usize].cost.get(at).copied().unwrap_or(NEVER);
        (tail + self.item_end(cx) + self.own_item(cx, unit, 1, name)).min(NEVER)
    }

    fn tail_cost(&self, cx: Context<'_>, at: usize, name: u32) -> u32 {
        self.plan_units().map(|unit| self.unit_tail(cx, unit, at, name)).min().unwrap_or(NEVER)
    }

    /// From a class of a name whose text takes `cost` tokens so far.
    pub fn name_cost(&self, cx: Context<'_>, class: u8, cost: u32) -> u32 {
        let inside = |extra: u32| self.tail_cost(cx, 0, cost + extra).saturating_add(extra);
        match class {
            LEAD => {
                let whole = match cx.name.has(LEAD, INSIDE) {
                    true => self.tail_cost(cx, 0, self.longest_lead) + 1,
                    false => NEVER,
                };
                let space = if cx.name.has(LEAD, FIRST) { 1 + self.name_cost(cx, FIRST, 0) } else { NEVER };
                whole.min(space)
            }
            INSIDE.. if class < NAME_MIDDLE => {
                let direct = self.tail_cost(cx, usize::from(class - INSIDE), cost);
                // Up to one token for every byte of the ending that turns out to belong to the name.
                let name = cost + u32::from(class - INSIDE) + 1;
                let breaks = cx.name.has(class, INSIDE) && name <= MAX_PHRASE_TOKENS;
                let broken = if breaks { 1 + self.tail_cost(cx, 0, name) } else { NEVER };
                if class > INSIDE { direct.min(broken) } else { direct }
            }
            _ => inside(cx.name.distance(class)),
        }
    }

    /// From after `</Phrase>` to after ")".
    fn triplet_tail(&self, cx: Context<'_>) -> u32 {
        (cx.spelling.bracket.lead + 1 + self.best_word(cx)).min(NEVER)
    }

    fn best_word(&self, cx: Context<'_>) -> u32 {
        let words =
            self.answer_units().map(|unit| cx.spelling.words[unit as usize].lead + self.after_word(cx));
        words.min().unwrap_or(NEVER)
    }

    /// From the end of a unit's word to after ")".
    fn after_word(&self, cx: Context<'_>) -> u32 {
        let first = self.indices.first().map_or(NEVER, |literal| literal.lead);
        (2 + first + self.after_reference(cx, 0, true)).min(NEVER)
    }

    /// From after the `<REF>` of `index` to after ")".
    fn after_reference(&self, cx: Context<'_>, index: u32, lead: bool) -> u32 {
        let close = &cx.spelling.close;
        let Some(target) = self.target().filter(|target| index + 1 < target.count) else {
            return close.from(0, lead);
        };
        let next = index as usize + 1;
        let (Some(literal), Some(&all), Some(&done)) = (
            self.indices.get(next),
            self.index_cost.get(target.count as usize),
            self.index_cost.get(next + 1),
        ) else {
            return NEVER;
        };
        (literal.from(0, lead) + 1 + (all - done) + close.lead).min(NEVER)
    }
}

/// Whether `byte` is the last of `bytes`; `None` where it is not the byte at `at`.
fn expect(bytes: &[u8], at: usize, byte: u8) -> Option<bool> {
    (*bytes.get(at)? == byte).then_some(at + 1 == bytes.len())
}
