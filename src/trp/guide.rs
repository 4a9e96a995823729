//! TRP-guided decoding: which tokens may come next, so that every answer parses, also one that runs out of budget.
//!
//! The automaton works on bytes and symbols. A token may come when all its bytes can be
//! consumed in order and the end is still within the budget after it.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use crate::error::{Error, Result};
use crate::text::vocabulary::{Symbol, TokenKind};
use crate::trp::answer::{Answer, ITEM_UNIT, Plan, PlanItem};
use crate::trp::classes::{self, FIRST, INSIDE, LEAD, NAME_END, NAME_MIDDLE, SEEN};
use crate::trp::grammar::{Aim, Grammar, MAX_PHRASE_TOKENS, Node, State, Target};
use crate::trp::guide_tables::GuideTables;
use crate::trp::mask::TokenMask;
use crate::trp::parser::Parser;
use crate::trp::router::UnitHead;
use crate::trp::task::Unit;
use crate::trp::trie::{Literal, NEVER, Trie};
use crate::words::{Quoted, has_word};

/// More slots than any head has; indices are spelled out up to it.
const MAX_SLOTS: usize = 1000;

/// What an answer is held to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum GuideMode {
    /// Anything goes.
    Off,
    /// A well-formed answer: delimiters, units of the task that have a head, indices from 0, no more targets than the
    /// head has slots, phrases of 1 to 64 tokens; the plan too where there is one.
    #[default]
    Structural,
    /// Exactly the items of the plan, in order, with free text between. `None`: of the plan that the model writes.
    Planned(Option<Plan>),
}

/// A request to the guide.
#[derive(Clone, Debug)]
pub struct GuideOptions {
    /// What the answer is held to.
    pub mode: GuideMode,
    /// Whether the answer begins with a plan (VD-CoT).
    pub cot: bool,
    /// Units of the task.
    pub units: Vec<Unit>,
    /// Heads of the model.
    pub heads: Vec<UnitHead>,
    /// Most tokens of the answer, the end token included.
    pub max_tokens: usize,
}

/// Follows one answer and says which tokens may come next.
pub struct Guide {
    tables: Arc<GuideTables>,
    off: bool,
    grammar: Grammar,
    start: State,
    state: State,
    scratch: TokenMask,
    stack: Vec<(u32, State)>,
    /// Ids of the plan block, from which the model's own plan is read.
    plan_ids: Vec<u32>,
    parser: Parser,
    /// What was read of `plan_ids`.
    written: Answer,
    /// What a name begins with, spelled by itself.
    lead: Literal,
    /// Targets of the answers before, whose lists the next ones take.
    spare: Vec<Target>,
}

impl Guide {
    /// Begins an answer.
    ///
    /// # Errors
    /// [`Error::Plan`] naming the item of a plan that cannot be met (or item 0 of a plan that is missing),
    /// [`Error::Limit`] where `max_tokens` is below the shortest answer, [`Error::Input`] where the vocabulary cannot
    /// spell an answer at all.
    pub fn new(tables: Arc<GuideTables>, options: &GuideOptions) -> Result<Guide> {
        let grammar = Guide::grammar(&tables, options)?;
        let start = if options.cot { Node::Start } else { Node::Free(SEEN) };
        let size = tables.vocabulary.len();
        let off = options.mode == GuideMode::Off;
        let mut guide = Guide {
            tables,
            off,
            grammar,
            start: start.state(),
            state: start.state(),
            scratch: TokenMask::none(size),
            stack: Vec::new(),
            plan_ids: Vec::new(),
            parser: Parser::default(),
            written: Answer::default(),
            lead: Literal::default(),
            spare: Vec::new(),
        };
        match &options.mode {
            GuideMode::Off => return Ok(guide),
            GuideMode::Planned(None) if !options.cot => {
                return Err(Error::Plan {
                    item: 0,
                    reason: String::from("there is no plan, and VD-CoT is off"),
                });
            }
            GuideMode::Planned(Some(plan)) => {
                guide.set_targets(plan)?;
                if options.cot {
                    let text = plan.write();
                    let inner = text.strip_prefix("<Task>").unwrap_or(&text);
                    let inner = inner.strip_suffix("</Task>").unwrap_or(inner);
                    let spaced = guide.grammar.spaced;
                    guide.grammar.forced_plan =
                        Some(Literal::new(&guide.tables.trie, inner.as_bytes(), spaced));
                }
            }
            GuideMode::Planned(None) | GuideMode::Structural => {}
        }
        guide.check_budget(options.max_tokens)?;
        Ok(guide)
    }

