//! What the guide adds to a step: the mask of allowed tokens in every kind of state.
//!
//! `guide/.../128k` uses a synthetic vocabulary (seeded): 256 single bytes and words of 2 to 12 letters, half of them after
//! a space. `demo/...` uses the shipped model's own vocabulary, beside a step of that model on one thread.

use std::collections::HashSet;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use triplet::backend::Backend;
use triplet::config::ModelDir;
use triplet::language::{KvCache, Llama, LlamaConfig};
use triplet::text::{Symbol, TokenKind, Vocabulary};
use triplet::trp::{Guide, GuideMode, GuideOptions, GuideTables, Unit, UnitHead};
use triplet::weights::Loader;
use triplet::{Cpu, Model};

const SIZE: usize = 128 * 1024;

fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

fn vocabulary() -> Vocabulary {
    let mut tokens: Vec<(Vec<u8>, TokenKind)> = vec![(b"</s>".to_vec(), TokenKind::Control)];
    tokens.extend(Symbol::ALL.map(|symbol| (symbol.text().as_bytes().to_vec(), TokenKind::Symbol(symbol))));
    tokens.extend((0..=255u8).map(|byte| (vec![byte], TokenKind::Text)));
    let mut seen: HashSet<Vec<u8>> = HashSet::new();
    let mut seed = 1;
    while tokens.len() < SIZE {
        let mut word = Vec::new();
        match random(&mut seed) % 16 {
            0..8 => word.push(b' '),
            8 => word.push(b")]\n([,.:"[random(&mut seed) as usize % 8]),
            9 => word.extend_from_slice("é水".as_bytes()),
            _ => {}
        }
        for _ in 0..2 + random(&mut seed) % 11 {
            word.push(b"etaoinshrdlucmfwypvbgkjqxzUNTB0123"[random(&mut seed) as usize % 34]);
        }
        if seen.insert(word.clone()) {
            tokens.push((word, TokenKind::Text));
        }
    }
    Vocabulary::from_tokens(tokens, None, vec![0]).expect("a sound vocabulary")
}

fn guide(tables: &Arc<GuideTables>, cot: bool) -> Guide {
    let heads = vec![UnitHead { unit: Unit::Box, head: "box".into(), num_queries: 100 }];
    let options =
        GuideOptions { mode: GuideMode::Structural, cot, units: vec![Unit::Box], heads, max_tokens: 512 };
    Guide::new(Arc::clone(tables), &options).expect("a guide")
}

/// Takes the tokens of `text`, symbols as such and all other bytes one by one.
fn feed(guide: &mut Guide, vocabulary: &Vocabulary, text: &str) {
    let mut rest = text;
    while let Some(&byte) = rest.as_bytes().first() {
        let symbol = Symbol::ALL.into_iter().find(|symbol| rest.starts_with(symbol.text()));
        let length = symbol.map_or(1, |symbol| symbol.text().len());
        let wanted = symbol.map_or(&rest.as_bytes()[..1], |symbol| symbol.text().as_bytes());
        let ids = 0..u32::try_from(vocabulary.len()).expect("32 bits");
        let id = ids.into_iter().find(|&id| vocabulary.bytes(id) == wanted).expect("a token");
        guide.advance(id).unwrap_or_else(|error| panic!("{byte}: {error}"));
        rest = &rest[length..];
    }
}

/// The mask in every kind of state, as `PREFIX_STATE/SUFFIX`.
fn states(criterion: &mut Criterion, vocabulary: &Vocabulary, tables: &Arc<GuideTables>, names: [&str; 2]) {
    let plan = "<Task>\nUnit decode (True). Class name, target unit and number:\n- Name:";
    let states = [
        ("free_text", false, "A ".to_string(), 400),
        ("phrase", false, "A <Phrase>red".to_string(), 400),
        ("unit", false, "<Phrase>red</Phrase>(<Unit>".to_string(), 400),
        ("index", false, "<Phrase>red</Phrase>(<Unit>box</Unit>[0]<REF>".to_string(), 400),
        ("plan_header", true, "<Task>".to_string(), 400),
        ("plan_name_start", true, plan.to_string(), 400),
        ("plan_name", true, format!("{plan} red"), 400),
        ("plan_count", true, format!("{plan} red Unit: box Num: 1"), 400),
        ("closing_free_text", false, "A".to_string(), 2),
        ("closing_phrase", false, "A <Phrase>red".to_string(), 14),
    ];
    let [prefix, suffix] = names;
    for (name, cot, text, remaining) in states {
        let mut guide = guide(tables, cot);
        feed(&mut guide, vocabulary, &text);
        assert!(guide.allowed(remaining).count() > 0, "{name}");
        criterion.bench_function(&format!("{prefix}_{name}/{suffix}"), |bencher| {
            bencher.iter(|| black_box(guide.allowed(black_box(remaining)).len()));
        });
    }
}

/// A step of the shipped model after 400 positions (embedding, layers, logits), and the guide's share of it.
fn demo(criterion: &mut Criterion) {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/tabletop/model");
    let cpu = Cpu::with_threads(1);
    let model = Model::open_on(cpu.clone(), dir).expect("the shipped model");
    let parts = ModelDir::open(dir).expect("its directory");
    let config = LlamaConfig::parse(&parts.config.module("llm").expect("fields")).expect("a configuration");
    let llm = Llama::load(&Loader::new(&parts.weights, &cpu, "llm"), &config).expect("a language model");
    let mut cache = KvCache::new(&cpu, &config, usize::MAX).expect("memory");
    let prompt = llm.embed(&cpu, &[5; 400]).expect("embeddings");
    llm.forward(&cpu, prompt.view(), &mut cache).expect("a prompt");
    let step = |cache: &mut KvCache<Cpu>| -> triplet::Result<Vec<f32>> {
        let token = llm.embed(&cpu, &[7])?;
        let hidden = llm.forward(&cpu, token.view(), cache)?;
        cache.truncate(400);
        cpu.download(llm.logits(&cpu, hidden.view())?.view())
    };
    assert_eq!(step(&mut cache).expect("a step").len(), model.vocabulary().len());
    criterion.bench_function("demo/step", |bencher| bencher.iter(|| step(&mut cache).is_ok()));
    let tables = Arc::new(GuideTables::new(model.vocabulary()).expect("tables"));
    states(criterion, model.vocabulary(), &tables, ["demo/allowed", "702"]);
}

fn large(criterion: &mut Criterion) {
    let vocabulary = vocabulary();
    let tables = Arc::new(GuideTables::new(&vocabulary).expect("tables"));
    states(criterion, &vocabulary, &tables, ["guide/allowed", "128k"]);
    criterion.bench_function("guide/new/128k", |bencher| {
        bencher.iter(|| black_box(&guide(&tables, true)).closing_tokens())
    });
    let mut group = criterion.benchmark_group("guide");
    group.sample_size(10);
    group.bench_function("tables/128k", |bencher| bencher.iter(|| GuideTables::new(&vocabulary).is_ok()));
    group.finish();
}

criterion_group!(benches, demo, large);
criterion_main!(benches);
