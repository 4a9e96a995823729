//! Rows of a table: `out[i] = table[ids[i]]`.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

use super::Tolerance;

/// Only moved and widened.
pub const TOLERANCE: Tolerance = Tolerance { norm: 0.0, element: 0.0 };

/// Rows `ids` of `table`, which has `cols` columns.
pub fn embedding(table: &[f32], cols: usize, ids: &[u32]) -> Vec<f64> {
    ids.iter().flat_map(|&id| &table[id as usize * cols..][..cols]).map(|&x| f64::from(x)).collect()
}
