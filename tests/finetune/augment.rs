//! The augmentation against timm's, byte for byte, with the same draws.

use triplet::backend::Backend;
use triplet::cpu::Cpu;
use triplet::finetune::Augmentation;
use triplet::image::{ImageView, Resample};
use triplet::weights::{Access, Loader, Weights};

#[test]
fn bytes_are_those_of_timm() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/finetune_augment.safetensors");
    let weights = Weights::open_file(path, Access::Map).unwrap();
    let cpu = Cpu::with_threads(1);
    let loader = Loader::new(&weights, &cpu, "");
    let numbers = |name: &str| -> (Vec<usize>, Vec<f32>) {
        let shape = loader.shape(name).unwrap();
        let weight = loader.weight(name, &shape).unwrap();
        let matrix = cpu.read(&weight, 1, weight.elements()).unwrap();
        (shape, cpu.download(matrix.view()).unwrap())
    };
    let bytes = |numbers: &[f32]| -> Vec<u8> { numbers.iter().map(|&x| x as u8).collect() };
    let mut cases = 0;
    while weights.has(&format!("input.picture{cases}")) {
        let (shape, pixels) = numbers(&format!("input.picture{cases}"));
        let (_, draws) = numbers(&format!("input.draws{cases}"));
        let given = |x: f32| (x != 0.0).then_some(f64::from(x));
        let augmentation = Augmentation {
            area: given(draws[1]),
            aspect: given(draws[2]),
            filter: if draws[3] == 1.0 { Resample::Bicubic } else { Resample::Bilinear },
            flip: draws[4] == 1.0,
        };
        let pixels = bytes(&pixels);
        let image = ImageView::rgb8(&pixels, shape[1], shape[0]).unwrap();
        let got = augmentation.apply(&image, draws[0] as usize).unwrap();
        let (square, want) = numbers(&format!("output.square{cases}"));
        assert_eq!(square, [draws[0] as usize, draws[0] as usize, 3]);
        assert!(got == bytes(&want), "case {cases}: {augmentation:?} of {shape:?}");
        cases += 1;
    }
    assert_eq!(cases, 8);
}
