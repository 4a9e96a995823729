//! Which vector instructions the machine has, found without the standard library, and the one place that enters them.
//!
//! The feature list of each `#[target_feature]` below is the list that [`Isa::is_available`] tests. A vector type
//! (`Avx2`, `Avx512`, `Neon`) can be made here only, so holding one proves that the processor and the operating system
//! support it. A target whose registers are not handed to vectors (x86-64 compiled for kernels, without SSE2) has the
//! portable variant alone: its compiler can neither pass a vector nor save one.

use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
use super::amx;
use super::dots::DotOp;
use super::lanes::Lanes;
use super::portable::Portable;

/// An instruction set that the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Isa {
    /// Plain Rust; whatever the compiler makes of it.
    Portable,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX-512 F, VL, BW and DQ.
    Avx512,
    /// AVX-512 with VNNI, products of bytes; other work is that of [`Isa::Avx512`].
    Avx512Vnni,
    /// AMX, products by a matrix unit: of bytes, with VNNI for a few rows, of weights in `f32` that were packed
    /// ([`Cpu::with_packed_weights`](super::Cpu::with_packed_weights)), and of attention without a mask. Other work is that of
    /// [`Isa::Avx512`]. Linux alone.
    Avx512Amx,
    /// 64-bit Arm with its vector unit.
    Neon,
    /// NEON with products of four bytes (`sdot`); other work is that of [`Isa::Neon`].
    NeonDot,
}

impl Isa {
    /// Every variant, slowest first.
    pub const ALL: [Isa; 7] =
        [Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Avx512Vnni, Isa::Avx512Amx, Isa::Neon, Isa::NeonDot];

    /// Whether this machine can run it.
    pub fn is_available(self) -> bool {
        detected() & self.bit() != 0
    }

    /// The variants that this machine can run, slowest first.
    pub fn available() -> impl Iterator<Item = Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_available())
    }

    /// The fastest variant that this machine can run.
    pub fn best() -> Isa {
        Isa::available().last().unwrap_or(Isa::Portable)
    }

    /// `portable`, `avx2`, `avx512`, `avx512vnni`, `avx512amx`, `neon` or `neondot`.
    pub const fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Avx512Vnni => "avx512vnni",
            Isa::Avx512Amx => "avx512amx",
            Isa::Neon => "neon",
            Isa::NeonDot => "neondot",
        }
    }

    /// The variant of that [`Isa::name`].
    pub fn from_name(name: &str) -> Option<Isa> {
        Isa::ALL.into_iter().find(|isa| isa.name() == name)
    }

    const fn bit(self) -> u8 {
        match self {
            Isa::Portable => 1,
            Isa::Avx2 => 2,
            Isa::Avx512 => 4,
            Isa::Avx512Vnni => 8,
            Isa::Avx512Amx => 16,
            Isa::Neon => 32,
            Isa::NeonDot => 64,
        }
    }

    /// Whether there is [`Isa::matrix_unit`].
    pub(super) fn has_matrix_unit(self) -> bool {
        self == Isa::Avx512Amx && self.is_available()
    }

    /// The matrix unit, where this instruction set has one.
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
    pub(super) fn matrix_unit(self) -> Option<Avx512Amx> {
        self.has_matrix_unit().then_some(Avx512Amx(Avx512Vnni(Avx512(()))))
    }

    /// Runs `op` compiled for this instruction set (portably where the machine lacks it).
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
    pub(super) fn run<O: Op>(self, op: O) -> O::Out {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn avx2<O: Op>(op: O) -> O::Out {
            op.run(Avx2(()))
        }
        #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,f16c")]
        fn avx512<O: Op>(op: O) -> O::Out {
            op.run(Avx512(()))
        }
        match self {
            // SAFETY: the processor and the operating system support the features that the function enables.
            Isa::Avx2 if self.is_available() => unsafe { avx2(op) },
            // SAFETY: as above; VNNI and AMX come on top of the others.
            Isa::Avx512 | Isa::Avx512Vnni | Isa::Avx512Amx if self.is_available() => unsafe { avx512(op) },
            _ => op.run(Portable),
        }
    }

    /// As [`Isa::run`] for products by row; portably where an instruction set has none of its own.
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
    pub(super) fn run_dots<O: DotOp>(self, op: O) -> O::Out {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn avx2<O: DotOp>(op: O) -> O::Out {
            op.run(Avx2(()))
        }
        #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,f16c")]
        fn avx512<O: DotOp>(op: O) -> O::Out {
            op.run(Avx512(()))
        }
        #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512vnni,avx2,fma,f16c")]
        fn avx512vnni<O: DotOp>(op: O) -> O::Out {
            op.run(Avx512Vnni(Avx512(())))
        }
        #[cfg(not(miri))]
        #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512vnni,avx2,fma,f16c")]
        fn avx512amx<O: DotOp>(op: O) -> O::Out {
            op.run(Avx512Amx(Avx512Vnni(Avx512(()))))
        }
        match self {
            // SAFETY: the processor and the operating system support the features that the function enables.
            Isa::Avx2 if self.is_available() => unsafe { avx2(op) },
            // SAFETY: as above.
            Isa::Avx512 if self.is_available() => unsafe { avx512(op) },
            // SAFETY: as above.
            Isa::Avx512Vnni if self.is_available() => unsafe { avx512vnni(op) },
            // SAFETY: as above; the tiles were asked for.
            #[cfg(not(miri))]
            Isa::Avx512Amx if self.is_available() => unsafe { avx512amx(op) },
            _ => op.run(Portable),
        }
    }

    /// Runs `op` compiled for this instruction set (portably where the machine lacks it).
    #[cfg(all(target_arch = "aarch64", target_feature = "neon", not(miri)))]
    pub(super) fn run<O: Op>(self, op: O) -> O::Out {
        match self {
            Isa::Neon | Isa::NeonDot if self.is_available() => op.run(Neon(())),
            _ => op.run(Portable),
        }
    }

    /// As [`Isa::run`] for products by row.
    #[cfg(all(target_arch = "aarch64", target_feature = "neon", not(miri)))]
    pub(super) fn run_dots<O: DotOp>(self, op: O) -> O::Out {
        #[target_feature(enable = "neon,dotprod")]
        fn neondot<O: DotOp>(op: O) -> O::Out {
            op.run(NeonDot(Neon(())))
        }
        match self {
            Isa::Neon if self.is_available() => op.run(Neon(())),
            // SAFETY: the processor supports the features that the function enables.
            Isa::NeonDot if self.is_available() => unsafe { neondot(op) },
            _ => op.run(Portable),
        }
    }

    /// Runs `op`.
    #[cfg(not(any(
        all(target_arch = "x86_64", target_feature = "sse2"),
        all(target_arch = "aarch64", target_feature = "neon", not(miri))
    )))]
    pub(super) fn run<O: Op>(self, op: O) -> O::Out {
        op.run(Portable)
    }

    /// Runs `op`.
    #[cfg(not(any(
        all(target_arch = "x86_64", target_feature = "sse2"),
        all(target_arch = "aarch64", target_feature = "neon", not(miri))
    )))]
    pub(super) fn run_dots<O: DotOp>(self, op: O) -> O::Out {
        op.run(Portable)
    }
}

