//! The guide's masks against a slow recogniser that knows nothing of automata: it writes out what was generated as one
//! string and matches it against the grammar with plain string operations.
#![cfg(feature = "std")]

mod trp_common;

use std::collections::HashMap;
use std::sync::Arc;

use triplet::text::{TokenKind, Vocabulary};
use triplet::trp::{Guide, GuideMode, GuideOptions, GuideTables, Plan, PlanItem, Unit, UnitHead, parse};

const BOX_SLOTS: usize = 3;

/// A token in the string form: symbols written out between markers that no text token holds.
fn spell(vocabulary: &Vocabulary, id: u32) -> Vec<u8> {
    match vocabulary.kind(id) {
        TokenKind::Text => vocabulary.bytes(id).to_vec(),
        TokenKind::Symbol(symbol) => [&[0xff], symbol.text().as_bytes(), &[0xfe]].concat(),
        _ => b"\xff</s>\xfe".to_vec(),
    }
}

/// The two bytes that mark symbols are never text, so tokens of just them are left to the UTF-8 rule.
fn is_mark(token: &[u8]) -> bool {
    token == [0xff] || token == [0xfe]
}

/// Whether `text` is the beginning of valid UTF-8 (and all of it, where `whole`).
fn utf8(text: &[u8], whole: bool) -> bool {
    match std::str::from_utf8(text) {
        Ok(_) => true,
        // Any continuation may complete it, so a truncated character is a beginning.
        Err(error) => !whole && error.error_len().is_none(),
    }
}

/// Whether `written` begins some answer of the grammar without a plan, in which `plan` (if any) is exactly kept.
fn begins_answer(written: &[u8], plan: Option<&[(&str, usize)]>) -> bool {
    let (mut rest, mut used, mut item) = (written, 0, 0);
    loop {
        let Some(mark) = rest.iter().position(|&byte| byte == 0xff) else { return utf8(rest, false) };
        if !utf8(&rest[..mark], true) {
            return false;
        }
        rest = &rest[mark..];
        if let Some(after) = rest.strip_prefix(b"\xff</s>\xfe") {
            return after.is_empty() && plan.is_none_or(|plan| item == plan.len());
        }
        let Some(after) = rest.strip_prefix(b"\xff<Phrase>\xfe") else { return false };
        if plan.map_or(used >= BOX_SLOTS, |plan| item >= plan.len()) {
            return false;
        }
        let end = after.iter().position(|&byte| byte == 0xff).unwrap_or(after.len());
        let (phrase, tail) = after.split_at(end);
        match plan {
            Some(plan) => {
                let name = plan[item].0.as_bytes();
                if !name.starts_with(phrase) || (!tail.is_empty() && name != phrase) {
                    return false;
                }
            }
            None => {
                if !utf8(phrase, !tail.is_empty()) || (!tail.is_empty() && phrase.trim_ascii().is_empty()) {
                    return false;
                }
            }
        }
        // What follows is one fixed string for every count.
        let counts = plan.map_or(1..=BOX_SLOTS - used, |plan| plan[item].1..=plan[item].1);
        let mut closed = None;
        let mut open = tail.is_empty();
        for count in counts {
            let references: String = (0..count).map(|index| format!("[{index}]R")).collect();
            let fixed = format!("P(Ubox/{references})");
            let mut expected = Vec::new();
            for byte in fixed.bytes() {
                match byte {
                    b'P' => expected.extend_from_slice(b"\xff</Phrase>\xfe"),
                    b'U' => expected.extend_from_slice(b"\xff<Unit>\xfe"),
                    b'/' => expected.extend_from_slice(b"\xff</Unit>\xfe"),
                    b'R' => expected.extend_from_slice(b"\xff<REF>\xfe"),
                    byte => expected.push(byte),
                }
            }
            if expected.starts_with(tail) {
                open = true;
            } else if let Some(after) = tail.strip_prefix(expected.as_slice()) {
                closed = Some((after, count));
            }
        }
        match closed {
            Some((after, count)) => {
                rest = after;
                used += count;
                item += 1;
            }
            None => return open,
        }
    }
}

