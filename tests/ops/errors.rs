//! Operands that do not fit are errors that name the operand, never panics.

use triplet::backend::{
    Activation, Attention, AttentionMask, Backend, Conv, Epilogue, Grid, Matrix, Operands, Resize,
};
use triplet::cpu::{Cpu, Isa};
use triplet::weights::Dtype;
use triplet::{Error, Result};

use crate::common::operands::weight;

fn operand(result: Result<Matrix<Cpu>>) -> &'static str {
    match result {
        Err(Error::Shape { operand, .. }) => operand,
        Err(other) => panic!("{other}"),
        Ok(matrix) => panic!("{}x{}", matrix.rows(), matrix.cols()),
    }
}

#[test]
fn every_operation_names_what_does_not_fit() {
    let cpu = Cpu::with_threads(1);
    let x = cpu.zeros(6, 4).unwrap();
    let x = x.view();
    let stored = |shape: &[usize]| weight(&cpu, shape, &vec![0.0; shape.iter().product()], (Dtype::F32, 0)).0;
    let grid = Grid { height: 2, width: 3 };
    let conv = Conv { stride: 1, padding: 0, depthwise: false };
    let none = || Epilogue::NONE;
    let (w, v4, v5) = (stored(&[5, 4]), stored(&[4]), stored(&[5]));

    assert_eq!(operand(cpu.linear(x, &stored(&[5, 3]), None, none())), "linear.weight");
    assert_eq!(operand(cpu.linear(x, &v4, None, none())), "linear.weight");
    assert_eq!(operand(cpu.linear(x, &w, Some(&v4), none())), "linear.bias");
    assert_eq!(operand(cpu.linear(x, &w, Some(&v5), Epilogue::residual(x, None))), "epilogue.residual");
    let wide = cpu.zeros(6, 5).unwrap();
    let scaled = Epilogue::residual(wide.view(), Some(&v4));
    assert_eq!(operand(cpu.linear(x, &w, None, scaled)), "epilogue.scale");
    let part = stored(&[5, 8]).column_range(2..6).unwrap();
    assert_eq!(operand(cpu.embedding(&part, &[0])), "weight");
    assert_eq!(operand(cpu.read(&part, 5, 4)), "weight");
    assert!(
        part.column_range(0..1).is_err() && w.column_range(0..5).is_err() && v4.column_range(0..1).is_err()
    );
    assert_eq!(operand(cpu.matmul(x, x, false)), "matmul.b");
    assert_eq!(operand(cpu.matmul(x, wide.view(), true)), "matmul.b");
    assert_eq!(operand(cpu.add(x, x.row_range(0..4).unwrap())), "add.b");
    assert_eq!(operand(cpu.add(x, x.row_range(0..0).unwrap())), "add.b");
    assert_eq!(operand(cpu.gated(x, wide.view(), Activation::Silu)), "gated.up");
    assert_eq!(operand(cpu.gather(x, &[6])), "gather.rows");
    assert_eq!(operand(cpu.embedding(&w, &[5])), "embedding.ids");
    assert_eq!(operand(cpu.embedding(&v4, &[0])), "embedding.table");
    assert_eq!(operand(cpu.read(&w, 3, 7)), "read.weight");
    assert_eq!(operand(cpu.read(&w, usize::MAX, 2)), "read.weight");
    assert_eq!(operand(cpu.upload(2, 2, &[0.0; 3])), "upload.data");
    assert_eq!(operand(cpu.layer_norm(x, 3, None, None, 1e-5)), "layer_norm.parts");
    assert_eq!(operand(cpu.layer_norm(x, 0, None, None, 1e-5)), "layer_norm.parts");
    assert_eq!(operand(cpu.layer_norm(x, 2, Some(&v4), None, 1e-5)), "layer_norm.weight");
    assert_eq!(operand(cpu.rms_norm(x, &v5, 1e-5)), "rms_norm.weight");
    assert_eq!(operand(cpu.group_norm(x, 3, &v4, &v4, 1e-5, Activation::Relu)), "group_norm.groups");
    assert_eq!(operand(cpu.group_norm(x, 0, &v4, &v4, 1e-5, Activation::Relu)), "group_norm.groups");
    assert_eq!(operand(cpu.group_norm(x, 2, &v4, &v5, 1e-5, Activation::Relu)), "group_norm.bias");
    assert_eq!(operand(cpu.rope(x, 1, 0, &[1.0])), "rope.frequencies");
    assert_eq!(operand(cpu.resize(x, Grid { height: 2, width: 2 }, grid, Resize::Nearest)), "resize.x");
    let empty = x.row_range(0..0).unwrap();
    let nowhere = Grid { height: 0, width: 3 };
    assert_eq!(operand(cpu.resize(empty, nowhere, grid, Resize::Bicubic)), "resize.to");

    assert_eq!(operand(cpu.conv2d(x, nowhere, &stored(&[1, 4, 1, 1]), None, conv, none())), "conv2d.x");
    assert_eq!(operand(cpu.conv2d(x, grid, &w, None, conv, none())), "conv2d.weight");
    assert_eq!(operand(cpu.conv2d(x, grid, &stored(&[1, 3, 1, 1]), None, conv, none())), "conv2d.weight");
    assert_eq!(operand(cpu.conv2d(x, grid, &stored(&[1, 4, 3, 1]), None, conv, none())), "conv2d.conv");
    let still = Conv { stride: 0, ..conv };
    assert_eq!(operand(cpu.conv2d(x, grid, &stored(&[1, 4, 1, 1]), None, still, none())), "conv2d.conv");
    let deep = Conv { depthwise: true, ..conv };
    assert_eq!(operand(cpu.conv2d(x, grid, &stored(&[5, 1, 1, 1]), None, deep, none())), "conv2d.weight");

    let heads = |heads, kv_heads| Attention {
        heads,
        kv_heads,
        scale: 1.0,
        soft_cap: None,
        mask: AttentionMask::Full,
        operands: Operands::Exact,
    };
    assert_eq!(operand(cpu.attention(x, x, x, &heads(0, 0))), "attention.kv_heads");
    assert_eq!(operand(cpu.attention(x, x, x, &heads(4, 3))), "attention.kv_heads");
    assert_eq!(operand(cpu.attention(x, x, x, &heads(3, 3))), "attention.q");
    assert_eq!(operand(cpu.attention(x, x, x, &heads(2, 1))), "attention.k");
    assert_eq!(operand(cpu.attention(x, x, x.row_range(0..5).unwrap(), &heads(2, 2))), "attention.v");

    let mut out = cpu.zeros(6, 4).unwrap();
    assert!(matches!(cpu.copy(x, &mut out, 1, 0), Err(Error::Shape { operand: "copy.x", .. })));
    assert!(matches!(cpu.copy(x, &mut out, usize::MAX, 0), Err(Error::Shape { operand: "copy.x", .. })));
}

#[test]
fn sizes_beyond_memory_are_errors() {
    let cpu = Cpu::with_threads(1);
    assert!(matches!(cpu.zeros(usize::MAX, 2), Err(Error::Limit { .. })));
    assert!(matches!(cpu.zeros(1 << 40, 1 << 20), Err(Error::Memory { .. })));
}

#[test]
fn instruction_sets_have_names() {
    for isa in Isa::ALL {
        assert_eq!(Isa::from_name(isa.name()), Some(isa));
    }
    assert_eq!(Isa::from_name("avx1024"), None);
    assert!(Isa::Portable.is_available());
    assert!(Isa::best().is_available());
    for isa in Isa::ALL.into_iter().filter(|isa| !isa.is_available()) {
        let refused = Cpu::with_threads(1).with_isa(isa);
        assert!(matches!(refused, Err(Error::Input { field: "isa", .. })));
    }
}
