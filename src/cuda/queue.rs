//! Launches on their way to the device.
//!
//! What is launched between two readings back is a run. The first time a run goes to the device [`SEGMENT`] launches at a
//! time; when the same kernels come again in the same order and sizes, as for the frames of a camera and the steps of an answer,
//! the run waits until it is whole and becomes a graph; from then on that graph is started, with the arguments that differ set
//! anew. The device then goes from kernel to kernel without the host.
//!
//! A driver that has no graphs, or refuses one, gets its launches one by one ([`Queue::no_graphs`] says why).
//!
//! Whatever else fails here fails for good: results that were promised will not come, and whom they were promised to is not known
//! any more. Every later operation answers with the same error, until the device is opened anew.
#![forbid(unsafe_code)]

use alloc::vec::Vec;
use core::hash::{Hash, Hasher};
use core::mem::take;
use std::collections::{HashMap, hash_map::DefaultHasher};

use super::driver::{DevicePointer, Graph, MAX_ARGUMENTS, Stream};
use super::kernel::Kernel;
use super::kernels::Kernels;
use super::signature::Argument;
use crate::error::{Error, Result};

/// Launches of a new run that are given to the device together.
const SEGMENT: usize = 64;

/// Most launches of a run.
const LONGEST: usize = 64 * SEGMENT;

/// Most graphs that are kept.
const GRAPHS: usize = 128;

/// Most runs, and most beginnings of runs, whose first coming is remembered.
const SEEN: usize = 4096;

/// A launch with its arguments.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Launch {
    kernel: Kernel,
    shape: [[u32; 3]; 2],
    shared: u32,
    arguments: [u64; MAX_ARGUMENTS],
    count: usize,
}

/// What can wait.
#[derive(Clone, Copy, PartialEq, Eq)]
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

    fn arguments(&self) -> &[u64] {
        self.arguments.get(..self.count).unwrap_or(&[])
    }

    /// What a graph cannot change, and the sizes that tell one run from another.
    fn kind(&self) -> (Kernel, [[u32; 3]; 2], u32, usize) {
        (self.kernel, self.shape, self.shared, self.count)
    }
}

impl Item {
    fn start(&self, kernels: &Kernels, stream: &Stream) -> Result<()> {
        match self {
            Item::Launch(launch) => kernels.with(launch.kernel, |function| {
                stream.launch(function, launch.shape, launch.shared, launch.arguments())
            }),
            Item::Fill(start, bytes, value) => stream.fill(*start, *bytes, *value),
        }
    }

    /// Whether a graph with one serves for the other as well.
    fn is_like(&self, other: &Item) -> bool {
        match (self, other) {
            (Item::Launch(one), Item::Launch(other)) => one.kind() == other.kind(),
            (one, other) => one == other,
        }
    }

