//! The integer product with AMX: tiles of sixteen rows by sixteen columns whose products a matrix unit adds.
//!
//! Weights and activations are both signed here, so that no sum needs a fix; sums of a group are exact, and what follows is
//! the chain of the other instruction sets, so that the bits are those of [`Avx512Vnni`](super::isa::Avx512Vnni). A few rows
//! go by VNNI.

use core::arch::asm;
use core::arch::x86_64::*;

use super::avx512_dots::{COLS, N, check_pack};
use super::avx512_panels::pack;
use super::dots::{CHUNK_GROUPS, Dots, Integer, Panel, Row, Strip};
use super::isa::{Avx512, Avx512Amx};
use crate::weights::{Dtype, GROUP, Scheme};

/// Rows of a tile.
const TILE_ROWS: usize = 16;
/// Bytes of a tile's row, and of a tile.
const TILE_WIDTH: usize = 4 * N;
const TILE: usize = TILE_ROWS * TILE_WIDTH;

impl Dots for Avx512Amx {
    type Lanes = Avx512;
    const DOT_COLS: usize = N;
    const COLS: usize = COLS;
    const TILE_ROWS: usize = TILE_ROWS;

    #[inline(always)]
    fn lanes(self) -> Avx512 {
        self.0.lanes()
    }

    #[inline(always)]
    fn offset(self, scheme: Scheme) -> i32 {
        self.0.offset(scheme)
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
        unsafe { pack::<false, false>(strip, first, groups, panel, scales) }
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
            let shapes = Shapes::new(rows, panel.scheme);
            // SAFETY: `self` proves AMX; the shapes are within its limits. They are given up below.
            unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const shapes, options(readonly, nostack)) }
            for start in (from..to).step_by(rows) {
                let left = Left::new(rows, |i| row(start + i), first, panel.groups);
                check_panel(rows, panel, &c[start * COLS..]);
                // SAFETY: `self` proves AVX-512 and AMX, `Left` and the check the lengths; the shapes are set.
                unsafe {
                    match (panel.scheme, rows) {
                        (Scheme::Int8, TILE_ROWS) => tile::<false, true>(left, panel, &mut c[start * COLS..]),
                        (Scheme::Int8, _) => tile::<false, false>(left, panel, &mut c[start * COLS..]),
                        (Scheme::Int4, TILE_ROWS) => tile::<true, true>(left, panel, &mut c[start * COLS..]),
                        (Scheme::Int4, _) => tile::<true, false>(left, panel, &mut c[start * COLS..]),
                    }
                }
            }
        }
        // SAFETY: `self` proves AMX; no tile is in use.
        unsafe { asm!("tilerelease", options(nomem, nostack)) }
    }
}

fn check_panel(rows: usize, panel: &Panel, c: &[f32]) {
    assert!((1..=TILE_ROWS).contains(&rows) && c.len() >= rows * COLS);
    assert!(panel.groups.is_multiple_of(CHUNK_GROUPS) && panel.cells.len() >= panel.groups * GROUP * COLS);
    assert!(panel.scheme == Scheme::Int8 || panel.scales.len() >= panel.groups * COLS);
}

/// Shapes of the eight tiles, as `ldtilecfg` reads them: 0 to 3 sums, 4 and 5 activations, 6 and 7 weights.
#[repr(C, align(64))]
struct Shapes([u8; 64]);

impl Shapes {
    fn new(rows: usize, scheme: Scheme) -> Shapes {
        // Integers of four bits lie in two halves of a group, the even elements and the odd ones.
        let depth = if scheme == Scheme::Int4 { GROUP / 2 } else { GROUP };
        let mut bytes = [0; 64];
        bytes[0] = 1;
        for tile in 0..8 {
            let (rows, width) = match tile {
                0..4 => (rows, TILE_WIDTH),
                4..6 => (rows, depth),
                _ => (depth / 4, TILE_WIDTH),
            };
            (bytes[16 + 2 * tile], bytes[48 + tile]) = (width as u8, rows as u8);
        }
        Shapes(bytes)
    }
}

