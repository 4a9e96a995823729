//! Sessions: what is kept between questions, how answers end, what is told on the way.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use triplet::backend::{Backend, CacheType};
use triplet::image::VisualPrompt;
use triplet::language::Sampling;
use triplet::reply::{Finish, Reply, Target};
use triplet::session::{Control, EncodedImage, Event, Prompt, Question, SessionOptions};
use triplet::trp::{GuideMode, Plan, PlanItem, Task, Unit, parse};
use triplet::{Cpu, Model, Session};

use crate::fixture::{Outputs, changed_model, depth, dir, model, prompted, view};

/// Everything of a reply and a session that can differ, as bits.
fn bits(session: &Session, reply: &Reply) -> Vec<u32> {
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    let hidden = Cpu::with_threads(1).download(session.hidden_states().unwrap()).unwrap();
    let mut all = bits(&hidden);
    all.extend(&reply.ids);
    for triplet in &reply.triplets {
        all.push(triplet.score.to_bits());
        match &triplet.target {
            Some(Target::Box(area)) => all.extend(bits(area)),
            Some(Target::Mask(mask)) => all.extend(bits(&mask.probabilities)),
            Some(Target::Depth(depth)) => all.extend(bits(&depth.values)),
            Some(Target::Keypoints(keypoints)) => {
                all.extend(keypoints.points.iter().flat_map(|p| [p.x, p.y, p.score].map(f32::to_bits)));
            }
            _ => {}
        }
    }
    all
}

fn short(question: Question<'static>) -> Question<'static> {
    Question { max_new_tokens: 60, ..question }
}

fn moved() -> Question<'static> {
    let mut question = short(prompted());
    question.prompts[1] = VisualPrompt::Box([1.0, 1.0, 9.0, 27.0]);
    question
}

fn fresh(model: &Model, image: &EncodedImage<Cpu>, question: &Question) -> Vec<u32> {
    let mut session = model.session().unwrap();
    let reply = session.ask(image, question).unwrap();
    bits(&session, &reply)
}

#[test]
fn a_later_question_has_the_bits_of_a_fresh_session() {
    let (outputs, model) = (Outputs::open(), model());
    let mut session = model.session().unwrap();
    let picture = outputs.picture();
    let other: Vec<u8> = picture.iter().map(|byte| 255 - byte).collect();
    let images = [session.encode(&view(&picture)).unwrap(), session.encode(&view(&other)).unwrap()];
    let (prompted, depth, moved) = (short(prompted()), short(depth()), moved());
    for (image, question) in [
        (0, &prompted),
        (0, &depth),
        (0, &prompted),
        (0, &moved),
        (1, &moved),
        (0, &prompted),
        (0, &prompted),
        (1, &depth),
    ] {
        let reply = session.ask(&images[image], question).unwrap();
        assert_eq!(bits(&session, &reply), fresh(&model, &images[image], question));
    }
    let given = session.decode_tokens(&images[0], &prompted, &outputs.ids("0.answer")).unwrap();
    let given = bits(&session, &given);
    let mut alone = model.session().unwrap();
    let reply = alone.decode_tokens(&images[0], &prompted, &outputs.ids("0.answer")).unwrap();
    // Scores are NaN on both sides, with the same bits.
    assert_eq!(given, bits(&alone, &reply));
}

#[test]
fn a_session_with_a_smaller_cache_keeps_the_same_promises() {
    let outputs = Outputs::open();
    let picture = outputs.picture();
    let exact = {
        let model = model();
        fresh(&model, &model.encode(&view(&picture)).unwrap(), &short(prompted()))
    };
    for cache in [CacheType::F16, CacheType::Int8] {
        let options = SessionOptions { cache, ..SessionOptions::default() };
        let run = |threads: usize, questions: &[Question]| {
            let model = Model::open_on(Cpu::with_threads(threads), dir()).unwrap();
            let mut session = model.session_on(model.backend().clone(), options).unwrap();
            let image = session.encode(&view(&picture)).unwrap();
            let mut answer = |question| {
                let reply = session.ask(&image, question).unwrap();
                bits(&session, &reply)
            };
            questions.iter().map(&mut answer).last().unwrap()
        };
        let fresh = run(1, &[short(prompted())]);
        assert_ne!(fresh, exact, "{cache:?} rounds");
        assert_eq!(run(2, &[short(prompted())]), fresh, "{cache:?}");
        assert_eq!(run(5, &[short(prompted()), moved(), short(prompted())]), fresh, "{cache:?}");
    }
}

#[test]
fn different_pictures_and_regions_give_different_states() {
    let (outputs, model) = (Outputs::open(), model());
    let session = model.session().unwrap();
    let picture = outputs.picture();
    let other: Vec<u8> = picture.iter().map(|byte| 255 - byte).collect();
    let (first, second) = (session.encode(&view(&picture)).unwrap(), session.encode(&view(&other)).unwrap());
    let (prompted, moved) = (short(prompted()), moved());
    assert_ne!(fresh(&model, &first, &prompted), fresh(&model, &second, &prompted));
    assert_ne!(fresh(&model, &first, &prompted), fresh(&model, &first, &moved));
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let outputs = Outputs::open();
    let picture = outputs.picture();
    let answers: Vec<_> = [1, 2, 5]
        .map(|threads| {
            let model = Model::open_on(Cpu::with_threads(threads), dir()).unwrap();
            let mut session = model.session().unwrap();
            let image = session.encode(&view(&picture)).unwrap();
            let reply = session.decode_tokens(&image, &prompted(), &outputs.ids("0.answer")).unwrap();
            bits(&session, &reply)
        })
        .into();
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
}

