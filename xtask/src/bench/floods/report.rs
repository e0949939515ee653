//! From times to a table.

use std::fmt::Write as _;

/// One attack, a value for each round.
struct Row {
    attack: &'static str,
    /// p50 and p99 in microseconds: alone, and beside the attack.
    alone: Vec<(f64, f64)>,
    beside: Vec<(f64, f64)>,
    /// Seconds.
    closed: Vec<f64>,
}

#[derive(Default)]
pub(super) struct Results(Vec<Row>);

impl Results {
    pub(super) fn add(&mut self, attack: &'static str, alone: &[f64], beside: &[f64]) {
        let row = self.row(attack);
        row.alone.push((at(alone, 50), at(alone, 99)));
        row.beside.push((at(beside, 50), at(beside, 99)));
    }

    pub(super) fn closed(&mut self, attack: &'static str, after: Vec<f64>) {
        self.row(attack).closed.extend(after);
    }

    fn row(&mut self, attack: &'static str) -> &mut Row {
        let place = self.0.iter().position(|row| row.attack == attack).unwrap_or_else(|| {
            self.0.push(Row { attack, alone: Vec::new(), beside: Vec::new(), closed: Vec::new() });
            self.0.len() - 1
        });
        &mut self.0[place]
    }

    pub(super) fn markdown(&self, rounds: usize) -> String {
        let mut text = format!(
            "{rounds} rounds, their medians; milliseconds of the second agent's answers, and seconds until an attacker's connection was closed (the \
             longest; –: none was, what it sends is cheap).\n\n\
             | attack | alone: p50 | p99 | beside it: p50 | p99 | ratio of p50 | of p99 | closed after |\n|---|---|---|---|---|---|---|---|\n"
        );
        for row in &self.0 {
            let of = |pairs: &[(f64, f64)], part: fn(&(f64, f64)) -> f64| {
                at(&pairs.iter().map(part).collect::<Vec<_>>(), 50)
            };
            let ratio = |part: fn(&(f64, f64)) -> f64| {
                let ratios: Vec<f64> = row
                    .alone
                    .iter()
                    .zip(&row.beside)
                    .map(|(alone, beside)| part(beside) / part(alone))
                    .collect();
                at(&ratios, 50)
            };
            let closed = row.closed.iter().copied().fold(f64::NAN, f64::max);
            let closed = if closed.is_nan() { "–".to_owned() } else { format!("{closed:.1}") };
            // A String takes whatever is written to it.
            let _written = writeln!(
                text,
                "| {} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {closed} |",
                row.attack,
                of(&row.alone, |pair| pair.0) / 1e3,
                of(&row.alone, |pair| pair.1) / 1e3,
                of(&row.beside, |pair| pair.0) / 1e3,
                of(&row.beside, |pair| pair.1) / 1e3,
                ratio(|pair| pair.0),
                ratio(|pair| pair.1),
            );
        }
        text
    }
}

/// So many percent are not larger.
fn at(all: &[f64], percent: usize) -> f64 {
    let mut all = all.to_vec();
    all.sort_by(f64::total_cmp);
    all.get(all.len() * percent / 100).or(all.last()).copied().unwrap_or(f64::NAN)
}
