//! The promises about bits: a row never depends on the other rows, nothing depends on the number of threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use triplet::backend::{
    Activation, Attention, AttentionMask, Backend, Conv, Epilogue, Grid, Operands, Resize,
};
use triplet::cpu::{Cpu, Isa, ParallelFor};
use triplet::reference::{large_mean, uniform};
use triplet::weights::Dtype;

use crate::common::operands::{Failures, weight};
use crate::common::variants::isas;

#[test]
fn a_row_alone_has_the_bits_it_has_among_200() {
    let (rows, k) = (200, 700);
    let x = large_mean(rows * k, 1);
    let x: Vec<f32> = x.iter().zip(uniform(rows * k, 2)).map(|(x, y)| x * y).collect();
    let mut failures = Failures::default();
    for isa in isas() {
        for threads in [1, 2] {
            let cpu = Cpu::with_threads(threads).with_isa(isa).unwrap();
            let all = cpu.upload(rows, k, &x).unwrap();
            for n in [1, 30, 64, 65, 600] {
                for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
                    let (w, _) = weight(&cpu, &[n, k], &uniform(n * k, 3), (dtype, 1));
                    let (b, _) = weight(&cpu, &[n], &uniform(n, 4), (dtype, 1));
                    let run = |from: usize, to: usize| {
                        let x = all.view().row_range(from..to).unwrap();
                        let y = cpu.linear(x, &w, Some(&b), Epilogue::activation(Activation::Gelu)).unwrap();
                        cpu.download(y.view()).unwrap()
                    };
                    let want = run(0, rows);
                    for (from, to) in [(0, 1), (13, 14), (199, 200), (3, 8), (7, 20), (50, 147)] {
                        let case = format!("{} x{threads} {n} {dtype:?} rows {from}..{to}", isa.name());
                        failures.ensure(&case, run(from, to) == want[from * n..to * n]);
                    }
                }
            }
            let (w, _) = weight(&cpu, &[k], &uniform(k, 5), (Dtype::F32, 0));
            let norm = cpu.layer_norm(all.view(), 1, Some(&w), None, 1e-6).unwrap();
            let rms = cpu.rms_norm(all.view(), &w, 1e-6).unwrap();
            let rope = cpu.rope(all.view(), 7, 0, &uniform(50, 6)).unwrap();
            for row in [0, 1, 100, 199] {
                let one = all.view().row_range(row..row + 1).unwrap();
                let case = format!("{} x{threads} row {row}", isa.name());
                let same = |got: &[f32], all: &[f32]| got == &all[row * k..(row + 1) * k];
                let got = cpu.layer_norm(one, 1, Some(&w), None, 1e-6).unwrap();
                failures.ensure(&format!("{case} layer_norm"), same(got.buffer(), norm.buffer()));
                let got = cpu.rms_norm(one, &w, 1e-6).unwrap();
                failures.ensure(&format!("{case} rms_norm"), same(got.buffer(), rms.buffer()));
                let got = cpu.rope(one, 7, row, &uniform(50, 6)).unwrap();
                failures.ensure(&format!("{case} rope"), same(got.buffer(), rope.buffer()));
            }
        }
    }
    failures.finish();
}

/// The bits of every operation at sizes that are worth sharing out.
fn everything(isa: Isa, cpu: Cpu) -> Vec<(&'static str, Vec<f32>)> {
    let cpu = cpu.with_isa(isa).unwrap();
    let grid = Grid { height: 30, width: 33 };
    let (rows, c) = (grid.cells(), 130);
    let x = cpu.upload(rows, c, &uniform(rows * c, 1)).unwrap();
    let stored = |shape: &[usize], seed| {
        weight(&cpu, shape, &uniform(shape.iter().product(), seed), (Dtype::Bf16, 1)).0
    };
    let (w, v) = (stored(&[200, c], 2), stored(&[c], 3));
    let conv = Conv { stride: 1, padding: 1, depthwise: false };
    let deep = Conv { depthwise: true, ..conv };
    let mask = AttentionMask::Causal { first: 5, window: None };
    let attention = Attention {
        heads: 10,
        kv_heads: 5,
        scale: 0.3,
        soft_cap: Some(20.0),
        mask,
        operands: Operands::Exact,
    };
    let half = x.view().col_range(0..c / 2).unwrap();
    let frequencies = uniform(13, 4);
    let to = Grid { height: 41, width: 29 };
    let results = [
        (
            "linear",
            cpu.linear(x.view(), &w, None, Epilogue::residual(cpu.zeros(rows, 200).unwrap().view(), None)),
        ),
        ("matmul", cpu.matmul(x.view(), x.view(), true)),
        ("conv2d", cpu.conv2d(x.view(), grid, &stored(&[70, c, 3, 3], 5), None, conv, Epilogue::NONE)),
        ("depthwise", cpu.conv2d(x.view(), grid, &stored(&[c, 1, 3, 3], 6), None, deep, Epilogue::NONE)),
        ("layer_norm", cpu.layer_norm(x.view(), 2, None, None, 1e-6)),
        ("rms_norm", cpu.rms_norm(x.view(), &v, 1e-6)),
        ("group_norm", cpu.group_norm(x.view(), 10, &v, &v, 1e-6, Activation::Relu)),
        ("attention", cpu.attention(x.view(), half, half, &attention)),
        ("rope", cpu.rope(x.view(), 5, 9, &frequencies)),
        ("resize", cpu.resize(x.view(), grid, to, Resize::Bicubic)),
        ("activate", cpu.activate(x.view(), Activation::GeluTanh)),
        ("gated", cpu.gated(x.view(), x.view(), Activation::Silu)),
        ("add", cpu.add(x.view(), x.view())),
        ("read", cpu.read(&w, c, 200)),
    ];
    results.into_iter().map(|(name, matrix)| (name, matrix.unwrap().buffer().to_vec())).collect()
}

#[test]
fn threads_never_change_a_bit() {
    let mut failures = Failures::default();
    for isa in isas() {
        let want = everything(isa, Cpu::with_threads(1));
        for threads in [1, 2, 3, 4] {
            for ((name, got), (_, want)) in everything(isa, Cpu::with_threads(threads)).iter().zip(&want) {
                failures.ensure(&format!("{} x{threads} {name}", isa.name()), got == want);
            }
        }
    }
    failures.finish();
}

/// Threads that come backwards, take some work twice and leave some out.
struct Careless {
    runs: AtomicUsize,
}

impl ParallelFor for Careless {
    fn threads(&self) -> usize {
        3
    }

    fn run(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        self.runs.fetch_add(1, Ordering::Relaxed);
        thread::scope(|scope| {
            scope.spawn(|| (0..count).rev().step_by(2).for_each(work));
            scope.spawn(|| (0..=count).step_by(3).for_each(work));
        });
    }
}

#[test]
fn threads_of_the_callers_never_change_a_bit() {
    let mut failures = Failures::default();
    for isa in isas() {
        let careless = Arc::new(Careless { runs: AtomicUsize::new(0) });
        let cpu = Cpu::with_parallel_for(careless.clone());
        assert_eq!(cpu.threads(), 3);
        let want = everything(isa, Cpu::with_threads(1));
        for ((name, got), (_, want)) in everything(isa, cpu).iter().zip(&want) {
            failures.ensure(&format!("{} {name}", isa.name()), got == want);
        }
        assert!(careless.runs.load(Ordering::Relaxed) > 5, "the caller's threads are asked");
    }
    failures.finish();
}
