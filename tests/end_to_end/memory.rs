//! What memory a run takes, asked beforehand, is what it takes: with it every question works, with a step less none does.

use std::mem::MaybeUninit;
use std::path::Path;

use triplet::arena::{ALIGNMENT, Arena};
use triplet::backend::{Backend, CacheType};
use triplet::image::{ImageView, VisualPrompt};
use triplet::reply::{Reply, Target};
use triplet::session::{Bounds, Memory, Prompt, Question, SessionOptions};
use triplet::text::Vocabulary;
use triplet::trp::{GuideMode, PromptItem, Task, Unit};
use triplet::{Cpu, Error, Model, Session};

use crate::fixture::{HEIGHT, WIDTH, adapted_model, dir};

/// Memory of a caller's.
fn lent(bytes: usize) -> Arena {
    let memory = Box::leak(vec![MaybeUninit::<u8>::uninit(); bytes + ALIGNMENT].into_boxed_slice());
    let skip = memory.as_ptr().align_offset(ALIGNMENT);
    Arena::of(&mut memory[skip..skip + bytes]).unwrap()
}

/// Positions that a visual prompt of the tiny model takes.
const PROMPT: usize = 5;

/// An answer with as many targets of each unit as its head has slots, but no more than `most`.
fn full_answer(model: &Model, most: usize) -> Vec<u32> {
    let special = model.vocabulary().special();
    let text = |text: &str| -> Vec<u32> {
        let token = |byte: &u8| find(model.vocabulary(), &[*byte]);
        text.as_bytes().iter().map(token).collect()
    };
    let mut ids = Vec::new();
    for head in model.heads() {
        ids.push(special.phrase_open);
        ids.extend(text("a"));
        ids.push(special.phrase_close);
        ids.push(special.unit_open);
        ids.extend(text(head.unit.name()));
        ids.push(special.unit_close);
        ids.extend(std::iter::repeat_n(special.reference, head.num_queries.min(most)));
    }
    ids
}

/// The token with these bytes.
fn find(vocabulary: &Vocabulary, bytes: &[u8]) -> u32 {
    let ids = 0..vocabulary.len() as u32;
    ids.into_iter().find(|&id| vocabulary.bytes(id) == bytes).expect("a vocabulary has every byte")
}

/// A question whose prompt and `answer` fill `positions`, with `prompts` visual prompts.
fn full_question(positions: usize, answer: usize, prompts: usize, cells: usize) -> Question<'static> {
    let mut items = vec![PromptItem::Image];
    items.extend((0..prompts).map(|_| PromptItem::VisualPrompt));
    let rest = positions - answer - cells - PROMPT * prompts;
    items.extend((0..rest).map(|index| PromptItem::Token(index as u32 % 50)));
    let mut question = Question::new(Task::GcgDetection, "");
    question.command.units = Unit::ALL.to_vec();
    question.prompt = Prompt::Items(items);
    question.prompts = vec![VisualPrompt::Box([3.0, 4.0, 20.0, 21.0]); prompts];
    question.guide = GuideMode::Off;
    question
}

/// Everything that can differ.
fn bits(session: &Session, reply: &Reply) -> Vec<u32> {
    let hidden = Cpu::with_threads(1).download(session.hidden_states().unwrap()).unwrap();
    let mut bits: Vec<u32> = hidden.iter().map(|x| x.to_bits()).collect();
    for triplet in &reply.triplets {
        match triplet.target.as_ref().expect("every slot is decoded") {
            Target::Box(area) => bits.extend(area.map(f32::to_bits)),
            Target::Mask(mask) => bits.extend(mask.probabilities.iter().map(|x| x.to_bits())),
            Target::Depth(depth) => bits.extend(depth.values.iter().map(|x| x.to_bits())),
            Target::Keypoints(person) => {
                bits.extend(person.points.iter().flat_map(|p| [p.x, p.y].map(f32::to_bits)))
            }
            _ => unreachable!(),
        }
    }
    bits
}

