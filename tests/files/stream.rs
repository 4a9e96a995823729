//! Folders, packs and the stream of a run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use triplet::Error;
use triplet::finetune::files::{Pictures, Stream, StreamConfig, split, whole_pictures, write_pack};

/// A folder of its own for a test; removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let dir = std::env::temp_dir().join(format!("triplet-files-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("deep/er")).unwrap();
        Folder(dir)
    }

    /// `count` pictures, spread over folders; two of them broken.
    fn with_pictures(name: &str, count: u8) -> Folder {
        let folder = Folder::new(name);
        for index in 0..count {
            let dir = ["", "deep", "deep/er"][usize::from(index) % 3];
            let pixels: Vec<u8> = (0..12 * 9 * 3).map(|i| (i as u8).wrapping_mul(7) ^ (index * 3)).collect();
            let mut file = Vec::new();
            let mut encoder = png::Encoder::new(&mut file, 12, 9);
            encoder.set_color(png::ColorType::Rgb);
            encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
            std::fs::write(folder.0.join(dir).join(format!("p{index:02}.PNG")), file).unwrap();
        }
        std::fs::write(folder.0.join("deep/broken.jpg"), b"\xff\xd8\xff nothing").unwrap();
        std::fs::write(folder.0.join("empty.jpeg"), b"").unwrap();
        std::fs::write(folder.0.join("notes.txt"), b"no picture").unwrap();
        folder
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn take(stream: &mut Stream, count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|_| stream.next_picture().unwrap()).collect()
}

fn stream(pictures: &Arc<Pictures>, workers: usize, augment: bool, position: u64) -> Stream {
    let config = StreamConfig { side: 8, seed: 5, augment, workers };
    Stream::new(pictures, (0..pictures.len()).collect(), config, position).unwrap()
}

#[test]
fn what_comes_does_not_depend_on_threads_or_interruptions() {
    let folder = Folder::with_pictures("stream", 7);
    let pictures = Arc::new(Pictures::open(&folder.0).unwrap());
    assert_eq!(pictures.len(), 9);
    let mut one = stream(&pictures, 1, true, 0);
    let want = take(&mut one, 40);
    assert_eq!(one.skipped().keys().collect::<Vec<_>>(), ["deep/broken.jpg", "empty.jpeg"]);
    assert!(one.skipped()["empty.jpeg"].contains("neither PNG nor JPEG"), "{:?}", one.skipped());
    for workers in [2, 3, 8] {
        let mut other = stream(&pictures, workers, true, 0);
        assert!(take(&mut other, 40) == want, "{workers} threads");
        assert_eq!(other.position(), one.position());
    }
    for cut in [1, 6, 17, 33] {
        let mut first = stream(&pictures, 3, true, 0);
        let head = take(&mut first, cut);
        let mut rest = stream(&pictures, 2, true, first.position());
        assert!(head == want[..cut] && take(&mut rest, 40 - cut) == want[cut..], "cut at {cut}");
    }
    assert!(want.iter().collect::<BTreeSet<_>>().len() > 25, "augmentation makes pictures differ");
}

#[test]
fn an_epoch_shows_every_picture_once() {
    let folder = Folder::with_pictures("epoch", 7);
    let pictures = Arc::new(Pictures::open(&folder.0).unwrap());
    let mut stream = stream(&pictures, 2, false, 0);
    let mut skipped = Default::default();
    let all: Vec<usize> = (0..pictures.len()).collect();
    let whole = whole_pictures(&pictures, &all, 8, 3, &mut skipped).unwrap();
    assert_eq!((whole.len(), skipped.len()), (7, 2));
    let whole: BTreeSet<Vec<u8>> = whole.into_iter().collect();
    assert_eq!(whole.len(), 7);
    let epochs: Vec<Vec<Vec<u8>>> = (0..3).map(|_| take(&mut stream, 7)).collect();
    for epoch in &epochs {
        assert_eq!(epoch.iter().cloned().collect::<BTreeSet<_>>(), whole);
    }
    assert!(epochs[0] != epochs[1] || epochs[1] != epochs[2], "every epoch has the same order");
}

#[test]
fn a_pack_is_the_folder() {
    let folder = Folder::with_pictures("pack", 6);
    let pictures = Arc::new(Pictures::open(&folder.0).unwrap());
    let path = folder.0.join("all.pack");
    let mut last = 0;
    assert_eq!(write_pack(&pictures, &path, |done| last = done).unwrap(), []);
    assert_eq!(last, pictures.len());
    let packed = Arc::new(Pictures::open(&path).unwrap());
    let names = |of: &Pictures| (0..of.len()).map(|i| of.name(i).to_string()).collect::<Vec<_>>();
    assert_eq!(names(&packed), names(&pictures));
    assert_eq!(split(&packed), split(&pictures));
    let (mut a, mut b) = (stream(&pictures, 2, true, 3), stream(&packed, 1, true, 3));
    assert!(take(&mut a, 20) == take(&mut b, 20));
    assert_eq!(a.skipped().keys().collect::<Vec<_>>(), b.skipped().keys().collect::<Vec<_>>());

    let whole = std::fs::read(&path).unwrap();
    for len in [0, 7, 20, 60, whole.len() - 1] {
        let cut = folder.0.join("cut.pack");
        std::fs::write(&cut, &whole[..len]).unwrap();
        assert!(matches!(Pictures::open(&cut).map(drop), Err(Error::Format { .. })), "{len}");
    }
}

#[test]
fn nothing_to_read_is_an_error_that_says_so() {
    let folder = Folder::new("nothing");
    let input = |result: triplet::Result<()>, words: &str| match result {
        Err(Error::Input { field: "images", reason }) => assert!(reason.contains(words), "{reason}"),
        other => panic!("{other:?}"),
    };
    input(Pictures::open(&folder.0).map(drop), "holds no .png");
    for index in 0..3 {
        std::fs::write(folder.0.join(format!("{index}.png")), b"nothing").unwrap();
    }
    let pictures = Arc::new(Pictures::open(&folder.0).unwrap());
    let mut all_broken = stream(&pictures, 2, true, 0);
    input(all_broken.next_picture().map(drop), "none of the 3 pictures can be read");
    let config = StreamConfig { side: 8, seed: 1, augment: false, workers: 1 };
    input(Stream::new(&pictures, Vec::new(), config, 0).map(drop), "no picture to train on");
    let nowhere = Pictures::open(Path::new("/nowhere/at/all")).map(drop);
    assert!(matches!(nowhere, Err(Error::Io { path, .. }) if path == "/nowhere/at/all"));
}
