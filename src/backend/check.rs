//! Shape checks, one function per operation: what every backend calls before it computes.
//!
//! Each returns [`Error::Shape`] naming operand and sizes, or the sizes that the backend needs next.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::string::String;

use super::{Attention, Backend, CacheType, Conv, Epilogue, Grid, Matrix, View, Weight};
use crate::checked::quotient;
use crate::error::{Error, Result};

pub(super) fn ensure(holds: bool, operand: &'static str, reason: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Shape { operand, reason: reason() }) }
}

pub(super) fn same<B: Backend>(operand: &'static str, x: View<B>, rows: usize, cols: usize) -> Result<()> {
    ensure(x.rows() == rows && x.cols() == cols, operand, || {
        format!("{}x{} where {rows}x{cols} is needed", x.rows(), x.cols())
    })
}

/// A weight used as a vector of `len` elements, whatever its dimensions.
pub(super) fn vector<B: Backend>(
    operand: &'static str,
    weight: Option<&Weight<B>>,
    len: usize,
) -> Result<()> {
    weight.map_or(Ok(()), |weight| {
        ensure(
            weight.shape().iter().try_fold(1usize, |n, &dim| n.checked_mul(dim)) == Some(len),
            operand,
            || format!("shape {:?} where {len} elements are needed", weight.shape()),
        )
    })
}

fn epilogue<B: Backend>(epilogue: &Epilogue<B>, rows: usize, cols: usize) -> Result<()> {
    vector("epilogue.scale", epilogue.scale, cols)?;
    epilogue.residual.map_or(Ok(()), |residual| same("epilogue.residual", residual, rows, cols))
}

/// [`Backend::upload`].
///
/// # Errors
/// [`Error::Shape`].
pub fn upload(rows: usize, cols: usize, len: usize) -> Result<()> {
    ensure(rows.checked_mul(cols) == Some(len), "upload.data", || format!("{len} elements for {rows}x{cols}"))
}

/// [`Backend::download_to`].
///
/// # Errors
/// [`Error::Shape`].
pub fn download<B: Backend>(x: View<B>, len: usize) -> Result<()> {
    ensure(x.rows().checked_mul(x.cols()) == Some(len), "download.out", || {
        format!("{len} elements for {}x{}", x.rows(), x.cols())
    })
}

/// [`Backend::mask_pixels`].
///
/// # Errors
/// [`Error::Shape`].
pub fn mask_pixels<B: Backend>(maps: View<B>, grid: Grid) -> Result<()> {
    ensure(maps.cols() == grid.cells() && grid.cells() > 0, "mask_pixels.maps", || {
        format!("{} values for a grid of {}x{}", maps.cols(), grid.height, grid.width)
    })
}

/// [`Backend::select_token`].
///
/// # Errors
/// [`Error::Shape`].
pub fn select_token<B: Backend>(logits: View<B>) -> Result<()> {
    ensure(logits.rows() == 1 && u32::try_from(logits.cols()).is_ok(), "select_token.logits", || {
        format!("{}x{} where one row is needed", logits.rows(), logits.cols())
    })
}

/// [`Backend::read`].
///
/// # Errors
/// [`Error::Shape`].
pub fn read<B: Backend>(weight: &Weight<B>, rows: usize, cols: usize) -> Result<()> {
    let needed = rows.checked_mul(cols);
    let elements = weight.shape().iter().try_fold(1usize, |n, &dim| n.checked_mul(dim));
    ensure(needed.is_some() && needed == elements, "read.weight", || {
        format!("shape {:?} as {rows}x{cols}", weight.shape())
    })
}

/// [`Backend::copy`].
///
/// # Errors
/// [`Error::Shape`].
pub fn copy<B: Backend>(x: View<B>, out: &Matrix<B>, row: usize, col: usize) -> Result<()> {
    let fits = |at: usize, len: usize, of: usize| at.checked_add(len).is_some_and(|end| end <= of);
    ensure(fits(row, x.rows(), out.rows()) && fits(col, x.cols(), out.cols()), "copy.x", || {
        format!("{}x{} at ({row}, {col}) of {}x{}", x.rows(), x.cols(), out.rows(), out.cols())
    })
}

/// [`Backend::gather`].
///
/// # Errors
/// [`Error::Shape`].
pub fn gather<B: Backend>(x: View<B>, rows: &[usize]) -> Result<()> {
    let beyond = rows.iter().find(|&&row| row >= x.rows());
    beyond.map_or(Ok(()), |row| ensure(false, "gather.rows", || format!("row {row} of {} rows", x.rows())))
}

/// [`Backend::embedding`]; returns the number of columns.
///
/// # Errors
/// [`Error::Shape`].
pub fn embedding<B: Backend>(table: &Weight<B>, ids: &[u32]) -> Result<usize> {
    let &[entries, cols] = table.shape() else {
        let reason = format!("shape {:?} where [entries, cols] is needed", table.shape());
        return Err(Error::Shape { operand: "embedding.table", reason });
    };
    let beyond = ids.iter().find(|&&id| usize::try_from(id).map_or(true, |id| id >= entries));
    beyond.map_or(Ok(cols), |id| {
        ensure(false, "embedding.ids", || format!("id {id} of {entries}")).map(|()| cols)
    })
}

