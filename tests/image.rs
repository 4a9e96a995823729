//! Pictures against Pillow, transformers and PyTorch (`tools/fixtures_image.py`), and the laws of padding and prompts.
#![cfg(feature = "std")]

use proptest::prelude::*;
use triplet::Error;
use triplet::backend::Grid;
use triplet::config::Fields;
use triplet::image::{
    ImageView, MAX_PROMPTS, MAX_SIDE, PixelFormat, Preprocessor, PromptResize, Region, Resample, Square,
    VisualPrompt, regions, resize,
};
use triplet::weights::{Dtype, Tensor, Weights};

fn fixtures() -> Weights {
    Weights::from_bytes(include_bytes!("fixtures/image.safetensors")).unwrap()
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    match tensor.dtype() {
        Dtype::F32 => tensor.bytes().as_chunks().0.iter().map(|&x| f32::from_le_bytes(x)).collect(),
        Dtype::F16 => {
            tensor.bytes().as_chunks().0.iter().map(|&x| half::f16::from_le_bytes(x).to_f32()).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn bytes(tensor: &Tensor) -> Vec<u8> {
    floats(tensor).into_iter().map(|x| x as u8).collect()
}

/// `"12x34"` or `"12-34"`.
fn pair(text: &str) -> (usize, usize) {
    let (a, b) = text.split_once(['x', '-']).unwrap();
    (a.parse().unwrap(), b.parse().unwrap())
}

/// Every case of a kind: the parts of its name, its input and its output.
fn cases(kind: &str, run: impl Fn(&[&str], &Tensor, &Tensor)) {
    let weights = fixtures();
    let mut count = 0;
    for name in weights.names().filter(|name| name.ends_with("/in") && name.starts_with(kind)) {
        let key = name.strip_suffix("/in").unwrap();
        let parts: Vec<&str> = key.split('/').skip(1).collect();
        let out = weights.get(&format!("{key}/out")).unwrap();
        println!("{key}");
        run(&parts, weights.get(name).unwrap(), out);
        count += 1;
    }
    assert!(count > 0, "no fixture of kind {kind}");
}

fn close(got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len());
    for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!((got - expected).abs() <= tolerance, "element {index}: {got} instead of {expected}");
    }
}

fn preprocessor(json: &str) -> Preprocessor {
    Preprocessor::load(&Fields::parse("preprocessor", json.as_bytes()).unwrap()).unwrap()
}

fn clip(edge: usize, crop: usize, pad: bool) -> Preprocessor {
    preprocessor(&format!(
        r#"{{"size": {{"shortest_edge": {edge}}}, "crop_size": {{"height": {crop}, "width": {crop}}},
            "resample": 3, "do_convert_rgb": true, "pad_to_square": {pad}}}"#
    ))
}

#[test]
fn resize_gives_the_bytes_of_pillow() {
    cases("resize/", |parts, input, out| {
        let filter = if parts[0] == "bicubic" { Resample::Bicubic } else { Resample::Bilinear };
        let (pixels, from, to) = (bytes(input), pair(parts[2]), pair(parts[3]));
        let got = match parts[1] {
            "1" => resize::<1>(&pixels, from, to, filter),
            _ => resize::<3>(&pixels, from, to, filter),
        };
        assert_eq!(got.unwrap(), bytes(out));
    });
}

#[test]
fn preprocessing_agrees_with_transformers() {
    cases("clip/", |parts, input, out| {
        let ((width, height), edge) = (pair(parts[0]), parts[1].parse().unwrap());
        let pixels = bytes(input);
        let image = ImageView::rgb8(&pixels, width, height).unwrap();
        let got = clip(edge, edge, true).prepare(&image).unwrap();
        assert_eq!((got.width, got.height), (edge, edge));
        close(&got.data, &floats(out), 1e-6);
    });
    cases("plain/", |parts, input, out| {
        let ((width, height), (edge, crop)) = (pair(parts[0]), pair(parts[1]));
        let pixels = bytes(input);
        let image = ImageView::rgb8(&pixels, width, height).unwrap();
        let got = clip(edge, crop, false).prepare(&image).unwrap();
        assert_eq!((got.width, got.height), (crop, crop));
        close(&got.data, &floats(out), 1e-6);
    });
}

