//! Activations: matrices of `f32`, row-major, one token or one cell of a feature map per row.
#![forbid(unsafe_code)]

use alloc::format;
use core::ops::Range;

use super::Backend;
use crate::error::{Error, Result};

/// A matrix of `f32` that a backend owns: `rows x cols`, rows contiguous.
///
/// A feature map of `height x width` cells with `c` channels is a matrix of `height * width` rows (row-major cells) and
/// `c` columns.
pub struct Matrix<B: Backend> {
    buffer: B::Buffer,
    rows: usize,
    cols: usize,
}

impl<B: Backend> Matrix<B> {
    /// Wraps a buffer of at least `rows * cols` elements; for backends.
    pub fn from_buffer(buffer: B::Buffer, rows: usize, cols: usize) -> Matrix<B> {
        Matrix { buffer, rows, cols }
    }

    /// Number of rows (tokens, cells).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns (channels).
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The backend's buffer; for backends.
    pub fn buffer(&self) -> &B::Buffer {
        &self.buffer
    }

    /// The backend's buffer; for backends.
    pub fn buffer_mut(&mut self) -> &mut B::Buffer {
        &mut self.buffer
    }

    /// The whole matrix.
    pub fn view(&self) -> View<'_, B> {
        View { buffer: &self.buffer, offset: 0, rows: self.rows, cols: self.cols, stride: self.cols }
    }
}

/// A rectangle of a [`Matrix`]: `rows x cols` elements, consecutive rows `stride` elements apart.
pub struct View<'a, B: Backend> {
    buffer: &'a B::Buffer,
    offset: usize,
    rows: usize,
    cols: usize,
    stride: usize,
}

impl<B: Backend> Clone for View<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend> Copy for View<'_, B> {}

impl<'a, B: Backend> View<'a, B> {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Elements between the starts of consecutive rows.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Element of the buffer at which the view starts.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The backend's buffer; for backends.
    pub fn buffer(&self) -> &'a B::Buffer {
        self.buffer
    }

    /// The rows of `range`.
    ///
    /// # Errors
    /// [`Error::Shape`] where the range leaves the view.
    pub fn row_range(self, range: Range<usize>) -> Result<View<'a, B>> {
        if range.start > range.end || range.end > self.rows {
            let reason = format!("rows {range:?} of {}", self.rows);
            return Err(Error::Shape { operand: "view.row_range", reason });
        }
        Ok(View { offset: self.offset + range.start * self.stride, rows: range.len(), ..self })
    }

    /// The columns of `range`.
    ///
    /// # Errors
    /// [`Error::Shape`] where the range leaves the view.
    pub fn col_range(self, range: Range<usize>) -> Result<View<'a, B>> {
        if range.start > range.end || range.end > self.cols {
            let reason = format!("columns {range:?} of {}", self.cols);
            return Err(Error::Shape { operand: "view.col_range", reason });
        }
        Ok(View { offset: self.offset + range.start, cols: range.len(), ..self })
    }

    /// The same elements as `rows x cols`; the view must be contiguous.
    ///
    /// # Errors
    /// [`Error::Shape`] where the view has gaps or the number of elements differs.
    pub fn reshape(self, rows: usize, cols: usize) -> Result<View<'a, B>> {
        let contiguous = self.stride == self.cols || self.rows <= 1;
        if !contiguous || rows.checked_mul(cols) != self.rows.checked_mul(self.cols) {
            let reason = format!("{}x{} (stride {}) as {rows}x{cols}", self.rows, self.cols, self.stride);
            return Err(Error::Shape { operand: "view.reshape", reason });
        }
        Ok(View { rows, cols, stride: cols, ..self })
    }
}

/// A stored tensor as the backend holds it, with its shape; or some columns of a stored matrix.
pub struct Weight<B: Backend> {
    stored: B::Stored,
    shape: alloc::vec::Vec<usize>,
    columns: Option<Columns>,
    quantised: bool,
}

/// Where the rows of some columns of a stored matrix lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Columns {
    /// The first column.
    pub first: usize,
    /// Columns of the stored matrix.
    pub of: usize,
}

impl<B: Backend> Clone for Weight<B> {
    fn clone(&self) -> Self {
        Weight { stored: self.stored.clone(), shape: self.shape.clone(), ..*self }
    }
}

impl<B: Backend> Weight<B> {
    /// Wraps what [`Backend::store`] returned; for loaders.
    pub fn new(stored: B::Stored, shape: &[usize]) -> Weight<B> {
        Weight { stored, shape: shape.to_vec(), columns: None, quantised: false }
    }

    /// Wraps what [`Backend::store_quantised`] returned; for loaders.
    pub fn of_integers(stored: B::Stored, shape: &[usize]) -> Weight<B> {
        Weight { quantised: true, ..Weight::new(stored, shape) }
    }

    /// Whether these are integers with scales.
    pub fn is_quantised(&self) -> bool {
        self.quantised
    }

    /// The columns of `range` of a stored `[n, k]`, for [`Backend::linear`] alone: every other operation refuses them.
    ///
    /// # Errors
    /// [`Error::Shape`] where this is no whole matrix, or the range leaves it.
    pub fn column_range(&self, range: Range<usize>) -> Result<Weight<B>> {
        match (self.shape.as_slice(), self.columns) {
            (&[rows, of], None) if range.start <= range.end && range.end <= of => Ok(Weight {
                stored: self.stored.clone(),
                shape: [rows, range.len()].to_vec(),
                columns: Some(Columns { first: range.start, of }),
                quantised: self.quantised,
            }),
            (shape, _) => {
                let reason = format!("columns {range:?} of {shape:?}");
                Err(Error::Shape { operand: "weight.column_range", reason })
            }
        }
    }

    /// Which columns of the stored matrix these are; `None` for a whole tensor.
    pub fn columns(&self) -> Option<Columns> {
        self.columns
    }

    /// The backend's handle; of the whole tensor even where this is a part of it.
    pub fn stored(&self) -> &B::Stored {
        &self.stored
    }

    /// Row-major shape, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements (the shape was checked when the file was opened).
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}
