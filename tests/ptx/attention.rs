//! Attention: whole, in runs that `attention_merge` joins, grouped, causal, with a window, capped.

use triplet::backend::{Attention, AttentionMask, Operands};
use triplet::reference;

use super::launch::{Arg, Kernels};
use super::memory::Memory;
use super::operand::{check, output};
use Arg::{Address, Number, Single};

/// An attention layer: queries, keys, heads, key-value heads, widths of keys and values, mask, soft cap, gap between rows.
#[derive(Clone, Copy)]
struct Case {
    queries: usize,
    keys: usize,
    heads: [usize; 2],
    widths: [usize; 2],
    mask: AttentionMask,
    soft_cap: Option<f32>,
    gap: usize,
}

const FULL: AttentionMask = AttentionMask::Full;

fn causal(first: usize, window: Option<usize>) -> AttentionMask {
    AttentionMask::Causal { first, window }
}

fn cases() -> Vec<Case> {
    let case = |queries, keys, heads, widths, mask, soft_cap, gap| Case {
        queries,
        keys,
        heads,
        widths,
        mask,
        soft_cap,
        gap,
    };
    // All widths of values at which a lane's last column is the last one.
    let wide = (1..=8).map(|i| case(5, 33, [1, 1], [1, 32 * i], FULL, None, 0));
    let mut cases = vec![
        case(1, 1, [1, 1], [1, 1], FULL, None, 0),
        case(3, 33, [2, 2], [8, 8], FULL, None, 0),
        case(17, 40, [2, 1], [20, 12], FULL, None, 4),
        case(5, 150, [2, 2], [7, 5], FULL, Some(2.0), 1),
        case(19, 19, [1, 1], [16, 16], causal(0, None), None, 0),
        case(4, 140, [4, 2], [16, 33], causal(136, None), None, 3),
        case(18, 300, [1, 1], [4, 4], causal(270, Some(20)), None, 0),
        case(3, 5, [1, 1], [8, 8], causal(0, Some(0)), None, 0),
        case(2, 70, [1, 1], [140, 70], FULL, None, 4),
        case(9, 40, [1, 1], [3, 250], causal(35, None), None, 2),
        case(5, 130, [1, 1], [5, 241], FULL, None, 0),
    ];
    cases.extend(wide);
    cases
}

/// [`whole`] and [`merged`].
pub fn both(kernels: &Kernels) -> Result<(), String> {
    whole(kernels)?;
    merged(kernels)
}

