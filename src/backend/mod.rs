//! The operations that models are written in, and what a backend has to provide.
//!
//! Model code is generic over [`Backend`] and knows neither memory nor instruction sets. Activations are matrices of
//! `f32` ([`Matrix`], [`View`]); weights stay in the type and layout of their file ([`Weight`]). Every operation returns
//! a new matrix and leaves its operands alone ([`Backend::copy`] apart), so that a recording backend can add backward
//! passes and a device backend can schedule freely.
//!
//! Contract of every operation:
//! - operands are checked first; what does not fit is [`Error::Shape`], naming the operand;
//! - the output is written whole; NaN and infinity propagate;
//! - the same operands give the same bits for any number of threads, and a row of the output has the same bits whatever
//!   other rows are in the batch;
//! - the definition of an operation is its namesake in `crate::reference`.
#![forbid(unsafe_code)]

mod cache;
pub mod check;
mod matrix;
pub(crate) mod select;
#[cfg(feature = "finetune")]
mod train;
#[cfg(feature = "finetune")]
pub mod train_check;

use alloc::vec::Vec;

pub use cache::CacheType;
pub use matrix::{Columns, Matrix, View, Weight};
pub use select::{SelectToken, Selected};
#[cfg(feature = "finetune")]
pub use train::{AdamwStep, AttentionGradients, LinearGradients, LinearParameters, NormGradients, Train};

use crate::arena::Arena;
use crate::error::{Error, Result};
use crate::image::{ImageView, Preprocessor, Square};
use crate::weights::{Quantised, Tensor};

/// Height and width of a feature map in cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Rows of cells.
    pub height: usize,
    /// Cells per row.
    pub width: usize,
}

impl Grid {
    /// Number of cells, which is the number of matrix rows of the map (saturating; a matrix that large cannot exist).
    pub const fn cells(self) -> usize {
        self.height.saturating_mul(self.width)
    }
}

/// Elementwise functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activation {
    /// `x`
    Identity,
    /// `max(x, 0)`
    Relu,
    /// `x/2 * (1 + erf(x / sqrt 2))`
    Gelu,
    /// `x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)))`
    GeluTanh,
    /// `x * sigmoid(1.702 x)` (CLIP)
    QuickGelu,
    /// `x * sigmoid(x)`
    Silu,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `tanh(x)`
    Tanh,
}

/// What [`Backend::linear`] and [`Backend::conv2d`] do after the product: `out = residual + scale * activation(y)`.
pub struct Epilogue<'a, B: Backend> {
    /// Applied to the biased product.
    pub activation: Activation,
    /// LayerScale, one factor per output column.
    pub scale: Option<&'a Weight<B>>,
    /// Added last; same shape as the output.
    pub residual: Option<View<'a, B>>,
}

impl<B: Backend> Epilogue<'_, B> {
    /// Nothing after the biased product.
    pub const NONE: Self = Epilogue { activation: Activation::Identity, scale: None, residual: None };
}

impl<'a, B: Backend> Epilogue<'a, B> {
    /// An activation alone.
    pub const fn activation(activation: Activation) -> Self {
        Epilogue { activation, scale: None, residual: None }
    }

    /// A residual, with an optional LayerScale.
    pub const fn residual(residual: View<'a, B>, scale: Option<&'a Weight<B>>) -> Self {
        Epilogue { activation: Activation::Identity, scale, residual: Some(residual) }
    }
}

/// Which keys a query row may attend to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttentionMask {
    /// Every key.
    Full,
    /// Query row `i` stands at position `first + i`, key row `j` at position `j`: attends where `j <= first + i`, and with
    /// a window only where `j > first + i - window` as well.
    Causal {
        /// Position of the first query row.
        first: usize,
        /// Sliding window in tokens (Mistral).
        window: Option<usize>,
    },
}

/// Parameters of [`Backend::attention`].
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads` (grouped-query attention), query head `h` reads `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Factor on the dot products, usually `head_dim^-1/2`.
    pub scale: f32,
    /// Soft cap `c`: scaled logits become `c * tanh(logit / c)` before the softmax (locality alignment's "svit").
    pub soft_cap: Option<f32>,
    /// Which keys count.
    pub mask: AttentionMask,
    /// How exactly queries, keys, values and weights are multiplied.
    pub operands: Operands,
}