    /// Begins another answer to the same request, which takes no memory that the answers before have not.
    ///
    /// # Errors
    /// [`Error::Limit`] where `max_tokens` is below the shortest answer.
    pub fn restart(&mut self, max_tokens: usize) -> Result<()> {
        let grammar = &mut self.grammar;
        self.state = self.start;
        self.plan_ids.clear();
        grammar.planned.fill(0);
        grammar.used.fill(0);
        grammar.begun = 0;
        grammar.own_cost = 0;
        grammar.own_name_cost = 0;
        if grammar.reads_plan {
            grammar.aim = Aim::OwnPlan;
            grammar.rest.clear();
            self.spare.extend(grammar.targets.drain(..).rev());
        }
        if self.off { Ok(()) } else { self.check_budget(max_tokens) }
    }

    fn check_budget(&self, max_tokens: usize) -> Result<()> {
        let shortest = self.closing_tokens();
        if shortest >= NEVER as usize {
            let reason = String::from("its tokens cannot spell an answer");
            return Err(Error::Input { field: "vocabulary", reason });
        }
        if shortest > max_tokens {
            let (max, got) = (max_tokens as u64, shortest as u64);
            return Err(Error::Limit { limit: "max_new_tokens", max, got });
        }
        Ok(())
    }

    fn grammar(tables: &GuideTables, options: &GuideOptions) -> Result<Grammar> {
        let mut names: Vec<&str> = Vec::new();
        let mut slots = Vec::new();
        let mut units: Vec<(Unit, usize)> = Vec::new();
        for head in options.heads.iter().filter(|head| options.units.contains(&head.unit)) {
            if head.num_queries > MAX_SLOTS {
                let got = head.num_queries as u64;
                return Err(Error::Limit { limit: "num_queries of a head", max: MAX_SLOTS as u64, got });
            }
            let place = names.iter().position(|name| *name == head.head).unwrap_or_else(|| {
                names.push(&head.head);
                slots.push(head.num_queries as u32);
                names.len() - 1
            });
            if units.iter().all(|(unit, _)| *unit != head.unit) {
                units.push((head.unit, place));
            }
        }
        let spaced = tables.vocabulary.space_after_special();
        let most = slots.iter().copied().max().unwrap_or(0);
        let indices: Vec<Literal> = (0..most)
            .map(|index| Literal::new(&tables.trie, format!("[{index}]").as_bytes(), spaced))
            .collect();
        let mut index_cost = vec![0u32];
        for literal in &indices {
            index_cost.push((index_cost[index_cost.len() - 1] + literal.lead + 1).min(NEVER));
        }
        Ok(Grammar {
            aim: match options.mode {
                GuideMode::Planned(Some(_)) => Aim::Targets,
                GuideMode::Planned(None) => Aim::OwnPlan,
                _ => Aim::Any,
            },
            reads_plan: options.mode == GuideMode::Planned(None),
            planned: vec![0; slots.len()],
            used: vec![0; slots.len()],
            units,
            slots,
            targets: Vec::new(),
            begun: 0,
            rest: Vec::new(),
            forced_plan: None,
            indices,
            index_cost,
            spaced,
            own_cost: 0,
            own_name_cost: 0,
            longest_lead: tables.longest_lead,
        })
    }

