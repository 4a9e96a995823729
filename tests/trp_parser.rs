//! The parser on well-formed, malformed and random answers.
#![cfg(feature = "std")]

mod trp_common;

use proptest::prelude::*;
use triplet::text::{Tokenizer, Vocabulary};
use triplet::trp::{Answer, Flags, Plan, PlanItem, Unit, UnitHead, parse, parse_text, route, triplet_score};

fn vocabulary() -> (Vocabulary, Tokenizer) {
    let json = trp_common::byte_level_json();
    (
        Vocabulary::from_tokenizer_json("tokenizer.json", &json).unwrap(),
        Tokenizer::from_bytes("tokenizer.json", &json).unwrap(),
    )
}

/// Phrase, unit and number of targets of a triplet.
type Outline = (String, Option<Unit>, usize);

fn outline(answer: &Answer) -> Vec<Outline> {
    answer.triplets.iter().map(|t| (answer.phrase(t).to_string(), t.unit, t.references.len())).collect()
}

fn one(phrase: &str, unit: Option<Unit>, count: usize) -> Outline {
    (phrase.to_string(), unit, count)
}

#[test]
fn a_whole_answer() {
    let text = "<Task>\nUnit decode (True). Class name, target unit and number:\n- Name: red mug Unit: box Num: 2\n\
                </Task>\nThere are <Phrase>red mug</Phrase>(<Unit>box</Unit>[0]<REF>[1]<REF>).";
    let answer = parse_text(text);
    assert_eq!(answer.flags, Flags::empty(), "{}", answer.flags);
    assert_eq!(answer.text, "There are red mug.");
    assert_eq!(outline(&answer), [one("red mug", Some(Unit::Box), 2)]);
    assert_eq!(answer.plan, Some(Plan { items: vec![PlanItem::new("red mug", "box", 2)] }));
    assert_eq!(answer.write(), text);
    let first = text.find("<REF>").unwrap();
    assert_eq!(answer.triplets[0].references[0].position, first);
    assert_eq!(&text[answer.triplets[0].phrase_tokens.clone()], "red mug");
    assert_eq!(&text[answer.triplets[0].unit_tokens.clone()], "box");
    for json in [trp_common::byte_level_json(), trp_common::llama_json()] {
        let vocabulary = Vocabulary::from_tokenizer_json("tokenizer.json", &json).unwrap();
        let ids = Tokenizer::from_bytes("tokenizer.json", &json).unwrap().encode(text).unwrap();
        let parsed = parse(&vocabulary, &ids);
        assert_eq!(parsed.flags, Flags::empty(), "{}", parsed.flags);
        assert_eq!(parsed.write(), text);
        let triplet = &parsed.triplets[0];
        for target in &triplet.references {
            assert_eq!(ids[target.position], vocabulary.special().reference);
        }
        assert_eq!(ids[triplet.phrase_tokens.start - 1], vocabulary.special().phrase_open);
        assert_eq!(ids[triplet.phrase_tokens.end], vocabulary.special().phrase_close);
        assert_eq!(ids[triplet.unit_tokens.end], vocabulary.special().unit_close);
        let score = triplet_score(triplet, &vec![-0.5; ids.len()]);
        assert!((score - (-0.5f32).exp()).abs() < 1e-6);
        assert!(triplet_score(triplet, &vec![f32::NAN; ids.len()]).is_nan());
    }
}

