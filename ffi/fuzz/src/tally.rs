//! What was called, what it came to, and whether that is enough.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use triplet_c::status::{TRIPLET_INTERNAL, TRIPLET_OK, triplet_status};

/// Calls per thousand that every export has to have.
const EXPORT_QUOTA: u64 = 1;

/// Calls per hundred that have to be questions with an answer.
const ASK_QUOTA: u64 = 1;

/// Counts of calls.
pub struct Tally {
    /// Calls and, among them, those that worked, by export.
    exports: BTreeMap<&'static str, [u64; 2]>,
    statuses: BTreeMap<triplet_status, u64>,
    calls: u64,
    /// Mixes names and statuses in their order: equal for equal seeds.
    digest: u64,
    start: Instant,
    shown: Instant,
}

impl Tally {
    pub fn new(exports: impl IntoIterator<Item = &'static str>) -> Tally {
        Tally {
            exports: exports.into_iter().map(|name| (name, [0, 0])).collect(),
            statuses: BTreeMap::new(),
            calls: 0,
            digest: 0xcbf2_9ce4_8422_2325,
            start: Instant::now(),
            shown: Instant::now(),
        }
    }

    /// Counts a call.
    pub fn count(&mut self, name: &'static str, status: triplet_status) {
        let [calls, worked] = self.exports.entry(name).or_default();
        *calls += 1;
        *worked += u64::from(status == TRIPLET_OK);
        self.note(status);
        self.calls += 1;
        for byte in name.bytes().chain(status.to_le_bytes()) {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// Counts a status that no export returned.
    pub fn note(&mut self, status: triplet_status) {
        *self.statuses.entry(status).or_default() += 1;
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.calls
    }

    /// Questions that were answered.
    fn asks(&self) -> u64 {
        let names = ["triplet_session_ask", "triplet_session_decode_tokens"];
        names.iter().filter_map(|name| self.exports.get(name)).map(|[_, worked]| worked).sum()
    }

    /// Shows on standard error how far it has come: as a bar that is redrawn on a terminal, else a line a minute.
    pub fn show(&mut self, of: u64) {
        let terminal = stderr().is_terminal();
        let pause = Duration::from_millis(if terminal { 200 } else { 60_000 });
        let calls = self.calls();
        if self.shown.elapsed() < pause && (calls < of || !terminal) {
            return;
        }
        self.shown = Instant::now();
        let rate = calls as f64 / self.start.elapsed().as_secs_f64();
        let left = of.saturating_sub(calls) as f64 / rate.max(1e-9);
        let done = (calls * 30 / of.max(1)).min(30) as usize;
        let bar = format!("[{}{}]", "#".repeat(done), ".".repeat(30 - done));
        let (before, after) =
            if terminal { ("\r", if calls < of { "  " } else { "\n" }) } else { ("", "\n") };
        let mut error = stderr().lock();
        // A closed standard error is no reason to stop.
        let _ = write!(error, "{before}{bar} {calls} of {of} calls, {rate:.0}/s, {left:.0} s left{after}");
        let _ = error.flush();
    }

    /// Prints all counts and the line of the result, and returns what is missing. `planted` is whether the library has a
    /// defect that was planted, without which TRIPLET_INTERNAL must not be seen.
    pub fn report(&self, seed: u64, planted: bool) -> Vec<String> {
        for (name, [calls, worked]) in &self.exports {
            println!("{name} calls={calls} ok={worked}");
        }
        for (status, count) in &self.statuses {
            println!("status {status} count={count}");
        }
        let (calls, asks) = (self.calls(), self.asks());
        let least = self.exports.values().map(|[calls, _]| *calls).min().unwrap_or(0);
        let seconds = self.start.elapsed().as_secs_f64();
        println!(
            "result calls={calls} asks={asks} statuses={} exports_min={least} exports={} seed={seed} \
             digest={:016x} seconds={seconds:.1} rate={:.0}",
            self.statuses.len(),
            self.exports.len(),
            self.digest,
            calls as f64 / seconds,
        );
        let mut missing = Vec::new();
        for (name, [calls_of, _]) in &self.exports {
            if *calls_of == 0 || calls_of * 1000 < calls * EXPORT_QUOTA {
                missing.push(format!("{name} was called {calls_of} times"));
            }
        }
        if asks * 100 < calls * ASK_QUOTA {
            missing.push(format!("only {asks} questions were answered"));
        }
        for status in TRIPLET_OK..=TRIPLET_INTERNAL {
            if (status != TRIPLET_INTERNAL || planted) && !self.statuses.contains_key(&status) {
                missing.push(format!("status {status} was not seen"));
            }
        }
        missing
    }
}
