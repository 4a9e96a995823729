//! Tensors in and out of safetensors files.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, serialize};
use triplet::Cpu;
use triplet::backend::{Backend, Grid, Matrix, View};

/// A feature map on the backend, and its size.
pub type Map = (Matrix<Cpu>, Grid);

/// A tensor on the host.
pub struct Tensor {
    pub name: String,
    pub shape: Vec<usize>,
    pub data: Vec<f32>,
}

impl Tensor {
    /// A view under a name.
    pub fn new(name: impl Into<String>, cpu: &Cpu, view: View<Cpu>) -> triplet::Result<Tensor> {
        let shape = vec![view.rows(), view.cols()];
        Ok(Tensor { name: name.into(), shape, data: cpu.download(view)? })
    }
}

/// The tensors of an input file.
pub struct Inputs(BTreeMap<String, Tensor>);

impl Inputs {
    /// Reads a file; every numeric type becomes f32.
    pub fn read(path: &Path) -> Result<Inputs, Box<dyn Error>> {
        let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in SafeTensors::deserialize(&bytes)?.tensors() {
            let data = values(&view).ok_or_else(|| format!("{name}: type {} is not read", view.dtype()))?;
            let tensor = Tensor { name: name.clone(), shape: view.shape().to_vec(), data };
            tensors.insert(name, tensor);
        }
        Ok(Inputs(tensors))
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Result<&Tensor, Box<dyn Error>> {
        self.optional(name).ok_or_else(|| format!("the inputs have no {name}").into())
    }

    /// The tensor of this name, if there is one.
    pub fn optional(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name)
    }

    /// A matrix: leading dimensions of 1 are dropped, a vector is one row.
    pub fn matrix(&self, cpu: &Cpu, name: &str) -> Result<Matrix<Cpu>, Box<dyn Error>> {
        let tensor = self.get(name)?;
        match *squeezed(&tensor.shape, 2) {
            [cols] => Ok(cpu.upload(1, cols, &tensor.data)?),
            [rows, cols] => Ok(cpu.upload(rows, cols, &tensor.data)?),
            _ => Err(format!("{name} is of shape {:?}, but must be [rows, columns]", tensor.shape).into()),
        }
    }

    /// A feature map: `[channels, height, width]`, or `[cells, channels]` of a square, with or without a leading 1.
    pub fn map(&self, cpu: &Cpu, name: &str) -> Result<Map, Box<dyn Error>> {
        let tensor = self.get(name)?;
        match *squeezed(&tensor.shape, if tensor.shape.len() == 4 { 3 } else { 2 }) {
            [cells, _] => {
                let side = cells.isqrt();
                if side * side != cells {
                    return Err(format!("{name} has {cells} cells, which make no square").into());
                }
                Ok((self.matrix(cpu, name)?, Grid { height: side, width: side }))
            }
            [channels, height, width] => {
                let grid = Grid { height, width };
                let cells = grid.cells();
                let data: Vec<f32> = (0..cells)
                    .flat_map(|cell| (0..channels).map(move |channel| channel * cells + cell))
                    .map(|index| tensor.data[index])
                    .collect();
                Ok((cpu.upload(cells, channels, &data)?, grid))
            }
            _ => Err(format!("{name} is of shape {:?}, but must be a feature map", tensor.shape).into()),
        }
    }

    /// Maps `{stem}.0`, `{stem}.1`, ... as far as they go.
    pub fn maps(&self, cpu: &Cpu, stem: &str) -> Result<Vec<Map>, Box<dyn Error>> {
        let names = (0..).map(|index| format!("{stem}.{index}"));
        names.take_while(|name| self.optional(name).is_some()).map(|name| self.map(cpu, &name)).collect()
    }
}

/// The shape without leading ones, down to `rank` dimensions.
fn squeezed(shape: &[usize], rank: usize) -> &[usize] {
    let ones = shape.iter().take_while(|&&size| size == 1).count();
    &shape[ones.min(shape.len().saturating_sub(rank))..]
}

fn values(view: &TensorView) -> Option<Vec<f32>> {
    fn of<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        bytes.as_chunks::<N>().0.iter().map(|&chunk| value(chunk)).collect()
    }
    let bytes = view.data();
    Some(match view.dtype() {
        Dtype::F32 => of(bytes, f32::from_le_bytes),
        Dtype::F64 => of(bytes, |chunk| f64::from_le_bytes(chunk) as f32),
        Dtype::F16 => of(bytes, |chunk| f16::from_le_bytes(chunk).to_f32()),
        Dtype::BF16 => of(bytes, |chunk| bf16::from_le_bytes(chunk).to_f32()),
        Dtype::I64 => of(bytes, |chunk| i64::from_le_bytes(chunk) as f32),
        Dtype::I32 => of(bytes, |chunk| i32::from_le_bytes(chunk) as f32),
        Dtype::U8 | Dtype::BOOL => of(bytes, |[byte]: [u8; 1]| f32::from(byte)),
        _ => return None,
    })
}

/// Writes tensors as f32.
pub fn write(path: &Path, tensors: &[Tensor]) -> Result<(), Box<dyn Error>> {
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|tensor| tensor.data.iter().flat_map(|value| value.to_le_bytes()).collect())
        .collect();
    let views = tensors.iter().zip(&bytes).map(|(tensor, bytes)| {
        TensorView::new(Dtype::F32, tensor.shape.clone(), bytes).map(|view| (tensor.name.as_str(), view))
    });
    let views = views.collect::<Result<Vec<_>, _>>()?;
    std::fs::write(path, serialize(views, None)?)
        .map_err(|error| format!("{}: {error}", path.display()).into())
}
