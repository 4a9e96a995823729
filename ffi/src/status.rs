//! What a call came to.

use core::ffi::{CStr, c_char};

use triplet::Error;

use crate::guard::guard_value;

/// What a call came to: `TRIPLET_OK` or why it failed; `triplet_last_error` has the words.
pub type triplet_status = i32;

/// It worked.
pub const TRIPLET_OK: triplet_status = 0;
/// An argument is NULL, misaligned, out of range or does not fit the others; the message names it.
pub const TRIPLET_INVALID_ARGUMENT: triplet_status = 1;
/// A handle that was destroyed, is of another kind or never came from this library.
pub const TRIPLET_INVALID_HANDLE: triplet_status = 2;
/// A text is not UTF-8.
pub const TRIPLET_INVALID_UTF8: triplet_status = 3;
/// The session is at work: on another thread, or further up on this one.
pub const TRIPLET_BUSY: triplet_status = 4;
/// A file could not be read.
pub const TRIPLET_IO: triplet_status = 5;
/// A file is not what its format says.
pub const TRIPLET_FORMAT: triplet_status = 6;
/// A field of config.json is missing or wrong.
pub const TRIPLET_CONFIG: triplet_status = 7;
/// A tensor is missing, misshapen, of a wrong type or not finite.
pub const TRIPLET_TENSOR: triplet_status = 8;
/// A stated limit is exceeded.
pub const TRIPLET_LIMIT: triplet_status = 9;
/// Memory could not be had.
pub const TRIPLET_OUT_OF_MEMORY: triplet_status = 10;
/// The model has no module that the call needs.
pub const TRIPLET_MISSING_MODULE: triplet_status = 11;
/// The plan cannot be met.
pub const TRIPLET_PLAN: triplet_status = 12;
/// A module of the model produced a NaN or an infinity.
pub const TRIPLET_NON_FINITE: triplet_status = 13;
/// The progress callback stopped the loading.
pub const TRIPLET_CANCELLED: triplet_status = 14;
/// The triplet has no target of this kind.
pub const TRIPLET_NO_TARGET: triplet_status = 15;
/// The buffer is too small; the size that is needed was written.
pub const TRIPLET_BUFFER_TOO_SMALL: triplet_status = 16;
/// A defect of the library. A session that was at work refuses to work on; destroy it.
pub const TRIPLET_INTERNAL: triplet_status = 17;
/// A GPU or its driver refused, or there is none. Where the message says that the device is lost, destroy the model, its sessions
/// and its images, and load the model on the CPU.
pub const TRIPLET_DEVICE: triplet_status = 18;

/// Names in the order of the statuses.
const NAMES: [&CStr; 19] = [
    c"TRIPLET_OK",
    c"TRIPLET_INVALID_ARGUMENT",
    c"TRIPLET_INVALID_HANDLE",
    c"TRIPLET_INVALID_UTF8",
    c"TRIPLET_BUSY",
    c"TRIPLET_IO",
    c"TRIPLET_FORMAT",
    c"TRIPLET_CONFIG",
    c"TRIPLET_TENSOR",
    c"TRIPLET_LIMIT",
    c"TRIPLET_OUT_OF_MEMORY",
    c"TRIPLET_MISSING_MODULE",
    c"TRIPLET_PLAN",
    c"TRIPLET_NON_FINITE",
    c"TRIPLET_CANCELLED",
    c"TRIPLET_NO_TARGET",
    c"TRIPLET_BUFFER_TOO_SMALL",
    c"TRIPLET_INTERNAL",
    c"TRIPLET_DEVICE",
];

/// Name of a status, for example "TRIPLET_BUSY"; "unknown status" for a number that is none. Never NULL; lives as long
/// as the program.
///
/// Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn triplet_status_name(status: triplet_status) -> *const c_char {
    guard_value(c"unknown status".as_ptr(), || {
        let name = usize::try_from(status).ok().and_then(|status| NAMES.get(status));
        name.map_or(c"unknown status".as_ptr(), |name| name.as_ptr())
    })
}

/// A call that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: triplet_status,
    pub(crate) message: String,
}

pub(crate) type Result<T, E = Failure> = core::result::Result<T, E>;

impl Failure {
    pub(crate) fn new(status: triplet_status, message: impl Into<String>) -> Failure {
        Failure { status, message: message.into() }
    }

    /// `TRIPLET_INVALID_ARGUMENT`: `name` is the argument, `reason` what is wrong with it.
    pub(crate) fn argument(name: &str, reason: impl core::fmt::Display) -> Failure {
        Failure::new(TRIPLET_INVALID_ARGUMENT, format!("{name} {reason}"))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let status = match &error {
            Error::Input { .. } => TRIPLET_INVALID_ARGUMENT,
            Error::Io { .. } => TRIPLET_IO,
            Error::Format { .. } => TRIPLET_FORMAT,
            Error::Config { .. } => TRIPLET_CONFIG,
            Error::Tensor { .. } => TRIPLET_TENSOR,
            Error::Limit { .. } => TRIPLET_LIMIT,
            Error::Memory { .. } => TRIPLET_OUT_OF_MEMORY,
            Error::Missing { .. } => TRIPLET_MISSING_MODULE,
            Error::Plan { .. } => TRIPLET_PLAN,
            Error::NonFinite { .. } => TRIPLET_NON_FINITE,
            Error::Device { .. } => TRIPLET_DEVICE,
            _ => TRIPLET_INTERNAL,
        };
        Failure::new(status, error.to_string())
    }
}
