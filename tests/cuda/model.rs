//! The tiny model, picture to triplets, on the stand-in and on the CPU.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use triplet::backend::{Backend, CacheType};
use triplet::image::{ImageView, VisualPrompt};
use triplet::reply::{Reply, Target};
use triplet::session::{Question, SessionOptions};
use triplet::trp::{Task, Unit};
use triplet::weights::{Access, Weights};
use triplet::{Cpu, Error, Model, Result};

use crate::stand_in::{Settings, StandIn};
use crate::{device, device_with};

pub fn dir() -> PathBuf {
    let built = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    // A program that was carried to another machine runs in the repository's folder there.
    if built.exists() { built } else { PathBuf::new() }.join("tests/fixtures/end_to_end")
}

pub const WIDTH: usize = 40;
pub const HEIGHT: usize = 28;

/// A tensor of the fixture.
fn numbers(name: &str) -> Vec<f32> {
    let outputs = Weights::open_file(dir().join("outputs.safetensors"), Access::Map).unwrap();
    let bytes = outputs.tensor(name).unwrap().bytes();
    bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

pub fn picture() -> Vec<u8> {
    numbers("picture").into_iter().map(|value| value as u8).collect()
}

pub fn prompted() -> Question<'static> {
    let mut question = Question::new(Task::GcgDetection, "What is [VPT] next to [VPT]?");
    question.command.units = vec![Unit::Box, Unit::Mask, Unit::Keypoint];
    question.prompts = vec![VisualPrompt::Point([11.5, 9.25]), VisualPrompt::Box([20.0, 4.5, 37.5, 22.0])];
    question
}

fn depth() -> Question<'static> {
    Question::new(Task::Depth, "How far away is everything?")
}

/// What PyTorch answered.
pub fn answer(index: usize) -> Vec<u32> {
    numbers(&format!("{index}.answer")).into_iter().map(|id| id as u32).collect()
}

/// Every kind of target, and the beginning of an answer that the model writes itself.
pub fn replies<B: Backend>(model: &Model<B>) -> Result<Vec<Reply>> {
    let picture = picture();
    let image = model.encode(&ImageView::rgb8(&picture, WIDTH, HEIGHT)?)?;
    let mut session = model.session()?;
    let written = session.ask(&image, &Question { max_new_tokens: 6, ..prompted() })?;
    let targets = session.decode_tokens(&image, &prompted(), &answer(0))?;
    Ok(vec![written, targets, session.decode_tokens(&image, &depth(), &answer(1))?])
}

/// Bits that two replies to one question share whatever rounds differently, and all numbers that may be off a little.
fn facts(reply: &Reply) -> (Vec<u32>, Vec<f32>) {
    let (mut same, mut near) = (reply.ids.clone(), Vec::new());
    for triplet in &reply.triplets {
        same.extend([triplet.group as u32, triplet.index as u32]);
        if triplet.score.is_finite() {
            near.push(triplet.score);
        }
        match &triplet.target {
            Some(Target::Box(area)) => near.extend(area),
            Some(Target::Mask(mask)) => near.extend(mask.probabilities.iter()),
            Some(Target::Depth(depth)) => near.extend(depth.values.iter()),
            Some(Target::Keypoints(found)) => {
                near.extend(found.area);
                near.extend(found.points.iter().flat_map(|point| [point.x, point.y, point.score]));
            }
            _ => same.push(u32::MAX),
        }
    }
    (same, near)
}

/// Checks that `got` says what `want` says.
pub fn agrees(want: &Reply, got: &Reply) {
    assert_eq!(got.text, want.text);
    let ((want_same, want_near), (got_same, got_near)) = (facts(want), facts(got));
    assert_eq!(got_same, want_same);
    assert_eq!(got_near.len(), want_near.len());
    let mut worst = 0f32;
    for (&want, &got) in want_near.iter().zip(&got_near) {
        let off = (want - got).abs() / want.abs().max(1.0);
        assert!(off <= 1e-4, "{got} instead of {want}");
        worst = worst.max(off);
    }
    println!("{} tokens the same, {} numbers, worst difference {worst:.1e}", got.ids.len(), got_near.len());
}

