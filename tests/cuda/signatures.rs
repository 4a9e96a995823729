//! What the launchers believe of the kernels, against the text of the kernels.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use triplet::cuda::{Kernel, Parameter};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cuda")
}

/// What a text declares: entry, parameters as type and name, most threads of a block.
fn declared(text: &str) -> (String, Vec<(String, String)>, u32) {
    let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap().trim()).collect();
    let code = code.join("\n");
    let [_, entry] = code.split(".entry ").collect::<Vec<_>>()[..] else { panic!("one entry") };
    let (name, rest) = entry.split_once('(').unwrap();
    let (parameters, rest) = rest.split_once(')').unwrap();
    let parameters = parameters.split(',').map(|parameter| {
        let [".param", kind, name] = parameter.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("{parameter}")
        };
        (kind.to_owned(), name.to_owned())
    });
    let head = rest.split_once('{').unwrap().0;
    let threads = [".reqntid", ".maxntid"].into_iter().find_map(|word| head.split_once(word)).unwrap().1;
    let threads = threads.trim().split([',', '\n', ' ']).next().unwrap().parse().unwrap();
    (name.trim().to_owned(), parameters.collect(), threads)
}

#[test]
fn parameters_and_blocks_are_those_of_the_text() {
    let mut launched = BTreeSet::new();
    for kernel in Kernel::ALL {
        let signature = kernel.signature();
        assert_eq!(
            kernel.variants().next().map(|name| format!("triplet_{name}")).as_deref(),
            Some(signature.entry)
        );
        for name in kernel.variants() {
            launched.insert(name.to_owned());
            let text = fs::read_to_string(folder().join(format!("{name}.ptx"))).unwrap();
            let (entry, parameters, threads) = declared(&text);
            assert_eq!(entry, format!("triplet_{name}"));
            let believed = signature.parameters.iter().map(|&(parameter, name)| {
                let kind = match parameter {
                    Parameter::U32 => ".u32",
                    Parameter::U64 => ".u64",
                    Parameter::F32 => ".f32",
                    Parameter::F64 => ".f64",
                };
                (kind.to_owned(), name.to_owned())
            });
            assert_eq!(parameters, believed.collect::<Vec<_>>(), "{name}");
            assert_eq!(threads, signature.threads, "{name}");
        }
    }
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let texts = files.filter(|path| path.extension().is_some_and(|extension| extension == "ptx"));
    let texts: BTreeSet<String> =
        texts.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(texts, launched, "every text has a launcher, and the other way round");
}

#[test]
fn a_text_that_differs_is_seen() {
    let text = ".entry one(\n .param .u64 x, // .param .u32 y\n .param .f32 z\n)\n.maxntid 64, 1, 1\n{ret;}";
    let (entry, parameters, threads) = declared(text);
    let owned = |kind: &str, name: &str| (kind.to_owned(), name.to_owned());
    assert_eq!((entry.as_str(), threads), ("one", 64));
    assert_eq!(parameters, [owned(".u64", "x"), owned(".f32", "z")]);
}
