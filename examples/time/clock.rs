//! Runs work again and again and says how long it took, and of which share of what the machine could do.

use std::error::Error;
use std::io::{BufRead, Write};
use std::time::Instant;

use triplet::cpu::Cpu;

use crate::arguments::Arguments;
use crate::{bandwidth, roof};

/// Runs that do not count: the first touches memory, the second fills caches.
const WARM_UP: usize = 2;

/// What a run of work cannot be faster than.
#[derive(Clone, Copy, PartialEq)]
pub enum Roof {
    /// Nothing that is known.
    None,
    /// Floating-point operations, at the rate of multiply-adds in registers.
    Operations(f64),
    /// Bytes, at the rate at which memory is read.
    Bytes(f64),
}

impl Roof {
    /// What can be done in a second, measured now.
    fn rate(self, cpu: &Cpu) -> f64 {
        match self {
            Roof::None => 0.0,
            Roof::Operations(_) => roof::rate(cpu),
            Roof::Bytes(_) => bandwidth::rate(cpu.threads()),
        }
    }
}

/// What is timed.
pub struct Work {
    pub name: String,
    /// Of one run.
    pub roof: Roof,
    /// Tokens of one run, 0 where it has none.
    pub tokens: usize,
}

impl Work {
    /// Work that reads or writes no tokens.
    pub fn new(name: &str, roof: Roof) -> Work {
        Work { name: name.to_owned(), roof, tokens: 0 }
    }
}

/// Times `run` as the arguments ask and prints the line `result`.
pub fn time(
    cpu: &Cpu,
    arguments: &Arguments,
    work: Work,
    mut run: impl FnMut() -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let runs = arguments.number::<usize>("runs")?.unwrap_or(8).max(1);
    for _ in 0..WARM_UP {
        run()?;
    }
    let mut milliseconds = Vec::new();
    let mut rates = Vec::new();
    let mut once = || -> Result<f64, Box<dyn Error>> {
        let start = Instant::now();
        run()?;
        let elapsed = start.elapsed().as_secs_f64() * 1e3;
        milliseconds.push(elapsed);
        Ok(elapsed)
    };
    if arguments.has("step") {
        println!("ready");
        for line in std::io::stdin().lock().lines() {
            match line?.as_str() {
                "roof" => {
                    rates.push(work.roof.rate(cpu));
                    println!("roof {:.1}", rates.last().copied().unwrap_or_default() / 1e9);
                }
                _ => println!("ms {:.3}", once()?),
            }
            std::io::stdout().flush()?;
        }
    } else {
        for _ in 0..runs {
            once()?;
            rates.push(work.roof.rate(cpu));
        }
    }
    if milliseconds.is_empty() {
        return Ok(());
    }
    if rates.is_empty() {
        rates.push(work.roof.rate(cpu));
    }
    milliseconds.sort_by(f64::total_cmp);
    let (name, threads, isa) = (work.name, cpu.threads(), cpu.isa().name());
    let (least, median) = (milliseconds[0], milliseconds[milliseconds.len() / 2]);
    print!("result name={name} threads={threads} isa={isa} min_ms={least:.2} median_ms={median:.2}");
    if work.tokens > 0 {
        print!(" tokens_per_second={:.2}", work.tokens as f64 / (least * 1e-3));
    }
    let rate = rates.into_iter().fold(0.0, f64::max);
    let fraction = |amount: f64| amount / (least * 1e-3) / rate;
    match work.roof {
        Roof::None => {}
        Roof::Operations(count) => {
            print!(" roof_gflops={:.1} fraction_of_roof={:.3}", rate / 1e9, fraction(count));
        }
        Roof::Bytes(count) => {
            print!(" roof_gb_per_second={:.2} fraction_of_roof={:.3}", rate / 1e9, fraction(count));
        }
    }
    println!();
    Ok(())
}
