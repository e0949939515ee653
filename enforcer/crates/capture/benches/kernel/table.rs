//! Bursts of two sides as a table.

use std::fmt::Write;
use std::time::Duration;

use crate::Side;

/// One thing that was measured: the mean of each burst.
pub(crate) struct Row {
    what: &'static str,
    without: Vec<Duration>,
    with: Vec<Duration>,
}

impl Row {
    pub(crate) fn new(what: &'static str) -> Self {
        Row { what, without: Vec::new(), with: Vec::new() }
    }

    pub(crate) fn add(&mut self, side: Side, mean: Duration) {
        match side {
            Side::Nobody => self.without.push(mean),
            Side::Agent => self.with.push(mean),
        }
    }
}

/// `minimum`: of the quickest bursts. `median`: of the ratios of neighbouring bursts, with their middle half beside it.
pub(crate) fn draw(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<30} {:>10} {:>10} {:>9} {:>9}   {}\n",
        "", "without", "with", "minimum", "median", "half of the bursts"
    );
    for row in rows {
        let (without, with) = (quickest(&row.without), quickest(&row.with));
        let mut ratios: Vec<f64> =
            row.without.iter().zip(&row.with).map(|(a, b)| b.as_secs_f64() / a.as_secs_f64()).collect();
        ratios.sort_by(f64::total_cmp);
        let at = |part: f64| ratios[((ratios.len() - 1) as f64 * part) as usize];
        writeln!(
            text,
            "{:<30} {:>7.2} us {:>7.2} us {:>8} {:>8}   x{:.2} to x{:.2}",
            row.what,
            without * 1e6,
            with * 1e6,
            format!("x{:.3}", with / without),
            format!("x{:.3}", at(0.5)),
            at(0.25),
            at(0.75),
        )
        .unwrap();
    }
    text
}

fn quickest(bursts: &[Duration]) -> f64 {
    bursts.iter().min().expect("there was a burst").as_secs_f64()
}
