//! The integer product with AMX: tiles of sixteen rows by sixteen columns whose products a matrix unit adds.
//!
//! Weights and activations are both signed here, so that no sum needs a fix. With weights of eight bits, tiles of sums stay in
//! registers over the whole of `k`. With weights of four, sums of a group are exact, and what follows is the chain of the other
//! instruction sets, so that the bits are those of [`Avx512Vnni`]. A few rows go by VNNI.

use core::arch::asm;
use core::arch::x86_64::*;

use super::avx512_bytes;
use super::avx512_dots::{COLS, N, check_pack};
use super::avx512_panels::pack;
use super::bytes::{Bytes, Digits, Left, STEP, Sums, TILE_ROWS, Tiles};
use super::dots::{CHUNK_GROUPS, Dots, Integer, Panel, QUAD, Row, Strip};
use super::isa::{Avx512, Avx512Amx, Avx512Vnni};
use super::lanes::LINE;
use crate::weights::{Dtype, GROUP};

/// Bytes of a tile's row, and of a tile.
const TILE_WIDTH: usize = 4 * N;
const TILE: usize = TILE_ROWS * TILE_WIDTH;

impl Bytes for Avx512Amx {
    const COLS: usize = COLS;
    const SIDE: usize = Avx512Vnni::SIDE;
    const TOTALS: bool = false;

    #[inline(always)]
    fn dot_bytes(self, strip: Strip<()>, x: Digits, out: &mut Sums) {
        self.0.dot_bytes(strip, x, out);
    }

    #[inline(always)]
    fn pack_bytes(self, strip: Strip<()>, panel: &mut [u8]) {
        avx512_bytes::check_pack(&strip, panel);
        // SAFETY: `self` proves AVX-512; lengths were checked.
        unsafe { avx512_bytes::pack(strip, 0, panel) }
    }

    type Tiles = Tiled;
    #[inline(always)]
    fn matrix_unit(self) -> Tiled {
        // SAFETY: `self` proves AMX; the shapes are within its limits, and given up with what is returned.
        unsafe { Shapes::new(TILE_ROWS, STEP).set() }
        Tiled(())
    }
}

/// Proof that the tiles have the shapes for [`whole_tiles`].
pub(super) struct Tiled(());

impl Tiles for Tiled {
    #[inline(always)]
    fn tiles_of_bytes(
        &self,
        rows: usize,
        x: [Left; 2],
        [panel, ahead]: [&[u8]; 2],
        adds: bool,
        sums: (&mut [i32], usize),
        beside: impl FnMut(&[i32]) -> bool,
    ) {
        let [x, below] = x.map(|x| x.cells);
        let (steps, both) = (x.len() / TILE, rows > TILE_ROWS);
        let (sums, at) = sums;
        assert!(below.len() >= steps * TILE && panel.len() >= steps * STEP * COLS);
        assert!(sums[at..].len() >= (1 + usize::from(both)) * TILE_ROWS * COLS);
        let from = [x.as_ptr(), below.as_ptr(), panel.as_ptr()];
        // SAFETY: `self` proves AMX and the shapes; lengths were checked.
        unsafe {
            match both {
                true => whole_tiles::<true>(from, steps, ahead, adds, (sums, at), beside),
                false => whole_tiles::<false>(from, steps, ahead, adds, (sums, at), beside),
            }
        }
    }
}

impl Drop for Tiled {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: `self` proves AMX; no tile is in use.
        unsafe { release() }
    }
}

impl Dots for Avx512Amx {
    type Lanes = Avx512;
    const DOT_COLS: usize = N;
    const TILE_ROWS: usize = TILE_ROWS;

    #[inline(always)]
    fn lanes(self) -> Avx512 {
        self.0.lanes()
    }

    #[inline(always)]
    fn dot_floats(self, strip: Strip<Dtype>, x: &[f32], out: &mut [f32]) {
        self.0.dot_floats(strip, x, out);
    }

