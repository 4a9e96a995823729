//! A language model of Llama's architecture with random weights: reading a prompt, or writing tokens.

use std::error::Error;

use triplet::backend::{Backend, CacheType, Matrix};
use triplet::config::Fields;
use triplet::cpu::Cpu;
use triplet::language::{KvCache, Llama, LlamaConfig};
use triplet::weights::Loader;

use crate::arguments::Arguments;
use crate::clock::{self, Roof, Work};
use crate::llm_random::{self, Stored};

/// The sizes of TinyLlama-1.1B and of Llama-2-7B.
pub const MODELS: [(&str, &str); 2] = [
    (
        "llama_1b",
        r#"{"vocab_size": 32000, "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22,
            "num_attention_heads": 32, "num_key_value_heads": 4, "max_position_embeddings": 2048,
            "rms_norm_eps": 1e-5}"#,
    ),
    (
        "llama_7b",
        r#"{"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5}"#,
    ),
];

/// Tokens of the prompt that is read.
const PROMPT: usize = 512;
/// Positions that are held when writing begins where nothing else is asked for, and tokens that are written in one run.
const HELD: usize = 64;
const WRITTEN: usize = 8;
/// Positions that are read in one go to get there.
const CHUNK: usize = 256;

/// Times `--work` prefill or decode.
pub fn time(cpu: &Cpu, arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let model = arguments.text("model").unwrap_or(MODELS[0].0);
    let known = MODELS.iter().find(|(name, _)| *name == model);
    let text = known.ok_or_else(|| format!("--model {model} is not known"))?.1;
    let config = LlamaConfig::parse(&Fields::parse("llm", text.as_bytes())?)?;
    let dtype = arguments.text("dtype").unwrap_or("f16");
    let stored = match dtype {
        "f32" => Stored::F32,
        "f16" => Stored::F16,
        "int8" => Stored::Int8,
        "int4" => Stored::Int4,
        other => return Err(format!("--dtype {other} is not known").into()),
    };
    let kind: CacheType = arguments.text("cache").unwrap_or("f32").parse()?;
    let held = arguments.number("held")?.unwrap_or(HELD).max(1);
    let weights = llm_random::weights(&config, stored)?;
    let loader = Loader::new(&weights, cpu, "");
    let llama = Llama::load(&loader, &config)?;
    let mut cache = KvCache::of(kind, cpu, &config, PROMPT.max(held + WRITTEN))?;
    let ids = |count: usize| (0..count as u32).map(|i| (i * 7919 + 13) % config.vocab_size as u32);
    let work = arguments.text("work").unwrap_or("decode");
    let cached = if kind == CacheType::F32 { String::new() } else { format!("_{}", kind.name()) };
    match work {
        "prefill" => {
            let embeddings = llama.embed(cpu, &ids(PROMPT).collect::<Vec<u32>>())?;
            let name = format!("{model}_{dtype}_prefill{cached}");
            let work = Work { name, roof: Roof::Operations(prefill(&config)), tokens: PROMPT };
            clock::time(cpu, arguments, work, || {
                cache.truncate(0);
                let out = llama.forward(cpu, embeddings.view(), &mut cache)?;
                llama.logits(cpu, out.view().row_range(PROMPT - 1..PROMPT)?)?;
                Ok(())
            })
        }
        "decode" => {
            let prompt: Vec<u32> = ids(held).collect();
            for ids in prompt.chunks(CHUNK) {
                let embeddings = llama.embed(cpu, ids)?;
                llama.forward(cpu, embeddings.view(), &mut cache)?;
            }
            // Of the table of embeddings one row is read; of the cache what is held on average.
            let table = config.vocab_size * config.hidden_size * if stored == Stored::F32 { 4 } else { 2 };
            let columns = kind.columns(config.num_key_value_heads, config.head_dim)?;
            let position = 2 * config.num_hidden_layers * 4 * columns;
            let bytes = loader.taken_bytes() - table + position * (held + WRITTEN / 2);
            let at = if held == HELD { String::new() } else { format!("_{held}") };
            let name = format!("{model}_{dtype}_decode{cached}{at}");
            let work = Work { name, roof: Roof::Bytes((bytes * WRITTEN) as f64), tokens: WRITTEN };
            clock::time(cpu, arguments, work, || {
                cache.truncate(held);
                let mut id = 1;
                for _ in 0..WRITTEN {
                    let x = llama.embed(cpu, &[id])?;
                    let out = llama.forward(cpu, x.view(), &mut cache)?;
                    id = likeliest(cpu, &llama.logits(cpu, out.view())?)?;
                }
                Ok(())
            })
        }
        other => Err(format!("--work {other} is neither prefill nor decode").into()),
    }
}

/// Floating-point operations of the products and of attention for a prompt.
fn prefill(config: &LlamaConfig) -> f64 {
    let [width, inner, layers, heads, kv_heads, d] = [
        config.hidden_size,
        config.intermediate_size,
        config.num_hidden_layers,
        config.num_attention_heads,
        config.num_key_value_heads,
        config.head_dim,
    ]
    .map(|size| size as f64);
    let tokens = PROMPT as f64;
    let products = width * d * (2.0 * heads + 2.0 * kv_heads) + 3.0 * width * inner;
    let attention = tokens * heads * d;
    2.0 * (layers * tokens * (products + attention) + width * config.vocab_size as f64)
}

/// The token of the largest score.
fn likeliest(cpu: &Cpu, logits: &Matrix<Cpu>) -> Result<u32, Box<dyn Error>> {
    let logits = cpu.download(logits.view())?;
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    Ok(best.map_or(0, |(id, _)| id as u32))
}
