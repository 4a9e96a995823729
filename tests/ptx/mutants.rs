//! Wrong kernels: each text is changed in one place, and the tests must see it. By default a few changes of every kernel; as many as
//! a number says, or all of them, by `TRIPLET_MUTANTS=full cargo test --release --test ptx mutants -- --nocapture`, which prints the
//! ones that live; `TRIPLET_MUTANTS_OF` names the kernels that are changed, separated by commas, instead of all.
//! `cuda/survivors.txt` names the changes that nothing here sees, with the reason where one is known.

use std::collections::BTreeMap;
use std::fs;

use super::launch::Kernels;
use super::program::Program;
use super::text::{Line, folder, kernels, lines};
use super::{attention, maps, norms, packed, pictures, products, quantised, rows, select_token};

/// Changes that are tried of every kernel by default.
const SAMPLE: usize = 8;
/// Most instructions of a launch; an unchanged one is seen to take less than a quarter.
const BUDGET: u64 = 4_000_000;

type Check = fn(&Kernels) -> Result<(), String>;

/// The checks of a kernel.
fn check(name: &str) -> Check {
    match name {
        "copy" => rows::copy,
        "embedding" => rows::embedding,
        "add" => rows::add,
        "activate" => rows::activate,
        "is_finite" => rows::is_finite,
        "layer_norm" => norms::layer_norm,
        "rms_norm" => norms::rms_norm,
        "group_norm" => norms::group_norm,
        "rope" => maps::rope,
        "resize" => maps::resize,
        "conv2d" => maps::conv2d,
        "depthwise" => maps::depthwise,
        "linear" => products::linear_both,
        "linear_row" => products::linear_row,
        "dequantise" => quantised::dequantise,
        "linear_row_quantised" => quantised::linear_row_quantised,
        "linear_pack" => packed::linear_pack,
        "linear_sm90a" => packed::linear_sm90a,
        "linear_merge" => products::linear_merge,
        "linear_sm80" => products::linear_sm80,
        "linear_sm75" => products::linear_sm75,
        "mask_pixels" => pictures::mask_pixels,
        "prepare_across" | "prepare_down" => pictures::prepare,
        "matmul" => products::matmul,
        "attention" => attention::both,
        "attention_merge" => attention::merged,
        "attention_sm80" => attention::attention_sm80,
        "attention_sm75" => attention::attention_sm75,
        "select_token" => select_token::select_token,
        "log_probability" => select_token::log_probability,
        _ => panic!("{name} has no test"),
    }
}

/// The kernel whose tests a file answers to.
fn owner(file: &str) -> &str {
    match file.split_once('.').map_or(file, |(stem, _)| stem) {
        "activation" => "activate",
        "element" => "embedding",
        "block_sum" => "layer_norm",
        "mask_tap" => "mask_pixels",
        "prepare_round" => "prepare_across",
        "tile_start" | "tile_product" | "tile_fold" | "tile_gather" | "tile_finish" => "linear",
        "attention_merge" => "attention_merge",
        stem if stem.ends_with("_sm90a") => "linear_sm90a",
        "linear_run" | "linear_partial" => "linear_sm80",
        "most_sm75" | "unit_sm75" | "split_sm75" => "linear_sm75",
        stem if stem.ends_with("_tensor") => "attention_sm80",
        stem if stem.ends_with("_sm75") => match stem.split_once('_') {
            Some(("linear", _)) => "linear_sm75",
            _ => "attention_sm75",
        },
        stem if stem.ends_with("_sm80") && stem != "linear_sm80" => "attention_sm80",
        stem if stem.starts_with("attention") => "attention",
        stem if stem.starts_with("resize") => "resize",
        stem => stem,
    }
}

/// A change: which line, what it says then.
#[derive(Clone)]
struct Change {
    line: usize,
    text: String,
}

/// The operands of an instruction, as written.
fn operands(code: &str) -> Option<(&str, Vec<&str>)> {
    let (opcode, rest) = code.split_once(' ')?;
    Some((opcode, rest.strip_suffix(';')?.split(", ").collect()))
}

/// What is dropped: barriers, waits, fences, arrivals.
const DROPPED: [&str; 7] =
    ["bar.sync", "bar.warp", "cp.async.wait", "fence.", "wgmma.fence", "wgmma.wait", "mbarrier.arrive"];

