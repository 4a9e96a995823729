//! A fixture of `tools/fixtures_finetune.py` as a run.

use triplet::backend::{Backend, Matrix};
use triplet::config::Fields;
use triplet::cpu::Cpu;
use triplet::finetune::{
    AdamwConfig, AlignConfig, Decay, DecoderConfig, EmaConfig, HeadKind, Images, Loss, MaskKind, Masks,
    Objective, Schedule, Trainer, Update,
};
use triplet::vision::VitConfig;

use crate::fixture::Fixture;

/// Updates of every fixture.
pub const UPDATES: usize = 10;

/// A fixture with its pictures and masks.
pub struct Case {
    pub fixture: Fixture,
    pub config: AlignConfig,
    pub parts: usize,
    pub pixels: Vec<f32>,
    masks: Vec<bool>,
    validation: Vec<bool>,
}

impl Case {
    pub fn open(name: &str) -> Case {
        let fixture = Fixture::open("finetune", name);
        let bits = |matrix: Matrix<Cpu>| -> Vec<bool> {
            fixture.cpu.download(matrix.view()).unwrap().iter().map(|&x| x > 0.5).collect()
        };
        let (masks, validation) =
            (bits(fixture.matrix("input.masks")), bits(fixture.matrix("input.validation")));
        let pixels = fixture.cpu.download(fixture.matrix("input.pixels").view()).unwrap();
        let config = config(&fixture.config);
        let parts = fixture.config.usize("parts").unwrap();
        Case { fixture, config, parts, pixels, masks, validation }
    }

    /// Numbers of one picture.
    pub fn picture(&self) -> usize {
        let side = self.config.student.image_size;
        side * side * 3
    }

    /// Patches of one picture.
    fn cells(&self) -> usize {
        let side = self.config.student.image_size / self.config.student.patch_size;
        side * side
    }

    fn per_image(&self) -> usize {
        self.config.sampler().unwrap().per_image()
    }

    pub fn images<'a>(&self, pixels: &'a [f32]) -> Images<'a> {
        Images::new(pixels, self.config.student.image_size).unwrap()
    }

    pub fn validation(&self) -> Masks {
        Masks::new(self.validation.clone(), self.cells(), self.per_image()).unwrap()
    }

    /// The run before its first update, its targets scaled.
    pub fn trainer(&self, cpu: &Cpu, config: AlignConfig) -> Trainer<Cpu> {
        let load = |prefix| triplet::weights::Loader::new(&self.fixture.weights, cpu, prefix);
        let (teacher, encoder, state) = (load("teacher"), load("student.encoder"), load("student"));
        let mut trainer = Trainer::with_parameters(cpu, config, &teacher, &encoder, &state, 1).unwrap();
        trainer.calibrate(cpu, [(self.images(&self.pixels), self.validation())]).unwrap();
        trainer
    }

    /// Pictures and masks of part `part`, counted over all updates: two of the four pictures in turn.
    pub fn batch(&self, part: usize) -> (Vec<f32>, Masks) {
        let size = self.picture();
        let start = part * 2 % 4 * size;
        let rows = 2 * self.per_image() * self.cells();
        let masks = self.masks[part * rows..(part + 1) * rows].to_vec();
        (
            self.pixels[start..start + 2 * size].to_vec(),
            Masks::new(masks, self.cells(), self.per_image()).unwrap(),
        )
    }

    /// Takes update `update`; gives the mean loss of its parts.
    pub fn step(&self, cpu: &Cpu, trainer: &mut Trainer<Cpu>, update: usize) -> (f64, Update) {
        let mut losses = 0.0;
        for part in 0..self.parts {
            let (pixels, masks) = self.batch(update * self.parts + part);
            losses += trainer.accumulate(cpu, self.images(&pixels), &masks, self.parts).unwrap();
        }
        (losses / self.parts as f64, trainer.update(cpu).unwrap())
    }

    /// All ten updates; the bits of every parameter, then of the losses and norms.
    pub fn bits(&self, cpu: &Cpu, config: AlignConfig) -> Vec<u32> {
        let mut trainer = self.trainer(cpu, config);
        let mut bits = Vec::new();
        for update in 0..UPDATES {
            let (loss, Update { norm, .. }) = self.step(cpu, &mut trainer, update);
            bits.extend(
                [loss, norm].into_iter().flat_map(|x| [x.to_bits() as u32, (x.to_bits() >> 32) as u32]),
            );
        }
        for parameter in trainer.parameters().iter() {
            let matrix = cpu.read(&parameter.weight, 1, parameter.weight.elements()).unwrap();
            bits.extend(cpu.download(matrix.view()).unwrap().iter().map(|x| x.to_bits()));
        }
        bits
    }
}

fn config(fields: &Fields) -> AlignConfig {
    let decoder = fields.child("decoder").unwrap();
    let student = VitConfig::from_fields(&fields.child("student").unwrap()).unwrap();
    let flag = |name: &str| fields.bool_or(name, false).unwrap();
    let rate = fields.f64_or("rate", 0.0).unwrap();
    let objective = Objective::MaskEmbed {
        skip_blocks: fields.usize("skip_blocks").unwrap(),
        prefix_only: flag("prefix_only"),
        freeze_encoder: flag("freeze_encoder"),
        decoder: DecoderConfig {
            layers: decoder.usize("layers").unwrap(),
            width: decoder.usize("width").unwrap(),
            heads: decoder.usize("heads").unwrap(),
            qkv_bias: decoder.bool_or("qkv_bias", true).unwrap(),
            qk_norm: decoder.bool_or("qk_norm", false).unwrap(),
            layer_scale: decoder.optional_f32("layer_scale").unwrap(),
            activation: student.activation,
            eps: 1e-6,
        },
    };
    AlignConfig {
        teacher: VitConfig::from_fields(&fields.child("teacher").unwrap()).unwrap(),
        student,
        objective: if flag("mim") { Objective::Mim } else { objective },
        head: match fields.str("head").unwrap() {
            "mlp" => HeadKind::Mlp,
            _ => HeadKind::Linear,
        },
        fresh_eps: 1e-6,
        masks: MaskKind::Uniform,
        antithetical: true,
        full_mask: flag("full_mask"),
        loss: match fields.str("loss").unwrap() {
            "mse" => Loss::Mse,
            "cosine" => Loss::Cosine,
            "l1" => Loss::L1,
            "masked_mse" => Loss::MaskedMse,
            "unmasked_mse" => Loss::UnmaskedMse,
            other => panic!("no loss {other}"),
        },
        optimiser: AdamwConfig {
            decay: fields.f64_or("weight_decay", 0.0).unwrap(),
            decays: if fields.str("decays").unwrap() == "all" { Decay::All } else { Decay::Matrices },
            clip: Some(fields.f64_or("clip", 0.0).unwrap()),
            ..AdamwConfig::RECIPE
        },
        schedule: Schedule {
            warmup: fields.usize("warmup").unwrap() as u64,
            ..Schedule::cosine(rate, UPDATES as u64)
        },
        ema: flag("ema").then_some(EmaConfig { decay: 0.9, warmup: true }),
        checkpointing: false,
    }
}
