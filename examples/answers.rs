//! Answers questions of the tabletop world greedily and without guidance, one JSON line per answer, for comparison with
//! PyTorch (`tools/compare_answers.py`).
//!
//! ```text
//! cargo run --release --example answers -- --first-seed 2000000 --questions 500 > out/answers.jsonl
//! ```

#[allow(dead_code)]
mod common;

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use common::arguments::{Arguments, exit_code};
use common::world;
use tabletop::{FULL, Scene};
use triplet::Session;
use triplet::backend::{Backend, CacheType};
use triplet::cpu::Cpu;
use triplet::device::{Device, OnBackend};
use triplet::image::ImageView;
use triplet::model::Model;
use triplet::session::{Question, SessionOptions};
use triplet::trp::GuideMode;

const USAGE: &str = "\
answers [--model DIR] [--first-seed N] [--questions N] [--device auto|cpu|cuda:N] [--cache f32|f16|int8]";

fn main() -> ExitCode {
    exit_code(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read(&["model", "first-seed", "questions", "device", "cache"], &[], USAGE)?;
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/tabletop/model");
    let answers = Answers {
        dir: arguments.text("model").map_or(shipped, PathBuf::from),
        seed: arguments.number("first-seed")?.unwrap_or(2_000_000),
        wanted: arguments.number("questions")?.unwrap_or(500),
        cache: arguments.text("cache").unwrap_or("f32").parse()?,
    };
    let device: Device = arguments.text("device").unwrap_or("cpu").parse()?;
    let opened = device.open(Cpu::new())?;
    eprintln!("computing on {opened}");
    opened.run(answers)
}

/// The rest of the program, on whatever backend was asked for.
struct Answers {
    dir: PathBuf,
    seed: u64,
    wanted: usize,
    cache: CacheType,
}

impl OnBackend for Answers {
    type Out = Result<(), Box<dyn Error>>;

    fn run<B: Backend>(self, backend: B) -> Self::Out {
        let model = Model::open_on(backend, &self.dir)?;
        let options = SessionOptions { cache: self.cache, ..SessionOptions::default() };
        answers(model.session_on(model.backend().clone(), options)?, self.seed, self.wanted)
    }
}

/// Asks `wanted` questions about the scenes from `seed` on.
fn answers<B: Backend>(mut session: Session<B>, mut seed: u64, wanted: usize) -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    let mut asked = 0;
    while asked < wanted {
        let rendered = tabletop::render(&Scene::from_seed(seed), FULL);
        let view = ImageView::rgb8(&rendered.rgb, rendered.width, rendered.height)?;
        let image = session.encode(&view)?;
        let turns = tabletop::turns(&rendered, seed);
        for (index, turn) in turns.iter().enumerate().take(wanted - asked) {
            let masks = world::masks(&rendered, turn);
            let question = Question { guide: GuideMode::Off, ..world::question(turn, &masks)? };
            let reply = session.ask(&image, &question)?;
            writeln!(out, "{{\"seed\":{seed},\"turn\":{index},\"ids\":{:?}}}", reply.ids)?;
            asked += 1;
        }
        eprint!("\r{asked} of {wanted} questions");
        seed += 1;
    }
    eprintln!();
    Ok(())
}
