//! The backend over a driver that fails: at every call, and with what a driver gives there.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use triplet::backend::{Attention, AttentionMask, Backend, Epilogue, Operands, SelectToken, Weight};
use triplet::cuda::{Cuda, Kernel, Parameter};
use triplet::weights::{Dtype, Quantised, Scheme, Tensor};
use triplet::{Error, Result};

use crate::stand_in::{self, Launch, Memory, Settings, StandIn};

/// Opens a device, stores a weight, and computes three frames of one shape; kernels are not executed.
fn frames() -> Result<()> {
    let cuda = Cuda::without_self_test(&stand_in::reopen()?, 0)?;
    let storage = Arc::new(vec![0u8; 8 * 8 * 2]);
    let tensor = Tensor::new("weight".into(), Dtype::F16, vec![8, 8], storage, 0..128)?;
    let weight = Weight::new(cuda.store(&tensor)?, &[8, 8]);
    let (bytes, scales) = (Arc::new(vec![0u8; 16]), Arc::new(vec![0u8; 4]));
    let scales = Tensor::new("scales".into(), Dtype::F32, vec![1, 1], scales, 0..4)?;
    let matrix = Quantised::new("integers".into(), Scheme::Int4, [1, 32], bytes, 0..16, scales)?;
    let quantised = Weight::new(cuda.store_quantised(&matrix)?, &[1, 32]);
    for _ in 0..3 {
        let x = cuda.upload(3, 8, &[0.5; 24])?;
        let y = cuda.linear(x.view(), &weight, None, Epilogue::NONE)?;
        let y = cuda.rope(y.view(), 1, 0, &[1.0, 0.5, 0.2, 0.1])?;
        let attention = Attention {
            heads: 2,
            kv_heads: 1,
            scale: 1.0,
            soft_cap: None,
            mask: AttentionMask::Full,
            operands: Operands::Exact,
        };
        let k = y.view().col_range(0..4)?;
        let z = cuda.attention(y.view(), k, k, &attention)?;
        cuda.download(cuda.gather(z.view(), &[2, 0])?.view().col_range(1..5)?)?;
        cuda.is_finite(z.view())?;
        let candidates = &mut Vec::new();
        let (temperature, top_k, top_p, uniform) = (1.0, 4, 0.9, 0.5);
        let mut select = SelectToken { allowed: &[7], temperature, top_k, top_p, uniform, candidates };
        cuda.select_token(y.view().row_range(0..1)?, &mut select)?;
        let x = cuda.upload(5, 32, &[0.25; 160])?;
        cuda.linear(x.view(), &quantised, None, Epilogue::NONE)?;
        cuda.linear(x.view().row_range(0..1)?, &quantised, None, Epilogue::NONE)?;
    }
    cuda.synchronize()
}

/// Calls whose failure is nobody's: what gives something back, and what graphs need, without which launches go one by one.
const HARMLESS: [&str; 15] = [
    "cuDevicePrimaryCtxRelease",
    "cuCtxPopCurrent",
    "cuMemFree",
    "cuMemFreeHost",
    "cuStreamDestroy",
    "cuEventDestroy",
    "cuModuleUnload",
    "cuGraphExecDestroy",
    "cuGraphDestroy",
    "cuGraphCreate",
    "cuGraphAddKernelNode",
    "cuGraphAddMemsetNode",
    "cuGraphInstantiateWithFlags",
    "cuGraphExecKernelNodeSetParams",
    // What asks for it is a kernel that can be done without.
    "cuFuncSetAttribute",
];

