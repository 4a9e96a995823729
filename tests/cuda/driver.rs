//! `cuda::driver` alone: what it does where there is no driver, an old one, or one that fails at any call with any code.

use std::panic::{AssertUnwindSafe, catch_unwind};

use triplet::cuda::driver::Driver;
use triplet::{Error, Result};

use crate::stand_in::{self, CODES, Settings, StandIn};

const PTX: &str =
    ".version 6.0\n.target sm_53\n.address_size 64\n.visible .entry twice(.param .u64 x, .param .u32 n)";

/// Everything that the driver module offers, once.
fn everything() -> Result<Vec<u8>> {
    let driver = stand_in::reopen()?;
    let context = driver.context(1)?;
    context.free_memory()?;
    let stream = context.stream()?;
    let start = stream.event()?;
    let module = context.module("twice.ptx", PTX)?;
    let function = module.function("twice", 100 << 10)?;
    let memory = context.allocate("case", 1024)?;
    let mut host = context.allocate_host("case", 512)?;
    host.device_pointer()?;
    host.bytes_mut()?.iter_mut().zip((0..=255).cycle()).for_each(|(byte, i)| *byte = i);
    stream.fill(memory.pointer(), 1024, 9)?;
    stream.upload(&mut host, &memory, 512, 512)?;
    let arguments = [memory.pointer().address(), 7];
    let shape = [[3, 1, 1], [256, 1, 1]];
    stream.launch(&function, shape, 4096, &arguments)?;
    let mut graph = context.graph()?;
    graph.launch(&function, shape, 4096, &arguments)?;
    graph.fill(memory.pointer(), 512, 9)?;
    graph.launch(&function, shape, 4096, &arguments)?;
    let mut graph = graph.finish()?;
    stream.launch_graph(&graph)?;
    graph.set_launch(2, &function, [[5, 1, 1], [64, 1, 1]], 0, &[memory.pointer().address(), 8])?;
    stream.launch_graph(&graph)?;
    stream.download(&memory, 256, &mut host, 512)?;
    let end = stream.event()?;
    end.synchronize()?;
    assert_eq!(end.milliseconds_since(&start)?, 1.5);
    stream.synchronize()?;
    Ok(host.bytes_mut()?.to_vec())
}

#[test]
fn copies_launches_and_graphs_arrive() {
    StandIn::start(Settings::default());
    let bytes = everything().unwrap();
    assert!(bytes[..256].iter().all(|&byte| byte == 9));
    assert!(bytes[256..].iter().zip(0..=255).all(|(&byte, i)| byte == i));
    StandIn::with(|all| {
        assert_eq!((all.launches.len(), all.from_graphs), (5, 6));
        for (i, launch) in all.launches.iter().enumerate() {
            let (grid, block, number, shared) = match i {
                4 => ([5, 1, 1], [64, 1, 1], 8, 0), // set anew
                _ => ([3, 1, 1], [256, 1, 1], 7, 4096),
            };
            assert_eq!((launch.entry.as_str(), launch.grid, launch.block), ("twice", grid, block));
            assert_eq!((launch.parameters[1], launch.shared), (number, shared));
            assert_eq!(&*launch.ptx, PTX);
        }
        assert!(all.leaks().is_empty() && all.misuse.is_empty(), "{:?} {:?}", all.leaks(), all.misuse);
    });
}

/// Calls that give something back, whose failure nobody can do anything about.
const GIVING_BACK: [&str; 9] = [
    "cuDevicePrimaryCtxRelease",
    "cuCtxPopCurrent",
    "cuMemFree",
    "cuMemFreeHost",
    "cuStreamDestroy",
    "cuEventDestroy",
    "cuModuleUnload",
    "cuGraphExecDestroy",
    "cuGraphDestroy",
];

