//! From statements to instructions that run: registers as slots, labels as indices, opcodes as functions.

use std::collections::HashMap;

use super::arithmetic::{Function, comparison, function};
use super::asynchronous::Asynchronous;
use super::syntax::{Source, Statement, Written, read};
use super::text::Line;

/// A register's place in a warp's register file.
pub type Slot = usize;

/// What an operand stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Operand {
    /// A register.
    Slot(Slot),
    /// A number, also the address of shared memory.
    Number(u64),
    /// A special register.
    Special(Special),
}

/// Special registers, of the x, y and z axis where they have one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Special {
    /// `%tid.x`
    Thread,
    /// `%ntid.x`
    Threads,
    /// `%ctaid`
    Block(usize),
    /// `%nctaid`
    Blocks(usize),
}

/// Where a load or store goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Space {
    /// Global memory; the flag: by the path that assumes nobody writes it.
    Global(bool),
    /// Shared memory of the block.
    Shared,
}

/// How `vote.sync` answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Vote {
    /// A bit for every lane.
    Ballot,
    /// Whether all lanes.
    All,
}

/// What an instruction does.
#[derive(Clone)]
pub enum Operation {
    /// `dst = function(a, b, c)`; the flag: an integer division, whose `b` must not be 0.
    Compute { function: Function, dst: Slot, from: Vec<Operand>, divides: bool },
    /// `dst = a ? b`, joined with a predicate.
    Compare { compare: fn(u64, u64) -> bool, dst: Slot, a: Operand, b: Operand, join: Option<(bool, Slot)> },
    /// Halves put together, the lower first, each of so many bits.
    Pack { dst: Slot, from: Vec<Operand>, bits: u32 },
    /// The other way.
    Unpack { dst: Vec<Slot>, from: Operand, bits: u32 },
    /// Parameter by index.
    Param { dst: Slot, index: usize },
    /// Elements of `bytes` each, one after the other; `signed` ones fill a register of 32 bits.
    Load { space: Space, bytes: usize, signed: bool, dst: Vec<Slot>, base: Operand, offset: i64 },
    /// The other way.
    Store { space: Space, bytes: usize, from: Vec<Operand>, base: Operand, offset: i64 },
    /// Integer `or` into global memory.
    Or { base: Operand, offset: i64, from: Operand },
    /// `shfl.sync.bfly`
    Shuffle { dst: Slot, from: Operand, lane_mask: Operand, clamp: Operand, members: Operand },
    /// `vote.sync`
    Vote { vote: Vote, dst: Slot, from: Slot, members: Operand },
    /// `bar.sync`, or `bar.red.or.pred` with what it joins.
    Barrier { or: Option<(Slot, Slot)> },
    /// `bar.warp.sync`
    WarpBarrier { members: Operand },
    /// `cp.async.cg`: 16 bytes of shared memory, of which the first `size` come from global memory and the others are 0.
    CopyAsync { dst: Operand, dst_offset: i64, src: Operand, src_offset: i64, size: Operand },
    /// `cp.async.commit_group`
    Commit,
    /// `cp.async.wait_group`: all groups but the last so many have arrived.
    Wait(usize),
    /// `mma.sync` of an m16n8k8 product of tf32 or f16 with sums in f32: d, a, b, c.
    Mma { half: bool, d: Vec<Slot>, a: Vec<Slot>, b: Vec<Slot>, c: Vec<Slot> },
    /// `ldmatrix` of four matrices, each by the addresses of eight lanes.
    LoadMatrix { transposed: bool, dst: Vec<Slot>, base: Operand, offset: i64 },
    /// Copies in bulk, mbarriers, products of warp groups.
    Asynchronous(Asynchronous),
    /// To an instruction.
    Branch { to: usize },
    /// The thread ends.
    Return,
}

/// An instruction with its guard (slot, negated) and its line.
#[derive(Clone)]
pub struct Instruction {
    /// Whether a lane takes part.
    pub guard: Option<(Slot, bool)>,
    /// What it does.
    pub operation: Operation,
    /// Index of its line.
    pub line: usize,
}

/// A kernel that can run.
pub struct Program {
    /// What the text says about itself.
    pub source: Source,
    /// The lines, for messages.
    pub lines: Vec<Line>,
    /// Instructions in order.
    pub instructions: Vec<Instruction>,
    /// Slots of a warp's register file.
    pub slots: usize,
    /// Ranges of shared memory that the text declares.
    pub shared: Vec<(usize, usize)>,
    /// Where dynamic shared memory begins.
    pub dynamic: usize,
    /// Whether threads meet at mbarriers.
    pub asynchronous: bool,
}