/// The changes of one line: a barrier or a guard dropped, a bound off by one, operands exchanged, a number or an offset wrong.
fn changes(text: &str) -> Vec<String> {
    let code = text.split("//").next().unwrap_or("").trim();
    let (guard, bare) = match code.strip_prefix('@').and_then(|rest| rest.split_once(' ')) {
        Some((guard, bare)) => (Some(guard), bare),
        None => (None, code),
    };
    let mut changed = Vec::new();
    if !bare.ends_with(';') || bare.starts_with('.') {
        return changed;
    }
    if DROPPED.iter().any(|start| bare.starts_with(start)) {
        changed.push(String::new());
    }
    if let Some(guard) = guard {
        let other = guard.strip_prefix('!').map_or(format!("!{guard}"), str::to_owned);
        changed.push(format!("@{other} {bare}"));
        if !bare.starts_with("bra") {
            changed.push(bare.to_owned());
        }
    }
    let guarded = |code: String| guard.map_or(code.clone(), |guard| format!("@{guard} {code}"));
    for (from, to) in [(".lt.", ".le."), (".le.", ".lt."), (".ge.", ".gt."), (".gt.", ".ge.")] {
        if bare.starts_with("setp") && bare.contains(from) && !bare.contains("f64") {
            changed.push(guarded(bare.replacen(from, to, 1)));
        }
    }
    if let Some((_, offset)) = bare.split_once(" + ")
        && let Some((number, _)) = offset.split_once(']')
        && let Ok(number) = number.parse::<u64>()
    {
        changed.push(guarded(bare.replacen(&format!(" + {number}]"), &format!(" + {}]", number + 4), 1)));
    }
    let Some((opcode, parts)) = operands(bare) else { return changed };
    let ordered = ["sub", "selp", "div", "rem", "shr", "fma"].iter().any(|name| opcode.starts_with(name));
    if ordered && parts.len() >= 3 {
        let mut exchanged = parts.clone();
        let last = if opcode.starts_with("fma") { (2, 3) } else { (1, 2) };
        exchanged.swap(last.0, last.1);
        if exchanged != parts {
            changed.push(guarded(format!("{opcode} {};", exchanged.join(", "))));
        }
    }
    let integer = ["add.", "shl.", "shr.", "mul.lo", "mul.wide", "mad.", "and."]
        .iter()
        .any(|name| opcode.starts_with(name));
    if integer && let Some(at) = parts.iter().rposition(|part| part.parse::<u64>().is_ok()) {
        let number = parts[at].parse::<u64>().expect("tried") + 1;
        let number = number.to_string();
        let mut wrong = parts.clone();
        wrong[at] = &number;
        changed.push(guarded(format!("{opcode} {};", wrong.join(", "))));
    }
    changed
}

/// All changes of a kernel in the files that answer to its tests, in the order of the lines.
fn all_changes(name: &str, lines: &[Line]) -> Vec<Change> {
    let changes = lines
        .iter()
        .enumerate()
        .filter(|(_, of)| owner(&of.origin) == name)
        .flat_map(|(line, of)| changes(&of.text).into_iter().map(move |text| Change { line, text }));
    changes.collect()
}

/// How the list of survivors names a change.
fn named(name: &str, line: &Line, change: &Change) -> String {
    let file = line.origin.split(':').next().unwrap_or("");
    format!("{name} {file} | {} | {}", line.text.trim(), change.text.trim())
}

#[test]
fn mutants_are_seen() {
    let sample = match std::env::var("TRIPLET_MUTANTS").as_deref() {
        Ok("full") => usize::MAX,
        Ok(number) => number.parse().expect("TRIPLET_MUTANTS is full or a number"),
        Err(_) => SAMPLE,
    };
    let listed = fs::read_to_string(folder().join("survivors.txt")).unwrap();
    let listed: Vec<&str> = listed.lines().filter(|line| line.contains(" | ")).collect();
    let (mut tried, mut alive) = (0, Vec::new());
    let mut by_kernel = BTreeMap::new();
    let of = std::env::var("TRIPLET_MUTANTS_OF").ok();
    let chosen = |name: &String| of.as_ref().is_none_or(|of| of.split(',').any(|one| one == name));
    for name in kernels().into_iter().filter(chosen) {
        let healthy = lines(&name);
        let changes = all_changes(&name, &healthy);
        let step = changes.len().div_ceil(sample).max(1);
        let check = check(&name);
        let program = Program::new(healthy.clone()).unwrap_or_else(|what| panic!("{what}"));
        check(&Kernels::with(&name, program, BUDGET / 4)).unwrap_or_else(|what| panic!("unchanged: {what}"));
        let mut of_kernel = (0, 0);
        for change in changes.iter().skip(step / 2).step_by(step) {
            let mut wrong = healthy.clone();
            wrong[change.line].text.clone_from(&change.text);
            let program = Program::new(wrong).unwrap_or_else(|what| panic!("{what}"));
            of_kernel.0 += 1;
            if check(&Kernels::with(&name, program, BUDGET)).is_ok() {
                of_kernel.1 += 1;
                alive.push(named(&name, &healthy[change.line], change));
            }
        }
        tried += of_kernel.0;
        by_kernel.insert(name, of_kernel);
    }
    println!("{tried} mutants, {} alive; by kernel (tried, alive): {by_kernel:?}", alive.len());
    let unknown: Vec<&String> = alive.iter().filter(|alive| !listed.contains(&alive.as_str())).collect();
    alive.iter().for_each(|alive| println!("{alive}"));
    assert!(tried >= 100);
    assert!(alive.len() * 20 <= tried, "{} of {tried} live", alive.len());
    assert!(sample > SAMPLE || unknown.is_empty(), "not in cuda/survivors.txt: {unknown:#?}");
}

#[test]
fn changes_of_a_line() {
    assert_eq!(changes("    bar.sync 0;"), [""]);
    assert_eq!(changes("    @%p_a bra END; // why"), ["@!%p_a bra END;"]);
    assert_eq!(changes("setp.lt.u32 %p_a, %r_a, %r_b;"), ["setp.le.u32 %p_a, %r_a, %r_b;"]);
    assert_eq!(changes("@%p_a ld.shared.f32 %f_a, [%r_a + 16];").len(), 3);
    assert_eq!(changes("sub.u32 %r_a, %r_b, %r_c;"), ["sub.u32 %r_a, %r_c, %r_b;"]);
    assert_eq!(changes("shl.b32 %r_a, %r_b, 2;"), ["shl.b32 %r_a, %r_b, 3;"]);
    assert!(changes(".reg .pred %p_a;").is_empty());
}
