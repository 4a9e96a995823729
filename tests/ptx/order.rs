//! Who has seen what, in kernels whose threads meet at mbarriers: a clock for every thread, which others learn of where they meet,
//! and for every word of shared memory who wrote it and who has read it since. Copies in bulk and products of warp groups reach
//! shared memory by a way of their own, the asynchronous proxy, before which what threads wrote needs a fence.

/// Nobody has written the word.
const NOBODY: u16 = u16::MAX;
/// The time of what has not happened yet.
const NEVER: u32 = u32::MAX;

/// Most mbarriers of a block.
pub const PHASES: usize = 16;

/// What happened to a word.
#[derive(Clone)]
struct Word {
    writer: u16,
    at: u32,
    /// Whether the last write is behind a fence between the proxies.
    fenced: bool,
    /// Reads since the last write: thread, time.
    reads: Vec<(u16, u32)>,
    /// Products under way that read it.
    busy: u16,
}

/// Clocks of threads and of what mbarriers bring, words of shared memory.
pub struct Order {
    threads: usize,
    /// By thread: what it knows of the clocks of all threads, then of all mbarriers.
    clocks: Vec<Vec<u32>>,
    /// Copies that each mbarrier has brought.
    brought: [u32; PHASES],
    words: Vec<Word>,
}

impl Order {
    /// For so many threads and words.
    pub fn new(threads: usize, words: usize) -> Order {
        let mut clocks = vec![vec![0; threads + PHASES]; threads];
        for (thread, clocks) in clocks.iter_mut().enumerate() {
            clocks[thread] = 1;
        }
        let word = Word { writer: NOBODY, at: 0, fenced: true, reads: Vec::new(), busy: 0 };
        Order { threads, clocks, brought: [0; PHASES], words: vec![word; words] }
    }

    /// A thread makes known what it did: `known` learns it, what it does from here on is later.
    pub fn release(&mut self, thread: usize, known: &mut [u32]) {
        learn(known, &self.clocks[thread]);
        self.clocks[thread][thread] += 1;
    }

    /// A thread learns what is known.
    pub fn acquire(&mut self, thread: usize, known: &[u32]) {
        learn(&mut self.clocks[thread], known);
    }

    /// Nothing known.
    pub fn nothing(&self) -> Vec<u32> {
        vec![0; self.threads + PHASES]
    }

    /// Threads meet at a barrier.
    pub fn meet(&mut self, threads: std::ops::Range<usize>) {
        let mut known = self.nothing();
        threads.clone().for_each(|thread| self.release(thread, &mut known));
        threads.for_each(|thread| self.acquire(thread, &known));
    }

    fn seen(&self, thread: usize, other: u16, at: u32) -> bool {
        usize::from(other) == thread || other == NOBODY || self.clocks[thread][usize::from(other)] >= at
    }

    /// Whether a thread has seen what another did at a time.
    pub fn has_seen(&self, thread: usize, (other, at): (u16, u32)) -> bool {
        self.seen(thread, other, at)
    }

    /// A thread and its time.
    pub fn now(&self, thread: usize) -> (u16, u32) {
        (thread as u16, self.clocks[thread][thread])
    }

    /// A thread reads a word.
    pub fn read(&mut self, word: usize, thread: usize) -> Result<(), String> {
        let (writer, at) = (self.words[word].writer, self.words[word].at);
        if !self.seen(thread, writer, at) {
            return Err("which it has not seen written".into());
        }
        let now = self.now(thread);
        self.words[word].reads.retain(|read| read.0 != now.0);
        self.words[word].reads.push(now);
        Ok(())
    }

    /// A thread writes a word, or has it written by a copy; gives whether the last write was behind a fence.
    pub fn write(&mut self, word: usize, thread: usize) -> Result<bool, String> {
        let of = &self.words[word];
        if of.busy > 0 {
            return Err("which a product under way reads".into());
        }
        if !self.seen(thread, of.writer, of.at) {
            return Err("without a barrier after it was written".into());
        }
        if let Some((reader, _)) = of.reads.iter().find(|&&(reader, at)| !self.seen(thread, reader, at)) {
            return Err(format!("without a barrier after thread {reader} read it"));
        }
        let fenced = of.fenced;
        let (writer, at) = self.now(thread);
        self.words[word] = Word { writer, at, fenced: false, reads: Vec::new(), busy: 0 };
        Ok(fenced)
    }

    /// A word waits for a copy.
    pub fn expect(&mut self, word: usize, phase: usize) {
        let writer = (self.threads + phase) as u16;
        self.words[word] = Word { writer, at: NEVER, fenced: true, reads: Vec::new(), busy: 0 };
    }

    /// A copy has come: whoever learns of the phase that counts it may read these words.
    pub fn arrive(&mut self, words: std::ops::Range<usize>, phase: usize, known: &mut [u32]) {
        self.brought[phase] += 1;
        known[self.threads + phase] = self.brought[phase];
        words.for_each(|word| self.words[word].at = self.brought[phase]);
    }

    /// A fence between the proxies: what `thread` wrote can be seen by copies and products.
    pub fn fence(&mut self, thread: usize) {
        for word in &mut self.words {
            word.fenced |= usize::from(word.writer) == thread;
        }
    }

    /// A product begins to read a word for the threads of a warp.
    pub fn begin(&mut self, word: usize, warp: std::ops::Range<usize>) -> Result<(), String> {
        let of = &self.words[word];
        if !of.fenced {
            return Err("without a fence between the proxies after it was written".into());
        }
        let (writer, at) = (of.writer, of.at);
        if !warp.clone().all(|thread| self.seen(thread, writer, at)) {
            return Err("which not all of its threads have seen written".into());
        }
        self.words[word].busy += 1;
        Ok(())
    }

    /// A product that `thread` waited for has read a word.
    pub fn end(&mut self, word: usize, thread: usize) {
        let now = self.now(thread);
        self.words[word].busy -= 1;
        self.words[word].reads.retain(|read| read.0 != now.0);
        self.words[word].reads.push(now);
    }
}

fn learn(known: &mut [u32], of: &[u32]) {
    known.iter_mut().zip(of).for_each(|(known, of)| *known = (*known).max(*of));
}
