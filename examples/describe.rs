//! Looks at a picture, answers questions about it in triplets, prints them in pixels and draws them.
//!
//! ```text
//! cargo run --release --example describe
//! cargo run --release --example describe -- --seed 12 --out out/scene12.png
//! cargo run --release --example describe -- --image photo.png --task detection --question "Detect everything."
//! ```
//!
//! Answers go to standard output, progress to standard error, the overlay to `out/describe.png`.

#[allow(dead_code)]
mod common;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use common::arguments::{Arguments, exit_code};
use common::overlay::Overlay;
use common::picture::Picture;
use tabletop::asker::Asker;
use tabletop::{FULL, Scene};
use triplet::backend::Backend;
use triplet::cpu::Cpu;
use triplet::device::{Device, OnBackend};
use triplet::image::ImageView;
use triplet::model::Model;
use triplet::reply::{DepthUnit, Reply, Target, Triplet};
use triplet::session::Question;
use triplet::trp::{Task, Unit};

const USAGE: &str = "describe [--model DIR] [--image FILE.png | --seed N] [--task NAME --question TEXT]
         [--out FILE.png] [--threads N] [--device NAME]
  --model DIR      model directory; default: the one that ships with the repository
  --image FILE     the picture; default: a tabletop scene
  --seed N         the scene's seed
  --task NAME      vqa, detection, segmentation, grounding_detection, grounding_segmentation, gcg_detection,
                   gcg_segmentation, keypoint_detection, grounding_keypoints or depth
  --question TEXT  the question; without one, several are asked
  --out FILE       the overlay; default: out/describe.png
  --threads N      threads to compute on; default: all cores
  --device NAME    auto, cpu, or with the feature cuda: cuda:0, cuda:1, ...; default: cpu";

/// The scene that is shown unless the caller asks for another one; not among those that the model was trained on.
const SEED: u64 = 1_000_029;

