//! The interpreter itself: each kind of failure is found in a small kernel that has it, and not in the same one without it.

use super::launch::{Arg, Kernels};
use super::memory::Memory;
use super::program::Program;
use super::text::Line;

/// A kernel of 64 threads with one operand to read (64 words) and one to write (64 words).
fn parsed(body: &str) -> Result<Program, String> {
    let text = format!(
        ".version 6.0\n.target sm_53\n.address_size 64\n.visible .entry triplet_probe(\n.param .u64 out,\n.param .u64 x\n)\n\
         .reqntid 64, 1, 1\n{{\n.shared .align 8 .b8 memory[256];\n.reg .pred %p_a, %p_b;\n.reg .b32 %r_thread, %r_a, %r_b, %r_at;\n\
         .reg .b64 %u_x, %u_out, %u_place;\nmov.u32 %r_thread, %tid.x;\nmul.wide.u32 %u_place, %r_thread, 4;\n\
         ld.param.u64 %u_x, [x];\nadd.u64 %u_x, %u_x, %u_place;\nld.param.u64 %u_out, [out];\nadd.u64 %u_out, %u_out, %u_place;\n\
         mov.u32 %r_at, memory;\nmad.lo.u32 %r_at, %r_thread, 4, %r_at;\n{body}\nret;\n}}\n"
    );
    let lines = text
        .lines()
        .enumerate()
        .map(|(i, text)| Line { origin: format!("probe:{i}"), text: text.to_owned() });
    Program::new(lines.collect())
}

/// Runs a body; gives what it wrote.
fn run(body: &str) -> Result<Vec<u32>, String> {
    let memory = Memory::new();
    let x = memory.words(&(0..64).collect::<Vec<u32>>());
    let out = memory.room(256, 0);
    let kernels = Kernels::with("probe", parsed(body).unwrap(), 100_000);
    kernels.launch("probe", [1, 1, 1], 64, 0, &[Arg::Address(out), Arg::Address(x)], &memory)?;
    memory.read(out, 64)
}

#[track_caller]
fn fails(body: &str, with: &str) {
    let what = run(body).unwrap_err();
    assert!(what.contains(with), "{what}");
}

const COPY: &str = "ld.global.nc.u32 %r_a, [%u_x];\nst.global.u32 [%u_out], %r_a;";
/// Every thread reads what the thread 32 places on wrote.
const EXCHANGE: &str = "st.shared.u32 [%r_at], %r_thread;\nBARRIER\nadd.u32 %r_a, %r_thread, 32;\nand.b32 %r_a, %r_a, 63;\n\
                        mov.u32 %r_at, memory;\nmad.lo.u32 %r_at, %r_a, 4, %r_at;\nld.shared.u32 %r_a, [%r_at];\n\
                        st.global.u32 [%u_out], %r_a;";

#[test]
fn healthy_kernels_pass() {
    assert_eq!(run(COPY).unwrap(), (0..64).collect::<Vec<_>>());
    let exchanged = run(&EXCHANGE.replace("BARRIER", "bar.sync 0;")).unwrap();
    assert_eq!(exchanged, (32..64).chain(0..32).collect::<Vec<_>>());
}

#[test]
fn global_accesses_are_checked() {
    fails(&COPY.replace("[%u_x]", "[%u_x + 4]"), "byte 256 of a global operand of 256 bytes");
    fails(&COPY.replace("[%u_out]", "[%u_out + 4]"), "byte 256");
    fails(&COPY.replace("[%u_x]", "[%u_x + 2]"), "misaligned");
    fails(&COPY.replace("ld.global.nc.u32 %r_a, [%u_x]", "ld.global.u32 %r_a, [%u_out]"), "hold nothing");
    fails("ld.param.u64 %u_out, [out];\nst.global.u32 [%u_out], %r_thread;", "another thread wrote");
    fails("st.global.u32 [%u_x], %r_thread;", "constant");
    let own = "st.global.u32 [%u_out], %r_thread;\nld.global.nc.u32 %r_a, [%u_out];";
    fails(own, "this launch wrote");
    let partly = "setp.lt.u32 %p_a, %r_thread, 63;\n@%p_a st.global.u32 [%u_out], %r_thread;";
    fails(partly, "element 63 of the output was not written");
}

#[test]
fn registers_hold_something_before_they_are_read() {
    fails("st.global.u32 [%u_out], %r_a;", "a register that holds nothing in lanes 0xffffffff");
    let partly = "setp.lt.u32 %p_a, %r_thread, 40;\n@%p_a mov.u32 %r_a, 1;\nst.global.u32 [%u_out], %r_a;";
    fails(partly, "in lanes 0xffffff00");
    fails("@%p_a bra END;\nEND:", "a register that holds nothing");
    fails("mov.u32 %r_a, 0;\ndiv.u32 %r_a, %r_thread, %r_a;", "divides by zero");
}

