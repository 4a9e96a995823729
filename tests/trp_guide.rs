//! Guided decoding: random walks always parse, and the masks are what a slow reading of the grammar says.
#![cfg(feature = "std")]

mod trp_common;

use std::sync::{Arc, OnceLock};

use proptest::prelude::*;
use triplet::Error;
use triplet::text::Vocabulary;
use triplet::trp::{
    Flags, Guide, GuideMode, GuideOptions, GuideTables, Plan, PlanItem, Unit, UnitHead, parse,
};

struct Kind {
    vocabulary: Vocabulary,
    tables: Arc<GuideTables>,
}

fn kinds() -> &'static [Kind; 2] {
    static KINDS: OnceLock<[Kind; 2]> = OnceLock::new();
    KINDS.get_or_init(|| {
        [trp_common::byte_level_json(), trp_common::llama_json()].map(|json| {
            let vocabulary = Vocabulary::from_tokenizer_json("tokenizer.json", &json).unwrap();
            let tables = Arc::new(GuideTables::new(&vocabulary).unwrap());
            Kind { vocabulary, tables }
        })
    })
}

fn heads() -> Vec<UnitHead> {
    [(Unit::Box, "box", 12), (Unit::Mask, "mask", 2), (Unit::Keypoint, "box", 12)]
        .map(|(unit, head, num_queries)| UnitHead { unit, head: head.into(), num_queries })
        .into()
}

fn options(mode: GuideMode, cot: bool, units: &[Unit], max_tokens: usize) -> GuideOptions {
    GuideOptions { mode, cot, units: units.to_vec(), heads: heads(), max_tokens }
}

fn plan(items: &[(&str, &str, usize)]) -> Plan {
    Plan { items: items.iter().map(|&(name, unit, count)| PlanItem::new(name, unit, count)).collect() }
}

