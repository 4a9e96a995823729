//! The PTX kernels without a GPU: an interpreter executes each of them on small shapes and holds it against the reference.
//! Reads beyond an operand, misaligned ones, ones of what nobody wrote, accesses of shared memory that no barrier orders and
//! barriers that not all threads reach are failures.

mod arithmetic;
mod asynchronous;
mod group;
mod launch;
mod machine;
mod memory;
mod operand;
mod order;
mod phases;
mod program;
mod shared;
mod syntax;
mod tensor;
mod text;

mod attention;
mod faults;
mod maps;
mod mutants;
mod norms;
mod packed;
mod pictures;
mod products;
mod quantised;
mod rows;
mod select_token;
mod signatures;
