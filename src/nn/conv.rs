//! Two-dimensional convolution.
#![forbid(unsafe_code)]

use alloc::format;

use crate::backend::{Backend, Conv, Epilogue, Grid, Matrix, View, Weight};
use crate::error::{Error, Result};
use crate::weights::Loader;

/// A convolution with a square kernel, zeros outside the map.
pub struct Conv2d<B: Backend> {
    weight: Weight<B>,
    bias: Option<Weight<B>>,
    conv: Conv,
    kernel: usize,
}

impl<B: Backend> Conv2d<B> {
    /// Loads `weight [outputs, inputs, kernel, kernel]` (`inputs` is 1 for a depthwise convolution) and, where `bias` is
    /// set, `bias [outputs]`.
    ///
    /// # Errors
    /// [`Error::Tensor`] where one is missing or of another shape.
    pub fn load(
        loader: &Loader<B>,
        outputs: usize,
        inputs: usize,
        kernel: usize,
        conv: Conv,
        bias: bool,
    ) -> Result<Conv2d<B>> {
        let shape = [outputs, inputs, kernel, kernel];
        let weight = match conv.depthwise {
            true => loader.weight("weight", &shape)?,
            false => loader.kernel("weight", shape, conv.stride)?,
        };
        let bias = if bias { Some(loader.weight("bias", &[outputs])?) } else { None };
        Ok(Conv2d { weight, bias, conv, kernel })
    }

    /// Size of the output for a map of `grid` cells.
    ///
    /// # Errors
    /// [`Error::Shape`] where the kernel does not fit once.
    pub fn output(&self, grid: Grid) -> Result<Grid> {
        let kernel = Grid { height: self.kernel, width: self.kernel };
        self.conv.output(grid, kernel).ok_or_else(|| {
            let reason =
                format!("a kernel of {0}x{0} on {1}x{2} cells", self.kernel, grid.height, grid.width);
            Error::Shape { operand: "conv2d.grid", reason }
        })
    }

    /// The map `x [grid.cells, inputs]` to `[output.cells, outputs]`, then the epilogue.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub fn forward(
        &self,
        backend: &B,
        x: View<B>,
        grid: Grid,
        epilogue: Epilogue<B>,
    ) -> Result<(Matrix<B>, Grid)> {
        let output = self.output(grid)?;
        let y = backend.conv2d(x, grid, &self.weight, self.bias.as_ref(), self.conv, epilogue)?;
        Ok((y, output))
    }
}
