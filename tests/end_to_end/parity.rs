//! Against PyTorch: relative error at most 1e-4, no element off by more than 1e-4 of the tensor's largest.

use triplet::backend::{Backend, View};
use triplet::reply::{DepthUnit, Finish, Reply, Target};
use triplet::session::{Prompt, Question};
use triplet::trp::{PromptItem, Unit};
use triplet::{Cpu, Model};

use crate::fixture::{HEIGHT, Outputs, WIDTH, adapted_model, depth, model, prompted, view};

const LIMIT: f64 = 1e-4;

fn check(name: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{name}");
    let pairs = || got.iter().zip(want).map(|(&a, &b)| (f64::from(a), f64::from(b)));
    let norm = pairs().map(|(_, b)| b * b).sum::<f64>().sqrt();
    let relative = pairs().map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt() / norm;
    let largest = pairs().map(|(_, b)| b.abs()).fold(0.0, f64::max);
    let worst = pairs().map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) / largest;
    println!("{name}: relative error {relative:.2e}, worst element {worst:.2e}");
    assert!(relative <= LIMIT && worst <= LIMIT, "{name}: {relative:.2e} {worst:.2e}");
}

fn host(model: &Model, view: View<Cpu>) -> Vec<f32> {
    model.backend().download(view).unwrap()
}

/// Ids with -200 and -300 for every row of a placeholder, as the reference writes them.
fn expanded(items: &[PromptItem], image_rows: usize, prompt_rows: usize) -> Vec<i64> {
    let mut ids = Vec::new();
    for item in items {
        match *item {
            PromptItem::Token(id) => ids.push(i64::from(id)),
            PromptItem::Image => ids.extend(vec![-200; image_rows]),
            PromptItem::VisualPrompt => ids.extend(vec![-300; prompt_rows]),
        }
    }
    ids
}

#[test]
#[should_panic(expected = "broken")]
fn the_check_sees_a_wrong_element() {
    check("broken", &[1.0, 2.001], &[1.0, 2.0]);
}

#[test]
#[should_panic(expected = "broken")]
fn the_check_sees_a_nan() {
    check("broken", &[f32::NAN, 2.0], &[1.0, 2.0]);
}

#[test]
fn picture_two_prompts_and_three_triplets_agree_with_pytorch() {
    let (outputs, model) = (Outputs::open(), model());
    assert_eq!(model.warnings(), Vec::<String>::new());
    let mut session = model.session().unwrap();
    let picture = outputs.picture();
    let image = session.encode(&view(&picture)).unwrap();
    check("selected features", &host(&model, image.selected().unwrap().view), &outputs.get("0.selected"));
    check("projected tokens", &host(&model, image.tokens()), &outputs.get("0.tokens"));

    let question = prompted();
    let items = model.encode_question(&question.command, "What is [VPT] next to [VPT]?").unwrap();
    let prompt: Vec<i64> = outputs.get("0.prompt").into_iter().map(|id| id as i64).collect();
    assert_eq!(expanded(&items, 16, 5), prompt);

    let answer = outputs.ids("0.answer");
    let reply = session.decode_tokens(&image, &question, &answer).unwrap();
    assert_eq!(reply.finish, Finish::Given);
    assert!(reply.flags.is_empty(), "{}", reply.flags);
    assert_eq!(reply.ids, answer);
    check("hidden states", &host(&model, session.hidden_states().unwrap()), &outputs.get("0.hidden"));

    let named: Vec<_> =
        reply.triplets.iter().map(|t| (t.phrase.as_str(), t.unit, t.group, t.index)).collect();
    let (boxes, mask, joints) = (Some(Unit::Box), Some(Unit::Mask), Some(Unit::Keypoint));
    let expected = [
        ("red ball", boxes, 0, 0),
        ("red ball", boxes, 0, 1),
        ("blue can", mask, 1, 0),
        ("person", joints, 2, 0),
    ];
    assert_eq!(named, expected);
    assert!(reply.triplets.iter().all(|triplet| triplet.score.is_nan()));
    check_targets(&reply, &outputs, "0.");
}

/// Boxes, mask and joints of the answer with three triplets.
fn check_targets(reply: &Reply, outputs: &Outputs, prefix: &str) {
    let want = |name: &str| outputs.get(&format!("{prefix}{name}"));
    let mut corners = Vec::new();
    for triplet in &reply.triplets {
        match triplet.target.as_ref().unwrap() {
            Target::Box(area) => corners.extend(area),
            Target::Mask(mask) => {
                assert_eq!((mask.width, mask.height), (WIDTH, HEIGHT));
                check("mask", &mask.probabilities, &want("mask"));
            }
            Target::Keypoints(keypoints) => {
                check("keypoints' box", &keypoints.area, &want("keypoint.area"));
                let points: Vec<f32> = keypoints.points.iter().flat_map(|p| [p.x, p.y]).collect();
                check("keypoints", &points, &want("keypoint.points"));
                let visibility = want("keypoint.visibility");
                let visible: Vec<f32> = visibility.chunks_exact(2).map(|pair| pair[1]).collect();
                let scores: Vec<f32> = keypoints.points.iter().map(|p| p.score).collect();
                check("visibility", &scores, &visible);
                for (point, pair) in keypoints.points.iter().zip(visibility.chunks_exact(2)) {
                    assert_eq!(point.visible, pair[1] > pair[0]);
                }
            }
            other => panic!("{other:?}"),
        }
    }
    check("boxes", &corners, &want("box"));
}

#[test]
fn three_triplets_through_the_adapter_agree_with_pytorch() {
    let (outputs, plain, model) = (Outputs::open(), model(), adapted_model());
    assert_eq!(model.warnings(), ["tensor vd_adapter.output_tokens.weight is not used"]);
    let mut session = model.session().unwrap();
    let picture = outputs.picture();
    let image = session.encode(&view(&picture)).unwrap();
    let question = prompted();
    let items = plain.encode_question(&question.command, "What is [VPT] next to [VPT]?").unwrap();
    let question = Question { prompt: Prompt::Items(items), ..question };
    let reply = session.decode_tokens(&image, &question, &outputs.ids("0.answer")).unwrap();
    check_targets(&reply, &Outputs::adapted(), "");
}

#[test]
fn depth_agrees_with_pytorch() {
    let (outputs, model) = (Outputs::open(), model());
    let mut session = model.session().unwrap();
    let picture = outputs.picture();
    let image = session.encode(&view(&picture)).unwrap();
    let reply = session.decode_tokens(&image, &depth(), &outputs.ids("1.answer")).unwrap();
    check("hidden states", &host(&model, session.hidden_states().unwrap()), &outputs.get("1.hidden"));
    let [triplet] = reply.triplets.as_slice() else { panic!("{} triplets", reply.triplets.len()) };
    let Some(Target::Depth(depth)) = &triplet.target else { panic!("{:?}", triplet.target) };
    assert_eq!((depth.width, depth.height, depth.unit), (WIDTH, HEIGHT, DepthUnit::Metres));
    check("depth", &depth.values, &outputs.get("1.depth"));
}
