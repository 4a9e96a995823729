//! Matrices put together from parts.
#![forbid(unsafe_code)]

use alloc::format;

use crate::backend::{Backend, Matrix, View};
use crate::checked::Size;
use crate::error::{Error, Result};

/// The parts one below the other; all have the same number of columns.
///
/// # Errors
/// [`Error::Shape`] where the columns differ; [`Error::Limit`] and [`Error::Memory`] where the result is too large.
pub fn join_rows<B: Backend>(backend: &B, parts: &[View<B>]) -> Result<Matrix<B>> {
    let cols = parts.first().map_or(0, View::cols);
    let rows = parts.iter().try_fold(Size::new(0), |rows, part| rows.plus(part.rows()))?.get();
    let mut out = backend.zeros(rows, cols)?;
    let mut row = 0;
    for part in parts {
        if part.cols() != cols {
            let reason = format!("{} columns below {cols}", part.cols());
            return Err(Error::Shape { operand: "join_rows", reason });
        }
        if part.rows() > 0 {
            backend.copy(*part, &mut out, row, 0)?;
        }
        row += part.rows();
    }
    Ok(out)
}