/// A piece of work that is compiled once for every instruction set. `run` must be `#[inline(always)]`: it is inlined into
/// the function that enables the instructions, and so must everything it calls that handles vectors.
pub(super) trait Op {
    /// What the work returns.
    type Out;

    /// Does the work with the vectors of one instruction set.
    fn run<L: Lanes>(self, lanes: L) -> Self::Out;
}

/// Proof that AVX2, FMA and F16C may be used.
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

/// Proof that AVX-512 F, VL, BW and DQ (and [`Avx2`]) may be used.
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

/// Proof that VNNI may be used, and [`Avx512`].
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
#[derive(Clone, Copy)]
pub(super) struct Avx512Vnni(pub(super) Avx512);

/// Proof that AMX may be used, its products of integers and of `bf16`, and [`Avx512Vnni`].
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
#[derive(Clone, Copy)]
pub(super) struct Avx512Amx(pub(super) Avx512Vnni);

#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
impl Avx512Amx {
    /// Runs `op` compiled for AVX-512, where no other instruction set can come.
    pub(super) fn run<O: Op>(self, op: O) -> O::Out {
        #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,f16c")]
        fn avx512<O: Op>(op: O) -> O::Out {
            op.run(Avx512(()))
        }
        // SAFETY: `self` proves AVX-512.
        unsafe { avx512(op) }
    }
}

/// Proof that NEON may be used: the target has it.
#[cfg(all(target_arch = "aarch64", target_feature = "neon", not(miri)))]
#[derive(Clone, Copy)]
pub(super) struct Neon(());

/// Proof that `sdot` may be used, and [`Neon`].
#[cfg(all(target_arch = "aarch64", target_feature = "neon", not(miri)))]
#[derive(Clone, Copy)]
pub(super) struct NeonDot(pub(super) Neon);

/// Bytes of the second-level cache of a core, or what is likely where the processor does not tell.
pub(super) fn second_level_cache() -> usize {
    match SECOND_LEVEL.load(Ordering::Relaxed) {
        0 => {
            let bytes = cache_of_processor().filter(|bytes| (1 << 16..1 << 26).contains(bytes));
            let bytes = bytes.unwrap_or(LIKELY_SECOND_LEVEL);
            SECOND_LEVEL.store(bytes, Ordering::Relaxed);
            bytes
        }
        bytes => bytes,
    }
}

const LIKELY_SECOND_LEVEL: usize = 1 << 19;

