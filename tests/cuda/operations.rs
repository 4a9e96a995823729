//! Every operation of the backend over the stand-in, whose kernels the interpreter runs, against the CPU backend: strided
//! views, every stored type, empty operands, poisoned memory.

use std::sync::Arc;

use triplet::backend::{
    Activation, Attention, AttentionMask, Backend, Conv, Epilogue, Grid, Matrix, Operands, Resize, View,
    Weight,
};
use triplet::config::Fields;
use triplet::cpu::Cpu;
use triplet::cuda::Kernel;
use triplet::image::{ImageView, PixelFormat, Preprocessor};
use triplet::reference::{bytes, uniform};
use triplet::weights::{Dtype, Quantised, Scheme, Tensor, quantise};
use triplet::{Error, Result};

use crate::stand_in::{Settings, StandIn};
use crate::{device, device_with};

/// Operands, all from one seed, and what came out.
struct Run<'a, B: Backend> {
    backend: &'a B,
    seed: u64,
    outputs: Vec<(&'static str, usize, usize, Vec<f32>)>,
}

impl<B: Backend> Run<'_, B> {
    fn numbers(&mut self, len: usize) -> Vec<f32> {
        self.seed += 1;
        uniform(len, self.seed)
    }

    /// A matrix with a border around what counts, see [`inner`].
    fn matrix(&mut self, rows: usize, cols: usize) -> Result<Matrix<B>> {
        let numbers = self.numbers((rows + 2) * (cols + 5));
        self.backend.upload(rows + 2, cols + 5, &numbers)
    }

    fn weight(&mut self, shape: &[usize], dtype: Dtype) -> Result<Weight<B>> {
        let (stored, _) = bytes(&self.numbers(shape.iter().product()), dtype);
        let range = 0..stored.len();
        let tensor = Tensor::new("weight".into(), dtype, shape.to_vec(), Arc::new(stored), range)?;
        Ok(Weight::new(self.backend.store(&tensor)?, shape))
    }

    fn keep(&mut self, name: &'static str, out: &Matrix<B>) -> Result<()> {
        let numbers = self.backend.download(out.view())?;
        self.outputs.push((name, out.rows(), out.cols(), numbers));
        Ok(())
    }
}

fn inner<B: Backend>(matrix: &Matrix<B>) -> View<'_, B> {
    let (rows, cols) = (matrix.rows(), matrix.cols());
    matrix.view().row_range(1..rows - 1).unwrap().col_range(3..cols - 2).unwrap()
}

const TYPES: [Dtype; 3] = [Dtype::F32, Dtype::F16, Dtype::Bf16];

fn rows_and_elements<B: Backend>(run: &mut Run<B>) -> Result<()> {
    let backend = run.backend;
    run.keep("zeros", &backend.zeros(3, 5)?)?;
    for dtype in TYPES {
        let weight = run.weight(&[6, 7], dtype)?;
        run.keep("read", &backend.read(&weight, 3, 14)?)?;
        run.keep("embedding", &backend.embedding(&weight, &[5, 0, 5, 2])?)?;
    }
    let (a, b) = (run.matrix(6, 70)?, run.matrix(2, 70)?);
    run.keep("gather", &backend.gather(inner(&a), &[3, 3, 0, 5])?)?;
    run.keep("gather none", &backend.gather(inner(&a), &[])?)?;
    run.keep("add", &backend.add(inner(&a), inner(&b))?)?;
    let mut out = run.matrix(9, 80)?;
    backend.copy(inner(&a), &mut out, 4, 11)?;
    run.keep("copy", &out)?;
    for activation in [
        Activation::Identity,
        Activation::Relu,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::QuickGelu,
        Activation::Silu,
        Activation::Sigmoid,
        Activation::Tanh,
    ] {
        run.keep("activate", &backend.activate(inner(&a), activation)?)?;
    }
    let up = run.matrix(6, 70)?;
    run.keep("gated", &backend.gated(inner(&a), inner(&up), Activation::Silu)?)?;
    run.keep("rope", &backend.rope(inner(&a), 5, 3, &[1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01])?)?;
    run.keep("settle", &backend.settle(up))
}

fn norms<B: Backend>(run: &mut Run<B>) -> Result<()> {
    let backend = run.backend;
    for (rows, cols) in [(4, 60), (3, 300)] {
        let x = run.matrix(rows, cols)?;
        for dtype in TYPES {
            let (weight, bias) = (run.weight(&[cols], dtype)?, run.weight(&[cols], Dtype::F32)?);
            let out = backend.layer_norm(inner(&x), 1, Some(&weight), Some(&bias), 1e-5)?;
            run.keep("layer_norm", &out)?;
            run.keep("rms_norm", &backend.rms_norm(inner(&x), &weight, 1e-6)?)?;
            let out = backend.group_norm(inner(&x), 6, &weight, &bias, 1e-5, Activation::Gelu)?;
            run.keep("group_norm", &out)?;
        }
        run.keep("layer_norm parts", &backend.layer_norm(inner(&x), 4, None, None, 1e-6)?)?;
    }
    Ok(())
}

