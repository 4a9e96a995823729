//! Arguments of the form `--name value`, and how a program ends.

use std::error::Error;
use std::process::ExitCode;
use std::str::FromStr;

/// Ends a program: an error goes to standard error as it reads.
pub fn exit_code(result: Result<(), Box<dyn Error>>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The arguments of the program, checked against the names that it knows.
pub struct Arguments {
    given: Vec<(String, String)>,
}

impl Arguments {
    /// Reads the program's `--name value` pairs; names in `flags` stand alone. `--help` prints `usage` and ends the
    /// program; an unknown name is an error with `usage` in it.
    pub fn read(names: &[&str], flags: &[&str], usage: &str) -> Result<Arguments, Box<dyn Error>> {
        Arguments::read_words(std::env::args().skip(1), names, flags, usage)
    }

    /// As [`Arguments::read`] for other words than the program's own.
    pub fn read_words(
        mut words: impl Iterator<Item = String>,
        names: &[&str],
        flags: &[&str],
        usage: &str,
    ) -> Result<Arguments, Box<dyn Error>> {
        let mut given = Vec::new();
        while let Some(word) = words.next() {
            let name = word.strip_prefix("--").unwrap_or("");
            if word == "--help" || word == "-h" {
                println!("{usage}");
                std::process::exit(0);
            } else if flags.contains(&name) {
                given.push((name.to_owned(), String::new()));
            } else if names.contains(&name) {
                let value = words.next().ok_or_else(|| format!("{word} needs a value\n{usage}"))?;
                given.push((name.to_owned(), value));
            } else {
                return Err(format!("{word} is not known\n{usage}").into());
            }
        }
        Ok(Arguments { given })
    }

    /// Whether a flag or a name was given.
    pub fn has(&self, name: &str) -> bool {
        self.text(name).is_some()
    }

    /// The last value of a name.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.given.iter().rev().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// The value of a name that must be given.
    pub fn required(&self, name: &str) -> Result<&str, Box<dyn Error>> {
        self.text(name).ok_or_else(|| format!("--{name} is missing").into())
    }

    /// The value of a name as a number, if it was given.
    pub fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, Box<dyn Error>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        text.parse()
            .map(Some)
            .map_err(|_| format!("--{name} {text} is not a number of the right kind").into())
    }
}
