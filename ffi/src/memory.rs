//! What callers pass by address. Everything that can be told from an address is checked here: NULL, alignment, sizes,
//! encoding. That the memory is there and of the type that the header says is the caller's promise.

use core::ffi::{CStr, c_char};
use core::mem::{self, MaybeUninit};
use core::{ptr, slice, str};

use crate::status::{Failure, Result, TRIPLET_BUFFER_TOO_SMALL, TRIPLET_INVALID_UTF8};

/// A struct that starts with `struct_size: u32`, which its caller sets to the size that it was compiled with.
///
/// # Safety
/// The struct is `repr(C)`, its first field is that `u32`, and any bytes make a value of it.
pub(crate) unsafe trait Versioned: Copy + Default {}

/// Longest struct that any version of the library will have; more is taken for a `struct_size` that was never set.
const MAX_SIZE: usize = 1024;

/// Checks `struct_size`.
fn check_size(name: &str, size: usize) -> Result<()> {
    if !(size_of::<u32>()..=MAX_SIZE).contains(&size) || !size.is_multiple_of(size_of::<u32>()) {
        return Err(Failure::argument(
            name,
            format!("has a struct_size of {size}; use its _init function or sizeof"),
        ));
    }
    Ok(())
}

/// Bytes of the caller's struct that this library knows, rounded down to whole fields: no field is larger than the
/// struct's alignment.
fn known<T>(size: usize) -> usize {
    let known = size.min(size_of::<T>());
    if known == size_of::<T>() {
        known
    } else {
        (known / align_of::<T>() * align_of::<T>()).max(size_of::<u32>())
    }
}

/// Reads options: NULL stands for the defaults, and so does what an older caller's struct lacks.
///
/// # Safety
/// Where `options` is not NULL, as many bytes as its `struct_size` says can be read.
pub(crate) unsafe fn read_options<T: Versioned>(name: &str, options: *const T) -> Result<T> {
    let mut value = T::default();
    if options.is_null() {
        return Ok(value);
    }
    check_aligned(name, options)?;
    // SAFETY: readable by the caller's promise and aligned for `T`, whose first field is a `u32`.
    let size = unsafe { options.cast::<u32>().read() } as usize;
    check_size(name, size)?;
    let known = known::<T>(size);
    // SAFETY: `known` is at most `size`, which the caller lets us read, and at most the size of `value`; any bytes make a
    // `T`.
    unsafe { ptr::copy_nonoverlapping(options.cast::<u8>(), (&raw mut value).cast::<u8>(), known) };
    let rest = size - known;
    if rest > 0 && size > size_of::<T>() {
        // SAFETY: the `size` bytes are readable by the caller's promise.
        let rest = unsafe { slice::from_raw_parts(options.cast::<u8>().add(known), rest) };
        if rest.iter().any(|&byte| byte != 0) {
            let reason =
                format!("sets a field that this library ({}) does not know", env!("CARGO_PKG_VERSION"));
            return Err(Failure::argument(name, reason));
        }
    }
    Ok(value)
}

/// Fills a caller's struct of `size` bytes with `value`, as far as it reaches; what lies beyond what this library knows
/// becomes 0. Sets `struct_size` to `size`.
///
/// # Safety
/// Where `out` is not NULL, `size` bytes can be written.
pub(crate) unsafe fn init<T: Versioned>(name: &str, out: *mut T, size: usize) -> Result<()> {
    check_pointer(name, out)?;
    check_size(name, size)?;
    let stored =
        u32::try_from(size).map_err(|_| Failure::argument(name, format!("cannot have {size} bytes")))?;
    let value = T::default();
    // SAFETY: `size` bytes are writable by the caller's promise; no more than the size of `value` is read from it. The
    // first four bytes are `struct_size`, and `out` is aligned for them.
    unsafe {
        ptr::write_bytes(out.cast::<u8>(), 0, size);
        let known = known::<T>(size);
        ptr::copy_nonoverlapping((&raw const value).cast::<MaybeUninit<u8>>(), out.cast(), known);
        out.cast::<u32>().write(stored);
    }
    Ok(())
}