/// How exactly a product has to take its operands. Sums are `f32` either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Operands {
    /// As the `f32` that they are.
    #[default]
    Exact,
    /// They may be rounded to `bf16` where that is faster, as behind weights that are integers. Backends are free to take them
    /// exactly.
    Rounded,
}

/// Parameters of [`Backend::conv2d`]; square stride and padding, zeros outside the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv {
    /// Cells between outputs, at least 1.
    pub stride: usize,
    /// Cells of zeros on every side.
    pub padding: usize,
    /// One filter per channel (`groups == channels`): weight `[c, 1, kh, kw]` instead of `[c_out, c_in, kh, kw]`.
    pub depthwise: bool,
}

impl Conv {
    /// Size of the output for an input of `grid` cells and a kernel of `kernel` cells; `None` where the kernel does not
    /// fit once.
    pub fn output(self, grid: Grid, kernel: Grid) -> Option<Grid> {
        let side = |cells: usize, kernel: usize| {
            let span = self.padding.checked_mul(2)?.checked_add(cells)?.checked_sub(kernel)?;
            Some(span.checked_div(self.stride)? + 1)
        };
        Some(Grid { height: side(grid.height, kernel.height)?, width: side(grid.width, kernel.width)? })
    }
}

/// How [`Backend::resize`] samples; PyTorch's `interpolate` with `align_corners=False` and no antialiasing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resize {
    /// `floor(i * from / to)`
    Nearest,
    /// Half-pixel centres, edges clamped.
    Bilinear,
    /// Half-pixel centres, cubic convolution with a = -0.75, edges clamped.
    Bicubic,
}

/// A device that computes: memory for matrices and weights, and the operations. Cheap to clone; clones share all of it.
pub trait Backend: Clone + Send + Sync {
    /// Memory of one matrix.
    type Buffer: Send + Sync;
    /// A stored tensor in the backend's hands (for the CPU: the mapped bytes themselves).
    type Stored: Clone + Send + Sync;

    /// Takes a tensor of the weights file; the CPU neither copies nor converts it.
    ///
    /// # Errors
    /// [`Error::Memory`] where a device cannot hold it.
    fn store(&self, tensor: &Tensor) -> Result<Self::Stored>;

    /// As [`Backend::store`] for the weight of a linear layer, of `sizes` `[n, k]` and 1 tap, or of a dense convolution. One
    /// of stride 1 has `taps` cells in its kernel, which follow each other for every one of its `k / taps` channels; of another stride,
    /// whose windows are gathered, 1.
    ///
    /// # Errors
    /// [`Error::Memory`].
    fn store_matrix(&self, tensor: &Tensor, sizes: [usize; 2], taps: usize) -> Result<Self::Stored> {
        let _ = (sizes, taps);
        self.store(tensor)
    }

    /// Takes a quantised matrix, which then serves as the weight of [`Backend::linear`] and of nothing else.
    ///
    /// # Errors
    /// [`Error::Tensor`] where the backend cannot compute with it; [`Error::Memory`] where a device cannot hold it.
    fn store_quantised(&self, matrix: &Quantised) -> Result<Self::Stored> {
        let reason = "is quantised, which this backend cannot compute with".into();
        Err(Error::Tensor { name: matrix.name().into(), reason })
    }

    /// Bytes of the host's memory that the backend has copied a stored tensor to, beside the file's.
    fn copied_bytes(stored: &Self::Stored) -> usize {
        let _ = stored;
        0
    }

    /// A matrix of zeros.
    ///
    /// # Errors
    /// [`Error::Memory`], or [`Error::Limit`] where the size overflows.
    fn zeros(&self, rows: usize, cols: usize) -> Result<Matrix<Self>>;

