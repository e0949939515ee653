//! `receipts verify`: what a check found, and the check without a daemon.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;

use super::VerifyArgs;
use crate::audit::verify::{Report, verify};
use crate::audit::{PublicKey, head};
use crate::cli::output::{DIM, GREEN, RED, YELLOW};
use crate::cli::zone::Zone;
use crate::cli::{Failure, Output};
use crate::text::{shown, shown_json};

/// `verify --dir`: the folder with the segments, or the state folder around it.
pub(in crate::cli) fn verify_offline(dir: &Path, args: &VerifyArgs) -> anyhow::Result<Report> {
    let inner = dir.join("receipts");
    let dir = if inner.is_dir() { inner } else { dir.to_owned() };
    let keys = match args.key.as_deref() {
        Some(key) => keys(key)?,
        None => read_keys(&dir.join(head::KEY_FILE))?,
    };
    verify(&dir, &keys, args.head.as_ref(), None).with_context(|| format!("cannot read {}", dir.display()))
}

fn keys(key: &str) -> anyhow::Result<Vec<PublicKey>> {
    if let Ok(key) = key.parse() {
        return Ok(vec![key]);
    }
    let keys = read_keys(Path::new(key))?;
    anyhow::ensure!(!keys.is_empty(), "`{key}` is neither a key (64 hex digits) nor a file with one");
    Ok(keys)
}

fn read_keys(file: &Path) -> anyhow::Result<Vec<PublicKey>> {
    head::read_keys(file).with_context(|| format!("cannot read {}", file.display()))
}

/// Shows what a check found. `false`: the exit code is 1.
pub(in crate::cli) fn report(report: &Report, json: bool, out: &mut Output) -> Result<bool, Failure> {
    let text = if json {
        shown_json(serde_json::to_string(report).map_err(anyhow::Error::from)?) + "\n"
    } else {
        findings(report, &Zone::local())
    };
    out.raw(text.as_bytes())?;
    Ok(report.is_good())
}

pub(super) fn findings(report: &Report, zone: &Zone) -> String {
    let mut text = String::new();
    let mut say = |style: anstyle::Style, mark: &str, line: std::fmt::Arguments<'_>| {
        writeln!(text, "{style}{mark}{style:#} {line}").expect("a String takes every write");
    };
    for fault in &report.faults {
        let place =
            if fault.line == 0 { fault.file.clone() } else { format!("{}:{}", fault.file, fault.line) };
        let (style, mark) = if fault.known { (YELLOW, "!") } else { (RED, "-") };
        let known = if fault.known { " (known: an operator went on in a new segment)" } else { "" };
        say(
            style,
            mark,
            format_args!("{}: entry {}: {}{known}", shown(&place), fault.seq, shown(&fault.what)),
        );
    }
    let Report { segments, entries, heads_checked, last_seq, .. } = report;
    let until = report.last_time.map_or_else(String::new, |time| format!(", {}", zone.text(time)));
    if report.is_good() {
        say(
            GREEN,
            "+",
            format_args!("good: {entries} entries in {segments} segments, up to entry {last_seq}{until}"),
        );
    } else {
        say(
            RED,
            "-",
            format_args!(
                "damaged: entries are good up to the first place named above ({entries} checked in all)"
            ),
        );
    }
    if *heads_checked == 0 {
        say(
            YELLOW,
            "!",
            format_args!("no signature was checked: there is no public key (head.pub) or no head"),
        );
    } else {
        say(DIM, " ", format_args!("{heads_checked} signed heads"));
    }
    if report.holds_expected {
        say(
            DIM,
            " ",
            format_args!("the given head is in the log: nothing before it was cut off or written anew"),
        );
    }
    if let Some(head) = report.head.as_ref().filter(|_| report.is_good()) {
        say(
            DIM,
            " ",
            format_args!(
                "keep this head elsewhere, and give it to the next `enforcer receipts verify --head`:\n  {head}"
            ),
        );
    }
    text
}
