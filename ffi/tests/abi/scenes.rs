//! The C example answers as Rust does, result for result.

use std::path::Path;
use std::{env, fs};

use tabletop::asker::Asker;
use tabletop::{FULL, Scene};
use triplet::image::ImageView;
use triplet::session::Question;
use triplet::trp::Task;
use triplet::{Cpu, Model};

use crate::header::repository;
use crate::programs::{build, run, shipped_model};

/// Scenes that are compared unless TRIPLET_SCENES says otherwise; the model is slow without optimisation.
const SCENES: u64 = if cfg!(debug_assertions) { 2 } else { 100 };

/// Seed of the first scene, beyond those that the model was trained on.
const FIRST: u64 = 1_000_400;

#[test]
fn the_c_example_answers_as_rust_does() {
    let program = build(&["cc", "-std=c11"], "describe", &repository().join("examples/c/describe.c"));
    let dir = shipped_model();
    let model = Model::open_on(Cpu::with_threads(1), &dir).unwrap();
    let mut session = model.session().unwrap();
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("describe/scene.ppm");
    let file = file.to_str().unwrap();
    let scenes = env::var("TRIPLET_SCENES").map_or(SCENES, |text| text.parse().unwrap());
    let mut found = 0;
    for seed in FIRST..FIRST + scenes {
        let rendered = tabletop::render(&Scene::from_seed(seed), FULL);
        let mut asker = Asker::new(&rendered, seed, 0);
        // Every kind of target in turn; not every scene has a mannequin.
        let turns = [
            asker.everything(tabletop::Task::Detection),
            asker.referring(tabletop::Task::GroundingSegmentation, false),
            asker.pose(),
            asker.depth(None),
            asker.count(false),
        ];
        let turns: Vec<_> = turns.into_iter().flatten().collect();
        let turn = &turns[seed as usize % turns.len()];
        let task: Task = turn.task.name().parse().unwrap();

        let view = ImageView::rgb8(&rendered.rgb, rendered.width, rendered.height).unwrap();
        let image = model.encode(&view).unwrap();
        let reply = session.ask(&image, &Question::new(task, turn.question.as_str())).unwrap();
        found += reply.triplets.len();

        let mut ppm =
            format!("P6\n# scene {seed}\n{} {}\n255\n", rendered.width, rendered.height).into_bytes();
        ppm.extend_from_slice(&rendered.rgb);
        fs::write(file, ppm).unwrap();
        let printed = run(&program, &[&dir, file, task.name(), &turn.question, "--json"]);
        assert_eq!(printed.trim_end(), reply.to_json(), "scene {seed}: {}", turn.question);
    }
    println!("{scenes} scenes, {found} triplets");
    assert!(found > 0, "no triplet in {scenes} scenes");
}
