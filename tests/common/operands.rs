//! Makes operands for a backend and checks what it returns.

use std::sync::Arc;

use triplet::arena::Arena;
use triplet::backend::{Backend, Matrix, View, Weight};
use triplet::cpu::Cpu;
use triplet::reference::{Tolerance, bytes, compare};
use triplet::weights::{Dtype, Tensor};

/// Every type and some start offsets of a stored tensor; the odd ones are misaligned for any type.
pub const STORED: [(Dtype, usize); 5] =
    [(Dtype::F32, 0), (Dtype::F32, 1), (Dtype::F32, 6), (Dtype::F16, 3), (Dtype::Bf16, 2)];

/// A weight of `shape` stored as `dtype`, `offset` bytes into its storage, with the numbers that it stands for.
pub fn weight(
    cpu: &Cpu,
    shape: &[usize],
    numbers: &[f32],
    stored: (Dtype, usize),
) -> (Weight<Cpu>, Vec<f32>) {
    let (tensor, meant) = tensor(shape, numbers, stored);
    (Weight::new(cpu.store(&tensor).unwrap(), shape), meant)
}

/// As [`weight`] for the weight of a linear layer.
pub fn matrix(
    cpu: &Cpu,
    sizes: [usize; 2],
    numbers: &[f32],
    stored: (Dtype, usize),
) -> (Weight<Cpu>, Vec<f32>) {
    let (tensor, meant) = tensor(&sizes, numbers, stored);
    (Weight::new(cpu.store_matrix(&tensor, sizes, 1).unwrap(), &sizes), meant)
}

/// As [`weight`] for the kernel of a dense convolution.
pub fn kernel(
    cpu: &Cpu,
    shape: [usize; 4],
    stride: usize,
    numbers: &[f32],
    stored: (Dtype, usize),
) -> (Weight<Cpu>, Vec<f32>) {
    let (tensor, meant) = tensor(&shape, numbers, stored);
    let [outputs, inputs, height, width] = shape;
    let taps = if stride == 1 { height * width } else { 1 };
    let stored = cpu.store_matrix(&tensor, [outputs, inputs * height * width], taps).unwrap();
    (Weight::new(stored, &shape), meant)
}

fn tensor(shape: &[usize], numbers: &[f32], (dtype, offset): (Dtype, usize)) -> (Tensor, Vec<f32>) {
    let (stored, meant) = bytes(numbers, dtype);
    // Neighbours in the file are NaN, so that a read past either end shows.
    let mut storage = vec![0xFF; offset];
    storage.extend_from_slice(&stored);
    storage.resize(storage.len() + 64, 0xFF);
    let range = offset..offset + stored.len();
    (Tensor::new("weight".into(), dtype, shape.to_vec(), Arc::new(storage), range).unwrap(), meant)
}

/// A matrix inside a larger one whose other elements are NaN: rows lie further apart than they are long.
pub fn padded(cpu: &Cpu, rows: usize, cols: usize, data: &[f32]) -> Matrix<Cpu> {
    let mut wide = vec![f32::NAN; (rows + 2) * (cols + 5)];
    for row in 0..rows {
        wide[(row + 1) * (cols + 5) + 3..][..cols].copy_from_slice(&data[row * cols..(row + 1) * cols]);
    }
    cpu.upload(rows + 2, cols + 5, &wide).unwrap()
}

/// The view of what [`padded`] hides.
pub fn inner(matrix: &Matrix<Cpu>) -> View<'_, Cpu> {
    let (rows, cols) = (matrix.rows(), matrix.cols());
    matrix.view().row_range(1..rows - 1).unwrap().col_range(3..cols - 2).unwrap()
}

/// Collects what fails, so that a run lists every failing case.
#[derive(Default)]
pub struct Failures {
    cases: usize,
    failed: Vec<String>,
    worst: f64,
}

impl Failures {
    /// Checks shape, canary and elements of `got`.
    pub fn check(&mut self, case: &str, got: &Matrix<Cpu>, want: &[f64], cols: usize, tolerance: Tolerance) {
        self.cases += 1;
        let elements = got.rows() * got.cols();
        let canary = &got.buffer()[elements..];
        if got.cols() != cols || elements != want.len() {
            let size = format!("{}x{}", got.rows(), got.cols());
            return self.failed.push(format!("{case}: {size} for {} elements of {cols} columns", want.len()));
        }
        if canary.len() != Cpu::CANARY || canary.iter().any(|x| x.to_bits() != f32::NAN.to_bits()) {
            self.failed.push(format!("{case}: wrote past the end"));
        }
        match compare(&got.buffer()[..elements], want, tolerance) {
            Ok(difference) => self.worst = self.worst.max(difference.norm),
            Err(reason) => self.failed.push(format!("{case}: {reason}")),
        }
    }

    /// Notes a failure unless `holds`.
    pub fn ensure(&mut self, case: &str, holds: bool) {
        self.cases += 1;
        if !holds {
            self.failed.push(case.to_owned());
        }
    }

    /// Panics where anything failed or nothing was checked.
    pub fn finish(self) {
        println!("{} cases, worst relative error {:.2e}", self.cases, self.worst);
        assert!(self.cases > 0, "nothing was checked");
        let first = self.failed.iter().take(3).cloned().collect::<Vec<_>>().join("\n");
        assert!(self.failed.is_empty(), "{} of {} cases failed:\n{first}", self.failed.len(), self.cases);
    }
}

#[test]
fn the_check_sees_unwritten_elements_and_overruns() {
    let cpu = Cpu::with_threads(1).poisoned();
    let failed = |elements: &[f32], canary: f32| {
        let mut buffer = Arena::HEAP.take("case", elements.len() + Cpu::CANARY).unwrap();
        buffer.fill(canary);
        buffer[..elements.len()].copy_from_slice(elements);
        let mut failures = Failures::default();
        let got = Matrix::from_buffer(buffer, 1, elements.len());
        failures.check("case", &got, &[1.0, 2.0], 2, Tolerance::EXACT);
        !failures.failed.is_empty()
    };
    assert!(!failed(&[1.0, 2.0], f32::NAN));
    assert!(failed(&[1.0, f32::NAN], f32::NAN));
    assert!(failed(&[1.0, 2.0], 0.0));
    assert!(failed(&[1.0, 2.0, 3.0], f32::NAN));
    // The backend poisons what it allocates.
    let x = cpu.upload(1, 2, &[1.0, 2.0]).unwrap();
    assert_eq!(x.buffer().len(), 2 + Cpu::CANARY);
    assert!(x.buffer()[2..].iter().all(|x| x.is_nan()));
}
