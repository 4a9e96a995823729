//! Locality alignment from C: what it leaves is what Rust leaves, and the whole model answers with it.

use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};

use tabletop::stream::Plan;
use triplet::Cpu;
use triplet::finetune::run::{Run, RunConfig, RunFiles};
use triplet_c::align::triplet_align_plug_in;
use triplet_c::status::TRIPLET_INVALID_ARGUMENT;

use crate::handles::ok;
use crate::header::repository;
use crate::programs::{build, run, tiny_model};

/// An empty folder with a folder of pictures in it.
fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("align_runs");
    let _ = fs::remove_dir_all(&folder);
    let plan =
        Plan { first_seed: 0, scenes: 60, long_side: 80, threads: 1, options: tabletop::Options::default() };
    tabletop::files::write(&plan, &folder, |_| ()).unwrap();
    folder
}

fn left(out: &Path) -> [Vec<u8>; 3] {
    ["checkpoint.safetensors", "aligned/model.safetensors", "aligned/config.json"]
        .map(|name| fs::read(out.join(name)).unwrap())
}

#[test]
fn a_run_from_c_is_the_run_of_rust_whole_and_interrupted() {
    let folder = folder();
    let program = build(&["cc", "-std=c11"], "align", &repository().join("ffi/tests/abi/align.c"));
    let (model, images) = (tiny_model(), folder.join("images"));
    let printed = ["whole", "parts"].map(|way| {
        let out = folder.join(way);
        run(&program, &[&model, images.to_str().unwrap(), out.to_str().unwrap(), way])
    });
    assert_eq!(printed[0].lines().count(), 6, "{}", printed[0]);
    assert_eq!(printed[0], printed[1], "an interruption changes nothing");

    let wrapper = build(&["c++", "-std=c++17"], "align_cpp", &repository().join("ffi/tests/abi/align.cpp"));
    let cpp = folder.join("cpp");
    assert_eq!(run(&wrapper, &[&model, images.to_str().unwrap(), cpp.to_str().unwrap()]), "fine\n");

    let (out, validation) = (folder.join("rust"), None);
    let files =
        RunFiles { model: model.clone().into(), images, validation, out, workers: 2, checkpointing: false };
    let config = RunConfig { batch: 4, parts: 2, rate: 1e-3, ..RunConfig::recipe(6) };
    let mut rust = Run::open(Cpu::with_threads(2), &files, config).unwrap();
    while !rust.done() {
        rust.step().unwrap();
    }
    rust.save().unwrap();
    rust.export().unwrap();
    let lines = rust.losses().iter().enumerate();
    let lines: Vec<(usize, f32)> = lines.map(|(index, &loss)| (index + 1, loss)).collect();
    let from_c = printed[0].lines().map(|line| {
        let (update, loss) = line.split_once(' ').unwrap();
        (update.parse().unwrap(), loss.parse().unwrap())
    });
    assert_eq!(from_c.collect::<Vec<(usize, f32)>>(), lines);
    let [whole, parts, cpp, rust] = ["whole", "parts", "cpp", "rust"].map(|way| left(&folder.join(way)));
    assert!(whole == parts && whole == cpp && whole == rust, "other bits");

    let path = |path: &Path| CString::new(path.to_str().unwrap()).unwrap();
    let (encoder, new) = (path(&folder.join("whole/aligned")), path(&folder.join("model")));
    let old = CString::new(model).unwrap();
    // SAFETY: C strings.
    unsafe {
        ok(triplet_align_plug_in(encoder.as_ptr(), old.as_ptr(), new.as_ptr()));
        let over = triplet_align_plug_in(encoder.as_ptr(), old.as_ptr(), encoder.as_ptr());
        assert_eq!(over, TRIPLET_INVALID_ARGUMENT);
    }
    let model = triplet::Model::open_on(Cpu::with_threads(1), folder.join("model")).unwrap();
    assert_eq!(model.warnings(), [] as [&str; 0]);
    fs::remove_dir_all(&folder).unwrap();
}