fn products<B: Backend>(run: &mut Run<B>) -> Result<()> {
    let backend = run.backend;
    for [rows, k, n] in [[1, 33, 9], [4, 20, 70], [70, 45, 66], [3, 0, 5], [0, 3, 5], [2, 3, 0]] {
        let x = run.matrix(rows, k)?;
        let residual = run.matrix(rows, n)?;
        for dtype in TYPES {
            let (weight, bias) = (run.weight(&[n, k], dtype)?, run.weight(&[n], Dtype::F16)?);
            let scale = run.weight(&[n], dtype)?;
            let activation = Activation::Silu;
            let epilogue = Epilogue { activation, scale: Some(&scale), residual: Some(inner(&residual)) };
            run.keep("linear", &backend.linear(inner(&x), &weight, Some(&bias), epilogue)?)?;
            run.keep("linear bare", &backend.linear(inner(&x), &weight, None, Epilogue::NONE)?)?;
            let wide = run.weight(&[n, k + 9], dtype)?;
            let columns = wide.column_range(4..k + 4)?;
            run.keep("linear of columns", &backend.linear(inner(&x), &columns, None, Epilogue::NONE)?)?;
        }
        let (columns, transposed) = (run.matrix(k, n)?, run.matrix(n, k)?);
        run.keep("matmul", &backend.matmul(inner(&x), inner(&columns), false)?)?;
        run.keep("matmul transposed", &backend.matmul(inner(&x), inner(&transposed), true)?)?;
    }
    Ok(())
}

fn quantised<B: Backend>(run: &mut Run<B>) -> Result<()> {
    let backend = run.backend;
    for (scheme, [n, k]) in [(Scheme::Int8, [9, 45]), (Scheme::Int4, [70, 96]), (Scheme::Int8, [3, 64])] {
        let integers = quantise(&run.numbers(n * k), k, scheme);
        let stored = |bytes: Vec<u8>| (0..bytes.len(), Arc::new(bytes));
        let (range, scales) = stored(bytes(&integers.scales, Dtype::F16).0);
        let shape = if scheme == Scheme::Int8 { vec![n] } else { vec![n, scheme.row_scales(k)] };
        let scales = Tensor::new("scales".into(), Dtype::F16, shape, scales, range)?;
        let (range, integers) = stored(integers.bytes);
        let matrix = Quantised::new("integers".into(), scheme, [n, k], integers, range, scales)?;
        let weight = Weight::new(backend.store_quantised(&matrix)?, &[n, k]);
        for rows in [0, 1, 3, 7] {
            let (x, residual) = (run.matrix(rows, k)?, run.matrix(rows, n)?);
            let (bias, scale) = (run.weight(&[n], Dtype::F32)?, run.weight(&[n], Dtype::F16)?);
            let activation = Activation::Gelu;
            let epilogue = Epilogue { activation, scale: Some(&scale), residual: Some(inner(&residual)) };
            let out = backend.linear(inner(&x), &weight, Some(&bias), epilogue)?;
            run.keep("linear quantised", &out)?;
        }
        assert!(weight.column_range(0..32).is_ok_and(|part| {
            let x = backend.zeros(2, 32);
            x.is_ok_and(|x| backend.linear(x.view(), &part, None, Epilogue::NONE).is_err())
        }));
        assert!(backend.read(&weight, n, k).is_err(), "integers are for products alone");
    }
    Ok(())
}

