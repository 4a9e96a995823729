//! From text to statements: words, vectors in braces, addresses in brackets. Knows nothing of what instructions mean.

use super::text::Line;

/// One operand as written.
#[derive(Clone, Debug, PartialEq)]
pub enum Written {
    /// A register, number, label, name or special register; a leading minus is part of it.
    Word(String),
    /// `!word`
    Not(String),
    /// `{a, b, ...}`
    Vector(Vec<String>),
    /// `[word + offset]`
    Address(String, i64),
}

/// One statement of a kernel's body.
#[derive(Clone, Debug, PartialEq)]
pub enum Statement {
    /// `{`
    Open,
    /// `}`
    Close,
    /// `NAME:`
    Label(String),
    /// `.reg .type %a, %b<4>;` as type and (name, count), a count of 0 for a single one.
    Registers(String, Vec<(String, usize)>),
    /// `.shared .align n .b8 name[bytes];`
    Shared { name: String, align: usize, bytes: usize },
    /// An instruction with its guard (register, negated).
    Instruction { guard: Option<(String, bool)>, opcode: String, operands: Vec<Written> },
}

/// A kernel as written.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// After `.version`.
    pub version: String,
    /// After `.target`.
    pub target: String,
    /// The entry's name.
    pub entry: String,
    /// Type and name of every parameter.
    pub params: Vec<(String, String)>,
    /// Threads of a block that the text demands.
    pub required_threads: Option<usize>,
    /// Most threads of a block that the text allows.
    pub most_threads: Option<usize>,
    /// Name of the dynamic shared memory.
    pub dynamic: Option<String>,
    /// Statements of the body, with the index of their line.
    pub body: Vec<(usize, Statement)>,
}

struct Words<'a> {
    words: Vec<(usize, String)>,
    at: usize,
    lines: &'a [Line],
}

impl Words<'_> {
    fn fail<T>(&self, what: &str) -> Result<T, String> {
        let (line, word) = self.words.get(self.at.min(self.words.len() - 1)).cloned().unwrap_or_default();
        Err(format!("{}: {what} at `{word}`", self.lines[line].origin))
    }

    fn peek(&self) -> &str {
        self.words.get(self.at).map_or("", |(_, word)| word)
    }

    fn line(&self) -> usize {
        self.words.get(self.at).map_or(0, |(line, _)| *line)
    }

    fn next(&mut self) -> String {
        self.at += 1;
        self.words.get(self.at - 1).map_or(String::new(), |(_, word)| word.clone())
    }

    fn expect(&mut self, word: &str) -> Result<(), String> {
        if self.peek() == word {
            self.at += 1;
            return Ok(());
        }
        self.fail(&format!("`{word}` is expected"))
    }

    fn number(&mut self) -> Result<usize, String> {
        let word = self.next();
        match word.parse() {
            Ok(number) => Ok(number),
            Err(_) => self.fail("a number is expected before this"),
        }
    }

    fn signed(&mut self) -> String {
        if self.peek() == "-" {
            self.at += 1;
            return format!("-{}", self.next());
        }
        self.next()
    }
}

fn words(lines: &[Line]) -> Vec<(usize, String)> {
    let mut words = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let text = line.text.split("//").next().unwrap_or("");
        let mut word = String::new();
        // `::` is part of a word, `:` ends a label.
        for c in text.replace("::", "\u{2237}").chars().chain([' ']) {
            if c == '\u{2237}' {
                word.push_str("::");
                continue;
            }
            if c.is_ascii_alphanumeric() || "_.%$".contains(c) {
                word.push(c);
                continue;
            }
            if !word.is_empty() {
                words.push((index, std::mem::take(&mut word)));
            }
            if !c.is_whitespace() {
                words.push((index, c.to_string()));
            }
        }
    }
    words
}

