//! Runs work again and again and says how long it took.

use std::error::Error;
use std::io::{BufRead, Write};
use std::time::Instant;

use triplet::cpu::Cpu;

use crate::arguments::Arguments;
use crate::roof;

/// Runs that do not count: the first touches memory, the second fills caches.
const WARM_UP: usize = 2;

/// Times `work` as the arguments ask and prints the line `result`. `operations` is the number of floating-point operations
/// of one run, 0 where a fraction of the roof says nothing.
pub fn time(
    cpu: &Cpu,
    arguments: &Arguments,
    name: &str,
    operations: f64,
    mut work: impl FnMut() -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let runs = arguments.number::<usize>("runs")?.unwrap_or(8).max(1);
    for _ in 0..WARM_UP {
        work()?;
    }
    let mut milliseconds = Vec::new();
    let mut rates = Vec::new();
    let mut once = || -> Result<f64, Box<dyn Error>> {
        let start = Instant::now();
        work()?;
        let elapsed = start.elapsed().as_secs_f64() * 1e3;
        milliseconds.push(elapsed);
        Ok(elapsed)
    };
    if arguments.has("step") {
        println!("ready");
        for line in std::io::stdin().lock().lines() {
            match line?.as_str() {
                "roof" => {
                    rates.push(roof::rate(cpu));
                    println!("roof {:.1}", rates.last().copied().unwrap_or_default() / 1e9);
                }
                _ => println!("ms {:.3}", once()?),
            }
            std::io::stdout().flush()?;
        }
    } else {
        for _ in 0..runs {
            once()?;
            rates.push(roof::rate(cpu));
        }
    }
    if milliseconds.is_empty() {
        return Ok(());
    }
    milliseconds.sort_by(f64::total_cmp);
    let (threads, isa) = (cpu.threads(), cpu.isa().name());
    let (least, median) = (milliseconds[0], milliseconds[milliseconds.len() / 2]);
    print!("result name={name} threads={threads} isa={isa} min_ms={least:.2} median_ms={median:.2}");
    if let Some(roof) = rates.into_iter().max_by(f64::total_cmp).filter(|_| operations > 0.0) {
        print!(" roof_gflops={:.1} fraction_of_roof={:.3}", roof / 1e9, operations / (least * 1e-3) / roof);
    }
    println!();
    Ok(())
}
