//! The probe learns what its head can read off tokens, and no more.

use triplet::Error;
use triplet::backend::Backend;
use triplet::cpu::Cpu;
use triplet::finetune::probe::{Probe, ProbeConfig, ProbeHead, ProbeLabels, Score};
use triplet::finetune::{AdamwConfig, Rng, Schedule};

const WIDTH: usize = 8;
const PATCHES: usize = 6;
const CLASSES: usize = 3;
const PICTURES: usize = 8;

fn config(head: ProbeHead, labels: ProbeLabels, updates: u64) -> ProbeConfig {
    let rate = if head == ProbeHead::Transformer { 5e-3 } else { 2e-2 };
    ProbeConfig {
        head,
        labels,
        classes: CLASSES,
        width: WIDTH,
        patches: PATCHES,
        heads: 2,
        schedule: Schedule::cosine(rate, updates),
        optimiser: AdamwConfig { decay: 0.0, ..AdamwConfig::RECIPE },
    }
}

/// Random tokens, and what `labels` makes of those of a picture.
fn batch(rng: &mut Rng, labels: impl Fn(&[f32]) -> Vec<bool>) -> (Vec<f32>, Vec<bool>) {
    let tokens: Vec<f32> = (0..PICTURES * PATCHES * WIDTH).map(|_| rng.normal() as f32).collect();
    let labels = tokens.chunks(PATCHES * WIDTH).flat_map(labels).collect();
    (tokens, labels)
}

/// Recall and mIoU on new tokens after `updates` updates; the bits of the last predictions.
fn learnt(
    head: ProbeHead,
    kind: ProbeLabels,
    threads: usize,
    updates: u64,
    labels: impl Fn(&[f32]) -> Vec<bool> + Copy,
) -> (f64, f64, Vec<u32>) {
    let cpu = Cpu::with_threads(threads);
    let mut probe = Probe::new(&cpu, config(head, kind, updates), 3).unwrap();
    let mut rng = Rng::new(9);
    let (mut first, mut last) = (None, 0.0);
    for _ in 0..updates {
        let (tokens, labels) = batch(&mut rng, labels);
        let tokens = cpu.upload(PICTURES * PATCHES, WIDTH, &tokens).unwrap();
        last = probe.update(&cpu, tokens.view(), &labels).unwrap();
        first.get_or_insert(last);
    }
    assert!(last < 0.8 * first.unwrap(), "{head:?} {kind:?}: {first:?} to {last}");
    let (mut score, mut bits) = (Score::new(CLASSES), Vec::new());
    for _ in 0..20 {
        let (tokens, labels) = batch(&mut rng, labels);
        let tokens = cpu.upload(PICTURES * PATCHES, WIDTH, &tokens).unwrap();
        let logits = probe.predict(&cpu, tokens.view()).unwrap();
        score.add(&logits, &labels).unwrap();
        bits = logits.iter().map(|x| x.to_bits()).collect();
    }
    assert_eq!(score.present(), CLASSES);
    (score.macro_recall(), score.miou(), bits)
}

/// Class `c` of a patch: whether its number `c` is above a half.
fn plain(picture: &[f32]) -> Vec<bool> {
    picture.chunks(WIDTH).flat_map(|token| [0, 1, 2].map(|class| token[class] > 0.5)).collect()
}

/// Whether two numbers have different signs: no linear layer tells.
fn crossed(picture: &[f32]) -> Vec<bool> {
    picture
        .chunks(WIDTH)
        .flat_map(|token| [0, 1, 2].map(|c| (token[c] > 0.0) != (token[c + 1] > 0.0)))
        .collect()
}

/// Of a picture, whether the sum of a number over its patches is above 0.
fn whole(picture: &[f32]) -> Vec<bool> {
    let sum = |class: usize| picture.iter().skip(class).step_by(WIDTH).sum::<f32>();
    [0, 1, 2].map(|class| sum(class) > 0.0).to_vec()
}

/// The same of every patch: only attention tells.
fn everywhere(picture: &[f32]) -> Vec<bool> {
    whole(picture).repeat(PATCHES)
}

#[test]
fn heads_read_what_they_can_read() {
    use ProbeHead::{Linear, Mlp, Transformer};
    // The transformer's norms take the scale of a token away, which the labels of a patch depend on.
    for (head, updates, least) in [(Linear, 300, 0.85), (Mlp, 300, 0.85), (Transformer, 400, 0.6)] {
        let (recall, miou, bits) = learnt(head, ProbeLabels::Union, 1, updates, plain);
        println!("{head:?}: recall {recall:.3}, miou {miou:.3}");
        assert!(recall > least && miou > least, "{head:?}");
        assert!(learnt(head, ProbeLabels::Union, 2, updates, plain).2 == bits, "{head:?}: threads");
        let (recall, miou, _) = learnt(head, ProbeLabels::GlobalUnion, 1, updates, whole);
        println!("{head:?} of pictures: recall {recall:.3}, miou {miou:.3}");
        assert!(recall > 0.75 && miou > 0.65, "{head:?}");
    }
    let (recall, miou, _) = learnt(Mlp, ProbeLabels::Union, 1, 600, crossed);
    println!("Mlp, crossed: recall {recall:.3}, miou {miou:.3}");
    assert!(recall > 0.8 && miou > 0.7);
    let (recall, miou, _) = learnt(Transformer, ProbeLabels::Union, 1, 600, everywhere);
    println!("Transformer, everywhere: recall {recall:.3}, miou {miou:.3}");
    assert!(recall > 0.75 && miou > 0.65);
}

#[test]
fn what_does_not_fit_is_named() {
    let cpu = Cpu::with_threads(1);
    let good = config(ProbeHead::Linear, ProbeLabels::Union, 5);
    for (bad, name) in [
        (ProbeConfig { classes: 0, ..good }, "classes"),
        (ProbeConfig { patches: 0, ..good }, "patches"),
        (ProbeConfig { heads: 3, head: ProbeHead::Transformer, ..good }, "decoder.heads"),
        (ProbeConfig { schedule: Schedule::cosine(1.0, 0), ..good }, "schedule.updates"),
    ] {
        let refused = Probe::new(&cpu, bad, 1).map(drop);
        assert!(matches!(refused, Err(Error::Input { field, .. }) if field == name), "{name}: {refused:?}");
    }
    let mut probe = Probe::new(&cpu, good, 1).unwrap();
    let tokens = cpu.upload(PATCHES, WIDTH, &[0.5; PATCHES * WIDTH]).unwrap();
    let refused = probe.update(&cpu, tokens.view(), &[true; 4]);
    assert!(matches!(refused, Err(Error::Shape { operand: "probe.labels", .. })));
    let short = cpu.upload(PATCHES - 1, WIDTH, &[0.5; (PATCHES - 1) * WIDTH]).unwrap();
    assert!(matches!(probe.predict(&cpu, short.view()), Err(Error::Shape { operand: "probe.tokens", .. })));
    let nan = cpu.upload(PATCHES, WIDTH, &[f32::NAN; PATCHES * WIDTH]).unwrap();
    let before = probe.predict(&cpu, tokens.view()).unwrap();
    let refused = probe.update(&cpu, nan.view(), &[true; PATCHES * CLASSES]);
    assert!(matches!(refused, Err(Error::NonFinite { .. })));
    assert_eq!(probe.predict(&cpu, tokens.view()).unwrap(), before);
}