    /// Checks a plan against the request and makes targets of it, with what they cost from each on.
    fn set_targets(&mut self, plan: &Plan) -> Result<()> {
        let tables = Arc::clone(&self.tables);
        let grammar = &mut self.grammar;
        // What the items take of each head's slots; in the answer, which has not begun, nothing is used.
        grammar.used.fill(0);
        for (item, PlanItem { name, unit, count }) in plan.items.iter().enumerate() {
            let bad = |reason: String| Err(Error::Plan { item, reason });
            if name.trim_ascii().is_empty() {
                return bad(String::from("the name is empty"));
            }
            if name.trim_ascii() != name.as_str()
                || name.bytes().any(|byte| byte < b' ' || byte == 0x7f)
                || ends_early(name)
                || (grammar.aim == Aim::Targets
                    && Symbol::ALL.into_iter().any(|symbol| has_word(name, symbol.text())))
            {
                return bad(format!("the name {} holds what a plan cannot", Quoted(name)));
            }
            let Some(known) = Unit::named(unit) else {
                return bad(format!("{} is no unit", Quoted(unit)));
            };
            let Some(&(_, head)) = grammar.units.iter().find(|(other, _)| *other == known) else {
                return bad(format!(
                    "the task has no unit {}, or the model has no head for it",
                    Quoted(unit)
                ));
            };
            if *count == 0 {
                return bad(String::from("the number is 0"));
            }
            let slots = grammar.slots[head] as usize;
            let used = (grammar.used[head] as usize).saturating_add(*count);
            if used > slots {
                return bad(format!("{used} targets, but the head has {slots} slots"));
            }
            grammar.used[head] = used as u32;
            let mut target = self.spare.pop().unwrap_or_else(|| Target::new(known));
            target.phrase.spell(&tables.trie, name.as_bytes(), grammar.spaced);
            if target.phrase.lead > MAX_PHRASE_TOKENS && grammar.aim == Aim::Targets {
                return bad(format!("the name takes more than {MAX_PHRASE_TOKENS} tokens"));
            }
            (target.unit, target.count) = (known, *count as u32);
            grammar.targets.push(target);
        }
        grammar.used.fill(0);
        grammar.rest.clear();
        grammar.rest.push(0);
        let mut sum = 0u32;
        for target in grammar.targets.iter().rev() {
            let cost = grammar.target_cost(tables.context(), target.unit, target.count, target.phrase.lead);
            sum = sum.saturating_add(cost).min(NEVER);
            grammar.rest.push(sum);
        }
        grammar.rest.reverse();
        Ok(())
    }

    /// Least number of tokens that ends the answer from here, the end token included.
    pub fn closing_tokens(&self) -> usize {
        if self.off { 1 } else { self.grammar.cost(self.tables.context(), self.state) as usize }
    }

    /// Whether the end token was taken.
    pub fn is_finished(&self) -> bool {
        self.state.node == Node::Done
    }

    /// The tokens that may come next when `remaining` tokens may still be produced, the end token included. Where that
    /// is the length of the shortest ending, only its tokens are there; less is treated as just that.
    pub fn allowed(&mut self, remaining: usize) -> &TokenMask {
        if self.off {
            return &self.tables.all;
        }
        let budget = u32::try_from(remaining).unwrap_or(NEVER).min(NEVER);
        let after = budget.max(self.grammar.cost(self.tables.context(), self.state)).saturating_sub(1);
        match self.state.node {
            Node::Free(class) => self.allow_free(class, after),
            Node::Phrase { class, tokens } => self.allow_phrase(class, tokens, after),
            Node::Name { class, cost } => self.allow_name(class, cost, after),
            _ => {
                self.scratch.clear();
                self.walk(Trie::ROOT, self.state, after);
                self.allow_symbol(after);
                &self.scratch
            }
        }
    }

