//! What is linked.

use core::ffi::{CStr, c_char};

use crate::guard::guard_value;

/// Number of the ABI. Functions and fields at the end of structs may be added under one number; it changes when anything
/// else does, and the shared library's name with it.
pub const TRIPLET_ABI: u32 = 0;

/// Major version of the header.
pub const TRIPLET_VERSION_MAJOR: u32 = 0;

/// Minor version of the header.
pub const TRIPLET_VERSION_MINOR: u32 = 1;

/// Patch version of the header.
pub const TRIPLET_VERSION_PATCH: u32 = 0;

const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => panic!("the version holds a NUL"),
};

/// Version of the library that is linked, for example "0.1.0". Never NULL; lives as long as the program.
///
/// Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn triplet_version() -> *const c_char {
    guard_value(VERSION.as_ptr(), || VERSION.as_ptr())
}

/// `TRIPLET_ABI` of the library that is linked; a program compares it with that of its header.
///
/// Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn triplet_abi() -> u32 {
    guard_value(TRIPLET_ABI, || TRIPLET_ABI)
}
