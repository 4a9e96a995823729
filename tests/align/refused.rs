//! What ends a run, and what it leaves.

use std::process::Output;

use crate::folder::{Folder, read, texts};

/// The message of a run that must fail.
fn message(output: &Output) -> String {
    let (text, errors) = texts(output);
    assert!(!output.status.success(), "{text}");
    assert!(!errors.contains("panicked"), "{errors}");
    errors
}

fn has(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "no {word:?} in {message}");
    }
}

pub fn other_options_are_refused_by_name() {
    let folder = Folder::new("options");
    folder.finish("out", &["--updates", "2"]);
    let before = folder.files("out");
    for (words, name) in [
        (["--rate", "2e-3"], "rate"),
        (["--batch", "8"], "batch"),
        (["--seed", "3"], "seed"),
        (["--masks", "bernoulli:0.5"], "masks"),
        (["--soft-cap", "none"], "soft_cap"),
        (["--ema", "0.9"], "ema"),
        (["--updates", "3"], "updates"),
    ] {
        let words = [&["--updates", "2"][..], &words[..]].concat();
        let message = message(&folder.run("out", &words));
        has(&message, &["checkpoint", &format!("{name}: the run was begun with")]);
    }
    std::fs::copy(folder.path("images/000.png"), folder.path("images/more.png")).unwrap();
    has(&message(&folder.run("out", &["--updates", "2"])), &["images: the run was begun with"]);
    std::fs::remove_file(folder.path("images/more.png")).unwrap();
    // The same options go on, here at the end, and leave the same files.
    folder.finish("out", &["--updates", "2", "--threads", "1"]);
    assert!(folder.files("out") == before);
}

pub fn a_loss_that_is_no_number_keeps_the_last_state() {
    let folder = Folder::new("nan");
    let errors = message(&folder.run("out", &["--rate", "1e30"]));
    has(&errors, &["not finite", "keeps the state after update"]);
    // The state that is kept can be read and is finite.
    let weights =
        triplet::weights::Weights::from_vec(read(&folder.path("out/checkpoint.safetensors"))).unwrap();
    for name in weights.names() {
        let bytes = weights.tensor(name).unwrap().bytes();
        let mut numbers = bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
        assert!(numbers.all(f32::is_finite), "{name}");
    }
    assert!(!folder.path("out/aligned").exists(), "nothing is exported");
}

/// `/dev/full` in the place where the next checkpoint is written answers as a full disk does.
pub fn a_full_disk_keeps_the_last_state() {
    if !cfg!(target_os = "linux") {
        println!("  skipped: needs /dev/full");
        return;
    }
    let folder = Folder::new("full");
    // A few minutes between checkpoints: the run below is at its first one when it is stopped.
    let mut child = folder.start("out", &["--checkpoint-minutes", "100"]);
    let checkpoint = folder.path("out/checkpoint.safetensors");
    while !checkpoint.exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let before = read(&checkpoint);
    #[cfg(unix)]
    std::os::unix::fs::symlink("/dev/full", folder.path("out/checkpoint.safetensors.tmp")).unwrap();
    let message = message(&folder.run("out", &[]));
    has(&message, &["checkpoint.safetensors", "could not be written", "No space left"]);
    assert!(read(&checkpoint) == before, "the old checkpoint is gone");
    // With room again the run goes on.
    folder.finish("out", &[]);
}

pub fn a_folder_belongs_to_one_run() {
    let folder = Folder::new("lock");
    std::fs::create_dir_all(folder.path("out")).unwrap();
    let held = std::fs::File::create(folder.path("out/lock")).unwrap();
    held.lock().unwrap();
    has(&message(&folder.run("out", &[])), &["lock", "another process works in this folder"]);
    drop(held);
    folder.finish("out", &["--updates", "1"]);
}

pub fn what_is_missing_is_named() {
    let folder = Folder::new("missing");
    let nowhere = folder.path("nowhere");
    let nowhere = nowhere.to_str().unwrap();
    has(&message(&folder.run("out", &["--images", nowhere])), &["nowhere"]);
    has(&message(&folder.run("out", &["--model", nowhere])), &["nowhere", "config.json"]);
    has(&message(&folder.run("out", &["--val", nowhere])), &["nowhere"]);
    has(&message(&folder.run("out", &["--parts", "3"])), &["parts", "do not divide"]);
    has(&message(&folder.run("out", &["--updates", "0"])), &["updates"]);
    has(&message(&folder.run("out", &["--rate", "fast"])), &["--rate fast"]);
    has(&message(&folder.run("out", &["--colour", "red"])), &["--colour is not known"]);
    std::fs::write(folder.path("out/checkpoint.safetensors"), b"no checkpoint at all").unwrap();
    has(&message(&folder.run("out", &[])), &["checkpoint.safetensors", "is no checkpoint"]);
    std::fs::create_dir_all(folder.path("empty")).unwrap();
    let empty = folder.path("empty");
    has(&message(&folder.run("new", &["--images", empty.to_str().unwrap()])), &["holds no .png"]);
}