#[test]
fn malformed_answers_give_what_can_be_given() {
    let b = Some(Unit::Box);
    let m = Some(Unit::Mask);
    let cases: &[(&str, Flags, Vec<Outline>)] = &[
        ("just words", Flags::empty(), vec![]),
        ("<Phrase>a</Phrase>", Flags::UNFINISHED, vec![one("a", None, 0)]),
        ("<Phrase>a b", Flags::UNFINISHED | Flags::UNPAIRED, vec![one("a b", None, 0)]),
        ("<Phrase>a</Phrase>(<Unit>bo", Flags::UNFINISHED | Flags::UNPAIRED, vec![one("a", None, 0)]),
        ("<Phrase>a</Phrase>(<Unit>box</Unit>[0]", Flags::UNFINISHED, vec![one("a", b, 0)]),
        ("<Phrase>a</Phrase>(<Unit>box</Unit>[0]<REF>", Flags::UNFINISHED, vec![one("a", b, 1)]),
        ("(<Unit>box</Unit>[0]<REF>)", Flags::MISSING_PHRASE, vec![one("", b, 1)]),
        ("<Phrase> </Phrase>(<Unit>box</Unit>[0]<REF>)", Flags::MISSING_PHRASE, vec![one("", b, 1)]),
        (
            "<Phrase>a</Phrase>(<Unit>box</Unit>[0]<REF>) <Phrase>b</Phrase>[0]<REF>)",
            Flags::MISSING_UNIT,
            vec![one("a", b, 1), one("b", b, 1)],
        ),
        ("[0]<REF>)", Flags::MISSING_PHRASE | Flags::MISSING_UNIT, vec![one("", None, 1)]),
        ("<Phrase>a</Phrase>(<Unit>cup</Unit>[0]<REF>)", Flags::UNKNOWN_UNIT, vec![one("a", None, 1)]),
        ("<Phrase>a</Phrase>(<Unit>box</Unit>[0]<REF>)[1]<REF>", Flags::BARE_REFERENCE, vec![one("a", b, 2)]),
        ("(<Unit>box</Unit><Phrase>a</Phrase>[0]<REF>)", Flags::UNIT_BEFORE_PHRASE, vec![one("a", b, 1)]),
        ("<Phrase>a</Phrase>(<Unit>box</Unit>[1]<REF>)", Flags::INDEX, vec![one("a", b, 1)]),
        ("<Phrase>a</Phrase>(<Unit>box</Unit><REF>)", Flags::INDEX, vec![one("a", b, 1)]),
        (
            "<Phrase>a</Phrase>(<Unit>box</Unit>[99999999999999999999999]<REF>)",
            Flags::INDEX,
            vec![one("a", b, 1)],
        ),
        ("<Phrase>a</Phrase><Unit>box</Unit>[0]<REF>)", Flags::PUNCTUATION, vec![one("a", b, 1)]),
        ("</Phrase></Unit></Task>x<v>", Flags::UNPAIRED | Flags::PLAN_FORMAT | Flags::STRAY_TOKEN, vec![]),
        (
            "<Phrase>a<Phrase>b</Phrase></Phrase>(<Unit>box</Unit>[0]<REF>)",
            Flags::NESTED | Flags::UNFINISHED,
            vec![one("b", None, 0), one("ab", b, 1)],
        ),
        (
            "<Phrase>a</Phrase>(<Unit>box</Unit>[0]<REF>)(<Unit>mask</Unit>[0]<REF>)",
            Flags::MISSING_PHRASE,
            vec![one("a", b, 1), one("a", m, 1)],
        ),
        (
            "<Task>\nUnit decode (True). Class name, target unit and number:\n- Name: a Unit: box Num: 2\n</Task>\n\
             <Phrase>a</Phrase>(<Unit>box</Unit>[0]<REF>)",
            Flags::PLAN_MISMATCH,
            vec![one("a", b, 1)],
        ),
        ("<Task>\nwhat\n</Task>\nx", Flags::PLAN_FORMAT, vec![]),
        ("<Task>\nUnit decode (False).\n", Flags::PLAN_FORMAT | Flags::UNPAIRED, vec![]),
        ("<Task>\nUnit decode (False).\n</Task>\nno", Flags::empty(), vec![]),
    ];
    for (text, flags, expected) in cases {
        let answer = parse_text(text);
        assert_eq!(&outline(&answer), expected, "{text}: {}", answer.flags);
        assert_eq!(answer.flags, *flags, "{text}: {}", answer.flags);
    }
    let (vocabulary, tokenizer) = vocabulary();
    for (text, flags, expected) in cases {
        let answer = parse(&vocabulary, &tokenizer.encode(text).unwrap());
        assert_eq!((&outline(&answer), answer.flags), (expected, *flags), "{text}");
    }
}

#[test]
fn the_router_fills_slots_in_order() {
    let mut answer = parse_text(
        "<Phrase>a</Phrase>(<Unit>box</Unit>[0]<REF>) <Phrase>b</Phrase>(<Unit>mask</Unit>[0]<REF>[1]<REF>) \
         <Phrase>c</Phrase>(<Unit>box</Unit>[0]<REF>) <Phrase>d</Phrase>(<Unit>depth</Unit>[0]<REF>)",
    );
    let head = |unit, head: &str, num_queries| UnitHead { unit, head: head.into(), num_queries };
    let heads = [head(Unit::Box, "pose", 3), head(Unit::Mask, "mask", 1), head(Unit::Keypoint, "pose", 3)];
    let routes = route(&mut answer, &heads);
    let named: Vec<(&str, Vec<(usize, usize)>)> = routes
        .heads
        .iter()
        .map(|route| {
            (route.head.as_str(), route.slots.iter().map(|slot| (slot.triplet, slot.reference)).collect())
        })
        .collect();
    assert_eq!(named, [("pose", vec![(0, 0), (2, 0)]), ("mask", vec![(1, 0)])]);
    assert_eq!(routes.unrouted.len(), 2);
    assert_eq!(answer.triplets[1].flags, Flags::TOO_MANY_REFERENCES);
    assert_eq!(answer.triplets[3].flags, Flags::NO_HEAD);
    assert!(answer.flags.contains(Flags::TOO_MANY_REFERENCES | Flags::NO_HEAD));
    assert_eq!(route(&mut parse_text("nothing found"), &heads).heads, []);
}

