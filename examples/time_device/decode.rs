//! Writing tokens one by one with a language model of random weights.

use std::error::Error;

use triplet::backend::Backend;
use triplet::config::Fields;
use triplet::language::{KvCache, Llama, LlamaConfig, Sampler, Sampling};
use triplet::trp::TokenMask;
use triplet::weights::{Loader, Weights};

use crate::Plan;
use crate::llm_random::{self, Stored};
use crate::table::{Check, Table, Work, near};

/// The sizes of TinyLlama-1.1B and of Llama-2-7B, and small ones.
const MODELS: [(&str, &str); 3] = [
    (
        "small",
        r#"{"vocab_size": 500, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "rms_norm_eps": 1e-5}"#,
    ),
    (
        "llama_1b",
        r#"{"vocab_size": 32000, "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22,
            "num_attention_heads": 32, "num_key_value_heads": 4, "max_position_embeddings": 2048, "rms_norm_eps": 1e-5}"#,
    ),
    (
        "llama_7b",
        r#"{"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5}"#,
    ),
];

/// Positions that are held when writing begins, and tokens of a run.
const HELD: usize = 64;
const WRITTEN: usize = 32;

/// How far logits may be from the CPU's, whose activations are of the device's kind.
const CLOSE: f64 = 1e-4;

pub fn time<B: Backend>(backend: &B, plan: &Plan, table: &mut Table) -> Result<(), Box<dyn Error>> {
    for (name, config) in MODELS {
        let wanted = match name {
            "small" => plan.small,
            // It takes a CPU too long.
            "llama_7b" => !plan.small && (plan.exact || plan.only.contains(name)),
            _ => !plan.small,
        };
        if !wanted {
            continue;
        }
        let config = LlamaConfig::parse(&Fields::parse("llm", config.as_bytes())?)?;
        for (dtype, stored) in [("f16", Stored::F16), ("int8", Stored::Int8), ("int4", Stored::Int4)] {
            let row = format!("decode {name} {dtype}");
            if table.wants(&row) {
                let weights = llm_random::weights(&config, stored)?;
                decode(backend, plan, &row, &config, &weights, table)?;
            }
        }
    }
    Ok(())
}

fn decode<B: Backend>(
    backend: &B,
    plan: &Plan,
    row: &str,
    config: &LlamaConfig,
    weights: &Weights,
    table: &mut Table,
) -> Result<(), Box<dyn Error>> {
    let loader = Loader::new(weights, backend, "");
    let llama = Llama::load(&loader, config)?;
    // Of the table of embeddings one row is read.
    let bytes = loader.taken_bytes() - config.vocab_size * config.hidden_size * 2;
    let ids: Vec<u32> = (0..HELD as u32).map(|i| (i * 7919 + 13) % config.vocab_size as u32).collect();
    let check = match config.hidden_size {
        // A prompt of the large one takes a CPU too long.
        4096.. => Check::Not,
        _ => {
            let cpu = plan.cpu.clone().with_exact_activations(plan.exact);
            let on_cpu = Llama::load(&Loader::new(weights, &cpu, ""), config)?;
            near(&logits(backend, &llama, &ids)?, &logits(&cpu, &on_cpu, &ids)?, CLOSE)
        }
    };
    let mut cache = KvCache::new(backend, config, HELD + WRITTEN)?;
    let prompt = llama.embed(backend, &ids)?;
    llama.forward(backend, prompt.view(), &mut cache)?;
    let all = TokenMask::all(config.vocab_size);
    let mut sampler = Sampler::new(Sampling::GREEDY)?;
    let work = Work::Bytes((bytes * WRITTEN) as f64);
    table.time(backend, row, work, check, || {
        cache.truncate(HELD);
        let mut id = 1;
        for _ in 0..WRITTEN {
            let x = llama.embed(backend, &[id])?;
            let out = llama.forward_unchecked(backend, x.view(), &mut cache)?;
            let logits = llama.logits(backend, out.view())?;
            (id, _) = sampler.select(backend, out.view(), logits.view(), &all)?.ok_or("no token")?;
        }
        Ok(backend.zeros(1, 1)?)
    })
}

/// The logits after a prompt.
fn logits<B: Backend>(backend: &B, llama: &Llama<B>, ids: &[u32]) -> Result<Vec<f32>, Box<dyn Error>> {
    let mut cache = KvCache::new(backend, llama.config(), ids.len())?;
    let prompt = llama.embed(backend, ids)?;
    let out = llama.forward(backend, prompt.view(), &mut cache)?;
    let logits = llama.logits(backend, out.view().row_range(ids.len() - 1..ids.len())?)?;
    Ok(backend.download(logits.view())?)
}
