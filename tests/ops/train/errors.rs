//! Operands that do not fit are errors that name the operand.

use triplet::backend::{
    Activation, AdamwStep, Attention, AttentionMask, Backend, LinearGradients, LinearParameters,
    NormGradients, Operands, Train,
};
use triplet::{Cpu, Error, Result};

fn operand<T>(result: Result<T>) -> &'static str {
    match result {
        Err(Error::Shape { operand, .. }) => operand,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("was accepted"),
    }
}

#[test]
fn every_operation_names_what_does_not_fit() {
    let cpu = Cpu::with_threads(1);
    let zeros = |rows, cols| cpu.zeros(rows, cols).unwrap();
    let parameter = |shape: &[usize]| cpu.parameter(shape, &vec![0.0; shape.iter().product()]).unwrap();
    let (x, g) = (zeros(6, 4), zeros(6, 5));
    let (x, g) = (x.view(), g.view());
    let (w, v4, v5) = (parameter(&[5, 4]), parameter(&[4]), parameter(&[5]));

    assert_eq!(operand(cpu.parameter(&[2, 3], &[0.0; 5])), "parameter.data");
    assert_eq!(operand(cpu.activate_backward(x, Activation::Gelu, g)), "activate_backward.gradient");
    assert_eq!(operand(cpu.add_backward(g, &mut zeros(4, 5))), "add_backward.b");
    assert_eq!(operand(cpu.add_backward(g, &mut zeros(1, 4))), "add_backward.b");
    assert_eq!(operand(cpu.linear_backward(&w, None, x)), "linear_backward.weight");
    assert_eq!(operand(cpu.linear_backward(&v5, None, g)), "linear_backward.weight");
    assert_eq!(operand(cpu.linear_backward(&w, Some(&v4), g)), "linear_backward.scale");

    let gradients = |x, g, bias, scale, weight: [usize; 2], with: [bool; 2]| {
        let (mut weight, mut b, mut s) = (zeros(weight[0], weight[1]), zeros(1, 5), zeros(1, 5));
        let into = LinearGradients {
            weight: &mut weight,
            bias: with[0].then_some(&mut b),
            scale: with[1].then_some(&mut s),
        };
        operand(cpu.linear_gradients(x, LinearParameters { weight: &w, bias, scale }, g, into))
    };
    assert_eq!(gradients(x, x, None, None, [5, 4], [false; 2]), "linear_gradients.weight");
    let five = g.row_range(0..5).unwrap();
    assert_eq!(gradients(x, five, None, None, [5, 4], [false; 2]), "linear_gradients.gradient");
    assert_eq!(gradients(x, g, None, None, [4, 5], [false; 2]), "linear_gradients.into.weight");
    assert_eq!(gradients(x, g, None, None, [5, 4], [true, false]), "linear_gradients.into.bias");
    assert_eq!(gradients(x, g, Some(&v4), None, [5, 4], [true, false]), "linear_gradients.into.bias");
    assert_eq!(gradients(x, g, None, Some(&v5), [5, 4], [false; 2]), "linear_gradients.into.scale");

    let norm = |parts, weight, residual, into: Option<[usize; 2]>| {
        let mut sums = into.map(|[a, b]| (zeros(1, a), zeros(1, b)));
        let into = sums.as_mut().map(|(weight, bias)| NormGradients { weight, bias });
        operand(cpu.layer_norm_backward(x, parts, weight, 1e-5, x, residual, into))
    };
    assert_eq!(norm(3, None, None, None), "layer_norm.parts");
    assert_eq!(norm(1, Some(&v5), None, None), "layer_norm.weight");
    assert_eq!(norm(1, None, Some(g), None), "layer_norm_backward.residual");
    assert_eq!(norm(2, None, None, Some([4, 2])), "layer_norm_backward.into.weight");
    assert_eq!(norm(2, None, None, Some([2, 4])), "layer_norm_backward.into.bias");

    let attention = Attention {
        heads: 2,
        kv_heads: 2,
        scale: 1.0,
        soft_cap: None,
        mask: AttentionMask::Full,
        operands: Operands::Exact,
    };
    assert_eq!(operand(cpu.attention_backward(x, x, x, &attention, g)), "attention_backward.gradient");
    assert_eq!(operand(cpu.attention_backward(x, g, x, &attention, x)), "attention.k");
    assert_eq!(operand(cpu.attention_each(x, x, x, &attention, 4)), "attention_each.tokens");
    assert_eq!(operand(cpu.attention_each(x, x, x, &attention, 0)), "attention_each.tokens");
    let half = x.row_range(0..3).unwrap();
    assert_eq!(operand(cpu.attention_each(x, half, half, &attention, 3)), "attention_each.k");
    let by = |gradient| operand(cpu.attention_each_backward(x, x, x, &attention, 3, gradient));
    assert_eq!(by(g), "attention_backward.gradient");
    assert_eq!(operand(cpu.attention_each_backward(x, x, x, &attention, 4, x)), "attention_each.tokens");
    assert_eq!(operand(cpu.gather_scaled(x, &[6], &[1.0])), "gather_scaled.rows");
    assert_eq!(operand(cpu.gather_scaled(x, &[5], &[])), "gather_scaled.factors");
    assert_eq!(
        operand(cpu.gather_scaled_backward(x, &[0; 5], &[1.0; 5], 1)),
        "gather_scaled_backward.gradient"
    );
    assert_eq!(operand(cpu.gather_scaled_backward(x, &[1; 6], &[1.0; 6], 1)), "gather_scaled.rows");

    let step = AdamwStep { rate: 0.1, betas: [0.9, 0.95], eps: 1e-8, decay: 0.1, step: 1, factor: 1.0 };
    let (mut p, mut good, mut bad) = (parameter(&[6, 4]), zeros(6, 4), zeros(4, 6));
    assert_eq!(operand(cpu.adamw(&mut p, g, &mut good, &mut bad, &step)), "adamw.weight");
    assert_eq!(operand(cpu.adamw(&mut p, x, &mut bad, &mut zeros(6, 4), &step)), "adamw.first");
    assert_eq!(operand(cpu.adamw(&mut p, x, &mut good, &mut bad, &step)), "adamw.second");
    assert_eq!(operand(cpu.lerp(&mut p, &w, 0.5)), "lerp.to");
}
