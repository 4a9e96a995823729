//! What runs beside the threads: copies in bulk, mbarriers that count them, products of warp groups.

use half::f16;

use super::group::{Descriptor, m64k16_f16};
use super::machine::{Block, EVERY, LANES, Random, Warp, bits_of};
use super::order::Order;
use super::program::{Operand, Slot};

/// Most bytes of a copy.
const MOST_BYTES: u64 = 1 << 20;

/// An instruction of this kind; addresses are a base and an offset.
#[derive(Clone)]
pub enum Asynchronous {
    /// `mbarrier.init`: address, arrivals of a phase.
    Init(Operand, i64, Operand),
    /// `mbarrier.arrive`, with `expect_tx` of so many bytes.
    Arrive { state: Slot, base: Operand, offset: i64, bytes: Operand },
    /// `mbarrier.try_wait.parity`: whether the phase of a parity has ended.
    Ask { dst: Slot, base: Operand, offset: i64, parity: Operand },
    /// `cp.async.bulk` from global to shared memory: to, from, bytes, mbarrier.
    Copy { to: (Operand, i64), from: (Operand, i64), size: Operand, phase: (Operand, i64) },
    /// `fence.proxy.async`
    ProxyFence,
    /// `wgmma.fence`
    GroupFence,
    /// `wgmma.commit_group`
    GroupCommit,
    /// `wgmma.wait_group`
    GroupWait(usize),
    /// `wgmma.mma_async` of f16: sums, fragments of the left matrix, descriptor of the right one, whether it adds.
    Multiply { sums: Vec<Slot>, left: Vec<Slot>, right: Operand, add: Slot },
}

/// A copy that has not come: shared address, bytes, mbarrier.
pub struct Bulk(u64, Vec<u8>, u64);

/// The clocks; kernels with such instructions have them.
fn clocks(order: &mut Option<Order>) -> Result<&mut Order, String> {
    order.as_mut().ok_or_else(|| "no clocks".into())
}

