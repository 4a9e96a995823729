//! The table of what was timed.

use std::error::Error;
use std::fmt;
use std::time::Instant;

use triplet::backend::{Backend, Matrix};
use triplet::reference::{Tolerance, compare};

/// Runs that do not count: the second records graphs, the third starts them.
const WARM_UP: usize = 3;

/// What a row's work is held against.
#[derive(Clone, Copy)]
pub enum Work {
    /// Bytes that are read and written.
    Bytes(f64),
    /// Floating-point operations.
    Operations(f64),
    /// Nothing.
    Plain,
}

/// Whether a row's result is right.
pub enum Check {
    /// How far it is from the CPU's, in parts of its norm.
    Near(f64),
    /// How it compares, in words.
    Same(String),
    /// What is wrong with it.
    Wrong(String),
    /// Not compared.
    Not,
}

struct Row {
    name: String,
    seconds: Vec<f64>,
    work: Work,
    check: Check,
}

/// Rows in the order in which they were timed.
pub struct Table {
    rows: Vec<Row>,
    runs: usize,
    only: String,
}

impl Table {
    pub fn new(runs: usize, only: &str) -> Table {
        Table { rows: Vec::new(), runs, only: only.to_owned() }
    }

    /// Whether a row is wanted: one that was picked, or one that others are held against.
    pub fn wants(&self, name: &str) -> bool {
        name.contains(&self.only) || ["copy", "product"].contains(&name)
    }

    /// Times `work` and adds the row. Of what it gives one element is read back, which waits for the whole.
    pub fn time<B: Backend>(
        &mut self,
        backend: &B,
        name: &str,
        amount: Work,
        check: Check,
        mut work: impl FnMut() -> Result<Matrix<B>, Box<dyn Error>>,
    ) -> Result<(), Box<dyn Error>> {
        let mut seconds = Vec::new();
        for run in 0..WARM_UP + self.runs {
            let start = Instant::now();
            let out = work()?;
            backend.download(out.view().row_range(0..1)?.col_range(0..1)?)?;
            if run >= WARM_UP {
                seconds.push(start.elapsed().as_secs_f64());
            }
        }
        self.add(name, seconds, amount, check);
        Ok(())
    }

    /// Adds a row that was timed elsewhere.
    pub fn add(&mut self, name: &str, mut seconds: Vec<f64>, work: Work, check: Check) {
        seconds.sort_by(f64::total_cmp);
        eprintln!("{name}");
        self.rows.push(Row { name: name.to_owned(), seconds, work, check });
    }

    /// Number of rows whose results are wrong.
    pub fn wrong(&self) -> usize {
        self.rows.iter().filter(|row| matches!(row.check, Check::Wrong(_))).count()
    }

    /// The rate of a row by its name.
    fn rate(&self, name: &str) -> Option<f64> {
        self.rows.iter().find(|row| row.name == name).and_then(Row::rate)
    }
}

impl Row {
    fn least(&self) -> f64 {
        self.seconds.first().copied().unwrap_or(f64::NAN)
    }

    fn rate(&self) -> Option<f64> {
        match self.work {
            Work::Bytes(amount) | Work::Operations(amount) => Some(amount / self.least()),
            Work::Plain => None,
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:24} {:>10} {:>10} {:>16} {:>16}  check",
            "work", "least ms", "median ms", "rate", "share"
        )?;
        for row in &self.rows {
            let median = row.seconds.get(row.seconds.len() / 2).copied().unwrap_or(f64::NAN);
            let rate = row.rate().unwrap_or(f64::NAN);
            let (rate, share) = match row.work {
                Work::Bytes(_) => (format!("{:.1} GB/s", rate / 1e9), (self.rate("copy"), "copy")),
                Work::Operations(_) => {
                    (format!("{:.1} GFLOP/s", rate / 1e9), (self.rate("product"), "product"))
                }
                Work::Plain => (String::new(), (None, "")),
            };
            let share = match share {
                (Some(of), name) => format!("{:.3} of {name}", row.rate().unwrap_or(f64::NAN) / of),
                (None, _) => String::new(),
            };
            let check = match &row.check {
                Check::Near(off) => format!("within {off:.1e} of the CPU"),
                Check::Same(words) => words.clone(),
                Check::Wrong(words) => format!("WRONG: {words}"),
                Check::Not => "not compared".into(),
            };
            let (least, median) = (row.least() * 1e3, median * 1e3);
            writeln!(f, "{:24} {least:10.3} {median:10.3} {rate:>16} {share:>16}  {check}", row.name)?;
        }
        Ok(())
    }
}

/// Compares what the device gave with what the CPU gave.
pub fn near(got: &[f32], want: &[f32], norm: f64) -> Check {
    let want: Vec<f64> = want.iter().map(|&x| x.into()).collect();
    match compare(got, &want, Tolerance { norm, element: 10.0 * norm }) {
        Ok(difference) => Check::Near(difference.norm),
        Err(words) => Check::Wrong(words),
    }
}
