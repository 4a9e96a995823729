//! Work on consecutive seeds by several threads, taken in the order of the seeds.

use std::io;
use std::sync::mpsc::sync_channel;
use std::thread;

/// Calls `make(seed)` for `count` seeds from `first` on `threads` threads and hands the results to `take` in order.
///
/// # Errors
/// The first error of `make` or `take`, or of a thread that ended early.
pub fn in_order<T: Send>(
    first: u64,
    count: u64,
    threads: usize,
    make: impl Fn(u64) -> io::Result<T> + Sync,
    mut take: impl FnMut(T) -> io::Result<()>,
) -> io::Result<()> {
    let threads = threads.max(1) as u64;
    let make = &make;
    thread::scope(|scope| {
        // Thread t makes items t, t + threads, ...; a bounded queue each keeps the order and the memory small.
        let queues: Vec<_> = (0..threads)
            .map(|t| {
                let (send, receive) = sync_channel(2);
                scope.spawn(move || {
                    let mut i = t;
                    while i < count && send.send(make(first.wrapping_add(i))).is_ok() {
                        i += threads;
                    }
                });
                receive
            })
            .collect();
        for i in 0..count {
            take(queues[(i % threads) as usize].recv().map_err(io::Error::other)??)?;
        }
        Ok(())
    })
}