/// Runs the largest question on arenas of exactly the sizes that were asked for, and on smaller ones.
fn check(
    model: &Model,
    [width, height]: [usize; 2],
    prompts: usize,
    cache: CacheType,
    pixels: &[u8],
) -> Memory {
    let picture = ImageView::rgb8(pixels, width, height).unwrap();
    let answer = full_answer(model, usize::MAX);
    let cells = model.encode(&picture).unwrap().tokens().rows();
    let positions = answer.len() + cells + PROMPT * prompts + 40;
    let bounds = Bounds { width, height, positions, visual_prompts: prompts, cache };
    let memory = model.memory(&bounds).unwrap();
    println!("{bounds:?}: {memory:?}");
    assert_eq!(model.memory(&bounds).unwrap(), memory);
    assert!(memory.kv_cache < memory.session && memory.image_kept < memory.image);

    let on = |arena: &Arena| model.backend().in_arena(arena.clone());
    let question = full_question(positions, answer.len(), prompts, cells);
    let options = SessionOptions { positions, cache };
    let mut free = model.session_on(model.backend().clone(), options).unwrap();
    let expected = free.decode_tokens(&model.encode(&picture).unwrap(), &question, &answer).unwrap();
    let expected = bits(&free, &expected);

    for lend in [false, true] {
        let block = |bytes: usize| if lend { lent(bytes) } else { Arena::with_size(bytes).unwrap() };
        let (image_arena, session_arena) = (block(memory.image), block(memory.session));
        let image = model.encode_on(&on(&image_arena), &picture).unwrap();
        assert_eq!((image_arena.peak(), image_arena.taken()), (memory.image, memory.image_kept));
        let mut session = model.session_on(on(&session_arena), options).unwrap();
        let kept = session_arena.taken();
        let maps = block(memory.reply);
        let question = Question { maps: maps.clone(), ..question.clone() };
        // A question whose last chunk is as long as a chunk gets, and the same again on what is remembered.
        for _ in 0..2 {
            let reply = session.decode_tokens(&image, &question, &answer).unwrap();
            assert_eq!(bits(&session, &reply), expected);
            assert_eq!(session_arena.taken(), kept, "everything is given back");
            assert_eq!(maps.taken(), memory.reply, "the reply's maps fill what they were said to take");
            drop(reply);
            assert_eq!(maps.taken(), 0);
        }
        if memory.reply > 0 {
            let question = Question { maps: block(memory.reply - ALIGNMENT), ..question.clone() };
            let refused = session.decode_tokens(&image, &question, &answer).map(|_| ());
            assert!(matches!(refused, Err(Error::Memory { what: "map", left: Some(_), .. })), "{refused:?}");
            assert_eq!(question.maps.taken(), 0);
        }
        assert!(session_arena.peak() <= memory.session);
        assert_eq!(session_arena.peak(), memory.session, "the bound is met");
        let short = Question { max_new_tokens: 9, ..full_question(positions - 20, answer.len(), 0, cells) };
        session.ask(&image, &short).unwrap();
        assert!(session_arena.peak() <= memory.session);

        let small = model.encode_on(&on(&block(memory.image - ALIGNMENT)), &picture);
        let Err(Error::Memory { bytes, left: Some(left), .. }) = small.map(|_| ()) else { panic!("it fits") };
        assert!(bytes > left);
        let tight = block(session_arena.peak() - ALIGNMENT);
        let mut session = model.session_on(on(&tight), options).unwrap();
        let refused = session.decode_tokens(&image, &question, &answer).map(|_| ());
        assert!(matches!(refused, Err(Error::Memory { left: Some(_), .. })), "{refused:?}");
        assert_eq!(tight.taken(), kept, "a question that is refused gives back what it took");
        let none = model.session_on(on(&block(kept - ALIGNMENT)), options).map(|_| ());
        assert!(matches!(none, Err(Error::Memory { left: Some(_), .. })), "{none:?}");
    }
    memory
}