fn words() -> impl Strategy<Value = String> {
    "[a-z水é]{1,6}( [a-z]{1,5}){0,2}"
}

/// A written answer without defects.
fn valid_answer() -> impl Strategy<Value = String> {
    let triplet = (words(), 0usize..4, 1usize..13, "[ a-z.,]{0,8}");
    (any::<bool>(), "[A-Za-z ]{0,10}", proptest::collection::vec(triplet, 0..4)).prop_map(
        |(cot, start, triplets)| {
            let mut text = String::new();
            if cot {
                let items = triplets
                    .iter()
                    .map(|(name, unit, count, _)| {
                        PlanItem::new(name.clone(), Unit::ALL[*unit].name(), *count)
                    })
                    .collect();
                text = Plan { items }.write() + "\n";
            }
            text.push_str(&start);
            for (name, unit, count, after) in triplets {
                let references: String = (0..count).map(|index| format!("[{index}]<REF>")).collect();
                let unit = Unit::ALL[unit].name();
                text += &format!("<Phrase>{name}</Phrase>(<Unit>{unit}</Unit>{references}){after}");
            }
            text
        },
    )
}

const PIECES: [&str; 24] = [
    "<Task>",
    "</Task>",
    "<Unit>",
    "</Unit>",
    "<Phrase>",
    "</Phrase>",
    "<REF>",
    "<v>",
    "(",
    ")",
    "[0]",
    "[1]",
    "box",
    "mask",
    "\n",
    "- Name: a Unit: box Num: 1\n",
    "Unit decode (False).",
    " ",
    "red mug",
    "水",
    "<",
    "[",
    "]",
    "9",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn round_trip(text in valid_answer()) {
        let answer = parse_text(&text);
        prop_assert_eq!(answer.flags, Flags::empty(), "{}", answer.flags);
        prop_assert_eq!(&answer.write(), &text);
        prop_assert_eq!(&parse_text(&answer.write()), &answer);
        let (vocabulary, tokenizer) = vocabulary();
        let from_ids = parse(&vocabulary, &tokenizer.encode(&text).unwrap());
        prop_assert_eq!(from_ids.flags, Flags::empty());
        prop_assert_eq!(from_ids.write(), text);
    }

    #[test]
    fn soups_never_panic(pieces in proptest::collection::vec(0usize..PIECES.len(), 0..60)) {
        let text: String = pieces.iter().map(|&piece| PIECES[piece]).collect();
        let answer = parse_text(&text);
        check_sound(&answer, text.matches("<REF>").count())?;
        let _ = answer.write();
    }

    #[test]
    fn token_soups_never_panic(ids in proptest::collection::vec(0u32..420, 0..80)) {
        let (vocabulary, _) = vocabulary();
        let answer = parse(&vocabulary, &ids);
        let end = ids.iter().position(|&id| vocabulary.is_eos(id)).unwrap_or(ids.len());
        let references = ids[..end].iter().filter(|&&id| id == vocabulary.special().reference).count();
        check_sound(&answer, references)?;
        let _ = answer.write();
    }

    #[test]
    fn mutated_answers_never_panic(text in valid_answer(), at in any::<prop::sample::Index>(), piece in 0usize..PIECES.len(), cut in any::<bool>()) {
        let boundaries: Vec<usize> = (0..=text.len()).filter(|&at| text.is_char_boundary(at)).collect();
        let at = boundaries[at.index(boundaries.len())];
        let mutated = if cut { text[..at].to_string() } else { format!("{}{}{}", &text[..at], PIECES[piece], &text[at..]) };
        check_sound(&parse_text(&mutated), mutated.matches("<REF>").count())?;
    }
}

/// Every `<REF>` is given exactly once, in order; ranges lie in the text; flags are a union.
fn check_sound(answer: &Answer, references: usize) -> Result<(), TestCaseError> {
    let positions: Vec<usize> = answer
        .triplets
        .iter()
        .flat_map(|triplet| triplet.references.iter().map(|target| target.position))
        .collect();
    prop_assert_eq!(positions.len(), references);
    prop_assert!(positions.is_sorted());
    for triplet in &answer.triplets {
        prop_assert!(answer.text.get(triplet.phrase.clone()).is_some());
        prop_assert!(answer.flags.contains(triplet.flags));
        prop_assert!(triplet.phrase_tokens.start <= triplet.phrase_tokens.end);
        prop_assert!(triplet.unit_tokens.start <= triplet.unit_tokens.end);
    }
    Ok(())
}
