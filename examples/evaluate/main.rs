//! Measures a model on scenes of the tabletop world that it never saw; `docs/evaluation.md` says how.
//!
//! Asks one question of every task per scene, greedily, structurally guided, without a plan, and prints a table beside a
//! prior that does not look at the picture. `cargo run --release --example evaluate -- --help` lists the options.
#![forbid(unsafe_code)]

mod arguments;
mod ask;
#[path = "../common/world.rs"]
mod library;
mod metrics;
mod prior;
mod progress;
mod question;
mod report;
mod table;
mod tally;
mod world;

use std::process::ExitCode;
use std::time::Duration;

use arguments::{Arguments, PRIOR_SEED, USAGE};
use ask::Asked;
use prior::{Fit, Prior};
use progress::Progress;
use question::Answer;
use report::Report;
use tabletop::ordered::in_order;
use tally::Tally;
use triplet::Cpu;
use triplet::backend::Backend;
use triplet::device::OnBackend;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("evaluate: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Reads the arguments and measures; whether everything that `--check` asks for holds.
fn run() -> Result<bool, String> {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    if arguments.help {
        println!("{USAGE}");
        return Ok(true);
    }
    // A scene has a thread; the CPU computes on it.
    let opened = arguments.device.open(Cpu::with_threads(1)).map_err(|error| error.to_string())?;
    eprintln!("evaluate: computing on {opened}");
    opened.run(Evaluate(arguments))
}

/// The rest of the program, on whatever backend was asked for.
struct Evaluate(Arguments);

impl OnBackend for Evaluate {
    type Out = Result<bool, String>;

    fn run<B: Backend>(self, backend: B) -> Self::Out {
        let asked = Asked::open(backend, &self.0.model, self.0.cache)?;
        measure(&self.0, &asked)
    }
}

/// Whether everything that `--check` asks for holds.
fn measure<B: Backend>(arguments: &Arguments, asked: &Asked<B>) -> Result<bool, String> {
    let prior = fit(arguments)?;
    let (report, times) = evaluate(arguments, asked, &prior)?;
    if let Some(line) = time_line(times, arguments.threads) {
        eprintln!("{line}");
    }
    if let Some(path) = &arguments.json {
        std::fs::write(path, format!("{:#}\n", report.json()))
            .map_err(|e| format!("{}: {e}", path.display()))?;
    }
    print!("{}", table::table(&report));
    let passes = report.passes();
    if arguments.check && !passes {
        eprintln!("evaluate: a floor is missed or a question got an error");
    }
    Ok(passes || !arguments.check)
}

/// Fits the prior on scenes of its own.
fn fit(arguments: &Arguments) -> Result<Prior, String> {
    let mut fit = Fit::default();
    let mut progress = Progress::new("prior ", arguments.prior_scenes);
    let render = |seed| Ok(world::scene(seed));
    in_order(PRIOR_SEED, arguments.prior_scenes, arguments.threads, render, |(picture, cases)| {
        fit.add(&picture, cases.iter().map(|case| &case.question));
        progress.step();
        Ok(())
    })
    .map_err(|error| format!("prior: {error}"))?;
    Ok(fit.finish())
}

/// What one scene gave.
#[derive(Default)]
struct SceneResult {
    questions: usize,
    free: Tally,
    forced: Tally,
    told: Tally,
    blind: Tally,
    errors: Vec<String>,
    flagged: usize,
    times: Vec<Duration>,
}

fn evaluate<B: Backend>(
    arguments: &Arguments,
    asked: &Asked<B>,
    prior: &Prior,
) -> Result<(Report, Vec<Duration>), String> {
    let mut sum = SceneResult::default();
    let mut errors = 0;
    let mut progress = Progress::new("scenes", arguments.scenes);
    let work = |seed| one_scene(arguments, asked, prior, seed).map_err(std::io::Error::other);
    in_order(arguments.first_seed, arguments.scenes, arguments.threads, work, |scene| {
        for message in &scene.errors {
            eprintln!("evaluate: {message}");
        }
        errors += scene.errors.len();
        sum.questions += scene.questions;
        sum.flagged += scene.flagged;
        sum.times.extend(scene.times);
        sum.free.merge(&scene.free);
        sum.forced.merge(&scene.forced);
        sum.told.merge(&scene.told);
        sum.blind.merge(&scene.blind);
        progress.step();
        Ok(())
    })
    .map_err(|error| error.to_string())?;
    let report = Report {
        first_seed: arguments.first_seed,
        scenes: arguments.scenes,
        questions: sum.questions,
        prior_scenes: (PRIOR_SEED, arguments.prior_scenes),
        free: sum.free,
        forced: arguments.teacher_forced.then_some(sum.forced),
        told: sum.told,
        blind: sum.blind,
        errors,
        flagged: sum.flagged,
    };
    Ok((report, sum.times))
}

/// Asks all questions of one scene. A question that ends in an error counts as answered with nothing.
///
/// # Errors
/// When there is no memory for a session.
fn one_scene<B: Backend>(
    arguments: &Arguments,
    asked: &Asked<B>,
    prior: &Prior,
    seed: u64,
) -> Result<SceneResult, String> {
    let mut session = asked.session()?;
    let (picture, cases) = world::scene(seed);
    let mut result = SceneResult { questions: cases.len(), ..SceneResult::default() };
    let image = asked.encode(&session, &picture);
    if let Err(message) = &image {
        result.errors.push(message.clone());
    }
    for case in &cases {
        let question = &case.question;
        let answers = match &image {
            Ok(image) => asked.ask(&mut session, image, case, arguments.teacher_forced),
            Err(message) => Err(message.clone()),
        };
        let (free, forced) = match answers {
            Ok(answers) => {
                result.flagged += usize::from(answers.flagged);
                result.times.push(answers.time);
                (answers.free, answers.forced)
            }
            Err(message) => {
                if image.is_ok() {
                    result.errors.push(format!("scene {seed}: {message}"));
                }
                (Answer::default(), None)
            }
        };
        result.free.add(&picture, question, &free);
        if arguments.teacher_forced {
            result.forced.add(&picture, question, &forced.unwrap_or_default());
        }
        result.told.add(&picture, question, &prior.told(&picture, question));
        result.blind.add(&picture, question, &prior.blind(question));
    }
    Ok(result)
}

/// How long the answers took; nothing when there were none.
fn time_line(mut times: Vec<Duration>, threads: usize) -> Option<String> {
    times.sort_unstable();
    let at = |share: usize| times.get((times.len() * share / 100).min(times.len().saturating_sub(1)));
    let (median, slow) = (at(50)?, at(95)?);
    Some(format!(
        "an answer took {:.3} s (median), {:.3} s (95 %), one thread each, {threads} scenes at a time",
        median.as_secs_f64(),
        slow.as_secs_f64()
    ))
}