#[test]
fn tokens_boxes_masks_joints_and_depth_are_those_of_the_cpu() {
    let want = replies(&Model::open_on(Cpu::with_threads(1), dir()).unwrap()).unwrap();
    let cuda = device();
    let told = Arc::new(AtomicU64::new(0));
    let (last, before) = (told.clone(), StandIn::with(|all| all.launches.len()));
    cuda.on_upload(Arc::new(move |bytes| last.store(bytes, Ordering::Relaxed)));
    let model = Model::open_on(cuda.clone(), dir()).unwrap();
    assert!(told.load(Ordering::Relaxed) > 100_000, "weights went up: {told:?}");
    let got = replies(&model).unwrap();
    let mut kinds = [0; 4];
    for (want, got) in want.iter().zip(&got) {
        agrees(want, got);
        for triplet in &got.triplets {
            match triplet.target {
                Some(Target::Box(_)) => kinds[0] += 1,
                Some(Target::Mask(_)) => kinds[1] += 1,
                Some(Target::Keypoints(_)) => kinds[2] += 1,
                Some(Target::Depth(_)) => kinds[3] += 1,
                _ => {}
            }
        }
    }
    assert!(kinds.iter().all(|&kind| kind > 0), "{kinds:?}");
    println!("{} launches", StandIn::with(|all| all.launches.len()) - before);
    drop((model, cuda));
    StandIn::with(|all| assert!(all.leaks().is_empty() && all.misuse.is_empty(), "{:?}", all.misuse));
}

#[test]
fn decided_masks_are_the_probabilities_above_the_threshold_and_come_back_as_bits() {
    fn masks<B: Backend>(model: &Model<B>, binary: bool) -> Vec<Vec<f32>> {
        let picture = picture();
        let image = model.encode(&ImageView::rgb8(&picture, WIDTH, HEIGHT).unwrap()).unwrap();
        let question = Question { binary_masks: binary, mask_threshold: 0.4, ..prompted() };
        let reply = model.session().unwrap().decode_tokens(&image, &question, &answer(0)).unwrap();
        let targets = reply.triplets.into_iter().filter_map(|triplet| triplet.target);
        let masks = targets.filter_map(|target| match target {
            Target::Mask(mask) => {
                assert_eq!(mask.threshold, if binary { 0.5 } else { 0.4 });
                Some(mask.probabilities.to_vec())
            }
            _ => None,
        });
        masks.collect()
    }
    let cpu = Model::open_on(Cpu::with_threads(1), dir()).unwrap();
    let (probabilities, want) = (masks(&cpu, false), masks(&cpu, true));
    let decided = |value: f32| if value > 0.4 { 1.0 } else { 0.0 };
    assert!(!want.is_empty() && want.len() == probabilities.len());
    for (probabilities, want) in probabilities.iter().zip(&want) {
        assert_eq!(probabilities.iter().map(|&value| decided(value)).collect::<Vec<_>>(), *want);
    }
    let model = Model::open_on(device(), dir()).unwrap();
    let near = masks(&model, false);
    StandIn::with(|all| all.downloads.clear());
    let got = masks(&model, true);
    for (near, got) in near.iter().zip(&got) {
        assert_eq!(near.iter().map(|&value| decided(value)).collect::<Vec<_>>(), *got, "to the bit");
    }
    assert_eq!(got.len(), want.len());
    let bytes = got.len() * (WIDTH * HEIGHT).div_ceil(32) * 4;
    assert!(StandIn::with(|all| all.downloads.contains(&bytes)), "{bytes} bytes");
}

#[test]
fn answers_on_turing_are_those_of_the_cpu() {
    let want = replies(&Model::open_on(Cpu::with_threads(1), dir()).unwrap()).unwrap();
    let cuda = device_with(Settings { compute: (7, 5), ..Settings::default() }).unwrap();
    let before = StandIn::with(|all| all.launches.len());
    let got = replies(&Model::open_on(cuda, dir()).unwrap()).unwrap();
    want.iter().zip(&got).for_each(|(want, got)| agrees(want, got));
    let entries: BTreeSet<String> =
        StandIn::with(|all| all.launches.iter().skip(before).map(|launch| launch.entry.clone()).collect());
    for name in ["linear_sm75", "attention_sm75", "prepare_across", "prepare_down"] {
        assert!(entries.contains(&format!("triplet_{name}")), "{name} of {entries:?}");
    }
    assert!(!entries.iter().any(|entry| entry.ends_with("_sm80")), "{entries:?}");
}

