//! Heads, prompt encoder, projector and adapter against PyTorch (`tools/fixtures_heads.py`), and what they say about bad
//! input.
#![cfg(feature = "std")]

mod fixture;

use fixture::{Fixture, config_field, fields, tensor_error};
use triplet::Error;
use triplet::backend::{Backend, Grid, Matrix};
use triplet::cpu::Cpu;
use triplet::heads::{
    AdapterGroup, BoxHead, BoxHeadConfig, DepthHead, DepthHeadConfig, EmptySlots, MaskHead, MaskHeadConfig,
    Named, PoseHead, PoseHeadConfig, VdAdapter, VdAdapterConfig,
};
use triplet::vision::{FeatureMap, Projector, ProjectorConfig, VisualPromptConfig, VisualPromptEncoder};

/// A square grid of `cells` cells.
fn square(cells: usize) -> Grid {
    Grid { height: cells.isqrt(), width: cells.isqrt() }
}

/// The feature list of a fixture.
fn maps(fixture: &Fixture) -> Vec<Matrix<Cpu>> {
    (0..)
        .map(|index| format!("input.feature{index}"))
        .take_while(|name| fixture.weights.has(name))
        .map(|name| fixture.matrix(&name))
        .collect()
}

fn features(maps: &[Matrix<Cpu>]) -> Vec<FeatureMap<'_, Cpu>> {
    maps.iter().map(|map| FeatureMap { view: map.view(), grid: square(map.rows()) }).collect()
}

/// Compares every named tensor; nothing in the fixture may be left over.
fn check(fixture: &Fixture, named: &[Named<Cpu>]) {
    for (name, view) in named {
        fixture.check(name, *view);
    }
    for output in fixture.weights.names().filter_map(|name| name.strip_prefix("output.")) {
        assert!(named.iter().any(|(name, _)| *name == output), "nothing is named {output}");
    }
}

fn box_case(case: &str, empty_slots: EmptySlots) {
    let fixture = Fixture::open("heads", case);
    let mut config = BoxHeadConfig::from_fields(&fixture.config).unwrap();
    config.decoder.empty_slots = empty_slots;
    let loader = fixture.loader("module");
    let head = BoxHead::load(&loader, &config).unwrap();
    assert_eq!(loader.unused(), [] as [&str; 0]);
    let (maps, latents) = (maps(&fixture), fixture.matrix("input.latents"));
    let output = head.forward(&fixture.cpu, &features(&maps), latents.view()).unwrap();
    assert_eq!(output.grid.cells(), output.memory.rows());
    check(&fixture, &output.named());
}

#[test]
fn boxes() {
    box_case("box", EmptySlots::Bias);
}

#[test]
fn boxes_from_one_map_with_every_slot_taken() {
    box_case("box_single", EmptySlots::Bias);
}

#[test]
fn boxes_behind_an_adapter() {
    box_case("box_zero_slots", EmptySlots::Zeros);
}

#[test]
fn masks() {
    let fixture = Fixture::open("heads", "mask");
    let config = MaskHeadConfig::from_fields(&fixture.config).unwrap();
    let loader = fixture.loader("module");
    let head = MaskHead::load(&loader, &config).unwrap();
    assert_eq!(loader.unused(), [] as [&str; 0]);
    let (maps, latents) = (maps(&fixture), fixture.matrix("input.latents"));
    let output = head.forward(&fixture.cpu, &features(&maps), latents.view()).unwrap();
    assert_eq!(output.grid, Grid { height: 16, width: 16 });
    let shares = fixture.cpu.activate(output.logits.view(), triplet::backend::Activation::Sigmoid).unwrap();
    let mut named = output.named().to_vec();
    named.push(("shares", shares.view()));
    check(&fixture, &named);
}

#[test]
fn depth() {
    let fixture = Fixture::open("heads", "depth");
    let config = DepthHeadConfig::from_fields(&fixture.config).unwrap();
    let loader = fixture.loader("module");
    let head = DepthHead::load(&loader, &config).unwrap();
    assert_eq!(loader.unused(), [] as [&str; 0]);
    let (maps, latents) = (maps(&fixture), fixture.matrix("input.latents"));
    let output = head.forward(&fixture.cpu, &features(&maps), latents.view()).unwrap();
    check(&fixture, &output.named());
    let range = output.range.unwrap();
    assert_eq!([0.0, 0.5, 1.0].map(|share| range.depth(share)), [0.5, 4.25, 8.0]);
}

