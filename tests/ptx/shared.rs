//! Shared memory of a block: bytes that know who touched them since which barrier.

use super::order::Order;

/// Bytes that are watched together; no kernel shares a word between threads.
const WORD: usize = 4;
const NOBODY: u16 = u16::MAX;
/// Several lanes of one warp, or of several.
const LANES: u16 = u16::MAX - 1;
const WARPS: u16 = u16::MAX - 2;

/// When an access happens: barriers of the block and of the thread's warp passed so far.
#[derive(Clone, Copy)]
pub struct When {
    /// Thread of the block.
    pub thread: u16,
    /// Barriers of the block.
    pub block: u32,
    /// Barriers of the warp.
    pub warp: u32,
}

#[derive(Clone, Copy)]
struct Watch {
    exists: bool,
    defined: bool,
    writer: u16,
    write_block: u32,
    write_warp: u32,
    reader: u16,
    reader_warp: u16,
    read_block: u32,
    read_warp: u32,
}

/// Shared memory of one block.
pub struct Shared {
    bytes: Vec<u8>,
    words: Vec<Watch>,
    /// In kernels with mbarriers: who has seen what.
    pub order: Option<Order>,
}

impl Shared {
    /// Memory of which only `ranges` exist; `threads` of a kernel with mbarriers.
    pub fn new(ranges: &[(usize, usize)], threads: Option<usize>) -> Shared {
        let len = ranges.iter().map(|range| range.1).max().unwrap_or(0).next_multiple_of(WORD);
        let nothing = Watch {
            exists: false,
            defined: false,
            writer: NOBODY,
            write_block: 0,
            write_warp: 0,
            reader: NOBODY,
            reader_warp: 0,
            read_block: 0,
            read_warp: 0,
        };
        let mut words = vec![nothing; len / WORD];
        for &(start, end) in ranges {
            for word in &mut words[start / WORD..end / WORD] {
                word.exists = true;
            }
        }
        let order = threads.map(|threads| Order::new(threads, words.len()));
        Shared { bytes: vec![0xcd; len], words, order }
    }

    fn range(&self, address: u64, len: usize) -> Result<std::ops::Range<usize>, String> {
        if !address.is_multiple_of(len as u64) || !len.is_multiple_of(WORD) {
            return Err(format!("shared address {address} is misaligned for {len} bytes"));
        }
        let words = (address as usize / WORD)..(address as usize + len) / WORD;
        match self.words.get(words.clone()) {
            Some(watched) if watched.iter().all(|word| word.exists) => Ok(words),
            _ => Err(format!("shared address {address} belongs to nothing")),
        }
    }

    /// Reads bytes.
    pub fn load(&mut self, address: u64, out: &mut [u8], when: When) -> Result<(), String> {
        let range = self.range(address, out.len())?;
        for index in range {
            let word = &mut self.words[index];
            if !word.defined {
                return Err(format!("reads shared address {address}, which holds nothing"));
            }
            if let Some(order) = &mut self.order {
                let seen = order.read(index, usize::from(when.thread));
                seen.map_err(|what| format!("reads shared address {address}, {what}"))?;
                continue;
            }
            word.after_write(when).map_err(|who| format!("reads shared address {address} {who}"))?;
            let warp = when.thread / 32;
            if word.reader == NOBODY || word.read_block != when.block {
                (word.reader, word.reader_warp) = (when.thread, warp);
            } else if word.reader != when.thread {
                word.reader = if word.reader != WARPS && word.reader_warp == warp { LANES } else { WARPS };
            }
            (word.read_block, word.read_warp) = (when.block, when.warp);
        }
        out.copy_from_slice(&self.bytes[address as usize..address as usize + out.len()]);
        Ok(())
    }

