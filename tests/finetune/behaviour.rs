//! Bits, what inference makes of a trained encoder, and errors.

use triplet::Error;
use triplet::backend::Backend;
use triplet::cpu::{Cpu, Isa};
use triplet::finetune::{AlignConfig, HeadKind, Images, MaskKind, Masks, Objective, Schedule, Trainer};
use triplet::vision::{PoolKind, Vit, VitConfig};
use triplet::weights::{Loader, Weights};

use crate::case::Case;

#[test]
fn same_bits_for_any_threads_every_run_and_with_checkpointing() {
    for name in ["class", "patches", "capped", "mim"] {
        let case = Case::open(name);
        for isa in [Isa::Portable, Isa::best()] {
            let cpu = |threads| Cpu::with_threads(threads).with_isa(isa).unwrap();
            let want = case.bits(&cpu(1), case.config.clone());
            assert!(case.bits(&cpu(1), case.config.clone()) == want, "{name}: another run");
            assert!(case.bits(&cpu(2), case.config.clone()) == want, "{name}: two threads");
            assert!(case.bits(&cpu(2).poisoned(), case.config.clone()) == want, "{name}: unwritten elements");
            let checkpointing = AlignConfig { checkpointing: true, ..case.config.clone() };
            assert!(case.bits(&cpu(2), checkpointing) == want, "{name}: checkpointing");
        }
    }
}

