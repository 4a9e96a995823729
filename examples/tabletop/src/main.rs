//! `tabletop stream` feeds a trainer.
#![forbid(unsafe_code)]

use std::io::{BufWriter, Write};
use std::process::ExitCode;

use tabletop::stream::{StreamPlan, stream};
use tabletop::{FULL, Options};

const USAGE: &str = "\
usage: tabletop stream --first-seed S --scenes N [--long-side L] [--threads T] [--max-objects K]

  stream   writes N records (seeds S, S+1, ...) to standard output:
           u32 json_len | json | u8 rgb[h*w*3] | u8 instance[h*w] | f32 depth[h*w], little endian

  --long-side L     long side of a 640 x 480 picture, a multiple of 20 from 80 to 1280 (default 640); a 512 x 512
                    picture shrinks by the same factor
  --threads T       rendering threads (default 1); the bytes do not depend on it
  --max-objects K   at most K objects besides the mannequin, 1 to 5 (default 5)";

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
    let mut args = std::env::args().skip(1);
    let command = args.next().ok_or(format!("no command given\n{USAGE}"))?;
    if command == "--help" || command == "-h" {
        return writeln!(std::io::stdout(), "{USAGE}").map_err(|e| e.to_string());
    }
    if command != "stream" {
        return Err(format!("unknown command {command:?}\n{USAGE}"));
    }
    let (mut first_seed, mut scenes) = (None, None);
    let (mut long_side, mut threads, mut options) = (FULL, 1usize, Options::default());
    while let Some(name) = args.next() {
        let value = args.next().ok_or(format!("{name} needs a value"))?;
        match name.as_str() {
            "--first-seed" => first_seed = Some(number(&name, &value, 0, u64::MAX)?),
            "--scenes" => scenes = Some(number(&name, &value, 0, u64::MAX)?),
            "--long-side" => {
                long_side = number(&name, &value, 80, 1280)? as usize;
                if long_side % 20 != 0 {
                    return Err(format!("--long-side {long_side} is not a multiple of 20"));
                }
            }
            "--threads" => threads = number(&name, &value, 1, 1024)? as usize,
            "--max-objects" => options.max_objects = number(&name, &value, 1, 5)? as usize,
            _ => return Err(format!("unknown argument {name:?}\n{USAGE}")),
        }
    }
    let plan = StreamPlan {
        first_seed: first_seed.ok_or("--first-seed is missing")?,
        scenes: scenes.ok_or("--scenes is missing")?,
        long_side,
        threads,
        options,
    };
    let mut out = BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
    stream(&plan, &mut out).map_err(|e| format!("cannot write to standard output: {e}"))
}

fn number(name: &str, value: &str, low: u64, high: u64) -> Result<u64, String> {
    match value.parse::<u64>() {
        Ok(n) if (low..=high).contains(&n) => Ok(n),
        _ => Err(format!("{name} {value:?} is not a number from {low} to {high}")),
    }
}
