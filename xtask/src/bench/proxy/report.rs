//! From cells to a table of ratios.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::load::{Cell, ROWS};

const BASE: &str = "nginx";
const OURS: &str = "enforcer";
const PEERS: &[&str] = &[OURS, "haproxy", "direct"];

#[derive(Default)]
pub(super) struct Results {
    /// row, peer → one cell per round
    cells: BTreeMap<(&'static str, &'static str), Vec<Cell>>,
    /// peer → KiB
    resident: BTreeMap<&'static str, u64>,
}

impl Results {
    pub(super) fn add(&mut self, row: &'static str, peer: &'static str, cell: Cell) {
        self.cells.entry((row, peer)).or_default().push(cell);
    }

    pub(super) fn resident(&mut self, peer: &'static str, kib: u64) {
        self.resident.insert(peer, kib);
    }

    pub(super) fn markdown(&self, rounds: usize) -> String {
        let mut text = format!(
            "Ratios to nginx, taken within a round: median (lowest to highest) of {rounds} rounds. Cost is processor time of the proxy for \
             one request (µs), or one GiB (s).\n\n| load | peer | requests or GiB/s | cost | p50 | p99 | cost itself |\n|---|---|---|---|---|---|---|\n"
        );
        for row in ROWS.iter().filter(|row| self.cells.contains_key(&(row.name, BASE))) {
            for peer in PEERS {
                let ratio = |of: fn(&Cell) -> Option<f64>| self.ratio(row.name, peer, of);
                let cost = self.values(row.name, peer, |cell| Some(cell.cost)).map_or(String::new(), |all| {
                    let cost = median(all);
                    if *peer == "direct" { "–".to_owned() } else { format!("{cost:.2}") }
                });
                let rate = ratio(|cell| Some(cell.rate));
                let spent = if *peer == "direct" { "–".to_owned() } else { ratio(|cell| Some(cell.cost)) };
                let (p50, p99) = (ratio(|cell| cell.p50), ratio(|cell| cell.p99));
                // A String takes whatever is written to it.
                let _written =
                    writeln!(text, "| {} | {peer} | {rate} | {spent} | {p50} | {p99} | {cost} |", row.name);
            }
        }
        text.push_str("\nResident memory behind all this, MiB: ");
        let memory = self.resident.iter().filter(|(_, kib)| **kib > 0);
        let memory: Vec<_> =
            memory.map(|(peer, kib)| format!("{peer} {:.1}", *kib as f64 / 1024.0)).collect();
        text.push_str(&memory.join(", "));
        text.push('\n');
        text
    }

    fn values(
        &self,
        row: &'static str,
        peer: &'static str,
        of: impl Fn(&Cell) -> Option<f64>,
    ) -> Option<Vec<f64>> {
        self.cells.get(&(row, peer))?.iter().map(of).collect()
    }

    fn ratio(&self, row: &'static str, peer: &'static str, of: fn(&Cell) -> Option<f64>) -> String {
        let ratios = self.values(row, peer, of).zip(self.values(row, BASE, of)).map(|(own, base)| {
            own.iter().zip(base).map(|(own, base)| own / base).filter(|r| r.is_finite()).collect::<Vec<_>>()
        });
        match ratios {
            Some(ratios) if !ratios.is_empty() => {
                let lowest = ratios.iter().copied().fold(f64::INFINITY, f64::min);
                let highest = ratios.iter().copied().fold(0.0, f64::max);
                format!("{:.2} ({lowest:.2} to {highest:.2})", median(ratios))
            }
            Some(_) | None => "–".to_owned(),
        }
    }
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}