    fn fits(&self, state: State, after: u32) -> bool {
        self.grammar.cost(self.tables.context(), state) <= after
    }

    fn allow_symbol(&mut self, after: u32) {
        if let Some((symbol, next)) = self.grammar.symbol(self.state)
            && self.fits(next, after)
        {
            self.scratch.insert(self.tables.symbol_id(symbol));
        }
    }

    fn allow_free(&mut self, class: u8, after: u32) -> &TokenMask {
        let tables = &*self.tables;
        // A planned triplet lies on the shortest way to the end, so it always fits.
        let opens = self
            .grammar
            .symbol(self.state)
            .is_some_and(|(_, next)| self.grammar.aim == Aim::Targets || self.fits(next, after));
        let ends = class == SEEN && self.grammar.ends();
        let whole = tables.text.moves(class).all(|(to, _)| self.fits(Node::Free(to).state(), after));
        if whole && class == SEEN {
            return &tables.free[usize::from(opens) | usize::from(ends) << 1];
        }
        if whole {
            return tables.text.union(class);
        }
        self.scratch.clear();
        for (to, tokens) in tables.text.moves(class) {
            if self.grammar.cost(tables.context(), Node::Free(to).state()) <= after {
                self.scratch.union(tokens);
            }
        }
        if opens {
            self.scratch.insert(tables.vocabulary.special().phrase_open);
        }
        if ends {
            tables.vocabulary.eos().iter().for_each(|&id| self.scratch.insert(id));
        }
        &self.scratch
    }

    fn allow_phrase(&mut self, class: u8, tokens: u32, after: u32) -> &TokenMask {
        let tables = &*self.tables;
        let fits = |to: u8| {
            tokens + 1 + tables.text.distance(to) <= MAX_PHRASE_TOKENS
                && self.fits(Node::Phrase { class: to, tokens: tokens + 1 }.state(), after)
        };
        let closes = self.grammar.symbol(self.state).is_some_and(|(_, next)| self.fits(next, after));
        if tables.text.moves(class).all(|(to, _)| fits(to)) {
            if closes {
                return &tables.phrase;
            }
            if class != SEEN {
                return tables.text.union(class);
            }
        }
        let fitting =
            tables.text.moves(class).filter(|&(to, _)| fits(to)).fold(0u32, |set, (to, _)| set | 1 << to);
        self.scratch.clear();
        for (to, tokens) in tables.text.moves(class) {
            if fitting >> to & 1 == 1 {
                self.scratch.union(tokens);
            }
        }
        if closes {
            self.scratch.insert(tables.vocabulary.special().phrase_close);
        }
        &self.scratch
    }

    /// A name goes on by whole tokens, or ends by tokens that begin or go on with what ends it.
    fn allow_name(&mut self, class: u8, cost: u32, after: u32) -> &TokenMask {
        let tables = Arc::clone(&self.tables);
        self.scratch.clear();
        for (to, tokens) in tables.name.moves(class) {
            let next = self.name_cost_after(class, cost, to);
            let node = Node::Name { class: to, cost: next };
            let capped =
                (class == LEAD || next + tables.name.distance(to) <= MAX_PHRASE_TOKENS).then_some(node);
            if capped.is_some_and(|node| self.fits(node.state(), after)) {
                self.scratch.union(tokens);
            }
        }
        for (start, cost) in self.name_endings(class, cost).into_iter().flatten() {
            self.grammar.own_name_cost = cost;
            self.walk(Trie::ROOT, Node::Name { class: start, cost }.state(), after);
        }
        &self.scratch
    }

    /// From where in a name's ending a token may go on, with the tokens that the name costs then: where the ending
    /// stands, or at its start where what stood of it becomes part of the name.
    fn name_endings(&self, class: u8, cost: u32) -> [Option<(u8, u32)>; 2] {
        if !(INSIDE..NAME_MIDDLE).contains(&class) {
            return [None; 2];
        }
        let matched = class - INSIDE;
        let again = (2..=5).contains(&matched).then_some((INSIDE, cost + u32::from(matched)));
        [Some((class, cost)), again.filter(|&(_, cost)| cost <= MAX_PHRASE_TOKENS)]
    }

