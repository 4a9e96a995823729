//! Single operations: what memory and multipliers give, and attention.

use std::error::Error;
use std::sync::Arc;

use triplet::backend::{Attention, AttentionMask, Backend, Epilogue, Matrix, Operands, Weight};
use triplet::reference::{bytes, uniform};
use triplet::weights::{Dtype, Tensor};

use crate::Plan;
use crate::table::{Check, Table, Work, near};

/// How far a product or an attention may be from the CPU's.
const CLOSE: f64 = 1e-5;

pub fn time<B: Backend>(backend: &B, plan: &Plan, table: &mut Table) -> Result<(), Box<dyn Error>> {
    copy(backend, plan, table)?;
    product(backend, plan, table)?;
    for tokens in if plan.small { [17, 70, 130] } else { [577, 729, 1370] } {
        let name = format!("attention {tokens}");
        if table.wants(&name) {
            attention(backend, plan, tokens, &name, table)?;
        }
    }
    Ok(())
}

fn copy<B: Backend>(backend: &B, plan: &Plan, table: &mut Table) -> Result<(), Box<dyn Error>> {
    let (rows, cols) = (if plan.small { 256 } else { 16384 }, 4096);
    let line = uniform(cols, 1);
    let x = backend.written(rows, cols, &mut |out| {
        out.chunks_exact_mut(cols).for_each(|row| row.copy_from_slice(&line));
        Ok(())
    })?;
    let mut out = backend.zeros(rows, cols)?;
    backend.copy(x.view(), &mut out, 0, 0)?;
    let last = backend.download(out.view().row_range(rows - 1..rows)?)?;
    let check = if last == line { Check::Near(0.0) } else { Check::Wrong("other numbers".into()) };
    let moved = Work::Bytes((2 * rows * cols * size_of::<f32>()) as f64);
    table.time(backend, "copy", moved, check, || {
        backend.copy(x.view(), &mut out, 0, 0)?;
        Ok(backend.zeros(1, 1)?)
    })
}

fn product<B: Backend>(backend: &B, plan: &Plan, table: &mut Table) -> Result<(), Box<dyn Error>> {
    let size = if plan.small { 128 } else { 4096 };
    let x = uniform(size * size, 2);
    let on_device = backend.upload(size, size, &x)?;
    let matrix = weight(backend, size)?;
    let out = backend.linear(on_device.view(), &matrix, None, Epilogue::NONE)?;
    // A few rows are enough to compare.
    let rows = 64.min(size);
    let got = backend.download(out.view().row_range(0..rows)?)?;
    let x = plan.cpu.upload(rows, size, &x[..rows * size])?;
    let want = plan.cpu.linear(x.view(), &weight(&plan.cpu, size)?, None, Epilogue::NONE)?;
    let check = near(&got, &plan.cpu.download(want.view())?, CLOSE);
    let operations = Work::Operations(2.0 * (size as f64).powi(3));
    table.time(backend, "product", operations, check, || {
        Ok(backend.linear(on_device.view(), &matrix, None, Epilogue::NONE)?)
    })
}

fn weight<B: Backend>(backend: &B, size: usize) -> Result<Weight<B>, Box<dyn Error>> {
    let (stored, _) = bytes(&uniform(size * size, 3), Dtype::F16);
    let range = 0..stored.len();
    let tensor = Tensor::new("weight".into(), Dtype::F16, vec![size, size], Arc::new(stored), range)?;
    Ok(Weight::new(backend.store(&tensor)?, &[size, size]))
}

/// 16 heads of 64 columns, every token to every token.
fn attention<B: Backend>(
    backend: &B,
    plan: &Plan,
    tokens: usize,
    name: &str,
    table: &mut Table,
) -> Result<(), Box<dyn Error>> {
    let [q, k, v] = operands(backend, tokens)?;
    let got = attend(backend, [&q, &k, &v])?;
    let got = backend.download(got.view())?;
    let [a, b, c] = operands(&plan.cpu, tokens)?;
    let want = attend(&plan.cpu, [&a, &b, &c])?;
    let check = near(&got, &plan.cpu.download(want.view())?, CLOSE);
    let operations = Work::Operations(4.0 * (tokens as f64).powi(2) * WIDTH as f64);
    table.time(backend, name, operations, check, || attend(backend, [&q, &k, &v]))
}

const HEADS: usize = 16;
const WIDTH: usize = HEADS * 64;

fn operands<B: Backend>(backend: &B, tokens: usize) -> Result<[Matrix<B>; 3], Box<dyn Error>> {
    let matrix = |seed| backend.upload(tokens, WIDTH, &uniform(tokens * WIDTH, seed));
    Ok([matrix(4)?, matrix(5)?, matrix(6)?])
}

fn attend<B: Backend>(backend: &B, [q, k, v]: [&Matrix<B>; 3]) -> Result<Matrix<B>, Box<dyn Error>> {
    let attention = Attention {
        heads: HEADS,
        kv_heads: HEADS,
        scale: 0.125,
        soft_cap: None,
        mask: AttentionMask::Full,
        operands: Operands::Exact,
    };
    Ok(backend.attention(q.view(), k.view(), v.view(), &attention)?)
}
