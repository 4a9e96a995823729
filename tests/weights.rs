//! Weights files: what is accepted, what is refused and by which name, and that no bytes make the parser panic.
#![cfg(feature = "std")]

use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;
use triplet::Error;
use triplet::config::ModelDir;
use triplet::cpu::Cpu;
use triplet::weights::{Access, Dtype, Loader, MAX_HEADER, Storage, Verified, Weights};

/// A safetensors file with this header text and `data` bytes of zeros.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

/// `"name":{..}` of a header.
fn tensor(name: &str, dtype: &str, shape: &[u64], range: (u64, u64)) -> String {
    format!("{name:?}:{{\"dtype\":{dtype:?},\"shape\":{shape:?},\"data_offsets\":[{},{}]}}", range.0, range.1)
}

fn header(tensors: &[String]) -> String {
    format!("{{{}}}", tensors.join(","))
}

/// A file of three tensors as the format's own library writes it.
fn valid() -> Vec<u8> {
    use safetensors::tensor::{Dtype, TensorView, serialize};
    let f32s: Vec<u8> = [1.0f32, -2.0, 0.5, 4.0, 5.0, 6.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let halves: Vec<u8> = [0x3c00u16, 0xc000].iter().flat_map(|x| x.to_le_bytes()).collect();
    let ids = [7u8; 8];
    let views = [
        ("a.weight", TensorView::new(Dtype::F32, vec![2, 3], &f32s).unwrap()),
        ("b.bias", TensorView::new(Dtype::F16, vec![2], &halves).unwrap()),
        ("b.position_ids", TensorView::new(Dtype::I64, vec![1, 1], &ids).unwrap()),
    ];
    serialize(views, None).unwrap()
}

fn refused(bytes: Vec<u8>) -> Error {
    Weights::from_vec(bytes).expect_err("accepted")
}

/// Expects an [`Error::Tensor`] with this name whose reason contains `word`.
fn names(error: Error, tensor: &str, word: &str) {
    match error {
        Error::Tensor { name, reason } => {
            assert_eq!(name, tensor, "{reason}");
            assert!(reason.contains(word), "{reason}");
        }
        other => panic!("{other}"),
    }
}

/// An empty directory of this test, removed when dropped.
struct Dir(PathBuf);

impl Dir {
    fn new(test: &str) -> Dir {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(test);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Dir(path)
    }

    fn write(&self, file: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.0.join(file), bytes).unwrap();
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_valid_file_is_read_in_place() {
    let bytes: &'static [u8] = valid().leak();
    let weights = Weights::from_bytes(bytes).unwrap();
    assert_eq!(weights.names().collect::<Vec<_>>(), ["a.weight", "b.bias", "b.position_ids"]);
    let weight = weights.get("a.weight").unwrap();
    assert_eq!((weight.dtype(), weight.shape()), (Dtype::F32, &[2, 3][..]));
    assert_eq!(weight.bytes()[4..8], (-2.0f32).to_le_bytes());
    assert!(bytes.as_ptr_range().contains(&weight.bytes().as_ptr()), "the elements were copied");
    assert_eq!(weights.get("b.bias").unwrap().dtype(), Dtype::F16);
}

#[test]
fn an_unusable_type_is_an_error_only_when_asked_for() {
    let weights = Weights::from_vec(valid()).unwrap();
    assert!(weights.get("b.position_ids").is_none() && weights.has("b.position_ids"));
    names(weights.tensor("b.position_ids").unwrap_err(), "b.position_ids", "I64");
    names(weights.tensor("a.bias").unwrap_err(), "a.bias", "missing");
}

#[test]
fn truncated_files() {
    let bytes = valid();
    for length in 0..bytes.len() {
        assert!(Weights::from_vec(bytes[..length].to_vec()).is_err(), "{length} bytes were accepted");
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(matches!(refused(longer), Error::Format { reason, .. } if reason.contains("1 bytes follow")));
}

#[test]
fn ranges_must_tile_the_data() {
    let a = tensor("a", "F32", &[2], (0, 8));
    let overlap = header(&[a.clone(), tensor("b", "F32", &[2], (4, 12))]);
    names(refused(file(&overlap, 12)), "b", "inside a tensor");
    let hole = header(&[a.clone(), tensor("b", "F32", &[1], (12, 16))]);
    names(refused(file(&hole, 16)), "b", "hole");
    let late = header(&[tensor("b", "F32", &[1], (4, 8))]);
    names(refused(file(&late, 8)), "b", "hole");
    let past = header(&[a.clone(), tensor("b", "F32", &[2], (8, 16))]);
    names(refused(file(&past, 12)), "b", "outside");
    let reversed = header(&[tensor("b", "F32", &[2], (8, 0))]);
    names(refused(file(&reversed, 8)), "b", "outside");
    let huge = header(&[tensor("b", "F32", &[2], (0, u64::MAX))]);
    names(refused(file(&huge, 8)), "b", "outside");
}

#[test]
fn shapes_must_fill_their_ranges() {
    names(refused(file(&header(&[tensor("a", "F32", &[3], (0, 8))]), 8)), "a", "needs 12 bytes");
    names(refused(file(&header(&[tensor("a", "I64", &[3], (0, 8))]), 8)), "a", "does not fill");
    names(refused(file(&header(&[tensor("a", "F4", &[1], (0, 0))]), 0)), "a", "does not fill");
    let wrapping = header(&[tensor("a", "F32", &[1 << 62, 4], (0, 0))]);
    assert!(matches!(refused(file(&wrapping, 0)), Error::Limit { .. }));
    names(refused(file(&header(&[tensor("a", "F33", &[2], (0, 8))]), 8)), "a", "F33");
    let empty = Weights::from_vec(file(&header(&[tensor("a", "BF16", &[0, 9], (0, 0))]), 0)).unwrap();
    assert_eq!(empty.get("a").unwrap().shape(), [0, 9]);
}

#[test]
fn hostile_headers() {
    for length in [MAX_HEADER as u64 + 1, u64::MAX] {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend_from_slice(b"{}");
        let limit = Error::Limit { limit: "safetensors header", max: MAX_HEADER as u64, got: length };
        assert_eq!(refused(bytes), limit);
    }
    let twice = header(&[tensor("a", "F32", &[1], (0, 4)), tensor("a", "F32", &[1], (4, 8))]);
    assert!(
        matches!(refused(file(&twice, 8)), Error::Format { reason, .. } if reason.contains("a appears twice"))
    );
    let field_twice = r#"{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let deep = format!("{{\"a\":{}", "[".repeat(1_000_000));
    let deep_metadata = format!("{{\"__metadata__\":{}", "[".repeat(1_000_000));
    let negative = r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#;
    let extra = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"stride":1}}"#;
    for text in [field_twice, &deep, &deep_metadata, negative, extra, "[]", "{", "{}{}", "\u{0}"] {
        assert!(matches!(refused(file(text, 4)), Error::Format { .. }));
    }
}

#[test]
fn shards_are_merged_and_checked_against_their_index() {
    let dir = Dir::new("shards");
    let index = |map: &str| format!("{{\"metadata\":{{\"total_size\":8}},\"weight_map\":{{{map}}}}}");
    dir.write("one.safetensors", file(&header(&[tensor("a", "F32", &[1], (0, 4))]), 4));
    dir.write("two.safetensors", file(&header(&[tensor("b", "F16", &[2], (0, 4))]), 4));
    // Miri knows no memory maps.
    let access = if cfg!(miri) { Access::Read } else { Access::Map };
    let open = |map: &str| {
        dir.write("model.safetensors.index.json", index(map));
        Weights::open_with(&dir.0, access)
    };
    let weights = open(r#""a":"one.safetensors","b":"two.safetensors""#).unwrap();
    assert_eq!(weights.names().collect::<Vec<_>>(), ["a", "b"]);
    names(open(r#""b":"two.safetensors","c":"two.safetensors""#).unwrap_err(), "c", "missing from two");
    names(open(r#""a":"two.safetensors","b":"two.safetensors""#).unwrap_err(), "a", "missing from two");
    names(open(r#""a":"two.safetensors","b":"one.safetensors""#).unwrap_err(), "a", "lies in one");
    for path in ["../one.safetensors", "/one.safetensors", "", "..", "C:one"] {
        let error = open(&format!("\"a\":{path:?}")).unwrap_err();
        assert!(matches!(error, Error::Format { reason, .. } if reason.contains("no file name")), "{path}");
    }
    let absent = open(r#""a":"three.safetensors""#).unwrap_err();
    assert!(matches!(absent, Error::Io { path, .. } if path.ends_with("three.safetensors")));
}

#[test]
fn mapped_and_read_files_hold_the_same_bytes() {
    let dir = Dir::new("access");
    dir.write("model.safetensors", valid());
    let mapped = Weights::open(&dir.0).unwrap();
    let read = Weights::open_with(&dir.0, Access::Read).unwrap();
    for name in ["a.weight", "b.bias"] {
        assert_eq!(mapped.get(name).unwrap().bytes(), read.get(name).unwrap().bytes());
    }
    dir.write("model.safetensors", []);
    for access in [Access::Map, Access::Read] {
        assert!(matches!(Weights::open_with(&dir.0, access), Err(Error::Format { .. })));
    }
}

#[test]
fn a_model_directory_names_the_missing_file() {
    let dir = Dir::new("model_dir");
    let expect_missing = |file: &str| match ModelDir::open(&dir.0) {
        Err(Error::Io { path, .. }) => assert!(path.ends_with(file), "{path}"),
        other => panic!("{other:?}"),
    };
    expect_missing("config.json");
    dir.write("config.json", r#"{"llm":{"hidden_size":8}}"#);
    expect_missing("tokenizer.json");
    dir.write("tokenizer.json", "{}");
    expect_missing("model.safetensors");
    dir.write("model.safetensors", valid());
    let model = ModelDir::open(&dir.0).unwrap();
    assert_eq!(model.tokenizer, b"{}");
    assert_eq!(model.config.module("llm").unwrap().usize("hidden_size").unwrap(), 8);
    assert_eq!(model.weights.len(), 3);
}

#[test]
fn verify_names_the_first_element_that_is_not_finite() {
    let weights = Weights::from_vec(valid()).unwrap();
    let mut last = 0;
    let whole = weights.verify(|progress| {
        assert!(progress.done >= last && progress.total == 28);
        last = progress.done;
        ControlFlow::Continue(())
    });
    assert_eq!((whole.unwrap(), last), (Verified::Whole, 24));
    assert_eq!(weights.verify(|_| ControlFlow::Break(())).unwrap(), Verified::Stopped);

    let types = [("F32", f32::NAN.to_le_bytes().to_vec()), ("F32", f32::INFINITY.to_le_bytes().to_vec())];
    let halves = [("F16", vec![0x01, 0x7c]), ("F16", vec![0x00, 0xfc]), ("BF16", vec![0x80, 0x7f])];
    for (dtype, bad) in types.into_iter().chain(halves) {
        // large enough for a second chunk of 16 MiB, with the bad element in it
        let count = (17 << 20) / bad.len();
        let size = (count * bad.len()) as u64;
        let text = header(&[tensor("a", dtype, &[count as u64], (0, size))]);
        let mut bytes = file(&text, size as usize);
        let at = bytes.len() - 2 * bad.len();
        bytes[at..at + bad.len()].copy_from_slice(&bad);
        let weights = Weights::from_vec(bytes).unwrap();
        let error = weights.verify(|_| ControlFlow::Continue(())).unwrap_err();
        names(error, "a", &format!("element {} ", count - 2));
    }
}

/// Every accepted file must be readable everywhere.
fn read_everything(bytes: Vec<u8>) {
    let storage: Storage = Arc::new(bytes);
    if let Ok(weights) = Weights::from_storage("mutated", storage) {
        for name in weights.names() {
            if let Some(tensor) = weights.get(name) {
                let elements: usize = tensor.shape().iter().product();
                assert_eq!(tensor.bytes().len(), elements * tensor.dtype().size());
            }
        }
        let _ = weights.verify(|_| ControlFlow::Continue(()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_files_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        let mut bytes = valid();
        for (index, byte) in edits {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        if cuts {
            let at = cut.index(bytes.len());
            bytes.truncate(at);
        }
        read_everything(bytes);
    }

    #[test]
    fn mutated_numbers_never_panic(
        shape in prop::collection::vec(prop_oneof![0u64..4, any::<u64>()], 0..4),
        range in (prop_oneof![0u64..40, any::<u64>()], prop_oneof![0u64..40, any::<u64>()]),
        dtype in prop_oneof![Just("F32"), Just("F16"), Just("BF16"), Just("I8"), Just("U8"), Just("I64"), Just("F4"), Just("X")],
    ) {
        let text = header(&[tensor("a", "F32", &[2], (0, 8)), tensor("b", dtype, &shape, range)]);
        read_everything(file(&text, 24));
    }
}

/// A loader of linear layers over `tensors`, with zeros for data.
fn matrix(tensors: &[String], bytes: usize, shape: &[usize]) -> Result<(), Error> {
    let weights = Weights::from_vec(file(&header(tensors), bytes))?;
    let cpu = Cpu::with_threads(1);
    let loader = Loader::new(&weights, &cpu, "a").quantised();
    loader.child("b").matrix("weight", shape)?;
    assert_eq!(loader.unused(), [""; 0], "integers and scales are taken");
    assert_eq!(loader.taken_bytes(), bytes);
    Ok(())
}

#[test]
fn quantised_matrices_are_taken_with_their_scales() {
    let (weight, scale) = ("a.b.weight", "a.b.weight_scale");
    let eight = tensor(weight, "I8", &[4, 96], (0, 384));
    let four = tensor(weight, "U8", &[4, 48], (0, 192));
    matrix(&[eight.clone(), tensor(scale, "F32", &[4], (384, 400))], 400, &[4, 96]).unwrap();
    matrix(&[eight.clone(), tensor(scale, "F16", &[4], (384, 392))], 392, &[4, 96]).unwrap();
    matrix(&[four.clone(), tensor(scale, "F16", &[4, 3], (192, 216))], 216, &[4, 96]).unwrap();
    matrix(&[four.clone(), tensor(scale, "F32", &[4, 3], (192, 240))], 240, &[4, 96]).unwrap();
    let kernel = tensor(weight, "I8", &[4, 96, 1, 1], (0, 384));
    matrix(&[kernel, tensor(scale, "F32", &[4], (384, 400))], 400, &[4, 96, 1, 1]).unwrap();

    let refused = |tensors: &[String], bytes, name, word| {
        names(matrix(tensors, bytes, &[4, 96]).unwrap_err(), name, word);
    };
    refused(std::slice::from_ref(&eight), 384, scale, "missing");
    refused(&[eight.clone(), tensor(scale, "F32", &[2, 2], (384, 400))], 400, scale, "asks for [4]");
    refused(&[eight.clone(), tensor(scale, "BF16", &[4], (384, 392))], 392, scale, "F32 or F16");
    refused(&[eight.clone(), tensor(scale, "I64", &[4], (384, 416))], 416, scale, "I64");
    refused(&[four.clone(), tensor(scale, "F32", &[4], (192, 208))], 208, scale, "asks for [4, 3]");
    let short = tensor(weight, "I8", &[4, 95], (0, 380));
    refused(&[short, tensor(scale, "F32", &[4], (380, 396))], 396, weight, "asks for [4, 96]");
    let short = tensor(weight, "U8", &[4, 96], (0, 384));
    refused(&[short, tensor(scale, "F32", &[4, 3], (384, 432))], 432, weight, "asks for [4, 48]");
    let float = tensor(weight, "F16", &[4, 96], (0, 768));
    refused(&[float, tensor(scale, "F32", &[4], (768, 784))], 784, scale, "not quantised");
    let odd = [tensor(weight, "U8", &[4, 40], (0, 160)), tensor(scale, "F32", &[4, 2], (160, 192))];
    names(matrix(&odd, 192, &[4, 80]).unwrap_err(), weight, "32 does not divide");
}

#[test]
fn a_quantised_matrix_is_refused_where_none_may_be() {
    let tensors =
        [tensor("a.weight", "I8", &[4, 96], (0, 384)), tensor("a.weight_scale", "F32", &[4], (384, 400))];
    let weights = Weights::from_vec(file(&header(&tensors), 400)).unwrap();
    let cpu = Cpu::with_threads(1);
    let loader = Loader::new(&weights, &cpu, "a");
    names(loader.matrix("weight", &[4, 96]).map(drop).unwrap_err(), "a.weight", "I8");
    names(loader.quantised().weight("weight", &[4, 96]).map(drop).unwrap_err(), "a.weight", "I8");
}
