//! `receipts show`: all that one receipt says.

use std::fmt::Write as _;

use crate::audit::{Receipt, Verdict};
use crate::cli::logs::duration;
use crate::cli::output::{DIM, GREEN, RED};
use crate::cli::zone::Zone;
use crate::text::shown;

pub(super) fn details(receipt: &Receipt, zone: &Zone) -> String {
    let intent = &receipt.intent;
    let (date, clock, offset) = zone.split(receipt.time);
    let some = |text: &Option<String>| text.as_deref().map(|text| shown(text).into_owned());
    let mut rows = vec![
        ("receipt", format!("{} (entry {})", shown(&intent.id.0), receipt.seq)),
        ("time", format!("{date} {clock}.{:06} {offset}", receipt.time.micros() % 1_000_000)),
        ("agent", format!("{}, session {}", shown(&intent.agent), shown(&intent.session))),
        (
            "process",
            format!(
                "{} (pid {}, uid {}, cgroup {})",
                shown(&intent.comm),
                intent.pid,
                intent.uid,
                intent.cgroup
            ),
        ),
    ];
    let method = some(&intent.method).map_or(String::new(), |method| method + " ");
    let host = some(&intent.host).unwrap_or_default();
    let port = intent.port.map_or(String::new(), |port| format!(":{port}"));
    rows.push((
        "request",
        format!(
            "{method}{}://{host}{port}{}",
            shown(&intent.protocol),
            some(&intent.path).unwrap_or_default()
        ),
    ));
    rows.extend(some(&intent.template).map(|template| ("matched", template)));
    rows.extend(some(&intent.action).map(|action| ("action", action)));
    if !intent.query_keys.is_empty() {
        rows.push(("query keys", shown(&intent.query_keys.join(", ")).into_owned()));
    }
    let verdict = match intent.verdict {
        Verdict::Allow => format!("{GREEN}allow{GREEN:#}"),
        Verdict::Deny => format!("{RED}deny{RED:#}"),
    };
    let rule = some(&intent.rule).map_or(String::new(), |rule| format!(" by rule `{rule}`"));
    rows.push(("decision", format!("{verdict}{rule} ({})", shown(&intent.reason))));
    rows.extend(some(&intent.policy).map(|policy| ("policy", policy)));
    rows.extend(receipt.credential().map(|credential| ("credential", shown(credential).into_owned())));
    if let Some(until) = receipt.until {
        rows.push((
            "stands for",
            format!("{} equal refusals, the last one at {}", receipt.count, zone.split(until).1),
        ));
    }
    match &receipt.outcome {
        None => rows.push(("outcome", "none yet".to_owned())),
        Some(outcome) => {
            let status = outcome.status.map_or(String::new(), |status| format!(", status {status}"));
            rows.push(("outcome", format!("{}{status}", shown(&outcome.end))));
            rows.extend(some(&outcome.upstream).map(|upstream| ("upstream", upstream)));
            if outcome.total_us > 0 {
                let first = outcome
                    .first_byte_us
                    .map_or(String::new(), |us| format!(", first byte after {}", duration(us)));
                rows.push(("took", format!("{}{first}", duration(outcome.total_us))));
            }
            rows.push((
                "body",
                format!("{} sent, {} received", size(outcome.request_bytes), size(outcome.response_bytes)),
            ));
            if outcome.scrubbed > 0 {
                rows.push(("cut out", format!("{} secrets that came back", outcome.scrubbed)));
            }
            rows.extend(some(&outcome.error).map(|error| ("error", error)));
        }
    }
    rows.push(("hash", shown(&receipt.hash).into_owned()));
    rows.iter().fold(String::new(), |mut text, (name, value)| {
        writeln!(text, "{DIM}{name:<11}{DIM:#}{value}").expect("a String takes every write");
        text
    })
}

fn size(bytes: u64) -> String {
    let tenths = |unit: u64| format!("{}.{}", bytes / unit, bytes % unit * 10 / unit);
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", tenths(1024)),
        _ => format!("{} MiB", tenths(1_048_576)),
    }
}
