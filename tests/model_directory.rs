//! The contract of a model directory: every module loads from exactly the tensors that `tools/model_tensors.py` lists for
//! its configuration, and names the one that is missing or misshapen.
#![cfg(feature = "std")]

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use triplet::Error;
use triplet::config::Config;
use triplet::cpu::Cpu;
use triplet::heads::{
    BoxHead, BoxHeadConfig, DepthHead, DepthHeadConfig, MaskHead, MaskHeadConfig, PoseHead, PoseHeadConfig,
    VdAdapter, VdAdapterConfig,
};
use triplet::language::{Llama, LlamaConfig};
use triplet::vision::{
    ConvNext, ConvNextConfig, Projector, ProjectorConfig, VisualPromptConfig, VisualPromptEncoder, Vit,
    VitConfig,
};
use triplet::weights::{Loader, Weights};

type Shapes = BTreeMap<String, Vec<usize>>;

#[derive(Deserialize)]
struct Fixture {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    config: Value,
    tensors: Shapes,
}

fn cases() -> Vec<Case> {
    let text = include_bytes!("fixtures/model_tensors.json");
    let fixture: Fixture = serde_json::from_slice(text).unwrap();
    assert!(fixture.cases.len() > 5);
    fixture.cases
}

/// A weights file of zeros with these names and shapes, as f16.
fn zeros(shapes: &Shapes) -> Weights {
    let mut header = BTreeMap::new();
    let mut end = 0;
    for (name, shape) in shapes {
        let begin = end;
        end += 2 * shape.iter().product::<usize>();
        let entry = serde_json::json!({"dtype": "F16", "shape": shape, "data_offsets": [begin, end]});
        header.insert(name, entry);
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.resize(bytes.len() + end, 0);
    Weights::from_vec(bytes).unwrap()
}

/// Loads every module that the configuration names; gives the tensors that none has taken.
fn load(config: &Value, weights: &Weights) -> Result<Vec<String>, Error> {
    let config = Config::parse(&serde_json::to_vec(config).unwrap())?;
    let backend = Cpu::with_threads(1);
    let loader = Loader::new(weights, &backend, "");
    let mut modules = 0;
    for path in [
        "visual_encoder",
        "visual_tower",
        "projector",
        "vpt_encoder",
        "vd_adapter",
        "llm",
        "visual_decoder.box",
        "visual_decoder.mask",
        "visual_decoder.depth",
        "visual_decoder.pose",
    ] {
        let Some(fields) = config.optional_module(path)? else { continue };
        let part = loader.child(path);
        modules += 1;
        match path {
            "visual_encoder" => drop(Vit::load(&part, &VitConfig::from_fields(&fields)?)?),
            "visual_tower" => drop(ConvNext::load(&part, &ConvNextConfig::from_fields(&fields)?)?),
            "projector" => drop(Projector::load(&part, &ProjectorConfig::from_fields(&fields)?)?),
            "vpt_encoder" => {
                drop(VisualPromptEncoder::load(&part, &VisualPromptConfig::from_fields(&fields)?)?);
            }
            "vd_adapter" => drop(VdAdapter::load(&part, &VdAdapterConfig::from_fields(&fields)?)?),
            "llm" => drop(Llama::load(&part, &LlamaConfig::parse(&fields)?)?),
            "visual_decoder.box" => drop(BoxHead::load(&part, &BoxHeadConfig::from_fields(&fields)?)?),
            "visual_decoder.mask" => drop(MaskHead::load(&part, &MaskHeadConfig::from_fields(&fields)?)?),
            "visual_decoder.depth" => drop(DepthHead::load(&part, &DepthHeadConfig::from_fields(&fields)?)?),
            _ => drop(PoseHead::load(&part, &PoseHeadConfig::from_fields(&fields)?)?),
        }
    }
    assert!(modules > 0, "the case names no module");
    Ok(loader.unused().into_iter().map(String::from).collect())
}

#[test]
fn modules_take_exactly_the_listed_tensors() {
    for case in cases() {
        let unused =
            load(&case.config, &zeros(&case.tensors)).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        assert!(unused.is_empty(), "{}: {unused:?} are listed, but nothing takes them", case.name);
    }
}

#[test]
fn a_missing_tensor_is_named() {
    for case in cases() {
        let weights = zeros(&case.tensors);
        for name in weights.names() {
            let mut fewer = case.tensors.clone();
            fewer.remove(name);
            match load(&case.config, &zeros(&fewer)) {
                Err(Error::Tensor { name: named, reason }) => {
                    // which of its roots a module lies under is decided by its first tensor
                    let probe = name.contains("patch_embed") || name.contains("stem.0");
                    assert!(
                        named == name || probe,
                        "{}: {name} is missing, not {named}: {reason}",
                        case.name
                    );
                }
                other => panic!("{}: without {name}: {other:?}", case.name),
            }
        }
    }
}

#[test]
fn a_misshapen_tensor_is_named() {
    for case in cases() {
        for name in case.tensors.keys() {
            // its hidden width is the file's own; the tensors around it are then the wrong ones
            if name.starts_with("vd_adapter.in_proj_") {
                continue;
            }
            let mut wrong = case.tensors.clone();
            wrong.get_mut(name).unwrap().push(2);
            match load(&case.config, &zeros(&wrong)) {
                Err(Error::Tensor { name: named, .. }) => assert_eq!(&named, name, "{}", case.name),
                other => panic!("{}: with a wrong {name}: {other:?}", case.name),
            }
        }
    }
}

#[test]
fn the_loader_names_what_it_was_asked_for() {
    let shapes = Shapes::from([("a.b.weight".into(), vec![2, 3]), ("ab.weight".into(), vec![1])]);
    let (weights, backend) = (zeros(&shapes), Cpu::with_threads(1));
    let loader = Loader::new(&weights, &backend, "a").child("b");
    assert_eq!((loader.prefix(), loader.shape("weight")), ("a.b", Some(vec![2, 3])));
    assert!(loader.optional("bias", &[2]).unwrap().is_none());
    let reason = |result: Result<_, Error>| match result {
        Err(Error::Tensor { name, reason }) => format!("{name}: {reason}"),
        _ => panic!("accepted"),
    };
    assert_eq!(reason(loader.weight("bias", &[2]).map(drop)), "a.b.bias: is missing");
    let wrong = reason(loader.optional("weight", &[3, 2]).map(drop));
    assert_eq!(wrong, "a.b.weight: is of shape [2, 3], but the configuration asks for [3, 2]");
    // a prefix ends at a dot, and children share the record of what was taken
    let root = Loader::new(&weights, &backend, "a");
    assert_eq!(root.unused(), ["a.b.weight"]);
    assert_eq!(root.child("b").weight("weight", &[2, 3]).unwrap().shape(), [2, 3]);
    assert!(root.unused().is_empty());
    assert_eq!(Loader::new(&weights, &backend, "").unused().len(), 2);
}
