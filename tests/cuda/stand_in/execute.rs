//! Executes launches: the interpreter of `tests/ptx` on the stand-in's memory.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::state::{Execute, Launch, Memory};
use crate::ptx::machine::{Shape, run};
use crate::ptx::memory::Global;
use crate::ptx::program::Program;
use crate::ptx::text::Line;

/// Most instructions of a launch.
const BUDGET: u64 = 500_000_000;

/// What a kernel that accesses what it must not gives.
const ILLEGAL_ADDRESS: i32 = 700;

/// The device's memory while a kernel runs.
struct Device<'a>(RefCell<Memory<'a>>);

impl Device<'_> {
    fn with<T>(&self, address: u64, len: usize, act: impl FnOnce(&mut [u8]) -> T) -> Result<T, String> {
        if !address.is_multiple_of(len as u64) {
            return Err(format!("address {address:#x} is misaligned for {len} bytes"));
        }
        let mut memory = self.0.borrow_mut();
        let Memory { device, host } = &mut *memory;
        let on_device = device.range_mut(..=address).next_back().and_then(|(start, bytes)| {
            let first = usize::try_from(address - start).ok()?;
            bytes.get_mut(first..first.checked_add(len)?)
        });
        let place = on_device.or_else(|| {
            let (start, words) = host.range_mut(..=address).next_back()?;
            let first = usize::try_from(address - start).ok()?;
            bytemuck::cast_slice_mut(words).get_mut(first..first.checked_add(len)?)
        });
        place.map(act).ok_or_else(|| format!("address {address:#x} lies in no allocation"))
    }
}

impl Global for Device<'_> {
    fn load(&self, address: u64, out: &mut [u8], _thread: u32, _constant: bool) -> Result<(), String> {
        self.with(address, out.len(), |bytes| out.copy_from_slice(bytes))
    }

    fn store(&self, address: u64, bytes: &[u8], _thread: u32) -> Result<(), String> {
        self.with(address, bytes.len(), |place| place.copy_from_slice(bytes))
    }

    fn or(&self, address: u64, bits: u32) -> Result<(), String> {
        self.with(address, size_of::<u32>(), |place| {
            let bits = bits.to_le_bytes();
            place.iter_mut().zip(bits).for_each(|(byte, bit)| *byte |= bit);
        })
    }

    fn settle(&self) {}
}

/// Runs kernels by the interpreter. What fails in one is printed and gives the code of an illegal access.
pub fn interpreter() -> Execute {
    let programs: RefCell<HashMap<Rc<str>, Rc<Program>>> = RefCell::default();
    Rc::new(move |launch: &Launch, memory: Memory| {
        let program =
            programs.borrow_mut().entry(launch.ptx.clone()).or_insert_with(|| parse(&launch.ptx)).clone();
        assert_eq!(program.source.entry, launch.entry);
        let [threads, 1, 1] = launch.block else { panic!("{}: block {:?}", launch.entry, launch.block) };
        let source = &program.source;
        assert!(
            source.required_threads.is_none_or(|required| required == threads as usize),
            "{}",
            launch.entry
        );
        assert!(source.most_threads.is_none_or(|most| threads as usize <= most), "{}", launch.entry);
        let grid = launch.grid.map(|side| side as usize);
        let shape = Shape { grid, threads: threads as usize, dynamic: launch.shared as usize };
        match run(&program, shape, &launch.parameters, &Device(RefCell::new(memory)), 1, BUDGET) {
            Ok(_) => 0,
            Err(reason) => {
                println!("{reason}; {} {:?}", launch.entry, launch.parameters);
                ILLEGAL_ADDRESS
            }
        }
    })
}

fn parse(ptx: &str) -> Rc<Program> {
    let line =
        |(index, text): (usize, &str)| Line { origin: format!("line {}", index + 1), text: text.to_owned() };
    let lines = ptx.lines().enumerate().map(line).collect();
    Rc::new(Program::new(lines).unwrap_or_else(|reason| panic!("{reason}")))
}
