//! Plays random sequences of right and wrong calls of the C ABI on a tiny model, as a host program that makes every mistake
//! a program can make without lying about its own memory:
//!
//! `cargo run --release -p triplet-fuzz -- --calls 10000000 --seed 1`
//!
//! It fails where the library crashes, writes beyond what it was given, keeps a handle, meets a defect of its own
//! (TRIPLET_INTERNAL), or where the calls have not seen enough: every export once in a thousand calls, one question with an
//! answer in a hundred, every status. The last line is the result.
//!
//! `--crowd 8` has eight threads use one model, and each other's handles, instead.
#![no_main]

mod arenas;
mod asks;
mod calls;
mod crowd;
mod host;
mod models;
mod padded;
mod pool;
mod random;
mod reads;
mod tally;
mod world;

use core::ffi::{CStr, c_char};
use std::collections::BTreeSet;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::{env, process};

use triplet_c::last_error::triplet_last_error;
use triplet_c::status::{TRIPLET_INTERNAL, TRIPLET_OK, triplet_status};

use crate::calls::{CALLS, Call};
use crate::tally::Tally;
use crate::world::World;

/// What the command line asks for.
struct Arguments {
    calls: u64,
    seed: u64,
    /// Threads of the crowd, which then takes the place of random calls; 0 for none.
    crowd: usize,
    /// A planted defect, which then takes the place of random calls.
    #[cfg(triplet_planted)]
    planted: Option<String>,
}

impl Arguments {
    fn parse(words: impl Iterator<Item = String>) -> Result<Arguments, Box<dyn Error>> {
        let mut arguments = Arguments {
            calls: 100_000,
            seed: 1,
            crowd: 0,
            #[cfg(triplet_planted)]
            planted: None,
        };
        let mut words = words.skip(1);
        while let Some(word) = words.next() {
            let number = words.next().ok_or_else(|| format!("{word} lacks its number"))?;
            match word.as_str() {
                "--calls" => arguments.calls = number.parse()?,
                "--seed" => arguments.seed = number.parse()?,
                "--crowd" => arguments.crowd = number.parse()?,
                #[cfg(triplet_planted)]
                "--planted" => arguments.planted = Some(number),
                _ => return Err(format!("{word} is none of --calls, --seed, --crowd").into()),
            }
        }
        Ok(arguments)
    }
}

/// The functions that the header declares for a library without training.
fn declared() -> BTreeSet<&'static str> {
    let header = include_str!("../../../include/triplet.h");
    let (header, _) = header.split_once("#if defined(TRIPLET_FINETUNE)").unwrap_or((header, ""));
    let pieces = header.split("TRIPLET_API").skip(1);
    let names = pieces.filter_map(|piece| piece.split('(').next()?.rsplit([' ', '*', '\n']).next());
    names.filter(|name| name.starts_with("triplet_")).collect()
}

/// Runs before the program's own `main` would: the host's allocator has to be set before any memory is asked for.
///
/// # Safety
/// Called by the system alone, at the start.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn main(_count: i32, _words: *const *const c_char) -> i32 {
    let set = host::set_allocator();
    match catch_unwind(AssertUnwindSafe(|| run(set))) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => {
            eprintln!("fuzz: {error}");
            1
        }
        Err(_) => 101,
    }
}

fn run(set: triplet_status) -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse(env::args())?;
    #[cfg(triplet_planted)]
    if let Some(planted) = &arguments.planted {
        return plant(planted);
    }
    let Arguments { calls, seed, crowd, .. } = arguments;
    if set != TRIPLET_OK {
        return Err(format!("the allocator came too late: status {set}").into());
    }
    let known: BTreeSet<&str> = CALLS.iter().map(|(name, _, _)| *name).collect();
    let other: Vec<_> = declared().symmetric_difference(&known).copied().collect();
    if !other.is_empty() {
        return Err(format!("the header and the table of calls differ: {}", other.join(", ")).into());
    }
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let model = repository.join("tests/fixtures/end_to_end");
    if crowd > 0 {
        let shipped = repository.join("examples/tabletop/model");
        crowd::all(&model.display().to_string(), &shipped.display().to_string(), crowd);
        return Ok(());
    }
    let mut world = World::new(seed, &model)?;
    let mut tally = Tally::new(CALLS.iter().map(|(name, _, _)| *name));
    tally.count("triplet_set_allocator", set);
    while tally.calls() < calls {
        let (name, call) = choose(&mut world);
        // A call that fails an assertion says which it was, for the same seed to make it again.
        let place = Place { name, number: tally.calls() + 1, seed };
        let status = call(&mut world);
        core::mem::forget(place);
        let nested = core::mem::take(&mut world.nested);
        for (name, status) in status.map(|status| (name, status)).into_iter().chain(nested) {
            if !(TRIPLET_OK..TRIPLET_INTERNAL).contains(&status) {
                // SAFETY: a C string until the next failure.
                let words = unsafe { CStr::from_ptr(triplet_last_error()) }.to_string_lossy();
                return Err(format!(
                    "{name}: status {status}: {words} (call {}, seed {seed})",
                    tally.calls()
                )
                .into());
            }
            tally.count(name, status);
        }
        if tally.calls().is_multiple_of(256) {
            tally.show(calls);
        }
    }
    world.end();
    #[cfg(triplet_planted)]
    tally.note(triplet_c::planted::panic());
    tally.show(calls);
    let missing = tally.report(seed, cfg!(triplet_planted));
    if missing.is_empty() { Ok(()) } else { Err(missing.join("; ").into()) }
}

/// Meets a planted defect, and comes back where nobody minds.
#[cfg(triplet_planted)]
fn plant(name: &str) -> Result<(), Box<dyn Error>> {
    let came_of_it = match name {
        "overflow" => u64::from(triplet_c::planted::overflow()),
        "use-after-free" => u64::from(triplet_c::planted::use_after_free()),
        "race" => triplet_c::planted::race(),
        "panic" => {
            assert_eq!(triplet_c::planted::panic(), TRIPLET_INTERNAL);
            // SAFETY: a C string until the next failure.
            println!("{}", unsafe { CStr::from_ptr(triplet_last_error()) }.to_string_lossy());
            return Ok(());
        }
        _ => return Err(format!("no defect is called {name}").into()),
    };
    println!("{name} was not caught: {came_of_it}");
    Ok(())
}

/// A call, by the shares of the table.
fn choose(world: &mut World) -> (&'static str, Call) {
    let total: u32 = CALLS.iter().map(|(_, share, _)| share).sum();
    let mut at = world.random.below(total as usize) as u32;
    for &(name, share, call) in CALLS {
        match at.checked_sub(share) {
            Some(rest) => at = rest,
            None => return (name, call),
        }
    }
    unreachable!("shares add up to their sum")
}

/// Tells which call it was where one panics.
struct Place {
    name: &'static str,
    number: u64,
    seed: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        eprintln!(
            "fuzz: in {}, call {} of seed {} (process {})",
            self.name,
            self.number,
            self.seed,
            process::id()
        );
    }
}
