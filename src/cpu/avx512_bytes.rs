//! Products of bytes with AVX-512, with and without VNNI.

use core::arch::x86_64::*;

use super::avx2_dots::bring;
use super::avx512_dots::{COLS, N, add_quads, left, transpose};
use super::bytes::{self, ByteLanes, Bytes, Digits, Left, STEP, Sums, Tiles};
use super::dots::{QUAD, Strip};
use super::isa::{Avx512, Avx512Vnni};

/// Rows of a weight that are read side by side.
const SIDE: usize = 8;

/// How AVX-512 multiplies bytes; the rest of its products is the same.
pub(super) trait Products: Copy {
    /// [`ByteLanes::OFFSET`].
    const OFFSET: i32;
    /// [`ByteLanes::add_quads`].
    fn products(self, sums: __m512i, w: __m512i, x: __m512i) -> __m512i;
}

impl Products for Avx512 {
    const OFFSET: i32 = 0;

    #[inline(always)]
    fn products(self, sums: __m512i, w: __m512i, x: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512. The sign of a weight goes to the activation.
        unsafe {
            let negated = _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(w), _mm512_setzero_si512(), x);
            add_quads::<false>(sums, _mm512_abs_epi8(w), negated)
        }
    }
}

impl Products for Avx512Vnni {
    // Its weights are unsigned.
    const OFFSET: i32 = 128;

    #[inline(always)]
    fn products(self, sums: __m512i, w: __m512i, x: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512 and VNNI.
        unsafe { add_quads::<true>(sums, w, x) }
    }
}

impl<P: Products> ByteLanes for P {
    type Quads = __m512i;
    type Sums = __m512i;
    const N: usize = N;
    const OFFSET: i32 = P::OFFSET;

    #[inline(always)]
    fn zero(self) -> __m512i {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    fn load_quads(self, bytes: &[u8]) -> __m512i {
        assert!(bytes.len() >= N * QUAD);
        // SAFETY: `self` proves AVX-512; the length was checked.
        unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
    }

    #[inline(always)]
    fn offset(self, stored: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_xor_si512(stored, _mm512_set1_epi8(P::OFFSET as i8)) }
    }

    #[inline(always)]
    fn splat_quad(self, bytes: [u8; QUAD]) -> __m512i {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_set1_epi32(i32::from_le_bytes(bytes)) }
    }

    #[inline(always)]
    fn add_quads(self, sums: __m512i, w: __m512i, x: __m512i) -> __m512i {
        self.products(sums, w, x)
    }

    #[inline(always)]
    fn store_sums(self, sums: __m512i, out: &mut [i32]) {
        assert!(out.len() >= N);
        // SAFETY: `self` proves AVX-512; the length was checked.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), sums) }
    }

    #[inline(always)]
    fn total(self, sums: __m512i) -> i32 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_reduce_add_epi32(sums) }
    }

    #[inline(always)]
    fn fetch(self, bytes: &[u8], distance: usize) {
        // SAFETY: `self` proves AVX-512; any address may be asked for.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(bytes.as_ptr().wrapping_add(distance).cast()) }
    }
}

impl<P: Products> Bytes for P {
    const COLS: usize = COLS;
    const SIDE: usize = SIDE;
    const TOTALS: bool = P::OFFSET != 0;

    #[inline(always)]
    fn dot_bytes(self, strip: Strip<()>, x: Digits, out: &mut Sums) {
        bytes::dot::<Self, SIDE>(self, strip, x, out);
    }

    #[inline(always)]
    fn pack_bytes(self, strip: Strip<()>, panel: &mut [u8]) {
        check_pack(&strip, panel);
        // SAFETY: `self` proves AVX-512; lengths were checked.
        unsafe { pack(strip, P::OFFSET as u8, panel) }
    }

    type Tiles = Self;
    #[inline(always)]
    fn matrix_unit(self) -> Self {
        self
    }
}

impl<P: Products> Tiles for P {
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
        bring(ahead);
        bytes::tiles::<Self, 8, { COLS / N }>(*self, rows, x, panel, adds, sums, beside);
    }
}

pub(super) fn check_pack(strip: &Strip<()>, panel: &[u8]) {
    assert!((1..=COLS).contains(&strip.cols) && panel.len() >= strip.k.next_multiple_of(STEP) * COLS);
    assert!(strip.bytes.len() >= (strip.cols - 1) * strip.stride + strip.k);
}

/// [`Bytes::pack_bytes`] with the bits of `flip` turned over in every byte.
///
/// # Safety
/// AVX-512; `check_pack`.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,f16c")]
pub(super) unsafe fn pack(strip: Strip<()>, flip: u8, panel: &mut [u8]) {
    let Strip { bytes, stride, cols, k, .. } = strip;
    // SAFETY: the caller's promise; rows that do not exist repeat the last one, and masked bytes are not accessed. A step
    // takes `STEP * COLS` bytes of the panel.
    unsafe {
        let flip = _mm512_set1_epi8(flip as i8);
        for first in (0..cols).step_by(N) {
            for at in (0..k).step_by(STEP) {
                let mut rows = [flip; N];
                for (i, row) in rows.iter_mut().enumerate() {
                    let from = bytes.as_ptr().add((first + i).min(cols - 1) * stride + at);
                    *row = _mm512_xor_si512(flip, _mm512_maskz_loadu_epi8(left(k, at), from.cast()));
                }
                let out = panel.as_mut_ptr().add(at * COLS + first * QUAD);
                for (i, &column) in transpose(rows).iter().enumerate() {
                    _mm512_storeu_si512(out.add(i * COLS * QUAD).cast(), column);
                }
            }
        }
    }
}
