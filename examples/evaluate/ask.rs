//! Questions to the model, through the library's public interface.

use std::path::Path;
use std::time::{Duration, Instant};

use triplet::backend::{Backend, CacheType};
use triplet::image::ImageView;
use triplet::reply::{self, DepthUnit, Reply};
use triplet::session::{EncodedImage, SessionOptions};
use triplet::text::Tokenizer;
use triplet::trp::{Plan, PlanItem};
use triplet::{Model, Session};

use crate::library;
use crate::question::{Answer, Claimed, Guess, Picture, Question, Target};
use crate::world::Case;

/// A model with what it takes to write down true answers as tokens.
pub struct Asked<B: Backend> {
    model: Model<B>,
    tokenizer: Tokenizer,
    options: SessionOptions,
}

/// The answers to one question.
pub struct Answers {
    /// The model's own.
    pub free: Answer,
    /// The targets it finds with the true words given, where asked for.
    pub forced: Option<Answer>,
    /// Whether parser or router flagged anything in its own.
    pub flagged: bool,
    /// How long its own took.
    pub time: Duration,
}

impl<B: Backend> Asked<B> {
    /// Opens a model directory; its answers are computed on `backend`, with keys and values in `cache`.
    ///
    /// # Errors
    /// The library's message.
    pub fn open(backend: B, dir: &Path, cache: CacheType) -> Result<Asked<B>, String> {
        let message = |error: triplet::Error| format!("{}: {error}", dir.display());
        let model = Model::open_on(backend, dir).map_err(message)?;
        let path = dir.join("tokenizer.json");
        let json = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let tokenizer = Tokenizer::from_bytes("tokenizer.json", &json).map_err(message)?;
        let options = SessionOptions { cache, ..SessionOptions::default() };
        Ok(Asked { model, tokenizer, options })
    }

    /// A session that has read nothing.
    ///
    /// # Errors
    /// The library's message.
    pub fn session(&self) -> Result<Session<B>, String> {
        self.model.session_on(self.model.backend().clone(), self.options).map_err(|error| error.to_string())
    }

    /// Looks at a picture.
    ///
    /// # Errors
    /// The library's message, with the scene.
    pub fn encode(&self, session: &Session<B>, picture: &Picture) -> Result<EncodedImage<B>, String> {
        ImageView::rgb8(&picture.rgb, picture.width, picture.height)
            .and_then(|view| session.encode(&view))
            .map_err(|error| format!("scene {}: {error}", picture.seed))
    }

    /// Asks one question: greedily, structurally guided, without a plan; then, if `forced`, over its true answer.
    ///
    /// # Errors
    /// The library's message, with the question.
    pub fn ask(
        &self,
        session: &mut Session<B>,
        image: &EncodedImage<B>,
        case: &Case,
        forced: bool,
    ) -> Result<Answers, String> {
        let asked = library::question(&case.turn, &case.masks).map_err(|error| error.to_string())?;
        let message =
            |error: triplet::Error| format!("{} {:?}: {error}", case.question.task, case.turn.question);
        let start = Instant::now();
        let reply = session.ask(image, &asked).map_err(message)?;
        let time = start.elapsed();
        let flagged = !reply.flags.is_empty();
        let mut answers = Answers { free: answer(reply), forced: None, flagged, time };
        if forced {
            let ids = self.tokenizer.encode(&true_answer(&case.question)).map_err(message)?;
            answers.forced = Some(answer(session.decode_tokens(image, &asked, &ids).map_err(message)?));
        }
        Ok(answers)
    }
}

/// The true answer as the model should write it, plan first.
fn true_answer(question: &Question) -> String {
    let item =
        |t: &crate::question::Truth| PlanItem::new(t.phrase.clone(), t.unit.clone(), t.instances.len());
    let plan = Plan { items: question.truth.iter().map(item).collect() };
    format!("{}\n{}", plan.write(), question.answer)
}

