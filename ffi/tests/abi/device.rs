//! Where a model computes, as a caller chooses it and is told.

use core::ffi::CStr;
use core::ptr;
use std::ffi::CString;

use triplet_c::model::*;
use triplet_c::status::*;

use crate::handles::*;
use crate::programs::tiny_model;

#[test]
fn a_model_says_where_it_computes_and_auto_falls_to_the_cpu() {
    let dir = CString::new(tiny_model()).unwrap();
    let open = |options: &triplet_model_options| {
        let mut model = ptr::null_mut();
        // SAFETY: a C string, options that are there and a place for the handle.
        let status = unsafe { triplet_model_open(dir.as_ptr(), options, &raw mut model) };
        (status, model)
    };
    let said = |model: *mut triplet_model| {
        let mut device = ptr::null();
        // SAFETY: a place for the pointer; the text is there until the model is destroyed.
        unsafe {
            assert_eq!(triplet_model_device(model, &raw mut device), TRIPLET_OK);
            CStr::from_ptr(device).to_str().unwrap().to_owned()
        }
    };
    let defaults = triplet_model_options::default();
    // A caller of before there were devices.
    let older = core::mem::offset_of!(triplet_model_options, device) as u32;
    for (options, expected) in [
        (defaults, "cpu"),
        (triplet_model_options { device: c"cpu".as_ptr(), ..defaults }, "cpu"),
        (triplet_model_options { struct_size: older, device: c"cuda:0".as_ptr(), ..defaults }, "cpu"),
        (triplet_model_options { device: c"auto".as_ptr(), ..defaults }, ""),
    ] {
        let (status, model) = open(&options);
        assert_eq!(status, TRIPLET_OK, "{}", last_error());
        let device = said(model);
        match expected {
            "" => assert!(device.starts_with("cpu (no GPU: ") || device.starts_with("cuda:"), "{device}"),
            expected => assert_eq!(device, expected),
        }
        destroy(model, ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
    }
    let mut nowhere = ptr::null();
    // SAFETY: no handle, which is refused, and a place for the pointer.
    let status = unsafe { triplet_model_device(ptr::null(), &raw mut nowhere) };
    assert_eq!((status, nowhere.is_null()), (TRIPLET_INVALID_HANDLE, true));
    let (status, model) = open(&triplet_model_options { device: c"cuda:77".as_ptr(), ..defaults });
    assert!(model.is_null() && [TRIPLET_DEVICE, TRIPLET_INVALID_ARGUMENT].contains(&status), "{status}");
    let message = last_error();
    let known = ["without the feature cuda", "no NVIDIA driver", "there is no cuda:77"];
    assert!(known.iter().any(|words| message.contains(words)), "{message}");
}
