//! `include/triplet.h` is what the crate says.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// The files whose exports the header has, in its order.
const SOURCES: [&str; 14] = [
    "version.rs",
    "status.rs",
    "last_error.rs",
    "allocator.rs",
    "threads.rs",
    "target.rs",
    "model.rs",
    "arena.rs",
    "image.rs",
    "prompt.rs",
    "event.rs",
    "ask.rs",
    "reply.rs",
    "session.rs",
];

/// The files with functions alone, which follow.
const FUNCTIONS: [&str; 2] = ["mask.rs", "convert.rs"];

pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub fn committed() -> String {
    fs::read_to_string(repository().join("include/triplet.h")).unwrap_or_default()
}

fn generated() -> String {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(crate_dir.join("cbindgen.toml")).unwrap();
    let sources = SOURCES.iter().chain(&FUNCTIONS).map(|file| crate_dir.join("src").join(file));
    let builder =
        sources.fold(cbindgen::Builder::new().with_config(config), |builder, file| builder.with_src(file));
    let mut text = Vec::new();
    builder.generate().unwrap().write(&mut text);
    String::from_utf8(text).unwrap().replace(" * # Safety\n", " * The caller promises:\n")
}

#[test]
fn the_header_is_current() {
    let generated = generated();
    let path = repository().join("include/triplet.h");
    if env::var_os("TRIPLET_WRITE_HEADER").is_some() {
        fs::write(&path, &generated).unwrap();
    }
    let stale = committed().lines().zip(generated.lines()).position(|(old, new)| old != new);
    assert!(committed() == generated, "include/triplet.h is stale from line {stale:?} on; run `make header`");
}

#[test]
fn the_version_is_the_packages() {
    let number = |name: &str| {
        let line = format!("#define TRIPLET_VERSION_{name} ");
        committed().lines().find_map(|text| text.strip_prefix(&line).map(str::to_owned)).unwrap()
    };
    let version = [number("MAJOR"), number("MINOR"), number("PATCH")].join(".");
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
}