    #[inline(always)]
    fn dot(self, strip: Strip<Integer>, x: Row, out: &mut [f32]) {
        self.0.dot(strip, x, out);
    }

    #[inline(always)]
    fn pack(self, strip: Strip<Integer>, first: usize, groups: usize, panel: &mut [u8], scales: &mut [f32]) {
        check_pack(&strip, groups, panel, scales);
        // SAFETY: `self` proves AVX-512; lengths were checked.
        unsafe { pack::<false>(strip, first, groups, panel, scales) }
    }

    #[inline(always)]
    fn tile(self, rows: &[Row], first: usize, panel: &Panel, c: &mut [f32]) {
        self.tiles(rows.len(), |i| rows[i], first, panel, c);
    }

    #[inline(always)]
    fn tiles<'a>(
        self,
        count: usize,
        row: impl Fn(usize) -> Row<'a>,
        first: usize,
        panel: &Panel,
        c: &mut [f32],
    ) {
        let whole = count / TILE_ROWS * TILE_ROWS;
        for (from, to, rows) in [(0, whole, TILE_ROWS), (whole, count, count - whole)] {
            if from == to {
                continue;
            }
            // SAFETY: `self` proves AMX; the shapes are within its limits. They are given up below.
            unsafe { Shapes::new(rows, GROUP / 2).set() }
            for start in (from..to).step_by(rows) {
                let left = Rows::new(rows, |i| row(start + i), first, panel.groups);
                check_panel(rows, panel, &c[start * COLS..]);
                // SAFETY: `self` proves AVX-512 and AMX, `Rows` and the check the lengths; the shapes are set.
                unsafe {
                    match rows {
                        TILE_ROWS => tile::<true>(left, panel, &mut c[start * COLS..]),
                        _ => tile::<false>(left, panel, &mut c[start * COLS..]),
                    }
                }
            }
        }
        // SAFETY: `self` proves AMX; no tile is in use.
        unsafe { release() }
    }
}

fn check_panel(rows: usize, panel: &Panel, c: &[f32]) {
    assert!((1..=TILE_ROWS).contains(&rows) && c.len() >= rows * COLS);
    assert!(panel.groups.is_multiple_of(CHUNK_GROUPS) && panel.cells.len() >= panel.groups * GROUP * COLS);
    assert!(panel.scales.len() >= panel.groups * COLS);
}

/// Shapes of the eight tiles, as `ldtilecfg` reads them: 0 to 3 sums, 4 and 5 activations, 6 and 7 weights.
#[repr(C, align(64))]
struct Shapes([u8; 64]);

impl Shapes {
    /// For tiles of `rows` rows whose products are over `depth` elements.
    fn new(rows: usize, depth: usize) -> Shapes {
        let mut bytes = [0; 64];
        bytes[0] = 1;
        for tile in 0..8 {
            let (rows, width) = match tile {
                0..4 => (rows, TILE_WIDTH),
                4..6 => (rows, depth),
                _ => (depth / QUAD, TILE_WIDTH),
            };
            (bytes[16 + 2 * tile], bytes[48 + tile]) = (width as u8, rows as u8);
        }
        Shapes(bytes)
    }

    /// Has the tiles take these shapes.
    ///
    /// # Safety
    /// AMX; shapes within its limits.
    #[inline(always)]
    unsafe fn set(&self) {
        // SAFETY: the caller's promise.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const self.0, options(readonly, nostack)) }
    }
}

/// Gives the tiles up.
///
/// # Safety
/// AMX.
#[inline(always)]
unsafe fn release() {
    // SAFETY: the caller's promise.
    unsafe { asm!("tilerelease", options(nomem, nostack)) }
}

