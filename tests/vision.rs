//! Encoders against timm and transformers (`tools/fixtures_vision.py`), and what they say about bad input.
#![cfg(feature = "std")]

mod fixture;

use fixture::{Fixture, config_field, difference, fields, tensor_error};
use triplet::Error;
use triplet::backend::{Backend, Matrix, View};
use triplet::cpu::{Cpu, Isa};
use triplet::vision::{
    ConvNext, ConvNextConfig, ProjectorConfig, VisualPromptConfig, Vit, VitConfig, select_layer,
};
use triplet::weights::{Loader, Weights};

/// Runs a vision transformer and compares everything that it gives.
fn encoder(case: &str, prefix: usize) {
    let fixture = Fixture::open("vision", case);
    let config = VitConfig::from_fields(&fixture.config).unwrap();
    assert_eq!(config.prefix(), prefix);
    let loader = fixture.loader("visual_encoder");
    let vit = Vit::load(&loader, &config).unwrap();
    assert_eq!(loader.unused(), [] as [&str; 0]);
    let pixels = fixture.matrix("input.pixels");
    let output = vit.forward(&fixture.cpu, pixels.view()).unwrap();
    assert_eq!(output.hidden_states.len(), config.layers + 1);
    for (index, state) in output.hidden_states.iter().enumerate() {
        fixture.check_part("hidden_states", index, state.view());
    }
    fixture.check("normed", output.normed.view());
    assert_eq!(output.pooled.is_some(), fixture.has_output("pooled"));
    if let Some(pooled) = &output.pooled {
        fixture.check("pooled", pooled.view());
    }
    let features = output.features(select_layer(-2, output.hidden_states.len()).unwrap()).unwrap();
    assert_eq!(features.view.rows(), features.grid.cells());
    assert_eq!(features.view.offset(), prefix * config.hidden_size);
    assert!(output.features(config.layers + 1).is_err());
    in_one_pass(&vit, &fixture.cpu, pixels.view());
}

/// Several pictures in one pass have the bits of each by itself.
fn in_one_pass(vit: &Vit<Cpu>, cpu: &Cpu, picture: View<Cpu>) {
    let mut numbers = cpu.download(picture).unwrap();
    numbers.reverse();
    let other = cpu.upload(picture.rows(), 3, &numbers).unwrap();
    let last = |picture| {
        let states = vit.forward(cpu, picture).unwrap().hidden_states;
        cpu.download(states.last().unwrap().view()).unwrap()
    };
    let want = [last(picture), last(other.view()), last(picture)].concat();
    let got = vit.forward_all(cpu, &[picture, other.view(), picture]).unwrap();
    assert_eq!(cpu.download(got.view()).unwrap(), want);
    assert!(want != [last(picture), last(picture), last(picture)].concat());
    assert!(vit.forward_all(cpu, &[]).is_err());
}

#[test]
fn clip() {
    encoder("clip", 1);
}

#[test]
fn clip_without_its_outer_name_in_bf16() {
    encoder("clip_flat", 1);
}

#[test]
fn siglip_with_a_rest_of_pixels() {
    encoder("siglip", 0);
}

#[test]
fn dinov2() {
    encoder("dinov2", 1);
}

#[test]
fn dinov2_on_a_larger_picture() {
    encoder("dinov2_larger", 1);
}

#[test]
fn dinov2_with_registers() {
    encoder("dinov2_registers", 4);
}

#[test]
fn dinov2_with_registers_on_a_smaller_picture() {
    encoder("dinov2_registers_smaller", 4);
}

#[test]
fn timm_plain() {
    encoder("timm_plain", 1);
}

#[test]
fn timm_with_query_and_key_norms_and_registers() {
    encoder("timm_qk_norm", 5);
}

#[test]
fn timm_with_mean_pooling_and_no_class_token() {
    encoder("timm_mean", 2);
}

#[test]
fn timm_clip() {
    encoder("timm_clip", 1);
}

#[test]
fn timm_clip_on_a_larger_picture() {
    encoder("timm_clip_dynamic", 1);
}

