//! The whole model, picture and question to triplets, on a tiny random model (`tools/fixtures_end_to_end.py`).

mod bad_input;
mod fixture;
mod memory;
mod parity;
mod session;