/// [`Tiles::tiles_of_bytes`] over `steps` steps for one tile or `BOTH`. Each step brings up to eight cache lines of `ahead`
/// nearer, and calls `beside` once, whose work the matrix unit's hides.
///
/// # Safety
/// AMX with the shapes of [`Tiled`]; `steps` steps of activations of either tile and of a panel, and room for the sums. `beside`
/// leaves the tiles alone.
#[inline(always)]
unsafe fn whole_tiles<const BOTH: bool>(
    [mut x, mut below, mut panel]: [*const u8; 3],
    steps: usize,
    ahead: &[u8],
    adds: bool,
    (sums, at): (&mut [i32], usize),
    mut beside: impl FnMut(&[i32]) -> bool,
) {
    const WIDE: usize = 2 * TILE_WIDTH;
    // A step of a panel takes two tiles that lie side by side, as those of sums do.
    const { assert!(TILE == 1024 && STEP * COLS == 2048 && 4 * TILE_ROWS * COLS == 2048) };
    // Where eight lines are more than there are, most come again, which costs little.
    let pace = ahead.len().div_ceil(steps.max(1)).next_multiple_of(LINE).min(8 * LINE);
    let mut ahead = ahead.as_ptr();
    // SAFETY: the caller's promise; nothing else uses the tiles.
    unsafe {
        let c = sums.as_ptr().add(at);
        asm!(
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            options(nostack, nomem, preserves_flags),
        );
        if adds {
            asm!(
                "tileloadd tmm0, [{c} + {wide}*1]",
                "tileloadd tmm1, [{c} + {wide}*1 + 64]",
                c = in(reg) c,
                wide = in(reg) WIDE,
                out("tmm0") _, out("tmm1") _,
                options(nostack, readonly, preserves_flags),
            );
            if BOTH {
                asm!(
                    "tileloadd tmm2, [{c} + {wide}*1 + 2048]",
                    "tileloadd tmm3, [{c} + {wide}*1 + 2112]",
                    c = in(reg) c,
                    wide = in(reg) WIDE,
                    out("tmm2") _, out("tmm3") _,
                    options(nostack, readonly, preserves_flags),
                );
            }
        }
        let mut left = true;
        for _ in 0..steps {
            // The panel is to stay in the nearest cache, activations only pass.
            asm!(
                "tileloadd tmm6, [{panel} + {wide}*1]",
                "tileloaddt1 tmm4, [{x} + {narrow}*1]",
                "tdpbssd tmm0, tmm4, tmm6",
                "prefetcht1 [{ahead}]",
                "prefetcht1 [{ahead} + 64]",
                "prefetcht1 [{ahead} + 128]",
                "prefetcht1 [{ahead} + 192]",
                "tileloadd tmm7, [{panel} + {wide}*1 + 64]",
                "tdpbssd tmm1, tmm4, tmm7",
                "prefetcht1 [{ahead} + 256]",
                "prefetcht1 [{ahead} + 320]",
                "prefetcht1 [{ahead} + 384]",
                "prefetcht1 [{ahead} + 448]",
                x = in(reg) x,
                panel = in(reg) panel,
                ahead = in(reg) ahead,
                wide = in(reg) WIDE,
                narrow = in(reg) TILE_WIDTH,
                out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                options(nostack, readonly, preserves_flags),
            );
            if BOTH {
                asm!(
                    "tileloaddt1 tmm5, [{below} + {narrow}*1]",
                    "tdpbssd tmm2, tmm5, tmm6",
                    "tdpbssd tmm3, tmm5, tmm7",
                    below = in(reg) below,
                    narrow = in(reg) TILE_WIDTH,
                    out("tmm2") _, out("tmm3") _, out("tmm5") _,
                    options(nostack, readonly, preserves_flags),
                );
            }
            left = left && beside(sums);
            x = x.wrapping_add(TILE);
            below = below.wrapping_add(TILE);
            panel = panel.wrapping_add(STEP * COLS);
            ahead = ahead.wrapping_add(pace);
        }
        while left {
            left = beside(sums);
        }
        let c = sums.as_mut_ptr().add(at);
        asm!(
            "tilestored [{c} + {wide}*1], tmm0",
            "tilestored [{c} + {wide}*1 + 64], tmm1",
            c = in(reg) c,
            wide = in(reg) WIDE,
            options(nostack, preserves_flags),
        );
        if BOTH {
            asm!(
                "tilestored [{c} + {wide}*1 + 2048], tmm2",
                "tilestored [{c} + {wide}*1 + 2112], tmm3",
                c = in(reg) c,
                wide = in(reg) WIDE,
                options(nostack, preserves_flags),
            );
        }
    }
}

