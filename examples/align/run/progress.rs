//! A progress bar with loss, pictures a second and time left, on standard error.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Cells of the bar.
const WIDTH: u64 = 24;

/// Between two lines where standard error is no terminal.
const QUIET: Duration = Duration::from_secs(30);

/// A bar over the updates of a run, of which some were done before this process began.
pub struct Progress {
    total: u64,
    first: u64,
    batch: usize,
    start: Instant,
    shown: Option<Instant>,
    terminal: bool,
    /// The mean of the last losses, the latest weighing a tenth.
    loss: Option<f64>,
}

impl Progress {
    pub fn new(first: u64, total: u64, batch: usize) -> Progress {
        let terminal = std::io::stderr().is_terminal();
        Progress { total, first, batch, start: Instant::now(), shown: None, terminal, loss: None }
    }

    /// After update `done`.
    pub fn step(&mut self, done: u64, loss: f64) {
        self.loss = Some(self.loss.map_or(loss, |mean| mean + 0.1 * (loss - mean)));
        let last = done >= self.total;
        if !self.terminal && !last && self.shown.unwrap_or(self.start).elapsed() < QUIET {
            return;
        }
        self.shown = Some(Instant::now());
        let (before, after) = if self.terminal { ("\r", if last { "\n" } else { "" }) } else { ("", "\n") };
        // A closed standard error is no reason to stop.
        let _ = write!(std::io::stderr(), "{before}{}{after}", self.line(done));
    }

    /// Pictures a second since this process began; 0 before its first update.
    pub fn rate(&self, done: u64) -> f64 {
        let seconds = self.start.elapsed().as_secs_f64().max(1e-9);
        done.saturating_sub(self.first) as f64 * self.batch as f64 / seconds
    }

    fn line(&self, done: u64) -> String {
        line(done, self.total, self.loss.unwrap_or(f64::NAN), self.rate(done), self.batch)
    }
}

fn line(done: u64, total: u64, loss: f64, rate: f64, batch: usize) -> String {
    let filled = (WIDTH * done.min(total)).checked_div(total).unwrap_or(WIDTH);
    let cells: String = (0..WIDTH).map(|i| if i < filled { '#' } else { '.' }).collect();
    let left = (total.saturating_sub(done) as f64 * batch as f64 / rate.max(1e-9)).round() as u64;
    let (hours, minutes, seconds) = (left / 3600, left / 60 % 60, left % 60);
    format!(
        "align [{cells}] {done}/{total}, loss {loss:.4}, {rate:.1} images/s, {hours}:{minutes:02}:{seconds:02} left "
    )
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn the_line_has_loss_rate_and_time_left() {
        let text = line(25, 100, 0.51239, 10.0, 8);
        assert!(text.contains("25/100, loss 0.5124, 10.0 images/s, 0:01:00 left"), "{text}");
        assert_eq!(text.matches('#').count(), 6);
        assert!(line(100, 100, 0.1, 3.0, 1).contains("0:00:00 left"));
    }
}