#[test]
fn prompts_as_items_equal_prompts_as_text() {
    let (outputs, model) = (Outputs::open(), model());
    let bare = changed_model(str::to_owned, |_, bytes| Some(bytes.to_vec())).unwrap();
    let question = short(prompted());
    let Prompt::Text(text) = &question.prompt else { panic!() };
    let items = model.encode_question(&question.command, text).unwrap();
    let as_items = Question { prompt: Prompt::Items(items), ..question.clone() };
    let picture = outputs.picture();
    let mut session = model.session().unwrap();
    let image = session.encode(&view(&picture)).unwrap();
    let reply = session.ask(&image, &question).unwrap();
    let mut without = bare.session().unwrap();
    let image = without.encode(&view(&picture)).unwrap();
    let same = without.ask(&image, &as_items).unwrap();
    assert_eq!(bits(&session, &reply), bits(&without, &same));
}

#[test]
fn structural_guidance_makes_every_answer_parse_at_any_length() {
    let (outputs, model) = (Outputs::open(), model());
    let mut session = model.session().unwrap();
    let picture = outputs.picture();
    let image = session.encode(&view(&picture)).unwrap();
    for vd_cot in [true, false] {
        for max_new_tokens in [30, 31, 40, 57, 90, 160] {
            for (temperature, seed) in [(0.0, 0), (1.0, 1), (2.0, 2)] {
                let sampling = Sampling { temperature, seed, ..Sampling::GREEDY };
                let question = Question { vd_cot, max_new_tokens, sampling, ..prompted() };
                let reply = session.ask(&image, &question).unwrap();
                assert_eq!(reply.finish, Finish::EndOfText, "{}", reply.text);
                assert!(reply.ids.len() <= max_new_tokens);
                assert_eq!(reply.answer.plan.is_some(), vd_cot, "{}", reply.text);
                let malformed = reply.flags.without(triplet::trp::Flags::PLAN_MISMATCH);
                assert!(malformed.is_empty(), "{malformed}: {}", reply.text);
                for triplet in &reply.triplets {
                    assert!(
                        triplet.target.is_some() && (0.0..=1.0).contains(&triplet.score),
                        "{}",
                        reply.text
                    );
                }
            }
        }
    }
}

#[test]
fn planned_answers_hold_exactly_the_plan() {
    let (outputs, model) = (Outputs::open(), model());
    let mut session = model.session().unwrap();
    let picture = outputs.picture();
    let image = session.encode(&view(&picture)).unwrap();
    let items = vec![PlanItem::new("red ball", "box", 2), PlanItem::new("person", "keypoint", 1)];
    let guide = GuideMode::Planned(Some(Plan { items: items.clone() }));
    let question = Question { guide, max_new_tokens: 120, ..prompted() };
    let reply = session.ask(&image, &question).unwrap();
    let written: Vec<_> = reply
        .answer
        .triplets
        .iter()
        .map(|t| PlanItem::new(reply.answer.phrase(t), t.unit.unwrap().name(), t.references.len()))
        .collect();
    assert_eq!(written, items, "{}", reply.text);
    assert_eq!(reply.triplets.len(), 3);
    assert!(reply.triplets.iter().all(|triplet| triplet.target.is_some()));

    let guide = GuideMode::Planned(Some(Plan { items: vec![PlanItem::new("cup", "box", 50)] }));
    let error = session.ask(&image, &Question { guide, ..prompted() }).unwrap_err();
    assert!(matches!(error, triplet::Error::Plan { item: 0, .. }), "{error}");
}

#[test]
fn events_tell_the_text_and_every_reference() {
    let (outputs, model) = (Outputs::open(), model());
    let mut session = model.session().unwrap();
    let picture = outputs.picture();
    let image = session.encode(&view(&picture)).unwrap();
    let (mut text, mut ids, mut references) = (String::new(), Vec::new(), Vec::new());
    let mut on_event = |event: Event| {
        match event {
            Event::Token { id, text: more } => {
                ids.push(id);
                text.push_str(more);
            }
            Event::Reference { phrase, unit, index } => references.push((phrase.to_owned(), unit, index)),
            _ => {}
        }
        ControlFlow::Continue(())
    };
    let guide = GuideMode::Planned(Some(Plan { items: vec![PlanItem::new("red ball", "box", 3)] }));
    let question = Question { guide, max_new_tokens: 90, ..prompted() };
    let mut control = Control { on_event: Some(&mut on_event), ..Control::default() };
    let reply = session.ask_with(&image, &question, &mut control).unwrap();
    assert_eq!(text, reply.text);
    assert_eq!(ids, reply.ids);
    let expected: Vec<_> = (0..3).map(|index| ("red ball".to_owned(), Some(Unit::Box), index)).collect();
    assert_eq!(references, expected);
}