fn maps<B: Backend>(run: &mut Run<B>) -> Result<()> {
    let backend = run.backend;
    let grid = Grid { height: 7, width: 6 };
    let x = run.matrix(grid.cells(), 10)?;
    for (depthwise, stride, padding) in [(false, 1, 1), (false, 2, 0), (true, 1, 1), (true, 2, 3)] {
        let shape = if depthwise { [10, 1, 3, 2] } else { [13, 10, 3, 2] };
        let (weight, bias) = (run.weight(&shape, Dtype::F16)?, run.weight(&shape[..1], Dtype::F32)?);
        let conv = Conv { stride, padding, depthwise };
        let epilogue = Epilogue::activation(Activation::Relu);
        run.keep("conv2d", &backend.conv2d(inner(&x), grid, &weight, Some(&bias), conv, epilogue)?)?;
    }
    // No channels, and no cells but those of the padding.
    let none = run.matrix(grid.cells(), 0)?;
    let (weight, bias) = (run.weight(&[4, 0, 1, 1], Dtype::F32)?, run.weight(&[4], Dtype::F32)?);
    let conv = Conv { stride: 1, padding: 0, depthwise: false };
    let out = backend.conv2d(inner(&none), grid, &weight, Some(&bias), conv, Epilogue::NONE)?;
    run.keep("conv2d without channels", &out)?;
    for resize in [Resize::Nearest, Resize::Bilinear, Resize::Bicubic] {
        for to in [Grid { height: 15, width: 4 }, Grid { height: 3, width: 9 }] {
            run.keep("resize", &backend.resize(inner(&x), grid, to, resize)?)?;
        }
    }
    Ok(())
}

fn attentions<B: Backend>(run: &mut Run<B>) -> Result<()> {
    let backend = run.backend;
    let causal = |first, window| AttentionMask::Causal { first, window };
    for (queries, keys, heads, kv_heads, d, e, mask) in [
        (5, 9, 4, 2, 8, 12, AttentionMask::Full),
        (5, 9, 4, 4, 16, 16, causal(4, None)),
        (1, 300, 4, 2, 32, 32, causal(299, None)),
        (3, 300, 2, 1, 40, 40, causal(297, Some(50))),
        (2, 3, 1, 1, 200, 200, AttentionMask::Full),
        (2, 0, 2, 2, 8, 8, AttentionMask::Full),
        (3, 4, 2, 2, 8, 8, causal(0, Some(0))),
    ] {
        let (q, k) = (run.matrix(queries, heads * d)?, run.matrix(keys, kv_heads * d)?);
        let v = run.matrix(keys, kv_heads * e)?;
        for soft_cap in [None, Some(5.0)] {
            let attention =
                Attention { heads, kv_heads, scale: 0.3, soft_cap, mask, operands: Operands::Exact };
            let out = backend.attention(inner(&q), inner(&k), inner(&v), &attention)?;
            run.keep("attention", &out)?;
        }
    }
    Ok(())
}

/// Runs a part on both backends and compares what came out.
fn compare(
    part: impl Fn(&mut Run<Cpu>) -> Result<()>,
    on_cuda: impl Fn(&mut Run<triplet::Cuda>) -> Result<()>,
) {
    let cuda = device();
    against(&cuda.poisoned(), part, on_cuda);
    drop(cuda);
    StandIn::with(|all| assert!(all.leaks().is_empty() && all.misuse.is_empty(), "{:?}", all.misuse));
}

/// As [`compare`] on a device that is there.
fn against(
    cuda: &triplet::Cuda,
    part: impl Fn(&mut Run<Cpu>) -> Result<()>,
    on_cuda: impl Fn(&mut Run<triplet::Cuda>) -> Result<()>,
) {
    // Weights in integers meet activations in f32, as on the device.
    let cpu = Cpu::with_threads(1).with_exact_activations(true);
    let mut want = Run { backend: &cpu, seed: 0, outputs: Vec::new() };
    part(&mut want).unwrap();
    let mut got = Run { backend: cuda, seed: 0, outputs: Vec::new() };
    on_cuda(&mut got).unwrap();
    assert_eq!(want.outputs.len(), got.outputs.len());
    let mut worst = 0f64;
    for ((name, rows, cols, want), (_, got_rows, got_cols, got)) in want.outputs.iter().zip(&got.outputs) {
        assert_eq!((rows, cols), (got_rows, got_cols), "{name}");
        let largest = want.iter().fold(1e-3f64, |most, &x| most.max(f64::from(x).abs()));
        for (at, (&want, &got)) in want.iter().zip(got).enumerate() {
            let off = (f64::from(want) - f64::from(got)).abs() / largest;
            assert!(off <= 4e-6, "{name} {rows}x{cols} at {at}: {got} instead of {want}");
            worst = worst.max(off);
        }
    }
    println!("{} outputs, worst difference {worst:.1e} of the largest element", want.outputs.len());
}

/// Every part on a device that is there.
pub fn all(cuda: &triplet::Cuda) {
    against(cuda, rows_and_elements, rows_and_elements);
    against(cuda, norms, norms);
    against(cuda, products, products);
    against(cuda, quantised, quantised);
    against(cuda, maps, maps);
    against(cuda, attentions, attentions);
}

