//! The command line.

use std::path::PathBuf;

use triplet::backend::CacheType;
use triplet::device::Device;

/// What `--help` prints.
pub const USAGE: &str = "\
usage: cargo run --release --example evaluate -- [options]

  --scenes N            how many scenes (500)
  --first-seed S        seed of the first scene (1000000)
  --prior-scenes N      how many scenes the prior is fitted on, from seed 800000 (500)
  --model DIR           model directory (examples/tabletop/model)
  --threads N           scenes in work at a time, a thread each (all cores)
  --device NAME         auto, cpu, cuda:0, ...: where the model computes (cpu)
  --cache TYPE          f32, f16 or int8: how sessions keep keys and values (f32)
  --no-teacher-forced   leave out the run over the true answers
  --json FILE           write the figures to FILE too
  --check               fail when a floor is missed or a question gets an error";

/// Seed of the first scene that the prior is fitted on.
pub const PRIOR_SEED: u64 = 800_000;

/// The options, each with its default.
#[derive(Clone, Debug, PartialEq)]
pub struct Arguments {
    /// How many scenes are evaluated, at least 1.
    pub scenes: u64,
    /// Seed of the first one.
    pub first_seed: u64,
    /// How many scenes the prior is fitted on, at least 1.
    pub prior_scenes: u64,
    /// The model directory.
    pub model: PathBuf,
    /// Worker threads, at least 1.
    pub threads: usize,
    /// Where the model computes.
    pub device: Device,
    /// How sessions keep keys and values.
    pub cache: CacheType,
    /// Whether to run over the true answers as well.
    pub teacher_forced: bool,
    /// Where the figures are written as JSON.
    pub json: Option<PathBuf>,
    /// Whether a missed floor is a failure.
    pub check: bool,
    /// Only the usage is wanted.
    pub help: bool,
}

impl Arguments {
    /// Reads the words after the program's name.
    ///
    /// # Errors
    /// A message that names the option when one is unknown, lacks its value or has one out of range.
    pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Arguments, String> {
        let mut arguments = Arguments {
            scenes: 500,
            first_seed: 1_000_000,
            prior_scenes: 500,
            model: PathBuf::from("examples/tabletop/model"),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            device: Device::Cpu,
            cache: CacheType::F32,
            teacher_forced: true,
            json: None,
            check: false,
            help: false,
        };
        let mut words = words.into_iter();
        while let Some(name) = words.next() {
            match name.as_str() {
                "--no-teacher-forced" => arguments.teacher_forced = false,
                "--check" => arguments.check = true,
                "--help" | "-h" => arguments.help = true,
                "--scenes" => arguments.scenes = number(&name, words.next(), 1, 1_000_000)?,
                "--first-seed" => arguments.first_seed = number(&name, words.next(), 0, u64::MAX / 2)?,
                "--prior-scenes" => arguments.prior_scenes = number(&name, words.next(), 1, 100_000)?,
                "--threads" => arguments.threads = number(&name, words.next(), 1, 256)? as usize,
                "--model" => arguments.model = PathBuf::from(value(&name, words.next())?),
                "--device" => {
                    arguments.device =
                        value(&name, words.next())?.parse().map_err(|e| format!("{name}: {e}"))?;
                }
                "--cache" => {
                    arguments.cache =
                        value(&name, words.next())?.parse().map_err(|e| format!("{name}: {e}"))?;
                }
                "--json" => arguments.json = Some(PathBuf::from(value(&name, words.next())?)),
                _ => return Err(format!("unknown option {name:?}\n{USAGE}")),
            }
        }
        let fitted = PRIOR_SEED..PRIOR_SEED + arguments.prior_scenes;
        if fitted.start < arguments.first_seed + arguments.scenes && arguments.first_seed < fitted.end {
            return Err(format!(
                "--first-seed: scenes {fitted:?} are the prior's, it would be fitted on its own test"
            ));
        }
        Ok(arguments)
    }
}

fn value(name: &str, word: Option<String>) -> Result<String, String> {
    word.ok_or_else(|| format!("{name} needs a value"))
}

fn number(name: &str, word: Option<String>, low: u64, high: u64) -> Result<u64, String> {
    let word = value(name, word)?;
    match word.parse::<u64>() {
        Ok(n) if (low..=high).contains(&n) => Ok(n),
        _ => Err(format!("{name} {word:?} is not a number from {low} to {high}")),
    }
}

#[cfg(test)]
mod tests {
    use super::Arguments;

    fn parse(line: &str) -> Result<Arguments, String> {
        Arguments::parse(line.split_whitespace().map(String::from))
    }

    #[test]
    fn the_defaults_are_the_scenes_of_the_issue() {
        let arguments = parse("").unwrap();
        assert_eq!((arguments.first_seed, arguments.scenes), (1_000_000, 500));
        assert!(arguments.teacher_forced && !arguments.check);
    }

    #[test]
    fn options_are_read() {
        let arguments =
            parse("--scenes 3 --model there --no-teacher-forced --json out.json --threads 2 --cache int8")
                .unwrap();
        assert_eq!(arguments.cache, super::CacheType::Int8);
        assert_eq!((arguments.scenes, arguments.threads, arguments.teacher_forced), (3, 2, false));
        assert_eq!(
            (arguments.model.to_str(), arguments.json.unwrap().to_str()),
            (Some("there"), Some("out.json"))
        );
    }

    #[test]
    fn errors_name_the_option() {
        for (line, word) in [
            ("--scenes", "--scenes"),
            ("--threads 0", "--threads"),
            ("--sceens 3", "--sceens"),
            ("--cache int4", "--cache"),
        ] {
            assert!(parse(line).unwrap_err().contains(word), "{line}");
        }
        assert!(parse("--first-seed 800499").unwrap_err().contains("--first-seed"), "the prior's own scenes");
    }
}