/// Least number of tokens that ends `written`, by breadth-first search over all tokens, up to `limit`.
fn shortest(
    tokens: &[Vec<u8>],
    written: &[u8],
    plan: Option<&[(&str, usize)]>,
    limit: usize,
) -> Option<usize> {
    let mut level = vec![written.to_vec()];
    for length in 1..=limit {
        let mut next: HashMap<Vec<u8>, ()> = HashMap::new();
        for text in &level {
            for token in tokens {
                let longer = [text.as_slice(), token].concat();
                if begins_answer(&longer, plan) {
                    if longer.ends_with(b"\xff</s>\xfe") {
                        return Some(length);
                    }
                    next.insert(longer, ());
                }
            }
        }
        level = next.into_keys().collect();
        // Every symbol is a step towards the end, so the texts with the most of them are the ones to go on with.
        let marks = |text: &[u8]| text.iter().filter(|&&byte| byte == 0xff).count();
        level.sort_by_key(|text| {
            (std::cmp::Reverse(marks(text)), std::cmp::Reverse(text.len()), text.clone())
        });
        level.truncate(100);
    }
    None
}

fn tables(vocabulary: &Vocabulary) -> Arc<GuideTables> {
    Arc::new(GuideTables::new(vocabulary).unwrap())
}

fn random(seed: &mut u64) -> usize {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) as usize
}

fn vocabulary() -> Vocabulary {
    Vocabulary::from_tokenizer_json("tokenizer.json", &trp_common::byte_level_json()).unwrap()
}

#[test]
fn masks_are_what_the_grammar_says() {
    let vocabulary = vocabulary();
    let tables = tables(&vocabulary);
    let tokens: Vec<Vec<u8>> = (0..vocabulary.len() as u32).map(|id| spell(&vocabulary, id)).collect();
    let bos = vocabulary.bos().unwrap();
    let plan: &[(&str, usize)] = &[("red mug", 2), ("é", 1)];
    let head = UnitHead { unit: Unit::Box, head: "box".into(), num_queries: BOX_SLOTS };
    let mut compared = 0;
    for (seed, plan) in (0..60u64).map(|seed| (seed, (seed % 2 == 1).then_some(plan))) {
        let mode = match plan {
            Some(plan) => GuideMode::Planned(Some(Plan {
                items: plan.iter().map(|&(name, count)| PlanItem::new(name, "box", count)).collect(),
            })),
            None => GuideMode::Structural,
        };
        let options = GuideOptions {
            mode,
            cot: false,
            units: vec![Unit::Box],
            heads: vec![head.clone()],
            max_tokens: 10_000,
        };
        let mut guide = Guide::new(tables.clone(), &options).unwrap();
        let (mut written, mut ids, mut random_state) = (Vec::new(), Vec::new(), seed);
        while !guide.is_finished() && ids.len() < 40 {
            let allowed: Vec<u32> = guide.allowed(10_000).iter().collect();
            let expected: Vec<u32> = (0..vocabulary.len() as u32)
                .filter(|&id| {
                    !is_mark(&tokens[id as usize])
                        && id != bos
                        && begins_answer(&[&written, tokens[id as usize].as_slice()].concat(), plan)
                })
                .collect();
            assert_eq!(allowed, expected, "after {:?}", String::from_utf8_lossy(&written));
            compared += 1;
            let special: Vec<u32> = allowed
                .iter()
                .copied()
                .filter(|&id| tokens[id as usize][0] == 0xff && !vocabulary.is_eos(id))
                .collect();
            let from = if special.is_empty() || random(&mut random_state).is_multiple_of(2) {
                &allowed
            } else {
                &special
            };
            let id = from[random(&mut random_state) % from.len()];
            guide.advance(id).unwrap();
            written.extend_from_slice(&tokens[id as usize]);
            ids.push(id);
        }
        if guide.is_finished() {
            assert!(parse(&vocabulary, &ids).flags.is_empty());
        }
    }
    assert!(compared > 500, "{compared}");
}

