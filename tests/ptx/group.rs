//! Products of warp groups (`wgmma`): registers that may not be touched while a product is under way, matrices in shared memory by
//! descriptor, fragments to the bit.
//!
//! Of an m64nNk16 product a warp computes 16 rows. With g = lane / 4 and t = lane mod 4 a lane holds of the left matrix the pairs
//! (g, 2 t), (g + 8, 2 t), (g, 2 t + 8), (g + 8, 2 t + 8), the lower k in the lower half, and of the sums, for every 8 columns j on,
//! (g, j + 2 t), (g, j + 2 t + 1), (g + 8, j + 2 t), (g + 8, j + 2 t + 1).

use std::cell::Cell;
use std::collections::VecDeque;

use half::f16;

use super::program::Slot;
use super::tensor::{Lanes, truncated};

/// Products under way that use a register.
#[derive(Clone, Copy, Default)]
struct Use {
    left: u16,
    sums: u16,
}

/// A product that was not waited for.
struct Product {
    sums: Vec<Slot>,
    left: Vec<Slot>,
    /// Words of shared memory that it reads.
    words: Vec<usize>,
}

/// What a warp has under way.
pub struct Group {
    uses: Vec<Use>,
    /// Registers that other instructions used since the last fence.
    touched: Vec<Cell<bool>>,
    /// Groups, oldest first; the last one is still open.
    groups: VecDeque<Vec<Product>>,
    /// Every product: instruction, descriptor, whether it adds. The same for all warps of a warp group.
    pub log: Vec<(usize, u64, bool)>,
}

impl Group {
    /// Of a warp with so many registers.
    pub fn new(slots: usize) -> Group {
        Group {
            uses: vec![Use::default(); slots],
            touched: vec![Cell::new(true); slots],
            groups: VecDeque::from([Vec::new()]),
            log: Vec::new(),
        }
    }

    /// Another instruction uses a register.
    pub fn touch(&self, slot: Slot) -> Result<(), String> {
        let Use { left, sums } = self.uses[slot];
        if left > 0 || sums > 0 {
            return Err("uses a register of a product that was not waited for".into());
        }
        self.touched[slot].set(true);
        Ok(())
    }

    /// `wgmma.fence`
    pub fn fence(&mut self) {
        self.touched.iter().for_each(|touched| touched.set(false));
    }

    /// A product begins.
    pub fn begin(&mut self, sums: &[Slot], left: &[Slot], words: Vec<usize>) -> Result<(), String> {
        if sums.iter().chain(left).any(|&slot| self.touched[slot].get()) {
            return Err("multiplies registers without wgmma.fence after they were used".into());
        }
        let open = self.groups.iter().flatten();
        let other_sums = open
            .clone()
            .any(|product| product.sums != sums && product.sums.iter().any(|slot| sums.contains(slot)));
        let crossed = sums.iter().any(|&slot| self.uses[slot].left > 0)
            || left.iter().any(|&slot| self.uses[slot].sums > 0);
        if other_sums || crossed {
            return Err("multiplies registers that a product under way uses otherwise".into());
        }
        sums.iter().for_each(|&slot| self.uses[slot].sums += 1);
        left.iter().for_each(|&slot| self.uses[slot].left += 1);
        let product = Product { sums: sums.to_vec(), left: left.to_vec(), words };
        self.groups.back_mut().expect("a group is open").push(product);
        Ok(())
    }

    /// `wgmma.commit_group`
    pub fn commit(&mut self) {
        self.groups.push_back(Vec::new());
    }

    /// `wgmma.wait_group`: gives the words that were read by what has ended.
    pub fn wait(&mut self, groups: usize) -> Vec<usize> {
        let mut words = Vec::new();
        while self.groups.len() > groups + 1 {
            for product in self.groups.pop_front().expect("a group is there") {
                product.sums.iter().for_each(|&slot| self.uses[slot].sums -= 1);
                product.left.iter().for_each(|&slot| self.uses[slot].left -= 1);
                words.extend(product.words);
            }
        }
        words
    }

    /// Whether nothing is under way.
    pub fn is_done(&self) -> bool {
        self.groups.iter().all(Vec::is_empty)
    }
}

/// A matrix in shared memory whose rows run along k, not swizzled: matrices of 8 rows by 16 bytes, 128 bytes each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Descriptor {
    start: u64,
    /// Bytes from one of these matrices to the next along k, and to the next 8 rows.
    along_k: u64,
    along_rows: u64,
}

