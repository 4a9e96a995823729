//! Whole answers of a model about one picture: encoding it, asking, decoding the targets; how long the slowest take.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use tabletop::{FULL, Scene};
use triplet::cpu::Cpu;
use triplet::image::ImageView;
use triplet::model::Model;
use triplet::session::Question;
use triplet::trp::Task;

use crate::arguments::Arguments;
use crate::clock::{self, Roof, Work};

/// The scene that is asked about.
const SEED: u64 = 1_000_029;

/// Answers that do not count.
const WARM_UP: usize = 20;

/// Times `--runs` answers to the same question; with `--step` one for every line of standard input.
pub fn time(cpu: &Cpu, arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/tabletop/model");
    let model = Model::open_on(cpu.clone(), arguments.text("model").map_or(shipped, PathBuf::from))?;
    let pixels = tabletop::render(&Scene::from_seed(SEED), FULL);
    let image = ImageView::rgb8(&pixels.rgb, pixels.width, pixels.height)?;
    let mut session = model.session()?;
    let question = Question::new(Task::Detection, "Detect everything.");
    let mut tokens = 0;
    let mut answer = || -> Result<(), Box<dyn Error>> {
        let encoded = session.encode(&image)?;
        tokens = session.ask(&encoded, &question)?.ids.len();
        Ok(())
    };
    if arguments.has("step") {
        return clock::time(cpu, arguments, Work::new("answer", Roof::None), answer);
    }

    let runs = arguments.number::<usize>("runs")?.unwrap_or(2000).max(1);
    for _ in 0..WARM_UP {
        answer()?;
    }
    let mut times = Vec::with_capacity(runs);
    for _ in 0..runs {
        let before = Switches::now();
        let start = Instant::now();
        answer()?;
        let milliseconds = start.elapsed().as_secs_f64() * 1e3;
        times.push((milliseconds, Switches::now().since(before)));
    }
    times.sort_by(|a, b| a.0.total_cmp(&b.0));
    let at = |share: f64| times[((runs - 1) as f64 * share).round() as usize].0;
    println!(
        "{tokens} tokens; the slowest answers, with how often a thread was taken off its core or left it:"
    );
    for (milliseconds, switches) in times.iter().rev().take(runs.div_ceil(100).min(20)) {
        println!("{milliseconds:8.2} ms  {:4} {:4}", switches.involuntary, switches.voluntary);
    }
    let usual = times[runs / 2].1;
    println!("usual:       {:4} {:4}", usual.involuntary, usual.voluntary);
    println!(
        "result name=answer threads={} isa={} runs={runs} min_ms={:.2} median_ms={:.2} p90_ms={:.2} p99_ms={:.2} \
         max_ms={:.2} p99_over_p50={:.3}",
        cpu.threads(),
        cpu.isa().name(),
        at(0.0),
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0),
        at(0.99) / at(0.5)
    );
    Ok(())
}

/// Context switches of all threads of this process so far; zeros where the system does not tell.
#[derive(Clone, Copy, Default)]
struct Switches {
    involuntary: u64,
    voluntary: u64,
}

impl Switches {
    fn now() -> Switches {
        let mut sum = Switches::default();
        for task in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
            let Ok(status) = std::fs::read_to_string(task.path().join("status")) else { continue };
            for line in status.lines() {
                let number =
                    || line.split_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
                if line.starts_with("nonvoluntary_ctxt_switches") {
                    sum.involuntary += number();
                } else if line.starts_with("voluntary_ctxt_switches") {
                    sum.voluntary += number();
                }
            }
        }
        sum
    }

    fn since(self, before: Switches) -> Switches {
        Switches {
            involuntary: self.involuntary.saturating_sub(before.involuntary),
            voluntary: self.voluntary.saturating_sub(before.voluntary),
        }
    }
}
