//! Work done ahead on threads, its results in order whatever the number of threads.
#![forbid(unsafe_code)]

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use crate::error::{Error, Result};

/// Results that each thread may have ready before they are asked for.
const DEPTH: usize = 4;

/// The results of `work(position)` for consecutive positions. Thread `t` of `n` does every `n`-th position from the `t`-th
/// on and blocks when it is too far ahead; when this value goes, the threads end with the work that they are at.
pub(super) struct Ahead<T> {
    receivers: Vec<Receiver<T>>,
    next: usize,
}

impl<T: Send + 'static> Ahead<T> {
    /// Starts `threads` threads (at least one) over `positions`.
    ///
    /// # Errors
    /// [`Error::Io`] where the system has no thread to give.
    pub(super) fn new(
        threads: usize,
        positions: Range<u64>,
        work: impl Fn(u64) -> T + Send + Sync + 'static,
    ) -> Result<Ahead<T>> {
        let (threads, work) = (threads.max(1), Arc::new(work));
        let mut receivers = Vec::with_capacity(threads);
        for index in 0..threads {
            let (sender, receiver) = sync_channel(DEPTH);
            let (work, positions) = (work.clone(), positions.clone());
            let body = move || {
                for position in positions.skip(index).step_by(threads) {
                    if sender.send(work(position)).is_err() {
                        break;
                    }
                }
            };
            thread::Builder::new().name(format!("pictures {index}")).spawn(body).map_err(|error| {
                Error::Io { path: "thread for pictures".to_string(), reason: error.to_string() }
            })?;
            receivers.push(receiver);
        }
        Ok(Ahead { receivers, next: 0 })
    }
}

impl<T> Iterator for Ahead<T> {
    type Item = T;

    /// The next result; `None` at the end, or where a thread has died of its work.
    fn next(&mut self) -> Option<T> {
        let result = self.receivers.get(self.next)?.recv().ok()?;
        self.next = (self.next + 1) % self.receivers.len();
        Some(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order_for_any_number_of_threads() {
        let work = |position: u64| {
            thread::sleep(std::time::Duration::from_micros(position * 7919 % 700));
            position * position
        };
        let want: Vec<u64> = (3..60).map(|position| position * position).collect();
        for threads in [0, 1, 2, 3, 5, 80] {
            let got: Vec<u64> = Ahead::new(threads, 3..60, work).unwrap().collect();
            assert_eq!(got, want, "{threads}");
        }
    }

    #[test]
    fn threads_end_when_nobody_listens() {
        let alive = Arc::new(());
        let held = alive.clone();
        let mut ahead = Ahead::new(3, 0..u64::MAX, move |position| (held.clone(), position)).unwrap();
        assert_eq!(ahead.next().map(|(_, position)| position), Some(0));
        drop(ahead);
        let start = std::time::Instant::now();
        while Arc::strong_count(&alive) > 1 {
            assert!(start.elapsed().as_secs() < 20, "threads go on");
            thread::yield_now();
        }
    }
}
