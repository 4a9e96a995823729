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
    let [allocations, left, pieces, refused, pool] = numbers[..] else { panic!("{printed}") };
    assert!(allocations > 1000 && pieces > 10, "{printed}");
    assert!(left.abs() < 10, "what the first round did not set up for good is given back: {printed}");
    assert_eq!(refused, 1, "memory that the host refuses is a status");
    assert!(pool > 1 << 20, "freed buffers wait in a pool unless there shall be none: {printed}");
    println!("pool: {pool} bytes");
}

/// A robot's frames allocate nothing and make no system call but for their threads.
#[test]
#[cfg(target_os = "linux")]
fn a_frame_neither_allocates_nor_calls_the_system() {
    let source = repository().join("ffi/tests/abi/steady.c");
    let program = build(&["cc", "-std=c11"], "steady", &source);
    let runs = [
        (tiny_model(), "1", "0"),
        (tiny_model(), "1", "1"),
        (tiny_model(), "2", "0"),
        (shipped_model(), "2", "0"),
        (shipped_model(), "2", "1"),
    ];
    for (model, threads, lent) in runs {
        let output = Command::new(&program).args([&model, threads, lent]).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        let case = format!("{model}, {threads} threads, lent {lent}: {printed}{:?}", output);
        assert!(output.status.success(), "{case}");
        if printed.contains("unwatched") {
            println!("skipped: this system does not watch system calls");
        } else {
            for (word, code, found) in [("allocate", 8, "allocations 1"), ("call", 9, "system call")] {
                let output =
                    Command::new(&program).args([&tiny_model(), threads, lent, word]).output().unwrap();
                let printed = String::from_utf8_lossy(&output.stdout);
                assert_eq!(
                    (output.status.code(), printed.starts_with(found)),
                    (Some(code), true),
                    "{printed}"
                );
            }
        }
        let targets = printed.lines().find_map(|line| line.strip_prefix("targets "));
        assert!(targets.is_some_and(|targets| targets.parse::<usize>().unwrap() >= 70), "{case}");
    }
}
