//! Files to pixels: kinds of PNG, JPEG against Pillow (`tools/fixtures_pictures.py`), damaged files.

use png::{BitDepth, ColorType};
use triplet::Error;
use triplet::finetune::files::Picture;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pictures");

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(format!("{FIXTURES}/{name}")).unwrap()
}

/// A PNG file of 2x2 pixels.
fn png(colour: ColorType, depth: BitDepth, palette: Option<&[u8]>, data: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 2, 2);
    encoder.set_color(colour);
    encoder.set_depth(depth);
    if let Some(palette) = palette {
        encoder.set_palette(palette.to_vec());
        encoder.set_trns(vec![255, 0]);
    }
    encoder.write_header().unwrap().write_image_data(data).unwrap();
    file
}

#[test]
fn every_kind_of_png_becomes_three_channels() {
    let rgb: Vec<u8> = (1..=12).map(|i| i * 20).collect();
    let grey = [0u8, 0, 0, 80, 80, 80, 160, 160, 160, 240, 240, 240];
    let wide = |bytes: &[u8]| -> Vec<u8> { bytes.iter().flat_map(|&byte| [byte, 99]).collect() };
    let rgba: Vec<u8> = rgb.chunks(3).flat_map(|p| [p[0], p[1], p[2], 7]).collect();
    let cases = [
        ("rgb", png(ColorType::Rgb, BitDepth::Eight, None, &rgb), rgb.clone()),
        ("rgb of 16 bits", png(ColorType::Rgb, BitDepth::Sixteen, None, &wide(&rgb)), rgb.clone()),
        ("alpha is dropped", png(ColorType::Rgba, BitDepth::Eight, None, &rgba), rgb),
        ("grey", png(ColorType::Grayscale, BitDepth::Eight, None, &[0, 80, 160, 240]), grey.to_vec()),
        (
            "grey with alpha",
            png(ColorType::GrayscaleAlpha, BitDepth::Eight, None, &[0, 9, 80, 9, 160, 9, 240, 9]),
            grey.to_vec(),
        ),
        (
            "one bit",
            png(ColorType::Grayscale, BitDepth::One, None, &[0b0100_0000, 0b1000_0000]),
            vec![0, 0, 0, 255, 255, 255, 255, 255, 255, 0, 0, 0],
        ),
        (
            "palette",
            png(ColorType::Indexed, BitDepth::One, Some(&[1, 2, 3, 4, 5, 6]), &[0b0100_0000, 0b1000_0000]),
            vec![1, 2, 3, 4, 5, 6, 4, 5, 6, 1, 2, 3],
        ),
    ];
    for (name, file, want) in cases {
        let picture = Picture::decode(name, &file).unwrap();
        assert_eq!((picture.width, picture.height), (2, 2), "{name}");
        assert_eq!(picture.pixels, want, "{name}");
    }
}

/// JPEG leaves the rounding of its transform to the decoder, and the interpolation of halved colours too: a few steps of 255
/// apart where colours are whole, more along edges where they are halved.
#[test]
fn jpeg_agrees_with_pillow() {
    for (name, most, mean) in [
        ("colour_444", 6, 0.6),
        ("progressive", 6, 0.6),
        ("restart", 6, 0.6),
        ("grey", 3, 0.4),
        ("colour_420", 40, 1.5),
    ] {
        let got = Picture::decode(name, &fixture(&format!("{name}.jpg"))).unwrap();
        let want = Picture::decode(name, &fixture(&format!("{name}.png"))).unwrap();
        assert_eq!((got.width, got.height), (want.width, want.height));
        let apart: Vec<u8> = got.pixels.iter().zip(&want.pixels).map(|(&a, &b)| a.abs_diff(b)).collect();
        let worst = apart.iter().copied().max().unwrap();
        let average = apart.iter().map(|&x| f64::from(x)).sum::<f64>() / apart.len() as f64;
        println!("{name}: largest difference {worst}, mean {average:.3}");
        assert!(worst <= most && average <= mean, "{name}: {worst} {average}");
        assert!(want.pixels.iter().any(|&x| x > 200) && want.pixels.iter().any(|&x| x < 50));
    }
}

/// What is cut short is refused wherever it ends; what has wrong bytes is refused or decoded, and nothing panics.
#[test]
fn damaged_files_are_refused() {
    for name in ["colour_444.jpg", "progressive.jpg", "grey.jpg", "colour_420.png"] {
        let good = fixture(name);
        assert!(Picture::decode(name, &good).is_ok(), "{name}");
        let mut accepted = 0;
        for len in (0..good.len() - 12).step_by(3) {
            match Picture::decode(name, &good[..len]) {
                Err(Error::Format { file, reason }) => assert!(file == name && !reason.is_empty()),
                Err(other) => panic!("{name} {len}: {other}"),
                Ok(_) => accepted += 1,
            }
        }
        // The last few bytes may be padding that no pixel needs.
        assert!(accepted <= 6, "{name}: {accepted} cut files were taken");
        for at in (0..good.len()).step_by(2) {
            for flip in [0x01, 0xFF] {
                let mut bad = good.clone();
                bad[at] ^= flip;
                let _ = Picture::decode(name, &bad).is_ok();
            }
        }
    }
    for bytes in [&b""[..], b"\xff", b"GIF89a", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"] {
        assert!(matches!(Picture::decode("x", bytes), Err(Error::Format { .. })), "{bytes:?}");
    }
}

/// A header of 32,000 x 32,000 pixels over no data must not ask for gigabytes.
#[test]
fn a_huge_size_is_refused_before_its_memory_is_asked_for() {
    let mut file = fixture("colour_444.jpg");
    let frame = file.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap();
    file[frame + 5..frame + 9].copy_from_slice(&[0x7D, 0, 0x7D, 0]);
    let refused = Picture::decode("huge", &file);
    assert!(matches!(refused, Err(Error::Limit { limit: "picture pixels", .. })), "{refused:?}");
}
