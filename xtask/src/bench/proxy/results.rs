//! Cells of all rounds, and what follows from them: medians, and ratios that are taken within a round.

use std::collections::BTreeMap;

use super::cell::{Cell, Metric};

#[derive(Default)]
pub(super) struct Results {
    /// row → peer → round → cell
    cells: BTreeMap<&'static str, BTreeMap<&'static str, BTreeMap<usize, Cell>>>,
}

/// Several values of one thing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) lowest: f64,
    pub(super) highest: f64,
}

impl Spread {
    pub(super) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.retain(|value| value.is_finite());
        values.sort_by(f64::total_cmp);
        let median = *values.get(values.len() / 2)?;
        Some(Spread { median, lowest: *values.first()?, highest: *values.last()? })
    }
}

impl Results {
    pub(super) fn add(&mut self, row: &'static str, peer: &'static str, round: usize, cell: Cell) {
        self.cells.entry(row).or_default().entry(peer).or_default().insert(round, cell);
    }

    pub(super) fn played(&self, row: &str, peer: &str) -> bool {
        self.rounds(row, peer).is_some()
    }

    /// The values themselves.
    pub(super) fn values(&self, row: &str, peer: &str, metric: Metric) -> Option<Spread> {
        let values = self.rounds(row, peer)?.values().filter_map(|cell| cell.get(&metric).copied());
        Spread::of(values.collect())
    }

    /// Of a peer in a row to one in the same row or another, round by round.
    pub(super) fn ratio(
        &self,
        metric: Metric,
        (row, peer): (&str, &str),
        (base_row, base): (&str, &str),
    ) -> Option<Spread> {
        Spread::of(self.pairs(metric, (row, peer), (base_row, base))?.map(|(own, base)| own / base).collect())
    }

    /// What a peer adds to another's value.
    pub(super) fn added(&self, metric: Metric, row: &str, peer: &str, base: &str) -> Option<Spread> {
        Spread::of(self.pairs(metric, (row, peer), (row, base))?.map(|(own, base)| own - base).collect())
    }

    /// All errors of a row's peer.
    pub(super) fn errors(&self, row: &str, peer: &str) -> f64 {
        let cells = self.rounds(row, peer).into_iter().flat_map(BTreeMap::values);
        cells.filter_map(|cell| cell.get(&Metric::Errors)).sum()
    }

    fn pairs<'s>(
        &'s self,
        metric: Metric,
        (row, peer): (&str, &str),
        (base_row, base): (&str, &str),
    ) -> Option<impl Iterator<Item = (f64, f64)> + use<'s>> {
        let (own, base) = (self.rounds(row, peer)?, self.rounds(base_row, base)?);
        Some(
            own.iter().filter_map(move |(round, cell)| {
                Some((*cell.get(&metric)?, *base.get(round)?.get(&metric)?))
            }),
        )
    }

    fn rounds(&self, row: &str, peer: &str) -> Option<&BTreeMap<usize, Cell>> {
        self.cells.get(row)?.get(peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_taken_within_its_round() {
        let mut results = Results::default();
        for (round, own, base) in [(1, 10.0, 5.0), (2, 300.0, 100.0), (3, 4.0, 4.0)] {
            results.add("row", "own", round, Cell::from([(Metric::Cost, own)]));
            results.add("row", "base", round, Cell::from([(Metric::Cost, base)]));
        }
        results.add("row", "own", 4, Cell::from([(Metric::Cost, 1e9)]));
        let ratio = results.ratio(Metric::Cost, ("row", "own"), ("row", "base")).unwrap();
        assert_eq!(ratio, Spread { median: 2.0, lowest: 1.0, highest: 3.0 });
        assert_eq!(results.ratio(Metric::Rate, ("row", "own"), ("row", "base")), None);
    }
}