#[test]
fn every_code_at_every_call_is_an_error_that_names_the_call_and_leaks_nothing() {
    StandIn::start(Settings::default());
    everything().unwrap();
    let calls = StandIn::with(|all| all.calls.clone());
    assert!(calls.len() > 60, "{}", calls.len());
    let mut refused = 0;
    for (index, &call) in calls.iter().enumerate() {
        for code in CODES {
            StandIn::start(Settings { fail: Some((index, code)), ..Settings::default() });
            let result =
                catch_unwind(AssertUnwindSafe(everything)).unwrap_or_else(|_| panic!("{call}: {code}"));
            let leaks = StandIn::with(|all| all.leaks());
            assert!(leaks.is_empty(), "{call} with {code}: {leaks:?}");
            match result {
                Ok(_) => {
                    assert!(GIVING_BACK.contains(&call) || pushed_to_release(&calls, index), "{call}: {code}")
                }
                Err(Error::Device { call: named, reason, .. }) => {
                    assert_eq!(named, call, "{code}");
                    assert!(reason.contains(&code.to_string()), "{call}: {reason}");
                }
                Err(Error::Memory { what, bytes, .. }) => {
                    assert!(code == 2 && what == "case" && bytes >= 512, "{call}: {what} {bytes}");
                }
                Err(error) => panic!("{call} with {code}: {error}"),
            }
            refused += 1;
        }
    }
    println!("{} calls, {refused} failures", calls.len());
}

/// Whether the context was made current at `index` to give something back.
fn pushed_to_release(calls: &[&str], index: usize) -> bool {
    calls[index] == "cuCtxPushCurrent" && calls.get(index + 1).is_some_and(|next| GIVING_BACK.contains(next))
}

#[test]
fn a_lost_device_is_asked_nothing_more() {
    StandIn::start(Settings::default());
    let driver = stand_in::reopen().unwrap();
    let context = driver.context(0).unwrap();
    let stream = context.stream().unwrap();
    let memory = context.allocate("case", 64).unwrap();
    assert!(context.lost().is_none());
    let next = StandIn::with(|all| all.calls.len());
    StandIn::with(|all| all.settings.fail = Some((next + 1, 700)));
    let error = stream.synchronize().unwrap_err();
    let Error::Device { call: "cuStreamSynchronize", reason, lost: true } = &error else { panic!("{error}") };
    assert!(reason.contains("CUDA_ERROR_ILLEGAL_ADDRESS (700)"), "{reason}");
    let calls = StandIn::with(|all| all.calls.len());
    assert_eq!(stream.fill(memory.pointer(), 64, 0).unwrap_err(), error);
    assert_eq!(context.allocate("more", 64).err(), Some(error));
    assert_eq!(StandIn::with(|all| all.calls.len()), calls, "the driver was asked");
    drop((memory, stream, context, driver));
    assert!(StandIn::with(|all| all.leaks()).is_empty());
}

#[test]
fn old_and_incomplete_drivers_are_named() {
    let error = stand_in::open(Settings { version: 10010, ..Settings::default() }).err().unwrap();
    assert!(error.to_string().contains("CUDA 10.1"), "{error}");
    StandIn::start(Settings::default());
    let names = ["cuMemAlloc_v2", "cuModuleLoadDataEx", "cuLaunchKernel", "cuEventDestroy_v2"];
    for name in names {
        let error = stand_in::open(Settings { missing: vec![name], ..Settings::default() }).err().unwrap();
        assert!(matches!(error, Error::Device { call, lost: false, .. } if call == name), "{error}");
    }
    // Before CUDA 11 some functions had other names, before 11.4 graphs were made ready by another one.
    let old = ["cuDevicePrimaryCtxRelease_v2", "cuGraphInstantiateWithFlags", "cuGraphInstantiate_v2"];
    for count in 1..=old.len() {
        StandIn::start(Settings { version: 10020, missing: old[..count].to_vec(), ..Settings::default() });
        everything().unwrap();
        let all_gone = StandIn::with(|all| all.leaks().is_empty() && all.misuse.is_empty());
        assert!(all_gone, "{:?}", old[count - 1]);
    }
    for name in GRAPHS {
        StandIn::start(Settings { missing: vec![name], ..Settings::default() });
        let error = everything().unwrap_err();
        assert!(error.to_string().contains("lacks functions for graphs"), "{name}: {error}");
        assert!(StandIn::with(|all| all.leaks()).is_empty());
    }
}