/// Rows of activations, equally far apart.
#[derive(Clone, Copy)]
struct Rows {
    rows: usize,
    /// Integers and scales of the first row, from the panel's first group on.
    q: *const u8,
    scales: *const f32,
    /// Bytes from row to row.
    stride: usize,
}

impl Rows {
    /// Checks that `groups` groups from group `first` on are there in every row.
    fn new<'a>(rows: usize, row: impl Fn(usize) -> Row<'a>, first: usize, groups: usize) -> Rows {
        let top = row(0);
        let stride = if rows > 1 { row(1).q.as_ptr().addr().wrapping_sub(top.q.as_ptr().addr()) } else { 0 };
        let end = first + groups;
        assert!(first.is_multiple_of(CHUNK_GROUPS));
        for i in 0..rows {
            let Row { q, scales, .. } = row(i);
            assert!(q.len() >= end * GROUP && scales.len() >= end);
            assert!(q.as_ptr() == top.q.as_ptr().wrapping_add(i * stride));
            assert!(scales.as_ptr() == top.scales.as_ptr().wrapping_byte_add(i * stride));
        }
        Rows { rows, q: top.q[first * GROUP..].as_ptr(), scales: top.scales[first..].as_ptr(), stride }
    }
}

/// Sums of a chunk's groups.
#[repr(C, align(64))]
struct ChunkSums([i32; CHUNK_GROUPS * TILE / 4]);

/// Continues the sums of some rows over a panel; `FULL` says that there are sixteen.
///
/// # Safety
/// AVX-512 and AMX with the right [`Shapes`]; `check_panel`.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,f16c")]
unsafe fn tile<const FULL: bool>(left: Rows, panel: &Panel, c: &mut [f32]) {
    let rows = if FULL { TILE_ROWS } else { left.rows.min(TILE_ROWS) };
    let chunks = panel.groups / CHUNK_GROUPS;
    let mut sums = [const { ChunkSums([0; CHUNK_GROUPS * TILE / 4]) }; 2];
    for half in 0..COLS / N {
        // SAFETY: the caller's promise.
        unsafe {
            let c = c.as_mut_ptr().add(half * N);
            let cells = panel.cells.as_ptr().add(half * TILE_WIDTH);
            let scales = panel.scales.as_ptr().wrapping_add(half * N);
            let mut totals = [_mm512_setzero_ps(); TILE_ROWS];
            for (i, total) in totals.iter_mut().enumerate().take(rows) {
                *total = _mm512_loadu_ps(c.add(i * COLS));
            }
            // The matrix unit works on a chunk while the vectors take the sums of the one before.
            for chunk in 0..=chunks {
                if chunk < chunks {
                    let q = left.q.add(chunk * CHUNK_GROUPS * GROUP);
                    let cells = cells.add(chunk * CHUNK_GROUPS * GROUP * COLS);
                    multiply(q, left.stride, cells, &mut sums[chunk % 2]);
                }
                let Some(chunk) = chunk.checked_sub(1) else { continue };
                let sums = sums[chunk % 2].0.as_ptr();
                for group in 0..CHUNK_GROUPS {
                    let at = chunk * CHUNK_GROUPS + group;
                    let weight_scales = _mm512_loadu_ps(scales.add(at * COLS));
                    for (i, total) in totals.iter_mut().enumerate().take(rows) {
                        let sums = _mm512_load_si512(sums.add((group * TILE_ROWS + i) * N).cast());
                        let sums = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), weight_scales);
                        let scale = _mm512_set1_ps(*left.scales.byte_add(i * left.stride).add(at));
                        *total = _mm512_fmadd_ps(sums, scale, *total);
                    }
                }
            }
            for (i, &total) in totals.iter().enumerate().take(rows) {
                _mm512_storeu_ps(c.add(i * COLS), total);
            }
        }
    }
}