#[test]
fn poses() {
    let fixture = Fixture::open("heads", "pose");
    let config = PoseHeadConfig::from_fields(&fixture.config).unwrap();
    let loader = fixture.loader("module");
    let head = PoseHead::load(&loader, &config).unwrap();
    assert_eq!(loader.unused(), [] as [&str; 0]);
    let (maps, latents) = (maps(&fixture), fixture.matrix("input.latents"));
    let output = head.forward(&fixture.cpu, &features(&maps), latents.view()).unwrap();
    assert_eq!(output.points, 17);
    check(&fixture, &output.named());
}

/// A slot's result must not depend on how many latents are given beyond those that are.
#[test]
fn no_latents_leave_every_slot_empty() {
    let fixture = Fixture::open("heads", "box");
    let config = BoxHeadConfig::from_fields(&fixture.config).unwrap();
    let head = BoxHead::load(&fixture.loader("module"), &config).unwrap();
    let maps = maps(&fixture);
    let none = fixture.cpu.zeros(0, 20).unwrap();
    let zeros = fixture.cpu.zeros(2, 20).unwrap();
    let boxes = |latents: &Matrix<Cpu>| {
        let output = head.forward(&fixture.cpu, &features(&maps), latents.view()).unwrap();
        fixture.cpu.download(output.boxes.view()).unwrap()
    };
    assert_eq!(boxes(&none), boxes(&zeros));
}

fn prompt_case(case: &str) {
    let fixture = Fixture::open("heads", case);
    let config = VisualPromptConfig::from_fields(&fixture.config).unwrap();
    let loader = fixture.loader("module");
    let encoder = VisualPromptEncoder::load(&loader, &config).unwrap();
    assert_eq!(loader.unused(), [] as [&str; 0]);
    let view = fixture.matrix("input.features");
    let map = FeatureMap { view: view.view(), grid: square(view.rows()) };
    let regions = fixture.cpu.download(fixture.matrix("input.regions").view()).unwrap();
    let regions: Vec<bool> = regions.iter().map(|&cell| cell > 0.5).collect();
    let regions: Vec<&[bool]> = regions.chunks(view.rows()).collect();
    let output = encoder.forward(&fixture.cpu, map, &regions).unwrap();
    assert_eq!(output.tokens_per_region, config.tokens());
    assert_eq!(output.projected, config.projector.is_some());
    fixture.check("tokens", output.tokens.view());
    // A region's tokens do not depend on the other regions.
    let alone = encoder.forward(&fixture.cpu, map, &regions[2..3]).unwrap();
    let rows = 2 * output.tokens_per_region..3 * output.tokens_per_region;
    let together = fixture.cpu.download(output.tokens.view().row_range(rows).unwrap()).unwrap();
    assert_eq!(fixture.cpu.download(alone.tokens.view()).unwrap(), together);
    assert_eq!(encoder.forward(&fixture.cpu, map, &[]).unwrap().tokens.rows(), 0);
}

#[test]
fn prompts_by_pooling_with_a_mask_token() {
    prompt_case("vpt_pooling");
}

#[test]
fn prompts_by_embedding() {
    prompt_case("vpt_embedding");
}

#[test]
fn prompts_with_a_projector_of_their_own() {
    prompt_case("vpt_projector");
}

#[test]
fn projectors() {
    for case in ["projector", "projector_deep"] {
        let fixture = Fixture::open("heads", case);
        let config = ProjectorConfig::from_fields(&fixture.config).unwrap();
        let loader = fixture.loader("module");
        let projector = Projector::load(&loader, &config).unwrap();
        assert_eq!(loader.unused(), [] as [&str; 0]);
        let output = projector.forward(&fixture.cpu, fixture.matrix("input.features").view()).unwrap();
        fixture.check("projected", output.view());
    }
}

