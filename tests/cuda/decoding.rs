//! Writing answers on the stand-in: tokens chosen on the device, quantised weights, nothing allocated once all is warm.

use half::f16;
use safetensors::{Dtype, serialize, tensor::TensorView};
use triplet::backend::Backend;
use triplet::config::ModelDir;
use triplet::device::{Device, Opened};
use triplet::image::ImageView;
use triplet::language::Sampling;
use triplet::reply::Reply;
use triplet::session::{EncodedImage, Question};
use triplet::trp::GuideMode;
use triplet::weights::{GROUP, Scheme, Weights, quantise};
use triplet::{Cpu, Cuda, Error, Model, Result, Session};

use crate::device;
use crate::model::{HEIGHT, WIDTH, agrees, allocations, answer, dir, picture, prompted};
use crate::stand_in::{self, Settings, StandIn, interpreter};

/// Samplings that the device serves, and two that are the host's: from all tokens, and from more than 64.
const SAMPLINGS: [(Sampling, bool); 4] = [
    (Sampling::GREEDY, true),
    (Sampling { temperature: 1.5, top_k: 30, top_p: 0.9, seed: 5 }, true),
    (Sampling { temperature: 1.5, top_k: 0, top_p: 0.9, seed: 5 }, false),
    (Sampling { temperature: 2.0, top_k: 65, top_p: 1.0, seed: 7 }, false),
];

/// Bytes that come back for a token.
const CHOICE: usize = 20;

fn begin<B: Backend>(model: &Model<B>) -> Result<(Session<B>, EncodedImage<B>)> {
    let picture = picture();
    Ok((model.session()?, model.encode(&ImageView::rgb8(&picture, WIDTH, HEIGHT)?)?))
}

fn question(sampling: Sampling, guided: bool) -> Question<'static> {
    let guide = if guided { GuideMode::Structural } else { GuideMode::Off };
    Question { sampling, guide, max_new_tokens: 5, ..prompted() }
}

#[test]
fn every_sampling_writes_what_the_cpu_writes_and_a_step_brings_back_the_choice_alone() {
    let cpu = Model::open_on(Cpu::with_threads(1), dir()).unwrap();
    let model = Model::open_on(device(), dir()).unwrap();
    let (mut want, want_image) = begin(&cpu).unwrap();
    let (mut got, image) = begin(&model).unwrap();
    let vocabulary = model.config().module("llm").unwrap().optional_usize("vocab_size").unwrap().unwrap();
    for (sampling, on_device) in SAMPLINGS {
        for guided in [false, true] {
            let question = question(sampling, guided);
            let want = want.ask(&want_image, &question).unwrap();
            StandIn::with(|all| all.downloads.clear());
            let got = got.ask(&image, &question).unwrap();
            agrees(&want, &got);
            let scores = |reply: &Reply| reply.triplets.iter().map(|t| t.score).collect::<Vec<_>>();
            for (want, got) in scores(&want).iter().zip(scores(&got)) {
                assert!((want - got).abs() <= 1e-5, "{got} instead of {want}");
            }
            let downloads = StandIn::with(|all| all.downloads.clone());
            let [choices, logits] = [CHOICE, 4 * vocabulary]
                .map(|bytes| downloads.iter().filter(|&&found| found == bytes).count());
            let steps = got.ids.len();
            let (least, logits_too) = if on_device { (steps, 0) } else { (0, steps) };
            assert!(choices == least && logits == logits_too, "{sampling:?}: {downloads:?}");
        }
    }
}

#[test]
fn a_warm_session_asks_the_driver_for_no_memory() {
    let cuda = device();
    let model = Model::open_on(cuda.clone(), dir()).unwrap();
    let (mut session, image) = begin(&model).unwrap();
    let mut ask = || {
        let written = session.ask(&image, &question(Sampling::GREEDY, true)).unwrap().ids;
        (written, session.decode_tokens(&image, &prompted(), &answer(0)).unwrap().ids)
    };
    let first = ask();
    let (held, before) = (cuda.held_bytes(), allocations());
    for _ in 0..2 {
        assert_eq!(ask(), first);
    }
    assert_eq!((cuda.held_bytes(), allocations()), (held, before));
}

