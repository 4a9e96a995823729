//! Attention of sequences is that of every sequence, bit for bit; and work that is done side by side is the same work.

use triplet::backend::{Attention, AttentionMask, Backend, Matrix, Operands, Train, View};
use triplet::cpu::Cpu;
use triplet::reference::uniform;
use triplet::{Error, Result};

use crate::common::operands::{Failures, inner, padded};
use crate::common::variants::variants;

/// The rows of a matrix, or of some columns of it.
fn numbers(cpu: &Cpu, view: View<Cpu>) -> Vec<f32> {
    cpu.download(view).unwrap()
}

#[test]
fn every_sequence_is_attention_by_itself() {
    let mut failures = Failures::default();
    // Sequences, tokens, heads, key-value heads, width of keys, width of values.
    let sizes = [
        [0, 3, 1, 1, 4, 4],
        [1, 5, 2, 1, 3, 5],
        [3, 7, 2, 2, 4, 0],
        [5, 9, 4, 2, 16, 9],
        [9, 50, 3, 3, 17, 33],
    ];
    for variant in variants() {
        let cpu = &variant.cpu;
        for [count, tokens, heads, kv_heads, d, e] in sizes {
            for (soft_cap, mask) in [
                (None, AttentionMask::Full),
                (Some(3.0), AttentionMask::Causal { first: 0, window: Some(4) }),
            ] {
                let parameters =
                    Attention { heads, kv_heads, scale: 0.4, soft_cap, mask, operands: Operands::Exact };
                let rows = count * tokens;
                let of = |cols: usize, seed| padded(cpu, rows, cols, &uniform(rows * cols, seed));
                let (q, k, v) = (of(heads * d, 1), of(kv_heads * d, 2), of(kv_heads * e, 3));
                let gradient = of(heads * e, 4);
                let (q, k, v, gradient) = (inner(&q), inner(&k), inner(&v), inner(&gradient));
                let got = cpu.attention_each(q, k, v, &parameters, tokens).unwrap();
                let by = cpu.attention_each_backward(q, k, v, &parameters, tokens, gradient).unwrap();
                assert_eq!(by.cols(), q.cols() + k.cols() + v.cols());
                let columns = [0..q.cols(), q.cols()..q.cols() + k.cols(), q.cols() + k.cols()..by.cols()];
                let case = format!("{} {count}x{tokens} {parameters:?}", variant.name);
                for first in (0..rows).step_by(tokens) {
                    let rows = first..first + tokens;
                    let [q, k, v, gradient] = [q, k, v, gradient].map(|x| x.row_range(rows.clone()).unwrap());
                    let want = cpu.attention(q, k, v, &parameters).unwrap();
                    let here = got.view().row_range(rows.clone()).unwrap();
                    let same = numbers(cpu, here) == numbers(cpu, want.view());
                    failures.ensure(&format!("{case} from row {first}"), same);
                    let want = cpu.attention_backward(q, k, v, &parameters, gradient).unwrap();
                    let want = [&want.q, &want.k, &want.v].map(Matrix::view);
                    for (columns, want) in columns.iter().zip(want) {
                        let here = by.view().row_range(rows.clone()).unwrap();
                        let here = here.col_range(columns.clone()).unwrap();
                        let same = numbers(cpu, here) == numbers(cpu, want);
                        failures.ensure(&format!("{case} by {columns:?} from row {first}"), same);
                    }
                }
            }
        }
    }
    failures.finish();
}

#[test]
fn results_come_in_the_order_of_the_items_whoever_works() {
    let weight = Cpu::with_threads(1).parameter(&[40, 30], &uniform(1200, 1)).unwrap();
    let work = |cpu: &Cpu, item: usize| -> Result<Vec<f32>> {
        let x = cpu.upload(300, 30, &uniform(9000, item as u64))?;
        let out = cpu.linear(x.view(), &weight, None, triplet::backend::Epilogue::NONE)?;
        cpu.download(out.view())
    };
    let want: Vec<_> = (0..13).map(|item| work(&Cpu::with_threads(1), item).unwrap()).collect();
    for threads in [1, 2, 3, 20] {
        let cpu = Cpu::with_threads(threads);
        assert!(cpu.side_by_side((0..13).collect(), work).unwrap() == want, "{threads} threads");
        let failing = |_: &Cpu, item: usize| match item {
            5 | 9 => Err(Error::NonFinite { module: item.to_string() }),
            item => Ok(item),
        };
        let error = cpu.side_by_side((0..13).collect(), failing).unwrap_err();
        assert_eq!(error, Error::NonFinite { module: "5".to_string() });
        assert!(cpu.side_by_side(Vec::new(), failing).unwrap().is_empty());
    }
}