#[test]
fn adapter() {
    let fixture = Fixture::open("heads", "vd_adapter");
    let config = VdAdapterConfig::from_fields(&fixture.config).unwrap();
    let loader = fixture.loader("module");
    let adapter = VdAdapter::load(&loader, &config).unwrap();
    assert_eq!(loader.unused(), [] as [&str; 0]);
    let cpu = &fixture.cpu;
    let (image, none) = (fixture.matrix("input.image"), cpu.zeros(0, 32).unwrap());
    let refs: Vec<Matrix<Cpu>> = (0..3).map(|index| fixture.matrix(&format!("input.refs{index}"))).collect();
    let phrases = [fixture.matrix("input.phrase0"), fixture.matrix("input.phrase1"), none];
    let groups: Vec<AdapterGroup<Cpu>> = refs
        .iter()
        .zip(&phrases)
        .map(|(refs, phrase)| AdapterGroup { refs: refs.view(), phrase: phrase.view() })
        .collect();
    let output = adapter.forward(cpu, image.view(), square(16), &groups).unwrap();
    fixture.check("latents", output.latents.view());
    fixture.check("image", output.image.view());

    let error = adapter.forward(cpu, image.view(), square(16), &[]).err().unwrap();
    assert!(matches!(error, Error::Input { field: "groups", .. }), "{error}");
    let error = adapter.forward(cpu, image.view(), square(9), &groups).err().unwrap();
    assert!(matches!(error, Error::Input { field: "image", .. }), "{error}");
    let (many, narrow) = (cpu.zeros(6, 32).unwrap(), cpu.zeros(2, 31).unwrap());
    let group = [AdapterGroup { refs: many.view(), phrase: phrases[0].view() }];
    let error = adapter.forward(cpu, image.view(), square(16), &group).err().unwrap();
    assert_eq!(error, Error::Limit { limit: "vd_adapter.ref_max_length", max: 5, got: 6 });
    let group = [AdapterGroup { refs: refs[0].view(), phrase: narrow.view() }];
    let error = adapter.forward(cpu, image.view(), square(16), &group).err().unwrap();
    assert!(matches!(error, Error::Input { field: "phrase", .. }), "{error}");
}

