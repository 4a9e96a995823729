//! The tabletop world: scenes, labels and conversations from a seed.
