//! The interpreter itself: each kind of failure is found in a small kernel that has it, and not in the same one without it.

use super::launch::{Arg, Kernels};
use super::memory::Memory;
use super::program::Program;
use super::text::Line;

/// A kernel of 64 threads with one operand to read (64 words) and one to write (64 words).
fn parsed(body: &str) -> Result<Program, String> {
    let text = format!(
        ".version 6.0\n.target sm_53\n.address_size 64\n.visible .entry triplet_probe(\n.param .u64 out,\n.param .u64 x\n)\n\
         .reqntid 64, 1, 1\n{{\n.shared .align 16 .b8 memory[256];\n.reg .pred %p_a, %p_b;\n.reg .b32 %r_thread, %r_a, %r_b, %r_c, %r_d, %r_at;\n\
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
fn matrices_are_loaded_by_all_lanes_from_what_is_written_and_aligned() {
    // 32 rows of 16 bytes would be more than there is: the lanes of a warp name 16 rows twice.
    let load = "st.shared.u32 [%r_at], %r_thread;\nBARRIER\nand.b32 %r_a, %r_thread, 15;\nmov.u32 %r_at, memory;\n\
                mad.lo.u32 %r_at, %r_a, 16, %r_at;\n\
                ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r_a, %r_b, %r_c, %r_d}, [%r_at];\nst.global.u32 [%u_out], %r_b;";
    let healthy = load.replace("BARRIER", "bar.sync 0;");
    // Of the second matrix, rows 8 to 15, lane 4 g + t has word t of row g.
    let word = |lane: u32| 4 * (8 + lane / 4) + lane % 4;
    assert_eq!(run(&healthy).unwrap(), (0..64).map(|thread| word(thread % 32)).collect::<Vec<_>>());
    fails(&load.replace("BARRIER", ""), "shared address");
    fails(&healthy.replace("[%r_at];\nst.global", "[%r_at + 4];\nst.global"), "misaligned");
    fails(&healthy.replace("%r_a, 16, %r_at", "%r_a, 32, %r_at"), "belongs to nothing");
    let partly = healthy.replace("ldmatrix", "setp.lt.u32 %p_a, %r_thread, 40;\n@%p_a ldmatrix");
    fails(&partly, "misses lanes");
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

/// A kernel of 160 threads: warp 4 brings two rows of 2048 bytes, all of zeros but for ones of f16 in the diagonal, as the right matrix
/// [2][128][8] of a product whose left one the warp group makes of its lanes' numbers; it writes the sums of 128 columns.
const GROUP: &str = "
.version 8.0
.target sm_90a
.address_size 64
.extern .shared .align 128 .b8 memory[];
.visible .entry triplet_probe(
.param .u64 out,
.param .u64 x
)
.reqntid 160, 1, 1
{
.reg .pred %p_a, %p_none, %p_ready;
.reg .b32 %r_thread, %r_at, %r_a, %r_left<4>;
.reg .f32 %f_sum<64>;
.reg .b64 %u_x, %u_out, %u_place, %u_state, %u_right;
mov.u32 %r_thread, %tid.x;
mov.u32 %r_at, memory;
setp.ne.u32 %p_a, %r_thread, 128;
@%p_a bra MADE;
mbarrier.init.shared::cta.b64 [%r_at], 1;
fence.proxy.async.shared::cta; // made
MADE:
bar.sync 0;
setp.lt.u32 %p_a, %r_thread, 128;
@%p_a bra MULTIPLY;
setp.ne.u32 %p_a, %r_thread, 128;
@%p_a bra END;
ld.param.u64 %u_x, [x];
mbarrier.arrive.expect_tx.shared::cta.b64 %u_state, [%r_at], 4096;
cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r_at + 128], [%u_x], 4096, [%r_at];
bra END;
MULTIPLY:
mov.u32 %r_left0, 0x3c004000;
mov.u32 %r_left1, 0x3c004000;
mov.u32 %r_left2, 0x3c004000;
mov.u32 %r_left3, 0x3c004000;
mov.pred %p_none, 0;
WAIT:
mbarrier.try_wait.parity.shared::cta.b64 %p_ready, [%r_at], 0;
@!%p_ready bra WAIT;
add.u32 %r_a, %r_at, 128;
shr.u32 %r_a, %r_a, 4;
cvt.u64.u32 %u_right, %r_a;
or.b64 %u_right, %u_right, 0x0000000800800000;
wgmma.fence.sync.aligned;
wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {SUMS}, {%r_left0, %r_left1, %r_left2, %r_left3}, %u_right, %p_none, 1, 1, 0;
wgmma.commit_group.sync.aligned;
wgmma.wait_group.sync.aligned 0;
ld.param.u64 %u_out, [out];
mul.wide.u32 %u_place, %r_thread, 4;
add.u64 %u_out, %u_out, %u_place;
st.global.f32 [%u_out], %f_sum4;
END:
ret;
}
";

/// Runs [`GROUP`] with a line changed; gives what it wrote.
fn run_group(from: &str, to: &str) -> Result<Vec<u32>, String> {
    assert!(from.is_empty() || GROUP.contains(from), "{from}");
    let sums: Vec<String> = (0..64).map(|i| format!("%f_sum{i}")).collect();
    let text = if from.is_empty() { GROUP.to_owned() } else { GROUP.replace(from, to) };
    let text = text.trim_start().replace("SUMS", &sums.join(", "));
    let lines = text
        .lines()
        .enumerate()
        .map(|(i, text)| Line { origin: format!("group:{}", i + 1), text: text.to_owned() });
    let memory = Memory::new();
    // One of every column j at k = j mod 16.
    let mut right = vec![0; 4096];
    for col in 0..128 {
        let at = col % 16 / 8 * 2048 + col * 16 + col % 8 * 2;
        right[at..at + 2].copy_from_slice(&0x3c00u16.to_le_bytes());
    }
    let (x, out) = (memory.bytes(&right, 0), memory.room(4 * 128, 0));
    let kernels = Kernels::with("probe", Program::new(lines.collect())?, 100_000);
    kernels.launch("probe", [1, 1, 1], 160, 128 + 4096, &[Arg::Address(out), Arg::Address(x)], &memory)?;
    memory.read(out, 128)
}

#[track_caller]
fn group_fails(from: &str, to: &str, with: &str) {
    let what = run_group(from, to).unwrap_err();
    assert!(what.contains(with), "{what}");
}

#[test]
fn products_of_warp_groups_wait_and_fence() {
    assert_eq!(run_group("", "").unwrap(), [2f32.to_bits(); 128]);
    group_fails("wgmma.fence.sync.aligned;", "", "without wgmma.fence");
    group_fails("wgmma.wait_group.sync.aligned 0;", "", "not waited for");
    group_fails("wgmma.wait_group.sync.aligned 0;", "wgmma.wait_group.sync.aligned 1;", "not waited for");
    group_fails("wgmma.commit_group.sync.aligned;", "", "not waited for");
    group_fails("wgmma.commit_group", "mov.u32 %r_left2, 0;\nwgmma.commit_group", "not waited for");
    group_fails("0x0000000800800000", "0x4000000800800000", "without swizzling");
    group_fails("0x0000000800800000", "0x0000000800810000", "belongs to nothing");
    group_fails("%p_none, 1, 1, 0;", "%p_a, 1, 1, 0;", "holds nothing");
    group_fails(
        "MULTIPLY:\n",
        "MULTIPLY:\nsetp.lt.u32 %p_a, %r_thread, 40;\n@%p_a bra END;\n",
        "misses lanes",
    );
    group_fails(
        "MULTIPLY:\n",
        "MULTIPLY:\nsetp.lt.u32 %p_a, %r_thread, 32;\n@%p_a bra END;\n",
        "multiply differently",
    );
    let crooked = run_group("0x0000000800800000", "0x0000000700800000").unwrap();
    assert_ne!(crooked, [2f32.to_bits(); 128]);
}

#[test]
fn mbarriers_count_arrivals_and_bytes() {
    // Whether the copy has come is the seed's choice.
    for (from, to) in [("@!%p_ready bra WAIT;", ""), ("[%r_at], 0;", "[%r_at], 1;")] {
        let what = run_group(from, to).unwrap_err();
        assert!(what.contains("holds nothing") || what.contains("have seen written"), "{what}");
    }
    group_fails("fence.proxy.async.shared::cta; // made", "", "without a fence after it was made");
    group_fails("[%r_at], 1;", "[%r_at], 2;", "never ends");
    group_fails("[%r_at], 4096;", "[%r_at], 4112;", "never ends");
    group_fails("[%r_at], 4096;", "[%r_at], 4080;", "never ends");
    group_fails("MADE:\nbar.sync 0;", "MADE:", "mbarrier");
    group_fails("[%u_x], 4096, ", "[%u_x], 4112, ", "byte 4096");
    group_fails("[%u_x], 4096, ", "[%u_x], 4088, ", "copies 4088 bytes");
    group_fails("[%r_at + 128], [%u_x]", "[%r_at + 144], [%u_x]", "belongs to nothing");
    group_fails("[%r_at + 128], [%u_x]", "[%r_at + 136], [%u_x]", "misaligned");
    group_fails("[%r_at + 128], [%u_x]", "[%r_at + 128], [%u_x + 8]", "misaligned global");
    group_fails(
        "bra END;\nMULTIPLY",
        "st.shared.u32 [%r_at + 128], %r_at;\nbra END;\nMULTIPLY",
        "without a barrier",
    );
    let early = "st.shared.u32 [%r_at + 128], %r_at;\nmbarrier.arrive.expect_tx";
    group_fails("mbarrier.arrive.expect_tx", early, "without a fence between the proxies");
    let twice = "mbarrier.arrive.shared::cta.b64 %u_state, [%r_at];\nbra END;\nMULTIPLY";
    let what = run_group("bra END;\nMULTIPLY", twice);
    // The second phase begins before anybody asks for the first, or the arrival is one too many.
    assert!(what.is_err());
}