    /// The same for everything that it [is like](Item::is_like).
    fn add_to(&self, hasher: &mut DefaultHasher) {
        match self {
            Item::Launch(launch) => launch.kind().hash(hasher),
            Item::Fill(start, bytes, value) => (start, bytes, value).hash(hasher),
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

impl Known {
    fn new(items: &[Item], kernels: &Kernels, stream: &Stream, used: u64) -> Result<Known> {
        let mut graph = stream.context().graph()?;
        for item in items {
            match item {
                Item::Launch(launch) => kernels.with(launch.kernel, |function| {
                    graph.launch(function, launch.shape, launch.shared, launch.arguments())
                })?,
                Item::Fill(start, bytes, value) => graph.fill(*start, *bytes, *value)?,
            }
        }
        Ok(Known { items: items.to_vec(), graph: graph.finish()?, used })
    }

    /// Starts it with the arguments of `items`, which are like its own.
    fn start(&mut self, items: &[Item], kernels: &Kernels, stream: &Stream) -> Result<()> {
        for (place, (held, item)) in self.items.iter_mut().zip(items).enumerate() {
            if let Item::Launch(launch) = item
                && held != item
            {
                kernels.with(launch.kernel, |function| {
                    self.graph.set_launch(place, function, launch.shape, launch.shared, launch.arguments())
                })?;
                *held = *item;
            }
        }
        stream.launch_graph(&self.graph)
    }

    fn is_of(&self, items: &[Item]) -> bool {
        self.items.len() == items.len() && self.items.iter().zip(items).all(|(one, other)| one.is_like(other))
    }
}

/// What waits, and the graphs.
pub(super) struct Queue {
    /// The run so far.
    run: Vec<Item>,
    /// How much of it the device has.
    started: usize,
    /// Of the run so far, and of its beginnings of a multiple of [`SEGMENT`].
    hasher: DefaultHasher,
    beginnings: Vec<u64>,
    /// `None` where launches go one by one.
    graphs: Option<HashMap<u64, Known>>,
    no_graphs: Option<Error>,
    /// When runs came first, and their beginnings.
    seen: HashMap<u64, u64>,
    begun: HashMap<u64, u64>,
    clock: u64,
    failed: Option<Error>,
}

impl Queue {
    /// `no_graphs` says why the driver has none, where it has none.
    pub(super) fn new(no_graphs: Option<Error>) -> Queue {
        Queue {
            run: Vec::new(),
            started: 0,
            hasher: DefaultHasher::new(),
            beginnings: Vec::new(),
            graphs: no_graphs.is_none().then(HashMap::new),
            no_graphs,
            seen: HashMap::new(),
            begun: HashMap::new(),
            clock: 0,
            failed: None,
        }
    }

    /// Why launches go one by one, where they do.
    pub(super) fn no_graphs(&self) -> Option<&Error> {
        self.no_graphs.as_ref()
    }

    /// Forgets the graphs: some kernel is another one now.
    pub(super) fn forget_graphs(&mut self) {
        self.graphs.iter_mut().for_each(HashMap::clear);
        self.seen.clear();
    }

    /// Puts a launch behind all others.
    ///
    /// # Errors
    /// What failed before; [`Error::Device`].
    pub(super) fn push(&mut self, item: Item, kernels: &Kernels, stream: &Stream) -> Result<()> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        item.add_to(&mut self.hasher);
        self.run.push(item);
        if self.run.len() >= LONGEST {
            return self.flush(kernels, stream);
        }
        if !self.run.len().is_multiple_of(SEGMENT) {
            return Ok(());
        }
        let beginning = self.hasher.finish();
        self.beginnings.push(beginning);
        let is_known = self.started == 0 && self.graphs.is_some() && self.begun.contains_key(&beginning);
        if is_known {
            return Ok(());
        }
        let started = self.start_rest(kernels, stream);
        self.noted(started)
    }

    /// Gives the device all that waits, and ends the run.
    ///
    /// # Errors
    /// As [`Queue::push`].
    pub(super) fn flush(&mut self, kernels: &Kernels, stream: &Stream) -> Result<()> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let started = self.end_run(kernels, stream);
        self.run.clear();
        self.started = 0;
        self.hasher = DefaultHasher::new();
        self.beginnings.clear();
        self.noted(started)
    }

    /// Keeps an error for all who come after.
    fn noted(&mut self, result: Result<()>) -> Result<()> {
        if let Err(error) = &result {
            self.failed = Some(error.clone());
        }
        result
    }

    /// Starts what the device does not have yet, one by one.
    fn start_rest(&mut self, kernels: &Kernels, stream: &Stream) -> Result<()> {
        let rest = self.run.get(self.started..).unwrap_or(&[]);
        rest.iter().try_for_each(|item| item.start(kernels, stream))?;
        self.started = self.run.len();
        Ok(())
    }

    fn end_run(&mut self, kernels: &Kernels, stream: &Stream) -> Result<()> {
        let Some(graphs) = self.graphs.as_mut().filter(|_| self.run.len() > 1) else {
            return self.start_rest(kernels, stream);
        };
        self.clock += 1;
        let (hash, now) = (self.hasher.finish(), self.clock);
        for beginning in take(&mut self.beginnings) {
            self.begun.insert(beginning, now);
            forget_oldest(&mut self.begun, SEEN, |&when| when);
        }
        let came_before = self.seen.insert(hash, now).is_some();
        forget_oldest(&mut self.seen, SEEN, |&when| when);
        if self.started > 0 || !came_before {
            return self.start_rest(kernels, stream);
        }
        let known = match graphs.get_mut(&hash).filter(|known| known.is_of(&self.run)) {
            Some(known) => Ok(known),
            None => Known::new(&self.run, kernels, stream, now).map(|known| {
                graphs.remove(&hash);
                forget_oldest(graphs, GRAPHS - 1, |known| known.used);
                graphs.entry(hash).or_insert(known)
            }),
        };
        let started = known.and_then(|known| {
            known.used = now;
            known.start(&self.run, kernels, stream)
        });
        match started {
            Err(error @ Error::Device { lost: false, .. }) => {
                // Nothing of it was started, and a driver that has no graphs still launches.
                self.graphs = None;
                self.no_graphs = Some(error);
                self.start_rest(kernels, stream)
            }
            started => started,
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