/// How a case is launched.
#[derive(Clone, Copy, PartialEq)]
enum How {
    /// By `attention`.
    Whole,
    /// By `attention` with its keys in runs of their own, and `attention_merge`.
    Merged,
    /// By a kernel of tensor cores.
    TensorCores(&'static str),
}

/// Runs a case; gives the output's bits.
fn run(kernels: &Kernels, case: Case, how: How, name: &str) -> Result<Vec<f32>, String> {
    let Case { queries, keys, heads: [heads, kv_heads], widths: [d, e], mask, soft_cap, gap } = case;
    let memory = Memory::new();
    let random = |rows: usize, cols: usize, seed: u64| -> Vec<f32> {
        reference::uniform(rows * cols, seed).iter().map(|x| 2.0 * x).collect()
    };
    let q = random(queries, heads * d, 41);
    let (mut k, mut v) = (random(keys, kv_heads * d, 42), random(keys, kv_heads * e, 43));
    if mask != FULL && !matches!(how, How::TensorCores(_)) {
        // Rows that do not see the last key must not meet it.
        k[(keys - 1) * kv_heads * d..].fill(f32::NAN);
        v[(keys - 1) * kv_heads * e..].fill(f32::NAN);
    }
    let scale = 1.0 / (d as f32).sqrt();
    let out = output(&memory, queries * heads * e);
    let splits = if how == How::Merged { keys.div_ceil(128) } else { 1 };
    let partial = if splits > 1 { output(&memory, splits * queries * heads * (e + 2)) } else { 0 };
    let (is_causal, first, window) = match mask {
        AttentionMask::Full => (0, 0, None),
        AttentionMask::Causal { first, window } => (1, first, window),
    };
    let args = [
        Address(out),
        Address(memory.matrix(&q, heads * d, heads * d + gap, if queries.is_multiple_of(2) { 0 } else { 4 })),
        Address(memory.matrix(&k, kv_heads * d, kv_heads * d + gap, 0)),
        Address(memory.matrix(&v, kv_heads * e, kv_heads * e + gap, 0)),
        Address(partial),
        Number(queries),
        Number(keys),
        Number(heads),
        Number(kv_heads),
        Number(d),
        Number(e),
        Number(heads * d + gap),
        Number(kv_heads * d + gap),
        Number(kv_heads * e + gap),
        Number(is_causal),
        Number(first),
        Number(window.unwrap_or(u32::MAX as usize)),
        Single(scale),
        Single(soft_cap.unwrap_or(0.0)),
    ];
    let width = d.max(e).next_multiple_of(32);
    let threads = if width <= 128 { 128 } else { 64 };
    let rows = threads / 8;
    let dynamic = 4 * ((rows + 32) * width + 32 * rows);
    let shared = queries * heads / kv_heads;
    match how {
        How::TensorCores(kernel) => {
            let grid = [shared.div_ceil(64), kv_heads, 1];
            kernels.launch(kernel, grid, 128, 0, &args, &memory)?;
        }
        _ => {
            let grid = [shared.div_ceil(rows), kv_heads, splits];
            kernels.launch("attention", grid, threads, dynamic, &args, &memory)?;
        }
    }
    if splits > 1 {
        let rows = queries * heads;
        let args = [Address(out), Address(partial), Number(rows), Number(e), Number(splits)];
        kernels.launch("attention_merge", [(rows * e).div_ceil(256), 1, 1], 256, 0, &args, &memory)?;
    }
    let parameters = Attention { heads, kv_heads, scale, soft_cap, mask, operands: Operands::Exact };
    let want = reference::attention(&q, &k, &v, [queries, keys], &parameters);
    check(&memory, out, &want, reference::ATTENTION, name)?;
    memory.read_f32(out, queries * heads * e)
}

/// Every case whole.
pub fn whole(kernels: &Kernels) -> Result<(), String> {
    for (i, case) in cases().into_iter().enumerate() {
        run(kernels, case, How::Whole, &format!("attention case {i}"))?;
    }
    Ok(())
}

/// Cases of more than a run, whose runs `attention_merge` joins to the same bits.
pub fn merged(kernels: &Kernels) -> Result<(), String> {
    for (i, case) in cases().into_iter().enumerate().filter(|(_, case)| case.keys > 128) {
        let whole = run(kernels, case, How::Whole, &format!("attention case {i}"))?;
        let merged = run(kernels, case, How::Merged, &format!("attention case {i}, merged"))?;
        if whole.iter().zip(&merged).any(|(a, b)| a.to_bits() != b.to_bits()) {
            return Err(format!("attention case {i}: joined runs give other bits"));
        }
    }
    Ok(())
}

/// `attention_sm80`.
pub fn attention_sm80(kernels: &Kernels) -> Result<(), String> {
    tensor_cores(kernels, "attention_sm80")
}

/// `attention_sm75`.
pub fn attention_sm75(kernels: &Kernels) -> Result<(), String> {
    tensor_cores(kernels, "attention_sm75")?;
    of_all_sizes(kernels, 0.0).map(|_| ())
}

/// Cases of narrow heads on tensor cores, one of them with more rows than a block has.
fn tensor_cores(kernels: &Kernels, name: &'static str) -> Result<(), String> {
    let wide = Case {
        queries: 70,
        keys: 35,
        heads: [2, 1],
        widths: [60, 64],
        mask: causal(0, Some(9)),
        soft_cap: None,
        gap: 2,
    };
    let narrow = cases().into_iter().filter(|case| case.widths.iter().all(|&width| width <= 64));
    // Every width, so that each of a lane's columns is the last one or the first beyond, with rows that allow wide loads where the width
    // does, and those widths again with rows that do not; keys likewise.
    let packed = (1..=64).map(|width| (width, width / 2 + 1, 0));
    let apart = (1..=16).map(|i| (4 * i, 33 + i % 3, 1));
    let every = packed.chain(apart).map(|(width, keys, gap)| {
        let (heads, widths) = ([1, 1], [width, width]);
        Case { queries: 10, keys, heads, widths, mask: FULL, soft_cap: None, gap }
    });
    for (i, case) in narrow.chain([wide]).chain(every).enumerate() {
        run(kernels, case, How::TensorCores(name), &format!("{name} case {i}"))?;
    }
    Ok(())
}

/// A row's bits are the same whatever lies beyond the keys that it sees, and with rows of queries, keys and values of very different sizes
/// it is right by its own measure.
fn of_all_sizes(kernels: &Kernels, beyond: f32) -> Result<Vec<f32>, String> {
    let (keys, d) = (40, 24);
    let memory = Memory::new();
    let sized = |seed: u64, step: i32| -> Vec<f32> {
        let mut numbers = reference::uniform(keys * d, seed);
        for (row, numbers) in numbers.chunks_exact_mut(d).enumerate() {
            let power = 2f32.powi((row % 7) as i32 * step - 20);
            numbers.iter_mut().for_each(|x| *x *= power);
        }
        numbers
    };
    // The larger a query, the smaller its keys may be: scores stay in a range that weights can show.
    let (q, mut k, mut v) = (sized(51, 4), sized(52, 5), sized(53, 6));
    k[30 * d..].fill(beyond);
    v[30 * d..].fill(beyond);
    let out = output(&memory, 30 * d);
    let args = [
        Address(out),
        Address(memory.matrix(&q, d, d, 0)),
        Address(memory.matrix(&k, d, d, 0)),
        Address(memory.matrix(&v, d, d, 0)),
        Address(0),
        Number(30),
        Number(keys),
        Number(1),
        Number(1),
        Number(d),
        Number(d),
        Number(d),
        Number(d),
        Number(d),
        Number(1),
        Number(0),
        Number(u32::MAX as usize),
        Single(1.0),
        Single(0.0),
    ];
    kernels.launch("attention_sm75", [1, 1, 1], 128, 0, &args, &memory)?;
    let mask = causal(0, None);
    let parameters =
        Attention { heads: 1, kv_heads: 1, scale: 1.0, soft_cap: None, mask, operands: Operands::Exact };
    let want = reference::attention(&q[..30 * d], &k, &v, [30, keys], &parameters);
    let got = memory.read_f32(out, 30 * d)?;
    for (row, (got, want)) in got.chunks_exact(d).zip(want.chunks_exact(d)).enumerate() {
        let largest = want.iter().fold(0f64, |most, x| most.max(x.abs()));
        let close = got.iter().zip(want).all(|(got, want)| (f64::from(*got) - want).abs() <= 4e-6 * largest);
        if !close {
            return Err(format!(
                "attention_sm75 of all sizes: row {row} is {got:?} where {want:?} is expected"
            ));
        }
    }
    Ok(got)
}

#[test]
fn attention() {
    for check in [whole, merged, attention_sm80, attention_sm75] {
        check(&Kernels::new(6)).unwrap();
        check(&Kernels::new(106)).unwrap();
    }
}

#[test]
fn a_row_has_the_same_bits_in_any_batch() {
    let kernels = Kernels::new(7);
    let case = Case {
        queries: 20,
        keys: 20,
        heads: [1, 1],
        widths: [8, 8],
        mask: causal(0, None),
        soft_cap: None,
        gap: 0,
    };
    let all = run(&kernels, case, How::Whole, "all").unwrap();
    let few = run(&kernels, Case { queries: 3, ..case }, How::Whole, "few").unwrap();
    assert_eq!(all[..24], few[..]);
    let [zeros, large] = [0.0, 1e30].map(|beyond| of_all_sizes(&kernels, beyond).unwrap());
    assert_eq!(zeros, large);
}
