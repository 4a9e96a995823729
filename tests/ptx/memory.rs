//! Global memory: separate allocations whose bytes know whether they were written, and by whom.

use std::cell::RefCell;

/// Bytes of address space that one allocation owns; a step out of one never meets another.
const WINDOW: u64 = 1 << 32;
/// Where in its window an allocation begins, so that small negative steps leave it as well.
const START: u64 = 0x10_0000;

struct Allocation {
    start: u64,
    bytes: Vec<u8>,
    /// Whether a byte holds something.
    defined: Vec<bool>,
    /// Thread of the launch that wrote a byte, plus 1.
    writer: Vec<u32>,
    constant: bool,
}

/// Memory of the device as kernels reach it.
pub trait Global {
    /// Reads `out.len()` bytes, as one access, for a thread of the launch; `constant` where the kernel promises that nobody
    /// writes them meanwhile.
    ///
    /// # Errors
    /// Where the access is not allowed.
    fn load(&self, address: u64, out: &mut [u8], thread: u32, constant: bool) -> Result<(), String>;

    /// Writes bytes, as one access.
    ///
    /// # Errors
    /// As [`Global::load`].
    fn store(&self, address: u64, bytes: &[u8], thread: u32) -> Result<(), String>;

    /// Joins a word by `or`, atomically.
    ///
    /// # Errors
    /// As [`Global::load`].
    fn or(&self, address: u64, bits: u32) -> Result<(), String>;

    /// Ends a launch: what it wrote is there for the next one.
    fn settle(&self);
}

/// Memory of the device.
#[derive(Default)]
pub struct Memory {
    allocations: RefCell<Vec<Allocation>>,
}

impl Memory {
    /// Nothing allocated.
    pub fn new() -> Memory {
        Memory::default()
    }

    /// Room for `bytes` which hold nothing, beginning `skew` bytes after a multiple of 256.
    pub fn room(&self, bytes: usize, skew: usize) -> u64 {
        let mut allocations = self.allocations.borrow_mut();
        let start = (allocations.len() as u64 + 1) * WINDOW + START + skew as u64;
        let (defined, writer) = (vec![false; bytes], vec![0; bytes]);
        allocations.push(Allocation { start, bytes: vec![0xcd; bytes], defined, writer, constant: false });
        start
    }

    /// A constant operand.
    pub fn bytes(&self, bytes: &[u8], skew: usize) -> u64 {
        let start = self.room(bytes.len(), skew);
        let mut allocations = self.allocations.borrow_mut();
        let allocation = allocations.last_mut().expect("just allocated");
        allocation.bytes.copy_from_slice(bytes);
        allocation.defined.fill(true);
        allocation.constant = true;
        start
    }

    /// A matrix of `cols` columns whose rows are `stride` elements apart; the elements between rows hold nothing.
    pub fn matrix(&self, elements: &[f32], cols: usize, stride: usize, skew: usize) -> u64 {
        let rows = elements.len().checked_div(cols).unwrap_or(0);
        let len = if rows == 0 { 0 } else { (rows - 1) * stride + cols };
        let start = self.room(4 * len, skew);
        let mut allocations = self.allocations.borrow_mut();
        let allocation = allocations.last_mut().expect("just allocated");
        allocation.constant = true;
        for (row, elements) in elements.chunks_exact(cols.max(1)).enumerate() {
            for (col, x) in elements.iter().enumerate() {
                let at = 4 * (row * stride + col);
                allocation.bytes[at..at + 4].copy_from_slice(&x.to_le_bytes());
                allocation.defined[at..at + 4].fill(true);
            }
        }
        start
    }

    /// Contiguous `u32`.
    pub fn words(&self, words: &[u32]) -> u64 {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.bytes(&bytes, 0)
    }

    /// An output of `u32` that holds zeros.
    pub fn zeros(&self, words: usize) -> u64 {
        let start = self.words(&vec![0; words]);
        self.allocations.borrow_mut().last_mut().expect("just allocated").constant = false;
        start
    }