#[test]
fn timm_with_attention_pooling() {
    encoder("timm_map", 0);
}

#[test]
fn soft_capped_attention_of_an_aligned_checkpoint() {
    encoder("svit_aligned", 1);
}

/// Runs a ConvNeXt trunk and compares its four stages.
fn tower(case: &str) {
    let fixture = Fixture::open("vision", case);
    let config = ConvNextConfig::from_fields(&fixture.config).unwrap();
    let loader = fixture.loader("visual_tower");
    let tower = ConvNext::load(&loader, &config).unwrap();
    assert_eq!(loader.unused(), [] as [&str; 0]);
    let output = tower.forward(&fixture.cpu, fixture.matrix("input.pixels").view()).unwrap();
    assert_eq!(output.features().count(), 4);
    for (index, map) in output.features().enumerate() {
        assert_eq!(map.view.rows(), map.grid.cells());
        fixture.check(&format!("stage{index}"), map.view);
    }
}

#[test]
fn convnext() {
    tower("convnext");
}

#[test]
fn convnext_with_convolutions_for_linear_layers_and_a_rest_of_pixels() {
    tower("convnext_conv_mlp");
}

/// The same bits whatever the number of threads, and the reference's figures on every instruction set.
#[test]
fn threads_do_not_change_a_bit() {
    let mut fixture = Fixture::open("vision", "clip");
    let config = VitConfig::from_fields(&fixture.config).unwrap();
    let pixels = fixture.cpu.download(fixture.matrix("input.pixels").view()).unwrap();
    for isa in Isa::available() {
        let mut bits: Option<Vec<f32>> = None;
        for threads in [1, 2, 5] {
            let cpu = Cpu::with_threads(threads).with_isa(isa).unwrap();
            fixture.cpu = cpu.poisoned();
            let vit = Vit::load(&fixture.loader("visual_encoder"), &config).unwrap();
            let input = fixture.cpu.upload(28 * 28, 3, &pixels).unwrap();
            let output = vit.forward(&fixture.cpu, input.view()).unwrap();
            fixture.check("normed", output.normed.view());
            let normed = fixture.cpu.download(output.normed.view()).unwrap();
            assert!(bits.is_none_or(|bits| bits == normed));
            bits = Some(normed);
        }
    }
}

#[test]
fn the_comparison_fails_where_it_must() {
    let want = [1.0, -2.0, 3.0];
    assert_eq!(difference(&want, &want).unwrap(), (0.0, 0.0));
    assert!(difference(&want, &[1.0, -2.0]).is_err());
    assert!(difference(&want, &[1.0, f32::NAN, 3.0]).is_err());
    assert!(difference(&[0.0; 3], &[0.0; 3]).is_err());
    let (norm, element) = difference(&want, &[1.0, -2.001, 3.0]).unwrap();
    assert!(norm > 1e-4 && element > 1e-4);
}

const CLIP: &str = r#"{"model_type": "clip_vision_model", "hidden_size": 24, "intermediate_size": 40,
    "num_hidden_layers": 3, "num_attention_heads": 3, "patch_size": 7, "image_size": 28}"#;

/// The configuration CLIP with some text replaced.
fn changed(from: &str, to: &str) -> VitConfig {
    let text = CLIP.replace(from, to);
    assert_ne!(text, CLIP);
    VitConfig::from_fields(&fields("visual_encoder", &text)).unwrap()
}