fn noise(width: usize, height: usize) -> Vec<u8> {
    (0..width * height * 3).map(|index| (index * 7 % 251) as u8).collect()
}

#[test]
fn the_tiny_model_takes_what_was_asked() {
    for threads in [1, 2] {
        let model = Model::open_on(Cpu::with_threads(threads), dir()).unwrap();
        let f32 = check(&model, [WIDTH, HEIGHT], 0, CacheType::F32, &noise(WIDTH, HEIGHT));
        check(&model, [WIDTH, HEIGHT], 2, CacheType::F32, &noise(WIDTH, HEIGHT));
        check(&model, [61, 90], 1, CacheType::F32, &noise(61, 90));
        for cache in [CacheType::F16, CacheType::Int8] {
            let less = check(&model, [WIDTH, HEIGHT], 0, cache, &noise(WIDTH, HEIGHT));
            check(&model, [61, 90], 1, cache, &noise(61, 90));
            // Two heads of eight numbers: eight columns of four bytes each, four, or three.
            let expected = f32.kv_cache / 8 * cache.head_columns(8);
            assert_eq!(less.kv_cache, expected.next_multiple_of(ALIGNMENT), "{cache:?}");
        }
    }
}

#[test]
fn the_shipped_model_takes_what_was_asked() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/tabletop/model");
    let model = Model::open_on(Cpu::with_threads(2), dir).unwrap();
    check(&model, [160, 120], 0, CacheType::F32, &noise(160, 120));
    check(&model, [160, 120], 0, CacheType::Int8, &noise(160, 120));
}

#[test]
fn an_adapter_has_room_for_every_group() {
    let model = adapted_model();
    let picture = noise(WIDTH, HEIGHT);
    let picture = ImageView::rgb8(&picture, WIDTH, HEIGHT).unwrap();
    let image = model.encode(&picture).unwrap();
    let (answer, cells) = (full_answer(&model, 3), image.tokens().rows());
    let positions = answer.len() + cells + 40;
    let bounds = Bounds { width: WIDTH, height: HEIGHT, positions, visual_prompts: 0, cache: CacheType::F32 };
    let arena = Arena::with_size(model.memory(&bounds).unwrap().session).unwrap();
    let mut session = model
        .session_on(model.backend().in_arena(arena.clone()), SessionOptions::positions(positions))
        .unwrap();
    let question = full_question(positions, answer.len(), 0, cells);
    let reply = session.decode_tokens(&image, &question, &answer).unwrap();
    let mut free = model.session().unwrap();
    let expected = free.decode_tokens(&image, &question, &answer).unwrap();
    assert_eq!(bits(&session, &reply), bits(&free, &expected));
    assert!(arena.peak() > 0);
}

#[test]
fn a_session_has_as_many_positions_as_were_asked_for() {
    let model = Model::open_on(Cpu::with_threads(1), dir()).unwrap();
    let picture = noise(WIDTH, HEIGHT);
    let image = model.encode(&ImageView::rgb8(&picture, WIDTH, HEIGHT).unwrap()).unwrap();
    let cells = image.tokens().rows();
    let mut session =
        model.session_on(model.backend().clone(), SessionOptions::positions(cells + 12)).unwrap();
    let question = full_question(cells + 12, 0, 0, cells);
    let limit = session.ask(&image, &question).unwrap_err();
    let max = cells as u64 + 12;
    assert_eq!(limit, Error::Limit { limit: "positions", max, got: max + 1 });
    let question = full_question(cells + 5, 0, 0, cells);
    assert!(session.ask(&image, &question).unwrap().ids.len() <= 8);
    let bounds = Bounds { width: 0, height: 5, positions: 9, visual_prompts: 0, cache: CacheType::F32 };
    assert!(matches!(model.memory(&bounds), Err(Error::Input { field: "image.width", .. })));
    let bounds = Bounds { width: 5, height: 5, positions: 9, visual_prompts: 65, cache: CacheType::F32 };
    assert!(matches!(model.memory(&bounds), Err(Error::Limit { limit: "visual_prompts", .. })));
}
