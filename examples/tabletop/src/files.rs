//! `tabletop write`: PNG pictures, 16-bit PNG depth maps and JSON Lines in the reference's conversation format.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::conversation::conversation;
use crate::ordered::in_order;
use crate::render::{Rendered, render};
use crate::scene::Scene;
use crate::stream::Plan;
use crate::turns::turns;

/// Name of the JSON Lines file.
pub const CONVERSATIONS: &str = "conversations.jsonl";

/// The files of one scene.
struct SceneFiles {
    picture: (String, Vec<u8>),
    depth: (String, Vec<u8>),
    lines: Vec<u8>,
}

/// Writes `images/SEED.png`, `depth/SEED.png` (millimetres, 0 where undefined) and one line per turn in
/// `conversations.jsonl` under `folder`; `progress(done)` is called after every scene.
///
/// # Errors
/// When a file cannot be written (the message names it).
pub fn write(plan: &Plan, folder: &Path, mut progress: impl FnMut(u64)) -> io::Result<()> {
    for part in ["images", "depth"] {
        let path = folder.join(part);
        fs::create_dir_all(&path).map_err(|e| named(&path, e))?;
    }
    let lines_path = folder.join(CONVERSATIONS);
    let mut lines = BufWriter::new(File::create(&lines_path).map_err(|e| named(&lines_path, e))?);
    let mut done = 0;
    let make = |seed| {
        let scene = Scene::with_options(seed, &plan.options);
        scene_files(&render(&scene, plan.long_side), seed)
    };
    in_order(plan.first_seed, plan.scenes, plan.threads, make, |scene: SceneFiles| {
        for (name, bytes) in [&scene.picture, &scene.depth] {
            let path = folder.join(name);
            fs::write(&path, bytes).map_err(|e| named(&path, e))?;
        }
        lines.write_all(&scene.lines).map_err(|e| named(&lines_path, e))?;
        done += 1;
        progress(done);
        Ok(())
    })?;
    lines.flush().map_err(|e| named(&lines_path, e))
}

fn scene_files(r: &Rendered, seed: u64) -> io::Result<SceneFiles> {
    let picture = format!("images/{seed:07}.png");
    let depth = format!("depth/{seed:07}.png");
    let mut lines = Vec::new();
    for turn in turns(r, seed) {
        serde_json::to_writer(&mut lines, &conversation(r, &turn, &picture, &depth))?;
        lines.push(b'\n');
    }
    let millimetres: Vec<u8> = r.depth.iter().flat_map(|d| millimetres(*d).to_be_bytes()).collect();
    let rgb = png(r, &r.rgb, png::ColorType::Rgb, png::BitDepth::Eight)?;
    let grey = png(r, &millimetres, png::ColorType::Grayscale, png::BitDepth::Sixteen)?;
    Ok(SceneFiles { picture: (picture, rgb), depth: (depth, grey), lines })
}

/// Metres as whole millimetres, 0 where undefined.
pub fn millimetres(metres: f32) -> u16 {
    if metres.is_nan() { 0 } else { (metres * 1000.0 + 0.5).clamp(1.0, 65535.0) as u16 }
}

fn png(r: &Rendered, bytes: &[u8], colour: png::ColorType, bits: png::BitDepth) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, r.width as u32, r.height as u32);
    encoder.set_color(colour);
    encoder.set_depth(bits);
    encoder.write_header().and_then(|mut w| w.write_image_data(bytes)).map_err(io::Error::other)?;
    Ok(out)
}

fn named(path: &Path, e: io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("{}: {e}", path.display()))
}