/// Writes a result to a caller's struct, as far as its `struct_size` reaches, which stays as it is.
///
/// # Safety
/// Where `out` is not NULL, its `struct_size` can be read and as many bytes as that says can be written.
pub(crate) unsafe fn fill<T: Versioned>(name: &str, out: *mut T, value: &T) -> Result<()> {
    check_pointer(name, out)?;
    // SAFETY: readable by the caller's promise and aligned for `T`, whose first field is a `u32`.
    let size = unsafe { out.cast::<u32>().read() } as usize;
    // SAFETY: as many bytes are writable by the caller's promise.
    unsafe { init(name, out, size) }?;
    let known = known::<T>(size);
    let from = size_of::<u32>();
    // SAFETY: `known` is at most `size` and at most the size of `value`; `struct_size` itself is left alone.
    unsafe {
        let source = ptr::from_ref(value).cast::<MaybeUninit<u8>>().add(from);
        ptr::copy_nonoverlapping(source, out.cast::<MaybeUninit<u8>>().add(from), known - from);
    }
    Ok(())
}

/// Writes a plain value.
///
/// # Safety
/// Where `out` is not NULL, a `T` can be written there.
pub(crate) unsafe fn write<T>(name: &str, out: *mut T, value: T) -> Result<()> {
    check_pointer(name, out)?;
    // SAFETY: writable by the caller's promise, and aligned.
    unsafe { out.write(value) };
    Ok(())
}

/// Reads a plain value.
///
/// # Safety
/// Where `value` is not NULL, a `T` can be read there.
pub(crate) unsafe fn read<T: Copy>(name: &str, value: *const T) -> Result<T> {
    check_pointer(name, value)?;
    // SAFETY: readable by the caller's promise, and aligned.
    Ok(unsafe { value.read() })
}

/// Borrows `len` elements. NULL stands for none where `len` is 0.
///
/// # Safety
/// Where `data` is not NULL, `len` elements of `T` can be read there and do not change during `'a`.
pub(crate) unsafe fn slice<'a, T: Copy>(name: &str, data: *const T, len: usize) -> Result<&'a [T]> {
    if len == 0 {
        return Ok(&[]);
    }
    check_pointer(name, data)?;
    if len > isize::MAX as usize / size_of::<T>().max(1) {
        return Err(Failure::argument(name, format!("cannot have {len} elements")));
    }
    // SAFETY: readable by the caller's promise, aligned, and no longer than an object can be.
    Ok(unsafe { slice::from_raw_parts(data, len) })
}

/// Borrows a text that ends in a NUL.
///
/// # Safety
/// Where `text` is not NULL, it is a C string that does not change during `'a`.
pub(crate) unsafe fn text<'a>(name: &str, text: *const c_char) -> Result<&'a str> {
    check_pointer(name, text)?;
    // SAFETY: a C string by the caller's promise.
    let bytes = unsafe { CStr::from_ptr(text) }.to_bytes();
    str::from_utf8(bytes)
        .map_err(|error| Failure::new(TRIPLET_INVALID_UTF8, format!("{name} is not UTF-8: {error}")))
}

/// Copies `data` to a caller's buffer and says how many elements there are. NULL asks for the number alone.
///
/// # Safety
/// Where they are not NULL, `capacity` elements can be written to `buffer` and one `usize` to `needed`.
pub(crate) unsafe fn copy_out<T: Copy>(
    data: &[T],
    buffer: *mut T,
    capacity: usize,
    needed: *mut usize,
) -> Result<()> {
    if buffer.is_null() && needed.is_null() {
        return Err(Failure::argument("buffer and needed", "are both NULL"));
    }
    if !needed.is_null() {
        // SAFETY: writable by the caller's promise.
        unsafe { write("needed", needed, data.len()) }?;
    }
    if buffer.is_null() {
        return Ok(());
    }
    check_aligned("buffer", buffer)?;
    if capacity < data.len() {
        let message = format!("buffer has room for {capacity} elements, but {} are needed", data.len());
        return Err(Failure::new(TRIPLET_BUFFER_TOO_SMALL, message));
    }
    // SAFETY: `capacity` elements are writable by the caller's promise, and `data` has no more.
    unsafe { ptr::copy_nonoverlapping(data.as_ptr(), buffer, data.len()) };
    Ok(())
}

pub(crate) fn check_pointer<T>(name: &str, pointer: *const T) -> Result<()> {
    if pointer.is_null() { Err(Failure::argument(name, "is NULL")) } else { check_aligned(name, pointer) }
}