/// The calls of each token but the first, from one choice to the next.
fn steps() -> Vec<Vec<&'static str>> {
    let (calls, downloads) = StandIn::with(|all| (all.calls.clone(), all.downloads.clone()));
    let back = calls.iter().enumerate().filter(|(_, call)| **call == "cuMemcpyDtoHAsync");
    let choices = back.zip(&downloads).filter(|(_, bytes)| **bytes == CHOICE).map(|((index, _), _)| index);
    let choices: Vec<usize> = choices.collect();
    choices.windows(2).map(|pair| calls[pair[0] + 1..=pair[1]].to_vec()).collect()
}

#[test]
fn a_step_is_one_graph_with_what_differs_set_anew() {
    let cuda = device();
    let model = Model::open_on(cuda.clone(), dir()).unwrap();
    let (mut session, image) = begin(&model).unwrap();
    let drawn = SAMPLINGS[1].0;
    for sampling in [Sampling::GREEDY, drawn] {
        session.ask(&image, &question(sampling, true)).unwrap();
        StandIn::with(|all| (all.calls.clear(), all.downloads.clear()));
        assert_eq!(session.ask(&image, &question(sampling, true)).unwrap().ids.len(), 5);
        let steps = steps();
        assert_eq!(steps.len(), 4);
        for (step, calls) in steps.into_iter().enumerate() {
            let count = |name: &str| calls.iter().filter(|&&call| call == name).count();
            assert_eq!(
                (count("cuGraphLaunch"), count("cuLaunchKernel"), count("cuMemsetD8Async")),
                (1, 0, 0)
            );
            assert_eq!((count("cuMemAlloc"), count("cuMemHostAlloc"), count("cuGraphCreate")), (0, 0, 0));
            // The token and the mask go up, the choice comes back.
            assert_eq!((count("cuMemcpyHtoDAsync"), count("cuMemcpyDtoHAsync")), (2, 1));
            let layers = model.config().module("llm").unwrap().usize("num_hidden_layers").unwrap();
            // Of every layer the positions of queries and keys, the places of keys and values, how many keys there are; the
            // hidden state's place, which two read and one writes; the random number. The first step also comes from elsewhere.
            let changed = 5 * layers + 3 + usize::from(sampling != Sampling::GREEDY);
            let set = count("cuGraphExecKernelNodeSetParams");
            assert!(
                set == changed || (step == 0 && set > changed),
                "{set} of {layers} layers in step {step}"
            );
        }
    }
    assert_eq!(cuda.no_graphs(), None);
    StandIn::with(|all| assert!(all.misuse.is_empty(), "{:?}", all.misuse));
}

#[test]
fn answers_by_graphs_are_those_without_bit_for_bit() {
    let answers = |settings: Settings| {
        let cuda = crate::device_with(Settings { compute: (8, 9), ..settings }).unwrap();
        let model = Model::open_on(cuda.clone(), dir()).unwrap();
        let (mut session, image) = begin(&model).unwrap();
        let of = |sampling| question(sampling, true);
        let replies: Vec<Reply> = [SAMPLINGS[0].0, SAMPLINGS[0].0, SAMPLINGS[1].0, SAMPLINGS[1].0]
            .into_iter()
            .map(|sampling| session.ask(&image, &of(sampling)).unwrap())
            .collect();
        let bits = |reply: &Reply| reply.triplets.iter().map(|t| t.score.to_bits()).collect::<Vec<_>>();
        let facts: Vec<_> = replies.iter().map(|reply| (reply.ids.clone(), bits(reply))).collect();
        (facts, StandIn::with(|all| all.from_graphs), cuda.no_graphs())
    };
    let (by_graphs, from_graphs, no_graphs) = answers(Settings::default());
    assert!(from_graphs > 100 && no_graphs.is_none(), "{from_graphs} {no_graphs:?}");
    let missing = vec!["cuGraphAddKernelNode"];
    let (one_by_one, from_graphs, no_graphs) = answers(Settings { missing, ..Settings::default() });
    assert_eq!((one_by_one, from_graphs), (by_graphs, 0));
    assert!(no_graphs.unwrap().to_string().contains("lacks functions for graphs"));
}

