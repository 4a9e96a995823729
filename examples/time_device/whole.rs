//! Whole answers of a model, picture to targets.

use std::error::Error;
use std::time::Instant;

use tabletop::{FULL, Scene};
use triplet::Model;
use triplet::backend::Backend;
use triplet::image::ImageView;
use triplet::session::Question;

use crate::Plan;
use crate::table::{Check, Table, Work};
use crate::world;

/// The first scene, not among those that the model was trained on.
const SEED: u64 = 2_000_000;

/// An answer, and the seconds of looking at its picture and writing it.
struct Answer {
    ids: Vec<u32>,
    seconds: f64,
}

/// The answers to `count` questions; `answered` is called after the first.
fn ask<B: Backend>(
    model: &Model<B>,
    count: usize,
    mut answered: impl FnMut(),
) -> Result<Vec<Answer>, Box<dyn Error>> {
    let mut session = model.session()?;
    let mut answers = Vec::new();
    for seed in SEED.. {
        if answers.len() >= count {
            break;
        }
        let rendered = tabletop::render(&Scene::from_seed(seed), FULL);
        let view = ImageView::rgb8(&rendered.rgb, rendered.width, rendered.height)?;
        for turn in tabletop::turns(&rendered, seed).iter().take(count - answers.len()) {
            let masks = world::masks(&rendered, turn);
            let question: Question = world::question(turn, &masks)?;
            let start = Instant::now();
            let image = session.encode(&view)?;
            let reply = session.ask(&image, &question)?;
            answers.push(Answer { ids: reply.ids, seconds: start.elapsed().as_secs_f64() });
            if answers.len() == 1 {
                answered();
            }
        }
    }
    Ok(answers)
}

pub fn time<B: Backend>(backend: &B, plan: &Plan, table: &mut Table) -> Result<(), Box<dyn Error>> {
    if !table.wants("first answer") && !table.wants("answer") {
        return Ok(());
    }
    let model = Model::open_on(backend.clone(), &plan.model)?;
    let mut first = Vec::new();
    let got = ask(&model, plan.questions.max(1), || first.push(plan.start.elapsed().as_secs_f64()))?;
    let want = ask(&Model::open_on(plan.cpu.clone(), &plan.model)?, plan.questions.max(1), || ())?;
    let same = got.iter().zip(&want).filter(|(got, want)| got.ids == want.ids).count();
    let words = format!("{same} of {} answers are the CPU's, token for token", got.len());
    // Two tokens that are as likely may be exchanged by rounding, in one answer of many.
    let check = if same * 20 >= got.len() * 19 { Check::Same(words) } else { Check::Wrong(words) };
    table.add("first answer", first, Work::Plain, Check::Not);
    table.add("answer", got.into_iter().map(|answer| answer.seconds).collect(), Work::Plain, check);
    Ok(())
}