/// Bytes between two shared variables and before the first, so that a step beyond one is seen.
const GAP: usize = 512;

#[derive(Default)]
struct Scope {
    slots: HashMap<String, (Slot, String)>,
    labels: HashMap<String, usize>,
    waiting: Vec<(usize, String)>,
}

struct Decoder {
    scopes: Vec<Scope>,
    shared: HashMap<String, usize>,
    params: Vec<(String, String)>,
    slots: usize,
}

impl Program {
    /// Decodes the lines of a kernel.
    pub fn new(lines: Vec<Line>) -> Result<Program, String> {
        let source = read(&lines)?;
        let mut shared = HashMap::new();
        let mut ranges = Vec::new();
        let mut end = GAP;
        for (_, statement) in &source.body {
            if let Statement::Shared { name, align, bytes } = statement {
                let start = end.div_ceil(*align) * align;
                shared.insert(name.clone(), start);
                ranges.push((start, start + bytes));
                end = start + bytes + GAP;
            }
        }
        let dynamic = end.div_ceil(16) * 16;
        if let Some(name) = &source.dynamic {
            shared.insert(name.clone(), dynamic);
        }
        let mut decoder =
            Decoder { scopes: vec![Scope::default()], shared, params: source.params.clone(), slots: 0 };
        let mut instructions: Vec<Instruction> = Vec::new();
        for (line, statement) in &source.body {
            let at = instructions.len();
            let told =
                |what: String| format!("{}: {what}: {}", lines[*line].origin, lines[*line].text.trim());
            match statement {
                Statement::Open => decoder.scopes.push(Scope::default()),
                Statement::Close => decoder.close(&mut instructions).map_err(told)?,
                Statement::Label(name) => {
                    if decoder.scope().labels.insert(name.clone(), at).is_some() {
                        return Err(told("the label stands twice".into()));
                    }
                }
                Statement::Registers(kind, names) => decoder.declare(kind, names).map_err(told)?,
                Statement::Shared { .. } => {}
                Statement::Instruction { guard, opcode, operands } => {
                    let guard = match guard {
                        Some((name, negated)) => Some((decoder.slot(name).map_err(told)?, *negated)),
                        None => None,
                    };
                    let operation = decoder.operation(at, opcode, operands).map_err(told)?;
                    instructions.push(Instruction { guard, operation, line: *line });
                }
            }
        }
        decoder.close(&mut instructions)?;
        let slots = decoder.slots;
        let asynchronous = instructions
            .iter()
            .any(|instruction| matches!(instruction.operation, Operation::Asynchronous(_)));
        Ok(Program { source, lines, instructions, slots, shared: ranges, dynamic, asynchronous })
    }

    /// Where an instruction stands.
    pub fn place(&self, at: usize) -> String {
        match self.instructions.get(at) {
            Some(instruction) => {
                let line = &self.lines[instruction.line];
                format!("{}: `{}`", line.origin, line.text.trim())
            }
            None => "the end of the kernel".into(),
        }
    }
}

fn number(word: &str) -> Option<u64> {
    if let Some(rest) = word.strip_prefix('-') {
        return Some(number(rest)?.wrapping_neg());
    }
    if let Some(hex) = word.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).ok();
    }
    if let Some(hex) = word.strip_prefix("0f").filter(|hex| hex.len() == 8) {
        return u64::from_str_radix(hex, 16).ok();
    }
    if let Some(hex) = word.strip_prefix("0d").filter(|hex| hex.len() == 16) {
        return u64::from_str_radix(hex, 16).ok();
    }
    word.parse().ok()
}

/// Bytes of an instruction's type.
fn width(kind: &str) -> Option<usize> {
    let digits: String = kind.chars().filter(char::is_ascii_digit).collect();
    Some(digits.parse::<usize>().ok()? / 8).filter(|bytes| [1, 2, 4, 8].contains(bytes))
}

impl Decoder {
    fn scope(&mut self) -> &mut Scope {
        self.scopes.last_mut().expect("a scope is open")
    }