impl Descriptor {
    /// From its bits.
    pub fn new(bits: u64) -> Result<Descriptor, String> {
        let field = |at: u32| (bits >> at & 0x3fff) << 4;
        if bits & !(0x3fff | 0x3fff << 16 | 0x3fff << 32) != 0 {
            return Err(format!("multiplies by descriptor {bits:#x}, which is not one without swizzling"));
        }
        Ok(Descriptor { start: field(0), along_k: field(16), along_rows: field(32) })
    }

    /// Address of 16 bytes: 8 of k from `8 octet` on, of a row.
    pub fn place(self, row: usize, octet: usize) -> u64 {
        self.start + row as u64 / 8 * self.along_rows + octet as u64 * self.along_k + row as u64 % 8 * 16
    }
}

/// `a b (+ c)` of a warp's 16 rows: 4 registers of `a`, `b[row][k]`, four registers of sums for every 8 rows of `b`.
pub fn m64k16_f16(a: &[Lanes], b: &[[f64; 16]], c: Option<&[Lanes]>) -> Vec<Lanes> {
    let number = |pair: u64, high: usize| f64::from(f16::from_bits((pair >> (16 * high)) as u16).to_f32());
    let mut left = [[0.0; 16]; 16];
    for (row, left) in left.iter_mut().enumerate() {
        for (k, left) in left.iter_mut().enumerate() {
            *left = number(a[row / 8 + 2 * (k / 8)][row % 8 * 4 + k % 8 / 2], k % 2);
        }
    }
    let mut sums = vec![[0; 32]; b.len() / 2];
    for (col, right) in b.iter().enumerate() {
        for (row, left) in left.iter().enumerate() {
            let register = col / 8 * 4 + row / 8 * 2 + col % 2;
            let lane = row % 8 * 4 + col % 8 / 2;
            let before = c.map_or(0.0, |c| f64::from(f32::from_bits(c[register][lane] as u32)));
            let sum = left.iter().zip(right).fold(before, |sum, (left, right)| sum + left * right);
            sums[register][lane] = u64::from(truncated(sum).to_bits());
        }
    }
    sums
}

#[test]
fn a_product_of_a_warp_is_the_product() {
    let value = |i: usize| f64::from((i * 37 % 64) as u32) - 32.0;
    let half = |x: f64| u64::from(f16::from_f64(x).to_bits());
    let mut a = [[0; 32]; 4];
    for (lane, g, t) in (0..32).map(|lane| (lane, lane / 4, lane % 4)) {
        for (i, (row, k)) in
            [(g, 2 * t), (g + 8, 2 * t), (g, 2 * t + 8), (g + 8, 2 * t + 8)].into_iter().enumerate()
        {
            a[i][lane] = half(value(row * 16 + k)) | half(value(row * 16 + k + 1)) << 16;
        }
    }
    let b: Vec<[f64; 16]> = (0..24).map(|col| std::array::from_fn(|k| value(900 + col * 16 + k))).collect();
    let c = [[u64::from(0.5f32.to_bits()); 32]; 12];
    let sums = m64k16_f16(&a, &b, Some(&c));
    for (lane, g, t) in (0..32).map(|lane| (lane, lane / 4, lane % 4)) {
        for j in 0..3 {
            let cells = [(g, 2 * t), (g, 2 * t + 1), (g + 8, 2 * t), (g + 8, 2 * t + 1)];
            for (i, (row, col)) in cells.into_iter().enumerate() {
                let col = 8 * j + col;
                let want: f64 = (0..16).map(|k| value(row * 16 + k) * value(900 + col * 16 + k)).sum();
                assert_eq!(f32::from_bits(sums[4 * j + i][lane] as u32), (want + 0.5) as f32);
            }
        }
    }
}

#[test]
fn descriptors_to_the_bit() {
    let matrix = Descriptor::new(0x1234 | 128 << 16 | 8 << 32).unwrap();
    assert_eq!(matrix.place(0, 0), 0x12340);
    assert_eq!(matrix.place(9, 1), 0x12340 + 128 + 2048 + 16);
    assert!(Descriptor::new(1 << 62).is_err() && Descriptor::new(1 << 14).is_err());
}