/// A small generator, so that a failing walk is named by one number.
fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = (*seed ^ (*seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Walks over allowed tokens. `bold` is how often, of 8, a special token or a token of structure is preferred.
fn walk(kind: &Kind, guide: &mut Guide, budget: usize, mut seed: u64, bold: u64) -> Vec<u32> {
    let mut ids = Vec::new();
    while !guide.is_finished() {
        let remaining = budget - ids.len();
        assert!(guide.closing_tokens() <= remaining, "{} of {remaining}", guide.closing_tokens());
        let mask = guide.allowed(remaining);
        let allowed: Vec<u32> = mask.iter().collect();
        assert!(!allowed.is_empty(), "nothing is allowed after {ids:?}");
        let special: Vec<u32> = allowed
            .iter()
            .copied()
            .filter(|&id| {
                !matches!(kind.vocabulary.kind(id), triplet::text::TokenKind::Text)
                    && !kind.vocabulary.is_eos(id)
            })
            .collect();
        let from = if !special.is_empty() && random(&mut seed) % 8 < bold { &special } else { &allowed };
        let id = from[random(&mut seed) as usize % from.len()];
        guide.advance(id).unwrap();
        ids.push(id);
    }
    ids
}

fn text(kind: &Kind, ids: &[u32]) -> String {
    String::from_utf8_lossy(
        &ids.iter().flat_map(|&id| kind.vocabulary.bytes(id).to_vec()).collect::<Vec<u8>>(),
    )
    .into()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn structural_walks_parse(seed in any::<u64>(), which in 0usize..2, cot in any::<bool>(), extra in 0usize..200, bold in 0u64..8, units in 0usize..4) {
        let kind = &kinds()[which];
        let units: &[Unit] = [&[][..], &[Unit::Box], &[Unit::Mask, Unit::Keypoint], &[Unit::Box, Unit::Keypoint, Unit::Depth]][units];
        let shortest = Guide::new(kind.tables.clone(), &options(GuideMode::Structural, cot, units, 1 << 20)).unwrap().closing_tokens();
        let budget = shortest + extra;
        let mut guide = Guide::new(kind.tables.clone(), &options(GuideMode::Structural, cot, units, budget)).unwrap();
        let ids = walk(kind, &mut guide, budget, seed, bold);
        prop_assert!(ids.len() <= budget);
        let answer = parse(&kind.vocabulary, &ids);
        prop_assert_eq!(answer.flags.without(Flags::PLAN_MISMATCH), Flags::empty(), "{}: {}", answer.flags, text(kind, &ids));
        prop_assert_eq!(answer.plan.is_some(), cot);
        let mut used = [0, 0];
        for triplet in &answer.triplets {
            prop_assert!(units.contains(&triplet.unit.unwrap()));
            prop_assert!(!triplet.phrase_tokens.is_empty() && triplet.phrase_tokens.len() <= 64);
            used[usize::from(triplet.unit == Some(Unit::Mask))] += triplet.references.len();
        }
        prop_assert!(used[0] <= 12 && used[1] <= 2);
    }

    #[test]
    fn planned_walks_bring_the_plan(seed in any::<u64>(), which in 0usize..2, cot in any::<bool>(), extra in 0usize..60, bold in 0u64..8, items in 0usize..4) {
        let kind = &kinds()[which];
        let units = [Unit::Box, Unit::Mask];
        let all = [("red mug", "box", 2), ("水 table", "mask", 1), ("the a  b", "box", 10)];
        let plan = plan(&all[..items]);
        let mode = GuideMode::Planned(Some(plan.clone()));
        let shortest = Guide::new(kind.tables.clone(), &options(mode.clone(), cot, &units, 1 << 20)).unwrap().closing_tokens();
        let budget = shortest + extra;
        let mut guide = Guide::new(kind.tables.clone(), &options(mode.clone(), cot, &units, budget)).unwrap();
        let ids = walk(kind, &mut guide, budget, seed, bold);
        let answer = parse(&kind.vocabulary, &ids);
        prop_assert_eq!(answer.flags, Flags::empty(), "{}: {}", answer.flags, text(kind, &ids));
        prop_assert_eq!(answer.plan.clone(), cot.then_some(plan.clone()));
        let brought: Vec<PlanItem> = answer.triplets.iter()
            .map(|triplet| PlanItem::new(answer.phrase(triplet), triplet.unit.unwrap().name(), triplet.references.len())).collect();
        prop_assert_eq!(brought, plan.items);
        let too_small = Guide::new(kind.tables.clone(), &options(mode, cot, &units, shortest - 1)).err();
        prop_assert_eq!(too_small, Some(Error::Limit { limit: "max_new_tokens", max: shortest as u64 - 1, got: shortest as u64 }));
    }

    #[test]
    fn own_plans_are_kept(seed in any::<u64>(), which in 0usize..2, extra in 0usize..400, bold in 0u64..8) {
        let kind = &kinds()[which];
        let units = [Unit::Box, Unit::Mask, Unit::Keypoint];
        let shortest = Guide::new(kind.tables.clone(), &options(GuideMode::Planned(None), true, &units, 1 << 20)).unwrap().closing_tokens();
        let budget = shortest + extra;
        let mut guide = Guide::new(kind.tables.clone(), &options(GuideMode::Planned(None), true, &units, budget)).unwrap();
        let ids = walk(kind, &mut guide, budget, seed, bold);
        let answer = parse(&kind.vocabulary, &ids);
        prop_assert_eq!(answer.flags, Flags::empty(), "{}: {}", answer.flags, text(kind, &ids));
    }
}

#[test]
fn plans_that_cannot_be_met_name_the_item() {
    let kind = &kinds()[0];
    let cases = [
        (plan(&[("a", "box", 1), ("b", "cup", 1)]), 1),
        (plan(&[("a", "depth", 1)]), 0),
        (plan(&[("a", "keypoint", 1)]), 0),
        (plan(&[("a", "mask", 2), ("b", "mask", 1)]), 1),
        (plan(&[("a", "mask", 0)]), 0),
        (plan(&[("a", "box", 1), (" ", "box", 1)]), 1),
        (plan(&[("a\nb", "box", 1)]), 0),
        (plan(&[("a Unit: b", "box", 1)]), 0),
        (plan(&[("a <REF>", "box", 1)]), 0),
        (plan(&[("q".repeat(65).as_str(), "box", 1)]), 0),
    ];
    for (plan, index) in cases {
        let options = options(
            GuideMode::Planned(Some(plan.clone())),
            false,
            &[Unit::Box, Unit::Mask, Unit::Depth],
            500,
        );
        match Guide::new(kind.tables.clone(), &options) {
            Err(Error::Plan { item, .. }) => assert_eq!(item, index, "{plan:?}"),
            other => panic!("{plan:?}: {:?}", other.err()),
        }
    }
    let missing =
        Guide::new(kind.tables.clone(), &options(GuideMode::Planned(None), false, &[Unit::Box], 500)).err();
    assert!(matches!(missing, Some(Error::Plan { item: 0, .. })));
}

/// A name at its 64th token may only end, also where an ending that was begun would be cheaper to break off.
#[test]
fn long_names_end() {
    let kind = &kinds()[0];
    let id = |text: &str| {
        let text = text.as_bytes();
        (0..kind.vocabulary.len() as u32).find(|&id| kind.vocabulary.bytes(id) == text).unwrap()
    };
    for budget in [160, 400] {
        let mut guide =
            Guide::new(kind.tables.clone(), &options(GuideMode::Structural, true, &[Unit::Box], budget))
                .unwrap();
        let mut taken = 1;
        guide.advance(kind.vocabulary.special().task_open).unwrap();
        for byte in "\nUnit decode (True). Class name, target unit and number:\n- Name: ".chars() {
            guide.advance(id(&byte.to_string())).unwrap();
            taken += 1;
        }
        for at in 0..64 {
            assert!(guide.allowed(budget - taken).contains(id("q")), "{at}");
            guide.advance(id("q")).unwrap();
            taken += 1;
        }
        assert!(!guide.allowed(budget - taken).contains(id("q")));
        for piece in [" U", "n", "i", "t", ":", " box", " Num: ", "1", "\n"] {
            let mask = guide.allowed(budget - taken);
            assert!(mask.contains(id(piece)), "{piece}");
            assert!(!mask.contains(id("q")), "{piece}");
            guide.advance(id(piece)).unwrap();
            taken += 1;
        }
    }
}

#[test]
fn off_allows_everything_and_refused_tokens_change_nothing() {
    let kind = &kinds()[0];
    let mut guide = Guide::new(kind.tables.clone(), &options(GuideMode::Off, true, &[], 1)).unwrap();
    assert_eq!(guide.allowed(1).count(), kind.vocabulary.len());
    guide.advance(kind.vocabulary.special().reference).unwrap();
    guide.advance(kind.vocabulary.eos()[0]).unwrap();
    assert!(guide.is_finished());

    let mut guide =
        Guide::new(kind.tables.clone(), &options(GuideMode::Structural, false, &[Unit::Box], 99)).unwrap();
    let before: Vec<u32> = guide.allowed(99).iter().collect();
    assert!(matches!(
        guide.advance(kind.vocabulary.special().reference),
        Err(Error::Input { field: "token", .. })
    ));
    assert_eq!(guide.allowed(99).iter().collect::<Vec<_>>(), before);
    let mut logits = vec![1.0; kind.vocabulary.len() + 3];
    guide.allowed(99).apply(&mut logits);
    let kept: Vec<u32> = (0..logits.len() as u32).filter(|&id| logits[id as usize] == 1.0).collect();
    assert_eq!(kept, before);
}