    fn declare(&mut self, kind: &str, names: &[(String, usize)]) -> Result<(), String> {
        for (name, count) in names {
            let single = [name.clone()];
            let many: Vec<String> = (0..*count).map(|i| format!("{name}{i}")).collect();
            for name in if *count == 0 { &single[..] } else { &many } {
                let slot = self.slots;
                self.slots += 1;
                if self.scope().slots.insert(name.clone(), (slot, kind.to_owned())).is_some() {
                    return Err(format!("{name} is declared twice"));
                }
            }
        }
        Ok(())
    }

    fn close(&mut self, instructions: &mut [Instruction]) -> Result<(), String> {
        let scope = self.scopes.pop().expect("a scope is open");
        for (at, name) in scope.waiting {
            match (scope.labels.get(&name), self.scopes.last_mut()) {
                (Some(&to), _) => instructions[at].operation = Operation::Branch { to },
                (None, Some(outer)) => outer.waiting.push((at, name)),
                (None, None) => return Err(format!("there is no label {name}")),
            }
        }
        Ok(())
    }

    fn slot(&self, name: &str) -> Result<Slot, String> {
        let found = self.scopes.iter().rev().find_map(|scope| scope.slots.get(name));
        found.map(|(slot, _)| *slot).ok_or_else(|| format!("no register {name}"))
    }

    fn operand(&self, word: &str) -> Result<Operand, String> {
        let axis = |name: &str| ["x", "y", "z"].iter().position(|axis| *axis == name);
        if let Some((name, end)) = word.split_once('.')
            && let Some(axis) = axis(end)
        {
            return Ok(Operand::Special(match (name, axis) {
                ("%tid", 0) => Special::Thread,
                ("%ntid", 0) => Special::Threads,
                ("%ctaid", axis) => Special::Block(axis),
                ("%nctaid", axis) => Special::Blocks(axis),
                _ => return Err(format!("unknown special register {word}")),
            }));
        }
        if word.starts_with('%') {
            return Ok(Operand::Slot(self.slot(word)?));
        }
        if let Some(&address) = self.shared.get(word) {
            return Ok(Operand::Number(address as u64));
        }
        number(word).map(Operand::Number).ok_or_else(|| format!("cannot read {word}"))
    }

    fn from(&self, written: &Written) -> Result<Vec<Operand>, String> {
        match written {
            Written::Word(word) => Ok(vec![self.operand(word)?]),
            Written::Vector(words) => words.iter().map(|word| self.operand(word)).collect(),
            _ => Err("a value is expected".into()),
        }
    }

    fn to(&self, written: &Written) -> Result<Vec<Slot>, String> {
        match written {
            Written::Word(word) => Ok(vec![self.slot(word)?]),
            Written::Vector(words) => words.iter().map(|word| self.slot(word)).collect(),
            _ => Err("a register is expected".into()),
        }
    }