    /// A matrix whose elements `write` writes, all of them, row-major. While sizes are measured `write` is not called.
    ///
    /// # Errors
    /// As [`Backend::zeros`], and those of `write`.
    fn written(
        &self,
        rows: usize,
        cols: usize,
        write: &mut dyn FnMut(&mut [f32]) -> Result<()>,
    ) -> Result<Matrix<Self>>;

    /// A matrix with the `rows * cols` elements of `data`, row-major.
    ///
    /// # Errors
    /// As [`Backend::zeros`]; [`Error::Shape`] where `data` has another length.
    fn upload(&self, rows: usize, cols: usize, data: &[f32]) -> Result<Matrix<Self>> {
        check::upload(rows, cols, data.len())?;
        self.written(rows, cols, &mut |out| {
            out.copy_from_slice(data);
            Ok(())
        })
    }

    /// A picture as an encoder takes it: a row of [`Preprocessor::prepare`]'s three numbers for each pixel of its output. Made on the
    /// host unless a device does it itself, with the same bits.
    ///
    /// # Errors
    /// Those of [`Preprocessor::prepare`]; as [`Backend::zeros`].
    fn prepare(&self, preprocessor: &Preprocessor, image: &ImageView) -> Result<Matrix<Self>> {
        let (width, height) = preprocessor.output_size(image.width(), image.height())?;
        let scratch = preprocessor.scratch(image.width(), image.height())?;
        let mut scratch = self.arena().take("picture", scratch)?;
        let cells = Grid { height, width }.cells();
        let pixels = self.written(cells, 3, &mut |out| preprocessor.prepare_to(image, &mut scratch, out))?;
        drop(scratch);
        Ok(self.settle(pixels))
    }

    /// Writes the elements of `x`, row-major without gaps, to `out`. While sizes are measured it does nothing.
    ///
    /// # Errors
    /// [`Error::Shape`] where `out` has another length.
    fn download_to(&self, x: View<Self>, out: &mut [f32]) -> Result<()>;

    /// The elements of `x`, row-major without gaps.
    ///
    /// # Errors
    /// [`Error::Memory`].
    fn download(&self, x: View<Self>) -> Result<Vec<f32>> {
        let len = crate::checked::Size::product(&[x.rows(), x.cols()])?.get();
        let bytes = (len as u64).saturating_mul(size_of::<f32>() as u64);
        let mut data = Vec::new();
        let refused = |_| Error::Memory { what: "download", bytes, left: None };
        data.try_reserve_exact(len).map_err(refused)?;
        data.resize(len, 0.0);
        self.download_to(x, &mut data)?;
        Ok(data)
    }

    /// Where memory of the host comes from that belongs to a run: what is read back, what is made on the host.
    fn arena(&self) -> &Arena;

    /// The same matrix, moved down over memory that is free before it ([`Arena::settle`]). A loop that keeps one matrix from
    /// round to round calls it at the end of each, or memory of a fixed size would fill up.
    fn settle(&self, x: Matrix<Self>) -> Matrix<Self>;

    /// A stored tensor as a matrix of `f32`; `rows * cols` must be its number of elements.
    ///
    /// # Errors
    /// [`Error::Shape`] and as [`Backend::zeros`].
    fn read(&self, weight: &Weight<Self>, rows: usize, cols: usize) -> Result<Matrix<Self>>;

    /// Writes `x` into `out` with its upper left element at (`row`, `col`).
    ///
    /// # Errors
    /// [`Error::Shape`] where it does not fit.
    fn copy(&self, x: View<Self>, out: &mut Matrix<Self>, row: usize, col: usize) -> Result<()>;

    /// Whether every element is finite.
    ///
    /// # Errors
    /// Device errors only.
    fn is_finite(&self, x: View<Self>) -> Result<bool>;

    /// `out[i] = x[rows[i]]`; rows may repeat.
    ///
    /// # Errors
    /// [`Error::Shape`] where a row does not exist.
    fn gather(&self, x: View<Self>, rows: &[usize]) -> Result<Matrix<Self>>;

    /// `out[i] = table[ids[i]]`, table `[entries, cols]`.
    ///
    /// # Errors
    /// [`Error::Shape`] where an id is not below `entries`.
    fn embedding(&self, table: &Weight<Self>, ids: &[u32]) -> Result<Matrix<Self>>;