#[test]
fn configuration_errors_name_the_field() {
    let field = |json: &str| config_field(VitConfig::from_fields(&fields("visual_encoder", json)));
    assert_eq!(field("{}"), "visual_encoder.model_type");
    assert_eq!(field(r#"{"model_type": "resnet"}"#), "visual_encoder.model_type");
    let bad = |from: &str, to: &str| field(&CLIP.replace(from, to));
    assert_eq!(
        bad("\"num_attention_heads\": 3", "\"num_attention_heads\": 5"),
        "visual_encoder.num_attention_heads"
    );
    assert_eq!(
        bad("\"num_attention_heads\": 3", "\"num_attention_heads\": 0"),
        "visual_encoder.num_attention_heads"
    );
    assert_eq!(bad("\"patch_size\": 7", "\"patch_size\": 0"), "visual_encoder.image_size");
    assert_eq!(bad("\"image_size\": 28", "\"image_size\": 6"), "visual_encoder.image_size");
    assert_eq!(bad("\"hidden_size\": 24", "\"hidden_size\": \"x\""), "visual_encoder.hidden_size");
    assert_eq!(
        bad("\"patch_size\"", "\"hidden_act\": \"maxout\", \"patch_size\""),
        "visual_encoder.hidden_act"
    );
    assert_eq!(
        bad("\"intermediate_size\": 40", "\"intermediate_size\": 0"),
        "visual_encoder.intermediate_size"
    );
    let giant = r#"{"model_type": "dinov2", "use_swiglu_ffn": true}"#;
    assert_eq!(field(giant), "visual_encoder.use_swiglu_ffn");
    for (text, name) in [
        (r#""global_pool": "max""#, "global_pool"),
        (r#""class_token": false"#, "global_pool"),
        (r#""norm_layer": "rmsnorm""#, "norm_layer"),
        (r#""max_attn_val": 0"#, "max_attn_val"),
        (r#""img_size": [224, 112]"#, "img_size"),
        (r#""mlp_ratio": -1"#, "mlp_ratio"),
        (r#""in_chans": 4"#, "in_chans"),
        (r#""pos_embed": "none""#, "pos_embed"),
    ] {
        assert_eq!(
            field(&format!(r#"{{"model_type": "timm_vit", {text}}}"#)),
            format!("visual_encoder.{name}")
        );
    }
    let tower = |json: &str| config_field(ConvNextConfig::from_fields(&fields("visual_tower", json)));
    assert_eq!(tower(r#"{"dims": [1, 2, 3]}"#), "visual_tower.dims");
    assert_eq!(tower(r#"{"use_grn": true}"#), "visual_tower.use_grn");
    assert_eq!(tower(r#"{"kernel_sizes": 4}"#), "visual_tower.kernel_sizes");
    let projector = |json: &str| config_field(ProjectorConfig::from_fields(&fields("projector", json)));
    assert_eq!(projector("{}"), "projector.visual_hidden_size");
    assert_eq!(projector(r#"{"depth": 0}"#), "projector.depth");
    let prompts = |json: &str| config_field(VisualPromptConfig::from_fields(&fields("vpt_encoder", json)));
    assert_eq!(prompts(r#"{"num_patches": 8}"#), "vpt_encoder.num_patches");
    assert_eq!(prompts(r#"{"strategy": "guess"}"#), "vpt_encoder.strategy");
    assert_eq!(prompts(r#"{"legacy": true}"#), "vpt_encoder.legacy");
    assert_eq!(prompts("{}"), "vpt_encoder.visual_hidden_size");
}

#[test]
fn tensor_errors_name_the_tensor() {
    let fixture = Fixture::open("vision", "clip");
    let loader = fixture.loader("visual_encoder");
    let (name, _) =
        tensor_error(Vit::load(&loader, &changed("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 4")));
    assert_eq!(name, "visual_encoder.vision_model.encoder.layers.3.layer_norm1.weight");
    let wide = changed("\"intermediate_size\": 40", "\"intermediate_size\": 41");
    let (name, reason) = tensor_error(Vit::load(&loader, &wide));
    assert_eq!(name, "visual_encoder.vision_model.encoder.layers.0.mlp.fc1.weight");
    assert!(reason.contains("[40, 24]") && reason.contains("[41, 24]"), "{reason}");
    let large = changed("\"image_size\": 28", "\"image_size\": 35");
    let (name, reason) = tensor_error(Vit::load(&loader, &large));
    assert_eq!(name, "visual_encoder.vision_model.embeddings.position_embedding.weight");
    assert!(reason.contains("17") && reason.contains("26") && reason.contains("5x5"), "{reason}");
    let empty = Weights::default();
    let nothing = Loader::new(&empty, &fixture.cpu, "visual_encoder");
    let clip = VitConfig::from_fields(&fields("visual_encoder", CLIP)).unwrap();
    let (name, _) = tensor_error(Vit::load(&nothing, &clip));
    assert!(name.ends_with("embeddings.patch_embedding.weight"), "{name}");
}

fn zeros(cpu: &Cpu, rows: usize, cols: usize) -> Matrix<Cpu> {
    cpu.upload(rows, cols, &vec![0.0; rows * cols]).unwrap()
}

#[test]
fn pixels_of_another_size_are_refused() {
    let fixture = Fixture::open("vision", "clip");
    let cpu = &fixture.cpu;
    let config = VitConfig::from_fields(&fixture.config).unwrap();
    let vit = Vit::load(&fixture.loader("visual_encoder"), &config).unwrap();
    for (rows, cols, words) in
        [(35 * 35, 3, "35x35"), (28 * 28, 1, "1 channels"), (27, 3, "no square"), (0, 3, "0x0")]
    {
        match vit.forward(cpu, zeros(cpu, rows, cols).view()) {
            Err(Error::Input { field: "pixels", reason }) => assert!(reason.contains(words), "{reason}"),
            other => panic!("{:?}", other.err()),
        }
    }
    let dino = Fixture::open("vision", "dinov2");
    let config = VitConfig::from_fields(&dino.config).unwrap();
    let vit = Vit::load(&dino.loader("visual_encoder"), &config).unwrap();
    match vit.forward(cpu, zeros(cpu, 36, 3).view()) {
        Err(Error::Input { field: "pixels", reason }) => {
            assert!(reason.contains("6x6") && reason.contains("7x7"), "{reason}");
        }
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn a_tower_refuses_what_does_not_fit() {
    let fixture = Fixture::open("vision", "convnext");
    let loader = fixture.loader("visual_tower");
    let mut config = ConvNextConfig::from_fields(&fixture.config).unwrap();
    config.image_size = Some(64);
    let tower = ConvNext::load(&loader, &config).unwrap();
    for (side, words) in [(32, "64x64"), (65, "65x65")] {
        match tower.forward(&fixture.cpu, zeros(&fixture.cpu, side * side, 3).view()) {
            Err(Error::Input { field: "pixels", reason }) => assert!(reason.contains(words), "{reason}"),
            other => panic!("{:?}", other.err()),
        }
    }
    config.image_size = None;
    let tower = ConvNext::load(&loader, &config).unwrap();
    match tower.forward(&fixture.cpu, zeros(&fixture.cpu, 31 * 31, 3).view()) {
        Err(Error::Input { field: "pixels", reason }) => {
            assert!(reason.contains("31x31") && reason.contains("32x32"), "{reason}");
        }
        other => panic!("{:?}", other.err()),
    }
    config.depths[2] = 3;
    let (name, _) = tensor_error(ConvNext::load(&loader, &config));
    assert!(name.starts_with("visual_tower.visual.trunk.stages.2.blocks.2."), "{name}");
    config.depths[2] = 2;
    config.kernel_size = 5;
    let (name, reason) = tensor_error(ConvNext::load(&loader, &config));
    assert_eq!(name, "visual_tower.visual.trunk.stages.0.blocks.0.conv_dw.weight");
    assert!(reason.contains("[8, 1, 7, 7]") && reason.contains("[8, 1, 5, 5]"), "{reason}");
}

#[test]
fn a_value_that_is_not_finite_names_the_module() {
    let fixture = Fixture::open("vision", "clip");
    let config = VitConfig::from_fields(&fixture.config).unwrap();
    let vit = Vit::load(&fixture.loader("visual_encoder"), &config).unwrap();
    let mut pixels = vec![0.0; 28 * 28 * 3];
    pixels[5] = f32::NAN;
    let pixels = fixture.cpu.upload(28 * 28, 3, &pixels).unwrap();
    let error = vit.forward(&fixture.cpu, pixels.view()).err();
    assert_eq!(error, Some(Error::NonFinite { module: "visual_encoder".into() }));
}
