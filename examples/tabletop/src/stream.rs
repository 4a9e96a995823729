//! `tabletop stream`: records of consecutive seeds in order, rendered on several threads.

use std::io::{self, ErrorKind, Write};

use crate::ordered::in_order;
use crate::record::encode;
use crate::render::render;
use crate::sampling::Options;
use crate::scene::Scene;
use crate::turns::turns;

/// Which scenes, how large, on how many threads.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Seed of the first scene.
    pub first_seed: u64,
    /// Number of scenes.
    pub scenes: u64,
    /// Long side of a 640 x 480 picture.
    pub long_side: usize,
    /// Rendering threads, at least 1.
    pub threads: usize,
    /// The world's knobs.
    pub options: Options,
}

/// Writes the records to `out` in the order of the seeds, the same bytes for any number of threads. A reader that
/// hangs up ends the stream without an error.
///
/// # Errors
/// When `out` cannot be written.
pub fn stream(plan: &Plan, out: &mut impl Write) -> io::Result<()> {
    let make = |seed| {
        let rendered = render(&Scene::with_options(seed, &plan.options), plan.long_side);
        let turns = turns(&rendered, seed);
        encode(rendered, turns).map_err(io::Error::from)
    };
    let done =
        in_order(plan.first_seed, plan.scenes, plan.threads, make, |record: Vec<u8>| out.write_all(&record));
    match done.and_then(|()| out.flush()) {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
