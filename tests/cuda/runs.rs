//! Products whose inputs are cut in runs, so that few rows and columns keep a device busy.

use std::sync::Arc;

use triplet::backend::{Activation, Backend, Epilogue, Weight};
use triplet::cuda::{Cuda, Kernel};
use triplet::reference::{self, After, bytes, uniform};
use triplet::weights::{Dtype, Tensor};

use crate::device_with;
use crate::stand_in::{self, Settings, StandIn};

const K: usize = 1088;
const N: usize = 70;

fn stored(cuda: &Cuda, shape: &[usize], seed: u64, dtype: Dtype) -> (Weight<Cuda>, Vec<f32>) {
    let (stored, numbers) = bytes(&uniform(shape.iter().product(), seed), dtype);
    let range = 0..stored.len();
    let tensor = Tensor::new("weight".into(), dtype, shape.to_vec(), Arc::new(stored), range).unwrap();
    (Weight::new(cuda.store(&tensor).unwrap(), shape), numbers)
}

/// Entries and layers of the grids of products since `from`.
fn layers(from: usize) -> Vec<(String, u32)> {
    let is_product = |entry: &str| entry.starts_with("triplet_linear");
    StandIn::with(|all| {
        let launches = all.launches.iter().skip(from).filter(|launch| is_product(&launch.entry));
        launches.map(|launch| (launch.entry.clone(), launch.grid[2])).collect()
    })
}

/// A product with many inputs is the reference's, and a row has the same bits in a small batch; `looked` is called after each
/// product, with whether there were tensor cores.
pub fn agree(cuda: &Cuda, mut looked: impl FnMut(bool)) {
    let (weight, numbers) = stored(cuda, &[N, K], 2, Dtype::F16);
    let (bias, biases) = stored(cuda, &[N], 3, Dtype::F32);
    let (rows, activation) = (66, Activation::GeluTanh);
    let (x, added) = (uniform(rows * K, 4), uniform(rows * N, 5));
    let product = |cuda: &Cuda, rows: usize| {
        let residual = cuda.upload(rows, N, &added[..rows * N]).unwrap();
        let epilogue = Epilogue { activation, scale: None, residual: Some(residual.view()) };
        let x = cuda.upload(rows, K, &x[..rows * K]).unwrap();
        cuda.download(cuda.linear(x.view(), &weight, Some(&bias), epilogue).unwrap().view()).unwrap()
    };
    let after = After { bias: Some(&biases), activation, scale: None, residual: Some(&added) };
    let want = reference::linear(&x, &numbers, [rows, K, N], &after);
    let bits = |numbers: &[f32]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    for (cuda, tensor_cores) in [(cuda.clone(), true), (cuda.without_tensor_cores(), false)] {
        let got = product(&cuda, rows);
        looked(tensor_cores);
        reference::compare(&got, &want, reference::Tolerance { norm: 2e-6, element: 4e-6 }).unwrap();
        assert_eq!(bits(&product(&cuda, 5)), bits(&got[..5 * N]));
        looked(tensor_cores);
    }
}

#[test]
fn sums_of_runs_are_joined_and_a_row_keeps_its_bits_in_any_batch() {
    for (compute, name) in [((7, 5), "linear_sm75"), ((8, 9), "linear_sm80"), ((9, 0), "linear_sm90a")] {
        let cuda = device_with(Settings { compute, ..Settings::default() }).unwrap().poisoned();
        let mut from = StandIn::with(|all| all.launches.len());
        agree(&cuda, |tensor_cores| {
            let launched = layers(from).into_iter().filter(|(entry, _)| entry != "triplet_linear_pack");
            let launched: Vec<(String, u32)> = launched.collect();
            // Without tensor cores nothing is cut.
            let want = match tensor_cores {
                true => vec![(format!("triplet_{name}"), 4), ("triplet_linear_merge".into(), 1)],
                false => vec![("triplet_linear".into(), 1)],
            };
            assert_eq!(launched, want);
            from = StandIn::with(|all| all.launches.len());
        });
    }
}

#[test]
fn very_many_rows_and_many_columns_are_not_cut() {
    // Nothing is executed.
    StandIn::start(Settings { compute: (8, 0), ..Settings::default() });
    let cuda = Cuda::without_self_test(&stand_in::reopen().unwrap(), 0).unwrap();
    let runs = |rows: usize, n: usize, k: usize| {
        let (weight, _) = stored(&cuda, &[n, k], 6, Dtype::F16);
        let x = cuda.zeros(rows, k).unwrap();
        let from = StandIn::with(|all| all.launches.len());
        cuda.linear(x.view(), &weight, None, Epilogue::NONE).unwrap();
        cuda.synchronize().unwrap();
        layers(from)
            .into_iter()
            .map(|(entry, layers)| (entry.ends_with("_merge"), layers))
            .collect::<Vec<_>>()
    };
    assert_eq!(runs(2048, 64, 512), [(false, 2), (true, 1)]);
    assert_eq!(runs(2049, 64, 512), [(false, 1)]);
    assert_eq!(runs(577, 3072, 1024), [(false, 1)]);
    assert_eq!(runs(577, 1024, 1024), [(false, 2), (true, 1)]);
    assert_eq!(runs(577, 64, 504), [(false, 1)]);
    // Few rows are no work for tensor cores.
    assert_eq!(runs(4, 64, 512), [(false, 1)]);
}

#[test]
fn where_the_kernel_that_joins_is_wrong_nothing_is_cut() {
    let refused = vec![".entry triplet_linear_merge("];
    let cuda = device_with(Settings { refused, compute: (8, 9), ..Settings::default() }).unwrap();
    assert_eq!((cuda.variant(Kernel::LinearMerge), cuda.variant(Kernel::LinearTensor)), ("", "linear_sm80"));
    let (weight, numbers) = stored(&cuda, &[N, K], 7, Dtype::F32);
    let x = uniform(5 * K, 8);
    let from = StandIn::with(|all| all.launches.len());
    let out = cuda.linear(cuda.upload(5, K, &x).unwrap().view(), &weight, None, Epilogue::NONE).unwrap();
    let got = cuda.download(out.view()).unwrap();
    assert_eq!(layers(from), [("triplet_linear_sm80".into(), 1)]);
    let want = reference::linear(&x, &numbers, [5, K, N], &After::NONE);
    reference::compare(&got, &want, reference::Tolerance { norm: 2e-6, element: 4e-6 }).unwrap();
}
