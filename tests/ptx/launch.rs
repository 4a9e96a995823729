//! Launches kernels by name, as `src/cuda/` does on a device: checks block and parameters against the text, then runs it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use super::machine::{Shape, run};
use super::memory::Memory;
use super::program::Program;
use super::text::lines;

/// A parameter's value.
#[derive(Clone, Copy, Debug)]
pub enum Arg {
    /// An address.
    Address(u64),
    /// A size or a code.
    Number(usize),
    /// `f32`
    Single(f32),
    /// `f64`
    Double(f64),
}

/// The kernels as they lie in `cuda/`, or with one of them replaced.
#[derive(Clone, Default)]
pub struct Kernels {
    replaced: Option<(String, Arc<Program>)>,
    /// Most instructions of a launch; 0 for the default.
    budget: u64,
    /// Order of warps.
    seed: u64,
}

/// Enough for every healthy launch of the tests.
const BUDGET: u64 = 50_000_000;

impl Kernels {
    /// The kernels in `cuda/`.
    pub fn new(seed: u64) -> Kernels {
        Kernels { replaced: None, budget: BUDGET, seed }
    }

    /// The same with `program` in place of `name`.
    pub fn with(name: &str, program: Program, budget: u64) -> Kernels {
        Kernels { replaced: Some((name.to_owned(), Arc::new(program))), budget, seed: 1 }
    }

    /// The program of a kernel.
    pub fn program(&self, name: &str) -> Arc<Program> {
        static PARSED: OnceLock<Mutex<HashMap<String, Arc<Program>>>> = OnceLock::new();
        if let Some((replaced, program)) = &self.replaced
            && replaced == name
        {
            return program.clone();
        }
        let mut parsed =
            PARSED.get_or_init(Mutex::default).lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let entry = parsed.entry(name.to_owned());
        entry
            .or_insert_with(|| Arc::new(Program::new(lines(name)).unwrap_or_else(|what| panic!("{what}"))))
            .clone()
    }

    /// Runs a kernel.
    ///
    /// # Errors
    /// What failed and where.
    pub fn launch(
        &self,
        name: &str,
        grid: [usize; 3],
        threads: usize,
        dynamic: usize,
        args: &[Arg],
        memory: &Memory,
    ) -> Result<u64, String> {
        let program = self.program(name);
        let source = &program.source;
        assert_eq!(source.entry, format!("triplet_{name}"));
        assert!(
            source.required_threads.is_none_or(|required| required == threads),
            "{name}: {threads} threads"
        );
        assert!(source.most_threads.is_none_or(|most| threads <= most), "{name}: {threads} threads");
        assert_eq!(source.params.len(), args.len(), "{name}: number of parameters");
        let params = source.params.iter().zip(args).map(|((kind, param), arg)| match (kind.as_str(), *arg) {
            (".u64", Arg::Address(address)) => address,
            (".u32", Arg::Number(number)) => u64::from(u32::try_from(number).expect("a 32-bit number")),
            (".f32", Arg::Single(number)) => u64::from(number.to_bits()),
            (".f64", Arg::Double(number)) => number.to_bits(),
            _ => panic!("{name}: {param} is {kind}, not {arg:?}"),
        });
        let params: Vec<u64> = params.collect();
        run(&program, Shape { grid, threads, dynamic }, &params, memory, self.seed, self.budget)
    }
}
