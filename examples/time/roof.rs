//! The rate of multiply-adds in registers: what no product can exceed.

use std::error::Error;
use std::time::Instant;

use triplet::cpu::Cpu;

use crate::arguments::Arguments;
use crate::clock::{self, Roof, Work};

/// Floating-point operations a second, the best of five short measurements.
pub fn rate(cpu: &Cpu) -> f64 {
    let rates = (0..5).map(|_| {
        let start = Instant::now();
        let operations = cpu.multiply_adds(16 * cpu.threads()) as f64;
        operations / start.elapsed().as_secs_f64()
    });
    rates.fold(0.0, f64::max)
}

/// Prints the rate after each of the runs.
pub fn time(cpu: &Cpu, arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let operations = cpu.multiply_adds(1) as f64 * 256.0;
    clock::time(cpu, arguments, Work::new("roof", Roof::Operations(operations)), || {
        cpu.multiply_adds(256);
        Ok(())
    })
}
