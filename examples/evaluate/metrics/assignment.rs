//! The one-to-one assignment of largest total value (the Hungarian method with potentials, Kuhn 1955).

/// Pairs rows with columns one to one so that the sum of `value(row, column)` is as large as it can be.
///
/// The smaller side is paired completely. Gives, for every row, its column or `None`. Values that are not finite count
/// as 0. Costs `O(min(rows, columns)^2 max(rows, columns))`.
pub fn assign(rows: usize, columns: usize, value: impl Fn(usize, usize) -> f64) -> Vec<Option<usize>> {
    let finite = |v: f64| if v.is_finite() { v } else { 0.0 };
    if rows <= columns {
        return solve(rows, columns, |r, c| -finite(value(r, c))).into_iter().map(Some).collect();
    }
    let mut by_row = vec![None; rows];
    for (column, row) in solve(columns, rows, |c, r| -finite(value(r, c))).into_iter().enumerate() {
        by_row[row] = Some(column);
    }
    by_row
}

/// The column of every row at the least total cost, for `rows <= columns`.
fn solve(rows: usize, columns: usize, cost: impl Fn(usize, usize) -> f64) -> Vec<usize> {
    // Rows and columns are numbered from 1; column 0 stands for "the row being placed".
    let mut row_potential = vec![0.0; rows + 1];
    let mut column_potential = vec![0.0; columns + 1];
    let mut row_of = vec![0usize; columns + 1];
    let mut came_from = vec![0usize; columns + 1];
    for row in 1..=rows {
        row_of[0] = row;
        let mut slack = vec![f64::INFINITY; columns + 1];
        let mut used = vec![false; columns + 1];
        let mut here = 0;
        // Grow the tree of tight edges until it reaches a free column.
        while row_of[here] != 0 {
            used[here] = true;
            let from = row_of[here];
            let (mut least, mut next) = (f64::INFINITY, 0);
            for column in 1..=columns {
                if used[column] {
                    continue;
                }
                let reduced = cost(from - 1, column - 1) - row_potential[from] - column_potential[column];
                if reduced < slack[column] {
                    slack[column] = reduced;
                    came_from[column] = here;
                }
                if slack[column] < least {
                    least = slack[column];
                    next = column;
                }
            }
            for column in 0..=columns {
                if used[column] {
                    row_potential[row_of[column]] += least;
                    column_potential[column] -= least;
                } else {
                    slack[column] -= least;
                }
            }
            here = next;
        }
        // Flip the path back to the new row.
        while here != 0 {
            let before = came_from[here];
            row_of[here] = row_of[before];
            here = before;
        }
    }
    let mut column_of = vec![0; rows];
    for column in 1..=columns {
        if row_of[column] != 0 {
            column_of[row_of[column] - 1] = column - 1;
        }
    }
    column_of
}

#[cfg(test)]
mod tests {
    use super::assign;

    /// The largest total by trying every pairing.
    fn best(rows: usize, columns: usize, value: &dyn Fn(usize, usize) -> f64) -> f64 {
        fn go(
            row: usize,
            skips: usize,
            used: &mut [bool],
            rows: usize,
            v: &dyn Fn(usize, usize) -> f64,
        ) -> f64 {
            if row == rows {
                return 0.0;
            }
            let mut best = f64::NEG_INFINITY;
            if skips > 0 {
                best = go(row + 1, skips - 1, used, rows, v);
            }
            for column in 0..used.len() {
                if !used[column] {
                    used[column] = true;
                    best = best.max(v(row, column) + go(row + 1, skips, used, rows, v));
                    used[column] = false;
                }
            }
            best
        }
        go(0, rows.saturating_sub(columns), &mut vec![false; columns], rows, value)
    }

    #[test]
    fn nothing_to_pair() {
        assert_eq!(assign(0, 3, |_, _| 1.0), vec![]);
        assert_eq!(assign(2, 0, |_, _| 1.0), vec![None, None]);
    }

    #[test]
    fn the_greedy_choice_is_not_the_best_total() {
        let values = [[0.9, 0.8], [0.8, 0.1]];
        assert_eq!(assign(2, 2, |r, c| values[r][c]), vec![Some(1), Some(0)]);
    }

    #[test]
    fn more_rows_than_columns_leaves_the_worst_row_out() {
        let values = [0.2, 0.9, 0.5];
        assert_eq!(assign(3, 1, |r, _| values[r]), vec![None, Some(0), None]);
    }

    #[test]
    fn a_value_that_is_no_number_counts_as_zero() {
        let values = [[f64::NAN, 0.3], [0.2, 0.3]];
        assert_eq!(assign(2, 2, |r, c| values[r][c]), vec![Some(1), Some(0)]);
    }

    #[test]
    fn totals_equal_those_of_trying_everything() {
        let mut state = 1u64;
        for (rows, columns) in [(1, 1), (2, 3), (3, 2), (4, 4), (5, 3), (3, 6), (6, 6)] {
            for _ in 0..20 {
                let values: Vec<f64> = (0..rows * columns)
                    .map(|_| {
                        state = state
                            .wrapping_mul(6_364_136_223_846_793_005)
                            .wrapping_add(1_442_695_040_888_963_407);
                        (state >> 60) as f64 / 15.0
                    })
                    .collect();
                let value = |r: usize, c: usize| values[r * columns + c];
                let pairs = assign(rows, columns, value);
                let mut columns_used: Vec<usize> = pairs.iter().flatten().copied().collect();
                columns_used.sort_unstable();
                columns_used.dedup();
                assert_eq!(columns_used.len(), rows.min(columns), "one to one and complete");
                let total: f64 = pairs.iter().enumerate().filter_map(|(r, c)| c.map(|c| value(r, c))).sum();
                assert!((total - best(rows, columns, &value)).abs() < 1e-9, "{rows}x{columns} {values:?}");
            }
        }
    }
}
