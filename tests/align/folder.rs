//! A folder with pictures and runs, and the processes that work there.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::common::picture::Picture;

/// Pictures of a folder, beside one that is broken.
pub const PICTURES: u64 = 20;

/// The model whose encoder is aligned: three blocks of width 32.
pub fn model() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/end_to_end")
}

/// A folder of its own for a test; removed at the end.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        let dir = std::env::temp_dir().join(format!("triplet-align-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("images")).unwrap();
        for seed in 0..PICTURES {
            let rendered = tabletop::render(&tabletop::Scene::from_seed(seed), 48);
            let picture = Picture { width: rendered.width, height: rendered.height, pixels: rendered.rgb };
            picture.write(&dir.join(format!("images/{seed:03}.png"))).unwrap();
        }
        std::fs::write(dir.join("images/broken.jpg"), b"\xff\xd8\xff not a picture").unwrap();
        Folder(dir)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The program on the run `out` with further words.
    pub fn command(&self, out: &str, words: &[&str]) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("--align").arg("--model").arg(model());
        command.arg("--images").arg(self.path("images")).arg("--out").arg(self.path(out));
        command.args([
            "--batch",
            "4",
            "--parts",
            "2",
            "--updates",
            "40",
            "--rate",
            "1e-3",
            "--val-every",
            "9",
        ]);
        // Later words count, so that a test may give others.
        command.args(["--checkpoint-minutes", "0"]).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs to the end.
    pub fn run(&self, out: &str, words: &[&str]) -> Output {
        self.command(out, words).output().unwrap()
    }

    /// Begins a run.
    pub fn start(&self, out: &str, words: &[&str]) -> Child {
        self.command(out, words).spawn().unwrap()
    }

    /// Runs to the end, which must be a good one; gives its last line.
    pub fn finish(&self, out: &str, words: &[&str]) -> String {
        let output = self.run(out, words);
        let (text, errors) = texts(&output);
        assert!(output.status.success(), "{errors}");
        text.lines().last().unwrap_or_default().to_string()
    }

    /// What a run leaves: checkpoint, weights and configuration.
    pub fn files(&self, out: &str) -> [Vec<u8>; 3] {
        ["checkpoint.safetensors", "aligned/model.safetensors", "aligned/config.json"]
            .map(|name| read(&self.path(out).join(name)))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Standard output and standard error.
pub fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// The value of a key of a result line.
pub fn value(line: &str, key: &str) -> String {
    assert!(line.starts_with("result "), "{line}");
    let found = line.split(' ').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("no {key} in {line}")).to_string()
}