/// A reply as plain data: every triplet that was written, with what was decoded of it.
fn answer(reply: Reply) -> Answer {
    let mut triplets: Vec<Claimed> = reply
        .answer
        .triplets
        .iter()
        .map(|triplet| Claimed {
            phrase: reply.answer.phrase(triplet).to_owned(),
            unit: triplet.unit.map_or_else(String::new, |unit| unit.name().to_owned()),
            targets: vec![Guess::given(Target::Missing); triplet.references.len()],
        })
        .collect();
    for decoded in reply.triplets {
        let guess =
            triplets.get_mut(decoded.group).and_then(|triplet| triplet.targets.get_mut(decoded.index));
        if let Some(guess) = guess {
            *guess = Guess { score: decoded.score, target: target(decoded.target) };
        }
    }
    Answer { text: reply.answer.text, triplets }
}

fn target(target: Option<reply::Target>) -> Target {
    match target {
        Some(reply::Target::Box(bounds)) => Target::Box(bounds),
        Some(reply::Target::Mask(mask)) => {
            Target::Mask(mask.probabilities.iter().map(|&probability| probability > mask.threshold).collect())
        }
        Some(reply::Target::Keypoints(figure)) => {
            Target::Joints(figure.points.iter().map(|joint| [joint.x, joint.y]).collect())
        }
        Some(reply::Target::Depth(depth)) if depth.unit == DepthUnit::Metres => {
            Target::Depth(depth.values.to_vec())
        }
        // A depth without a unit cannot be compared with metres.
        _ => Target::Missing,
    }
}

#[cfg(test)]
mod tests {
    use tabletop::PromptKind;
    use triplet::trp::parse_text;

    use super::{answer, true_answer};
    use crate::library;
    use crate::question::Target;
    use crate::world::scene;

    #[test]
    fn every_true_answer_parses_into_its_own_truth() {
        for seed in 900_100..900_106 {
            let (picture, cases) = scene(seed);
            for case in &cases {
                let (question, turn) = (&case.question, &case.turn);
                let parsed = parse_text(&true_answer(question));
                assert!(parsed.flags.is_empty(), "{} {:?}", question.answer, parsed.flags);
                assert_eq!(parsed.triplets.len(), question.truth.len(), "{}", question.answer);
                for (triplet, truth) in parsed.triplets.iter().zip(&question.truth) {
                    assert_eq!(parsed.phrase(triplet), truth.phrase);
                    assert_eq!(triplet.unit.map(|unit| unit.name()), Some(truth.unit.as_str()));
                    assert_eq!(triplet.references.len(), truth.instances.len());
                }
                assert!(parsed.plan.is_some_and(|plan| plan.items.len() == question.truth.len()));

                let asked = library::question(turn, &case.masks).unwrap();
                assert_eq!(asked.prompts.len(), turn.prompts.len());
                assert_eq!(asked.command.units.len(), turn.units.len());
                for (mask, prompt) in case.masks.iter().zip(&turn.prompts) {
                    let is_mask = prompt.kind == PromptKind::Mask;
                    assert_eq!(mask.len(), if is_mask { picture.width * picture.height } else { 0 });
                }
            }
        }
    }

    #[test]
    fn a_triplet_whose_target_was_not_decoded_keeps_its_place() {
        let text = "<Phrase>red ball</Phrase>(<Unit>box</Unit>[0]<REF>[1]<REF>)";
        let parsed = parse_text(text);
        let second = triplet::reply::Triplet {
            phrase: "red ball".into(),
            unit: Some(triplet::trp::Unit::Box),
            group: 0,
            index: 1,
            score: 0.5,
            flags: parsed.flags,
            target: Some(triplet::reply::Target::Box([1.0, 2.0, 3.0, 4.0])),
        };
        let reply = triplet::reply::Reply {
            text: text.into(),
            ids: vec![],
            flags: parsed.flags,
            answer: parsed,
            triplets: vec![second],
            finish: triplet::reply::Finish::EndOfText,
        };
        let answer = answer(reply);
        assert_eq!((answer.triplets.len(), answer.triplets[0].targets.len()), (1, 2));
        assert!(matches!(answer.triplets[0].targets[0].target, Target::Missing));
        assert!(matches!(answer.triplets[0].targets[1].target, Target::Box([1.0, 2.0, 3.0, 4.0])));
    }
}
