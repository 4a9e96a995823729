//! The ways to train that leave something out: a pooled target, a frozen encoder.

use triplet::finetune::run::EncoderDir;
use triplet::weights::Weights;

use crate::folder::{Folder, read, texts, value};

/// Losses on the pictures held back, before and after.
fn validations(line: &str) -> [f64; 2] {
    ["validation_first", "validation_last"].map(|key| value(line, key).parse().unwrap())
}

/// Names of the tensors of a run's checkpoint.
fn names(folder: &Folder, out: &str) -> Vec<String> {
    let weights = Weights::from_vec(read(&folder.path(out).join("checkpoint.safetensors"))).unwrap();
    weights.names().map(str::to_owned).collect()
}

pub fn a_pooled_target_is_learnt() {
    let folder = Folder::new("prefix");
    let line = folder.finish("out", &["--prefix-only"]);
    let [first, last] = validations(&line);
    assert!(last < first, "it learns nothing: {line}");
    assert!(EncoderDir::open(&folder.path("out/aligned")).unwrap().vit.soft_cap == Some(30.0));
    // Another target than all tokens, from the same masks and pictures.
    let all = folder.finish("all", &["--skip-blocks", "0", "--updates", "1", "--val-every", "1"]);
    assert!(validations(&all)[0] != first, "{all}");
    for (words, name) in [(["--skip-blocks", "1"], "prefix_only"), (["--mim", "--no-augment"], "mim")] {
        let output = folder.run("refused", &[&["--prefix-only"][..], &words].concat());
        let (text, errors) = texts(&output);
        assert!(!output.status.success() && errors.contains(name), "{text} {errors}");
    }
}

pub fn a_frozen_encoder_stays_as_it_is() {
    let folder = Folder::new("frozen");
    let line = folder.finish("out", &["--freeze-encoder"]);
    let [first, last] = validations(&line);
    assert!(last < first, "it learns nothing: {line}");
    assert_eq!(value(&line, "aligned"), "none");
    assert!(!folder.path("out/aligned").exists() && !folder.path("out/model").exists());
    let names = names(&folder, "out");
    assert!(names.iter().any(|name| name.contains("decoder.")), "{names:?}");
    assert!(names.iter().all(|name| !name.contains("encoder.blocks")), "{names:?}");
    let output = folder.run("out", &[]);
    let (_, errors) = texts(&output);
    assert!(
        !output.status.success() && errors.contains("freeze_encoder: the run was begun with true"),
        "{errors}"
    );
}
