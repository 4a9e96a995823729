//! Launches on their way to the device.
//!
//! They wait until something is read back or [`SEGMENT`] of them are there. A run of launches that comes again with the same
//! arguments, as the frames of a camera do, is recorded as a graph the second time and started as one from then on: the
//! device then goes from kernel to kernel without the host. Addresses come again because the pool gives the same ones
//! (`pool.rs`).
//!
//! Whatever fails here fails for good: results that were promised will not come, and whom they were promised to is not known
//! any more. Every later operation answers with the same error, until the device is opened anew.
#![forbid(unsafe_code)]

use alloc::vec::Vec;
use core::hash::{Hash, Hasher};
use std::collections::{HashMap, hash_map::DefaultHasher};

use super::driver::{DevicePointer, Graph, MAX_ARGUMENTS, Stream};
use super::kernel::Kernel;
use super::kernels::Kernels;
use super::signature::Argument;
use crate::error::{Error, Result};

/// Launches that are given to the device together.
const SEGMENT: usize = 64;

/// Most graphs that are kept.
const GRAPHS: usize = 128;

/// Most runs whose first coming is remembered.
const SEEN: usize = 4096;

/// A launch with its arguments.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Launch {
    kernel: Kernel,
    shape: [[u32; 3]; 2],
    shared: u32,
    arguments: [u64; MAX_ARGUMENTS],
    count: usize,
}

/// What can wait.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[allow(clippy::large_enum_variant)] // nearly all are launches
pub(super) enum Item {
    Launch(Launch),
    /// Bytes that all get one value.
    Fill(DevicePointer, usize, u8),
}

impl Launch {
    pub(super) fn new(kernel: Kernel, shape: [[u32; 3]; 2], shared: u32, given: &[Argument]) -> Launch {
        let mut arguments = [0; MAX_ARGUMENTS];
        arguments.iter_mut().zip(given).for_each(|(to, argument)| *to = argument.bits());
        Launch { kernel, shape, shared, arguments, count: given.len() }
    }
}

impl Item {
    fn start(&self, kernels: &Kernels, stream: &Stream) -> Result<()> {
        match self {
            Item::Launch(launch) => {
                let arguments = launch.arguments.get(..launch.count).unwrap_or(&[]);
                kernels.with(launch.kernel, |function| {
                    stream.launch(function, launch.shape, launch.shared, arguments)
                })
            }
            Item::Fill(start, bytes, value) => stream.fill(*start, *bytes, *value),
        }
    }
}

/// A run that came more than once.
struct Known {
    items: Vec<Item>,
    graph: Graph,
    /// When it was last started.
    used: u64,
}

/// What waits, and the graphs.
pub(super) struct Queue {
    waiting: Vec<Item>,
    /// `None` where the driver has no graphs.
    graphs: Option<HashMap<u64, Known>>,
    seen: HashMap<u64, u64>,
    clock: u64,
    failed: Option<Error>,
}

impl Queue {
    pub(super) fn new(has_graphs: bool) -> Queue {
        let graphs = has_graphs.then(HashMap::new);
        Queue { waiting: Vec::new(), graphs, seen: HashMap::new(), clock: 0, failed: None }
    }

    /// Puts a launch behind all others.
    ///
    /// # Errors
    /// What failed before; [`Error::Device`].
    pub(super) fn push(&mut self, item: Item, kernels: &Kernels, stream: &Stream) -> Result<()> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        self.waiting.push(item);
        if self.waiting.len() >= SEGMENT { self.flush(kernels, stream) } else { Ok(()) }
    }

    /// Gives the device all that waits.
    ///
    /// # Errors
    /// As [`Queue::push`].
    pub(super) fn flush(&mut self, kernels: &Kernels, stream: &Stream) -> Result<()> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let started = self.start(kernels, stream);
        self.waiting.clear();
        if let Err(error) = &started {
            self.failed = Some(error.clone());
        }
        started
    }

    fn start(&mut self, kernels: &Kernels, stream: &Stream) -> Result<()> {
        let all = || self.waiting.iter().try_for_each(|item| item.start(kernels, stream));
        let Some(graphs) = self.graphs.as_mut().filter(|_| self.waiting.len() > 1) else { return all() };
        self.clock += 1;
        let mut hasher = DefaultHasher::new();
        self.waiting.hash(&mut hasher);
        let hash = hasher.finish();
        if let Some(known) = graphs.get_mut(&hash).filter(|known| known.items == self.waiting) {
            known.used = self.clock;
            return stream.launch_graph(&known.graph);
        }
        if self.seen.insert(hash, self.clock).is_none() {
            forget_oldest(&mut self.seen, SEEN, |&when| when);
            return all();
        }
        match stream.record(all) {
            Ok(graph) => {
                stream.launch_graph(&graph)?;
                graphs.insert(hash, Known { items: self.waiting.clone(), graph, used: self.clock });
                forget_oldest(graphs, GRAPHS, |known| known.used);
                Ok(())
            }
            Err(error @ Error::Device { lost: true, .. }) => Err(error),
            Err(_) => {
                // A driver that does not record still launches.
                self.graphs = None;
                self.waiting.iter().try_for_each(|item| item.start(kernels, stream))
            }
        }
    }
}

/// Removes the entry with the lowest time where there are more than `most`.
fn forget_oldest<T>(map: &mut HashMap<u64, T>, most: usize, when: impl Fn(&T) -> u64) {
    if map.len() > most {
        let oldest = map.iter().min_by_key(|(_, value)| when(value)).map(|(&key, _)| key);
        oldest.and_then(|key| map.remove(&key));
    }
}
