//! Locality alignment against PyTorch (`tools/fixtures_finetune.py`), its promises about bits, and its errors.

#[path = "../fixture/mod.rs"]
mod fixture;

mod behaviour;
mod case;
mod parity;