/// Reads a kernel file: its directives and its one entry.
pub fn read(lines: &[Line]) -> Result<Source, String> {
    let mut words = Words { words: words(lines), at: 0, lines };
    let mut source = Source::default();
    loop {
        match words.next().as_str() {
            ".version" => source.version = words.next(),
            ".target" => source.target = words.next(),
            ".address_size" => words.expect("64")?,
            ".extern" => {
                for word in [".shared", ".align"] {
                    words.expect(word)?;
                }
                words.number()?;
                words.expect(".b8")?;
                source.dynamic = Some(words.next());
                for word in ["[", "]", ";"] {
                    words.expect(word)?;
                }
            }
            ".visible" => break,
            _ => return words.fail("a directive is expected before this"),
        }
    }
    words.expect(".entry")?;
    source.entry = words.next();
    words.expect("(")?;
    while words.peek() != ")" {
        words.expect(".param")?;
        let kind = words.next();
        source.params.push((kind, words.next()));
        if words.peek() == "," {
            words.next();
        }
    }
    words.expect(")")?;
    while words.peek() != "{" {
        let directive = words.next();
        let mut threads = words.number()?;
        while words.peek() == "," {
            words.next();
            threads *= words.number()?;
        }
        match directive.as_str() {
            ".reqntid" => source.required_threads = Some(threads),
            ".maxntid" => source.most_threads = Some(threads),
            ".minnctapersm" => {}
            _ => return words.fail("an unknown directive stands before this"),
        }
    }
    words.expect("{")?;
    let mut depth = 1;
    while depth > 0 {
        let line = words.line();
        let statement = statement(&mut words)?;
        depth += usize::from(statement == Statement::Open);
        depth -= usize::from(statement == Statement::Close);
        source.body.push((line, statement));
    }
    source.body.pop();
    if words.at != words.words.len() {
        return words.fail("nothing is expected after the entry");
    }
    Ok(source)
}

fn statement(words: &mut Words) -> Result<Statement, String> {
    let word = words.next();
    match word.as_str() {
        "" => words.fail("the end of the body is missing"),
        "{" => Ok(Statement::Open),
        "}" => Ok(Statement::Close),
        ".reg" => {
            let kind = words.next();
            let mut names = Vec::new();
            loop {
                let name = words.next();
                let mut count = 0;
                if words.peek() == "<" {
                    words.next();
                    count = words.number()?;
                    words.expect(">")?;
                }
                names.push((name, count));
                match words.next().as_str() {
                    "," => {}
                    ";" => return Ok(Statement::Registers(kind, names)),
                    _ => return words.fail("`,` or `;` is expected before this"),
                }
            }
        }
        ".shared" => {
            words.expect(".align")?;
            let align = words.number()?;
            words.expect(".b8")?;
            let name = words.next();
            words.expect("[")?;
            let bytes = words.number()?;
            for word in ["]", ";"] {
                words.expect(word)?;
            }
            Ok(Statement::Shared { name, align, bytes })
        }
        _ if words.peek() == ":" => {
            words.next();
            Ok(Statement::Label(word))
        }
        _ => {
            let mut guard = None;
            let mut opcode = word;
            if opcode == "@" {
                let negated = words.peek() == "!";
                if negated {
                    words.next();
                }
                guard = Some((words.next(), negated));
                opcode = words.next();
            }
            let mut operands = Vec::new();
            while words.peek() != ";" {
                operands.push(operand(words)?);
                if words.peek() == "," {
                    words.next();
                }
            }
            words.expect(";")?;
            Ok(Statement::Instruction { guard, opcode, operands })
        }
    }
}

fn operand(words: &mut Words) -> Result<Written, String> {
    match words.peek() {
        "!" => {
            words.next();
            Ok(Written::Not(words.next()))
        }
        "{" => {
            words.next();
            let mut parts = Vec::new();
            while words.peek() != "}" {
                parts.push(words.signed());
                if words.peek() == "," {
                    words.next();
                }
            }
            words.next();
            Ok(Written::Vector(parts))
        }
        "[" => {
            words.next();
            let base = words.next();
            let mut offset = 0;
            if words.peek() == "+" {
                words.next();
                offset = words.number()? as i64;
            }
            words.expect("]")?;
            Ok(Written::Address(base, offset))
        }
        "" | ";" | "}" | "]" => words.fail("an operand is expected"),
        _ => Ok(Written::Word(words.signed())),
    }
}
