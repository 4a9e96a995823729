//! What is exported is what the header declares, and every export goes through the guard.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use crate::header::visible;

/// The shared library that cargo builds beside this test.
pub fn shared_library() -> PathBuf {
    let library = env::current_exe().unwrap().with_file_name("libtriplet_c.so");
    assert!(library.exists(), "{} is not there", library.display());
    library
}

fn name_at(text: &str) -> &str {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or("")
}

/// Name and body of every export in the sources.
fn exports() -> Vec<(String, String)> {
    let mut exports = Vec::new();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("align.rs") && !cfg!(feature = "finetune") {
            continue;
        }
        let text = fs::read_to_string(path).unwrap();
        for piece in text.split("#[unsafe(no_mangle)]\n").skip(1) {
            let name = name_at(piece.split("extern \"C\" fn ").nth(1).unwrap()).to_owned();
            let body = piece[piece.find("{\n").unwrap() + 1..piece.find("\n}\n").unwrap()].to_owned();
            exports.push((name, body));
        }
    }
    exports
}

/// Names of all exports.
pub fn names() -> BTreeSet<String> {
    exports().into_iter().map(|(name, _)| name).collect()
}

#[test]
fn every_export_is_one_call_of_the_guard() {
    let exports = exports();
    assert!(exports.len() > 30, "{}", exports.len());
    for (name, body) in exports {
        let code: Vec<&str> = body.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let code = code.join("\n");
        let code = code.trim();
        assert!(code.starts_with("guard(|| ") || code.starts_with("guard_value("), "{name}: {code}");
        assert!(code.ends_with(')') && !code.contains(";\n    guard"), "{name}: {code}");
    }
}

#[test]
fn the_header_declares_the_exports() {
    let header = visible();
    let declared: BTreeSet<String> = header
        .split("TRIPLET_API")
        .skip(1)
        .filter_map(|piece| piece.split('(').next()?.rsplit([' ', '*', '\n']).next())
        .filter(|name| name.starts_with("triplet_"))
        .map(str::to_owned)
        .collect();
    assert_eq!(declared, names());
}

#[test]
fn the_shared_library_exports_nothing_else() {
    let output = Command::new("nm").args(["-D", "--defined-only"]).arg(shared_library()).output();
    let output = output.expect("nm of binutils");
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let symbols: BTreeSet<String> =
        text.lines().filter_map(|line| line.split(' ').next_back()).map(str::to_owned).collect();
    assert_eq!(symbols, names());
}

#[test]
fn the_shared_library_is_named_after_its_abi() {
    let output = Command::new("readelf").args(["-d"]).arg(shared_library()).output();
    let text = String::from_utf8(output.expect("readelf of binutils").stdout).unwrap();
    let name = format!("[libtriplet.so.{}]", triplet_c::version::TRIPLET_ABI);
    assert!(text.lines().any(|line| line.contains("SONAME") && line.contains(&name)), "{text}");
}
