//! Receipts as JSON lines (exact) and CSV (for spreadsheets).

use std::borrow::Cow;
use std::io::{self, Write};

use super::record::{Receipt, Verdict};
use crate::text::{shown, shown_json};

/// One JSON object a line.
pub fn jsonl(out: &mut dyn Write, receipts: &[Receipt]) -> io::Result<()> {
    receipts.iter().try_for_each(|receipt| writeln!(out, "{}", shown_json(serde_json::to_string(receipt)?)))
}

const COLUMNS: [&str; 33] = [
    "seq",
    "time",
    "id",
    "agent",
    "session",
    "cgroup",
    "pid",
    "uid",
    "comm",
    "protocol",
    "method",
    "host",
    "port",
    "path",
    "template",
    "query_keys",
    "verdict",
    "rule",
    "reason",
    "policy",
    "credential",
    "count",
    "until",
    "end",
    "status",
    "upstream",
    "request_bytes",
    "response_bytes",
    "scrubbed",
    "first_byte_us",
    "total_us",
    "error",
    "hash",
];

/// The first line of a CSV export.
pub fn csv_header(out: &mut dyn Write) -> io::Result<()> {
    write!(out, "{}\r\n", COLUMNS.join(","))
}

/// RFC 4180. Hidden characters are spelled out; a text that a spreadsheet would run as a formula gets a `'` in front.
pub fn csv(out: &mut dyn Write, receipts: &[Receipt]) -> io::Result<()> {
    for receipt in receipts {
        let cells = cells(receipt);
        let line: Vec<_> = cells.iter().map(|cell| quoted(cell)).collect();
        write!(out, "{}\r\n", line.join(","))?;
    }
    Ok(())
}

fn cells(receipt: &Receipt) -> [Cow<'_, str>; 33] {
    fn text(text: &str) -> Cow<'_, str> {
        let text = shown(text);
        if text.starts_with(['=', '+', '-', '@']) { Cow::Owned(format!("'{text}")) } else { text }
    }
    fn maybe(field: Option<&String>) -> Cow<'_, str> {
        field.map_or(Cow::Borrowed(""), |field| text(field))
    }
    fn number<'a>(number: impl ToString) -> Cow<'a, str> {
        Cow::Owned(number.to_string())
    }
    fn some<'a>(field: Option<impl ToString>) -> Cow<'a, str> {
        field.map_or(Cow::Borrowed(""), number)
    }
    let Receipt { seq, time, intent, outcome, count, until, hash } = receipt;
    let outcome = outcome.as_ref();
    let verdict = match intent.verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
    };
    [
        number(seq),
        number(time),
        text(&intent.id.0),
        text(&intent.agent),
        text(&intent.session),
        number(intent.cgroup),
        number(intent.pid),
        number(intent.uid),
        text(&intent.comm),
        text(&intent.protocol),
        maybe(intent.method.as_ref()),
        maybe(intent.host.as_ref()),
        some(intent.port),
        maybe(intent.path.as_ref()),
        maybe(intent.template.as_ref()),
        Cow::Owned(text(&intent.query_keys.join(" ")).into_owned()),
        Cow::Borrowed(verdict),
        maybe(intent.rule.as_ref()),
        text(&intent.reason),
        maybe(intent.policy.as_ref()),
        receipt.credential().map_or(Cow::Borrowed(""), text),
        number(count),
        some(*until),
        outcome.map_or(Cow::Borrowed(""), |o| text(&o.end)),
        some(outcome.and_then(|o| o.status)),
        maybe(outcome.and_then(|o| o.upstream.as_ref())),
        some(outcome.map(|o| o.request_bytes)),
        some(outcome.map(|o| o.response_bytes)),
        some(outcome.map(|o| o.scrubbed)),
        some(outcome.and_then(|o| o.first_byte_us)),
        some(outcome.map(|o| o.total_us)),
        maybe(outcome.and_then(|o| o.error.as_ref())),
        text(hash),
    ]
}

fn quoted(cell: &str) -> Cow<'_, str> {
    if cell.contains(['"', ',', '\r', '\n']) || cell.starts_with(' ') || cell.ends_with(' ') {
        Cow::Owned(format!("\"{}\"", cell.replace('"', "\"\"")))
    } else {
        Cow::Borrowed(cell)
    }
}
