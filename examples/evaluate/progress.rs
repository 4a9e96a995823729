//! A progress bar with the time left, on standard error.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Cells of the bar.
const WIDTH: u64 = 30;

/// Between two lines where standard error is no terminal.
const QUIET: Duration = Duration::from_secs(30);

/// A bar over a known number of steps.
pub struct Progress {
    label: &'static str,
    total: u64,
    done: u64,
    start: Instant,
    shown: Option<Instant>,
    terminal: bool,
}

impl Progress {
    /// A bar of `total` steps.
    pub fn new(label: &'static str, total: u64) -> Progress {
        let terminal = std::io::stderr().is_terminal();
        Progress { label, total, done: 0, start: Instant::now(), shown: None, terminal }
    }

    /// One step is done. A terminal's line is redrawn; elsewhere a line is added now and then.
    pub fn step(&mut self) {
        self.done += 1;
        let last = self.done >= self.total;
        if !self.terminal && !last && self.shown.unwrap_or(self.start).elapsed() < QUIET {
            return;
        }
        self.shown = Some(Instant::now());
        let line = bar(self.label, self.done, self.total, self.start.elapsed());
        let (before, after) = if self.terminal { ("\r", if last { "\n" } else { "" }) } else { ("", "\n") };
        // A closed standard error is no reason to stop.
        let _ = write!(std::io::stderr(), "{before}{line}{after}");
    }
}

/// The line after `done` of `total` steps that took `elapsed`.
fn bar(label: &str, done: u64, total: u64, elapsed: Duration) -> String {
    let filled = (WIDTH * done.min(total)).checked_div(total).unwrap_or(WIDTH);
    let cells: String = (0..WIDTH).map(|i| if i < filled { '#' } else { '.' }).collect();
    let left = elapsed.as_secs_f64() / done.max(1) as f64 * total.saturating_sub(done) as f64;
    format!("{label} [{cells}] {done}/{total}, {} gone, {} left ", clock(elapsed.as_secs_f64()), clock(left))
}

/// Seconds as minutes and seconds.
fn clock(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::bar;

    #[test]
    fn the_time_left_follows_from_the_time_gone() {
        let line = bar("scenes", 10, 40, Duration::from_secs(30));
        assert!(line.contains("10/40, 0:30 gone, 1:30 left"), "{line}");
        assert_eq!(line.matches('#').count(), 7);
    }

    #[test]
    fn the_ends_are_full_and_empty() {
        assert_eq!(bar("x", 0, 9, Duration::ZERO).matches('#').count(), 0);
        assert_eq!(bar("x", 9, 9, Duration::ZERO).matches('.').count(), 0);
    }
}
