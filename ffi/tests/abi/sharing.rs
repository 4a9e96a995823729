//! One model, many sessions, many threads; and what is left when all is destroyed.

use core::ptr;
use std::{env, thread};

use triplet_c::session::triplet_session;

use crate::handles::{ask, destroy, image, json, open, options, picture, session};
use crate::header::repository;
use crate::programs::{build, run, tiny_model};

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

#[test]
fn thousands_of_cycles_leave_neither_handles_nor_memory() {
    let source = repository().join("ffi/tests/abi/cycles.c");
    let program = build(&["cc", "-std=c11"], "cycles", &source);
    // The first half warms the allocator up; the second may not grow. Set TRIPLET_CYCLES for more.
    let cycles = env::var("TRIPLET_CYCLES").unwrap_or_else(|_| "300".to_owned());
    let printed = run(&program, &[&tiny_model(), &cycles]);
    let numbers: Vec<i64> = printed.split_whitespace().map(|word| word.parse().unwrap()).collect();
    let [live, grown] = numbers[..] else { panic!("{printed}") };
    println!("{cycles} cycles: {grown} KiB grown in the second half");
    assert_eq!(live, 0);
    assert!(grown < 1024, "{grown} KiB grown in the second half of {cycles} cycles");
}
