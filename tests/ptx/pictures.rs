//! Kernels of pictures: prepare_across and prepare_down, which together are `Preprocessor::prepare`.

use triplet::backend::Grid;
use triplet::config::Fields;
use triplet::image::{ImageView, PixelFormat, Preprocessor, Square};
use triplet::reference;

use super::launch::{Arg, Kernels};
use super::memory::Memory;
use super::operand::output;
use Arg::{Address, Number, Single};

/// A preprocessor's fields; width, height and bytes between rows of a picture; its format.
type Case = (&'static str, [usize; 3], PixelFormat);

/// Smaller, larger and as large, on either side of a square or as it is; both filters; cut or not; every format.
const CASES: [Case; 7] = [
    (r#"{"size": 7, "crop_size": 7}"#, [11, 5, 0], PixelFormat::Rgb8),
    (r#"{"size": 9, "crop_size": 9, "resample": 2}"#, [3, 8, 5], PixelFormat::Bgra8),
    (r#"{"size": 6, "crop_size": 6}"#, [6, 6, 1], PixelFormat::Gray8),
    (r#"{"size": 6, "crop_size": 4, "pad_to_square": false}"#, [19, 8, 0], PixelFormat::Bgr8),
    (
        r#"{"size": {"height": 20, "width": 5}, "crop_size": {"height": 9, "width": 5}, "pad_to_square": false}"#,
        [4, 31, 2],
        PixelFormat::Rgba8,
    ),
    (
        r#"{"size": 18, "crop_size": 18, "pad_color": [255, 0, 9], "do_normalize": false}"#,
        [1, 2, 0],
        PixelFormat::Rgb8,
    ),
    (r#"{"do_resize": false, "do_center_crop": false, "resample": 2}"#, [20, 13, 0], PixelFormat::Rgb8),
];

/// Every bit as [`Square::unpad_map`] and a comparison give it: wide, high and square pictures, more and fewer pixels than cells, words
/// that a row or the picture does not fill, a threshold that a value has, a NaN.
pub fn mask_pixels(kernels: &Kernels) -> Result<(), String> {
    for (i, (width, height, grid)) in [
        (11, 7, [5, 5]),
        (3, 40, [4, 9]),
        (8, 8, [8, 8]),
        (70, 1, [3, 2]),
        (1, 1, [1, 1]),
        (100, 30, [90, 7]),
    ]
    .into_iter()
    .enumerate()
    {
        let (grid, square) = (Grid { height: grid[0], width: grid[1] }, Square::new(width, height).unwrap());
        let (maps, gap) = (3, i % 2 * 3);
        let mut numbers = reference::uniform(maps * grid.cells(), 91 + i as u64);
        if i == 2 {
            numbers[5] = f32::NAN;
        }
        let threshold = if i == 2 { numbers[9] } else { 0.05 };
        let memory = Memory::new();
        let words = (width * height).div_ceil(32);
        let out = output(&memory, maps * words);
        let args = [
            Address(out),
            Address(memory.matrix(&numbers, grid.cells(), grid.cells() + gap, 4)),
            Number(maps),
            Number(grid.height),
            Number(grid.width),
            Number(square.side()),
            Number(height),
            Number(width),
            Number(square.left()),
            Number(square.top()),
            Number(grid.cells() + gap),
            Single(threshold),
        ];
        kernels.launch("mask_pixels", [(maps * words).div_ceil(256), 1, 1], 256, 0, &args, &memory)?;
        let got = memory.read(out, maps * words)?;
        for (map, (numbers, got)) in numbers.chunks(grid.cells()).zip(got.chunks(words)).enumerate() {
            let mut want = vec![0u32; words];
            for (pixel, value) in square.unpad_map(numbers, grid).unwrap().into_iter().enumerate() {
                want[pixel / 32] |= u32::from(value > threshold) << (pixel % 32);
            }
            if got != want {
                return Err(format!("mask_pixels {width}x{height}: map {map} is {got:x?}, not {want:x?}"));
            }
        }
    }
    Ok(())
}

/// Both kernels one after the other, bit for bit as on the host.
pub fn prepare(kernels: &Kernels) -> Result<(), String> {
    for (i, (fields, [width, height, gap], format)) in CASES.into_iter().enumerate() {
        let preprocessor = Preprocessor::load(&Fields::parse("case", fields.as_bytes()).unwrap()).unwrap();
        let stride = width * format.bytes() + gap;
        // Extremes beside each other, which the filters take beyond a byte's range.
        let byte =
            |i: usize| if i.is_multiple_of(3) { 255 * (i / 3 % 2) as u8 } else { (i * 89 % 256) as u8 };
        let bytes: Vec<u8> = (0..stride * (height - 1) + width * format.bytes()).map(byte).collect();
        let image = ImageView::new(&bytes, width, height, stride, format).unwrap();
        let want = preprocessor.prepare(&image).unwrap();
        let passes = preprocessor.passes(width, height).unwrap();
        let memory = Memory::new();
        let cols = passes.across.bounds.len();
        let (resized, out) = (memory.room(passes.rows * cols * 4, 0), output(&memory, want.data.len()));
        let words = |numbers: &[i32]| memory.words(&numbers.iter().map(|&x| x as u32).collect::<Vec<_>>());
        let [red, green, blue] = format.channels();
        let [r, g, b] = passes.color;
        let args = [
            Address(resized),
            Address(memory.bytes(image.bytes(), 0)),
            Address(memory.words(passes.across.bounds.as_flattened())),
            Address(words(&passes.across.weights)),
            Number(passes.across.taps),
            Number(passes.rows),
            Number(cols),
            Number(passes.offset[0]),
            Number(passes.offset[1]),
            Number(width),
            Number(height),
            Number(stride),
            Number(format.bytes()),
            Number(red),
            Number(green),
            Number(blue),
            Number(u32::from_le_bytes([r, g, b, 0]) as usize),
        ];
        kernels.launch(
            "prepare_across",
            [(passes.rows * cols).div_ceil(256), 1, 1],
            256,
            0,
            &args,
            &memory,
        )?;
        let [left, top, crop_width, crop_height] = passes.crop;
        let table: Vec<u32> = preprocessor.normalised_bytes().into_iter().map(f32::to_bits).collect();
        let args = [
            Address(out),
            Address(resized),
            Address(memory.words(passes.down.bounds.as_flattened())),
            Address(words(&passes.down.weights)),
            Address(memory.words(&table)),
            Number(passes.down.taps),
            Number(crop_height),
            Number(crop_width),
            Number(left),
            Number(top),
            Number(cols),
        ];
        let blocks = (crop_width * crop_height).div_ceil(256);
        kernels.launch("prepare_down", [blocks, 1, 1], 256, 0, &args, &memory)?;
        let got =
            memory.read_f32(out, want.data.len()).map_err(|what| format!("prepare case {i}: {what}"))?;
        if let Some(at) = got.iter().zip(&want.data).position(|(got, want)| got.to_bits() != want.to_bits()) {
            return Err(format!(
                "prepare case {i}: element {at} is {} instead of {}",
                got[at], want.data[at]
            ));
        }
    }
    Ok(())
}

#[test]
fn pictures() {
    prepare(&Kernels::new(3)).unwrap();
    prepare(&Kernels::new(103)).unwrap();
    mask_pixels(&Kernels::new(4)).unwrap();
    mask_pixels(&Kernels::new(104)).unwrap();
}