#[test]
fn a_second_frame_allocates_nothing_and_runs_from_graphs() {
    let cuda = device();
    let model = Model::open_on(cuda.clone(), dir()).unwrap();
    let picture = picture();
    let view = ImageView::rgb8(&picture, WIDTH, HEIGHT).unwrap();
    let frame = || {
        let image = model.encode(&view).unwrap();
        cuda.download(image.tokens()).unwrap()
    };
    let first = frame();
    let held = cuda.held_bytes();
    let frames: Vec<(usize, [usize; 4])> = (0..2)
        .map(|_| {
            let before = StandIn::with(|all| (all.calls.clear(), all.from_graphs).1);
            assert_eq!(frame(), first, "the same bits");
            let count =
                |name: &str| StandIn::with(|all| all.calls.iter().filter(|&&call| call == name).count());
            let calls = [
                "cuLaunchKernel",
                "cuGraphLaunch",
                "cuGraphInstantiateWithFlags",
                "cuGraphExecKernelNodeSetParams",
            ];
            (StandIn::with(|all| all.from_graphs) - before, calls.map(count))
        })
        .collect();
    assert_eq!((cuda.held_bytes(), self::allocations()), (held, 0));
    // A graph from each upload or check of a module to the next; the second time nothing differs.
    let [(nodes, second), (nodes_again, third)] = frames[..] else { panic!("two frames") };
    let graphs = second[1];
    assert!(nodes > 20 && nodes_again == nodes && (1..=4).contains(&graphs), "{frames:?}");
    assert_eq!((second[0], third), (0, [0, graphs, 0, 0]), "{frames:?}");
    println!("a frame is {graphs} graphs of {nodes} nodes");
}

/// Number of calls that ask the driver for memory.
pub fn allocations() -> usize {
    let asks = |call: &&&str| ["cuMemAlloc", "cuMemHostAlloc"].contains(*call);
    StandIn::with(|all| all.calls.iter().filter(asks).count())
}

#[test]
fn on_a_board_that_shares_memory_weights_stay_on_the_host() {
    let cuda = device_with(Settings { integrated: true, compute: (8, 7), ..Settings::default() }).unwrap();
    let model = Model::open_on(cuda.clone(), dir()).unwrap();
    let picture = picture();
    let image = model.encode(&ImageView::rgb8(&picture, WIDTH, HEIGHT).unwrap()).unwrap();
    let want = Model::open_on(Cpu::with_threads(1), dir()).unwrap();
    let want = want.encode(&ImageView::rgb8(&picture, WIDTH, HEIGHT).unwrap()).unwrap();
    let want = Cpu::with_threads(1).download(want.tokens()).unwrap();
    let got = cuda.download(image.tokens()).unwrap();
    let largest = want.iter().fold(0f32, |most, x| most.max(x.abs()));
    assert!(want.iter().zip(&got).all(|(want, got)| (want - got).abs() <= 1e-5 * largest));
    let [weights, rest] = cuda.held_bytes();
    let on_device: usize = StandIn::with(|all| all.device.values().map(Vec::len).sum());
    assert!(weights > 0 && on_device as u64 == rest, "{weights} {rest} {on_device}");
}

#[test]
fn a_cache_of_another_type_than_f32_is_refused_by_name() {
    let model = Model::open_on(device(), dir()).unwrap();
    for cache in [CacheType::F16, CacheType::Int8] {
        let options = SessionOptions { cache, ..SessionOptions::default() };
        let refused = model.session_on(model.backend().clone(), options).err().unwrap();
        let Error::Input { field: "cache", reason } = &refused else { panic!("{refused}") };
        assert!(reason.contains(cache.name()), "{reason}");
    }
}

#[test]
fn after_the_device_is_lost_the_cpu_goes_on() {
    let picture = picture();
    let view = ImageView::rgb8(&picture, WIDTH, HEIGHT).unwrap();
    Model::open_on(device(), dir()).unwrap().encode(&view).unwrap();
    let launch = StandIn::with(|all| all.calls.iter().rposition(|&call| call == "cuLaunchKernel").unwrap());
    // The same again, but for that launch.
    let cuda =
        device_with(Settings { fail: Some((launch, 719)), compute: (8, 9), ..Settings::default() }).unwrap();
    let model = Model::open_on(cuda, dir()).unwrap();
    let error = model.encode(&view).err().unwrap();
    let Error::Device { lost: true, reason, .. } = &error else { panic!("{error}") };
    assert!(reason.contains("CUDA_ERROR_LAUNCH_FAILED (719)"), "{reason}");
    assert_eq!(model.encode(&view).err(), Some(error.clone()), "the answer stays");
    assert_eq!(model.session().err(), Some(error));
    drop(model);
    assert!(StandIn::with(|all| all.leaks()).is_empty());
    assert!(replies(&Model::open_on(Cpu::with_threads(1), dir()).unwrap()).is_ok());
}
