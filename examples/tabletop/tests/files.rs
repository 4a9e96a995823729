//! `tabletop write` and the record of `tabletop stream`, read back.
#![forbid(unsafe_code)]

use std::fs;
use std::path::PathBuf;

use tabletop::files::{CONVERSATIONS, millimetres, write};
use tabletop::record::{Header, encode};
use tabletop::rle::Rle;
use tabletop::stream::Plan;
use tabletop::{Options, Scene, render, turns};

#[test]
fn record_reads_back() {
    let picture = render(&Scene::from_seed(9), 160);
    let asked = turns(&picture, 9);
    let bytes = encode(picture.clone(), asked.clone()).expect("plain data");
    let length = u32::from_le_bytes(bytes[..4].try_into().expect("four bytes")) as usize;
    let header: Header = serde_json::from_slice(&bytes[4..4 + length]).expect("JSON");
    assert_eq!((header.turns, header.objects), (asked, picture.objects));
    let pixels = header.width * header.height;
    let rest = &bytes[4 + length..];
    assert_eq!(rest.len(), pixels * 8);
    assert_eq!(rest[..3 * pixels], picture.rgb);
    assert_eq!(rest[3 * pixels..4 * pixels], picture.instance);
    for (four, metres) in rest[4 * pixels..].chunks_exact(4).zip(&picture.depth) {
        let read = f32::from_le_bytes(four.try_into().expect("four bytes"));
        assert_eq!(read.to_bits(), metres.to_bits());
    }
}

#[test]
fn written_files_agree_with_the_scene() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("written");
    let plan = Plan { first_seed: 3, scenes: 4, long_side: 160, threads: 2, options: Options::default() };
    let mut steps = Vec::new();
    write(&plan, &folder, |done| steps.push(done)).expect("the folder can be written");
    assert_eq!(steps, [1, 2, 3, 4]);
    let text = fs::read_to_string(folder.join(CONVERSATIONS)).expect("written");
    let mut lines = text.lines();
    for seed in 3..7 {
        let r = render(&Scene::from_seed(seed), 160);
        let picture = read(&folder.join(format!("images/{seed:07}.png")));
        assert_eq!(picture, (r.width as u32, r.height as u32, r.rgb.clone()));
        let depth = read(&folder.join(format!("depth/{seed:07}.png"))).2;
        for (two, metres) in depth.chunks_exact(2).zip(&r.depth) {
            let stored = u16::from_be_bytes([two[0], two[1]]);
            assert_eq!(stored, millimetres(*metres));
            assert!(
                metres.is_nan() == (stored == 0)
                    && (metres.is_nan() || (stored as f32 - metres * 1e3).abs() < 0.51)
            );
        }
        for turn in turns(&r, seed) {
            let line: serde_json::Value =
                serde_json::from_str(lines.next().expect("a line per turn")).expect("JSON");
            assert_eq!(line["conversations"][0]["value"][0]["task"]["task_name"], turn.task.name());
            if turn.units == [tabletop::Unit::Mask] && turn.prompts.is_empty() {
                let masks = line["target"]["masks"].as_array().cloned().unwrap_or_default();
                for (rle, id) in masks.into_iter().zip(turn.targets.iter().flatten()) {
                    let rle: Rle = serde_json::from_value(rle).expect("a mask");
                    let mask = rle.decode().expect("a mask");
                    assert!(mask.iter().zip(&r.instance).all(|(on, i)| *on == (i == id)));
                }
            }
        }
    }
    assert_eq!(lines.next(), None);
}

#[test]
fn an_unwritable_folder_is_named() {
    let blocked = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("blocked");
    fs::write(&blocked, b"a file").expect("a file can be written");
    let plan = Plan { first_seed: 3, scenes: 1, long_side: 160, threads: 1, options: Options::default() };
    let error = write(&plan, &blocked, |_| ()).expect_err("a file is no folder");
    assert!(error.to_string().contains("blocked"), "{error}");
}

fn read(path: &std::path::Path) -> (u32, u32, Vec<u8>) {
    let file = std::io::BufReader::new(fs::File::open(path).expect("written"));
    let mut reader = png::Decoder::new(file).read_info().expect("a PNG");
    let mut bytes = vec![0; reader.output_buffer_size().expect("a small picture")];
    let info = reader.next_frame(&mut bytes).expect("a whole picture");
    (info.width, info.height, bytes)
}