#[test]
fn a_failure_at_any_call_is_an_error_or_harmless_and_leaks_nothing() {
    StandIn::start(Settings::default());
    frames().unwrap();
    let calls = StandIn::with(|all| {
        assert!(all.leaks().is_empty() && all.misuse.is_empty(), "{:?} {:?}", all.leaks(), all.misuse);
        assert!(all.from_graphs > 0);
        all.calls.clone()
    });
    let (mut refused, mut harmless) = (0, 0);
    for (index, &call) in calls.iter().enumerate() {
        // Loading repeats itself for every kernel, and the frames are one another's: the first and the last calls of a name.
        let earlier = calls[..index].iter().filter(|&&other| other == call).count();
        let later = calls[index..].iter().filter(|&&other| other == call).count();
        if earlier >= 5 && later > 5 {
            continue;
        }
        for code in [1, 2, 700, 31337] {
            StandIn::start(Settings { fail: Some((index, code)), ..Settings::default() });
            let result = catch_unwind(AssertUnwindSafe(frames)).unwrap_or_else(|_| panic!("{call}: {code}"));
            let leaks = StandIn::with(|all| all.leaks());
            assert!(leaks.is_empty(), "{call} with {code}: {leaks:?}");
            match result {
                Ok(()) => {
                    let fine = HARMLESS.contains(&call)
                        || before_harmless(&calls, index)
                        // A smaller chunk was to be had.
                        || (call == "cuMemAlloc" && code == 2)
                        || (call == "cuGraphLaunch" && code != 700);
                    assert!(fine, "{call} at {index} with {code} went unnoticed");
                    harmless += 1;
                }
                Err(Error::Device { call: named, reason, .. }) => {
                    assert!(named == call && reason.contains(&code.to_string()), "{call}: {named} {reason}");
                    refused += 1;
                }
                Err(Error::Memory { bytes, .. }) => {
                    assert!(code == 2 && bytes > 0, "{call}");
                    refused += 1;
                }
                Err(error) => panic!("{call} with {code}: {error}"),
            }
        }
    }
    println!("{} calls, {refused} refused, {harmless} harmless", calls.len());
    assert!(refused > 200);
}

/// Whether the context was made current at `index` for a harmless call, or to wait before everything goes.
fn before_harmless(calls: &[&str], index: usize) -> bool {
    let last = calls.iter().rposition(|&call| call == "cuStreamSynchronize");
    let next = calls.get(index + 1);
    // What comes after the last wait gives back.
    last.is_some_and(|last| index + 1 >= last)
        || calls[index] == "cuCtxPushCurrent" && next.is_some_and(|next| HARMLESS.contains(next))
}

#[test]
fn without_graphs_launches_go_one_by_one() {
    for missing in ["cuGraphCreate", "cuGraphExecKernelNodeSetParams"] {
        StandIn::start(Settings { missing: vec![missing], ..Settings::default() });
        frames().unwrap();
        StandIn::with(|all| {
            assert!(
                all.from_graphs == 0 && all.launches.len() > 9 && all.misuse.is_empty(),
                "{:?}",
                all.misuse
            );
        });
    }
}

#[test]
fn when_memory_runs_out_the_error_says_for_what_and_a_smaller_chunk_is_tried() {
    // Less than a chunk of the pool: blocks then get chunks of their own size.
    StandIn::start(Settings { memory: 8 << 20, ..Settings::default() });
    frames().unwrap();
    StandIn::start(Settings { memory: 8 << 20, ..Settings::default() });
    let cuda = Cuda::without_self_test(&stand_in::reopen().unwrap(), 0).unwrap();
    let kept = cuda.zeros(1 << 20, 1).unwrap();
    let error = cuda.zeros(2 << 20, 1).err().unwrap();
    assert_eq!(error, Error::Memory { what: "zeros", bytes: 8 << 20, left: Some(4 << 20) });
    drop(kept);
    assert!(cuda.zeros(1 << 20, 1).is_ok(), "what is there serves again");
}

#[test]
fn every_address_that_a_kernel_gets_lies_in_memory_of_the_device_or_is_null() {
    for integrated in [false, true] {
        let execute = Rc::new(move |launch: &Launch, memory: Memory| {
            let kernels = Kernel::ALL.iter().map(|kernel| kernel.signature());
            let signature = kernels.into_iter().find(|signature| signature.entry == launch.entry).unwrap();
            assert_eq!(launch.parameters.len(), signature.parameters.len());
            for (&address, (kind, name)) in launch.parameters.iter().zip(signature.parameters) {
                let on_device = memory.device.range(..=address).next_back();
                let on_device = on_device.is_some_and(|(start, bytes)| address < start + bytes.len() as u64);
                let on_host = memory.host.range(..=address).next_back();
                let on_host = on_host.is_some_and(|(start, words)| address < start + 8 * words.len() as u64);
                // Weights lie on the host where memory is shared; numbers that were made of integers do not.
                let is_weight = ["weight", "weight_scale"].contains(name) && integrated;
                let fine = address == 0 || on_device || (is_weight && on_host);
                assert!(*kind != Parameter::U64 || fine, "{}: {name} {address:#x}", launch.entry);
            }
            0
        });
        StandIn::start(Settings { integrated, execute: Some(execute), ..Settings::default() });
        frames().unwrap();
        StandIn::with(|all| assert!(all.launches.len() > 9 && all.misuse.is_empty(), "{:?}", all.misuse));
    }
}