#[test]
fn what_a_driver_refuses_of_a_step_goes_without_graphs_or_is_the_answer() {
    const GRAPHS: [&str; 6] = [
        "cuGraphCreate",
        "cuGraphAddKernelNode",
        "cuGraphAddMemsetNode",
        "cuGraphInstantiateWithFlags",
        "cuGraphExecKernelNodeSetParams",
        "cuGraphLaunch",
    ];
    let question = question(Sampling::GREEDY, true);
    // Kernels are trusted: their self-tests would take most of the time.
    let ask = |fail: Option<(usize, i32)>| {
        let execute = Some(interpreter());
        StandIn::start(Settings { compute: (8, 9), fail, execute, ..Settings::default() });
        let cuda = Cuda::without_self_test(&stand_in::reopen().unwrap(), 0).unwrap();
        let model = Model::open_on(cuda.clone(), dir()).unwrap();
        let (mut session, image) = begin(&model).unwrap();
        (session.ask(&image, &question), cuda.no_graphs())
    };
    let want = ask(None).0.unwrap();
    let calls = StandIn::with(|all| all.calls.clone());
    for name in GRAPHS {
        // In the middle of the answer: the last of its calls.
        let index = calls.iter().rposition(|&call| call == name).unwrap();
        for code in [801, 719] {
            match ask(Some((index, code))) {
                (Ok(got), Some(why)) => {
                    assert_eq!((&got.ids, &got.text), (&want.ids, &want.text), "{name} {code}");
                    assert!(
                        code == 801 && why.to_string().starts_with(&format!("{name}: ")),
                        "{name}: {why}"
                    );
                }
                (Err(error), _) => {
                    let Error::Device { call, reason, lost: true } = &error else { panic!("{error}") };
                    assert!(*call == name && code == 719 && reason.contains("(719)"), "{name}: {error}");
                }
                (Ok(_), None) => panic!("{name} with {code} went unnoticed"),
            }
        }
    }
}