    /// Most tokens that a name takes by itself after a token within it, whichever that is.
    fn name_cost_after(&self, class: u8, cost: u32, to: u8) -> u32 {
        if to == FIRST {
            return 0;
        }
        if class == LEAD {
            return if self.grammar.aim == Aim::OwnPlan { self.grammar.longest_lead } else { 1 };
        }
        let broken = if class < NAME_MIDDLE { class.saturating_sub(INSIDE) } else { 0 };
        cost + 1 + u32::from(broken)
    }

    /// Adds every token below `node` that the automaton consumes whole from `state` and that leaves enough budget.
    fn walk(&mut self, node: u32, state: State, after: u32) {
        let tables = &*self.tables;
        let cx = tables.context();
        self.stack.clear();
        self.stack.push((node, state));
        while let Some((node, state)) = self.stack.pop() {
            for (byte, child) in tables.trie.children(node) {
                let Some(next) = self.grammar.byte(cx, state, byte) else { continue };
                let tail = tables.tails.iter().find(|(first, _)| node == Trie::ROOT && *first == byte);
                if let (Node::Free(SEEN), Some((_, ends))) = (next.node, tail) {
                    for (class, tokens) in ends {
                        if self.grammar.cost(cx, Node::Free(*class).state()) <= after {
                            self.scratch.union(tokens);
                        }
                    }
                    continue;
                }
                let ids = tables.trie.tokens(child);
                if !ids.is_empty() && self.grammar.cost(cx, next) <= after && self.phrase_fits(next) {
                    ids.iter().for_each(|&id| self.scratch.insert(id));
                }
                self.stack.push((child, next));
            }
        }
    }

    /// Whether a planned phrase can still be finished with at most 64 tokens (or as many as it takes).
    fn phrase_fits(&self, state: State) -> bool {
        let Node::Forced { at, tokens } = state.node else { return true };
        let Some(target) =
            self.grammar.begun.checked_sub(1).and_then(|index| self.grammar.targets.get(index))
        else {
            return false;
        };
        tokens + 1 + target.phrase.from(at as usize, state.lead) <= MAX_PHRASE_TOKENS.max(target.phrase.lead)
    }

    /// Takes the token that was chosen.
    ///
    /// # Errors
    /// [`Error::Input`] naming `token` where it does not go on the answer; the guide is then unchanged.
    pub fn advance(&mut self, id: u32) -> Result<()> {
        let tables = Arc::clone(&self.tables);
        if self.off {
            if tables.vocabulary.is_eos(id) {
                self.state = Node::Done.state();
            }
            return Ok(());
        }
        let refused = || Error::Input { field: "token", reason: format!("{id} does not go on the answer") };
        let next = match tables.vocabulary.kind(id) {
            TokenKind::Control if tables.vocabulary.is_eos(id) => {
                (self.state.node == Node::Free(SEEN) && self.grammar.ends()).then_some(Node::Done.state())
            }
            TokenKind::Symbol(symbol) => {
                self.grammar.symbol(self.state).filter(|(other, _)| *other == symbol).map(|(_, next)| next)
            }
            TokenKind::Text => self.text_next(id),
            TokenKind::Control | TokenKind::Unused => None,
        };
        let next = next.ok_or_else(refused)?;
        if !self.in_answer() {
            self.plan_ids.push(id);
        }
        self.take(next)
    }

    fn in_answer(&self) -> bool {
        matches!(self.state.node, Node::Free(_)) || self.grammar.begun > 0
    }

