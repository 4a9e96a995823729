//! The processor's floating-point state: the library computes in the standard one (round to nearest, denormals kept,
//! exceptions masked) whatever the host has set, and gives the host its own back.
//!
//! On x86 this is MXCSR, on 64-bit Arm FPCR. Elsewhere (and in Miri, which knows no assembly) nothing is changed, and results
//! follow the host's state.

use core::cell::Cell;

use self::register::{STANDARD, State, read, write};

thread_local! {
    /// The host's state, while the library is at work on this thread.
    static HOST: Cell<Option<State>> = const { Cell::new(None) };
}

/// While it lives, the standard state holds.
pub(crate) struct Standard {
    host: State,
    outer: Option<State>,
}

impl Standard {
    pub(crate) fn enter() -> Standard {
        let host = read();
        write(STANDARD);
        Standard { host, outer: HOST.try_with(|outer| outer.replace(Some(host))).ok().flatten() }
    }
}

impl Drop for Standard {
    fn drop(&mut self) {
        let _ = HOST.try_with(|host| host.set(self.outer));
        write(self.host);
    }
}

/// Whether the library is at work on this thread, and not the host that it calls back into.
pub(crate) fn at_work() -> bool {
    HOST.try_with(Cell::get).ok().flatten().is_some()
}

/// Calls back into the host in the host's own state.
pub(crate) fn in_host<T>(call: impl FnOnce() -> T) -> T {
    let Some(host) = HOST.try_with(Cell::take).ok().flatten() else { return call() };
    write(host);
    let value = call();
    write(STANDARD);
    let _ = HOST.try_with(|outer| outer.set(Some(host)));
    value
}

#[cfg(all(any(target_arch = "x86_64", all(target_arch = "x86", target_feature = "sse")), not(miri)))]
mod register {
    pub(super) type State = u32;

    /// MXCSR as the ABI has it when a program starts.
    pub(super) const STANDARD: State = 0x1f80;

    /// Flush denormals, round down.
    #[cfg(test)]
    pub(super) const ODD: State = STANDARD | 1 << 15 | 1 << 13;

    pub(super) fn read() -> State {
        let mut state = 0;
        // SAFETY: stores the four bytes of MXCSR to `state`, which is writable and aligned.
        unsafe {
            core::arch::asm!("stmxcsr [{}]", in(reg) &raw mut state, options(nostack, preserves_flags));
        }
        state
    }

    pub(super) fn write(state: State) {
        // SAFETY: `state` is the standard state or was read from MXCSR, so that no reserved bit is set. Code of the library
        // never runs under another state than the standard one, which is what the compiler assumes.
        unsafe {
            core::arch::asm!("ldmxcsr [{}]", in(reg) &raw const state, options(nostack, readonly, preserves_flags));
        }
    }
}

#[cfg(all(target_arch = "aarch64", not(miri)))]
mod register {
    pub(super) type State = u64;

    /// FPCR as the ABI has it when a program starts.
    pub(super) const STANDARD: State = 0;

    /// Flush denormals, round down.
    #[cfg(test)]
    pub(super) const ODD: State = 1 << 24 | 1 << 23;

    pub(super) fn read() -> State {
        let state;
        // SAFETY: reads a register that every program may read.
        unsafe { core::arch::asm!("mrs {}, fpcr", out(reg) state, options(nomem, nostack, preserves_flags)) };
        state
    }

    pub(super) fn write(state: State) {
        // SAFETY: `state` is the standard state or was read from FPCR. Code of the library never runs under another state
        // than the standard one, which is what the compiler assumes.
        unsafe { core::arch::asm!("msr fpcr, {}", in(reg) state, options(nostack, preserves_flags)) };
    }
}

#[cfg(not(all(
    any(target_arch = "x86_64", all(target_arch = "x86", target_feature = "sse"), target_arch = "aarch64"),
    not(miri)
)))]
mod register {
    pub(super) type State = ();

    pub(super) const STANDARD: State = ();

    pub(super) fn read() -> State {}

    pub(super) fn write((): State) {}
}

#[cfg(all(test, any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn the_host_gets_its_state_back() {
        let before = read();
        let host = register::ODD;
        write(host);
        {
            let _standard = Standard::enter();
            assert!(at_work());
            assert_eq!(read(), STANDARD);
            in_host(|| {
                assert!(!at_work());
                assert_eq!(read(), host);
                let _nested = Standard::enter();
                assert_eq!(read(), STANDARD);
            });
            assert!(at_work());
            assert_eq!(read(), STANDARD);
        }
        assert!(!at_work());
        assert_eq!(read(), host);
        write(before);
    }
}