#[test]
fn configuration_errors_name_the_field() {
    let boxes = |json: &str| config_field(BoxHeadConfig::from_fields(&fields("box", json)));
    assert_eq!(boxes("{}"), "box.encoder_input_dim");
    assert_eq!(boxes(r#"{"encoder_input_dim": [1, 2]}"#), "box.encoder_input_dim");
    assert_eq!(boxes(r#"{"num_queries": 0}"#), "box.num_queries");
    assert_eq!(boxes(r#"{"d_model": 30}"#), "box.d_model");
    assert_eq!(boxes(r#"{"decoder_attention_heads": 3}"#), "box.decoder_attention_heads");
    assert_eq!(boxes(r#"{"activation_function": "sine"}"#), "box.activation_function");
    let four = r#""encoder_input_dim": [1, 2, 3, 4]"#;
    assert_eq!(
        boxes(&format!(r#"{{{four}, "encoder_input_transform": "sum"}}"#)),
        "box.encoder_input_transform"
    );
    let list = format!(r#"{{{four}, "encoder_input_transform": "multiple_select"}}"#);
    assert_eq!(boxes(&list), "box.encoder_input_transform");
    let masks = |json: &str| config_field(MaskHeadConfig::from_fields(&fields("mask", json)));
    assert_eq!(masks(r#"{"encoder_input_transform": "resize_concat"}"#), "mask.encoder_input_transform");
    assert_eq!(masks(r#"{"encoder_input_index": [1]}"#), "mask.encoder_input_index");
    assert_eq!(masks(r#"{"fpn_feature_size": 48}"#), "mask.fpn_feature_size");
    let depths = |json: &str| config_field(DepthHeadConfig::from_fields(&fields("depth", json)));
    assert_eq!(depths(r#"{"depth_range": [8, 0.5]}"#), "depth.depth_range");
    assert_eq!(depths(r#"{"depth_range": [1]}"#), "depth.depth_range");
    let pose = |own: &str| {
        let json = format!(r#"{{{four}, "box_config": {{}}, "keypoint_config": {own}}}"#);
        config_field(PoseHeadConfig::from_fields(&fields("pose", &json)))
    };
    assert_eq!(pose(r#"{"num_queries": 7}"#), "pose.keypoint_config.num_queries");
    assert_eq!(pose(r#"{"quries_input_dim": 7}"#), "pose.keypoint_config.quries_input_dim");
    assert_eq!(pose(r#"{"num_body_points": 0}"#), "pose.keypoint_config.num_body_points");
    let adapter = |json: &str| config_field(VdAdapterConfig::from_fields(&fields("vd_adapter", json)));
    assert_eq!(adapter("{}"), "vd_adapter.d_input_token");
    assert_eq!(adapter(r#"{"d_input_token": 1024, "n_heads": 5}"#), "vd_adapter.n_heads");
}

#[test]
fn tensor_errors_name_the_tensor() {
    let fixture = Fixture::open("heads", "pose");
    let loader = fixture.loader("module");
    let mut config = PoseHeadConfig::from_fields(&fixture.config).unwrap();
    config.keypoints.decoder.layers = 3;
    let (name, reason) = tensor_error(PoseHead::load(&loader, &config));
    assert_eq!(name, "module.kpt_decoder.decoder.layers.2.self_attn.q_proj.weight");
    assert!(reason.contains("missing"), "{reason}");
    let mut config = PoseHeadConfig::from_fields(&fixture.config).unwrap();
    config.box_head.decoder.num_queries = 5;
    let (name, reason) = tensor_error(PoseHead::load(&loader, &config));
    assert_eq!(name, "module.box_decoder.query_position_embeddings.weight");
    assert!(reason.contains("[4, 32]") && reason.contains("[5, 32]"), "{reason}");
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let fixture = Fixture::open("heads", "mask");
    let config = MaskHeadConfig::from_fields(&fixture.config).unwrap();
    let head = MaskHead::load(&fixture.loader("module"), &config).unwrap();
    let (cpu, maps, latents) = (&fixture.cpu, maps(&fixture), fixture.matrix("input.latents"));
    let all = features(&maps);
    let error = head.forward(cpu, &[], latents.view()).err().unwrap();
    assert!(matches!(error, Error::Input { field: "features", .. }), "{error}");
    assert_eq!(config_field(head.forward(cpu, &all[..4], latents.view())), "mask.encoder_input_index");
    let swapped: Vec<_> = all.iter().rev().copied().collect();
    assert_eq!(config_field(head.forward(cpu, &swapped, latents.view())), "mask.encoder_input_dim");
    let (many, wide) = (cpu.zeros(6, 20).unwrap(), cpu.zeros(2, 21).unwrap());
    let error = head.forward(cpu, &all, many.view()).err().unwrap();
    assert_eq!(error, Error::Limit { limit: "visual_decoder.mask.num_queries", max: 5, got: 6 });
    let error = head.forward(cpu, &all, wide.view()).err().unwrap();
    assert!(matches!(error, Error::Input { field: "latents", .. }), "{error}");
    let infinite = cpu.upload(1, 20, &[f32::INFINITY; 20]).unwrap();
    let error = head.forward(cpu, &all, infinite.view()).err().unwrap();
    assert_eq!(error, Error::NonFinite { module: "module".into() });
}

#[test]
fn regions_that_do_not_fit_are_refused() {
    let cpu = Cpu::new();
    for (case, field) in [("vpt_pooling", "module.num_patches"), ("vpt_embedding", "module.patch_size")] {
        let fixture = Fixture::open("heads", case);
        let config = VisualPromptConfig::from_fields(&fixture.config).unwrap();
        let encoder = VisualPromptEncoder::load(&fixture.loader("module"), &config).unwrap();
        let view = cpu.zeros(25, 20).unwrap();
        let map = FeatureMap { view: view.view(), grid: square(25) };
        match encoder.forward(&cpu, map, &[&[true; 25]]) {
            Err(Error::Config { field: got, reason }) => {
                assert_eq!(got, field);
                assert!(reason.contains("5x5") && reason.contains('9'), "{reason}");
            }
            other => panic!("{:?}", other.err()),
        }
        let view = cpu.zeros(36, 20).unwrap();
        let map = FeatureMap { view: view.view(), grid: square(36) };
        let error = encoder.forward(&cpu, map, &[&[true; 36], &[true; 35]]).err().unwrap();
        assert!(matches!(error, Error::Input { field: "regions", .. }), "{error}");
    }
}