#[test]
fn shared_accesses_are_ordered_by_barriers() {
    let what = run(&EXCHANGE.replace("BARRIER", "")).unwrap_err();
    assert!(what.contains("without a barrier") || what.contains("holds nothing"), "{what}");
    fails(&EXCHANGE.replace("BARRIER", "bar.warp.sync 0xffffffff;"), "shared address");
    fails("ld.shared.u32 %r_a, [%r_at];", "holds nothing");
    fails("st.shared.u32 [%r_at + 4], %r_thread;", "belongs to nothing");
    fails("mov.u32 %r_at, memory;\nst.shared.u32 [%r_at], %r_thread;", "without a barrier after thread");
    let again = format!(
        "{}\nmov.u32 %r_at, memory;\nmad.lo.u32 %r_at, %r_thread, 4, %r_at;\nst.shared.u32 [%r_at], %r_a;",
        EXCHANGE
    );
    // Which of the two threads is seen first is the seed's choice.
    let what = run(&again.replace("BARRIER", "bar.sync 0;")).unwrap_err();
    assert!(what.contains("since the last barrier") || what.contains("without a barrier"), "{what}");
}

#[test]
fn lanes_of_a_warp_exchange_behind_its_barrier() {
    let within = "st.shared.u32 [%r_at], %r_thread;\nBARRIER\nxor.b32 %r_a, %r_thread, 1;\nmov.u32 %r_at, memory;\n\
                  mad.lo.u32 %r_at, %r_a, 4, %r_at;\nld.shared.u32 %r_a, [%r_at];\nst.global.u32 [%u_out], %r_a;";
    assert!(run(&within.replace("BARRIER", "bar.warp.sync 0xffffffff;")).is_ok());
    fails(&within.replace("BARRIER", ""), "without a barrier");
}

#[test]
fn barriers_are_reached_by_all_threads() {
    fails("setp.lt.u32 %p_a, %r_thread, 40;\n@%p_a bra END;\nbar.sync 0;\nEND:", "do not reach together");
    fails(
        "setp.lt.u32 %p_a, %r_thread, 32;\n@%p_a bra END;\nbar.sync 0;\nEND:",
        "has ended before this barrier",
    );
    let unequal = "setp.lt.u32 %p_a, %r_thread, 32;\n@%p_a bra OTHER;\nbar.sync 0;\nbra END;\nOTHER:\nbar.sync 0;\nEND:";
    fails(unequal, "different barriers");
    fails(
        "setp.lt.u32 %p_a, %r_thread, 40;\n@%p_a shfl.sync.bfly.b32 %r_a, %r_thread, 1, 31, 0xffffffff;",
        "misses lanes",
    );
    fails("LOOP:\nbra LOOP;", "runs on");
}

#[test]
fn copies_arrive_when_they_are_waited_for() {
    let copy = "and.b32 %r_b, %r_thread, 3;\nsetp.eq.u32 %p_a, %r_b, 0;\n\
                @%p_a cp.async.cg.shared.global [%r_at], [%u_x], 16, 16;\ncp.async.commit_group;\nWAIT\nBARRIER\n\
                ld.shared.u32 %r_a, [%r_at];\nst.global.u32 [%u_out], %r_a;";
    let (wait, barrier) = ("cp.async.wait_group 0;", "bar.sync 0;");
    let whole = |text: &str| text.replace("WAIT", wait).replace("BARRIER", barrier);
    let both = run(&whole(copy));
    assert_eq!(both.unwrap(), (0..64).collect::<Vec<_>>());
    fails(&copy.replace("WAIT", "").replace("BARRIER", barrier), "holds nothing");
    fails(&copy.replace("WAIT", "cp.async.wait_group 1;").replace("BARRIER", barrier), "holds nothing");
    fails(&copy.replace("WAIT", wait).replace("BARRIER", ""), "without a barrier");
    fails(&whole(copy).replace("[%r_at], [", "[%r_at + 4], ["), "misaligned");
    fails(&whole(copy).replace("[%u_x], 16, 16", "[%u_x + 16], 16, 16"), "byte 256");
}

#[test]
fn unknown_text_is_refused() {
    for (body, what) in [
        ("frob.u32 %r_a, %r_b;", "unknown instruction"),
        ("mov.u32 %r_none, 1;", "no register"),
        ("bra NOWHERE;", "no label"),
        ("add.u32 %r_a, %r_b;", "operand"),
        ("add.u32 %r_a, %r_b, 1, 2;", "operands are expected"),
        ("ld.shared.v4.u32 {%r_a, %r_b}, [%r_at];", "wrong number of elements"),
    ] {
        let Err(message) = parsed(body) else { panic!("{body} is read") };
        assert!(message.contains(what), "{message}");
    }
}
