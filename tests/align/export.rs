//! What a run gives loads as `visual_encoder`, alone and in the whole model.

use triplet::Cpu;
use triplet::backend::Backend;
use triplet::finetune::run::{EncoderDir, plug_in};
use triplet::image::ImageView;
use triplet::model::Model;
use triplet::session::Question;
use triplet::trp::Task;
use triplet::vision::Vit;
use triplet::weights::Weights;

use crate::folder::{Folder, model};

/// The last hidden state of a directory's encoder on a picture.
fn encoded(dir: &std::path::Path, picture: &ImageView) -> Vec<f32> {
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
