//! Every kernel against its definition on the device at hand, before anything depends on it: drivers have compiled correct
//! text to wrong code.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Cuda;
use super::kernel::Kernel;
use crate::backend::{
    Activation, Attention, AttentionMask, Backend, Conv, Epilogue, Grid, Matrix, Operands, Resize,
    SelectToken, Selected, Weight, select,
};
use crate::config::Fields;
use crate::error::{Error, Result};
use crate::image::{ImageView, PixelFormat, Preprocessor, Square};
use crate::reference::{self, After, Tolerance, bytes, uniform};
use crate::weights::{Dtype, Quantised, Scheme, Tensor, dequantise, quantise};

/// How far a kernel may be off here: far more than rounding, far less than any mistake. How close they are is a matter of
/// tests, not of every start.
const CLOSE: Tolerance = Tolerance { norm: 1e-4, element: 1e-4 };

/// What a kernel gave, and what it should have.
type Answer = (Matrix<Cuda>, Vec<f64>);

/// Runs every test. A kernel that fails is replaced by its next simpler variant.
///
/// # Errors
/// [`Error::Device`] where the simplest variant of a kernel fails; those of the device.
pub(super) fn choose(cuda: &Cuda) -> Result<()> {
    // Memory is taken again and again: what a kernel leaves unwritten must not be the right answer of another.
    let cuda = &cuda.poisoned();
    for kernel in Kernel::ALL {
        while let Err(reason) = run(cuda, kernel)? {
            if !cuda.shared.kernels.step_down(kernel)? {
                let reason =
                    format!("{} gives wrong results on {}: {reason}", cuda.variant(kernel), cuda.info().name);
                return Err(Error::Device { call: "self-test", reason, lost: false });
            }
            cuda.shared.queue().forget_graphs();
        }
    }
    Ok(())
}

/// The test of one kernel; the inner error says what is wrong.
fn run(cuda: &Cuda, kernel: Kernel) -> Result<Result<(), String>> {
    if cuda.shared.kernels.variant(kernel).is_none() {
        return Ok(Ok(()));
    }
    let (got, want) = match kernel {
        Kernel::Copy => copy(cuda)?,
        Kernel::Embedding => embedding(cuda)?,
        Kernel::Add => add(cuda)?,
        Kernel::Activate => activate(cuda)?,
        Kernel::IsFinite => return is_finite(cuda),
        Kernel::Rope => rope(cuda)?,
        Kernel::Resize => resize(cuda)?,
        Kernel::LayerNorm => layer_norm(cuda)?,
        Kernel::RmsNorm => rms_norm(cuda)?,
        Kernel::GroupNorm => group_norm(cuda)?,
        Kernel::Linear => linear(cuda, [70, 83])?,
        Kernel::LinearTensor => linear(cuda, [70, 96])?,
        // Both are used together; the first to be tested gives way.
        Kernel::LinearGroup | Kernel::LinearPack => linear(cuda, [70, 128])?,
        // Long enough to be cut in runs, on a device that needs it.
        Kernel::LinearMerge => linear(cuda, [70, 1088])?,
        Kernel::LinearRow => linear(cuda, [2, 83])?,
        Kernel::Matmul => matmul(cuda)?,
        Kernel::Conv2d => conv2d(cuda, false)?,
        Kernel::Depthwise => conv2d(cuda, true)?,
        Kernel::Attention => attention(&cuda.without_tensor_cores(), 20)?,
        Kernel::AttentionTensor => attention(cuda, 20)?,
        Kernel::AttentionMerge => attention(cuda, 150)?,
        Kernel::Dequantise => quantised(&cuda.without_tensor_cores(), 6)?,
        Kernel::LinearRowQuantised => quantised(cuda, 2)?,
        Kernel::SelectToken => return select_token(cuda),
        Kernel::LogProbability => return log_probability(cuda),
        Kernel::MaskPixels => return mask_pixels(cuda),
        // One picture goes through both.
        Kernel::PrepareAcross | Kernel::PrepareDown => prepare(cuda)?,
    };
    let got = cuda.download(got.view())?;
    Ok(reference::compare(&got, &want, CLOSE).map(|_| ()))
}

/// A stored tensor of random numbers, with the numbers that it stands for.
fn weight(cuda: &Cuda, shape: &[usize], seed: u64, dtype: Dtype) -> Result<(Weight<Cuda>, Vec<f32>)> {
    let (stored, meant) = bytes(&uniform(shape.iter().product(), seed), dtype);
    let range = 0..stored.len();
    let tensor = Tensor::new("self-test".into(), dtype, shape.to_vec(), Arc::new(stored), range)?;
    Ok((Weight::new(cuda.store(&tensor)?, shape), meant))
}