#[test]
fn the_recogniser_refuses_what_is_malformed() {
    let mark = |text: &str| -> Vec<u8> {
        let mut marked = Vec::new();
        for byte in text.bytes() {
            match byte {
                b'{' => marked.push(0xff),
                b'}' => marked.push(0xfe),
                byte => marked.push(byte),
            }
        }
        marked
    };
    let whole = "a {<Phrase>}b{</Phrase>}({<Unit>}box{</Unit>}[0]{<REF>}[1]{<REF>}) c{</s>}";
    assert!(
        (0..=whole.len())
            .filter(|&end| !whole[..end].contains('{'))
            .all(|end| begins_answer(&mark(&whole[..end]), None))
    );
    assert!(begins_answer(&mark(whole), None));
    for bad in [
        "{<REF>}",
        "{<Phrase>} {</Phrase>}",
        "{<Phrase>}b{</s>}",
        "{<Phrase>}b{</Phrase>}({<Unit>}mask",
        "x{</s>}y",
    ] {
        assert!(!begins_answer(&mark(bad), None), "{bad}");
    }
}

/// The automaton's count of the shortest ending is the true one, and a tight budget leaves exactly the tokens after
/// which the true one still fits.
#[test]
fn tight_budgets_leave_only_shortest_endings() {
    let vocabulary = vocabulary();
    let tables = tables(&vocabulary);
    // Few tokens, so that the search over all of them stays small; each is one that some ending can use, or free text.
    let names: [&[u8]; 12] = [b"(", b")", b"[", b"]", b"0", b"[0", b"[0]", b"box", b"b", b"o", b"x", b"red"];
    let few: Vec<u32> = (0..vocabulary.len() as u32)
        .filter(|&id| match vocabulary.kind(id) {
            TokenKind::Text => names.contains(&vocabulary.bytes(id)),
            TokenKind::Symbol(_) => true,
            _ => vocabulary.is_eos(id),
        })
        .collect();
    let tokens: Vec<Vec<u8>> = few.iter().map(|&id| spell(&vocabulary, id)).collect();
    let head = UnitHead { unit: Unit::Box, head: "box".into(), num_queries: BOX_SLOTS };
    let options = GuideOptions {
        mode: GuideMode::Structural,
        cot: false,
        units: vec![Unit::Box],
        heads: vec![head],
        max_tokens: 10_000,
    };
    let special = vocabulary.special();
    let find = |bytes: &[u8]| few.iter().copied().find(|&id| vocabulary.bytes(id) == bytes).unwrap();
    let path = [
        special.phrase_open,
        find(b"red"),
        special.phrase_close,
        find(b"("),
        special.unit_open,
        find(b"b"),
        find(b"o"),
        find(b"x"),
        special.unit_close,
        find(b"["),
        find(b"0"),
        find(b"]"),
        special.reference,
        find(b")"),
    ];
    let mut guide = Guide::new(tables, &options).unwrap();
    let mut written = Vec::new();
    for id in path {
        let truth = if written.is_empty() { 1 } else { shortest(&tokens, &written, None, 12).unwrap() };
        assert_eq!(guide.closing_tokens(), truth, "{:?}", String::from_utf8_lossy(&written));
        let allowed: Vec<u32> = guide.allowed(truth).iter().filter(|id| few.contains(id)).collect();
        let expected: Vec<u32> = few
            .iter()
            .zip(&tokens)
            .filter(|(_, token)| {
                let longer = [written.as_slice(), token].concat();
                begins_answer(&longer, None)
                    && (longer.ends_with(b"\xff</s>\xfe")
                        || (truth > 1 && shortest(&tokens, &longer, None, truth - 1).is_some()))
            })
            .map(|(&id, _)| id)
            .collect();
        assert_eq!(allowed, expected, "{:?}", String::from_utf8_lossy(&written));
        guide.advance(id).unwrap();
        written.extend_from_slice(&spell(&vocabulary, id));
    }
}
