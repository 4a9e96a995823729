//! Makes a model directory with quantised linear layers from one without.
//!
//!     cargo run --release --example quantize -- MODEL OUT --int8
//!     cargo run --release --example quantize -- MODEL OUT --int4
//!
//! Which layers may be quantised and how they are stored is in `docs/model-directory.md`; all other tensors and files go over
//! as they are. `--int4` keeps eight bits where 32 does not divide a row, and for `lm_head`. OUT is written beside itself and
//! renamed when it is whole; it must not exist. The last line is
//! `result scheme=... quantised=... kept=... bytes_before=... bytes_after=... max_relative_error=...`, the last figure being the
//! largest over the layers of the norm of the difference over the norm of the weight.
#![forbid(unsafe_code)]

mod layers;
#[path = "../evaluate/progress.rs"]
mod progress;

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use layers::{Plan, may_be_quantised};
use progress::Progress;
use triplet::weights::{Dtype, Integers, Scheme, Tensor, Weights, dequantise, quantise};

const USAGE: &str = "quantize MODEL OUT --int8|--int4";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--help" || word == "-h") {
        println!("{USAGE}");
        return Ok(());
    }
    let [model, out, scheme] = &words[..] else { return Err(USAGE.into()) };
    let scheme = match scheme.as_str() {
        "--int8" => Scheme::Int8,
        "--int4" => Scheme::Int4,
        _ => return Err(USAGE.into()),
    };
    let (model, out) = (Path::new(model), Path::new(out));
    if out.exists() {
        return Err(format!("{} exists", out.display()).into());
    }
    let weights = Weights::open(model)?;
    let mut name = out.file_name().ok_or_else(|| format!("{} is no name", out.display()))?.to_owned();
    name.push(".part");
    let part = out.with_file_name(name);
    if part.exists() {
        fs::remove_dir_all(&part)?;
    }
    fs::create_dir_all(&part)?;
    let report = write(&weights, scheme, &part.join("model.safetensors"))?;
    for file in others(model)? {
        fs::copy(model.join(&file), part.join(&file))?;
    }
    File::open(&part)?.sync_all()?;
    fs::rename(&part, out)?;
    let Report { quantised, kept, before, after, worst } = report;
    let scheme = if scheme == Scheme::Int8 { "int8" } else { "int4" };
    println!(
        "result scheme={scheme} quantised={quantised} kept={kept} bytes_before={before} bytes_after={after} \
         max_relative_error={worst:.5}"
    );
    Ok(())
}

/// Files of a model directory that are no weights.
fn others(model: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(model)? {
        let entry = entry?;
        let name = PathBuf::from(entry.file_name());
        let text = name.to_string_lossy().into_owned();
        let weights = text.ends_with(".safetensors") || text == "model.safetensors.index.json";
        if entry.file_type()?.is_file() && !weights {
            files.push(name);
        }
    }
    Ok(files)
}

/// What was done.
struct Report {
    quantised: usize,
    kept: usize,
    before: u64,
    after: u64,
    worst: f64,
}

/// Writes all tensors that can be used to one file.
fn write(weights: &Weights, scheme: Scheme, path: &Path) -> Result<Report, Box<dyn Error>> {
    let mut plan = Plan::default();
    let (mut before, mut chosen) = (0, 0);
    for name in weights.names() {
        let Some(tensor) = weights.get(name) else {
            return Err(
                format!("{name} is of a type that is not copied (is MODEL quantised already?)").into()
            );
        };
        before += tensor.bytes().len() as u64;
        let scheme = may_be_quantised(name, tensor.shape()).then(|| match tensor.shape() {
            [_, k] if scheme == Scheme::Int4 && k % 32 == 0 && !name.ends_with("lm_head.weight") => scheme,
            _ => Scheme::Int8,
        });
        chosen += usize::from(scheme.is_some());
        plan.add(tensor, scheme);
    }
    if chosen == 0 {
        return Err("no layer of MODEL can be quantised".into());
    }
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    file.write_all(&plan.header())?;
    let mut progress = Progress::new("quantize", plan.writes().count() as u64);
    let mut report = Report { quantised: chosen, kept: 0, before, after: 0, worst: 0.0 };
    // Scales lie apart from their integers in the file; they wait here.
    let mut scales = std::collections::HashMap::new();
    for write in plan.writes() {
        match write {
            layers::Write::Plain(tensor) => {
                file.write_all(tensor.bytes())?;
                report.kept += 1;
            }
            layers::Write::Integers(tensor, scheme) => {
                let (integers, error) = quantised(tensor, scheme);
                file.write_all(&integers.bytes)?;
                report.worst = report.worst.max(error);
                scales.insert(tensor.name(), integers.scales);
            }
            layers::Write::Scales(tensor, _) => {
                let scales = scales.remove(tensor.name()).unwrap_or_default();
                scales.iter().try_for_each(|scale| file.write_all(&scale.to_le_bytes()))?;
            }
        }
        progress.step();
    }
    file.into_inner()?.sync_all()?;
    report.after = fs::metadata(path)?.len();
    Ok(report)
}

/// The integers of a tensor, and the norm of what is lost over the norm of the tensor.
fn quantised(tensor: &Tensor, scheme: Scheme) -> (Integers, f64) {
    let numbers = numbers(tensor);
    let k: usize = tensor.shape().iter().skip(1).product();
    let integers = quantise(&numbers, k, scheme);
    let (mut lost, mut size) = (0.0, 0.0);
    let mut back = vec![0.0; k];
    for (row, numbers) in numbers.chunks_exact(k.max(1)).enumerate() {
        let bytes = &integers.bytes[row * scheme.row_bytes(k)..];
        dequantise(bytes, &integers.scales[row * scheme.row_scales(k)..], scheme, &mut back);
        for (&x, &y) in numbers.iter().zip(&back) {
            lost += f64::from(x - y).powi(2);
            size += f64::from(x).powi(2);
        }
    }
    (integers, (lost / size.max(f64::MIN_POSITIVE)).sqrt())
}

/// The elements of a tensor.
fn numbers(tensor: &Tensor) -> Vec<f32> {
    let bytes = tensor.bytes();
    match tensor.dtype() {
        Dtype::F32 => bytes.as_chunks().0.iter().map(|&x| f32::from_le_bytes(x)).collect(),
        Dtype::F16 => bytes.as_chunks().0.iter().map(|&x| half::f16::from_le_bytes(x).to_f32()).collect(),
        _ => bytes.as_chunks().0.iter().map(|&x| half::bf16::from_le_bytes(x).to_f32()).collect(),
    }
}