    /// The state after a text token.
    fn text_next(&mut self, id: u32) -> Option<State> {
        let tables = Arc::clone(&self.tables);
        let cx = tables.context();
        let bytes = tables.vocabulary.bytes(id);
        let run =
            |state: State| bytes.iter().try_fold(state, |state, &byte| self.grammar.byte(cx, state, byte));
        match self.state.node {
            Node::Name { class, cost } => {
                let within = bytes.iter().try_fold(class, |class, &byte| classes::name_step(class, byte));
                if let Some(to) = within.filter(|&to| to == FIRST || to == INSIDE || to >= NAME_MIDDLE) {
                    let cost = if class == LEAD && to != FIRST && self.grammar.aim == Aim::OwnPlan {
                        self.lead.spell(&tables.trie, bytes.get(1..).unwrap_or(&[]), false);
                        self.lead.from(0, false)
                    } else {
                        self.name_cost_after(class, cost, to)
                    };
                    return Some(Node::Name { class: to, cost }.state());
                }
                let mut endings = self.name_endings(class, cost).into_iter().flatten();
                let (next, cost) = endings
                    .find_map(|(class, cost)| Some((run(Node::Name { class, cost }.state())?, cost)))?;
                self.grammar.own_name_cost = cost;
                Some(next)
            }
            Node::Phrase { tokens, .. } if tokens >= MAX_PHRASE_TOKENS => None,
            _ => {
                let mut next = run(self.state)?;
                match &mut next.node {
                    Node::Phrase { tokens, .. } | Node::Forced { tokens, .. } => *tokens += 1,
                    _ => {}
                }
                Some(next)
            }
        }
    }

    /// Enters a state and counts what it completes.
    fn take(&mut self, mut next: State) -> Result<()> {
        let grammar = &mut self.grammar;
        match &mut next.node {
            Node::Name { cost, .. } => grammar.own_name_cost = *cost,
            Node::ItemNext { pending, .. } => {
                grammar.own_cost = grammar.own_cost.saturating_add(pending.take().unwrap_or(0))
            }
            Node::Phrase { tokens: 0, .. } => grammar.begun += 1,
            Node::Forced { at: 0, tokens: 0 } => grammar.begun += 1,
            Node::Next { unit, .. } if matches!(self.state.node, Node::Reference { .. }) => {
                if let Some(&(_, head)) = grammar.units.iter().find(|(other, _)| other == unit) {
                    grammar.used[head] += 1;
                }
            }
            _ => {}
        }
        if matches!(next.node, Node::ItemNext { .. }) {
            self.count_planned();
        }
        if matches!(next.node, Node::AfterPlan) && self.grammar.aim == Aim::OwnPlan {
            self.parser.parse_into(&self.tables.vocabulary, &self.plan_ids, &mut self.written);
            let plan = self.written.plan.take().unwrap_or_default();
            let set = self.set_targets(&plan);
            self.written.plan = Some(plan);
            set?;
            self.grammar.aim = Aim::Targets;
            self.grammar.own_cost = 0;
        }
        self.state = next;
        Ok(())
    }

    /// Slots that the items of the plan so far take.
    fn count_planned(&mut self) {
        self.parser.parse_into(&self.tables.vocabulary, &self.plan_ids, &mut self.written);
        self.grammar.planned.fill(0);
        for item in self.written.plan.iter().flat_map(|plan| &plan.items) {
            let named = |&&(unit, _): &&(Unit, usize)| unit.name() == item.unit;
            if let Some(&(_, head)) = self.grammar.units.iter().find(named) {
                self.grammar.planned[head] = self.grammar.planned[head].saturating_add(item.count as u32);
            }
        }
    }
}

/// Whether ` Unit: ` is found in an item before the end of its name.
fn ends_early(name: &str) -> bool {
    let end = ITEM_UNIT.as_bytes();
    let ended = name.bytes().chain(end.iter().copied());
    (0..name.len()).any(|start| ended.clone().skip(start).take(end.len()).eq(end.iter().copied()))
}

/// What ends a name has to be what a plan writes.
const _: () = assert!(NAME_END.len() == 7);
