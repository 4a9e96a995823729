//! Operations of the CPU backend at the shapes of real layers: `cargo bench --bench ops -- linear/vit_b16`.
//!
//! Names are operation, layer, instruction set. "Elements" are floating-point operations (a multiply-add is two) for
//! `linear`, `attention` and `conv2d`, so Gelem/s reads as GFLOP/s; for the others they are numbers written. Each output
//! is checked against the reference before it is timed. `TRIPLET_THREADS` sets the threads (default: all cores).

#[path = "../tests/common/shapes.rs"]
mod shapes;

use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use triplet::backend::{
    Activation, Attention, AttentionMask, Backend, Conv, Epilogue, Grid, Matrix, Operands, Weight,
};
use triplet::cpu::{Cpu, Isa};
use triplet::reference::{self, After, Tolerance, bytes, compare, uniform};
use triplet::weights::{Dtype, Tensor};

fn variants() -> Vec<Cpu> {
    let threads = std::env::var("TRIPLET_THREADS").ok().and_then(|threads| threads.parse().ok());
    let cpu = threads.map_or_else(Cpu::new, Cpu::with_threads);
    Isa::available().map(|isa| cpu.clone().with_isa(isa).unwrap()).collect()
}

/// A stored tensor at an odd offset, as files have them.
fn weight(cpu: &Cpu, shape: &[usize], dtype: Dtype) -> (Weight<Cpu>, Vec<f32>) {
    let (stored, meant) = bytes(&uniform(shape.iter().product(), 7), dtype);
    let mut storage = vec![0; 10];
    storage.extend_from_slice(&stored);
    let tensor =
        Tensor::new("weight".into(), dtype, shape.to_vec(), Arc::new(storage), 10..10 + stored.len());
    (Weight::new(cpu.store(&tensor.unwrap()).unwrap(), shape), meant)
}

fn check(name: &str, got: &Matrix<Cpu>, want: &[f64], tolerance: Tolerance) {
    if let Err(reason) = compare(&got.buffer()[..want.len()], want, tolerance) {
        panic!("{name}: {reason}");
    }
}

fn group(criterion: &mut Criterion, cost: usize, name: &str, mut run: impl FnMut()) {
    let mut group = criterion.benchmark_group("ops");
    group.sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
    group.throughput(Throughput::Elements(cost as u64));
    group.bench_function(name, |bencher| bencher.iter(&mut run));
    group.finish();
}

fn linear(criterion: &mut Criterion) {
    for cpu in variants() {
        for (layer, rows, k, n) in shapes::LINEAR {
            for dtype in [Dtype::F32, Dtype::F16] {
                let (w, meant) = weight(&cpu, &[n, k], dtype);
                let data = uniform(rows * k, 1);
                let x = cpu.upload(rows, k, &data).unwrap();
                let name = format!("linear/{layer}/{dtype:?}/{}", cpu.isa().name());
                let got = cpu.linear(x.view(), &w, None, Epilogue::NONE).unwrap();
                check(
                    &name,
                    &got,
                    &reference::linear(&data, &meant, [1, k, n], &After::NONE),
                    reference::LINEAR,
                );
                group(criterion, 2 * rows * k * n, &name, || {
                    cpu.linear(x.view(), &w, None, Epilogue::NONE).unwrap();
                });
            }
        }
    }
}

fn attention(criterion: &mut Criterion) {
    for cpu in variants() {
        for (layer, queries, keys, heads, kv_heads, d) in shapes::ATTENTION {
            let (q, k) = (uniform(queries * heads * d, 1), uniform(keys * kv_heads * d, 2));
            let v = uniform(keys * kv_heads * d, 3);
            let parameters = Attention {
                heads,
                kv_heads,
                scale: 0.125,
                soft_cap: None,
                mask: AttentionMask::Full,
                operands: Operands::Exact,
            };
            let name = format!("attention/{layer}/{}", cpu.isa().name());
            let want = reference::attention(&q[..heads * d], &k, &v, [1, keys], &parameters);
            let (q, k) =
                (cpu.upload(queries, heads * d, &q).unwrap(), cpu.upload(keys, kv_heads * d, &k).unwrap());
            let v = cpu.upload(keys, kv_heads * d, &v).unwrap();
            let got = cpu.attention(q.view(), k.view(), v.view(), &parameters).unwrap();
            check(&name, &got, &want, reference::ATTENTION);
            group(criterion, 4 * queries * keys * heads * d, &name, || {
                cpu.attention(q.view(), k.view(), v.view(), &parameters).unwrap();
            });
        }
    }
}

fn conv2d(criterion: &mut Criterion) {
    // Layer, side of the map, inputs, outputs, kernel, stride, padding, depthwise.
    let layers = [
        ("vit_b16/patch", 224, 3, 768, 16, 16, 0, false),
        ("mask_decoder/fuse_3x3", 24, 256, 256, 3, 1, 1, false),
        ("convnext_l/depthwise_7x7", 40, 192, 192, 7, 1, 3, true),
    ];
    for cpu in variants() {
        for (layer, side, c_in, c_out, kernel, stride, padding, depthwise) in layers {
            let conv = Conv { stride, padding, depthwise };
            let grid = Grid { height: side, width: side };
            let shape = [c_out, if depthwise { 1 } else { c_in }, kernel, kernel];
            let (w, meant) = weight(&cpu, &shape, Dtype::F32);
            let data = uniform(grid.cells() * c_in, 1);
            let x = cpu.upload(grid.cells(), c_in, &data).unwrap();
            let name = format!("conv2d/{layer}/{}", cpu.isa().name());
            let got = cpu.conv2d(x.view(), grid, &w, None, conv, Epilogue::NONE).unwrap();
            // The definition is slow: the first rows of the output need the first rows of the map alone.
            let few = Grid { height: (kernel + stride).min(side), width: side };
            let want = reference::conv2d(&data[..few.cells() * c_in], few, &meant, shape, conv, &After::NONE);
            check(&name, &got, &want[..got.cols()], reference::CONV2D);
            let cost = 2 * got.rows() * shape.iter().product::<usize>();
            group(criterion, cost, &name, || {
                cpu.conv2d(x.view(), grid, &w, None, conv, Epilogue::NONE).unwrap();
            });
        }
    }
}

fn rows(criterion: &mut Criterion) {
    let (rows, cols) = (197, 768);
    let data = uniform(rows * cols, 1);
    for cpu in variants() {
        let isa = cpu.isa().name();
        let x = cpu.upload(rows, cols, &data).unwrap();
        let (w, meant) = weight(&cpu, &[cols], Dtype::F32);

        let name = format!("layer_norm/vit_b16/{isa}");
        let got = cpu.layer_norm(x.view(), 1, Some(&w), Some(&w), 1e-6).unwrap();
        let want = reference::layer_norm(&data, cols, Some(&meant), Some(&meant), 1e-6);
        check(&name, &got, &want, reference::LAYER_NORM);
        group(criterion, rows * cols, &name, || {
            cpu.layer_norm(x.view(), 1, Some(&w), Some(&w), 1e-6).unwrap();
        });

        for activation in [Activation::Gelu, Activation::QuickGelu, Activation::Silu] {
            let name = format!("activate/{activation:?}/{isa}");
            let got = cpu.activate(x.view(), activation).unwrap();
            check(&name, &got, &reference::activate(&data, activation), reference::ACTIVATE);
            group(criterion, rows * cols, &name, || {
                cpu.activate(x.view(), activation).unwrap();
            });
        }
    }
}

criterion_group!(ops, linear, attention, conv2d, rows);
criterion_main!(ops);
