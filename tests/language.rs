//! The language model against Hugging Face's transformers (`tools/fixtures_language.py`), and its cache.

use std::path::Path;

use triplet::backend::{Backend, CacheType};
use triplet::config::Fields;
use triplet::cpu::Cpu;
use triplet::language::{KvCache, Llama, LlamaConfig};
use triplet::weights::{Access, Loader, Weights};
use triplet::{Error, Result};

const MODELS: [&str; 4] = ["llama2", "llama3", "linear", "mistral"];

struct Fixture {
    config: Fields,
    weights: Weights,
}

impl Fixture {
    fn open() -> Fixture {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let config = std::fs::read(dir.join("language.json")).unwrap();
        Fixture {
            config: Fields::parse("language.json", &config).unwrap(),
            weights: Weights::open_file(dir.join("language.safetensors"), Access::Map).unwrap(),
        }
    }

    fn config(&self, name: &str) -> LlamaConfig {
        LlamaConfig::parse(&self.config.child(name).unwrap()).unwrap()
    }

    fn model(&self, backend: &Cpu, name: &str) -> Llama<Cpu> {
        let loader = Loader::new(&self.weights, backend, name);
        let model = Llama::load(&loader, &self.config(name)).unwrap();
        assert_eq!(loader.unused(), Vec::<&str>::new(), "{name} leaves tensors unused");
        model
    }

    fn output(&self, name: &str, output: &str) -> Vec<f32> {
        let tensor = self.weights.tensor(&format!("outputs.{name}.{output}")).unwrap();
        let values = tensor.bytes().chunks_exact(4);
        values.map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        self.output(name, "ids").iter().map(|&id| id as u32).collect()
    }
}

/// Hidden states of `ids`, read in calls of the given lengths.
fn read(
    model: &Llama<Cpu>,
    backend: &Cpu,
    cache: &mut KvCache<Cpu>,
    ids: &[u32],
    cuts: &[usize],
) -> Vec<f32> {
    let mut hidden = Vec::new();
    let mut rest = ids;
    for &cut in cuts {
        let (now, later) = rest.split_at(cut);
        rest = later;
        let embeddings = model.embed(backend, now).unwrap();
        let out = model.forward(backend, embeddings.view(), cache).unwrap();
        hidden.extend(backend.download(out.view()).unwrap());
    }
    assert!(rest.is_empty());
    hidden
}

/// Norm of the difference over norm, and the largest difference over the largest element.
fn errors(got: &[f32], want: &[f32]) -> (f64, f64) {
    assert_eq!(got.len(), want.len());
    let pairs = || got.iter().zip(want).map(|(&a, &b)| (f64::from(a), f64::from(b)));
    let norm = pairs().map(|(_, b)| b * b).sum::<f64>().sqrt();
    let difference = pairs().map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
    let largest = pairs().map(|(_, b)| b.abs()).fold(0.0, f64::max);
    let worst = pairs().map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    (difference / norm, worst / largest)
}

#[test]
fn hidden_states_and_logits_agree_with_transformers() {
    let (fixture, backend) = (Fixture::open(), Cpu::new());
    for name in MODELS {
        let model = fixture.model(&backend, name);
        let mut cache = KvCache::new(&backend, model.config(), usize::MAX).unwrap();
        let embeddings = model.embed(&backend, &fixture.ids(name)).unwrap();
        let hidden = model.forward(&backend, embeddings.view(), &mut cache).unwrap();
        let logits = model.logits(&backend, hidden.view()).unwrap();
        for (output, got) in [("hidden", &hidden), ("logits", &logits)] {
            let (relative, worst) =
                errors(&backend.download(got.view()).unwrap(), &fixture.output(name, output));
            println!("{name} {output}: relative error {relative:.2e}, worst element {worst:.2e}");
            assert!(relative <= 1e-5 && worst <= 1e-4, "{name} {output}: {relative:.2e} {worst:.2e}");
        }
    }
}

#[test]
fn the_error_measure_sees_a_wrong_element() {
    assert_eq!(errors(&[1.0, 2.0], &[1.0, 2.0]), (0.0, 0.0));
    assert!(errors(&[1.0, 2.001], &[1.0, 2.0]).0 > 1e-5);
    let (relative, worst) = errors(&[f32::NAN, 2.0], &[1.0, 2.0]);
    assert!(relative.is_nan() && worst == 0.0, "a NaN fails `relative <= limit`");
}

#[test]
fn bits_do_not_depend_on_how_a_text_is_cut() {
    let (fixture, backend) = (Fixture::open(), Cpu::new());
    for name in MODELS {
        let model = fixture.model(&backend, name);
        let ids = fixture.ids(name);
        for kind in CacheType::ALL {
            let empty = || KvCache::of(kind, &backend, model.config(), usize::MAX).unwrap();
            let expected = read(&model, &backend, &mut empty(), &ids, &[ids.len()]);
            for cuts in [vec![1; ids.len()], vec![1, 8, 3, 16, 12], vec![33, 7]] {
                let got = read(&model, &backend, &mut empty(), &ids, &cuts);
                let equal = got.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(equal, "{name} {kind:?} {cuts:?}");
            }
        }
    }
}