    /// `out[i] = a[i] + b[i mod b.rows]`; `b.rows` divides `a.rows`.
    ///
    /// # Errors
    /// [`Error::Shape`].
    fn add(&self, a: View<Self>, b: View<Self>) -> Result<Matrix<Self>>;

    /// `out = activation(x)`.
    ///
    /// # Errors
    /// [`Error::Memory`].
    fn activate(&self, x: View<Self>, activation: Activation) -> Result<Matrix<Self>>;

    /// `out = activation(gate) * up`, the gated feed-forward of Llama.
    ///
    /// # Errors
    /// [`Error::Shape`].
    fn gated(&self, gate: View<Self>, up: View<Self>, activation: Activation) -> Result<Matrix<Self>>;

    /// `y[r, n] = sum_k x[r, k] * weight[n, k] + bias[n]`, then the epilogue. `weight` is `[n, k, ...]`; trailing
    /// dimensions count as `k`. It may be some columns of a stored matrix ([`Weight::column_range`]).
    ///
    /// # Errors
    /// [`Error::Shape`].
    fn linear(
        &self,
        x: View<Self>,
        weight: &Weight<Self>,
        bias: Option<&Weight<Self>>,
        epilogue: Epilogue<Self>,
    ) -> Result<Matrix<Self>>;

    /// `a [m, k]` times `b [k, n]`, or times the transpose of `b [n, k]`.
    ///
    /// # Errors
    /// [`Error::Shape`].
    fn matmul(&self, a: View<Self>, b: View<Self>, transpose_b: bool) -> Result<Matrix<Self>>;

    /// Cross-correlation of the map `x [grid.cells, c_in]`, plus bias, then the epilogue;
    /// the output has [`Conv::output`] cells.
    ///
    /// # Errors
    /// [`Error::Shape`].
    fn conv2d(
        &self,
        x: View<Self>,
        grid: Grid,
        weight: &Weight<Self>,
        bias: Option<&Weight<Self>>,
        conv: Conv,
        epilogue: Epilogue<Self>,
    ) -> Result<Matrix<Self>>;

    /// Each row is cut into `parts` equal runs; every run gets mean 0 and variance 1 (biased, `eps` inside the root), then
    /// `* weight + bias`, both `[cols / parts]`. `parts` is 1 but for query and key norms.
    ///
    /// # Errors
    /// [`Error::Shape`].
    fn layer_norm(
        &self,
        x: View<Self>,
        parts: usize,
        weight: Option<&Weight<Self>>,
        bias: Option<&Weight<Self>>,
        eps: f32,
    ) -> Result<Matrix<Self>>;

    /// `x / sqrt(mean(x^2) + eps) * weight` by rows.
    ///
    /// # Errors
    /// [`Error::Shape`].
    fn rms_norm(&self, x: View<Self>, weight: &Weight<Self>, eps: f32) -> Result<Matrix<Self>>;

    /// The columns are cut into `groups`; every group gets mean 0 and variance 1 over all rows (one picture), then
    /// `* weight + bias`, both `[cols]`, then the activation.
    ///
    /// # Errors
    /// [`Error::Shape`].
    fn group_norm(
        &self,
        x: View<Self>,
        groups: usize,
        weight: &Weight<Self>,
        bias: &Weight<Self>,
        eps: f32,
        activation: Activation,
    ) -> Result<Matrix<Self>>;

    /// Softmax attention: `q [n, heads * d]`, `k [m, kv_heads * d]`, `v [m, kv_heads * e]` give `[n, heads * e]`.
    /// A query that may attend to no key gives zeros.
    ///
    /// # Errors
    /// [`Error::Shape`].
    fn attention(
        &self,
        q: View<Self>,
        k: View<Self>,
        v: View<Self>,
        attention: &Attention,
    ) -> Result<Matrix<Self>>;