    fn operation(&mut self, at: usize, opcode: &str, operands: &[Written]) -> Result<Operation, String> {
        let unknown = || format!("unknown instruction {opcode}");
        let get = |i: usize| operands.get(i).ok_or("an operand is missing".to_owned());
        let one = |i: usize| self.from(get(i)?).map(|from| from[0]);
        let dst = || self.to(get(0)?).map(|to| to[0]);
        let address = |i: usize| match get(i)? {
            Written::Address(base, offset) => Ok((self.operand(base)?, *offset)),
            _ => Err("an address is expected".to_owned()),
        };
        let parts: Vec<&str> = opcode.split('.').collect();
        let count = |expected: usize| match operands.len() == expected {
            true => Ok(()),
            false => Err(format!("{expected} operands are expected")),
        };
        match (parts[0], &parts[1..]) {
            ("ret", []) => Ok(Operation::Return),
            ("bra", []) => {
                count(1)?;
                let Written::Word(label) = get(0)?.clone() else { return Err("a label is expected".into()) };
                self.scope().waiting.push((at, label));
                Ok(Operation::Branch { to: 0 })
            }
            ("bar", ["sync"]) if operands == [Written::Word("0".into())] => {
                Ok(Operation::Barrier { or: None })
            }
            ("bar", ["red", "or", "pred"]) => {
                count(3)?;
                Ok(Operation::Barrier { or: Some((dst()?, self.to(get(2)?)?[0])) })
            }
            ("bar", ["warp", "sync"]) => Ok(Operation::WarpBarrier { members: one(0)? }),
            ("shfl", ["sync", "bfly", "b32"]) => {
                count(5)?;
                Ok(Operation::Shuffle {
                    dst: dst()?,
                    from: one(1)?,
                    lane_mask: one(2)?,
                    clamp: one(3)?,
                    members: one(4)?,
                })
            }
            ("vote", ["sync", rest @ ..]) => {
                count(3)?;
                let vote = match rest {
                    ["ballot", "b32"] => Vote::Ballot,
                    ["all", "pred"] => Vote::All,
                    _ => return Err(unknown()),
                };
                Ok(Operation::Vote { vote, dst: dst()?, from: self.to(get(1)?)?[0], members: one(2)? })
            }
            ("ld", ["param", _]) => {
                let Written::Address(name, 0) = get(1)? else { return Err("a parameter is expected".into()) };
                let found = self.params.iter().position(|(_, param)| param == name);
                let index = found.ok_or_else(|| format!("no parameter {name}"))?;
                if self.params[index].0.trim_start_matches('.') != parts[2] {
                    return Err(format!("{name} has another type"));
                }
                Ok(Operation::Param { dst: dst()?, index })
            }
            ("ld" | "st", [space, rest @ ..]) => {
                let (constant, rest) = match rest {
                    ["nc", rest @ ..] => (true, rest),
                    rest => (false, rest),
                };
                let (elements, kind) = match rest {
                    ["v2", kind] => (2, kind),
                    ["v4", kind] => (4, kind),
                    [kind] => (1, kind),
                    _ => return Err(unknown()),
                };
                let space = match *space {
                    "global" => Space::Global(constant),
                    "shared" if !constant => Space::Shared,
                    _ => return Err(unknown()),
                };
                let bytes = width(kind).ok_or_else(unknown)?;
                count(2)?;
                let store = parts[0] == "st";
                let (base, offset) = address(usize::from(!store))?;
                let values = get(usize::from(store))?;
                if store {
                    let from = self.from(values)?;
                    (from.len() == elements).then_some(()).ok_or("wrong number of elements")?;
                    return Ok(Operation::Store { space, bytes, from, base, offset });
                }
                let dst = self.to(values)?;
                (dst.len() == elements).then_some(()).ok_or("wrong number of elements")?;
                let signed = kind.starts_with('s');
                Ok(Operation::Load { space, bytes, signed, dst, base, offset })
            }
            ("cp", ["async", "cg", "shared", "global"]) => {
                count(4)?;
                if get(2)? != &Written::Word("16".into()) {
                    return Err("16 bytes are expected".into());
                }
                let ((dst, dst_offset), (src, src_offset)) = (address(0)?, address(1)?);
                Ok(Operation::CopyAsync { dst, dst_offset, src, src_offset, size: one(3)? })
            }
            ("cp", ["async", "commit_group"]) => Ok(Operation::Commit),
            ("cp", ["async", "wait_group"]) => match one(0)? {
                Operand::Number(groups) => Ok(Operation::Wait(groups as usize)),
                _ => Err("a number is expected".into()),
            },
            ("mma", ["sync", "aligned", "m16n8k8", "row", "col", "f32", left, right, "f32"]) => {
                count(4)?;
                let half = match [*left, *right] {
                    ["tf32", "tf32"] => false,
                    ["f16", "f16"] => true,
                    _ => return Err(unknown()),
                };
                let [d, a, b, c] = [0, 1, 2, 3].map(|i| get(i).and_then(|written| self.to(written)));
                let (d, a, b, c) = (d?, a?, b?, c?);
                match ([d.len(), a.len(), b.len(), c.len()], half) {
                    ([4, 4, 2, 4], false) | ([4, 2, 1, 4], true) => Ok(Operation::Mma { half, d, a, b, c }),
                    _ => Err("wrong number of elements".into()),
                }
            }
            ("ldmatrix", ["sync", "aligned", "m8n8", "x4", rest @ ..]) => {
                count(2)?;
                let transposed = match rest {
                    ["shared", "b16"] => false,
                    ["trans", "shared", "b16"] => true,
                    _ => return Err(unknown()),
                };
                let (dst, (base, offset)) = (self.to(get(0)?)?, address(1)?);
                (dst.len() == 4).then_some(()).ok_or("wrong number of elements")?;
                Ok(Operation::LoadMatrix { transposed, dst, base, offset })
            }
            ("cp", ["async", "bulk", "shared::cluster", "global", "mbarrier::complete_tx::bytes"]) => {
                count(4)?;
                let (to, from, phase) = (address(0)?, address(1)?, address(3)?);
                Ok(Operation::Asynchronous(Asynchronous::Copy { to, from, size: one(2)?, phase }))
            }
            ("mbarrier", ["init", "shared::cta", "b64"]) => {
                count(2)?;
                let (base, offset) = address(0)?;
                Ok(Operation::Asynchronous(Asynchronous::Init(base, offset, one(1)?)))
            }
            ("mbarrier", ["arrive", rest @ ..]) => {
                let (base, offset) = address(1)?;
                let bytes = match rest {
                    ["shared::cta", "b64"] => Operand::Number(0),
                    ["expect_tx", "shared::cta", "b64"] => one(2)?,
                    _ => return Err(unknown()),
                };
                let state = dst()?;
                Ok(Operation::Asynchronous(Asynchronous::Arrive { state, base, offset, bytes }))
            }
            ("mbarrier", ["try_wait", "parity", "shared::cta", "b64"]) => {
                count(3)?;
                let ((base, offset), parity) = (address(1)?, one(2)?);
                Ok(Operation::Asynchronous(Asynchronous::Ask { dst: dst()?, base, offset, parity }))
            }
            ("fence", ["proxy", "async", "shared::cta"]) => {
                Ok(Operation::Asynchronous(Asynchronous::ProxyFence))
            }
            ("wgmma", [what, "sync", "aligned", rest @ ..]) => {
                Ok(Operation::Asynchronous(match (*what, rest) {
                    ("fence", []) => Asynchronous::GroupFence,
                    ("commit_group", []) => Asynchronous::GroupCommit,
                    ("wait_group", []) => match one(0)? {
                        Operand::Number(groups) => Asynchronous::GroupWait(groups as usize),
                        _ => return Err("a number is expected".into()),
                    },
                    ("mma_async", ["m64n128k16", "f32", "f16", "f16"]) => {
                        count(7)?;
                        let plain = [4, 5, 6].map(|i| one(i) == Ok(Operand::Number(u64::from(i < 6))));
                        let (sums, left) = (self.to(get(0)?)?, self.to(get(1)?)?);
                        if plain != [true; 3] || sums.len() != 64 || left.len() != 4 {
                            return Err("a plain product of 64 sums is expected".into());
                        }
                        Asynchronous::Multiply { sums, left, right: one(2)?, add: self.to(get(3)?)?[0] }
                    }
                    _ => return Err(unknown()),
                }))
            }
            ("red", ["global", "or", "b32"]) => {
                let (base, offset) = address(0)?;
                Ok(Operation::Or { base, offset, from: one(1)? })
            }
            ("setp", [name, rest @ ..]) => {
                let (join, kind) = match rest {
                    ["and", kind] => (Some(true), kind),
                    ["or", kind] => (Some(false), kind),
                    [kind] => (None, kind),
                    _ => return Err(unknown()),
                };
                count(3 + usize::from(join.is_some()))?;
                let compare = comparison(name, kind).ok_or_else(unknown)?;
                let join = match join {
                    Some(and) => Some((and, self.to(get(3)?)?[0])),
                    None => None,
                };
                Ok(Operation::Compare { compare, dst: dst()?, a: one(1)?, b: one(2)?, join })
            }
            ("mov", [kind]) if matches!(get(1)?, Written::Vector(_)) => {
                let from = self.from(get(1)?)?;
                let bits = 8 * width(kind).ok_or_else(unknown)? / from.len();
                Ok(Operation::Pack { dst: dst()?, from, bits: bits as u32 })
            }
            ("mov", [kind]) if matches!(get(0)?, Written::Vector(_)) => {
                let dst = self.to(get(0)?)?;
                let bits = 8 * width(kind).ok_or_else(unknown)? / dst.len();
                Ok(Operation::Unpack { dst, from: one(1)?, bits: bits as u32 })
            }
            _ => {
                let (function, arity) = function(opcode).ok_or_else(unknown)?;
                count(arity + 1)?;
                let from = (1..=arity).map(one).collect::<Result<_, _>>()?;
                let divides = matches!(opcode, "div.u32" | "rem.u32");
                Ok(Operation::Compute { function, dst: dst()?, from, divides })
            }
        }
    }
}
