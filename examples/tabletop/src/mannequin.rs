//! The jointed wooden mannequin: a random standing pose, its solids and its 17 COCO joints.

use crate::maths::{V3, radians, sin_cos, v3};
use crate::rng::Rng;
use crate::shapes::Primitive;

/// Height when standing straight, metres.
pub const HEIGHT: f32 = 0.46;

/// Names of the joints, COCO order.
pub const JOINTS: [&str; 17] = [
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
];

/// How a part of the mannequin is painted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// Light wood.
    Wood,
    /// Light wood with a dark back of the head.
    Head,
    /// Light wood with a coloured patch on the chest.
    Chest,
    /// Darker wood (hands, feet, pelvis).
    Dark,
    /// Black (eyes).
    Eye,
}

/// A mannequin standing on the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Mannequin {
    /// Unit vector its chest faces (horizontal).
    pub front: V3,
    /// Unit vector its face looks to.
    pub gaze: V3,
    /// World positions of the joints, COCO order.
    pub joints: [V3; 17],
    /// How far inside the skin each joint lies, metres: a nearer hit than this hides the joint.
    pub skin: [f32; 17],
    /// Its solids.
    pub parts: Vec<(Primitive, Finish)>,
    /// Where it stands.
    pub x: f32,
    /// Where it stands.
    pub y: f32,
}