/// A file with some tensors of a fixture under new names, and others.
fn file(case: &Case, from: &str, to: &str, more: &[(&str, Vec<usize>, Vec<f32>)]) -> Vec<u8> {
    use safetensors::tensor::{Dtype, TensorView};
    let weights = &case.fixture.weights;
    let mut tensors = Vec::new();
    for name in weights.names().filter(|name| name.starts_with(from)) {
        let tensor = weights.tensor(name).unwrap();
        let view = TensorView::new(Dtype::F32, tensor.shape().to_vec(), tensor.bytes()).unwrap();
        tensors.push((format!("{to}{}", &name[from.len()..]), view));
    }
    let more: Vec<_> = more
        .iter()
        .map(|(name, shape, data)| {
            let bytes: Vec<u8> = data.iter().flat_map(|x| x.to_le_bytes()).collect();
            (name.to_string(), shape.clone(), bytes)
        })
        .collect();
    for (name, shape, bytes) in &more {
        tensors.push((name.clone(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    }
    safetensors::serialize(tensors, None).unwrap()
}

/// An encoder that trains, with an identity for its head, against the encoder of inference: the same loss, bit for bit.
#[test]
fn training_computes_what_inference_computes() {
    let case = Case::open("frozen");
    let cpu = &case.fixture.cpu;
    let frozen = case.trainer(cpu, case.config.clone());
    let width = case.config.student.hidden_size;
    let identity = (0..width * width).map(|i| f32::from(u8::from(i / width == i % width))).collect();
    let head = [
        ("encoder.head.weight", vec![width, width], identity),
        ("encoder.head.bias", vec![width], vec![0.0; width]),
    ];
    let state = Weights::from_vec(file(&case, "student.", "", &head)).unwrap();
    let Objective::MaskEmbed { skip_blocks, prefix_only, decoder, .. } = case.config.objective else {
        panic!()
    };
    let objective = Objective::MaskEmbed { skip_blocks, prefix_only, freeze_encoder: false, decoder };
    let config = AlignConfig { objective, ..case.config.clone() };
    let teacher = case.fixture.loader("teacher");
    let state = Loader::new(&state, cpu, "");
    let trained = Trainer::with_parameters(cpu, config, &teacher, &teacher, &state, 1).unwrap();
    let (images, masks) = (case.images(&case.pixels), case.validation());
    let want = frozen.validate(cpu, images, &masks).unwrap();
    assert!(want > 0.1);
    assert_eq!(trained.validate(cpu, images, &masks).unwrap().to_bits(), want.to_bits());
}

fn normed(cpu: &Cpu, file: Vec<u8>, config: &VitConfig, picture: &[f32]) -> Vec<f32> {
    let weights = Weights::from_vec(file).unwrap();
    let loader = Loader::new(&weights, cpu, "");
    let vit = Vit::load(&loader, config).unwrap();
    assert_eq!(loader.unused(), [] as [&str; 0]);
    let pixels = cpu.upload(picture.len() / 3, 3, picture).unwrap();
    cpu.download(vit.forward(cpu, pixels.view()).unwrap().normed.view()).unwrap()
}

#[test]
fn an_export_loads_and_folding_layer_scale_changes_nothing() {
    let case = Case::open("capped");
    let cpu = &case.fixture.cpu;
    let mut trainer = case.trainer(cpu, case.config.clone());
    case.step(cpu, &mut trainer, 0);
    let picture = &case.pixels[..case.picture()];
    let (plain, config) = trainer.export(cpu, false, false).unwrap();
    assert!(config.layer_scale && config.soft_cap == Some(2.0));
    let config = VitConfig { pool: PoolKind::None, pool_norm: false, ..config };
    let want = normed(cpu, plain.clone(), &config, picture);
    let (folded, shorter) = trainer.export(cpu, false, true).unwrap();
    assert!(!shorter.layer_scale && folded.len() < plain.len());
    let shorter = VitConfig { layer_scale: false, ..config };
    let got = normed(cpu, folded, &shorter, picture);
    let worst = got.iter().zip(&want).fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs()));
    assert!(worst < 1e-4 && want.iter().any(|x| x.abs() > 0.5), "{worst}");
    assert!(matches!(
        case.trainer(cpu, AlignConfig { ema: None, ..case.config.clone() }).export(cpu, true, false),
        Err(Error::Input { field: "average", .. })
    ));
    let frozen = Case::open("frozen");
    let refused = frozen.trainer(cpu, frozen.config.clone()).export(cpu, false, false).map(drop);
    assert!(matches!(refused, Err(Error::Input { field: "export", .. })));
}

/// A new run from pre-trained weights: the head starts at zero, everything else of the encoder where it was, and training
/// on masks of its own lowers the loss.
#[test]
fn a_new_run_starts_at_the_pretrained_weights_and_learns() {
    let case = Case::open("class");
    let cpu = &case.fixture.cpu;
    let teacher = case.fixture.loader("teacher");
    for head in [HeadKind::Linear, HeadKind::Mlp] {
        let vit = VitConfig { pool: PoolKind::Class, ..case.config.teacher.clone() };
        let config = AlignConfig { head, ..AlignConfig::recipe(&vit, Schedule::cosine(3e-3, 40)) };
        let mut trainer = Trainer::new(cpu, config.clone(), &teacher, &teacher, 7).unwrap();
        let values = |trainer: &Trainer<Cpu>, name: &str| {
            let parameter = trainer.parameters().iter().find(|parameter| parameter.name == name).unwrap();
            let elements = parameter.weight.elements();
            cpu.download(cpu.read(&parameter.weight, 1, elements).unwrap().view()).unwrap()
        };
        let last = if head == HeadKind::Linear { "encoder.head.weight" } else { "encoder.head.fc2.weight" };
        assert!(values(&trainer, last).iter().all(|&x| x == 0.0));
        assert!(values(&trainer, "encoder.norm.weight").iter().all(|&x| x == 1.0));
        assert!(values(&trainer, "decoder.blocks.1.ls2.gamma").iter().all(|&x| x == 1e-6));
        let positions = values(&trainer, "decoder.pos_embed");
        let square = positions.iter().map(|x| x * x).sum::<f32>() / positions.len() as f32;
        assert!((square.sqrt() / 0.02 - 1.0).abs() < 0.2, "{square}");
        let first = cpu.download(case.fixture.matrix("teacher.blocks.0.mlp.fc1.weight").view()).unwrap();
        assert!(values(&trainer, "encoder.blocks.0.mlp.fc1.weight") == first);

        let images = case.images(&case.pixels);
        let masks = trainer.validation_masks(images.count(), 0);
        let variance = trainer.calibrate(cpu, [(images, masks.clone())]).unwrap().unwrap();
        assert!(variance > 0.0);
        // The targets have unit variance; a decoder that knows nothing is about that far off.
        let before = trainer.validate(cpu, images, &masks).unwrap();
        for _ in 0..40 {
            let masks = trainer.sample(images.count());
            trainer.accumulate(cpu, images, &masks, 1).unwrap();
            trainer.update(cpu).unwrap();
        }
        let after = trainer.validate(cpu, images, &masks).unwrap();
        println!("{head:?}: {before:.3} to {after:.3}");
        assert!(after < 0.8 * before, "{before} {after}");
        let mut again = Trainer::new(cpu, config, &teacher, &teacher, 7).unwrap();
        assert!(values(&again, "decoder.pos_embed") == positions);
        let mut once_more = Trainer::new(cpu, again.config().clone(), &teacher, &teacher, 7).unwrap();
        assert_eq!(again.sample(2), once_more.sample(2));
    }
}

fn field<T>(result: triplet::Result<T>) -> &'static str {
    match result {
        Err(Error::Input { field, .. }) => field,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("was accepted"),
    }
}