/// What all graphs need.
const GRAPHS: [&str; 7] = [
    "cuGraphCreate",
    "cuGraphAddKernelNode",
    "cuGraphAddMemsetNode",
    "cuGraphExecKernelNodeSetParams",
    "cuGraphLaunch",
    "cuGraphExecDestroy",
    "cuGraphDestroy",
];

/// The same failures where a graph is made ready as before CUDA 11.4.
#[test]
fn an_old_driver_that_refuses_a_graph_is_named() {
    let old = || Settings { missing: vec!["cuGraphInstantiateWithFlags"], ..Settings::default() };
    StandIn::start(old());
    everything().unwrap();
    let index = StandIn::with(|all| all.calls.iter().position(|&call| call == "cuGraphInstantiate"));
    for code in CODES {
        StandIn::start(Settings { fail: Some((index.unwrap(), code)), ..old() });
        let error = everything().unwrap_err();
        assert!(matches!(error, Error::Device { call: "cuGraphInstantiate", .. }), "{error}");
        assert!(StandIn::with(|all| all.leaks()).is_empty());
    }
}

#[test]
fn a_place_that_a_graph_has_not_is_refused() {
    let context = stand_in::open(Settings::default()).unwrap().context(0).unwrap();
    let module = context.module("twice.ptx", PTX).unwrap();
    let function = module.function("twice", 0).unwrap();
    let mut graph = context.graph().unwrap();
    graph.launch(&function, [[1; 3], [32, 1, 1]], 0, &[0, 0]).unwrap();
    assert!(graph.launch(&function, [[1; 3], [32, 1, 1]], 0, &[0; 25]).is_err());
    let mut graph = graph.finish().unwrap();
    let error = graph.set_launch(1, &function, [[1; 3], [32, 1, 1]], 0, &[0, 0]).unwrap_err();
    assert_eq!(error.to_string(), "graph: launch 1 of 1");
}

#[test]
fn what_the_compiler_says_is_in_the_error() {
    StandIn::start(Settings { refused: vec![".target sm_53"], ..Settings::default() });
    let error = everything().unwrap_err().to_string();
    assert!(error.contains("twice.ptx: ptxas fatal: refused; line 2"), "{error}");
    StandIn::start(Settings::default());
    let context = stand_in::reopen().unwrap().context(0).unwrap();
    let error = context.module("twice.ptx", PTX).unwrap().function("thrice", 0).err().unwrap();
    assert!(error.to_string().contains("thrice"), "{error}");
    assert!(context.module("zero.ptx", "a\0b").is_err());
}

#[test]
fn sizes_that_do_not_fit_are_refused_before_the_driver_is_asked() {
    let context = stand_in::open(Settings::default()).unwrap().context(0).unwrap();
    let stream = context.stream().unwrap();
    let memory = context.allocate("case", 64).unwrap();
    let mut host = context.allocate_host("case", 32).unwrap();
    let calls = StandIn::with(|all| all.calls.len());
    assert!(stream.upload(&mut host, &memory, 0, 33).is_err());
    assert!(stream.upload(&mut host, &memory, 60, 8).is_err());
    assert!(stream.download(&memory, usize::MAX, &mut host, 8).is_err());
    assert_eq!(StandIn::with(|all| all.calls.len()), calls);
    let error = context.allocate("much", 1 << 40).err().unwrap();
    assert_eq!(error, Error::Memory { what: "much", bytes: 1 << 40, left: None });
}

#[test]
fn an_unknown_device_is_refused_with_the_number_of_those_there() {
    let driver = stand_in::open(Settings::default()).unwrap();
    let error = driver.context(2).err().unwrap();
    assert_eq!(error.to_string(), "device: there is no cuda:2; the driver knows 2 GPUs");
    assert_eq!(driver.context(1).unwrap().info().compute, 90);
}

#[test]
fn without_a_driver_opening_is_an_error() {
    match Driver::open() {
        Ok(driver) => assert!(driver.version().unwrap() >= 10020),
        Err(error) => {
            assert!(matches!(error, Error::Device { lost: false, .. }), "{error}");
            assert_eq!(Driver::open().err(), Some(error), "the answer stays");
        }
    }
}