#[test]
fn cancelled_and_late_answers_end_early_and_say_so() {
    let (outputs, model) = (Outputs::open(), model());
    let mut session = model.session().unwrap();
    let picture = outputs.picture();
    let image = session.encode(&view(&picture)).unwrap();
    let question = short(prompted());
    let cancel = AtomicBool::new(false);
    let mut tokens = 0;
    let mut on_event = |event: Event| {
        if matches!(event, Event::Token { .. }) {
            tokens += 1;
            cancel.store(tokens == 5, Ordering::Relaxed);
        }
        ControlFlow::Continue(())
    };
    let mut control = Control { cancel: Some(&cancel), on_event: Some(&mut on_event), ..Control::default() };
    let reply = session.ask_with(&image, &question, &mut control).unwrap();
    assert_eq!((reply.finish, reply.ids.len()), (Finish::Cancelled, 5));
    let mut third = |event: Event| match event {
        Event::Token { .. } if tokens == 7 => ControlFlow::Break(()),
        Event::Token { .. } => {
            tokens += 1;
            ControlFlow::Continue(())
        }
        _ => ControlFlow::Continue(()),
    };
    let mut control = Control { on_event: Some(&mut third), ..Control::default() };
    let reply = session.ask_with(&image, &question, &mut control).unwrap();
    assert_eq!((reply.finish, reply.ids.len()), (Finish::Cancelled, 3));
    let set = AtomicBool::new(true);
    let mut control = Control { cancel: Some(&set), ..Control::default() };
    let reply = session.ask_with(&image, &question, &mut control).unwrap();
    assert_eq!((reply.finish, reply.ids.len()), (Finish::Cancelled, 0));
    let mut control = Control { time_limit: Some(Duration::ZERO), ..Control::default() };
    let reply = session.ask_with(&image, &question, &mut control).unwrap();
    assert_eq!((reply.finish, reply.ids.len()), (Finish::TimeLimit, 0));
    assert!(reply.triplets.is_empty());
    let reply = session.ask(&image, &question).unwrap();
    assert_eq!(bits(&session, &reply), fresh(&model, &image, &question), "after being cut short");
}

#[test]
fn unguided_answers_of_any_kind_are_replies() {
    let (outputs, model) = (Outputs::open(), model());
    let mut session = model.session().unwrap();
    let picture = outputs.picture();
    let image = session.encode(&view(&picture)).unwrap();
    for seed in 0..10 {
        let sampling = Sampling { temperature: 3.0, seed, ..Sampling::GREEDY };
        let question = Question { guide: GuideMode::Off, sampling, max_new_tokens: 80, ..prompted() };
        let reply = session.ask(&image, &question).unwrap();
        let spoken = reply.ids.iter().copied().filter(|&id| !model.vocabulary().is_eos(id));
        let parsed = parse(model.vocabulary(), &spoken.collect::<Vec<_>>());
        let count: usize = parsed.triplets.iter().map(|triplet| triplet.references.len()).sum();
        assert_eq!(reply.triplets.len(), count);
    }
}

#[test]
fn a_final_reference_has_a_latent_though_no_token_follows() {
    let (outputs, model) = (Outputs::open(), model());
    let mut session = model.session().unwrap();
    let picture = outputs.picture();
    let image = session.encode(&view(&picture)).unwrap();
    let whole = outputs.ids("1.answer");
    let reference = model.vocabulary().special().reference;
    let end = whole.iter().position(|&id| id == reference).unwrap() + 1;
    let cut = session.decode_tokens(&image, &depth(), &whole[..end]).unwrap();
    let full = session.decode_tokens(&image, &depth(), &whole).unwrap();
    let values = |reply: &Reply| match reply.triplets.as_slice() {
        [triplet] => match &triplet.target {
            Some(Target::Depth(depth)) => depth.values.to_vec(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    assert_eq!(values(&cut), values(&full));
    assert!(!cut.flags.is_empty());
}

#[test]
fn tasks_in_words_find_nothing_and_say_nothing_is_wrong() {
    let (outputs, model) = (Outputs::open(), model());
    let mut session = model.session().unwrap();
    let picture = outputs.picture();
    let image = session.encode(&view(&picture)).unwrap();
    let question = Question { max_new_tokens: 40, ..Question::new(Task::Vqa, "What is this?") };
    let reply = session.ask(&image, &question).unwrap();
    assert!(reply.triplets.is_empty() && reply.flags.is_empty(), "{}", reply.text);
}

#[test]
fn a_session_and_a_picture_outlive_the_model_that_made_them() {
    let (outputs, model) = (Outputs::open(), model());
    let picture = outputs.picture();
    let image = model.encode(&view(&picture)).unwrap();
    let mut session = model.session().unwrap();
    let expected = fresh(&model, &image, &short(depth()));
    assert!(session.model().is_same(&model) && image.model().is_same(&model.clone()));
    drop(model);
    let reply = session.ask(&image, &short(depth())).unwrap();
    assert_eq!(bits(&session, &reply), expected);
}