#[test]
fn what_does_not_go_together_is_named() {
    let case = Case::open("class");
    let cpu = &case.fixture.cpu;
    let teacher = case.fixture.loader("teacher");
    let good = case.config.clone();
    let Objective::MaskEmbed { decoder, .. } = good.objective else { panic!() };
    let made = |config: AlignConfig| field(Trainer::new(cpu, config, &teacher, &teacher, 1));
    let objective = |skip_blocks, prefix_only, freeze_encoder, width| {
        let decoder = triplet::finetune::DecoderConfig { width, ..decoder };
        AlignConfig {
            objective: Objective::MaskEmbed { skip_blocks, prefix_only, freeze_encoder, decoder },
            ..good.clone()
        }
    };
    assert_eq!(made(objective(1, true, false, 16)), "prefix_only");
    assert_eq!(made(objective(3, false, false, 16)), "skip_blocks");
    assert_eq!(made(objective(1, false, true, 24)), "decoder.width");
    assert_eq!(made(objective(1, false, false, 17)), "decoder.heads");
    let student = VitConfig { image_size: 20, ..good.student.clone() };
    assert_eq!(made(AlignConfig { student, ..good.clone() }), "student");
    let student = VitConfig { registers: 2, ..good.student.clone() };
    assert_eq!(made(AlignConfig { student, ..good.clone() }), "student");
    assert_eq!(made(AlignConfig { masks: MaskKind::Blockwise { keep: 0.4 }, ..good.clone() }), "masks");
    assert_eq!(made(AlignConfig { schedule: Schedule::cosine(1.0, 0), ..good.clone() }), "schedule.updates");
    let mut optimiser = good.optimiser;
    optimiser.betas[1] = 1.0;
    assert_eq!(made(AlignConfig { optimiser, ..good.clone() }), "optimiser.betas");
    optimiser = triplet::finetune::AdamwConfig { clip: Some(0.0), ..good.optimiser };
    assert_eq!(made(AlignConfig { optimiser, ..good.clone() }), "optimiser.clip");
    let ema = Some(triplet::finetune::EmaConfig { decay: 1.0, warmup: false });
    assert_eq!(made(AlignConfig { ema, ..good.clone() }), "ema.decay");
    // A missing tensor keeps its name.
    let missing = Trainer::new(cpu, good.clone(), &teacher, &case.fixture.loader("nothing"), 1).map(drop);
    assert!(matches!(missing, Err(Error::Tensor { name, .. }) if name == "nothing.patch_embed.proj.weight"));
}

#[test]
fn bad_pictures_and_numbers_leave_the_weights_alone() {
    let case = Case::open("class");
    let cpu = &case.fixture.cpu;
    let mut trainer = case.trainer(cpu, case.config.clone());
    assert_eq!(field(trainer.update(cpu)), "update");
    let (pixels, masks) = case.batch(0);
    let small = vec![0.0; 2 * 12 * 12 * 3];
    assert_eq!(field(trainer.accumulate(cpu, Images::new(&small, 12).unwrap(), &masks, 1)), "images");
    let one = case.images(&pixels[..case.picture()]);
    assert_eq!(field(trainer.accumulate(cpu, one, &masks, 1)), "masks");
    let other = Masks::new(vec![true; 2 * 9], 9, 1).unwrap();
    assert_eq!(field(trainer.accumulate(cpu, case.images(&pixels), &other, 1)), "masks");

    let mut broken = pixels.clone();
    broken[5] = f32::NAN;
    let refused = trainer.accumulate(cpu, case.images(&broken), &masks, 1);
    assert!(matches!(refused, Err(Error::NonFinite { .. })));
    assert_eq!(field(trainer.update(cpu)), "update");
    // As if nothing had happened.
    let (got, _) = case.step(cpu, &mut trainer, 0);
    let (want, _) = case.step(cpu, &mut case.trainer(cpu, case.config.clone()), 0);
    assert_eq!(got.to_bits(), want.to_bits());
    let grey = vec![0.0; 2 * case.picture()];
    let full = Masks::new(vec![true; 2 * 16], 16, 1).unwrap();
    // Equal pictures still vary by token; only a model without any variation is refused, so this must pass.
    assert!(trainer.calibrate(cpu, [(case.images(&grey), full)]).unwrap().is_some());
}

/// Four updates, a state, and the rest from there: the bits of the run that was not interrupted.
#[test]
fn a_resumed_run_is_the_run_that_was_not_interrupted() {
    for name in ["class", "capped", "frozen"] {
        let case = Case::open(name);
        let cpu = &case.fixture.cpu;
        let (teacher, encoder) = (case.fixture.loader("teacher"), case.fixture.loader("student.encoder"));
        let mut whole = case.trainer(cpu, case.config.clone());
        let mut state = Vec::new();
        for update in 0..10 {
            if update == 4 {
                whole.sample(3);
                state = whole.state(cpu).unwrap();
            }
            case.step(cpu, &mut whole, update);
        }
        let saved = Weights::from_vec(state.clone()).unwrap();
        let saved = Loader::new(&saved, cpu, "");
        let mut resumed = Trainer::resume(cpu, case.config.clone(), &teacher, &encoder, &saved).unwrap();
        assert_eq!(resumed.updates(), 4);
        for update in 4..10 {
            case.step(cpu, &mut resumed, update);
        }
        assert_eq!(resumed.sample(2), whole.sample(2));
        assert!(resumed.state(cpu).unwrap() == whole.state(cpu).unwrap(), "{name}: other bits");
        assert!(whole.state(cpu).unwrap() != state);

        let (pixels, masks) = case.batch(0);
        resumed.accumulate(cpu, case.images(&pixels), &masks, 2).unwrap();
        assert_eq!(field(resumed.state(cpu)), "state");
        let nothing = Weights::from_vec(file(&case, "student.", "", &[])).unwrap();
        let nothing = Loader::new(&nothing, cpu, "");
        let refused = Trainer::resume(cpu, case.config.clone(), &teacher, &encoder, &nothing).map(drop);
        assert!(matches!(refused, Err(Error::Tensor { name, .. }) if name == "run.updates"));
    }
}