/// The tiny model with the linear layers of its blocks in a scheme.
fn quantised(scheme: Scheme) -> ModelDir {
    let dir = ModelDir::open(dir()).unwrap();
    let floats = |name: &str| -> Vec<f32> {
        let tensor = dir.weights.tensor(name).unwrap();
        assert_eq!(tensor.dtype(), triplet::weights::Dtype::F16, "{name}");
        tensor.bytes().as_chunks::<2>().0.iter().map(|&bytes| f16::from_le_bytes(bytes).to_f32()).collect()
    };
    let bytes = |numbers: &[f32]| numbers.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let mut parts = Vec::new();
    let mut taken = 0;
    for name in dir.weights.names() {
        let Some(tensor) = dir.weights.get(name) else { continue };
        let shape = tensor.shape().to_vec();
        let numbers = floats(name);
        let in_block = name.starts_with("llm.model.layers.") && name.ends_with("_proj.weight");
        if !in_block || shape.len() != 2 || !shape[1].is_multiple_of(GROUP) {
            parts.push((name.to_owned(), Dtype::F32, shape, bytes(&numbers)));
            continue;
        }
        let (n, k) = (shape[0], shape[1]);
        let integers = quantise(&numbers, k, scheme);
        let (dtype, of_scales) = match scheme {
            Scheme::Int8 => (Dtype::I8, vec![n]),
            _ => (Dtype::U8, vec![n, scheme.row_scales(k)]),
        };
        parts.push((name.to_owned(), dtype, vec![n, scheme.row_bytes(k)], integers.bytes));
        parts.push((format!("{name}_scale"), Dtype::F32, of_scales, bytes(&integers.scales)));
        taken += 1;
    }
    assert!(taken >= 7, "{taken} layers were quantised");
    let views = parts.iter().map(|(name, dtype, shape, bytes)| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    let weights = Weights::from_vec(serialize(views, None).unwrap()).unwrap();
    ModelDir { weights, ..dir }
}

#[test]
fn a_quantised_model_answers_as_on_the_cpu() {
    let question = Question { max_new_tokens: 6, ..prompted() };
    for scheme in [Scheme::Int8, Scheme::Int4] {
        // The device keeps activations in f32.
        let cpu = Cpu::with_threads(1).with_exact_activations(true);
        let cpu = Model::from_dir(cpu, quantised(scheme)).unwrap();
        let model = Model::from_dir(device(), quantised(scheme)).unwrap();
        let (mut want, want_image) = begin(&cpu).unwrap();
        let (mut got, image) = begin(&model).unwrap();
        agrees(&want.ask(&want_image, &question).unwrap(), &got.ask(&image, &question).unwrap());
        let decode = answer(0);
        let want = want.decode_tokens(&want_image, &prompted(), &decode).unwrap();
        agrees(&want, &got.decode_tokens(&image, &prompted(), &decode).unwrap());
        let launched =
            |entry: &str| StandIn::with(|all| all.launches.iter().any(|launch| launch.entry == entry));
        assert!(launched("triplet_linear_row_quantised") && launched("triplet_dequantise"), "{scheme:?}");
    }
}

#[test]
fn a_session_whose_device_is_lost_goes_on_on_the_cpu() {
    let parts = ModelDir::open(dir()).unwrap();
    let opened = Device::Auto.open_with(Cpu::with_threads(1), || {
        StandIn::start(Settings { execute: Some(interpreter()), ..Settings::default() });
        stand_in::reopen()
    });
    let Opened::Cuda(cuda) = opened.unwrap() else { panic!("a device was there") };
    assert_eq!(Opened::Cuda(cuda.clone()).to_string(), "cuda:0 (Stand-in)");
    let model = Model::from_dir(cuda, parts.clone()).unwrap();
    let (mut session, image) = begin(&model).unwrap();
    let question = question(Sampling::GREEDY, true);
    let first = session.ask(&image, &question).unwrap();
    // In the middle of the next answer; the failure of a call that gives something back goes unnoticed.
    let lose = |after| {
        StandIn::with(|all| all.settings.fail = Some((all.calls.len() + after, 700)));
        session.ask(&image, &question).err()
    };
    let error = (60..66).find_map(lose).unwrap();
    assert!(error.is_lost(), "{error}");
    assert_eq!(session.ask(&image, &question).err(), Some(error), "the answer stays");

    let model = Model::from_dir(Cpu::with_threads(1), parts).unwrap();
    let (mut session, image) = begin(&model).unwrap();
    agrees(&session.ask(&image, &question).unwrap(), &first);
}

#[test]
fn auto_takes_the_first_device_that_works_and_says_why_none_does() {
    let with = |device: Device, settings: Settings| {
        device.open_with(Cpu::with_threads(1), || stand_in::open(settings))
    };
    // Nothing is executed: both devices fail their self-tests.
    let none = with(Device::Auto, Settings::default()).unwrap();
    assert_eq!(none.device(), Device::Cpu);
    assert!(none.to_string().starts_with("cpu (no GPU: self-test: copy gives wrong results"), "{none}");
    let none = with(Device::Auto, Settings { devices: 0, ..Settings::default() }).unwrap();
    assert_eq!(none.to_string(), "cpu (no GPU: device: the driver knows no GPU)");
    let error = with(Device::Cuda(2), Settings::default()).err().unwrap();
    assert_eq!(error.to_string(), "device: there is no cuda:2; the driver knows 2 GPUs");
    assert!(with(Device::Cuda(0), Settings { version: 9000, ..Settings::default() }).is_err());
}