/// [`Backend::add`].
///
/// # Errors
/// [`Error::Shape`].
pub fn add<B: Backend>(a: View<B>, b: View<B>) -> Result<()> {
    let repeats = a.rows().is_multiple_of(b.rows());
    ensure(repeats && a.cols() == b.cols(), "add.b", || {
        format!("{}x{} onto {}x{}", b.rows(), b.cols(), a.rows(), a.cols())
    })
}

/// [`Backend::gated`].
///
/// # Errors
/// [`Error::Shape`].
pub fn gated<B: Backend>(gate: View<B>, up: View<B>) -> Result<()> {
    same("gated.up", up, gate.rows(), gate.cols())
}

/// [`Backend::linear`]; returns the number of output columns.
///
/// # Errors
/// [`Error::Shape`].
pub fn linear<B: Backend>(
    x: View<B>,
    weight: &Weight<B>,
    bias: Option<&Weight<B>>,
    after: &Epilogue<B>,
) -> Result<usize> {
    let shape = weight.shape();
    let k = shape.get(1..).and_then(|rest| rest.iter().try_fold(1usize, |k, &dim| k.checked_mul(dim)));
    ensure(shape.len() >= 2 && k == Some(x.cols()), "linear.weight", || {
        format!("shape {shape:?} for {} columns of x", x.cols())
    })?;
    let n = shape.first().copied().unwrap_or(0);
    vector("linear.bias", bias, n)?;
    epilogue(after, x.rows(), n)?;
    Ok(n)
}

/// [`Backend::matmul`]; returns the number of output columns.
///
/// # Errors
/// [`Error::Shape`].
pub fn matmul<B: Backend>(a: View<B>, b: View<B>, transpose_b: bool) -> Result<usize> {
    let (k, n) = if transpose_b { (b.cols(), b.rows()) } else { (b.rows(), b.cols()) };
    ensure(a.cols() == k, "matmul.b", || {
        format!("{}x{} (transposed: {transpose_b}) for {} columns of a", b.rows(), b.cols(), a.cols())
    })?;
    Ok(n)
}

/// Sizes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvSizes {
    /// Height and width of the kernel.
    pub kernel: Grid,
    /// Output channels.
    pub channels: usize,
    /// Output cells.
    pub output: Grid,
}

/// [`Backend::conv2d`].
///
/// # Errors
/// [`Error::Shape`].
pub fn conv2d<B: Backend>(
    x: View<B>,
    grid: Grid,
    weight: &Weight<B>,
    bias: Option<&Weight<B>>,
    conv: Conv,
    after: &Epilogue<B>,
) -> Result<ConvSizes> {
    ensure(grid.height.checked_mul(grid.width) == Some(x.rows()), "conv2d.x", || {
        format!("{} rows for {}x{} cells", x.rows(), grid.height, grid.width)
    })?;
    let &[channels, inputs, height, width] = weight.shape() else {
        let reason = format!("shape {:?} where [c_out, c_in, kh, kw] is needed", weight.shape());
        return Err(Error::Shape { operand: "conv2d.weight", reason });
    };
    let fits = if conv.depthwise { inputs == 1 && channels == x.cols() } else { inputs == x.cols() };
    ensure(fits && height > 0 && width > 0, "conv2d.weight", || {
        format!("shape {:?} (depthwise: {}) for {} channels", weight.shape(), conv.depthwise, x.cols())
    })?;
    let kernel = Grid { height, width };
    let output = conv.output(grid, kernel).filter(|output| output.height.checked_mul(output.width).is_some());
    let output = output.ok_or_else(|| Error::Shape {
        operand: "conv2d.conv",
        reason: format!("{conv:?} with a kernel of {height}x{width} on {}x{} cells", grid.height, grid.width),
    })?;
    vector("conv2d.bias", bias, channels)?;
    epilogue(after, output.cells(), channels)?;
    Ok(ConvSizes { kernel, channels, output })
}

/// [`Backend::layer_norm`].
///
/// # Errors
/// [`Error::Shape`].
pub fn layer_norm<B: Backend>(
    x: View<B>,
    parts: usize,
    weight: Option<&Weight<B>>,
    bias: Option<&Weight<B>>,
) -> Result<()> {
    let width = x.cols().checked_div(parts).filter(|width| width * parts == x.cols());
    let width = width.ok_or_else(|| Error::Shape {
        operand: "layer_norm.parts",
        reason: format!("{parts} parts of {} columns", x.cols()),
    })?;
    vector("layer_norm.weight", weight, width)?;
    vector("layer_norm.bias", bias, width)
}

/// [`Backend::rms_norm`].
///
/// # Errors
/// [`Error::Shape`].
pub fn rms_norm<B: Backend>(x: View<B>, weight: &Weight<B>) -> Result<()> {
    vector("rms_norm.weight", Some(weight), x.cols())
}

