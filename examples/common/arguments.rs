//! Arguments of the form `--name value`.

use std::error::Error;
use std::str::FromStr;

/// The arguments of the program, checked against the names that it knows.
pub struct Arguments {
    given: Vec<(String, String)>,
}

impl Arguments {
    /// Reads `--name value` pairs; names in `flags` stand alone. `--help` and unknown names give `usage` as the error.
    pub fn read(names: &[&str], flags: &[&str], usage: &str) -> Result<Arguments, Box<dyn Error>> {
        let mut given = Vec::new();
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let name = word.strip_prefix("--").unwrap_or("");
            if flags.contains(&name) {
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