/// What [`second_level_cache`] found; 0 before the first look.
static SECOND_LEVEL: AtomicUsize = AtomicUsize::new(0);

#[cfg(any(miri, not(all(target_arch = "x86_64", target_feature = "sse2"))))]
fn cache_of_processor() -> Option<usize> {
    None
}

#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
fn cache_of_processor() -> Option<usize> {
    use core::arch::x86_64::{__cpuid, __cpuid_count};

    // Leaf 4 describes the caches of Intel's processors, one to a subleaf; AMD has the same in an extended leaf.
    let extended = __cpuid(0x8000_0000).eax >= 0x8000_001D && __cpuid(0).ecx == u32::from_le_bytes(*b"cAMD");
    let leaf = match extended {
        true => 0x8000_001D,
        false if __cpuid(0).eax >= 4 => 4,
        false => return None,
    };
    // EAX: bits 0 to 4 type (0 none, 2 instructions), 5 to 7 level. EBX: line - 1 in bits 0 to 11, partitions - 1 in 12 to
    // 21, ways - 1 in 22 to 31. ECX: sets - 1.
    let caches = (0..16).map(|index| __cpuid_count(leaf, index)).take_while(|cache| cache.eax & 31 != 0);
    let cache = caches.into_iter().find(|cache| cache.eax >> 5 & 7 == 2 && cache.eax & 31 != 2)?;
    let field = |word: u32, from: u32, bits: u32| (word >> from & ((1 << bits) - 1)) as usize + 1;
    let line = field(cache.ebx, 0, 12) * field(cache.ebx, 12, 10) * field(cache.ebx, 22, 10);
    line.checked_mul(cache.ecx as usize + 1)
}

/// Bit set of [`Isa::bit`]; 0 before the first look.
static DETECTED: AtomicU8 = AtomicU8::new(0);

fn detected() -> u8 {
    match DETECTED.load(Ordering::Relaxed) {
        0 => {
            let bits = detect();
            DETECTED.store(bits, Ordering::Relaxed);
            bits
        }
        bits => bits,
    }
}

#[cfg(any(
    miri,
    not(any(
        all(target_arch = "x86_64", target_feature = "sse2"),
        all(target_arch = "aarch64", target_feature = "neon")
    ))
))]
fn detect() -> u8 {
    Isa::Portable.bit()
}

#[cfg(all(target_arch = "aarch64", target_feature = "neon", not(miri)))]
fn detect() -> u8 {
    // Whether there is `sdot` only the operating system can say.
    #[cfg(feature = "std")]
    let dot = std::arch::is_aarch64_feature_detected!("dotprod");
    #[cfg(not(feature = "std"))]
    let dot = cfg!(target_feature = "dotprod");
    Isa::Portable.bit() | Isa::Neon.bit() | if dot { Isa::NeonDot.bit() } else { 0 }
}

#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
fn detect() -> u8 {
    use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

    #[target_feature(enable = "xsave")]
    fn saved_registers() -> u64 {
        // SAFETY: the caller saw OSXSAVE, which says that XGETBV may be executed.
        unsafe { _xgetbv(0) }
    }

    let has = |word: u32, bits: &[u32]| bits.iter().all(|&bit| word >> bit & 1 == 1);
    let mut found = Isa::Portable.bit();
    let highest_leaf = __cpuid(0).eax;
    let features = __cpuid(1);
    // Leaf 1, ECX: 12 FMA, 27 OSXSAVE, 28 AVX, 29 F16C.
    if highest_leaf < 7 || !has(features.ecx, &[12, 27, 28, 29]) {
        return found;
    }
    // SAFETY: OSXSAVE was just seen.
    let saved = unsafe { saved_registers() };
    // Leaf 7, EBX: 5 AVX2, 16 AVX-512 F, 17 DQ, 30 BW, 31 VL; ECX: 11 AVX-512 VNNI.
    let leaf = __cpuid_count(7, 0);
    let extended = leaf.ebx;
    // XCR0: 1 SSE and 2 AVX state saved; 5 to 7 mask registers and the wide halves.
    if saved & 0x06 == 0x06 && has(extended, &[5]) {
        found |= Isa::Avx2.bit();
        if saved & 0xE6 == 0xE6 && has(extended, &[16, 17, 30, 31]) {
            found |= Isa::Avx512.bit();
            if has(leaf.ecx, &[11]) {
                found |= Isa::Avx512Vnni.bit();
                // Leaf 7, EDX: 22 AMX products of `bf16`, 24 AMX tiles, 25 AMX products of integers. XCR0: 17 and 18, tiles
                // saved.
                if has(leaf.edx, &[22, 24, 25]) && saved & 0x6_0000 == 0x6_0000 && amx::is_permitted() {
                    found |= Isa::Avx512Amx.bit();
                }
            }
        }
    }
    found
}
