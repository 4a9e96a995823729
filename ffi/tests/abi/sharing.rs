//! One model, many sessions, many threads; and what is left when all is destroyed.

use core::ptr;
use std::path::Path;
use std::{env, fs, thread};

use triplet_c::session::triplet_session;

use crate::handles::{ask, destroy, image, json, open, options, picture, session};
use crate::header::repository;
use crate::programs::{build, run, shipped_model, tiny_model};

/// A handle that crosses threads, as C programs pass it.
#[derive(Clone, Copy)]
struct Shared<T>(*mut T);

// SAFETY: handles are numbers; what they stand for may be used as the header says.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    fn get(&self) -> *mut T {
        self.0
    }
}

#[test]
fn sixty_four_sessions_in_eight_threads_have_the_bits_of_one() {
    let model = open(&tiny_model(), 2);
    let images: Vec<_> = (0..4).map(|seed| Shared(image(model, &picture(seed)))).collect();
    let one = session(model);
    let expected: Vec<String> = images
        .iter()
        .map(|image| {
            let reply = ask(one, image.get(), &options(24));
            let json = json(reply);
            destroy(ptr::null_mut(), ptr::null_mut(), ptr::null_mut(), reply);
            json
        })
        .collect();
    let sessions: Vec<Shared<triplet_session>> = (0..64).map(|_| Shared(session(model))).collect();
    thread::scope(|scope| {
        for own in sessions.chunks(8) {
            let (images, expected) = (&images, &expected);
            scope.spawn(move || {
                for (index, session) in own.iter().enumerate() {
                    for turn in 0..2 {
                        let picture = (index + turn) % images.len();
                        let reply = ask(session.get(), images[picture].get(), &options(24));
                        assert_eq!(json(reply), expected[picture]);
                        destroy(ptr::null_mut(), ptr::null_mut(), ptr::null_mut(), reply);
                    }
                }
            });
        }
    });
    for session in sessions {
        destroy(ptr::null_mut(), session.get(), ptr::null_mut(), ptr::null_mut());
    }
    for image in images {
        destroy(ptr::null_mut(), ptr::null_mut(), image.get(), ptr::null_mut());
    }
    destroy(model, one, ptr::null_mut(), ptr::null_mut());
}

/// Runs `cycles.c`, which creates, asks and destroys, as often as the environment or else `default` says. Nothing may be left;
/// and once the first half has warmed the allocator up, the second may not grow by `most` KiB.
fn cycles(model: &str, variable: &str, default: u64, most: i64) {
    let source = repository().join("ffi/tests/abi/cycles.c");
    let program = build(&["cc", "-std=c11"], variable, &source);
    let cycles = env::var(variable).unwrap_or_else(|_| default.to_string());
    let printed = run(&program, &[model, &cycles]);
    let numbers: Vec<i64> = printed.split_whitespace().map(|word| word.parse().unwrap()).collect();
    let [live, grown] = numbers[..] else { panic!("{printed}") };
    println!("{cycles} cycles: {grown} KiB grown in the second half");
    assert_eq!(live, 0);
    assert!(grown < most, "{grown} KiB grown in the second half of {cycles} cycles");
}

#[test]
fn thousands_of_cycles_leave_neither_handles_nor_memory() {
    // The heap breathes by a MiB or so; 500 cycles that each left 8 KiB would not pass. valgrind looks for less.
    cycles(&tiny_model(), "TRIPLET_CYCLES", 1000, 4000);
}

/// A few by default, which only shows that nothing of the size of a model stays; 200 with `.ci/run full`.
#[test]
fn cycles_on_the_shipped_model_leave_neither_handles_nor_memory() {
    let weights = fs::metadata(Path::new(&shipped_model()).join("model.safetensors")).unwrap().len();
    let few = if cfg!(debug_assertions) { 2 } else { 6 };
    let most = if env::var_os("TRIPLET_SHIPPED_CYCLES").is_some() { 1024 } else { weights as i64 / 1024 / 2 };
    cycles(&shipped_model(), "TRIPLET_SHIPPED_CYCLES", few, most);
}
