//! Opening a model directory: how long it takes, and what of it is in memory before anything is asked.

use std::error::Error;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use triplet::arena::Arena;
use triplet::config::Fields;
use triplet::cpu::Cpu;
use triplet::language::LlamaConfig;
use triplet::model::Model;
use triplet::vision::VitConfig;

use crate::arguments::Arguments;
use crate::clock::{self, Roof, Work};
use crate::llm::MODELS;
use crate::llm_random::{self, File, Stored};
use crate::vit;
use crate::vit_shapes::tensors;

/// Opens `--model DIR` again and again, with its session, and prints what memory the process had before the first time and after.
/// With `--make` a directory is written first: a ViT-L/14-336 before a language model of 7B in `f16`, 32,000 tokens, and a weights
/// file of holes, which takes no room.
pub fn time(cpu: &Cpu, arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let dir = Path::new(arguments.required("model")?);
    if arguments.has("make") {
        return make(dir);
    }
    let before = Resident::now();
    let model = Model::open_on(cpu.clone(), dir)?;
    let session = model.session()?;
    let after = Resident::now();
    drop(session);
    println!(
        "resident before: {} KB; with the model open and a session: {} KB, {} KB of them of files; the most: {} KB",
        before.all, after.all, after.of_files, after.most
    );
    drop(model);
    clock::time(cpu, arguments, Work::new("open", Roof::None), || {
        // Buffers of the run before are not used again: a program opens a model once.
        let model = Model::open_on(cpu.in_arena(Arena::HEAP), dir)?;
        model.session()?;
        Ok(())
    })
}

/// Kilobytes of this process that are in memory; zeros where the system does not tell.
struct Resident {
    all: u64,
    of_files: u64,
    most: u64,
}

impl Resident {
    fn now() -> Resident {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        Resident { all: number("VmRSS:"), of_files: number("RssFile:"), most: number("VmHWM:") }
    }
}

/// Writes a model directory.
fn make(dir: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(dir)?;
    let known = |name: &str, models: &[(&str, &'static str)]| {
        models.iter().find(|(model, _)| *model == name).map_or("{}", |(_, text)| *text)
    };
    let encoder: Value = serde_json::from_str(known("l14_336", &vit::MODELS))?;
    let llm: Value = serde_json::from_str(known("llama_7b", &MODELS))?;
    let mut file = File::default();
    let text = encoder.to_string();
    let shapes = VitConfig::from_fields(&Fields::parse("visual_encoder", text.as_bytes())?)?;
    for (name, shape) in tensors(&shapes)? {
        file.add(&format!("visual_encoder.{name}"), &shape, Stored::F16);
    }
    let text = llm.to_string();
    let config = LlamaConfig::parse(&Fields::parse("llm", text.as_bytes())?)?;
    llm_random::add(&mut file, "llm.", &config, Stored::F16);
    let (from, to) = (shapes.hidden_size, config.hidden_size);
    for (name, shape) in [("0", [to, from]), ("2", [to, to])] {
        file.add(&format!("projector.model.{name}.weight"), &shape, Stored::F16);
        file.add(&format!("projector.model.{name}.bias"), &[to], Stored::F16);
    }
    let bytes = file.write_sparse(&dir.join("model.safetensors"))?;

    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/tabletop/model");
    let read = |name: &str| -> Result<Value, Box<dyn Error>> {
        Ok(serde_json::from_slice(&fs::read(shipped.join(name))?)?)
    };
    let small = read("config.json")?;
    let mut preprocessor = small["preprocessor"]["visual_encoder"].clone();
    preprocessor["crop_size"] = json!({"height": shapes.image_size, "width": shapes.image_size});
    preprocessor["size"] = json!({"shortest_edge": shapes.image_size});
    let whole = json!({
        "visual_encoder": encoder,
        "projector": {"visual_hidden_size": from, "llm_hidden_size": to, "depth": 2},
        "llm": llm,
        "visual_select_layer": -1,
        "prompt_template": small["prompt_template"],
        "preprocessor": {"visual_encoder": preprocessor},
    });
    fs::write(dir.join("config.json"), whole.to_string())?;
    let tokenizer = tokenizer(read("tokenizer.json")?, config.vocab_size);
    fs::write(dir.join("tokenizer.json"), tokenizer.to_string())?;
    println!("wrote {} with {bytes} bytes of weights", dir.display());
    Ok(())
}

/// The tokenizer with merges and tokens more, until it has `count`.
fn tokenizer(mut tokenizer: Value, count: usize) -> Value {
    let ids = |value: &Value| value.as_u64().map(|id| id as usize);
    let Some(vocabulary) = tokenizer["model"]["vocab"].as_object() else { return tokenizer };
    let mut known: Vec<String> = vocabulary.keys().filter(|token| !token.starts_with('<')).cloned().collect();
    let own = vocabulary.values().filter_map(ids).max().unwrap_or(0);
    let added = tokenizer["added_tokens"].as_array().into_iter().flatten();
    let mut next = added.filter_map(|token| ids(&token["id"])).max().unwrap_or(0).max(own) + 1;
    let mut merges = tokenizer["model"]["merges"].as_array().cloned().unwrap_or_default();
    let mut entries = vocabulary.clone();
    let mut state = 1u64;
    while next < count {
        let mut pick = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            known[(state >> 33) as usize % known.len()].clone()
        };
        let (left, right) = (pick(), pick());
        let token = format!("{left}{right}");
        if token.chars().count() > 12 || entries.contains_key(&token) {
            continue;
        }
        merges.push(json!([left, right]));
        entries.insert(token.clone(), json!(next));
        known.push(token);
        next += 1;
    }
    tokenizer["model"]["vocab"] = Value::Object(entries);
    tokenizer["model"]["merges"] = Value::Array(merges);
    tokenizer
}
