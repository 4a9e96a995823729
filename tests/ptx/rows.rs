//! Kernels that treat elements or rows by themselves: copy, embedding, add, activate, is_finite.

use triplet::reference;

use super::launch::{Arg, Kernels};
use super::memory::Memory;
use super::operand::{ACTIVATIONS, Stored, TYPES, check, output};
use Arg::{Address, Number};

fn blocks(len: usize) -> [usize; 3] {
    [len.div_ceil(256), 1, 1]
}

/// `copy` of every type, into the middle of a larger output.
pub fn copy(kernels: &Kernels) -> Result<(), String> {
    for (rows, cols, x_stride, out_stride) in
        [(1, 1, 1, 1), (3, 5, 7, 9), (7, 37, 37, 40), (2, 256, 300, 256)]
    {
        for kind in TYPES {
            let memory = Memory::new();
            let x = Stored::new(&memory, (rows - 1) * x_stride + cols, 1, kind, true);
            let out = output(&memory, rows * out_stride);
            let args = [
                Address(out),
                x.at(),
                x.kind(),
                Number(rows),
                Number(cols),
                Number(out_stride),
                Number(x_stride),
            ];
            kernels.launch("copy", blocks(rows * cols), 256, 0, &args, &memory)?;
            let case = format!("copy {rows}x{cols} {:?}", kind.0);
            for row in 0..rows {
                let want: Vec<f64> =
                    x.numbers[row * x_stride..][..cols].iter().map(|&x| f64::from(x)).collect();
                check(&memory, out + 4 * (row * out_stride) as u64, &want, reference::EMBEDDING, &case)?;
            }
            if memory.written(out) != 4 * rows * cols {
                return Err(format!("{case}: writes beyond the rows"));
            }
        }
    }
    Ok(())
}

/// `embedding` of every type, with repeated rows.
pub fn embedding(kernels: &Kernels) -> Result<(), String> {
    for (entries, cols, stride, ids) in
        [(1, 1, 1, &[0][..]), (5, 37, 37, &[4, 0, 4, 2]), (9, 130, 133, &[8, 3, 8, 8, 0, 1])]
    {
        for kind in TYPES {
            let memory = Memory::new();
            let table = Stored::new(&memory, (entries - 1) * stride + cols, 2, kind, true);
            let places = memory.words(ids);
            let out = output(&memory, ids.len() * cols);
            let args = [
                Address(out),
                table.at(),
                Address(places),
                table.kind(),
                Number(ids.len()),
                Number(cols),
                Number(stride),
            ];
            kernels.launch("embedding", blocks(ids.len() * cols), 256, 0, &args, &memory)?;
            let want: Vec<f64> = ids
                .iter()
                .flat_map(|&id| &table.numbers[id as usize * stride..][..cols])
                .map(|&x| f64::from(x))
                .collect();
            check(&memory, out, &want, reference::EMBEDDING, &format!("embedding {cols} {:?}", kind.0))?;
        }
    }
    Ok(())
}

/// `add` with repetition.
pub fn add(kernels: &Kernels) -> Result<(), String> {
    for (rows, cols, a_stride, b_stride, b_rows) in
        [(1, 1, 1, 1, 1), (6, 37, 40, 39, 3), (4, 129, 129, 200, 4), (5, 64, 70, 64, 1)]
    {
        let memory = Memory::new();
        let (a, b) = (reference::uniform(rows * cols, 3), reference::uniform(b_rows * cols, 4));
        let out = output(&memory, rows * cols);
        let args = [
            Address(out),
            Address(memory.matrix(&a, cols, a_stride, 4)),
            Address(memory.matrix(&b, cols, b_stride, 8)),
            Number(rows),
            Number(cols),
            Number(a_stride),
            Number(b_stride),
            Number(b_rows),
        ];
        kernels.launch("add", blocks(rows * cols), 256, 0, &args, &memory)?;
        check(&memory, out, &reference::add(&a, &b), reference::ADD, &format!("add {rows}x{cols}"))?;
    }
    Ok(())
}

/// `activate`, every function, alone and times a second operand; special numbers too.
pub fn activate(kernels: &Kernels) -> Result<(), String> {
    for (rows, cols, stride) in [(1, 1, 1), (5, 67, 71)] {
        for (code, function) in ACTIVATIONS.into_iter().enumerate() {
            for gated in [false, true] {
                let memory = Memory::new();
                let mut gate: Vec<f32> = reference::uniform(rows * cols, 5).iter().map(|x| x * 8.0).collect();
                if cols > 60 {
                    for (i, x) in [0.0, -0.0, 0.6249, -0.6251, 20.0, -20.0, 100.0, -100.0, f32::NAN, 1e-30]
                        .into_iter()
                        .enumerate()
                    {
                        gate[i] = x;
                    }
                }
                let up = reference::uniform(rows * cols, 6);
                let out = output(&memory, rows * cols);
                let second = if gated { memory.matrix(&up, cols, stride + 2, 4) } else { 0 };
                let args = [
                    Address(out),
                    Address(memory.matrix(&gate, cols, stride, 0)),
                    Address(second),
                    Number(rows),
                    Number(cols),
                    Number(stride),
                    Number(stride + 2),
                    Number(code),
                ];
                kernels.launch("activate", blocks(rows * cols), 256, 0, &args, &memory)?;
                let want = match gated {
                    true => reference::gated(&gate, &up, function),
                    false => reference::activate(&gate, function),
                };
                check(
                    &memory,
                    out,
                    &want,
                    reference::ACTIVATE,
                    &format!("activate {function:?} {rows}x{cols} {gated}"),
                )?;
            }
        }
    }
    Ok(())
}

/// `is_finite`, one bad element anywhere.
pub fn is_finite(kernels: &Kernels) -> Result<(), String> {
    let (rows, cols, stride) = (5, 67, 70);
    let largest = f32::MAX;
    let cases = [
        (None, 0.0),
        (Some(0), f32::NAN),
        (Some(rows * cols - 1), f32::INFINITY),
        (Some(255), f32::NEG_INFINITY),
        (Some(256), f32::NAN),
        (Some(40), largest),
    ];
    for (at, bad) in cases {
        let memory = Memory::new();
        let mut x = reference::uniform(rows * cols, 7);
        if let Some(at) = at {
            x[at] = bad;
        }
        let flag = memory.zeros(1);
        let args = [
            Address(flag),
            Address(memory.matrix(&x, cols, stride, 4)),
            Number(rows),
            Number(cols),
            Number(stride),
        ];
        kernels.launch("is_finite", blocks(rows * cols), 256, 0, &args, &memory)?;
        let want = u32::from(at.is_some() && !bad.is_finite());
        if memory.read(flag, 1)? != [want] {
            return Err(format!("is_finite: {bad} at {at:?} gives another flag than {want}"));
        }
    }
    Ok(())
}

#[test]
fn rows_by_themselves() {
    for check in [copy, embedding, add, activate, is_finite] {
        check(&Kernels::new(1)).unwrap();
        check(&Kernels::new(101)).unwrap();
    }
}
