//! Pictures as encoders take them, from the caller's bytes: padded, resized, cut and normalised on the device, bit for bit as on the host.
#![forbid(unsafe_code)]

use alloc::sync::Arc;

use super::Cuda;
use super::kernel::Kernel;
use super::operand::{elements, narrow, one_each, size};
use super::pool::Block;
use super::signature::Parameter::{U32, U64};
use super::signature::{Argument, Signature};
use crate::backend::Matrix;
use crate::checked::Size;
use crate::error::Result;
use crate::image::{ImageView, Pass, Passes, Preprocessor};

/// `cuda/prepare_across.ptx`
pub(super) const ACROSS: Signature = Signature {
    entry: "triplet_prepare_across",
    parameters: &[
        (U64, "out"),
        (U64, "pixels"),
        (U64, "bounds"),
        (U64, "weights"),
        (U32, "taps"),
        (U32, "rows"),
        (U32, "cols"),
        (U32, "left"),
        (U32, "top"),
        (U32, "width"),
        (U32, "height"),
        (U32, "stride"),
        (U32, "pixel_bytes"),
        (U32, "red"),
        (U32, "green"),
        (U32, "blue"),
        (U32, "color"),
    ],
    threads: 256,
};

/// `cuda/prepare_down.ptx`
pub(super) const DOWN: Signature = Signature {
    entry: "triplet_prepare_down",
    parameters: &[
        (U64, "out"),
        (U64, "x"),
        (U64, "bounds"),
        (U64, "weights"),
        (U64, "table"),
        (U32, "taps"),
        (U32, "rows"),
        (U32, "cols"),
        (U32, "left"),
        (U32, "top"),
        (U32, "x_cols"),
    ],
    threads: 256,
};

/// The bytes of a picture go up, and its pixels for an encoder, `[height * width, 3]`, stay on the device.
pub(super) fn prepare(cuda: &Cuda, preprocessor: &Preprocessor, image: &ImageView) -> Result<Matrix<Cuda>> {
    let Passes { rows, offset: [left, top], color: [red, green, blue], across, down, crop } =
        preprocessor.passes(image.width(), image.height())?;
    let [crop_left, crop_top, width, height] = crop;
    let cols = across.bounds.len();
    let out = cuda.matrix("prepare", Size::new(height).times(width)?.get(), 3)?;
    let pixels = cuda.uploaded("picture", image.bytes())?;
    let resized = cuda.shared.pool.take("picture", Size::new(elements(rows, cols)?).times(4)?.get())?;
    if cuda.poison {
        cuda.fill(&resized, 0xFF)?;
    }
    let [across_bounds, across_weights] = tables(cuda, &across)?;
    let [down_bounds, down_weights] = tables(cuda, &down)?;
    let [red_at, green_at, blue_at] = image.format().channels();
    let arguments = [
        Argument::Pointer(resized.pointer()),
        Argument::Pointer(pixels.pointer()),
        Argument::Pointer(across_bounds.pointer()),
        Argument::Pointer(across_weights.pointer()),
        size(across.taps)?,
        size(rows)?,
        size(cols)?,
        size(left)?,
        size(top)?,
        size(image.width())?,
        size(image.height())?,
        size(image.stride())?,
        size(image.format().bytes())?,
        size(red_at)?,
        size(green_at)?,
        size(blue_at)?,
        Argument::U32(u32::from_le_bytes([red, green, blue, 0])),
    ];
    cuda.launch(Kernel::PrepareAcross, one_each(elements(rows, cols)?)?, 0, &arguments)?;
    let table = cuda.constant("picture", bytemuck::cast_slice(&preprocessor.normalised_bytes()))?;
    let arguments = [
        Argument::Pointer(out.buffer().pointer()),
        Argument::Pointer(resized.pointer()),
        Argument::Pointer(down_bounds.pointer()),
        Argument::Pointer(down_weights.pointer()),
        Argument::Pointer(table.pointer()),
        size(down.taps)?,
        size(height)?,
        size(width)?,
        size(crop_left)?,
        size(crop_top)?,
        Argument::U32(narrow(cols)?),
    ];
    cuda.launch(Kernel::PrepareDown, one_each(elements(height, width)?)?, 0, &arguments)?;
    Ok(out)
}

/// The tables of a pass on the device: bounds, weights.
fn tables(cuda: &Cuda, pass: &Pass) -> Result<[Arc<Block>; 2]> {
    Ok([
        cuda.constant("picture", bytemuck::cast_slice(&pass.bounds))?,
        cuda.constant("picture", bytemuck::cast_slice(&pass.weights))?,
    ])
}
