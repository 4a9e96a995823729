//! `tabletop stream` feeds a trainer, `tabletop write` fills a folder.
#![forbid(unsafe_code)]

use std::io::{BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use tabletop::files::write;
use tabletop::stream::{Plan, stream};
use tabletop::{FULL, Options};

const USAGE: &str = "\
usage: tabletop stream --first-seed S --scenes N [--long-side L] [--threads T] [--max-objects K]
       tabletop write  --first-seed S --scenes N --out DIR [the same options]

  stream   writes N records (seeds S, S+1, ...) to standard output:
           u32 json_len | json | u8 rgb[h*w*3] | u8 instance[h*w] | f32 depth[h*w], little endian
  write    writes DIR/images/*.png, DIR/depth/*.png (16 bits, millimetres) and DIR/conversations.jsonl

  --long-side L     long side of a 640 x 480 picture, a multiple of 20 from 80 to 1280 (default 640); a 512 x 512
                    picture shrinks by the same factor
  --threads T       rendering threads (default 1); the bytes do not depend on it
  --max-objects K   at most K objects besides the mannequin, 1 to 5 (default 5)

Seeds 1000000 to 1000499 are for evaluation: do not train on them.";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            let _ = writeln!(std::io::stderr(), "tabletop: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let mut args = std::env::args_os().skip(1);
    let command = args.next().ok_or(format!("no command given\n{USAGE}"))?;
    if command == "--help" || command == "-h" {
        return writeln!(std::io::stdout(), "{USAGE}").map_err(|e| e.to_string());
    }
    if command != "stream" && command != "write" {
        return Err(format!("unknown command {command:?}\n{USAGE}"));
    }
    let (mut first_seed, mut scenes, mut folder) = (None, None, None);
    let (mut long_side, mut threads, mut options) = (FULL, 1usize, Options::default());
    while let Some(name) = args.next() {
        let name = name.to_str().ok_or(format!("unknown argument {name:?}"))?.to_string();
        let value = args.next().ok_or(format!("{name} needs a value"))?;
        if name == "--out" && command == "write" {
            folder = Some(PathBuf::from(value));
            continue;
        }
        let value = value.to_str().ok_or(format!("{name} {value:?} is not a number"))?;
        match name.as_str() {
            "--first-seed" => first_seed = Some(number(&name, value, 0, u64::MAX)?),
            "--scenes" => scenes = Some(number(&name, value, 0, u64::MAX)?),
            "--long-side" => {
                long_side = number(&name, value, 80, 1280)? as usize;
                if !long_side.is_multiple_of(20) {
                    return Err(format!("--long-side {long_side} is not a multiple of 20"));
                }
            }
            "--threads" => threads = number(&name, value, 1, 1024)? as usize,
            "--max-objects" => options.max_objects = number(&name, value, 1, 5)? as usize,
            _ => return Err(format!("unknown argument {name:?}\n{USAGE}")),
        }
    }
    let first_seed = first_seed.ok_or("--first-seed is missing")?;
    let scenes = scenes.ok_or("--scenes is missing")?;
    let plan = Plan { first_seed, scenes, long_side, threads, options };
    if command == "stream" {
        let mut out = BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
        return stream(&plan, &mut out).map_err(|e| format!("cannot write to standard output: {e}"));
    }
    let folder = folder.ok_or("--out is missing")?;
    let bar = std::io::stderr().is_terminal();
    write(&plan, &folder, |done| progress(bar, done, scenes)).map_err(|e| format!("cannot write {e}"))
}

/// A bar on a terminal, a line every tenth elsewhere.
fn progress(bar: bool, done: u64, total: u64) {
    let tenths = |n: u64| u128::from(n) * 10 / u128::from(total.max(1));
    let mut err = std::io::stderr();
    let _ = if bar {
        let filled = (u128::from(done) * 40 / u128::from(total.max(1))) as usize;
        let end = if done == total { "\n" } else { "" };
        write!(
            err,
            "\r[{}{}] {done}/{total} scenes{end}",
            "#".repeat(filled),
            " ".repeat(40 - filled.min(40))
        )
    } else if tenths(done) != tenths(done - 1) {
        writeln!(err, "{done}/{total} scenes")
    } else {
        Ok(())
    };
}

fn number(name: &str, value: &str, low: u64, high: u64) -> Result<u64, String> {
    match value.parse::<u64>() {
        Ok(n) if (low..=high).contains(&n) => Ok(n),
        _ => Err(format!("{name} {value:?} is not a number from {low} to {high}")),
    }
}
