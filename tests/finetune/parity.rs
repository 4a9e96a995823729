//! Ten updates from the same weights, pictures and masks as PyTorch.

use triplet::backend::Backend;
use triplet::cpu::Cpu;
use triplet::vision::Vit;
use triplet::weights::{Loader, Weights};

use crate::case::{Case, UPDATES};

/// Largest relative difference of a loss, a norm or a tensor.
const LIMIT: f64 = 1e-4;

/// Norm of the difference over norm of `want`.
fn apart(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len());
    if want.is_empty() {
        return 0.0;
    }
    let square = |x: f64| x * x;
    let difference: f64 = got.iter().zip(want).map(|(&a, &b)| square(f64::from(a) - f64::from(b))).sum();
    let size: f64 = want.iter().map(|&x| square(f64::from(x))).sum();
    (difference / size).sqrt()
}

/// The tensor without what only shifts all logits of a query: the key third of a `qkv.bias`, or the bias of a norm of key
/// heads, under a plain softmax. Their gradient is 0 but for rounding, which Adam blows up to whole steps.
fn without_keys(case: &Case, name: &str, data: Vec<f32>) -> Vec<f32> {
    let config = &case.config.student;
    let capped = name.starts_with("encoder.") && config.soft_cap.is_some();
    let width = data.len() / 3;
    if !capped && name.ends_with("k_norm.bias") {
        return Vec::new();
    }
    if !capped && !config.qk_norm && name.ends_with("qkv.bias") {
        return [&data[..width], &data[2 * width..]].concat();
    }
    data
}

fn parity(name: &str) {
    let case = Case::open(name);
    let cpu = &case.fixture.cpu;
    let numbers = |name: &str| cpu.download(case.fixture.matrix(&format!("output.{name}")).view()).unwrap();
    let mut trainer = case.trainer(cpu, case.config.clone());
    if case.fixture.has_output("factor") {
        let factor = f64::from(trainer.teacher().factor());
        assert!((factor / f64::from(numbers("factor")[0]) - 1.0).abs() < LIMIT);
    }
    let (losses, norms, rates) = (numbers("loss"), numbers("norm"), numbers("rate"));
    assert!(losses.len() == UPDATES && norms.len() == UPDATES && rates.len() == UPDATES);
    let mut worst = [0.0f64; 4];
    for update in 0..UPDATES {
        let (loss, taken) = case.step(cpu, &mut trainer, update);
        let pairs = [(loss, losses[update]), (taken.norm, norms[update]), (taken.rate, rates[update])];
        for (worst, (got, want)) in worst.iter_mut().zip(pairs) {
            *worst = worst.max((got / f64::from(want) - 1.0).abs());
        }
        assert_eq!(taken.updates, update as u64 + 1);
    }
    let mut tensor = String::new();
    for parameter in trainer.parameters().iter() {
        let elements = parameter.weight.elements();
        let got = cpu.download(cpu.read(&parameter.weight, 1, elements).unwrap().view()).unwrap();
        let want = numbers(&format!("final.{}", parameter.name));
        let got = without_keys(&case, &parameter.name, got);
        let difference = apart(&got, &without_keys(&case, &parameter.name, want));
        if difference > worst[3] {
            (worst[3], tensor) = (difference, parameter.name.clone());
        }
    }
    let expected = case.fixture.weights.names().filter(|name| name.starts_with("output.final.")).count();
    assert_eq!(trainer.parameters().len(), expected, "{name}: another number of trained tensors");
    let [loss, norm, rate, weights] = worst;
    println!("{name}: loss {loss:.1e} norm {norm:.1e} rate {rate:.1e} weights {weights:.1e} ({tensor})");
    assert!(worst.iter().all(|&worst| worst <= LIMIT), "{name}: {worst:?} {tensor}");
    // The losses tell the runs apart: ten updates change them by far more than the limit.
    assert!((losses[0] - losses[UPDATES - 1]).abs() > 0.05 * losses[0]);
    if trainer.config().ema.is_some() {
        average(&case, cpu, &trainer, &numbers);
    }
}

/// The moving average of the tensors that the fixture holds, by way of an export.
fn average(
    case: &Case,
    cpu: &Cpu,
    trainer: &triplet::finetune::Trainer<Cpu>,
    numbers: &impl Fn(&str) -> Vec<f32>,
) {
    let (file, config) = trainer.export(cpu, true, false).unwrap();
    let exported = Weights::from_vec(file).unwrap();
    let mut compared = 0;
    for name in case.fixture.weights.names().filter_map(|name| name.strip_prefix("output.ema.encoder.")) {
        let tensor = exported.tensor(name).unwrap();
        let got: Vec<f32> =
            tensor.bytes().as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        let want = numbers(&format!("ema.encoder.{name}"));
        let difference = apart(&got, &want);
        assert!(difference <= LIMIT, "average of {name}: {difference:.1e}");
        let last = numbers(&format!("final.encoder.{name}"));
        assert!(apart(&want, &last) > LIMIT, "the average of {name} is the last value");
        compared += 1;
    }
    assert!(compared > 5);
    Vit::load(&Loader::new(&exported, cpu, ""), &config).unwrap();
}

#[test]
fn with_a_class_token() {
    parity("class");
}

#[test]
fn without_a_class_token() {
    parity("patches");
}

#[test]
fn soft_capped() {
    parity("capped");
}

#[test]
fn pooled_vector_at_the_prefix_token() {
    parity("prefix");
}

#[test]
fn decoder_alone() {
    parity("frozen");
}

#[test]
fn masked_image_modelling() {
    parity("mim");
}
