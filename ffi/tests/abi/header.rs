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

/// What the header has where TRIPLET_FINETUNE is defined, for libraries that are built with the feature `finetune`.
const FINETUNE: &str = "align.rs";

/// Around that part of the header.
const FINETUNE_LINES: [&str; 2] = ["#if defined(TRIPLET_FINETUNE)\n", "#endif  /* TRIPLET_FINETUNE */\n\n"];

pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub fn committed() -> String {
    fs::read_to_string(repository().join("include/triplet.h")).unwrap_or_default()
}

/// The header as a program meets it that is built against this library.
pub fn visible() -> String {
    let header = committed();
    if cfg!(feature = "finetune") {
        return header;
    }
    let [before, after] = FINETUNE_LINES;
    let (first, rest) = header.split_once(before).unwrap();
    format!("{first}{}", rest.split_once(after).unwrap().1)
}

fn generated() -> String {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(crate_dir.join("cbindgen.toml")).unwrap();
    let text = |config: cbindgen::Config, files: &mut dyn Iterator<Item = &&str>| {
        let builder = cbindgen::Builder::new().with_config(config);
        let builder = files.fold(builder, |builder, file| builder.with_src(crate_dir.join("src").join(file)));
        let mut text = Vec::new();
        builder.generate().unwrap().write(&mut text);
        String::from_utf8(text).unwrap().replace(" * # Safety\n", " * The caller promises:\n")
    };
    // A part of its own, because what its types refer to is above it.
    let part = cbindgen::Config {
        header: None,
        include_guard: None,
        sys_includes: Vec::new(),
        after_includes: None,
        ..config.clone()
    };
    let finetune = text(part, &mut [FINETUNE].iter());
    let whole = text(config, &mut SOURCES.iter().chain(&FUNCTIONS));
    let (most, guard) = whole.rsplit_once("#endif  /* TRIPLET_H */").unwrap();
    let [before, after] = FINETUNE_LINES;
    format!("{most}{before}{}\n{after}#endif  /* TRIPLET_H */{guard}", finetune.trim_start())
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