    /// Begins to write bytes that arrive later: until then they hold nothing.
    pub fn expect(&mut self, address: u64, len: usize, when: When) -> Result<(), String> {
        self.store(address, &vec![0xcd; len], when)?;
        for word in self.range(address, len)? {
            self.words[word].defined = false;
        }
        Ok(())
    }

    /// Writes bytes.
    pub fn store(&mut self, address: u64, bytes: &[u8], when: When) -> Result<(), String> {
        let range = self.range(address, bytes.len())?;
        for index in range {
            let word = &mut self.words[index];
            if let Some(order) = &mut self.order {
                let seen = order.write(index, usize::from(when.thread));
                seen.map_err(|what| format!("writes shared address {address} {what}"))?;
                word.defined = true;
                continue;
            }
            word.after_write(when).map_err(|who| format!("writes shared address {address} {who}"))?;
            let read_now =
                word.reader != NOBODY && word.read_block == when.block && word.reader != when.thread;
            let same_warp = word.reader != WARPS && word.reader_warp == when.thread / 32;
            if read_now && !(same_warp && word.read_warp < when.warp) {
                return Err(format!(
                    "writes shared address {address}, read by another thread since the last barrier"
                ));
            }
            word.defined = true;
            word.writer = when.thread;
            (word.write_block, word.write_warp) = (when.block, when.warp);
            word.reader = NOBODY;
        }
        self.bytes[address as usize..address as usize + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    /// The words of an mbarrier are nobody else's.
    pub fn reserve(&mut self, address: u64) -> Result<(), String> {
        for word in self.range(address, 8)? {
            self.words[word].exists = false;
        }
        Ok(())
    }

    /// Begins a copy in bulk by `thread` that the mbarrier `phase` counts.
    pub fn expect_bulk(
        &mut self,
        address: u64,
        len: usize,
        thread: usize,
        phase: usize,
    ) -> Result<(), String> {
        for at in (0..len as u64).step_by(16) {
            for index in self.range(address + at, 16)? {
                let order = self.order.as_mut().expect("a kernel with mbarriers");
                let told = |what| format!("copies to shared address {} {what}", address + at);
                let fenced = order.write(index, thread).map_err(told)?;
                if !fenced {
                    return Err(told("without a fence between the proxies after it was written".into()));
                }
                order.expect(index, phase);
                self.words[index].defined = false;
            }
        }
        Ok(())
    }

    /// A copy has come; gives its words.
    pub fn bring(&mut self, address: u64, bytes: &[u8]) -> std::ops::Range<usize> {
        let first = address as usize;
        self.bytes[first..first + bytes.len()].copy_from_slice(bytes);
        let words = first / WORD..(first + bytes.len()) / WORD;
        self.words[words.clone()].iter_mut().for_each(|word| word.defined = true);
        words
    }

    /// 16 bytes that a product of a warp's threads reads; adds their words to `words`.
    pub fn begin(
        &mut self,
        address: u64,
        threads: std::ops::Range<usize>,
        words: &mut Vec<usize>,
    ) -> Result<[u8; 16], String> {
        let range = self.range(address, 16)?;
        for index in range.clone() {
            if !self.words[index].defined {
                return Err(format!("multiplies by shared address {address}, which holds nothing"));
            }
            let order = self.order.as_mut().expect("a kernel with mbarriers");
            let seen = order.begin(index, threads.clone());
            seen.map_err(|what| format!("multiplies by shared address {address} {what}"))?;
        }
        words.extend(range);
        Ok(self.bytes[address as usize..address as usize + 16].try_into().expect("16 bytes"))
    }
}

impl Watch {
    /// Whether the last write is behind a barrier for this thread.
    fn after_write(&self, when: When) -> Result<(), String> {
        if self.writer == NOBODY || self.writer == when.thread || self.write_block != when.block {
            return Ok(());
        }
        if self.writer / 32 == when.thread / 32 && self.write_warp < when.warp {
            return Ok(());
        }
        Err(format!("without a barrier after thread {} wrote it", self.writer))
    }
}
