//! The world as a whole: determinism, labels that agree with the picture, shares.
#![forbid(unsafe_code)]

use tabletop::stream::{Plan, stream};
use tabletop::{FULL, Options, Rendered, Scene, render};

fn pictures(first: u64, count: u64, long_side: usize) -> impl Iterator<Item = Rendered> {
    (first..first + count).map(move |seed| render(&Scene::from_seed(seed), long_side))
}

#[test]
fn same_seed_same_bytes_on_any_number_of_threads() {
    let bytes = |threads| {
        let plan =
            Plan { first_seed: 40, scenes: 7, long_side: 160, threads, options: Options { max_objects: 5 } };
        let mut out = Vec::new();
        stream(&plan, &mut out).expect("a vector can be written");
        out
    };
    let one = bytes(1);
    assert!(one.len() > 7 * 128 * 128 * 8);
    assert!(one == bytes(1) && one == bytes(3) && one == bytes(16));
}

#[test]
fn different_seeds_differ() {
    let a: Vec<_> = pictures(0, 6, 80).map(|r| r.rgb).collect();
    for (i, x) in a.iter().enumerate() {
        assert!(a[..i].iter().all(|y| x != y));
    }
}

#[test]
fn sizes_follow_the_long_side() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let scene = Scene::from_seed(seed);
        seen.insert((scene.width, scene.height));
        let half = scene.view(FULL / 2);
        assert_eq!((2 * half.width, 2 * half.height), (scene.width, scene.height));
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [(480, 640), (512, 512), (640, 480)]);
}

#[test]
fn labels_agree_with_the_picture() {
    for r in pictures(0, 60, FULL) {
        let long = r.width.max(r.height) as f32;
        assert_eq!(r.rgb.len(), r.width * r.height * 3);
        let objects = r.objects.iter().filter(|o| o.keypoints.is_none()).count();
        assert!((1..=5).contains(&objects), "seed {}", r.seed);
        for o in &r.objects {
            let own: Vec<(usize, usize)> = (0..r.width * r.height)
                .filter(|i| r.instance[*i] == o.id)
                .map(|i| (i % r.width, i / r.width))
                .collect();
            let tight = [
                own.iter().map(|p| p.0).min().unwrap_or(0) as f32,
                own.iter().map(|p| p.1).min().unwrap_or(0) as f32,
                own.iter().map(|p| p.0 + 1).max().unwrap_or(0) as f32,
                own.iter().map(|p| p.1 + 1).max().unwrap_or(0) as f32,
            ];
            assert_eq!(o.bounds, tight, "seed {} object {}", r.seed, o.id);
            assert_eq!(o.target, o.visibility >= 0.25);
            assert!((0.0..=1.0).contains(&o.visibility));
            if o.target {
                assert!(o.long_side() >= long / 20.0, "seed {} object {}", r.seed, o.id);
            }
            if o.keypoints.is_some() {
                assert!(o.target && o.long_side() >= 0.25 * long, "seed {}", r.seed);
            }
            let same = r.objects.iter().filter(|p| p.class == o.class).count();
            assert!(same <= 3, "seed {}: {} of {}", r.seed, same, o.class);
        }
        assert!(r.objects.iter().any(|o| o.target));
        assert!(r.instance.iter().all(|id| (*id as usize) <= r.objects.len()));
    }
}

/// Visibility of an object in front of everything is 1: nothing hides it, so its pixels alone are its visible ones.
#[test]
fn a_lone_object_is_wholly_visible() {
    let mut seen = 0;
    for seed in 0..60 {
        let scene = Scene::with_options(seed, &Options { max_objects: 1 });
        assert_eq!(scene.objects.len(), 1);
        if scene.mannequin.is_none() {
            seen += 1;
            let r = render(&scene, 160);
            assert_eq!(r.objects[0].visibility, 1.0);
            assert!(r.objects[0].target);
        }
    }
    assert!(seen > 20);
}

