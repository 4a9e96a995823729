//! Which hidden state of an encoder the rest of the model reads.
#![forbid(unsafe_code)]

use alloc::format;

use crate::backend::{Backend, Grid, View};
use crate::error::{Error, Result};

/// A feature map: `view [grid.cells, channels]`, row-major cells.
pub struct FeatureMap<'a, B: Backend> {
    /// One cell per row.
    pub view: View<'a, B>,
    /// Size of the map.
    pub grid: Grid,
}

impl<B: Backend> Clone for FeatureMap<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend> Copy for FeatureMap<'_, B> {}

/// The position among `states` hidden states that `visual_select_layer` means; a negative index counts from the end.
///
/// # Errors
/// [`Error::Config`] naming `visual_select_layer` where there is no such state.
pub fn select_layer(index: isize, states: usize) -> Result<usize> {
    let position =
        if index < 0 { states.checked_sub(index.unsigned_abs()) } else { Some(index.unsigned_abs()) };
    position.filter(|&position| position < states).ok_or_else(|| Error::Config {
        field: "visual_select_layer".into(),
        reason: format!("is {index}, but the encoder has {states} hidden states"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negative_indices_count_from_the_end() {
        assert_eq!(select_layer(-2, 25).unwrap(), 23);
        assert_eq!(select_layer(0, 25).unwrap(), 0);
        assert_eq!(select_layer(-25, 25).unwrap(), 0);
        for index in [25, -26, isize::MIN, isize::MAX] {
            let error = select_layer(index, 25).unwrap_err();
            assert!(matches!(error, Error::Config { field, .. } if field == "visual_select_layer"));
        }
    }
}
