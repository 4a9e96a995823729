//! The interpreter of `tests/ptx`.
#![allow(dead_code)] // its own tests use the rest

#[path = "../ptx/arithmetic.rs"]
pub mod arithmetic;
#[path = "../ptx/asynchronous.rs"]
pub mod asynchronous;
#[path = "../ptx/group.rs"]
pub mod group;
#[path = "../ptx/machine.rs"]
pub mod machine;
#[path = "../ptx/memory.rs"]
pub mod memory;
#[path = "../ptx/order.rs"]
pub mod order;
#[path = "../ptx/phases.rs"]
pub mod phases;
#[path = "../ptx/program.rs"]
pub mod program;
#[path = "../ptx/shared.rs"]
pub mod shared;
#[path = "../ptx/syntax.rs"]
pub mod syntax;
#[path = "../ptx/tensor.rs"]
pub mod tensor;
#[path = "../ptx/text.rs"]
pub mod text;
