//! Locality alignment against PyTorch (`tools/fixtures_finetune.py`), its promises about bits, and its errors.

#[path = "../fixture/mod.rs"]
mod fixture;

mod augment;
mod behaviour;
mod case;
mod parity;
mod probe;