#[test]
fn maps_agree_with_interpolate() {
    cases("unpad/", |parts, input, out| {
        let ((width, height), (cols, rows)) = (pair(parts[0]), pair(parts[1]));
        let grid = Grid { height: rows, width: cols };
        let square = Square::new(width, height).unwrap();
        let map = floats(input);
        close(&square.unpad_map(&map, grid).unwrap(), &floats(out), 1e-5);

        let logits: Vec<f32> = map.iter().map(|x| 5.0 * x).collect();
        let probabilities: Vec<f32> = logits.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect();
        let expected = square.unpad_map(&probabilities, grid).unwrap();
        let mask = square.unpad_mask(&logits, grid, 0.4).unwrap();
        for (on, p) in mask.iter().zip(&expected) {
            assert!(*on == (*p > 0.4) || (p - 0.4).abs() < 1e-6);
        }
        close(&square.unpad_depth(&logits, grid, None).unwrap(), &expected, 1e-6);
        let metres: Vec<f32> = expected.iter().map(|s| 0.5 + 3.5 * s).collect();
        close(&square.unpad_depth(&logits, grid, Some([0.5, 4.0])).unwrap(), &metres, 1e-5);
    });
}

#[test]
fn reference_prompts_agree_with_the_reference() {
    cases("prompt/", |parts, input, out| {
        let ((width, height), (edge, grid)) = (pair(parts[1]), pair(parts[2]));
        let value = floats(input);
        let pixels = bytes(input);
        let prompt = match parts[0] {
            "point" => VisualPrompt::Point([value[0], value[1]]),
            "box" => VisualPrompt::Box([value[0], value[1], value[2], value[3]]),
            _ => VisualPrompt::Mask(&pixels),
        };
        let square = Square::new(width, height).unwrap();
        let grid = Grid { height: grid, width: grid };
        let got = regions(&[prompt], &square, &clip(edge, edge, true), grid, PromptResize::Reference);
        let expected: Vec<bool> = floats(out).into_iter().map(|x| x > 0.0).collect();
        if expected.contains(&true) {
            assert_eq!(got.unwrap()[0].cells, expected);
        } else {
            assert!(matches!(got, Err(Error::Input { .. })));
        }
    });
}

#[test]
fn pixel_formats_and_strides_read_the_same_picture() {
    let (width, height) = (5, 3);
    let rgb: Vec<u8> = (0..width * height * 3).map(|i| (i * 37 % 251) as u8).collect();
    let expected = clip(8, 8, true).prepare(&ImageView::rgb8(&rgb, width, height).unwrap()).unwrap();
    for (format, order) in [
        (PixelFormat::Rgb8, [0, 1, 2].as_slice()),
        (PixelFormat::Bgr8, &[2, 1, 0]),
        (PixelFormat::Rgba8, &[0, 1, 2, 3]),
        (PixelFormat::Bgra8, &[2, 1, 0, 3]),
    ] {
        let stride = width * order.len() + 7;
        let mut pixels = vec![99; stride * (height - 1) + width * order.len()];
        for (index, rgb) in rgb.chunks(3).enumerate() {
            let at = index / width * stride + index % width * order.len();
            for (slot, &channel) in order.iter().enumerate() {
                pixels[at + slot] = *rgb.get(channel).unwrap_or(&(index as u8));
            }
        }
        let image = ImageView::new(&pixels, width, height, stride, format).unwrap();
        assert_eq!(clip(8, 8, true).prepare(&image).unwrap(), expected, "{format:?}");
    }
    let grey: Vec<u8> = (0..width * height).map(|i| (i * 17) as u8).collect();
    let triple: Vec<u8> = grey.iter().flat_map(|&g| [g; 3]).collect();
    let image = ImageView::new(&grey, width, height, width, PixelFormat::Gray8).unwrap();
    let rgb = ImageView::rgb8(&triple, width, height).unwrap();
    assert_eq!(clip(8, 8, true).prepare(&image), clip(8, 8, true).prepare(&rgb));
}

