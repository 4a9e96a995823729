//! Runs a kernel: blocks one after the other, the warps of a block in seeded random order, lanes of a warp together where they
//! stand at the same instruction, the ones that are behind first. What a device would do silently is a failure here.

use std::collections::VecDeque;

use super::asynchronous::Bulk;
use super::group::Group;
use super::memory::Global;
use super::phases::Phases;
use super::program::{Instruction, Operand, Operation, Program, Slot, Space, Special, Vote};
use super::shared::{Shared, When};
use super::tensor;

/// Lanes of a warp.
pub const LANES: usize = 32;
/// All of them.
pub const EVERY: u32 = u32::MAX;

/// Grid, threads of a block, bytes of dynamic shared memory.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Blocks along x, y and z.
    pub grid: [usize; 3],
    /// Threads of a block.
    pub threads: usize,
    /// Bytes of dynamic shared memory.
    pub dynamic: usize,
}

/// A warp.
pub struct Warp {
    /// Its place in the block.
    pub index: usize,
    /// Its registers, and the lanes in which each holds something.
    pub registers: Vec<[u64; LANES]>,
    pub defined: Vec<u32>,
    /// Its part in products of warp groups.
    pub group: Group,
    /// The phase that it asked for and that had not ended: mbarrier, parity.
    pub asks: Option<(u64, u64)>,
    at: [u32; LANES],
    alive: u32,
    /// Whether it waits at a barrier of the block, at which instruction.
    waits: Option<usize>,
    barriers: u32,
    /// Copies to shared memory under way: groups, oldest first; the last one is still open.
    copies: VecDeque<Vec<Copy>>,
}

/// A copy to shared memory that has not arrived: lane, address, bytes.
struct Copy(usize, u64, [u8; 16]);

/// A block.
pub struct Block<'a> {
    program: &'a Program,
    params: &'a [u64],
    /// Global memory.
    pub memory: &'a dyn Global,
    shape: Shape,
    place: [usize; 3],
    number: usize,
    /// Shared memory, its mbarriers, copies under way to it.
    pub shared: Shared,
    pub phases: Phases,
    pub bulk: Vec<Bulk>,
    barriers: u32,
}

/// A small generator (xorshift), for the order of warps and of copies.
pub struct Random(u64);

impl Random {
    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % bound
    }
}

/// Runs every block; `budget` bounds the instructions of warps. Gives how many ran.
///
/// # Errors
/// The first failure, with the line at which it happened.
pub fn run(
    program: &Program,
    shape: Shape,
    params: &[u64],
    memory: &dyn Global,
    seed: u64,
    budget: u64,
) -> Result<u64, String> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let [wide, high, deep] = shape.grid;
    let mut order: Vec<usize> = (0..wide * high * deep).collect();
    for i in (1..order.len()).rev() {
        order.swap(i, random.below(i + 1));
    }
    let mut left = budget;
    for number in order {
        let mut ranges = program.shared.clone();
        if shape.dynamic > 0 {
            ranges.push((program.dynamic, program.dynamic + shape.dynamic));
        }
        let place = [number % wide, number / wide % high, number / wide / high];
        let shared = Shared::new(&ranges, program.asynchronous.then_some(shape.threads));
        let (phases, bulk) = (Phases::default(), Vec::new());
        let mut block =
            Block { program, params, memory, shape, place, number, shared, phases, bulk, barriers: 0 };
        block.run(&mut random, &mut left)?;
    }
    memory.settle();
    Ok(budget - left)
}