#[test]
fn depth_of_the_table_is_its_plane() {
    for seed in 0..12 {
        let scene = Scene::from_seed(seed);
        let r = render(&scene, 160);
        let view = scene.view(160);
        let mut checked = 0;
        for (i, d) in r.depth.iter().enumerate() {
            assert!(r.instance[i] == 0 || d.is_finite(), "an object has a depth");
            if r.instance[i] != 0 || d.is_nan() {
                continue;
            }
            let (ray, cosine) = view.ray((i % r.width) as f32 + 0.5, (i / r.width) as f32 + 0.5);
            let height = scene.camera.eye.z + ray.z * d / cosine;
            // The top of the table, or its rim below.
            assert!((-0.0402..1e-4).contains(&height), "seed {seed}: {height}");
            checked += 1;
        }
        assert!(checked > 500, "seed {seed}");
    }
}

#[test]
fn half_size_is_the_same_scene() {
    for seed in 0..6 {
        let scene = Scene::from_seed(seed);
        let (full, half) = (render(&scene, FULL), render(&scene, FULL / 2));
        for (a, b) in full.objects.iter().zip(&half.objects) {
            assert_eq!((a.id, &a.class, a.target), (b.id, &b.class, b.target));
            for k in 0..4 {
                assert!((a.bounds[k] - 2.0 * b.bounds[k]).abs() <= 6.0, "seed {seed}: {a:?} {b:?}");
            }
            for (p, q) in a.keypoints.iter().flatten().zip(b.keypoints.iter().flatten()) {
                assert!((p[0] - 2.0 * q[0]).abs() < 0.01 && (p[1] - 2.0 * q[1]).abs() < 0.01);
                assert_eq!(p[2], q[2]);
            }
        }
    }
}

#[test]
fn solids_do_not_touch() {
    for seed in 0..150 {
        let scene = Scene::from_seed(seed);
        for (i, a) in scene.objects.iter().enumerate() {
            for b in &scene.objects[..i] {
                let gap = ((a.x - b.x).powi(2) + (a.y - b.y).powi(2)).sqrt();
                assert!(gap > a.footprint() + b.footprint(), "seed {seed}");
            }
            if let Some(m) = &scene.mannequin {
                let gap = ((a.x - m.x).powi(2) + (a.y - m.y).powi(2)).sqrt();
                assert!(gap > a.footprint() + m.footprint(0.2), "seed {seed}");
            }
        }
    }
}

#[test]
fn shares() {
    let scenes: Vec<Scene> = (0..1000).map(Scene::from_seed).collect();
    let mannequins = scenes.iter().filter(|s| s.mannequin.is_some()).count();
    assert!((350..=450).contains(&mannequins), "{mannequins} of 1000 have a mannequin");
    for count in 1..=5 {
        let n = scenes.iter().filter(|s| s.objects.len() == count).count();
        assert!(n >= 90, "{n} of 1000 have {count} objects");
    }
    for s in &scenes {
        let away = s.camera.forward;
        let elevation = (-away.z).asin().to_degrees();
        assert!((19.9..=70.1).contains(&elevation), "seed {}: {elevation}", s.seed);
    }
}

#[test]
fn keypoints_lie_on_the_mannequin() {
    let (mut inside, mut visible, mut hidden) = (0, 0, 0);
    for r in pictures(0, 120, 320) {
        for o in r.objects.iter().filter(|o| o.keypoints.is_some()) {
            let points = o.keypoints.as_deref().unwrap_or(&[]);
            assert_eq!(points.len(), 17);
            for p in points {
                assert!(p[2] == 0.0 || p[2] == 1.0 || p[2] == 2.0);
                if p[2] == 2.0 {
                    visible += 1;
                    let at = p[1] as usize * r.width + p[0] as usize;
                    inside += usize::from(r.instance[at] == o.id);
                } else {
                    hidden += usize::from(p[2] == 1.0);
                }
            }
        }
    }
    // A joint on the rim of a sphere may fall one pixel beside it.
    assert!(inside * 100 >= visible * 97, "{inside} of {visible} visible joints lie on the mannequin");
    assert!(hidden * 5 > visible, "{hidden} hidden, {visible} visible");
}
