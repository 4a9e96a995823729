//! Modules: PTX compiled by the driver for the device at hand.

use alloc::ffi::CString;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use core::ffi::{c_int, c_void};
use core::ptr;

use cust::sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
use cust::sys::CUjit_option_enum as Jit;
use cust::sys::{CUfunction, CUmodule};

use super::context::Context;
use crate::error::{Error, Result};

/// Bytes of each of the compiler's two logs.
const LOG: usize = 16 << 10;

/// Shared memory of a block that needs no asking for, in bytes.
const SHARED_WITHOUT_ASKING: u32 = 48 << 10;

/// A loaded module. Clones share it.
#[derive(Clone)]
pub struct Module {
    inner: Arc<Inner>,
}

struct Inner {
    context: Context,
    raw: CUmodule,
}

// SAFETY: the driver's functions may be called from any thread, and the handle is valid on all of them.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

/// A kernel of a module, which it keeps.
pub struct Function {
    module: Module,
    raw: CUfunction,
    name: String,
}

// SAFETY: as for the module.
unsafe impl Send for Function {}
// SAFETY: as above.
unsafe impl Sync for Function {}

impl Context {
    /// Compiles PTX for the device. `file` is its name in errors.
    ///
    /// # Errors
    /// [`Error::Device`] with what the driver's compiler says.
    pub fn module(&self, file: &str, ptx: &str) -> Result<Module> {
        let text = CString::new(ptx).map_err(|_| Error::Device {
            call: "cuModuleLoadDataEx",
            reason: format!("{file} has a zero in its text"),
            lost: false,
        })?;
        let (mut errors, mut infos) = (vec![0u8; LOG], vec![0u8; LOG]);
        let mut options = [
            Jit::CU_JIT_ERROR_LOG_BUFFER as c_int,
            Jit::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES as c_int,
            Jit::CU_JIT_INFO_LOG_BUFFER as c_int,
            Jit::CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES as c_int,
        ];
        // The sizes are given as pointers, and so they come back.
        let size = ptr::without_provenance_mut::<c_void>(LOG);
        let mut values = [errors.as_mut_ptr().cast(), size, infos.as_mut_ptr().cast(), size];
        let _current = self.enter()?;
        let mut raw = ptr::null_mut();
        // SAFETY: a C string; as many values as options, of the kinds that those take; the logs have their sizes and are
        // written before the call returns.
        let code = unsafe {
            (self.calls().module_load_data_ex)(
                &mut raw,
                text.as_ptr().cast(),
                options.len() as u32,
                options.as_mut_ptr(),
                values.as_mut_ptr(),
            )
        };
        let describe = || format!("{file}: {}{}", log(&errors), log(&infos));
        self.check_with("cuModuleLoadDataEx", code, describe)?;
        Ok(Module { inner: Arc::new(Inner { context: self.clone(), raw }) })
    }
}

/// A log up to its zero, on one line.
fn log(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    let text = String::from_utf8_lossy(bytes.get(..end).unwrap_or(&[]));
    text.lines().map(str::trim).filter(|line| !line.is_empty()).fold(String::new(), |all, line| {
        if all.is_empty() { line.to_string() } else { format!("{all}; {line}") }
    })
}

impl Module {
    /// The kernel `name`, with leave to use `shared` bytes of dynamic shared memory.
    ///
    /// # Errors
    /// [`Error::Device`] where the module has no such kernel, or the device not that much.
    pub fn function(&self, name: &str, shared: u32) -> Result<Function> {
        let context = &self.inner.context;
        let text = CString::new(name).map_err(|_| Error::Device {
            call: "cuModuleGetFunction",
            reason: format!("{name:?} has a zero in it"),
            lost: false,
        })?;
        let _current = context.enter()?;
        let mut raw = ptr::null_mut();
        // SAFETY: a C string; the module is there; `raw` can be written.
        let code = unsafe { (context.calls().module_get_function)(&mut raw, self.inner.raw, text.as_ptr()) };
        context.check_with("cuModuleGetFunction", code, || name.to_string())?;
        if shared > SHARED_WITHOUT_ASKING {
            let attribute = CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES as c_int;
            let bytes = c_int::try_from(shared).unwrap_or(c_int::MAX);
            // SAFETY: the function is there.
            let code = unsafe { (context.calls().func_set_attribute)(raw, attribute, bytes) };
            let describe = || format!("{name} needs {shared} bytes of shared memory");
            context.check_with("cuFuncSetAttribute", code, describe)?;
        }
        Ok(Function { module: self.clone(), raw, name: name.to_string() })
    }
}

impl Function {
    /// The kernel's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The module that it belongs to.
    pub fn module(&self) -> &Module {
        &self.module
    }

    pub(super) fn raw(&self) -> CUfunction {
        self.raw
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _current = self.context.enter_to_release();
        // SAFETY: loaded once and unloaded here; functions keep the module.
        unsafe { (self.context.calls().module_unload)(self.raw) };
    }
}