impl Block<'_> {
    /// One such instruction.
    pub fn asynchronous(
        &mut self,
        warp: &mut Warp,
        lanes: u32,
        at: usize,
        what: &Asynchronous,
    ) -> Result<(), String> {
        let whole = matches!(
            what,
            Asynchronous::GroupFence
                | Asynchronous::GroupCommit
                | Asynchronous::GroupWait(_)
                | Asynchronous::Multiply { .. }
        );
        if whole && lanes != EVERY {
            return Err(format!("misses lanes {:#x} of its warp", !lanes));
        }
        let first = warp.index * LANES;
        match what {
            Asynchronous::Init(base, offset, count) => {
                let (base, count) = (self.values(warp, *base, lanes)?, self.values(warp, *count, lanes)?);
                for lane in bits_of(lanes) {
                    let address = shared(base[lane], *offset);
                    self.shared.reserve(address)?;
                    let order = clocks(&mut self.shared.order)?;
                    self.phases.init(address, count[lane], first + lane, order)?;
                }
            }
            Asynchronous::Arrive { state, base, offset, bytes } => {
                let (base, bytes) = (self.values(warp, *base, lanes)?, self.values(warp, *bytes, lanes)?);
                for lane in bits_of(lanes) {
                    let order = clocks(&mut self.shared.order)?;
                    self.phases.arrive(shared(base[lane], *offset), bytes[lane], first + lane, order)?;
                }
                warp.put(*state, lanes, &[0; LANES])?;
            }
            Asynchronous::Ask { dst, base, offset, parity } => {
                let (base, parity) = (self.values(warp, *base, lanes)?, self.values(warp, *parity, lanes)?);
                let mut answers = [0; LANES];
                for lane in bits_of(lanes) {
                    let (address, order) = (shared(base[lane], *offset), clocks(&mut self.shared.order)?);
                    let ended = self.phases.ask(address, parity[lane], first + lane, order)?;
                    answers[lane] = u64::from(ended);
                    if !ended {
                        warp.asks = Some((address, parity[lane]));
                    }
                }
                warp.put(*dst, lanes, &answers)?;
            }
            Asynchronous::Copy { to, from, size, phase } => {
                let [to_base, from_base, size, phase_base] =
                    [to.0, from.0, *size, phase.0].map(|operand| self.values(warp, operand, lanes));
                let (to_base, from_base) = (to_base?, from_base?);
                let (size, phase_base) = (size?, phase_base?);
                for lane in bits_of(lanes) {
                    let size = size[lane];
                    if size == 0 || !size.is_multiple_of(16) || size > MOST_BYTES {
                        return Err(format!("copies {size} bytes"));
                    }
                    let from = from_base[lane].wrapping_add_signed(from.1);
                    if !from.is_multiple_of(16) {
                        return Err("copies from a misaligned global address".into());
                    }
                    let mut bytes = vec![0; size as usize];
                    let thread = self.thread(warp, lane);
                    for (i, bytes) in bytes.chunks_exact_mut(16).enumerate() {
                        self.memory.load(from.wrapping_add(16 * i as u64), bytes, thread, true)?;
                    }
                    let (to, phase) = (shared(to_base[lane], to.1), shared(phase_base[lane], phase.1));
                    let order = clocks(&mut self.shared.order)?;
                    let index = self.phases.for_copies(phase, first + lane, order)?;
                    self.shared.expect_bulk(to, bytes.len(), first + lane, index)?;
                    self.bulk.push(Bulk(to, bytes, phase));
                }
            }
            Asynchronous::ProxyFence => {
                for lane in bits_of(lanes) {
                    clocks(&mut self.shared.order)?.fence(first + lane);
                    self.phases.fence(first + lane);
                }
            }
            Asynchronous::GroupFence => warp.group.fence(),
            Asynchronous::GroupCommit => warp.group.commit(),
            Asynchronous::GroupWait(groups) => {
                for word in warp.group.wait(*groups) {
                    clocks(&mut self.shared.order)?.end(word, first);
                }
            }
            Asynchronous::Multiply { sums, left, right, add } => {
                self.multiply(warp, at, [sums, left], *right, *add)?;
            }
        }
        Ok(())
    }

    fn multiply(
        &mut self,
        warp: &mut Warp,
        at: usize,
        [sums, left]: [&[Slot]; 2],
        right: Operand,
        add: Slot,
    ) -> Result<(), String> {
        let (bits, adds) = (self.values(warp, right, EVERY)?, self.values(warp, Operand::Slot(add), EVERY)?);
        if bits != [bits[0]; LANES] || adds != [adds[0]; LANES] {
            return Err("multiplies by what differs between lanes".into());
        }
        let (matrix, adds) = (Descriptor::new(bits[0])?, adds[0] == 1);
        let read = left.iter().chain(if adds { sums } else { &[] });
        if read.clone().any(|&slot| warp.defined[slot] != EVERY) {
            return Err("multiplies a register that holds nothing".into());
        }
        let threads = warp.index * LANES..(warp.index + 1) * LANES;
        let (mut numbers, mut words) = (vec![[0.0; 16]; 2 * sums.len()], Vec::new());
        for (row, numbers) in numbers.iter_mut().enumerate() {
            for octet in 0..2 {
                let address = matrix.place(row, octet);
                let bytes = self.shared.begin(address, threads.clone(), &mut words)?;
                for (number, bytes) in numbers[8 * octet..].iter_mut().zip(bytes.chunks_exact(2)) {
                    *number = f64::from(f16::from_le_bytes([bytes[0], bytes[1]]).to_f32());
                }
            }
        }
        warp.group.begin(sums, left, words)?;
        warp.group.log.push((at, bits[0], adds));
        let of = |slots: &[Slot]| slots.iter().map(|&slot| warp.registers[slot]).collect::<Vec<_>>();
        let before = adds.then(|| of(sums));
        let products = m64k16_f16(&of(left), &numbers, before.as_deref());
        for (&slot, product) in sums.iter().zip(products) {
            warp.registers[slot] = product;
            warp.defined[slot] = EVERY;
        }
        Ok(())
    }

    /// Lets a copy come, if there is one.
    pub fn bring(&mut self, random: &mut Random) -> bool {
        if self.bulk.is_empty() {
            return false;
        }
        let Bulk(to, bytes, phase) = self.bulk.swap_remove(random.below(self.bulk.len()));
        let words = self.shared.bring(to, &bytes);
        if let Some(order) = &mut self.shared.order {
            self.phases.copied(phase, words, bytes.len(), order);
        }
        true
    }

    /// What must hold when all threads have ended.
    pub fn end(&self, warps: &[Warp]) -> Result<(), String> {
        if !self.bulk.is_empty() {
            return Err("the block ends before its copies have come".into());
        }
        if warps.iter().any(|warp| !warp.group.is_done()) {
            return Err("a warp ends without waiting for its products".into());
        }
        let equal = |group: &[Warp]| group.iter().all(|warp| warp.group.log == group[0].group.log);
        match warps.chunks(4).all(equal) {
            true => Ok(()),
            false => Err("the warps of a group multiply differently".into()),
        }
    }
}

/// A shared address.
fn shared(base: u64, offset: i64) -> u64 {
    base.wrapping_add_signed(offset) & 0xffff_ffff
}
