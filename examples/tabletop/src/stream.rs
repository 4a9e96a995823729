//! `tabletop stream`: records of consecutive seeds in order, rendered on several threads.

use std::io::{self, ErrorKind, Write};
use std::sync::mpsc::sync_channel;
use std::thread;

use crate::record::encode;
use crate::render::render;
use crate::sampling::Options;
use crate::scene::Scene;
use crate::turns::turns;

/// What to stream.
#[derive(Clone, Copy, Debug)]
pub struct StreamPlan {
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
pub fn stream(plan: &StreamPlan, out: &mut impl Write) -> io::Result<()> {
    match run(plan, out) {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn run(plan: &StreamPlan, out: &mut impl Write) -> io::Result<()> {
    let threads = plan.threads.max(1) as u64;
    thread::scope(|scope| {
        // Thread t renders scenes t, t + threads, ...; a bounded queue each keeps the order and the memory small.
        let queues: Vec<_> = (0..threads)
            .map(|t| {
                let (send, receive) = sync_channel(2);
                scope.spawn(move || {
                    let mut i = t;
                    while i < plan.scenes {
                        let seed = plan.first_seed.wrapping_add(i);
                        let rendered = render(&Scene::with_options(seed, &plan.options), plan.long_side);
                        let turns = turns(&rendered, seed);
                        if send.send(encode(rendered, turns).map_err(io::Error::from)).is_err() {
                            return;
                        }
                        i += threads;
                    }
                });
                receive
            })
            .collect();
        for i in 0..plan.scenes {
            let record = queues[(i % threads) as usize].recv().map_err(io::Error::other)??;
            out.write_all(&record)?;
        }
        out.flush()
    })
}