impl Block<'_> {
    fn run(&mut self, random: &mut Random, left: &mut u64) -> Result<(), String> {
        let mut warps: Vec<Warp> = (0..self.shape.threads / LANES)
            .map(|index| Warp {
                index,
                registers: vec![[0; LANES]; self.program.slots],
                defined: vec![0; self.program.slots],
                group: Group::new(self.program.slots),
                asks: None,
                at: [0; LANES],
                alive: EVERY,
                waits: None,
                barriers: 0,
                copies: VecDeque::from([Vec::new()]),
            })
            .collect();
        loop {
            if !self.bulk.is_empty() && random.below(4) == 0 {
                self.bring(random);
            }
            let ended =
                |asks: Option<(u64, u64)>| asks.is_none_or(|(at, parity)| self.phases.ended(at, parity));
            let ready: Vec<usize> = warps
                .iter()
                .filter(|warp| warp.alive != 0 && warp.waits.is_none() && ended(warp.asks))
                .map(|warp| warp.index)
                .collect();
            if ready.is_empty() {
                if self.bring(random) {
                    continue;
                }
                if let Some(warp) = warps.iter().find(|warp| warp.alive != 0 && warp.waits.is_none()) {
                    return Err(format!("warp {} waits for a phase that never ends", warp.index));
                }
                if !self.barrier(&mut warps)? {
                    return self.end(&warps);
                }
                continue;
            }
            let warp = &mut warps[ready[random.below(ready.len())]];
            warp.asks = None;
            for _ in 0..=random.below(300) {
                if warp.alive == 0 || warp.waits.is_some() || warp.asks.is_some() {
                    break;
                }
                if *left == 0 {
                    return Err("runs on and on".into());
                }
                *left -= 1;
                let at = *warp
                    .at
                    .iter()
                    .enumerate()
                    .filter(|(lane, _)| warp.alive >> lane & 1 == 1)
                    .map(|(_, at)| at)
                    .min()
                    .expect("a lane is alive");
                self.step(warp, at as usize).map_err(|what| {
                    format!(
                        "{} {what} (block {:?}, warp {})",
                        self.program.place(at as usize),
                        self.place,
                        warp.index
                    )
                })?;
            }
        }
    }

    /// Lets all warps pass the barrier at which they wait; `false` where all have ended.
    fn barrier(&mut self, warps: &mut [Warp]) -> Result<bool, String> {
        let Some(first) = warps.iter().find_map(|warp| warp.waits) else { return Ok(false) };
        if let Some(ended) = warps.iter().find(|warp| warp.alive == 0) {
            return Err(format!(
                "{}: warp {} has ended before this barrier",
                self.program.place(first),
                ended.index
            ));
        }
        if let Some(other) = warps.iter().find(|warp| warp.waits != Some(first)) {
            let places = [Some(first), other.waits].map(|at| self.program.place(at.unwrap_or(usize::MAX)));
            return Err(format!("warps wait at different barriers: {}", places.join(" and ")));
        }
        if let Operation::Barrier { or: Some((dst, from)) } = self.program.instructions[first].operation {
            let any = warps.iter().any(|warp| warp.registers[from].contains(&1));
            for warp in warps.iter_mut() {
                warp.registers[dst] = [u64::from(any); LANES];
                warp.defined[dst] = EVERY;
            }
        }
        self.barriers += 1;
        if let Some(order) = &mut self.shared.order {
            order.meet(0..self.shape.threads);
        }
        for warp in warps {
            warp.waits = None;
            warp.barriers += 1;
        }
        Ok(true)
    }

    fn when(&self, warp: &Warp, lane: usize) -> When {
        When { thread: (warp.index * LANES + lane) as u16, block: self.barriers, warp: warp.barriers }
    }

    /// A thread's place in the grid.
    pub fn thread(&self, warp: &Warp, lane: usize) -> u32 {
        (self.number * self.shape.threads + warp.index * LANES + lane) as u32
    }

    /// One instruction of the lanes of `warp` that stand at `at`.
    fn step(&mut self, warp: &mut Warp, at: usize) -> Result<(), String> {
        let program = self.program;
        let Some(Instruction { guard, operation, .. }) = program.instructions.get(at) else {
            return Err("is reached without ret".into());
        };
        let mut here = 0;
        for lane in 0..LANES {
            here |= u32::from(warp.alive >> lane & 1 == 1 && warp.at[lane] as usize == at) << lane;
        }
        let mut lanes = here;
        if let Some((slot, negated)) = *guard {
            warp.known(slot, here)?;
            for lane in 0..LANES {
                if (warp.registers[slot][lane] == 1) == negated {
                    lanes &= !(1 << lane);
                }
            }
        }
        for_lanes(here, |lane| warp.at[lane] += 1);
        if lanes == 0 {
            return Ok(());
        }
        match operation {
            Operation::Branch { to } => for_lanes(lanes, |lane| warp.at[lane] = *to as u32),
            Operation::Return => warp.alive &= !lanes,
            Operation::Compute { function, dst, from, divides } => {
                let mut values = [[0; LANES]; 3];
                for (values, from) in values.iter_mut().zip(from) {
                    *values = self.values(warp, *from, lanes)?;
                }
                let [a, b, c] = values;
                if *divides && (0..LANES).any(|lane| lanes >> lane & 1 == 1 && b[lane] as u32 == 0) {
                    return Err("divides by zero".into());
                }
                let dst_values = &mut warp.registers[*dst];
                for lane in 0..LANES {
                    if lanes >> lane & 1 == 1 {
                        dst_values[lane] = function(a[lane], b[lane], c[lane]);
                    }
                }
                warp.written(*dst, lanes)?;
            }
            Operation::Compare { compare, dst, a, b, join } => {
                let (a, b) = (self.values(warp, *a, lanes)?, self.values(warp, *b, lanes)?);
                let joined = match *join {
                    Some((_, slot)) => {
                        warp.known(slot, lanes)?;
                        warp.registers[slot]
                    }
                    None => [1; LANES],
                };
                let or = matches!(join, Some((false, _)));
                for_lanes(lanes, |lane| {
                    let result = compare(a[lane], b[lane]);
                    let joined = joined[lane] == 1;
                    warp.registers[*dst][lane] =
                        u64::from(if or { result || joined } else { result && joined });
                });
                warp.written(*dst, lanes)?;
            }
            Operation::Pack { dst, from, bits } => {
                let mut packed = [0; LANES];
                for (i, from) in from.iter().enumerate() {
                    let part = self.values(warp, *from, lanes)?;
                    for lane in 0..LANES {
                        packed[lane] |= (part[lane] & ((1 << bits) - 1)) << (*bits as usize * i);
                    }
                }
                warp.put(*dst, lanes, &packed)?;
            }
            Operation::Unpack { dst, from, bits } => {
                let whole = self.values(warp, *from, lanes)?;
                for (i, dst) in dst.iter().enumerate() {
                    let part = whole.map(|whole| whole >> (*bits as usize * i) & ((1 << bits) - 1));
                    warp.put(*dst, lanes, &part)?;
                }
            }
            Operation::Param { dst, index } => warp.put(*dst, lanes, &[self.params[*index]; LANES])?,
            Operation::Load { space, bytes, signed, dst, base, offset } => {
                self.load(warp, lanes, *space, *bytes, dst, *base, *offset)?;
                if *signed && *bytes == 1 {
                    for &slot in dst {
                        for_lanes(lanes, |lane| {
                            let byte = warp.registers[slot][lane] as i8;
                            warp.registers[slot][lane] = u64::from(i32::from(byte) as u32);
                        });
                    }
                }
            }
            Operation::Store { space, bytes, from, base, offset } => {
                self.store(warp, lanes, *space, *bytes, from, *base, *offset)?;
            }
            Operation::Or { base, offset, from } => {
                let (base, from) = (self.values(warp, *base, lanes)?, self.values(warp, *from, lanes)?);
                for lane in bits_of(lanes) {
                    self.memory.or(base[lane].wrapping_add_signed(*offset), from[lane] as u32)?;
                }
            }
            Operation::Shuffle { dst, from, lane_mask, clamp, members } => {
                self.whole(warp, lanes, *members)?;
                let (from, mask) = (self.values(warp, *from, lanes)?, self.values(warp, *lane_mask, lanes)?);
                if self.values(warp, *clamp, lanes)? != [31; LANES] {
                    return Err("shuffles with a clamp other than 31".into());
                }
                let mut moved = [0; LANES];
                for lane in 0..LANES {
                    moved[lane] = from[(lane ^ mask[lane] as usize) % LANES];
                }
                warp.put(*dst, lanes, &moved)?;
            }
            Operation::Vote { vote, dst, from, members } => {
                self.whole(warp, lanes, *members)?;
                warp.known(*from, lanes)?;
                let ballot =
                    (0..LANES).fold(0, |bits, lane| bits | (warp.registers[*from][lane] & 1) << lane);
                let answer = match vote {
                    Vote::Ballot => ballot,
                    Vote::All => u64::from(ballot == u64::from(EVERY)),
                };
                warp.put(*dst, lanes, &[answer; LANES])?;
            }
            Operation::WarpBarrier { members } => {
                self.whole(warp, lanes, *members)?;
                warp.barriers += 1;
                if let Some(order) = &mut self.shared.order {
                    order.meet(warp.index * LANES..(warp.index + 1) * LANES);
                }
            }
            Operation::CopyAsync { dst, dst_offset, src, src_offset, size } => {
                let (dst, src) = (self.values(warp, *dst, lanes)?, self.values(warp, *src, lanes)?);
                let size = self.values(warp, *size, lanes)?;
                for lane in bits_of(lanes) {
                    let mut bytes = [0; 16];
                    let to = dst[lane].wrapping_add_signed(*dst_offset) & 0xffff_ffff;
                    self.shared.expect(to, 16, self.when(warp, lane))?;
                    match size[lane] {
                        0 => {}
                        16 => {
                            let from = src[lane].wrapping_add_signed(*src_offset);
                            self.memory.load(from, &mut bytes, self.thread(warp, lane), true)?;
                        }
                        size => return Err(format!("copies {size} bytes")),
                    }
                    warp.copies.back_mut().expect("a group is open").push(Copy(lane, to, bytes));
                }
            }
            Operation::Commit | Operation::Wait(_) if lanes != EVERY => {
                return Err(format!("misses lanes {:#x} of its warp", !lanes));
            }
            Operation::Commit => warp.copies.push_back(Vec::new()),
            Operation::Wait(groups) => {
                while warp.copies.len() > groups + 1 {
                    for Copy(lane, to, bytes) in warp.copies.pop_front().expect("a group is there") {
                        self.shared.store(to, &bytes, self.when(warp, lane))?;
                    }
                }
            }
            Operation::Mma { half, d, a, b, c } => {
                self.whole(warp, lanes, Operand::Number(u64::from(EVERY)))?;
                for &slot in a.iter().chain(b).chain(c) {
                    warp.known(slot, lanes)?;
                }
                let of = |slots: &[Slot]| slots.iter().map(|&slot| &warp.registers[slot]).collect::<Vec<_>>();
                let sums = match half {
                    true => tensor::m16n8k8_f16(&of(a), &of(b), &of(c)),
                    false => tensor::m16n8k8_tf32(&of(a), &of(b), &of(c))?,
                };
                for (&slot, sums) in d.iter().zip(&sums) {
                    warp.put(slot, lanes, sums)?;
                }
            }
            Operation::LoadMatrix { transposed, dst, base, offset } => {
                self.whole(warp, lanes, Operand::Number(u64::from(EVERY)))?;
                let base = self.values(warp, *base, lanes)?;
                let mut rows = [[0; 16]; LANES];
                for (lane, row) in rows.iter_mut().enumerate() {
                    let address = base[lane].wrapping_add_signed(*offset) & 0xffff_ffff;
                    self.shared.load(address, row, self.when(warp, lane))?;
                }
                for (&slot, rows) in dst.iter().zip(rows.chunks_exact(8)) {
                    warp.put(slot, lanes, &tensor::matrix(rows, *transposed))?;
                }
            }
            Operation::Asynchronous(what) => self.asynchronous(warp, lanes, at, what)?,
            Operation::Barrier { or } => {
                if lanes != EVERY {
                    return Err(format!("is a barrier that lanes {:#x} do not reach together", !lanes));
                }
                if let Some((_, from)) = or {
                    warp.known(*from, lanes)?;
                }
                warp.waits = Some(at);
            }
        }
        Ok(())
    }

    /// Fails unless all lanes of the warp take part and are named.
    fn whole(&self, warp: &Warp, lanes: u32, members: Operand) -> Result<(), String> {
        let members = self.values(warp, members, lanes)?;
        if lanes != EVERY || members != [u64::from(EVERY); LANES] {
            return Err(format!("misses lanes {:#x} of its warp", !lanes));
        }
        Ok(())
    }

    /// What an operand is in every lane; `lanes` must hold something.
    pub fn values(&self, warp: &Warp, operand: Operand, lanes: u32) -> Result<[u64; LANES], String> {
        Ok(match operand {
            Operand::Slot(slot) => {
                warp.known(slot, lanes)?;
                warp.registers[slot]
            }
            Operand::Number(number) => [number; LANES],
            Operand::Special(Special::Thread) => {
                std::array::from_fn(|lane| (warp.index * LANES + lane) as u64)
            }
            Operand::Special(Special::Threads) => [self.shape.threads as u64; LANES],
            Operand::Special(Special::Block(axis)) => [self.place[axis] as u64; LANES],
            Operand::Special(Special::Blocks(axis)) => [self.shape.grid[axis] as u64; LANES],
        })
    }

    #[allow(clippy::too_many_arguments)]
    fn load(
        &mut self,
        warp: &mut Warp,
        lanes: u32,
        space: Space,
        bytes: usize,
        dst: &[Slot],
        base: Operand,
        offset: i64,
    ) -> Result<(), String> {
        let base = self.values(warp, base, lanes)?;
        let mut buffer = [0; 16];
        let buffer = &mut buffer[..bytes * dst.len()];
        for lane in bits_of(lanes) {
            let address = base[lane].wrapping_add_signed(offset);
            match space {
                Space::Global(constant) => {
                    self.memory.load(address, buffer, self.thread(warp, lane), constant)?;
                }
                Space::Shared => {
                    let when = self.when(warp, lane);
                    self.shared.load(address & 0xffff_ffff, buffer, when)?;
                }
            }
            for (slot, element) in dst.iter().zip(buffer.chunks_exact(bytes)) {
                let mut word = [0; 8];
                word[..bytes].copy_from_slice(element);
                warp.registers[*slot][lane] = u64::from_le_bytes(word);
            }
        }
        dst.iter().try_for_each(|slot| warp.written(*slot, lanes))
    }

    #[allow(clippy::too_many_arguments)]
    fn store(
        &mut self,
        warp: &Warp,
        lanes: u32,
        space: Space,
        bytes: usize,
        from: &[Operand],
        base: Operand,
        offset: i64,
    ) -> Result<(), String> {
        let base = self.values(warp, base, lanes)?;
        let mut values = [[0; LANES]; 4];
        for (values, from) in values.iter_mut().zip(from) {
            *values = self.values(warp, *from, lanes)?;
        }
        let mut buffer = [0; 16];
        let buffer = &mut buffer[..bytes * from.len()];
        for lane in bits_of(lanes) {
            for (element, values) in buffer.chunks_exact_mut(bytes).zip(&values) {
                element.copy_from_slice(&values[lane].to_le_bytes()[..bytes]);
            }
            let address = base[lane].wrapping_add_signed(offset);
            match space {
                Space::Global(_) => self.memory.store(address, buffer, self.thread(warp, lane))?,
                Space::Shared => {
                    let when = self.when(warp, lane);
                    self.shared.store(address & 0xffff_ffff, buffer, when)?;
                }
            }
        }
        Ok(())
    }
}

impl Warp {
    fn known(&self, slot: Slot, lanes: u32) -> Result<(), String> {
        self.group.touch(slot)?;
        match lanes & !self.defined[slot] {
            0 => Ok(()),
            unknown => Err(format!("reads a register that holds nothing in lanes {unknown:#x}")),
        }
    }

    fn written(&mut self, slot: Slot, lanes: u32) -> Result<(), String> {
        self.defined[slot] |= lanes;
        self.group.touch(slot)
    }

    /// Puts values into the lanes of a register.
    pub fn put(&mut self, slot: Slot, lanes: u32, values: &[u64; LANES]) -> Result<(), String> {
        for_lanes(lanes, |lane| self.registers[slot][lane] = values[lane]);
        self.written(slot, lanes)
    }
}

fn for_lanes(lanes: u32, mut act: impl FnMut(usize)) {
    for lane in 0..LANES {
        if lanes >> lane & 1 == 1 {
            act(lane);
        }
    }
}

/// The lanes of a mask.
pub fn bits_of(lanes: u32) -> impl Iterator<Item = usize> {
    (0..LANES).filter(move |lane| lanes >> lane & 1 == 1)
}
