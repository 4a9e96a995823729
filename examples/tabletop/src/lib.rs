//! The tabletop world: scenes, labels and conversations from a seed.
//!
//! ```
//! let scene = tabletop::Scene::from_seed(1);
//! let picture = tabletop::render(&scene, 160);
//! assert_eq!(picture.rgb.len(), picture.width * picture.height * 3);
//! assert!(!tabletop::turns(&picture, 1).is_empty());
//! ```
//!
//! The same seed gives the same bytes on every machine. Seeds 1,000,000 to 1,000,499 are for evaluation.
#![forbid(unsafe_code)]

pub mod asker;
pub mod camera;
pub mod conversation;
pub mod files;
pub mod labels;
pub mod language;
pub mod mannequin;
pub mod maths;
pub mod ordered;
pub mod prompts;
pub mod raster;
pub mod record;
pub mod referring;
pub mod render;
pub mod rle;
pub mod rng;
pub mod sampling;
pub mod scene;
pub mod shapes;
pub mod stream;
pub mod texture;
pub mod turn;
pub mod turns;

pub use labels::ObjectLabel;
pub use prompts::{Prompt, PromptKind};
pub use render::{Rendered, render};
pub use sampling::Options;
pub use scene::{Colour, FULL, Scene, Shape, Size};
pub use turn::{PlanItem, Task, Turn, Unit};
pub use turns::{every_combination, one, one_per_task, turns};
