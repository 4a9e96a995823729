//! What a run gives loads as `visual_encoder`, alone and in the whole model.

use std::path::Path;

use triplet::Cpu;
use triplet::backend::Backend;
use triplet::finetune::run::{EncoderDir, plug_in};
use triplet::image::ImageView;
use triplet::model::Model;
use triplet::session::Question;
use triplet::trp::Task;
use triplet::vision::{PoolKind, Vit};
use triplet::weights::{Loader, Weights};

use crate::folder::{Folder, model};

/// The last hidden state of a directory's encoder on a picture.
fn encoded(dir: &Path, picture: &ImageView) -> Vec<f32> {
    let cpu = Cpu::with_threads(1);
    let encoder = EncoderDir::open(dir).unwrap();
    let vit = Vit::load(&encoder.loader(&cpu), &encoder.vit).unwrap();
    let pixels = encoder.preprocessor.prepare(picture).unwrap();
    let pixels = cpu.upload(pixels.width * pixels.height, 3, &pixels.data).unwrap();
    let output = vit.forward(&cpu, pixels.view()).unwrap();
    cpu.download(output.normed.view()).unwrap()
}

pub fn the_result_plugs_into_the_model() {
    let folder = Folder::new("export");
    let line = folder.finish("out", &["--updates", "3", "--ema", "0.5"]);
    assert!(line.contains("updates=3"), "{line}");
    assert!(std::fs::metadata(folder.path("out/loss.png")).unwrap().len() > 1000);
    let (aligned, whole) = (folder.path("out/aligned"), folder.path("out/model"));
    let encoder = EncoderDir::open(&aligned).unwrap();
    assert_eq!(encoder.vit.soft_cap, Some(30.0));

    let pixels: Vec<u8> = (0..40 * 28 * 3).map(|i| (i * 11 % 251) as u8).collect();
    let picture = ImageView::rgb8(&pixels, 40, 28).unwrap();
    let (old, new) = (encoded(&model(), &picture), encoded(&aligned, &picture));
    assert_eq!(old.len(), new.len());
    assert!(old != new && new.iter().all(|x| x.is_finite()));
    assert!(encoded(&whole, &picture) == new, "the whole model has another encoder");

    // Every other tensor is the one of the model, and the whole answers.
    let (before, after) = (Weights::open(model()).unwrap(), Weights::open(&whole).unwrap());
    let mut others = 0;
    for name in before.names().filter(|name| !name.starts_with("visual_encoder.")) {
        let (before, after) = (before.tensor(name).unwrap(), after.tensor(name).unwrap());
        assert!(before.bytes() == after.bytes() && before.shape() == after.shape(), "{name}");
        others += 1;
    }
    assert!(others > 50);
    let model = Model::open_on(Cpu::with_threads(1), &whole).unwrap();
    assert_eq!(model.warnings(), [] as [&str; 0]);
    let mut session = model.session().unwrap();
    let image = session.encode(&picture).unwrap();
    let question = Question { max_new_tokens: 20, ..Question::new(Task::Detection, "Detect everything.") };
    session.ask(&image, &question).unwrap();

    for out in [&aligned, &crate::folder::model()] {
        let refused = plug_in(&aligned, &crate::folder::model(), out);
        assert!(matches!(refused, Err(triplet::Error::Input { field: "out", .. })), "{refused:?}");
    }
}

/// A directory with the average-pooled encoder of a fixture.
fn average_pooled(dir: &Path) {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vision_timm_mean.safetensors");
    std::fs::create_dir_all(dir).unwrap();
    std::fs::copy(fixture, dir.join("model.safetensors")).unwrap();
    let config = r#"{"visual_encoder": {"model_type": "timm_vit", "embed_dim": 24, "depth": 3, "num_heads": 3, "mlp_ratio": 2.0,
        "img_size": 28, "patch_size": 7, "class_token": false, "global_pool": "avg", "reg_tokens": 2},
        "preprocessor": {"visual_encoder": {"size": 28, "crop_size": 28}}}"#;
    std::fs::write(dir.join("config.json"), config).unwrap();
}

/// Last hidden state and pooled vector of an encoder on a picture.
fn features(loader: &Loader<Cpu>, encoder: &EncoderDir, picture: &ImageView) -> [Vec<f32>; 2] {
    let cpu = Cpu::with_threads(1);
    let vit = Vit::load(loader, &encoder.vit).unwrap();
    let pixels = encoder.preprocessor.prepare(picture).unwrap();
    let pixels = cpu.upload(pixels.width * pixels.height, 3, &pixels.data).unwrap();
    let output = vit.forward(&cpu, pixels.view()).unwrap();
    [output.normed, output.pooled.unwrap()].map(|matrix| cpu.download(matrix.view()).unwrap())
}

pub fn an_average_pooled_export_is_what_was_trained() {
    let folder = Folder::new("average");
    let old = folder.path("encoder");
    average_pooled(&old);
    let line = folder.finish("out", &["--model", old.to_str().unwrap()]);
    let validation = |key| crate::folder::value(&line, key).parse::<f64>().unwrap();
    assert!(validation("validation_last") < validation("validation_first"), "it learns nothing: {line}");

    let cpu = Cpu::with_threads(1);
    let (old, new) =
        (EncoderDir::open(&old).unwrap(), EncoderDir::open(&folder.path("out/aligned")).unwrap());
    assert_eq!((new.vit.pool, new.vit.pool_norm), (PoolKind::Mean, true));
    assert_eq!((new.vit.soft_cap, old.vit.soft_cap), (Some(30.0), None));
    let pixels: Vec<u8> = (0..40 * 28 * 3).map(|i| (i * 11 % 251) as u8).collect();
    let picture = ImageView::rgb8(&pixels, 40, 28).unwrap();
    // The trainer's own weights, as its state has them.
    let state = Weights::from_vec(crate::folder::read(&folder.path("out/checkpoint.safetensors"))).unwrap();
    let trained = features(&Loader::new(&state, &cpu, "encoder"), &new, &picture);
    let [tokens, pooled] = features(&new.loader(&cpu), &new, &picture);
    assert!(trained == [tokens.clone(), pooled.clone()]);
    let before = features(&old.loader(&cpu), &old, &picture);
    assert!(before[0] != tokens && before[1] != pooled);

    // Pooled: the mean over the patches, then the norm that was trained, which began as ones and zeros.
    let numbers = |name: &str| {
        let tensor = state.tensor(name).unwrap();
        tensor
            .bytes()
            .as_chunks::<4>()
            .0
            .iter()
            .map(|&x| f64::from(f32::from_le_bytes(x)))
            .collect::<Vec<_>>()
    };
    let (weight, bias) = (numbers("encoder.fc_norm.weight"), numbers("encoder.fc_norm.bias"));
    assert!(weight.iter().any(|x| (x - 1.0).abs() > 1e-4) && bias.iter().any(|x| x.abs() > 1e-4));
    let patches = &tokens[2 * 24..];
    let mean: Vec<f64> = (0..24)
        .map(|i| patches.iter().skip(i).step_by(24).map(|&x| f64::from(x)).sum::<f64>() / 16.0)
        .collect();
    let centre = mean.iter().sum::<f64>() / 24.0;
    let variance = mean.iter().map(|x| (x - centre).powi(2)).sum::<f64>() / 24.0;
    for (i, got) in pooled.iter().enumerate() {
        let want = (mean[i] - centre) / (variance + 1e-6).sqrt() * weight[i] + bias[i];
        assert!((want - f64::from(*got)).abs() < 1e-4 * want.abs().max(1.0), "{i}: {want} {got}");
    }
}
