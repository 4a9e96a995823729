//! Nothing depends on the number of threads.

use triplet::backend::{
    Activation, AdamwStep, Attention, AttentionMask, Backend, LinearGradients, LinearParameters,
    NormGradients, Operands, Train,
};
use triplet::cpu::{Cpu, Isa};
use triplet::reference::uniform;
use triplet::weights::Dtype;

use crate::common::operands::{Failures, weight};
use crate::common::variants::isas;

/// The bits of every operation at sizes that are worth sharing out.
fn everything(isa: Isa, threads: usize) -> Vec<(&'static str, Vec<f32>)> {
    let cpu = Cpu::with_threads(threads).with_isa(isa).unwrap();
    let (rows, c, n) = (500, 130, 260);
    let x = cpu.upload(rows, c, &uniform(rows * c, 1)).unwrap();
    let gradient = cpu.upload(rows, n, &uniform(rows * n, 2)).unwrap();
    let (w, _) = weight(&cpu, &[n, c], &uniform(n * c, 3), (Dtype::F32, 0));
    let (v, _) = weight(&cpu, &[n], &uniform(n, 4), (Dtype::F32, 0));
    let (z, _) = weight(&cpu, &[c], &uniform(c, 5), (Dtype::F32, 0));
    let zeros = |rows, cols| cpu.zeros(rows, cols).unwrap();
    let mut out = Vec::new();

    let y = cpu.activate_backward(x.view(), Activation::Gelu, x.view()).unwrap();
    out.push(("activate_backward", y.buffer().to_vec()));
    let mut sums = zeros(10, n);
    cpu.add_backward(gradient.view(), &mut sums).unwrap();
    out.push(("add_backward", sums.buffer().to_vec()));
    let y = cpu.linear_backward(&w, Some(&v), gradient.view()).unwrap();
    out.push(("linear_backward", y.buffer().to_vec()));
    for (name, scale) in [("linear_gradients", None), ("linear_gradients scaled", Some(&v))] {
        let (mut ws, mut bs, mut ss) = (zeros(n, c), zeros(1, n), zeros(1, n));
        let layer = LinearParameters { weight: &w, bias: Some(&v), scale };
        let into = LinearGradients { weight: &mut ws, bias: Some(&mut bs), scale: scale.map(|_| &mut ss) };
        cpu.linear_gradients(x.view(), layer, gradient.view(), into).unwrap();
        out.push((name, [&ws.buffer()[..], bs.buffer(), ss.buffer()].concat()));
    }
    let (mut ws, mut bs) = (zeros(1, c), zeros(1, c));
    let into = NormGradients { weight: &mut ws, bias: &mut bs };
    let y =
        cpu.layer_norm_backward(x.view(), 1, Some(&z), 1e-5, x.view(), Some(x.view()), Some(into)).unwrap();
    out.push(("layer_norm_backward", [&y.buffer()[..], ws.buffer(), bs.buffer()].concat()));
    let attention = Attention {
        heads: 10,
        kv_heads: 10,
        scale: 0.3,
        soft_cap: Some(20.0),
        mask: AttentionMask::Full,
        operands: Operands::Exact,
    };
    let y = cpu.attention_backward(x.view(), x.view(), x.view(), &attention, x.view()).unwrap();
    out.push(("attention_backward", [&y.q.buffer()[..], y.k.buffer(), y.v.buffer()].concat()));
    let y = cpu.attention_each(x.view(), x.view(), x.view(), &attention, 50).unwrap();
    out.push(("attention_each", y.buffer().to_vec()));
    let y = cpu.attention_each_backward(x.view(), x.view(), x.view(), &attention, 50, x.view()).unwrap();
    out.push(("attention_each_backward", y.buffer().to_vec()));
    let taken: Vec<usize> = (0..3 * rows).map(|i| i / 3).collect();
    let factors = uniform(3 * rows, 6);
    let wide = cpu.gather_scaled(x.view(), &taken, &factors).unwrap();
    let y = cpu.gather_scaled_backward(wide.view(), &taken, &factors, rows).unwrap();
    out.push(("gather_scaled", [&wide.buffer()[..], y.buffer()].concat()));
    let square = cpu.sum_of_squares(gradient.view()).unwrap();
    out.push(("sum_of_squares", vec![square as f32, (square - f64::from(square as f32)) as f32]));
    let step = AdamwStep { rate: 0.1, betas: [0.9, 0.95], eps: 1e-8, decay: 0.1, step: 2, factor: 0.5 };
    let (mut parameter, to) = (w.clone(), cpu.parameter(&[n, c], &uniform(n * c, 7)).unwrap());
    let (g, mut first, mut second) =
        (cpu.upload(n, c, &uniform(n * c, 8)).unwrap(), zeros(n, c), zeros(n, c));
    cpu.adamw(&mut parameter, g.view(), &mut first, &mut second, &step).unwrap();
    cpu.lerp(&mut parameter, &to, 0.1).unwrap();
    out.push(("adamw", cpu.read(&parameter, n, c).unwrap().buffer().to_vec()));
    out
}

#[test]
fn threads_never_change_a_bit() {
    let mut failures = Failures::default();
    for isa in isas() {
        let want = everything(isa, 1);
        assert!(want.iter().all(|(_, numbers)| numbers.iter().any(|&x| x != 0.0)));
        for threads in [1, 2, 3, 4] {
            for ((name, got), (_, want)) in everything(isa, threads).iter().zip(&want) {
                failures.ensure(&format!("{} x{threads} {name}", isa.name()), got == want);
            }
        }
    }
    failures.finish();
}