/// Rows of activations, equally far apart.
#[derive(Clone, Copy)]
struct Left {
    rows: usize,
    /// Integers and scales of the first row, from the panel's first group on.
    q: *const u8,
    scales: *const f32,
    /// Bytes from row to row.
    stride: usize,
}

impl Left {
    /// Checks that `groups` groups from group `first` on are there in every row.
    fn new<'a>(rows: usize, row: impl Fn(usize) -> Row<'a>, first: usize, groups: usize) -> Left {
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
        Left { rows, q: top.q[first * GROUP..].as_ptr(), scales: top.scales[first..].as_ptr(), stride }
    }
}

/// Sums of a chunk's groups.
#[repr(C, align(64))]
struct Sums([i32; CHUNK_GROUPS * TILE / 4]);

/// Continues the sums of some rows over a panel; `FULL` says that there are sixteen.
///
/// # Safety
/// AVX-512 and AMX with the right [`Shapes`]; `check_panel`.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,f16c")]
unsafe fn tile<const INT4: bool, const FULL: bool>(left: Left, panel: &Panel, c: &mut [f32]) {
    let rows = if FULL { TILE_ROWS } else { left.rows.min(TILE_ROWS) };
    let chunks = panel.groups / CHUNK_GROUPS;
    let mut sums = [const { Sums([0; CHUNK_GROUPS * TILE / 4]) }; 2];
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
                    multiply::<INT4>(q, left.stride, cells, &mut sums[chunk % 2]);
                }
                let Some(chunk) = chunk.checked_sub(1) else { continue };
                let sums = sums[chunk % 2].0.as_ptr();
                for group in 0..CHUNK_GROUPS {
                    let at = chunk * CHUNK_GROUPS + group;
                    let weight_scales =
                        if INT4 { _mm512_loadu_ps(scales.add(at * COLS)) } else { _mm512_setzero_ps() };
                    for (i, total) in totals.iter_mut().enumerate().take(rows) {
                        let sums = _mm512_load_si512(sums.add((group * TILE_ROWS + i) * N).cast());
                        let mut sums = _mm512_cvtepi32_ps(sums);
                        if INT4 {
                            sums = _mm512_mul_ps(sums, weight_scales);
                        }
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
unsafe fn multiply<const INT4: bool>(q: *const u8, stride: usize, cells: *const u8, sums: &mut Sums) {
    // A group of a panel takes 1024 bytes, eight rows of 128; tiles of sums lie 1024 bytes apart.
    const { assert!(GROUP * COLS == 1024 && TILE == 1024 && CHUNK_GROUPS == 4) };
    macro_rules! on_tiles {
        ($($line:literal),* $(,)?) => {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                $($line,)*
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
        };
    }
    // SAFETY: the caller's promise; the tiles end inside the chunk, and inside `sums`.
    unsafe {
        if INT4 {
            on_tiles!(
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
            );
        } else {
            on_tiles!(
                "tileloadd tmm4, [{q} + {stride}*1]",
                "tileloadd tmm6, [{cells} + {wide}*1]",
                "tdpbssd tmm0, tmm4, tmm6",
                "tileloadd tmm5, [{q} + {stride}*1 + 32]",
                "tileloadd tmm7, [{cells} + {wide}*1 + 1024]",
                "tdpbssd tmm1, tmm5, tmm7",
                "tileloadd tmm4, [{q} + {stride}*1 + 64]",
                "tileloadd tmm6, [{cells} + {wide}*1 + 2048]",
                "tdpbssd tmm2, tmm4, tmm6",
                "tileloadd tmm5, [{q} + {stride}*1 + 96]",
                "tileloadd tmm7, [{cells} + {wide}*1 + 3072]",
                "tdpbssd tmm3, tmm5, tmm7",
            );
        }
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
