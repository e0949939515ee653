//! One receipt as one line.

use std::fmt::Write as _;

use crate::audit::Receipt;
use crate::audit::clock::Time;
use crate::cli::output::{DIM, GREEN, RED, YELLOW};
use crate::cli::zone::Zone;
use crate::text::shown;

/// One receipt as one line; the date is left out on the same day.
pub(super) fn line(receipt: &Receipt, zone: &Zone, now: Time) -> String {
    let intent = &receipt.intent;
    let outcome = receipt.outcome.as_ref();
    let (date, clock, offset) = zone.split(receipt.time);
    let today = zone.split(now).0 == date;
    let mut line = if today { clock } else { format!("{date} {clock}") };
    if offset == "Z" {
        line.push('Z');
    }
    let (style, verdict) = if receipt.refused() { (RED, "deny") } else { (GREEN, "allow") };
    let rule = intent
        .rule
        .as_deref()
        .map_or_else(|| format!("({})", shown(&intent.reason)), |rule| shown(rule).into_owned());
    let credential = receipt.credential().unwrap_or_default();
    let status = outcome.and_then(|o| o.status).map_or(String::new(), |status| status.to_string());
    let took = outcome.filter(|o| o.total_us > 0).map_or(String::new(), |o| duration(o.total_us));
    write!(
        line,
        " {:<14}  {style}{verdict:<5}{style:#}  {:<46}  {rule:<12}  {:<10}  {status:>3}  {took:>7}  {DIM}{}{DIM:#}",
        shown(&intent.agent),
        request(receipt),
        shown(credential),
        shown(&intent.id.0),
    )
    .expect("a String takes every write");
    for note in notes(receipt) {
        write!(line, "  {YELLOW}{note}{YELLOW:#}").expect("a String takes every write");
    }
    line
}

/// `POST api.github.com /repos`, with the port where it is not the usual one.
fn request(receipt: &Receipt) -> String {
    let intent = &receipt.intent;
    let mut text = shown(intent.method.as_deref().unwrap_or(&intent.protocol)).into_owned();
    if let Some(host) = &intent.host {
        write!(text, " {}", shown(host)).expect("a String takes every write");
    }
    let usual = match intent.protocol.as_str() {
        "https" => Some(443),
        "http" => Some(80),
        "dns" => Some(53),
        _ => None,
    };
    if let Some(port) = intent.port.filter(|port| Some(*port) != usual) {
        write!(text, ":{port}").expect("a String takes every write");
    }
    if let Some(path) = &intent.path {
        write!(text, " {}", shown(path)).expect("a String takes every write");
    }
    text
}

fn notes(receipt: &Receipt) -> Vec<String> {
    let mut notes = Vec::new();
    if receipt.count > 1 || receipt.until.is_some() {
        notes.push(format!("{} equal refusals", receipt.count));
    }
    match receipt.outcome.as_ref() {
        None => notes.push("open".to_owned()),
        Some(outcome) => {
            if !matches!(outcome.end.as_str(), "done" | "refused") {
                notes.push(shown(&outcome.end).into_owned());
            }
            if outcome.scrubbed > 0 {
                notes.push(format!("{} secrets cut out", outcome.scrubbed));
            }
        }
    }
    notes
}

pub(in crate::cli) fn duration(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} us"),
        1_000..10_000_000 => format!("{} ms", micros / 1_000),
        10_000_000..600_000_000 => format!("{} s", micros / 1_000_000),
        _ => format!("{} min", micros / 60_000_000),
    }
}
