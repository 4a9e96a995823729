//! Kernel files with their includes put in place.

use std::fs;
use std::path::{Path, PathBuf};

/// One line of a kernel as it is loaded, and where it comes from.
#[derive(Clone, Debug)]
pub struct Line {
    /// File below `cuda/` and line, counted from 1.
    pub origin: String,
    /// The line.
    pub text: String,
}

/// The folder of the kernels.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cuda")
}

/// Names of all kernel files, without the ending, sorted.
pub fn kernels() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder())
        .unwrap()
        .filter_map(|entry| {
            Some(entry.unwrap().file_name().into_string().unwrap().strip_suffix(".ptx")?.to_owned())
        })
        .collect();
    names.sort();
    names
}

/// The lines of `cuda/NAME.ptx`, includes in place.
pub fn lines(name: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    include(&format!("{name}.ptx"), &mut lines, 0);
    lines
}

/// The name that an include line holds.
fn included(line: &str) -> Option<&str> {
    let name = line.trim().strip_prefix("// include ")?;
    name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_').then_some(name)
}

fn include(file: &str, lines: &mut Vec<Line>, depth: usize) {
    assert!(depth < 8, "{file} includes itself");
    let path = folder().join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for (number, line) in text.lines().enumerate() {
        match included(line) {
            Some(name) => include(&format!("{name}.inc"), lines, depth + 1),
            None => lines.push(Line { origin: format!("{file}:{}", number + 1), text: line.to_owned() }),
        }
    }
}