    /// Columns that a row of keys or values of `heads * d` numbers takes in a cache of `kind`. A backend that has none but
    /// [`CacheType::F32`] leaves this operation and the next two as they are.
    ///
    /// # Errors
    /// [`Error::Input`] `cache` where the backend has no such cache; [`Error::Limit`] where the size overflows.
    fn cache_columns(&self, kind: CacheType, heads: usize, d: usize) -> Result<usize> {
        match kind {
            CacheType::F32 => kind.columns(heads, d),
            _ => Err(kind.refused()),
        }
    }

    /// Rounds the rows of `x [n, heads * d]` as `kind` says and writes them to `out`, [`Backend::cache_columns`] wide, from row
    /// `row` on.
    ///
    /// # Errors
    /// [`Error::Shape`]; as [`Backend::cache_columns`].
    fn cache(
        &self,
        x: View<Self>,
        heads: usize,
        kind: CacheType,
        out: &mut Matrix<Self>,
        row: usize,
    ) -> Result<()> {
        self.cache_columns(kind, heads, 0)?;
        check::cache(x, heads, kind, out, row)?;
        self.copy(x, out, row, 0)
    }

    /// [`Backend::attention`] of keys and values that [`Backend::cache`] wrote, both of `kv_heads` heads as wide as those of
    /// `q [n, heads * d]`; gives `[n, heads * d]`. The bits are those of the numbers that the cache stands for.
    ///
    /// # Errors
    /// [`Error::Shape`]; as [`Backend::cache_columns`].
    fn attention_cached(
        &self,
        q: View<Self>,
        k: View<Self>,
        v: View<Self>,
        kind: CacheType,
        attention: &Attention,
    ) -> Result<Matrix<Self>> {
        self.cache_columns(kind, attention.kv_heads, 0)?;
        self.attention(q, k, v, attention)
    }

    /// Rotary positions: in every head of row `r` the pair `(i, i + d/2)` turns by `(first + r) * frequencies[i]`
    /// radians (the halves convention of Hugging Face); `frequencies` has `d / 2` entries.
    ///
    /// # Errors
    /// [`Error::Shape`].
    fn rope(&self, x: View<Self>, heads: usize, first: usize, frequencies: &[f32]) -> Result<Matrix<Self>>;

    /// The map `x [from.cells, c]` sampled at `to.cells`.
    ///
    /// # Errors
    /// [`Error::Shape`].
    fn resize(&self, x: View<Self>, from: Grid, to: Grid, resize: Resize) -> Result<Matrix<Self>>;

    /// Which pixels of a picture have a value above `threshold` where each row of `maps` is a map of `grid` over its square, sampled as
    /// [`Square::unpad_map`] does: for each map `ceil(height * width / 32)` words, the picture's pixels row after row, the lowest
    /// bit first; a NaN is below. A device answers with the bits alone. `None` where maps lie in the host's memory, where the caller does
    /// as well by itself.
    ///
    /// # Errors
    /// [`Error::Shape`] where a row is no such map.
    fn mask_pixels(
        &self,
        maps: View<Self>,
        grid: Grid,
        square: &Square,
        threshold: f32,
    ) -> Result<Option<Vec<u32>>> {
        let _ = (square, threshold);
        check::mask_pixels(maps, grid).map(|()| None)
    }

    /// Chooses a token by its logits, one row of them: the likeliest or one that is drawn, among those that are allowed. A
    /// device brings back the choice alone. Where a device computes otherwise than the host, a draw may differ in which of two
    /// tokens it takes where the random number lies within 1e-9 of the border between them. While sizes are measured nothing is
    /// chosen.
    ///
    /// # Errors
    /// [`Error::Shape`] where `logits` is not one row.
    fn select_token(&self, logits: View<Self>, select: &mut SelectToken) -> Result<Selected>;

    /// As [`Backend::select_token`] where `hidden`, which the logits were made of, is finite; `None` where it is not. A device
    /// answers both at once.
    ///
    /// # Errors
    /// As [`Backend::select_token`].
    fn select_finite(
        &self,
        hidden: View<Self>,
        logits: View<Self>,
        select: &mut SelectToken,
    ) -> Result<Option<Selected>> {
        if !self.is_finite(hidden)? {
            return Ok(None);
        }
        self.select_token(logits, select).map(Some)
    }
}