    /// What `len` words at the start of an allocation hold.
    ///
    /// # Errors
    /// Where one was never written.
    pub fn read(&self, address: u64, len: usize) -> Result<Vec<u32>, String> {
        let allocations = self.allocations.borrow();
        let allocation = &allocations[(address / WINDOW) as usize - 1];
        let first = (address - allocation.start) as usize;
        let words = (0..len).map(|i| {
            let range = first + 4 * i..first + 4 * i + 4;
            match allocation.defined[range.clone()].iter().all(|&defined| defined) {
                true => Ok(u32::from_le_bytes(allocation.bytes[range].try_into().expect("four bytes"))),
                false => Err(format!("element {i} of the output was not written")),
            }
        });
        words.collect()
    }

    /// [`Memory::read`] as `f32`.
    pub fn read_f32(&self, address: u64, len: usize) -> Result<Vec<f32>, String> {
        Ok(self.read(address, len)?.into_iter().map(f32::from_bits).collect())
    }

    /// How many bytes of an allocation hold something.
    pub fn written(&self, address: u64) -> usize {
        let allocations = self.allocations.borrow();
        allocations[(address / WINDOW) as usize - 1].defined.iter().filter(|&&defined| defined).count()
    }

    fn with<T>(
        &self,
        address: u64,
        len: usize,
        act: impl FnOnce(&mut Allocation, std::ops::Range<usize>) -> Result<T, String>,
    ) -> Result<T, String> {
        if !address.is_multiple_of(len as u64) {
            return Err(format!("global address {address:#x} is misaligned for {len} bytes"));
        }
        let mut allocations = self.allocations.borrow_mut();
        let found = (address / WINDOW).checked_sub(1).and_then(|index| allocations.get_mut(index as usize));
        let Some(allocation) = found else {
            return Err(format!("global address {address:#x} belongs to nothing"));
        };
        let first = address.wrapping_sub(allocation.start) as usize;
        match first.checked_add(len) {
            Some(end) if end <= allocation.bytes.len() => act(allocation, first..end),
            _ => Err(format!(
                "byte {} of a global operand of {} bytes",
                address as i64 - allocation.start as i64,
                allocation.bytes.len()
            )),
        }
    }
}

impl Global for Memory {
    fn load(&self, address: u64, out: &mut [u8], thread: u32, constant: bool) -> Result<(), String> {
        self.with(address, out.len(), |allocation, range| {
            if !allocation.defined[range.clone()].iter().all(|&defined| defined) {
                return Err("reads global bytes that hold nothing".into());
            }
            for &writer in &allocation.writer[range.clone()] {
                if writer != 0 && (constant || writer != thread + 1) {
                    return Err("reads global bytes that this launch wrote".into());
                }
            }
            out.copy_from_slice(&allocation.bytes[range]);
            Ok(())
        })
    }

    fn store(&self, address: u64, bytes: &[u8], thread: u32) -> Result<(), String> {
        self.with(address, bytes.len(), |allocation, range| {
            if allocation.constant {
                return Err("writes a constant operand".into());
            }
            if allocation.writer[range.clone()].iter().any(|&writer| writer != 0 && writer != thread + 1) {
                return Err("writes global bytes that another thread wrote".into());
            }
            allocation.bytes[range.clone()].copy_from_slice(bytes);
            allocation.defined[range.clone()].fill(true);
            allocation.writer[range].fill(thread + 1);
            Ok(())
        })
    }

    fn or(&self, address: u64, bits: u32) -> Result<(), String> {
        self.with(address, 4, |allocation, range| {
            if allocation.constant {
                return Err("writes a constant operand".into());
            }
            if !allocation.defined[range.clone()].iter().all(|&defined| defined) {
                return Err("joins global bytes that hold nothing".into());
            }
            let bytes = &mut allocation.bytes[range];
            let word = u32::from_le_bytes((&*bytes).try_into().expect("four bytes"));
            bytes.copy_from_slice(&(word | bits).to_le_bytes());
            Ok(())
        })
    }

    fn settle(&self) {
        for allocation in self.allocations.borrow_mut().iter_mut() {
            allocation.writer.fill(0);
        }
    }
}