/// [`Backend::group_norm`].
///
/// # Errors
/// [`Error::Shape`].
pub fn group_norm<B: Backend>(x: View<B>, groups: usize, weight: &Weight<B>, bias: &Weight<B>) -> Result<()> {
    ensure(groups > 0 && x.cols().is_multiple_of(groups), "group_norm.groups", || {
        format!("{groups} groups of {} columns", x.cols())
    })?;
    vector("group_norm.weight", Some(weight), x.cols())?;
    vector("group_norm.bias", Some(bias), x.cols())
}

/// [`Backend::attention`]; returns the number of output columns.
///
/// # Errors
/// [`Error::Shape`].
pub fn attention<B: Backend>(q: View<B>, k: View<B>, v: View<B>, attention: &Attention) -> Result<usize> {
    let Attention { heads, kv_heads, .. } = *attention;
    ensure(heads > 0 && kv_heads > 0 && heads % kv_heads == 0, "attention.kv_heads", || {
        format!("{kv_heads} key and value heads for {heads} query heads")
    })?;
    ensure(q.cols().is_multiple_of(heads), "attention.q", || {
        format!("{} columns for {heads} heads", q.cols())
    })?;
    let d = q.cols() / heads;
    ensure(d.checked_mul(kv_heads) == Some(k.cols()), "attention.k", || {
        format!("{} columns for {kv_heads} heads of {d}", k.cols())
    })?;
    ensure(v.rows() == k.rows() && v.cols().is_multiple_of(kv_heads), "attention.v", || {
        format!("{}x{} for {} keys and {kv_heads} heads", v.rows(), v.cols(), k.rows())
    })?;
    (v.cols() / kv_heads).checked_mul(heads).ok_or_else(|| Error::Shape {
        operand: "attention.v",
        reason: format!("{} columns for {heads} heads", v.cols()),
    })
}

/// [`Backend::cache`].
///
/// # Errors
/// [`Error::Shape`].
pub fn cache<B: Backend>(
    x: View<B>,
    heads: usize,
    kind: CacheType,
    out: &Matrix<B>,
    row: usize,
) -> Result<()> {
    ensure(heads > 0 && x.cols().is_multiple_of(heads), "cache.x", || {
        format!("{} columns for {heads} heads", x.cols())
    })?;
    let columns = kind.columns(heads, quotient(x.cols(), heads))?;
    let fits = row.checked_add(x.rows()).is_some_and(|end| end <= out.rows());
    ensure(columns == out.cols() && fits, "cache.out", || {
        let (rows, cols, kind) = (out.rows(), out.cols(), kind.name());
        format!("{} rows of {columns} columns in {kind} from row {row} on of {rows}x{cols}", x.rows())
    })
}

/// [`Backend::attention_cached`]; returns the width of a head.
///
/// # Errors
/// [`Error::Shape`].
pub fn attention_cached<B: Backend>(
    q: View<B>,
    k: View<B>,
    v: View<B>,
    kind: CacheType,
    attention: &Attention,
) -> Result<usize> {
    let Attention { heads, kv_heads, .. } = *attention;
    ensure(heads > 0 && kv_heads > 0 && heads % kv_heads == 0, "attention.kv_heads", || {
        format!("{kv_heads} key and value heads for {heads} query heads")
    })?;
    ensure(q.cols().is_multiple_of(heads), "attention.q", || {
        format!("{} columns for {heads} heads", q.cols())
    })?;
    let d = q.cols() / heads;
    let columns = kind.columns(kv_heads, d)?;
    for (operand, x) in [("attention.k", k), ("attention.v", v)] {
        ensure(x.cols() == columns && x.rows() == k.rows(), operand, || {
            let (rows, cols, kind) = (x.rows(), x.cols(), kind.name());
            format!("{rows}x{cols} for {} keys and {kv_heads} heads of {d} in {kind}", k.rows())
        })?;
    }
    Ok(d)
}

/// [`Backend::rope`].
///
/// # Errors
/// [`Error::Shape`].
pub fn rope<B: Backend>(x: View<B>, heads: usize, frequencies: usize) -> Result<()> {
    let cols = frequencies.checked_mul(2).and_then(|d| d.checked_mul(heads));
    ensure(cols == Some(x.cols()), "rope.frequencies", || {
        format!("{frequencies} frequencies and {heads} heads for {} columns", x.cols())
    })
}

/// [`Backend::resize`]; returns the number of output rows.
///
/// # Errors
/// [`Error::Shape`].
pub fn resize<B: Backend>(x: View<B>, from: Grid, to: Grid) -> Result<usize> {
    ensure(from.height.checked_mul(from.width) == Some(x.rows()), "resize.x", || {
        format!("{} rows for {}x{} cells", x.rows(), from.height, from.width)
    })?;
    let cells = to.height.checked_mul(to.width);
    ensure(cells.is_some() && (x.rows() > 0 || cells == Some(0)), "resize.to", || {
        format!("{}x{} cells from {}x{}", to.height, to.width, from.height, from.width)
    })?;
    Ok(to.cells())
}