impl Mannequin {
    /// A random pose at (`x`, `y`).
    pub fn random(rng: &mut Rng, x: f32, y: f32) -> Mannequin {
        const H: f32 = HEIGHT;
        let yaw = rng.range(0.0, std::f32::consts::TAU);
        let (s, c) = sin_cos(yaw);
        let front = v3(c, s, 0.0);
        let left = v3(-s, c, 0.0);
        let up = v3(0.0, 0.0, 1.0);
        // Trunk: leans a little from the pelvis.
        let lean = up
            .rotated(left, radians(rng.range(-6.0, 14.0)))
            .rotated(front, radians(rng.range(-8.0, 8.0)))
            .normalised();
        let pelvis = v3(0.0, 0.0, 0.0);
        let hip = [pelvis + left * (0.075 * H), pelvis - left * (0.075 * H)];
        let neck = pelvis + lean * (0.31 * H);
        let shoulder =
            [neck + left * (0.135 * H) - lean * (0.02 * H), neck - left * (0.135 * H) - lean * (0.02 * H)];
        let head = neck + lean * (0.115 * H);
        let gaze = front.rotated(up, radians(rng.range(-30.0, 30.0)));
        let side = up.cross(gaze).normalised();
        let head_radius = 0.078 * H;
        let nose = head + gaze * (head_radius * 1.02) - up * (0.008 * H);
        let eye = |k: f32| head + (gaze * 0.86 + side * (0.42 * k) + up * 0.28) * head_radius;
        let ear = |k: f32| head + side * (k * head_radius * 0.98);

        let mut elbow = [V3::default(); 2];
        let mut wrist = [V3::default(); 2];
        let mut knee = [V3::default(); 2];
        let mut ankle = [V3::default(); 2];
        for i in 0..2 {
            let out = if i == 0 { left } else { -left };
            // The arm: away from the body, then forward, then bent towards the front.
            let away = radians(if rng.chance(0.4) { rng.range(60.0, 150.0) } else { rng.range(8.0, 60.0) });
            let (sa, ca) = sin_cos(away);
            let swing = radians(rng.range(-25.0, 60.0));
            let upper = ((-up) * ca + out * sa).rotated(left, -swing).normalised();
            elbow[i] = shoulder[i] + upper * (0.17 * H);
            let aim = front * 0.9 + up * rng.range(-0.2, 0.9) + out * rng.range(-0.5, 0.3);
            let bend = (aim - upper * aim.dot(upper)).normalised();
            let (sb, cb) = sin_cos(radians(rng.range(0.0, 110.0)));
            wrist[i] = elbow[i] + (upper * cb + bend * sb).normalised() * (0.16 * H);
            // The leg: mostly near the vertical, now and then lifted.
            let lifted = rng.chance(0.12);
            let forward = radians(if lifted { rng.range(35.0, 75.0) } else { rng.range(-16.0, 26.0) });
            let spread = radians(rng.range(1.0, 14.0));
            let (ss, cs) = sin_cos(spread);
            let thigh = ((-up) * cs + out * ss).rotated(left, -forward).normalised();
            knee[i] = hip[i] + thigh * (0.25 * H);
            let fold = radians(rng.range(0.0, if lifted { 80.0 } else { 32.0 }));
            let behind = -front - thigh * (-front).dot(thigh);
            let (sf, cf) = sin_cos(fold);
            ankle[i] = knee[i] + (thigh * cf + behind.normalised() * sf).normalised() * (0.24 * H);
        }
        // The lower foot touches the table.
        let sole = 0.036 * H;
        let lift = v3(x, y, sole - ankle[0].z.min(ankle[1].z));
        let mut joints = [
            nose,
            eye(1.0),
            eye(-1.0),
            ear(1.0),
            ear(-1.0),
            shoulder[0],
            shoulder[1],
            elbow[0],
            elbow[1],
            wrist[0],
            wrist[1],
            hip[0],
            hip[1],
            knee[0],
            knee[1],
            ankle[0],
            ankle[1],
        ];
        for joint in &mut joints {
            *joint = *joint + lift;
        }
        let (arm, leg, trunk) = (0.033 * H, 0.043 * H, 0.088 * H);
        let mut skin = [0.0; 17];
        for (i, radius) in [0.02, 0.02, 0.02, 0.03, 0.03].into_iter().enumerate() {
            skin[i] = radius * H;
        }
        for (i, radius) in [(5, trunk), (7, arm), (9, arm), (11, trunk), (13, leg), (15, leg)] {
            skin[i] = radius * 1.5;
            skin[i + 1] = radius * 1.5;
        }

        let capsule = |a: V3, b: V3, radius: f32, finish: Finish| {
            (Primitive::Capsule { a: a + lift, b: b + lift, radius }, finish)
        };
        let sphere = |centre: V3, radius: f32, finish: Finish| {
            (Primitive::Sphere { centre: centre + lift, radius }, finish)
        };
        let mut parts = vec![
            capsule(pelvis + lean * (0.11 * H), neck - lean * (0.075 * H), trunk, Finish::Chest),
            capsule(hip[0] * 0.7, hip[1] * 0.7, 0.07 * H, Finish::Dark),
            capsule(neck - lean * (0.03 * H), head, 0.03 * H, Finish::Wood),
            capsule(shoulder[0], shoulder[1], 0.04 * H, Finish::Wood),
            sphere(head, head_radius, Finish::Head),
            sphere(nose - gaze * (0.008 * H), 0.019 * H, Finish::Dark),
            sphere(eye(1.0), 0.017 * H, Finish::Eye),
            sphere(eye(-1.0), 0.017 * H, Finish::Eye),
            sphere(ear(1.0), 0.021 * H, Finish::Dark),
            sphere(ear(-1.0), 0.021 * H, Finish::Dark),
        ];
        for i in 0..2 {
            parts.push(capsule(shoulder[i], elbow[i], arm, Finish::Wood));
            parts.push(capsule(elbow[i], wrist[i], arm * 0.9, Finish::Wood));
            parts.push(sphere(elbow[i], arm * 1.15, Finish::Dark));
            let hand = wrist[i] + (wrist[i] - elbow[i]) * 0.16;
            parts.push(capsule(wrist[i], hand, arm * 1.1, Finish::Dark));
            parts.push(capsule(hip[i], knee[i], leg, Finish::Wood));
            parts.push(capsule(knee[i], ankle[i], leg * 0.88, Finish::Wood));
            parts.push(sphere(knee[i], leg * 1.1, Finish::Dark));
            parts.push(capsule(ankle[i], ankle[i] + front * (0.07 * H), sole, Finish::Dark));
        }
        Mannequin { front, gaze, joints, skin, parts, x, y }
    }

    /// Radius about (x, y) of everything lower than `height` metres.
    pub fn footprint(&self, height: f32) -> f32 {
        let mut radius: f32 = 0.0;
        for (part, _) in &self.parts {
            for (centre, r) in part.hull() {
                if centre.z - r < height {
                    let (dx, dy) = (centre.x - self.x, centre.y - self.y);
                    radius = radius.max((dx * dx + dy * dy).sqrt() + r);
                }
            }
        }
        radius
    }
}