#[test]
fn bad_pictures_are_named() {
    let pixels = [0u8; 64];
    let field =
        |width, height, stride| match ImageView::new(&pixels, width, height, stride, PixelFormat::Rgb8) {
            Err(Error::Input { field, .. }) => field,
            Err(Error::Limit { limit, .. }) => limit,
            other => panic!("{other:?}"),
        };
    assert_eq!(field(0, 4, 12), "image.width");
    assert_eq!(field(4, 0, 12), "image.height");
    assert_eq!(field(4, 4, 11), "image.stride");
    assert_eq!(field(4, 6, 12), "image.pixels");
    assert_eq!(field(MAX_SIDE + 1, 1, usize::MAX), "image.width");
    assert_eq!(field(MAX_SIDE, MAX_SIDE, usize::MAX), "image pixels");
    assert_eq!(field(4, usize::MAX, 12), "image.height");
    assert!(ImageView::new(&pixels, 4, 4, usize::MAX, PixelFormat::Rgb8).is_err());
    // the last row may end before its stride
    assert!(ImageView::new(&pixels, 4, 3, 26, PixelFormat::Rgb8).is_ok());
    assert!(resize::<3>(&pixels, (4, 4), (2, 2), Resample::Bicubic).is_err());
    assert!(Square::new(3, 0).is_err());
    let map = Square::new(3, 4).unwrap().unpad_map(&[0.0; 5], Grid { height: 2, width: 3 });
    assert!(matches!(map, Err(Error::Shape { .. })));
}

