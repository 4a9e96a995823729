//! One linear layer, or all those of a model one after the other.

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use triplet::backend::{Backend, Epilogue, Weight};
use triplet::cpu::Cpu;
use triplet::reference::uniform;
use triplet::weights::{Dtype, Integers, Quantised, Scheme, Tensor, quantise};

use crate::arguments::Arguments;
use crate::roof;
use crate::shapes;

/// Times the layers whose name contains `--layer` (default: all), best of `--runs` runs each; with `--int8` on weights of eight
/// bits.
pub fn time(cpu: &Cpu, arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let runs = arguments.number::<usize>("runs")?.unwrap_or(8).max(1);
    let wanted = arguments.text("layer").unwrap_or("");
    for (name, rows, k, n) in shapes::LINEAR {
        if !name.contains(wanted) {
            continue;
        }
        let x = cpu.upload(rows, k, &uniform(rows * k, 1))?;
        // As many weights as a model has, so that none of them is in a cache when its turn comes.
        let copies = (64 << 20) / (n * k * if arguments.has("int8") { 1 } else { 4 }) + 1;
        let weights: Vec<Weight<Cpu>> = (0..copies)
            .map(|seed| weight(cpu, n, k, seed, arguments.has("int8")))
            .collect::<Result<_, _>>()?;
        let (mut least, mut roof) = (f64::INFINITY, 0.0f64);
        for _ in 0..runs {
            for weight in &weights {
                let start = Instant::now();
                cpu.linear(x.view(), weight, None, Epilogue::NONE)?;
                least = least.min(start.elapsed().as_secs_f64());
            }
            roof = roof.max(roof::rate(cpu));
        }
        let rate = 2.0 * (rows * k * n) as f64 / least;
        println!(
            "result name={name} threads={} isa={} min_ms={:.3} gflops={:.1} roof_gflops={:.1} fraction_of_roof={:.3}",
            cpu.threads(),
            cpu.isa().name(),
            least * 1e3,
            rate / 1e9,
            roof / 1e9,
            rate / roof
        );
    }
    Ok(())
}

fn weight(cpu: &Cpu, n: usize, k: usize, seed: usize, int8: bool) -> Result<Weight<Cpu>, Box<dyn Error>> {
    let numbers = uniform(n * k, seed as u64);
    let stored = if int8 {
        let Integers { bytes, scales } = quantise(&numbers, k, Scheme::Int8);
        let (len, scales) = (bytes.len(), tensor(&scales, &[n])?);
        cpu.store_quantised(&Quantised::new(
            "weight".into(),
            Scheme::Int8,
            [n, k],
            Arc::new(bytes),
            0..len,
            scales,
        )?)?
    } else {
        cpu.store_matrix(&tensor(&numbers, &[n, k])?, [n, k], 1)?
    };
    Ok(Weight::new(stored, &[n, k]))
}

fn tensor(numbers: &[f32], shape: &[usize]) -> Result<Tensor, Box<dyn Error>> {
    let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
    let len = bytes.len();
    Ok(Tensor::new("weight".into(), Dtype::F32, shape.to_vec(), Arc::new(bytes), 0..len)?)
}