fn main() -> ExitCode {
    exit_code(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let names = ["model", "image", "seed", "task", "question", "out", "threads", "device"];
    let arguments = Arguments::read(&names, &[], USAGE)?;
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/tabletop/model");
    let dir = arguments.text("model").map_or(shipped, PathBuf::from);
    let out = PathBuf::from(arguments.text("out").unwrap_or("out/describe.png"));
    let cpu = match arguments.number("threads")? {
        Some(threads) => Cpu::with_threads(threads),
        None => Cpu::new(),
    };

    let seed = arguments.number("seed")?.unwrap_or(SEED);
    let (picture, questions) = match arguments.text("image") {
        Some(file) => (Picture::read(Path::new(file))?, anything()),
        None => scene(seed),
    };
    let questions = match (arguments.text("task"), arguments.text("question")) {
        (None, None) => questions,
        (Some(task), Some(question)) => vec![(task.parse()?, question.to_owned())],
        _ => return Err(format!("--task and --question go together\n{USAGE}").into()),
    };

    let device: Device = arguments.text("device").unwrap_or("cpu").parse()?;
    let opened = device.open(cpu)?;
    eprintln!("computing on {opened}");
    opened.run(Describe { dir, picture, questions, out })
}

/// The rest of the program, on whatever backend was asked for.
struct Describe {
    dir: PathBuf,
    picture: Picture,
    questions: Vec<(Task, String)>,
    out: PathBuf,
}

impl OnBackend for Describe {
    type Out = Result<(), Box<dyn Error>>;

    fn run<B: Backend>(self, backend: B) -> Self::Out {
        let Describe { dir, picture, questions, out } = self;
        let start = Instant::now();
        let model = Model::open_on(backend, &dir)?;
        for warning in model.warnings() {
            eprintln!("warning: {warning}");
        }
        eprintln!("opened {} in {:.0} ms", dir.display(), start.elapsed().as_secs_f64() * 1e3);

        let mut session = model.session()?;
        let start = Instant::now();
        let image = session.encode(&ImageView::rgb8(&picture.pixels, picture.width, picture.height)?)?;
        eprintln!(
            "encoded {}x{} pixels in {:.0} ms",
            picture.width,
            picture.height,
            start.elapsed().as_secs_f64() * 1e3
        );

        let mut triplets = Vec::new();
        for (task, text) in questions {
            let start = Instant::now();
            let reply = session.ask(&image, &Question::new(task, text.as_str()))?;
            eprintln!("answered in {:.0} ms", start.elapsed().as_secs_f64() * 1e3);
            print(task, &text, &reply);
            triplets.extend(reply.triplets);
        }

        // Masks lie under everything else.
        triplets.sort_by_key(|triplet| triplet.unit != Some(Unit::Mask));
        let mut overlay = Overlay::new(&picture);
        triplets.iter().for_each(|triplet| overlay.draw(triplet));
        let (mut drawn, depth_maps) = overlay.finish();
        for depth in &depth_maps {
            drawn = drawn.beside(depth);
        }
        drawn.write(&out)?;
        eprintln!("drew {}", out.display());
        Ok(())
    }
}

/// A rendered scene and questions of every kind of target about it.
fn scene(seed: u64) -> (Picture, Vec<(Task, String)>) {
    let rendered = tabletop::render(&Scene::from_seed(seed), FULL);
    let mut asker = Asker::new(&rendered, seed, 0);
    let turns = [
        asker.everything(tabletop::Task::Detection),
        asker.referring(tabletop::Task::GroundingSegmentation, false),
        asker.pose(),
        asker.depth(None),
        asker.count(false),
    ];
    let questions = turns.into_iter().flatten().filter_map(|turn| {
        let task = turn.task.name().parse().ok()?;
        Some((task, turn.question))
    });
    let questions = questions.collect();
    (Picture { width: rendered.width, height: rendered.height, pixels: rendered.rgb }, questions)
}

/// Questions that any picture can be asked.
fn anything() -> Vec<(Task, String)> {
    [
        (Task::Detection, "Detect everything."),
        (Task::GcgSegmentation, "Describe the picture with masks."),
        (Task::KeypointDetection, "Find the joints of every mannequin."),
        (Task::Depth, "Estimate the depth."),
    ]
    .map(|(task, text)| (task, text.to_owned()))
    .into()
}

fn print(task: Task, question: &str, reply: &Reply) {
    println!("[{}] {question}", task.name());
    println!("{}", reply.text);
    for triplet in &reply.triplets {
        println!("  {}", line(triplet));
    }
    if !reply.flags.is_empty() {
        println!("  flags: {}", reply.flags);
    }
    println!();
}

/// One triplet in words and pixels.
fn line(triplet: &Triplet) -> String {
    let target = match &triplet.target {
        Some(Target::Box([x0, y0, x1, y1])) => format!("box x {x0:.1} to {x1:.1}, y {y0:.1} to {y1:.1}"),
        Some(Target::Mask(mask)) => {
            let count = mask.pixels().iter().filter(|&&pixel| pixel == 1).count();
            format!("mask of {count} of {}x{} pixels", mask.width, mask.height)
        }
        Some(Target::Keypoints(keypoints)) => {
            let visible: Vec<String> = keypoints
                .points
                .iter()
                .map(|point| match point.visible {
                    true => format!("({:.0}, {:.0})", point.x, point.y),
                    false => format!("({:.0}, {:.0}) hidden", point.x, point.y),
                })
                .collect();
            format!("keypoints {}", visible.join(" "))
        }
        Some(Target::Depth(depth)) => {
            let centre = depth.values[depth.height / 2 * depth.width + depth.width / 2];
            let unit = if depth.unit == DepthUnit::Metres { " m" } else { " (relative)" };
            format!("depth {centre:.2}{unit} at the centre of {}x{} pixels", depth.width, depth.height)
        }
        _ => format!("no target: {}", triplet.flags),
    };
    format!("{} [{}] {:.2}: {target}", triplet.phrase, triplet.index, triplet.score)
}