fn copy(cuda: &Cuda) -> Result<Answer> {
    let (stored, mut want) = weight(cuda, &[33, 9], 1, Dtype::Bf16)?;
    let mut out = cuda.read(&stored, 33, 9)?;
    let x = uniform(2 * 3, 2);
    cuda.copy(cuda.upload(2, 3, &x)?.view(), &mut out, 30, 5)?;
    for (row, x) in x.chunks_exact(3).enumerate() {
        let place = want.get_mut((30 + row) * 9 + 5..).and_then(|rest| rest.get_mut(..3));
        place.into_iter().for_each(|place| place.copy_from_slice(x));
    }
    Ok((out, want.into_iter().map(f64::from).collect()))
}

fn embedding(cuda: &Cuda) -> Result<Answer> {
    let (table, meant) = weight(cuda, &[7, 40], 3, Dtype::F16)?;
    let ids = [6, 0, 3, 3, 5, 1, 2, 6, 4];
    Ok((cuda.embedding(&table, &ids)?, reference::embedding(&meant, 40, &ids)))
}

fn prepare(cuda: &Cuda) -> Result<Answer> {
    let fields = Fields::parse("self-test", br#"{"size": 6, "crop_size": 6}"#)?;
    let preprocessor = Preprocessor::load(&fields)?;
    let bytes: Vec<u8> = (0..11 * 7 * 4u32).map(|i| (i * 37 % 251) as u8).collect();
    let image = ImageView::new(&bytes, 11, 7, 11 * 4, PixelFormat::Bgra8)?;
    let want = preprocessor.prepare(&image)?.data;
    Ok((cuda.prepare(&preprocessor, &image)?, want.into_iter().map(f64::from).collect()))
}

fn add(cuda: &Cuda) -> Result<Answer> {
    let (a, b) = (uniform(6 * 50, 4), uniform(2 * 50, 5));
    let out = cuda.add(cuda.upload(6, 50, &a)?.view(), cuda.upload(2, 50, &b)?.view())?;
    Ok((out, reference::add(&a, &b)))
}

fn activate(cuda: &Cuda) -> Result<Answer> {
    let (gate, up) = (uniform(5 * 60, 6), uniform(5 * 60, 7));
    let gates = cuda.upload(5, 60, &gate)?;
    let out = cuda.gated(gates.view(), cuda.upload(5, 60, &up)?.view(), Activation::Silu)?;
    Ok((out, reference::gated(&gate, &up, Activation::Silu)))
}

fn is_finite(cuda: &Cuda) -> Result<Result<(), String>> {
    let mut x = uniform(9 * 40, 8);
    let finite = cuda.is_finite(cuda.upload(9, 40, &x)?.view())?;
    x.iter_mut().skip(300).take(1).for_each(|x| *x = f32::NAN);
    let broken = cuda.is_finite(cuda.upload(9, 40, &x)?.view())?;
    Ok(if finite && !broken { Ok(()) } else { Err(format!("{finite} without a NaN, {broken} with one")) })
}

fn rope(cuda: &Cuda) -> Result<Answer> {
    let (x, frequencies) = (uniform(5 * 64, 9), [1.0, 0.5, 0.1, 0.01, 0.3, 0.2, 0.7, 0.003]);
    let out = cuda.rope(cuda.upload(5, 64, &x)?.view(), 4, 11, &frequencies)?;
    Ok((out, reference::rope(&x, 4, 11, &frequencies)))
}

fn resize(cuda: &Cuda) -> Result<Answer> {
    let (from, to) = (Grid { height: 4, width: 5 }, Grid { height: 9, width: 7 });
    let x = uniform(from.cells() * 6, 10);
    let out = cuda.resize(cuda.upload(from.cells(), 6, &x)?.view(), from, to, Resize::Bicubic)?;
    Ok((out, reference::resize(&x, 6, from, to, Resize::Bicubic)))
}

fn layer_norm(cuda: &Cuda) -> Result<Answer> {
    let x = uniform(3 * 300, 11);
    let (scale, scales) = weight(cuda, &[300], 12, Dtype::F32)?;
    let (bias, biases) = weight(cuda, &[300], 13, Dtype::F16)?;
    let out = cuda.layer_norm(cuda.upload(3, 300, &x)?.view(), 1, Some(&scale), Some(&bias), 1e-5)?;
    let want = reference::layer_norm(&x, 300, Some(&scales), Some(&biases), 1e-5);
    Ok((out, want))
}

fn rms_norm(cuda: &Cuda) -> Result<Answer> {
    let x = uniform(3 * 300, 14);
    let (scale, scales) = weight(cuda, &[300], 15, Dtype::Bf16)?;
    let out = cuda.rms_norm(cuda.upload(3, 300, &x)?.view(), &scale, 1e-5)?;
    Ok((out, reference::rms_norm(&x, &scales, 1e-5)))
}

fn group_norm(cuda: &Cuda) -> Result<Answer> {
    let x = uniform(90 * 12, 16);
    let (scale, scales) = weight(cuda, &[12], 17, Dtype::F32)?;
    let (bias, biases) = weight(cuda, &[12], 18, Dtype::F32)?;
    let map = cuda.upload(90, 12, &x)?;
    let out = cuda.group_norm(map.view(), 3, &scale, &bias, 1e-5, Activation::Relu)?;
    let want = reference::group_norm(&x, 3, &scales, &biases, 1e-5, Activation::Relu);
    Ok((out, want))
}

fn linear(cuda: &Cuda, [rows, k]: [usize; 2]) -> Result<Answer> {
    let n = 70;
    let (x, added) = (uniform(rows * k, 19), uniform(rows * n, 20));
    let (matrix, numbers) = weight(cuda, &[n, k], 21, Dtype::F16)?;
    let (bias, biases) = weight(cuda, &[n], 22, Dtype::F32)?;
    let (scale, scales) = weight(cuda, &[n], 23, Dtype::Bf16)?;
    let residual = cuda.upload(rows, n, &added)?;
    let activation = Activation::GeluTanh;
    let epilogue = Epilogue { activation, scale: Some(&scale), residual: Some(residual.view()) };
    let out = cuda.linear(cuda.upload(rows, k, &x)?.view(), &matrix, Some(&bias), epilogue)?;
    let after = After { bias: Some(&biases), activation, scale: Some(&scales), residual: Some(&added) };
    Ok((out, reference::linear(&x, &numbers, [rows, k, n], &after)))
}

/// A matrix of each scheme; few rows read the integers, many the numbers.
fn quantised(cuda: &Cuda, rows: usize) -> Result<Answer> {
    let (k, n) = (96, 9);
    let x = uniform(rows * k, 32);
    let mut both = cuda.zeros(2 * rows, n)?;
    let mut want = Vec::new();
    for (i, scheme) in [Scheme::Int8, Scheme::Int4].into_iter().enumerate() {
        let integers = quantise(&uniform(n * k, 33), k, scheme);
        let mut numbers = alloc::vec![0.0; n * k];
        let stored =
            integers.bytes.chunks(scheme.row_bytes(k)).zip(integers.scales.chunks(scheme.row_scales(k)));
        numbers.chunks_mut(k).zip(stored).for_each(|(out, (bytes, scales))| {
            dequantise(bytes, scales, scheme, out);
        });
        let shape = if scheme == Scheme::Int8 { [n].to_vec() } else { [n, scheme.row_scales(k)].to_vec() };
        let (scales, range) = (bytemuck::cast_slice(&integers.scales).to_vec(), 0..integers.scales.len() * 4);
        let scales = Tensor::new("self-test".into(), Dtype::F32, shape, Arc::new(scales), range)?;
        let range = 0..integers.bytes.len();
        let matrix =
            Quantised::new("self-test".into(), scheme, [n, k], Arc::new(integers.bytes), range, scales)?;
        let weight = Weight::of_integers(cuda.store_quantised(&matrix)?, &[n, k]);
        let out = cuda.linear(cuda.upload(rows, k, &x)?.view(), &weight, None, Epilogue::NONE)?;
        cuda.copy(out.view(), &mut both, i * rows, 0)?;
        want.extend(reference::linear(&x, &numbers, [rows, k, n], &After::NONE));
    }
    Ok((both, want))
}

/// Logits, ids that are allowed among them, and what is chosen: greedily, drawn.
fn selections(cuda: &Cuda) -> Result<Vec<(Selected, Selected)>> {
    let logits: Vec<f32> = uniform(2100, 34).iter().map(|x| 4.0 * x).collect();
    let on_device = cuda.upload(1, logits.len(), &logits)?;
    let allowed = [0x5555_5555_5555_5555; 33];
    let select = |temperature, on_host| {
        let candidates = &mut Vec::new();
        let uniform = 0.37;
        let mut select =
            SelectToken { allowed: &allowed, temperature, top_k: 20, top_p: 0.9, uniform, candidates };
        match on_host {
            true => select::on_host(cuda, on_device.view(), &mut select),
            false => cuda.select_token(on_device.view(), &mut select),
        }
    };
    [0.0, 1.5]
        .into_iter()
        .map(|temperature| Ok((select(temperature, false)?, select(temperature, true)?)))
        .collect()
}

fn select_token(cuda: &Cuda) -> Result<Result<(), String>> {
    let id = |selected: &Selected| match *selected {
        Selected::Token { id, .. } => Some(id),
        _ => None,
    };
    let wrong = selections(cuda)?.into_iter().find(|(got, want)| id(got) != id(want));
    if let Some((got, want)) = wrong {
        return Ok(Err(format!("{got:?} where {want:?} is right")));
    }
    let broken = cuda.upload(1, 3, &[0.0, f32::NAN, 1.0])?;
    let candidates = &mut Vec::new();
    let mut greedy =
        SelectToken { allowed: &[7], temperature: 0.0, top_k: 0, top_p: 1.0, uniform: 0.0, candidates };
    Ok(match cuda.select_token(broken.view(), &mut greedy)? {
        Selected::NotFinite => Ok(()),
        other => Err(format!("{other:?} where a logit is NaN")),
    })
}

fn log_probability(cuda: &Cuda) -> Result<Result<(), String>> {
    let of = |selected: &Selected| match *selected {
        Selected::Token { log_probability, .. } => log_probability,
        _ => f32::NAN,
    };
    let near = |got: &Selected, want: &Selected| (of(got) - of(want)).abs() <= 1e-4;
    let wrong = selections(cuda)?.into_iter().find(|(got, want)| !near(got, want));
    Ok(wrong.map_or(Ok(()), |(got, want)| Err(format!("{got:?} where {want:?} is right"))))
}

fn mask_pixels(cuda: &Cuda) -> Result<Result<(), String>> {
    let (grid, square) = (Grid { height: 5, width: 6 }, Square::new(11, 7)?);
    let maps = uniform(2 * grid.cells(), 35);
    let on_device = cuda.upload(2, grid.cells(), &maps)?;
    let bits = Backend::mask_pixels(cuda, on_device.view(), grid, &square, 0.1)?.unwrap_or_default();
    for (map, bits) in maps.chunks_exact(grid.cells()).zip(bits.chunks_exact(3)) {
        for (pixel, value) in square.unpad_map(map, grid)?.into_iter().enumerate() {
            let bit = bits.get(pixel / 32).is_some_and(|word| word >> (pixel % 32) & 1 == 1);
            if bit != (value > 0.1) {
                return Ok(Err(format!("pixel {pixel} of {value} is {bit}")));
            }
        }
    }
    Ok(Ok(()))
}

fn matmul(cuda: &Cuda) -> Result<Answer> {
    let (rows, k, n) = (66, 37, 65);
    let (a, b) = (uniform(rows * k, 24), uniform(k * n, 25));
    let out = cuda.matmul(cuda.upload(rows, k, &a)?.view(), cuda.upload(k, n, &b)?.view(), false)?;
    Ok((out, reference::matmul(&a, &b, [rows, k, n], false)))
}

fn conv2d(cuda: &Cuda, depthwise: bool) -> Result<Answer> {
    let (grid, channels) = (Grid { height: 9, width: 8 }, 6);
    let shape = if depthwise { [channels, 1, 3, 3] } else { [5, channels, 3, 3] };
    let [outputs, ..] = shape;
    let conv = Conv { stride: 2, padding: 1, depthwise };
    let x = uniform(grid.cells() * channels, 26);
    let (filters, numbers) = weight(cuda, &shape, 27, Dtype::F16)?;
    let (bias, biases) = weight(cuda, &[outputs], 28, Dtype::F32)?;
    let map = cuda.upload(grid.cells(), channels, &x)?;
    let out =
        cuda.conv2d(map.view(), grid, &filters, Some(&bias), conv, Epilogue::activation(Activation::Gelu))?;
    let after = After { bias: Some(&biases), activation: Activation::Gelu, scale: None, residual: None };
    Ok((out, reference::conv2d(&x, grid, &numbers, shape, conv, &after)))
}

/// Few keys are attended to whole, many in parts.
fn attention(cuda: &Cuda, keys: usize) -> Result<Answer> {
    let (queries, heads, kv_heads, d) = (3, 4, 2, 16);
    let (q, k, v) = (
        uniform(queries * heads * d, 29),
        uniform(keys * kv_heads * d, 30),
        uniform(keys * kv_heads * d, 31),
    );
    let mask = AttentionMask::Causal { first: keys - queries, window: Some(keys - 1) };
    let parameters =
        Attention { heads, kv_heads, scale: 0.25, soft_cap: Some(20.0), mask, operands: Operands::Exact };
    let (rows, cols) = (queries, heads * d);
    let (queries, k_matrix) = (cuda.upload(rows, cols, &q)?, cuda.upload(keys, kv_heads * d, &k)?);
    let v_matrix = cuda.upload(keys, kv_heads * d, &v)?;
    let out = cuda.attention(queries.view(), k_matrix.view(), v_matrix.view(), &parameters)?;
    Ok((out, reference::attention(&q, &k, &v, [rows, keys], &parameters)))
}