#[test]
fn every_kernel_is_loaded_and_right() {
    let cuda = device_with(Settings::default()).unwrap();
    for kernel in Kernel::ALL {
        assert_eq!(Some(cuda.variant(kernel)), kernel.variants().next());
    }
    drop(cuda);
    StandIn::with(|all| assert!(all.leaks().is_empty() && all.misuse.is_empty(), "{:?}", all.misuse));
}

#[test]
fn rows_and_elements_agree() {
    compare(rows_and_elements, rows_and_elements);
}

#[test]
fn norms_agree() {
    compare(norms, norms);
}

#[test]
fn products_agree() {
    compare(products, products);
}

#[test]
fn quantised_products_agree() {
    compare(quantised, quantised);
}

#[test]
fn maps_agree() {
    compare(maps, maps);
}

#[test]
fn attentions_agree() {
    compare(attentions, attentions);
}

#[test]
fn what_is_not_finite_is_seen() {
    let cuda = device();
    for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut numbers = uniform(600, 1);
        let x = cuda.upload(6, 100, &numbers).unwrap();
        assert!(cuda.is_finite(x.view()).unwrap());
        numbers[555] = broken;
        let x = cuda.upload(6, 100, &numbers).unwrap();
        assert!(!cuda.is_finite(x.view()).unwrap());
        assert!(cuda.is_finite(x.view().row_range(0..5).unwrap()).unwrap());
    }
}

#[test]
fn pictures_are_prepared_on_the_device_bit_for_bit() {
    let cuda = device();
    let fields = Fields::parse("preprocessor", br#"{"size": 14, "crop_size": 14}"#).unwrap();
    let preprocessor = Preprocessor::load(&fields).unwrap();
    let copies =
        || StandIn::with(|all| all.calls.iter().filter(|call| call.starts_with("cuMemcpyHtoD")).count());
    for (format, gap) in [(PixelFormat::Rgb8, 0), (PixelFormat::Bgra8, 3), (PixelFormat::Gray8, 1)] {
        let (width, height) = (33, 20);
        let stride = width * format.bytes() + gap;
        let bytes: Vec<u8> = (0..stride * height).map(|i| (i * 91 % 253) as u8).collect();
        let image = ImageView::new(&bytes, width, height, stride, format).unwrap();
        let want = preprocessor.prepare(&image).unwrap().data;
        for first in [format == PixelFormat::Rgb8, false] {
            let before = copies();
            let got = cuda.prepare(&preprocessor, &image).unwrap();
            // Both sides of a square share their two tables, and those of bytes are there from the self-test. After the first picture of a
            // size nothing but bytes of a picture goes up.
            assert_eq!(copies() - before, if first { 3 } else { 1 });
            assert_eq!(cuda.download(got.view()).unwrap(), want);
        }
    }
}

#[test]
fn operands_that_do_not_fit_are_refused_by_name() {
    let cuda = device();
    let launches = StandIn::with(|all| all.launches.len());
    let x = cuda.upload(4, 6, &uniform(24, 1)).unwrap();
    let y = cuda.upload(3, 6, &uniform(18, 2)).unwrap();
    let operand = |result: Result<Matrix<triplet::Cuda>>| match result {
        Err(Error::Shape { operand, .. }) => operand,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("no error"),
    };
    assert_eq!(operand(cuda.add(x.view(), y.view())), "add.b");
    assert_eq!(operand(cuda.gated(x.view(), y.view(), Activation::Silu)), "gated.up");
    assert_eq!(operand(cuda.gather(x.view(), &[4])), "gather.rows");
    assert_eq!(operand(cuda.matmul(x.view(), y.view(), false)), "matmul.b");
    assert_eq!(operand(cuda.rope(x.view(), 2, 0, &[1.0])), "rope.frequencies");
    assert_eq!(operand(cuda.upload(2, 2, &[0.0; 3])), "upload.data");
    let error = cuda.zeros(1 << 20, 1 << 12).err().unwrap();
    assert!(matches!(error, Error::Limit { limit: "cuda.elements", .. }), "{error}");
    let error = cuda.zeros(usize::MAX, 2).err().unwrap();
    assert!(matches!(error, Error::Limit { .. }), "{error}");
    let wide = cuda.zeros(2, 600).unwrap();
    let attention = Attention {
        heads: 1,
        kv_heads: 1,
        scale: 1.0,
        soft_cap: None,
        mask: AttentionMask::Full,
        operands: Operands::Exact,
    };
    let error = cuda.attention(wide.view(), wide.view(), wide.view(), &attention).err().unwrap();
    assert_eq!(error, Error::Limit { limit: "cuda.head_dim", max: 256, got: 600 });
    assert_eq!(StandIn::with(|all| all.launches.len()), launches, "nothing was launched");
}
