//! mbarriers: objects in shared memory that count arrivals and bytes, phase after phase.

use std::collections::BTreeMap;

use super::order::{Order, PHASES};

/// Most bytes that a phase can wait for.
const MOST_BYTES: i64 = (1 << 20) - 1;

/// One mbarrier.
struct Phase {
    /// Its place among the block's mbarriers.
    index: usize,
    /// Arrivals of a phase, and how many are left of this one.
    count: u32,
    left: u32,
    /// Bytes that this phase waits for; below 0 where more have come than were announced.
    bytes: i64,
    /// Phases that have ended.
    ended: u64,
    /// What arrived threads know, and what those did of phases that have ended.
    known: Vec<u32>,
    told: Vec<u32>,
    /// Who made it, and whether copies can see it.
    made: (u16, u32),
    fenced: bool,
}

/// All mbarriers of a block, by address.
#[derive(Default)]
pub struct Phases {
    all: BTreeMap<u64, Phase>,
}

impl Phases {
    /// Makes an mbarrier.
    pub fn init(&mut self, address: u64, count: u64, thread: usize, order: &Order) -> Result<(), String> {
        let index = self.all.len();
        if index >= PHASES || self.all.contains_key(&address) {
            return Err(format!("makes an mbarrier at {address} again, or too many"));
        }
        if count == 0 || count >= 1 << 20 {
            return Err(format!("makes an mbarrier of {count} arrivals"));
        }
        let (known, told) = (order.nothing(), order.nothing());
        let (count, left) = (count as u32, count as u32);
        let made = order.now(thread);
        let phase = Phase { index, count, left, bytes: 0, ended: 0, known, told, made, fenced: false };
        self.all.insert(address, phase);
        Ok(())
    }

    fn get(&mut self, address: u64, thread: usize, order: &Order) -> Result<&mut Phase, String> {
        match self.all.get_mut(&address) {
            Some(phase) if order.has_seen(thread, phase.made) => Ok(phase),
            Some(_) => Err(format!("uses the mbarrier at {address}, which it has not seen made")),
            None => Err(format!("uses {address}, where no mbarrier is")),
        }
    }

    /// A thread arrives, and announces bytes.
    pub fn arrive(
        &mut self,
        address: u64,
        bytes: u64,
        thread: usize,
        order: &mut Order,
    ) -> Result<(), String> {
        let phase = self.get(address, thread, order)?;
        phase.bytes += bytes as i64;
        if phase.bytes > MOST_BYTES || phase.left == 0 {
            return Err("arrives more often, or for more bytes, than a phase takes".into());
        }
        phase.left -= 1;
        order.release(thread, &mut phase.known);
        phase.end();
        Ok(())
    }

    /// The place of an mbarrier that copies of a thread can see.
    pub fn for_copies(&mut self, address: u64, thread: usize, order: &Order) -> Result<usize, String> {
        let phase = self.get(address, thread, order)?;
        match phase.fenced {
            true => Ok(phase.index),
            false => Err(format!("copies to the mbarrier at {address} without a fence after it was made")),
        }
    }

    /// A copy has come.
    pub fn copied(&mut self, address: u64, words: std::ops::Range<usize>, bytes: usize, order: &mut Order) {
        let phase = self.all.get_mut(&address).expect("it was there when the copy began");
        phase.bytes -= bytes as i64;
        order.arrive(words, phase.index, &mut phase.known);
        phase.end();
    }

    /// Whether the phase of a parity has ended.
    pub fn ended(&self, address: u64, parity: u64) -> bool {
        self.all.get(&address).is_some_and(|phase| phase.ended & 1 != parity & 1)
    }

    /// A thread asks whether the phase of a parity has ended, and learns what it tells.
    pub fn ask(
        &mut self,
        address: u64,
        parity: u64,
        thread: usize,
        order: &mut Order,
    ) -> Result<bool, String> {
        let phase = self.get(address, thread, order)?;
        let ended = phase.ended & 1 != parity & 1;
        if ended {
            order.acquire(thread, &phase.told);
        }
        Ok(ended)
    }

    /// A fence between the proxies by a thread.
    pub fn fence(&mut self, thread: usize) {
        for phase in self.all.values_mut() {
            phase.fenced |= usize::from(phase.made.0) == thread;
        }
    }
}

impl Phase {
    /// Ends the phase where all have arrived and all bytes have come.
    fn end(&mut self) {
        if self.left == 0 && self.bytes == 0 {
            self.ended += 1;
            self.left = self.count;
            self.told.clone_from(&self.known);
        }
    }
}