fn check_aligned<T>(name: &str, pointer: *const T) -> Result<()> {
    match pointer.is_aligned() {
        true => Ok(()),
        false => Err(Failure::argument(name, format!("is not aligned to {} bytes", mem::align_of::<T>()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A struct in its second version.
    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Second {
        struct_size: u32,
        first: u32,
        second: u64,
    }

    impl Default for Second {
        fn default() -> Second {
            Second { struct_size: size_of::<Second>() as u32, first: 7, second: 8 }
        }
    }

    // SAFETY: integers, `struct_size` first.
    unsafe impl Versioned for Second {}

    fn read(size: u32, more: u8) -> Result<Second> {
        let mut bytes = [0u64; 4];
        let options = (&raw mut bytes).cast::<Second>();
        // SAFETY: `bytes` has room for the struct and eight bytes more.
        unsafe {
            options.write(Second { struct_size: size, first: 1, second: 2 });
            options.add(1).cast::<u8>().write(more);
            read_options("options", options)
        }
    }

    #[test]
    fn older_and_newer_callers_are_read() {
        assert_eq!(read(16, 0).unwrap(), Second { struct_size: 16, first: 1, second: 2 });
        assert_eq!(read(8, 0).unwrap(), Second { struct_size: 8, first: 1, second: 8 }, "the default stays");
        assert_eq!(read(12, 0).unwrap(), Second { struct_size: 12, first: 1, second: 8 }, "no field is torn");
        assert_eq!(read(4, 0).unwrap(), Second { struct_size: 4, first: 7, second: 8 });
        assert_eq!(read(24, 0).unwrap().second, 2, "a newer caller that uses nothing new");
        assert!(read(24, 1).unwrap_err().message.contains("does not know"));
        for size in [0, 3, 17, 1028] {
            assert!(read(size, 0).unwrap_err().message.contains("struct_size"), "{size}");
        }
    }

    #[test]
    fn no_more_is_written_than_the_caller_has() {
        for size in [4usize, 8, 16, 24] {
            let mut bytes = [u64::MAX; 4];
            // SAFETY: `bytes` has 32 bytes.
            unsafe { init("out", bytes.as_mut_ptr().cast::<Second>(), size) }.unwrap();
            let value = Second { struct_size: 99, first: 3, second: 4 };
            // SAFETY: as before; `struct_size` was set.
            unsafe { fill("out", bytes.as_mut_ptr().cast::<Second>(), &value) }.unwrap();
            let bytes: Vec<u8> = bytes.iter().flat_map(|word| word.to_ne_bytes()).collect();
            assert_eq!(bytes[..4], (size as u32).to_ne_bytes());
            assert!(size < 8 || bytes[4..8] == 3u32.to_ne_bytes());
            assert!(size < 16 || bytes[8..16] == 4u64.to_ne_bytes());
            assert!(size < 24 || bytes[16..24] == [0; 8]);
            assert!(bytes[size..].iter().all(|&byte| byte == 0xff), "{size}: {bytes:?}");
        }
    }

    #[test]
    fn bad_addresses_are_named() {
        let values = [1u32, 2];
        let odd = values.as_ptr().cast::<u8>().wrapping_add(1).cast::<u32>();
        // SAFETY: what is read are refusals, and `values`.
        unsafe {
            assert_eq!(slice::<u32>("ids", ptr::null(), 3).unwrap_err().message, "ids is NULL");
            assert_eq!(slice::<u32>("ids", odd, 1).unwrap_err().message, "ids is not aligned to 4 bytes");
            assert!(slice("ids", values.as_ptr(), usize::MAX).is_err());
            assert!(slice::<u32>("ids", ptr::null(), 0).unwrap().is_empty());
            let bad = c"\xff";
            assert_eq!(text("question", bad.as_ptr()).unwrap_err().status, TRIPLET_INVALID_UTF8);
            let mut needed = 0;
            let mut buffer = [0u32; 1];
            let failure = copy_out(&values, buffer.as_mut_ptr(), 1, &raw mut needed).unwrap_err();
            assert_eq!((failure.status, needed, buffer), (TRIPLET_BUFFER_TOO_SMALL, 2, [0]));
            assert!(copy_out(&values, ptr::null_mut(), 0, ptr::null_mut()).is_err());
        }
    }
}