/// Products of the four groups of a chunk.
///
/// # Safety
/// AMX with the right [`Shapes`]; a chunk of activations in rows `stride` bytes apart at `q`, one of a panel at `cells`.
#[inline(always)]
unsafe fn multiply(q: *const u8, stride: usize, cells: *const u8, sums: &mut ChunkSums) {
    // A group of a panel takes 1024 bytes, eight rows of 128; tiles of sums lie 1024 bytes apart.
    const { assert!(GROUP * COLS == 1024 && TILE == 1024 && CHUNK_GROUPS == 4) };
    // SAFETY: the caller's promise; the tiles end inside the chunk, and inside `sums`.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "tileloadd tmm4, [{q} + {stride}*1]",
            "tileloadd tmm6, [{cells} + {wide}*1]",
            "tdpbssd tmm0, tmm4, tmm6",
            "tileloadd tmm5, [{q} + {stride}*1 + 64]",
            "tileloadd tmm7, [{cells} + {wide}*1 + 512]",
            "tdpbssd tmm0, tmm5, tmm7",
            "tileloadd tmm4, [{q} + {stride}*1 + 16]",
            "tileloadd tmm6, [{cells} + {wide}*1 + 1024]",
            "tdpbssd tmm1, tmm4, tmm6",
            "tileloadd tmm5, [{q} + {stride}*1 + 80]",
            "tileloadd tmm7, [{cells} + {wide}*1 + 1536]",
            "tdpbssd tmm1, tmm5, tmm7",
            "tileloadd tmm4, [{q} + {stride}*1 + 32]",
            "tileloadd tmm6, [{cells} + {wide}*1 + 2048]",
            "tdpbssd tmm2, tmm4, tmm6",
            "tileloadd tmm5, [{q} + {stride}*1 + 96]",
            "tileloadd tmm7, [{cells} + {wide}*1 + 2560]",
            "tdpbssd tmm2, tmm5, tmm7",
            "tileloadd tmm4, [{q} + {stride}*1 + 48]",
            "tileloadd tmm6, [{cells} + {wide}*1 + 3072]",
            "tdpbssd tmm3, tmm4, tmm6",
            "tileloadd tmm5, [{q} + {stride}*1 + 112]",
            "tileloadd tmm7, [{cells} + {wide}*1 + 3584]",
            "tdpbssd tmm3, tmm5, tmm7",
            "tilestored [{sums} + {narrow}*1], tmm0",
            "tilestored [{sums} + {narrow}*1 + 1024], tmm1",
            "tilestored [{sums} + {narrow}*1 + 2048], tmm2",
            "tilestored [{sums} + {narrow}*1 + 3072], tmm3",
            q = in(reg) q,
            stride = in(reg) stride,
            cells = in(reg) cells,
            wide = in(reg) 2 * TILE_WIDTH,
            narrow = in(reg) TILE_WIDTH,
            sums = in(reg) sums.0.as_mut_ptr(),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, preserves_flags),
        )
    }
}

/// Asks the operating system for the tiles, which it hands out to processes that ask. Whether they may be used.
///
/// Call it where the processor says that it has AMX.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub(super) fn is_permitted() -> bool {
    const ARCH_PRCTL: usize = 158;
    const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
    const XFEATURE_XTILEDATA: usize = 18;
    let result: isize;
    // SAFETY: this system call touches no memory of the process; it overwrites the three registers named.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result == 0
}

/// No other system has been tried.
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
pub(super) fn is_permitted() -> bool {
    false
}