#[test]
fn bad_preprocessors_name_the_field() {
    for (json, expected) in [
        (r#"{"size": {"shortest_edge": 0}}"#, "size.shortest_edge"),
        (r#"{"size": {"height": 3}}"#, "size.width"),
        (r#"{"size": 100000}"#, "size"),
        (r#"{"crop_size": {"height": 224}}"#, "crop_size.width"),
        (r#"{"crop_size": 200}"#, "crop_size"),
        (r#"{"resample": 1}"#, "resample"),
        (r#"{"image_mean": [0.5, 0.5]}"#, "image_mean"),
        (r#"{"image_mean": "clip"}"#, "image_mean"),
        (r#"{"image_std": [0.5, 0, 0.5]}"#, "image_std"),
        (r#"{"do_resize": 1}"#, "do_resize"),
        (r#"{"pad_color": [1, 2, 256]}"#, "pad_color"),
    ] {
        match Preprocessor::load(&Fields::parse("p", json.as_bytes()).unwrap()) {
            Err(Error::Config { field, .. }) => assert_eq!(field, expected, "{json}"),
            other => panic!("{json}: {other:?}"),
        }
    }
}

/// The region of one prompt on a picture, at a grid of 8x8 cells.
fn region(prompt: VisualPrompt<'_>, (width, height): (usize, usize)) -> Result<Region, Error> {
    let square = Square::new(width, height)?;
    let grid = Grid { height: 8, width: 8 };
    let all = regions(&[prompt], &square, &clip(32, 32, true), grid, PromptResize::Touch)?;
    Ok(all.into_iter().next().unwrap())
}

fn drawn(region: &Region) -> Vec<String> {
    let row = |row: &[bool]| row.iter().map(|&on| if on { '#' } else { '.' }).collect();
    region.cells.chunks(region.grid.width).map(row).collect()
}

#[test]
fn prompts_turn_on_the_cells_they_touch() {
    // 80x40 in a square of 80: cells of 10 pixels, the picture in rows 2 to 5
    let size = (80, 40);
    let on = |prompt| {
        let cells = region(prompt, size).unwrap().cells;
        (0..64).filter(|&i| cells[i]).map(|i| (i / 8, i % 8)).collect::<Vec<_>>()
    };
    // radius 10/336 * 80 = 2.38
    assert_eq!(on(VisualPrompt::Point([5.0, 5.0])), [(2, 0)]);
    assert_eq!(on(VisualPrompt::Point([11.0, 9.0])), [(2, 0), (2, 1), (3, 0), (3, 1)]);
    assert_eq!(on(VisualPrompt::Point([12.2, 12.2])), [(2, 1), (3, 0), (3, 1)]);
    // edges on a cell's border touch nothing beyond it
    assert_eq!(on(VisualPrompt::Box([10.0, 0.0, 20.0, 10.0])), [(2, 1)]);
    assert_eq!(on(VisualPrompt::Box([9.9, 0.0, 20.0, 10.1])), [(2, 0), (2, 1), (3, 0), (3, 1)]);
    assert_eq!(on(VisualPrompt::Box([-50.0, -50.0, 5.0, 5.0])), [(2, 0)]);
    let diagonal = [[5.0, 5.0], [25.0, 25.0]];
    let thin = VisualPrompt::Scribble { points: &diagonal, width: Some(0.1) };
    assert_eq!(on(thin), [(2, 0), (2, 1), (3, 0), (3, 1), (3, 2), (4, 1), (4, 2)]);
    let dot = VisualPrompt::Scribble { points: &[[15.0, 15.0]], width: None };
    assert_eq!(on(dot), [(3, 1)]);
    // a scribble is drawn with a brush of a point's size
    let places = [[5.0, 5.0], [11.0, 9.0], [12.2, 12.2]];
    for points in places.chunks(1) {
        let dot = VisualPrompt::Scribble { points, width: None };
        assert_eq!(on(dot), on(VisualPrompt::Point(points[0])));
    }
    // through a cell with both ends outside it
    let line = [[1.0, 15.0], [79.0, 15.0]];
    let line = VisualPrompt::Scribble { points: &line, width: Some(1.0) };
    assert_eq!(drawn(&region(line, size).unwrap())[3], "########");
    let mut mask = vec![0; 80 * 40];
    mask[39 * 80 + 79] = 1;
    mask[0] = 255;
    assert_eq!(on(VisualPrompt::Mask(&mask)), [(2, 0), (5, 7)]);
    // a picture smaller than the grid: one pixel covers several cells
    assert_eq!(
        region(VisualPrompt::Mask(&[1, 0]), (2, 1)).unwrap().cells.iter().filter(|&&on| on).count(),
        16
    );
}

#[test]
fn bad_prompts_are_named() {
    let size = (80, 40);
    let expect = |prompt: VisualPrompt<'_>, expected: &str| match region(prompt, size) {
        Err(Error::Input { field, reason }) => {
            assert_eq!(field, expected);
            assert!(reason.starts_with("prompt 0 "), "{reason}");
        }
        other => panic!("{other:?}"),
    };
    for point in [[81.0, 5.0], [5.0, 40.5], [-0.1, 5.0], [f32::NAN, 5.0], [5.0, f32::INFINITY]] {
        expect(VisualPrompt::Point(point), "prompt.point");
        expect(VisualPrompt::Scribble { points: &[[1.0, 1.0], point], width: None }, "prompt.scribble");
    }
    for corners in [[90.0, 0.0, 95.0, 9.0], [9.0, 9.0, 9.0, 12.0], [9.0, 9.0, 3.0, 12.0], [f32::NAN; 4]] {
        expect(VisualPrompt::Box(corners), "prompt.box");
    }
    expect(VisualPrompt::Scribble { points: &[], width: None }, "prompt.scribble");
    for width in [0.0, -1.0, f32::NAN, 1e30] {
        expect(VisualPrompt::Scribble { points: &[[1.0, 1.0]], width: Some(width) }, "prompt.scribble");
    }
    expect(VisualPrompt::Mask(&[1; 7]), "prompt.mask");
    expect(VisualPrompt::Mask(&vec![0; 80 * 40]), "prompt.mask");
    let long = vec![[1.0, 1.0]; 5000];
    let long = region(VisualPrompt::Scribble { points: &long, width: None }, size);
    assert!(matches!(long, Err(Error::Limit { limit: "scribble points", .. })));
    let many = vec![VisualPrompt::Point([1.0, 1.0]); MAX_PROMPTS + 1];
    let square = Square::new(80, 40).unwrap();
    let grid = Grid { height: 8, width: 8 };
    let many = regions(&many, &square, &clip(32, 32, true), grid, PromptResize::Touch);
    assert!(matches!(many, Err(Error::Limit { limit: "prompts", got: 65, .. })));
    let field = Fields::parse("c", br#"{"prompt_resize": "bigger"}"#).unwrap();
    assert!(matches!(PromptResize::load(&field), Err(Error::Config { .. })));
}

#[test]
fn the_reference_rule_loses_points_and_says_so() {
    // 1280 pixels to 336 to 24 cells of 14: a disc of 10 pixels fits between the sampled pixels
    let square = Square::new(1280, 960).unwrap();
    let grid = Grid { height: 24, width: 24 };
    let prompt = [VisualPrompt::Point([54.0, 54.0])];
    let rule = |rule| regions(&prompt, &square, &clip(336, 336, true), grid, rule);
    assert!(matches!(rule(PromptResize::Reference), Err(Error::Input { field: "prompt.point", .. })));
    assert!(rule(PromptResize::Touch).unwrap()[0].cells.contains(&true));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn unpadding_inverts_padding(
        (width, height) in (1usize..5000, 1usize..5000),
        (u, v, s, t) in (0f32..1.0, 0f32..1.0, 0f32..1.0, 0f32..1.0),
    ) {
        let square = Square::new(width, height).unwrap();
        let (w, h) = (width as f32, height as f32);
        let tolerance = square.side() as f32 * 4e-7;
        let [x, y] = square.unpad_point(square.pad_point([u * w, v * h]));
        prop_assert!((x - u * w).abs() <= tolerance && (y - v * h).abs() <= tolerance);
        let corners = [u.min(s) * w, v.min(t) * h, u.max(s) * w, v.max(t) * h];
        let back = square.unpad_box(square.pad_box(corners));
        for (back, corner) in back.iter().zip(corners) {
            prop_assert!((back - corner).abs() <= tolerance);
        }
        prop_assert_eq!(square.clamp_box(corners), corners);
    }

    #[test]
    fn padding_centres_the_picture(width in 1usize..3000, height in 1usize..3000) {
        let square = Square::new(width, height).unwrap();
        let (right, below) = (square.side() - square.left() - width, square.side() - square.top() - height);
        prop_assert!(square.left() == 0 || square.top() == 0);
        prop_assert!(right - square.left() <= 1 && below - square.top() <= 1);
    }

    #[test]
    fn the_padded_picture_is_the_picture_on_its_colour(width in 1usize..12, height in 1usize..12) {
        let pixels: Vec<u8> = (0..width * height * 3).map(|i| (i * 91 % 256) as u8).collect();
        let image = ImageView::rgb8(&pixels, width, height).unwrap();
        let whole = preprocessor(r#"{"do_resize": false, "do_center_crop": false, "pad_color": [1, 2, 3]}"#);
        let square = Square::new(width, height).unwrap();
        for (index, pixel) in whole.resized_bytes(&image).unwrap().chunks(3).enumerate() {
            let (x, y) = (index % square.side(), index / square.side());
            let inside = x.checked_sub(square.left()).filter(|&x| x < width).zip(
                y.checked_sub(square.top()).filter(|&y| y < height));
            let expected = match inside {
                Some((x, y)) => &pixels[(y * width + x) * 3..][..3],
                None => &[1, 2, 3],
            };
            prop_assert_eq!(pixel, expected);
        }
    }

    #[test]
    fn any_prompt_gives_a_region_or_an_error(
        (width, height) in (1usize..40, 1usize..40),
        numbers in prop::array::uniform4(prop_oneof![-5f32..45.0, any::<f32>()]),
        reference in any::<bool>(),
    ) {
        let [a, b, c, d] = numbers;
        let line = [[a, b], [c, d]];
        let prompts = [
            VisualPrompt::Point([a, b]),
            VisualPrompt::Box(numbers),
            VisualPrompt::Scribble { points: &line, width: Some(d) },
            VisualPrompt::Scribble { points: &line, width: None },
        ];
        let rule = if reference { PromptResize::Reference } else { PromptResize::Touch };
        let square = Square::new(width, height).unwrap();
        for prompt in prompts {
            let grid = Grid { height: 5, width: 5 };
            if let Ok(regions) = regions(&[prompt], &square, &clip(15, 15, true), grid, rule) {
                prop_assert!(regions[0].cells.contains(&true));
            }
        }
    }
}
