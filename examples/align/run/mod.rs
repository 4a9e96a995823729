//! The example itself; a test runs it in processes of its own and kills them.

mod curve;
mod options;
mod progress;

use std::error::Error;
use std::io::Write;
use std::time::Instant;

use options::Options;
use progress::Progress;
use triplet::arena::Arena;
use triplet::cpu::Cpu;
use triplet::finetune::run::{CHECKPOINT, Run, RunFiles, plug_in};

/// Runs until all updates are done, from wherever the folder of the run is.
pub fn run(words: impl Iterator<Item = String>) -> Result<(), Box<dyn Error>> {
    let Options { files, config, threads, between_checkpoints } = Options::parse(words)?;
    let cpu = threads.map_or_else(Cpu::new, Cpu::with_threads);
    // The teacher's weights never change.
    let cpu = cpu.in_arena(Arena::pooled(Arena::POOLED_TO_TRAIN)).with_packed_weights(true);
    let mut run = Run::open(cpu, &files, config)?;
    let (first, total) = (run.updates(), run.config().updates);
    if run.resumed() {
        eprintln!("goes on after update {first} of {total}");
    }
    let mut progress = Progress::new(first, total, run.config().batch);
    let mut saved = Instant::now();
    while !run.done() {
        let step = run.step().map_err(|error| {
            let kept = files.out.join(CHECKPOINT);
            format!(
                "update {}: {error}\n{} keeps the state after update {}",
                run.updates() + 1,
                kept.display(),
                run.saved()
            )
        })?;
        progress.step(step.updates, step.loss);
        if saved.elapsed() >= between_checkpoints || run.done() {
            run.save()?;
            saved = Instant::now();
        }
    }
    let rate = progress.rate(run.updates());
    let aligned = if run.config().freeze_encoder {
        eprintln!("the encoder was frozen: {CHECKPOINT} has the decoder, and nothing is exported");
        "none".to_string()
    } else {
        export(&run, &files)?
    };
    let curve = files.out.join("loss.png");
    curve::draw(run.losses(), run.validations()).write(&curve)?;
    let skipped = run.skipped();
    for (name, reason) in &skipped {
        eprintln!("skipped {name}: {reason}");
    }
    let losses = run.validations();
    let at = |place: Option<&(u64, f32)>| place.map_or(f32::NAN, |&(_, loss)| loss);
    writeln!(
        std::io::stdout(),
        "result updates={} loss={:.5} validation_first={:.5} validation_last={:.5} images_per_s={rate:.2} skipped={} aligned={}",
        run.updates(),
        run.losses().last().copied().unwrap_or(f32::NAN),
        at(losses.first()),
        at(losses.last()),
        skipped.len(),
        aligned,
    )?;
    Ok(())
}

/// Writes the encoder, and the whole model with it where there is one; names the encoder's folder.
fn export(run: &Run<Cpu>, files: &RunFiles) -> Result<String, Box<dyn Error>> {
    let aligned = run.export()?;
    let model = files.out.join("model");
    if files.model.join("tokenizer.json").exists() {
        plug_in(&aligned, &files.model, &model)?;
        eprintln!("{} is the whole model with the aligned encoder", model.display());
    }
    Ok(aligned.display().to_string())
}
