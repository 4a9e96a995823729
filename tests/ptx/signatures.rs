//! What the texts say about themselves, against the table in `cuda/README.md` and the house rules.

use std::fs;

use super::launch::Kernels;
use super::program::Operation;
use super::syntax::Statement;
use super::text::{folder, kernels, lines};

/// Rows of the README's table: name, parameters, threads.
fn table() -> Vec<(String, String, String)> {
    let readme = fs::read_to_string(folder().join("README.md")).unwrap();
    let rows = readme.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| `")?.split(" | ").collect();
        let name = cells[0].trim_end_matches('`');
        (cells.len() >= 4).then(|| (name.to_owned(), cells[1].to_owned(), cells[2].to_owned()))
    });
    rows.collect()
}

/// `out u64, x u64 (or 0), rows` as names and types, without remarks.
fn parameters(cell: &str, table: &[(String, String, String)]) -> Vec<(String, String)> {
    if let Some(other) = cell.strip_prefix("as `") {
        let other = other.split('`').next().unwrap();
        let row = table.iter().find(|row| row.0 == other).unwrap_or_else(|| panic!("no row {other}"));
        return parameters(&row.1, table);
    }
    let mut plain = String::new();
    let mut depth = 0;
    for c in cell.trim_start_matches('`').split('`').next().unwrap().chars() {
        depth += i32::from(c == '(');
        if depth == 0 {
            plain.push(c);
        }
        depth -= i32::from(c == ')');
    }
    let parameter = |part: &str| {
        let mut words = part.split_whitespace();
        let name = words.next().unwrap().to_owned();
        (format!(".{}", words.next().unwrap_or("u32")), name)
    };
    plain.split(',').map(parameter).collect()
}

#[test]
fn the_table_names_every_kernel_with_its_parameters() {
    let table = table();
    let listed: Vec<&str> = table.iter().map(|row| row.0.as_str()).collect();
    for name in kernels() {
        assert!(listed.contains(&name.as_str()), "{name} is not in the table");
    }
    for (name, cell, block) in &table {
        let program = Kernels::new(1).program(name);
        assert_eq!(program.source.params, parameters(cell, &table), "{name}");
        match program.source.required_threads {
            Some(threads) => assert_eq!(block, &threads.to_string(), "{name}"),
            None => assert!(program.source.most_threads.is_some(), "{name} says nothing about its block"),
        }
    }
}

#[test]
fn texts_follow_the_house_rules() {
    for name in kernels() {
        let program = Kernels::new(1).program(&name);
        let source = &program.source;
        let (version, target) = match name.rsplit_once("_sm") {
            Some((_, "75")) => ("6.5", "sm_75"),
            Some((_, "80")) => ("7.0", "sm_80"),
            Some((_, "90a")) => ("8.0", "sm_90a"),
            _ => ("6.0", "sm_53"),
        };
        assert_eq!((source.version.as_str(), source.target.as_str()), (version, target), "{name}");
        let lines = lines(&name);
        let heads = [
            format!("// {name}: "),
            "// params".into(),
            "// launch".into(),
            "// steps".into(),
            "// regs".into(),
        ];
        for (line, head) in lines.iter().zip(heads) {
            assert!(line.text.starts_with(&head), "{}: the prologue says {head}", line.origin);
        }
        // The grammar wants something behind a label; not every assembler insists.
        for pair in source.body.windows(2) {
            let bare = matches!(pair, [(_, Statement::Label(_)), (_, Statement::Close)]);
            assert!(!bare, "{}: a label with nothing behind it", lines[pair[0].0].origin);
        }
        // Loops are closed by predicated branches only: some drivers lose rounds of the others.
        for (at, instruction) in program.instructions.iter().enumerate() {
            let back = matches!(instruction.operation, Operation::Branch { to } if to <= at);
            assert!(!back || instruction.guard.is_some(), "{}: an unguarded branch back", program.place(at));
        }
    }
}

#[test]
fn files_are_short_enough_to_read() {
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 600, "{}: {lines} lines", path.display());
    }
}
