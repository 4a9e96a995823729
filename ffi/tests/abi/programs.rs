//! Programs in C and C++ against the shared library.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::exports::shared_library;
use crate::header::repository;

/// A folder for what a test builds; programs find the shared library in it under its installed name.
fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).unwrap();
    let installed = folder.join(format!("libtriplet.so.{}", triplet_c::version::TRIPLET_ABI));
    fs::copy(shared_library(), &installed).unwrap();
    folder
}

/// Compiles a source file with every warning an error and returns the program.
pub fn build(compiler: &[&str], name: &str, source: &Path) -> PathBuf {
    let folder = scratch(name);
    let program = folder.join(name);
    let library = folder.join(format!("libtriplet.so.{}", triplet_c::version::TRIPLET_ABI));
    let output = Command::new(compiler[0])
        .args(&compiler[1..])
        .args(["-Wall", "-Wextra", "-Werror", "-pedantic", "-pthread", "-I"])
        .arg(repository().join("include"))
        .arg(source)
        .arg(library)
        .arg(format!("-Wl,-rpath,{}", folder.display()))
        .args(["-lm".as_ref(), "-o".as_ref(), program.as_os_str()])
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", compiler[0]));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program
}

/// Runs a program and returns what it printed.
pub fn run(program: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {}\n{errors}", program.display(), output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Compiles and runs a program in C11.
pub fn run_c(name: &str, source: &str, arguments: &[&str]) -> String {
    let file = scratch(name).join(format!("{name}.c"));
    fs::write(&file, source).unwrap();
    run(&build(&["cc", "-std=c11"], name, &file), arguments)
}

/// The directory of the tiny model of random weights.
pub fn tiny_model() -> String {
    repository().join("tests/fixtures/end_to_end").display().to_string()
}

/// The directory of the model that ships.
pub fn shipped_model() -> String {
    repository().join("examples/tabletop/model").display().to_string()
}

/// The wrapper compiles with and without exceptions, and the example answers.
#[test]
fn the_cpp_wrapper_and_its_example_work() {
    let example =
        build(&["c++", "-std=c++17"], "camera_loop", &repository().join("examples/cpp/camera_loop.cpp"));
    let frame = scratch("camera_loop").join("frame.ppm");
    let mut ppm = b"P6\n40 28\n255\n".to_vec();
    ppm.extend((0..40 * 28 * 3).map(|index| (index * 7 % 251) as u8));
    fs::write(&frame, ppm).unwrap();
    let frame = frame.to_str().unwrap();
    let words = ["--seconds", "2", "--fps", "20", frame];
    let mut arguments = vec![tiny_model(), "detection".into(), "Detect everything.".into()];
    arguments.extend(words.map(String::from));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    run(&example, &arguments);

    let wrapper = repository().join("ffi/tests/abi/wrapper.cpp");
    for (name, exceptions) in [("wrapper", "-fexceptions"), ("wrapper_bare", "-fno-exceptions")] {
        let program = build(&["c++", "-std=c++17", exceptions], name, &wrapper);
        assert_eq!(run(&program, &[&tiny_model()]), "fine\n", "{exceptions}");
    }
}

/// Memory of a size that is asked for beforehand.
#[test]
fn memory_of_the_callers_suffices_and_is_given_back() {
    let program = build(&["cc", "-std=c11"], "arena", &repository().join("ffi/tests/abi/arena.c"));
    for (model, masks, depths) in [(tiny_model(), "3", "2"), (shipped_model(), "12", "2")] {
        let printed = run(&program, &[&model, masks, depths]);
        assert!(printed.starts_with("weights "), "{printed}");
        println!("{model}: {printed}");
    }
}

/// The host's memory, threads and floating-point state.
#[test]
fn a_hosts_allocator_threads_and_floating_point_state_are_used_and_left_alone() {
    let source = repository().join("ffi/tests/abi/host.c");
    let program = build(&["cc", "-std=c11"], "host", &source);
    // The tiny model has no work that is worth sharing.
    let printed = run(&program, &[&shipped_model()]);
    let numbers: Vec<i64> = printed.split_whitespace().map(|word| word.parse().unwrap()).collect();
    let [allocations, left, pieces, refused, of_frame, largest, pool] = numbers[..] else {
        panic!("{printed}")
    };
    assert!(allocations > 1000 && pieces > 10, "{printed}");
    assert!(left.abs() < 10, "what the first round did not set up for good is given back: {printed}");
    assert_eq!(refused, 1, "memory that the host refuses is a status");
    assert!(of_frame > 0 && of_frame <= 200 && largest <= 8192, "a frame in memory that is lent: {printed}");
    assert!(pool > 1 << 20, "freed buffers wait in a pool unless there shall be none: {printed}");
    println!(
        "a frame in memory that is lent allocates {of_frame} times, {largest} bytes at most; pool: {pool} bytes"
    );
}