#[test]
fn a_truncated_cache_goes_on_with_the_bits_of_a_fresh_one() {
    let (fixture, backend) = (Fixture::open(), Cpu::new());
    for name in MODELS {
        let model = fixture.model(&backend, name);
        let ids = fixture.ids(name);
        let other: Vec<u32> = ids.iter().map(|id| (id + 7) % model.config().vocab_size as u32).collect();
        let joined: Vec<u32> = ids.iter().take(15).chain(other.iter().skip(15)).copied().collect();
        for kind in CacheType::ALL {
            let mut fresh = KvCache::of(kind, &backend, model.config(), usize::MAX).unwrap();
            assert_eq!(fresh.kind(), kind);
            let expected = read(&model, &backend, &mut fresh, &joined, &[40]);
            let mut cache = KvCache::of(kind, &backend, model.config(), usize::MAX).unwrap();
            read(&model, &backend, &mut cache, &ids, &[40]);
            cache.truncate(15);
            assert_eq!(cache.len(), 15);
            let tail = joined.get(15..).unwrap();
            let got = read(&model, &backend, &mut cache, tail, &[25]);
            assert_eq!(got, expected.get(15 * model.config().hidden_size..).unwrap(), "{name} {kind:?}");
        }
    }
}

#[test]
fn hidden_states_over_rounded_keys_and_values_stay_near() {
    let (fixture, backend) = (Fixture::open(), Cpu::new());
    for name in MODELS {
        let model = fixture.model(&backend, name);
        let ids = fixture.ids(name);
        for (kind, least, most) in [(CacheType::F16, 1e-6, 4e-3), (CacheType::Int8, 1e-4, 6e-2)] {
            let mut cache = KvCache::of(kind, &backend, model.config(), usize::MAX).unwrap();
            let got = read(&model, &backend, &mut cache, &ids, &[ids.len()]);
            let (relative, _) = errors(&got, &fixture.output(name, "hidden"));
            println!("{name} {kind:?}: relative error {relative:.2e}");
            assert!((least..most).contains(&relative), "{name} {kind:?}: {relative:.2e}");
        }
    }
}

#[test]
fn limits_and_bad_ids_are_named_and_leave_the_cache_alone() {
    let (fixture, backend) = (Fixture::open(), Cpu::new());
    let model = fixture.model(&backend, "llama2");
    let mut cache = KvCache::new(&backend, model.config(), usize::MAX).unwrap();
    let ids = fixture.ids("llama2");
    read(&model, &backend, &mut cache, &ids, &[40]);
    let more = model.embed(&backend, ids.get(..25).unwrap()).unwrap();
    let error = model.forward(&backend, more.view(), &mut cache).err();
    assert_eq!(error, Some(Error::Limit { limit: "llm.max_position_embeddings", max: 64, got: 65 }));
    assert_eq!(cache.len(), 40);
    assert!(matches!(model.embed(&backend, &[3, 61]), Err(Error::Input { field: "ids", .. })));
    let broken = backend.upload(1, 32, &[f32::NAN; 32]).unwrap();
    let error = model.forward(&backend, broken.view(), &mut cache).err();
    assert_eq!(error, Some(Error::NonFinite { module: "llm".into() }));
    assert_eq!(cache.len(), 40);
}

#[test]
fn bad_configurations_name_the_field() {
    let good = r#""vocab_size": 8, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
        "num_attention_heads": 2, "max_position_embeddings": 16"#;
    let parse = |text: &str| -> Result<LlamaConfig> {
        LlamaConfig::parse(&Fields::parse("config.json", text.as_bytes())?.child("llm")?)
    };
    assert!(parse(&format!("{{\"llm\": {{{good}}}}}")).is_ok());
    let llama3 = r#"{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0}"#;
    for (extra, field) in [
        ("\"model_type\": \"gpt2\"", "llm.model_type"),
        ("\"hidden_size\": 0", "llm.hidden_size"),
        ("\"hidden_size\": 9", "llm.num_attention_heads"),
        ("\"head_dim\": 3", "llm.head_dim"),
        ("\"num_key_value_heads\": 3", "llm.num_key_value_heads"),
        ("\"hidden_act\": \"step\"", "llm.hidden_act"),
        ("\"vocab_size\": -1", "llm.vocab_size"),
        ("\"rms_norm_eps\": -1.0", "llm.rms_norm_eps"),
        ("\"rope_theta\": 0.5", "llm.rope_theta"),
        ("\"rope_scaling\": {\"type\": \"yarn\"}", "llm.rope_scaling.rope_type"),
        ("\"rope_scaling\": {\"type\": \"linear\"}", "llm.rope_scaling.factor"),
        (&format!("\"rope_scaling\": {llama3}"), "llm.rope_scaling.high_freq_factor"),
        ("\"model_type\": \"mistral\", \"sliding_window\": 0", "llm.sliding_window"),
    ] {
        let name = |field: &str| field.split(':').next().unwrap_or_default().trim().to_owned();
        let kept: Vec<&str> = good.split(',').filter(|field| !extra.contains(&name(field))).collect();
        match parse(&format!("{{\"llm\": {{{}, {extra}}}}}", kept.join(","))) {
            Err(Error::Config { field: got, .. }) => assert_eq!(got, field),
            other => panic!("{extra}: {other:?}"),
        }
    }
}

#[test]
fn missing_and_misshapen_tensors_are_named() {
    let (fixture, backend) = (Fixture::open(), Cpu::new());
    let loader = Loader::new(&fixture.weights, &backend, "llama2");
    let config = fixture.config("llama2");
    for (config, name) in [
        (
            LlamaConfig { num_hidden_layers: 3, ..config.clone() },
            "llama2.model.layers.2.input_layernorm.weight",
        ),
        (LlamaConfig { vocab_size: 62, ..config.clone() }, "llama2.model.embed_tokens.weight"),
        (
            LlamaConfig { num_key_value_heads: 2, ..config.clone() },
            "llama2.model.layers.0.self_attn.k_proj.weight",
        ),
        (LlamaConfig { mlp_bias: true, ..config }, "llama2.model.layers.0.mlp.gate_proj.bias"),
    ] {
        match Llama::load(&loader, &config).err() {
            Some(Error::Tensor { name: got, .. }) => assert_eq!(got, name),
            other => panic!("{name}: {other:?}"),
        }
    }
}
