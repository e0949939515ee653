//! `enforcer logs`: receipts as lines, newest last.
//!
//! Pure rendering: how receipts get here is the caller's part. It is expected to ask the control socket
//!
//! - `GET /v1/receipts?` + [`Query::to_url`] → a JSON array of [`Receipt`];
//! - `GET /v1/receipts/follow?` + [`Query::to_url`] → lines of JSON, an [`Event`] each.
//!
//! Hand in `anstream::stdout()` as the writer: it takes colours away where they do not belong.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use clap::Args;

use super::zone::Zone;
use crate::audit::clock::Time;
use crate::audit::{Event, Query, Receipt, export};
use crate::text::shown;

/// Receipts shown before the new ones in `logs -f`.
const BEFORE_FOLLOW: u32 = 10;

#[derive(Args, Clone, Debug, Default)]
pub(super) struct LogsArgs {
    /// Go on showing receipts as requests finish
    #[arg(short, long)]
    pub(super) follow: bool,
    #[command(flatten)]
    pub(super) filter: Filter,
}

/// Which receipts.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Filter {
    /// Only this agent's
    #[arg(long, value_name = "NAME")]
    pub(super) agent: Option<String>,
    /// Only refused requests
    #[arg(long)]
    pub(super) denied: bool,
    /// Only this host, or *.example.com for all hosts below it
    #[arg(long, value_name = "HOST")]
    pub(super) host: Option<String>,
    /// Not before: 30s, 15m, 1h, 2d, 1w ago, or a time as 2026-01-31T14:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(super) since: Option<Time>,
    /// Before: as --since
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(super) until: Option<Time>,
    /// At most this many, the newest
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) limit: Option<u32>,
}

impl Filter {
    pub(super) fn query(&self) -> Query {
        Query {
            agent: self.agent.clone(),
            denied: self.denied,
            host: self.host.as_ref().map(|host| host.to_lowercase()),
            since: self.since,
            until: self.until,
            limit: self.limit,
            after_seq: None,
        }
    }
}

/// `15m` ago, or a point in time.
fn moment(text: &str) -> Result<Time, String> {
    let ago = || {
        let unit = text.chars().last()?;
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return None,
        };
        let number: i64 = text.strip_suffix(unit)?.parse().ok().filter(|n| *n >= 0)?;
        let micros = number.checked_mul(seconds)?.checked_mul(1_000_000)?;
        Some(Time::from_micros(Time::now().micros().saturating_sub(micros)))
    };
    ago().map_or_else(|| text.parse(), Ok).map_err(|error| format!("{error}, or 15m, 1h, 2d for a while ago"))
}

impl LogsArgs {
    /// What to ask first.
    pub(super) fn query(&self) -> Query {
        let mut query = self.filter.query();
        if self.follow {
            query.limit = query.limit.or(Some(BEFORE_FOLLOW));
        }
        query
    }

    /// What to follow with, after `listed` has been shown: everything behind it, and what was still open in it.
    pub(super) fn follow_query(&self, listed: &[Receipt]) -> Query {
        let open = listed.iter().filter(|receipt| receipt.outcome.is_none()).map(|receipt| receipt.seq).min();
        let after = open.map(|seq| seq - 1).or(listed.last().map(|receipt| receipt.seq));
        Query { after_seq: after, limit: None, until: None, ..self.filter.query() }
    }
}

/// Writes receipts as they come.
pub(super) struct Printer<W> {
    out: Pipe<W>,
    json: bool,
    zone: Zone,
    /// Finished receipts already written; they may come once more when following.
    written: HashSet<u64>,
}

impl<W: Write> Printer<W> {
    pub(super) fn new(out: W, json: bool) -> Self {
        Printer { out: Pipe::new(out), json, zone: Zone::local(), written: HashSet::new() }
    }

    pub(super) fn list(&mut self, receipts: &[Receipt]) -> io::Result<()> {
        receipts.iter().try_for_each(|receipt| self.receipt(receipt))?;
        self.written.extend(receipts.iter().filter(|r| r.outcome.is_some()).map(|r| r.seq));
        self.out.flush()
    }

    pub(super) fn event(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::Receipt(receipt) if self.written.remove(&receipt.seq) => return Ok(()),
            Event::Receipt(receipt) => self.receipt(receipt)?,
            Event::Missed { missed } if self.json => writeln!(self.out, "{{\"missed\":{missed}}}")?,
            Event::Missed { missed } => {
                writeln!(
                    self.out,
                    "! {missed} receipts came too fast to be shown here; `enforcer receipts ls` has them"
                )?;
            }
        }
        self.out.flush()
    }

    fn receipt(&mut self, receipt: &Receipt) -> io::Result<()> {
        if self.json {
            return export::jsonl(&mut self.out, std::slice::from_ref(receipt));
        }
        writeln!(self.out, "{}", line(receipt, &self.zone, Time::now()))
    }

    /// Success where the reader has gone (`enforcer logs | head`).
    pub(super) fn end(self, result: io::Result<()>) -> io::Result<()> {
        self.out.end(result)
    }
}

/// Remembers that the reader has gone, which is no failure.
pub(super) struct Pipe<W> {
    out: W,
    closed: bool,
}

impl<W: Write> Pipe<W> {
    pub(super) fn new(out: W) -> Self {
        Pipe { out, closed: false }
    }

    pub(super) fn end(self, result: io::Result<()>) -> io::Result<()> {
        if self.closed { Ok(()) } else { result }
    }

    fn note<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        self.closed |= result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
        result
    }
}

impl<W: Write> Write for Pipe<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.out.write(bytes);
        self.note(result)
    }
    fn flush(&mut self) -> io::Result<()> {
        let result = self.out.flush();
        self.note(result)
    }
}

pub(super) const GREEN: Style = AnsiColor::Green.on_default();
pub(super) const RED: Style = AnsiColor::Red.on_default();
pub(super) const YELLOW: Style = AnsiColor::Yellow.on_default();
pub(super) const DIM: Style = Style::new().dimmed();

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

pub(super) fn duration(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} us"),
        1_000..10_000_000 => format!("{} ms", micros / 1_000),
        10_000_000..600_000_000 => format!("{} s", micros / 1_000_000),
        _ => format!("{} min", micros / 60_000_000),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use clap::Parser;

    use super::*;
    use crate::audit::{Intent, Outcome, RequestId, Verdict};

    pub(crate) fn allowed() -> Receipt {
        Receipt {
            seq: 7,
            time: "2026-01-31T14:02:11.5Z".parse().unwrap(),
            intent: Intent {
                id: RequestId("r_7f3k9qaaaa".into()),
                agent: "github-pr-bot".to_owned(),
                session: "s1".to_owned(),
                cgroup: 4711,
                pid: 42,
                uid: 61600,
                comm: "curl".to_owned(),
                protocol: "https".to_owned(),
                method: Some("POST".to_owned()),
                host: Some("api.github.com".to_owned()),
                port: Some(443),
                path: Some("/repos/myorg/myrepo/pulls".to_owned()),
                template: None,
                query_keys: vec!["draft".to_owned()],
                verdict: Verdict::Allow,
                rule: Some("open-pr".to_owned()),
                reason: "allowed".to_owned(),
                policy: Some("1a2b3c".to_owned()),
                credential: Some("github@3".to_owned()),
            },
            outcome: Some(Outcome {
                end: "done".to_owned(),
                status: Some(201),
                upstream: Some("192.0.2.7:443".to_owned()),
                request_bytes: 120,
                response_bytes: 4600,
                first_byte_us: Some(200_000),
                total_us: 234_000,
                ..Outcome::default()
            }),
            count: 1,
            until: None,
            hash: "00ff".to_owned(),
        }
    }

    pub(crate) fn refusal() -> Receipt {
        let mut receipt = allowed();
        receipt.seq = 8;
        receipt.time = "2026-01-31T14:02:15Z".parse().unwrap();
        receipt.intent.id = RequestId("r_7f3ka1aaaa".into());
        receipt.intent.verdict = Verdict::Deny;
        receipt.intent.method = Some("DELETE".to_owned());
        receipt.intent.rule = Some("no-delete".to_owned());
        receipt.intent.reason = "deny_rule".to_owned();
        receipt.intent.credential = None;
        receipt.outcome = Some(Outcome { end: "refused".to_owned(), ..Outcome::default() });
        receipt
    }

    fn plain(receipt: &Receipt) -> String {
        let line = line(receipt, &Zone::UTC, "2026-01-31T20:00:00Z".parse().unwrap());
        anstream::adapter::strip_str(&line).to_string()
    }

    #[test]
    fn a_receipt_is_one_line() {
        assert_eq!(
            plain(&allowed()),
            "14:02:11Z github-pr-bot   allow  POST api.github.com /repos/myorg/myrepo/pulls   open-pr       github@3    201   234 ms  r_7f3k9qaaaa"
        );
        assert_eq!(
            plain(&refusal()),
            "14:02:15Z github-pr-bot   deny   DELETE api.github.com /repos/myorg/myrepo/pulls  no-delete                               r_7f3ka1aaaa"
        );
    }

    #[test]
    fn what_is_unusual_is_said() {
        let mut receipt = refusal();
        receipt.intent.rule = None;
        receipt.intent.reason = "no_rule".to_owned();
        receipt.intent.port = Some(8443);
        receipt.count = 20;
        receipt.time = "2026-01-30T14:02:15Z".parse().unwrap();
        let text = plain(&receipt);
        assert!(
            text.starts_with("2026-01-30 14:02:15Z ")
                && text.contains("(no_rule)")
                && text.contains("api.github.com:8443 /")
        );
        assert!(text.ends_with("20 equal refusals"), "{text}");
        let mut receipt = allowed();
        receipt.outcome = None;
        assert!(plain(&receipt).ends_with("  open"));
        receipt.outcome = Some(Outcome { end: "cancelled".to_owned(), scrubbed: 2, ..Outcome::default() });
        assert!(plain(&receipt).ends_with("  cancelled  2 secrets cut out"));
    }

    #[test]
    fn agents_cannot_write_to_the_terminal() {
        let mut receipt = allowed();
        let evil = "\x1b]0;x\x07\n+ allow\u{202e}\u{9b}31m";
        receipt.intent.path = Some(evil.to_owned());
        receipt.intent.agent = evil.to_owned();
        receipt.intent.reason = evil.to_owned();
        receipt.intent.rule = None;
        receipt.intent.host = Some(evil.to_owned());
        receipt.outcome.as_mut().unwrap().end = evil.to_owned();
        let line = line(&receipt, &Zone::UTC, Time::now());
        assert!(
            !anstream::adapter::strip_str(&line).to_string().chars().any(crate::text::hidden),
            "{line:?}"
        );
        assert!(!line.contains("\x1b]"));
        let mut out = Vec::new();
        Printer::new(&mut out, true).list(&[receipt.clone()]).unwrap();
        let json = String::from_utf8(out).unwrap();
        assert!(json.trim_end().chars().all(|c| !crate::text::hidden(c)), "{json}");
        assert_eq!(serde_json::from_str::<Receipt>(&json).unwrap(), receipt);
    }

    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_has_gone_is_no_failure() {
        let mut printer = Printer::new(Gone, false);
        let result = printer.list(&[allowed()]);
        assert!(result.is_err());
        printer.end(result).unwrap();
    }

    #[test]
    fn following_shows_each_receipt_once_and_goes_on_from_open_ones() {
        let args = LogsArgs { follow: true, ..LogsArgs::default() };
        let mut open = allowed();
        open.outcome = None;
        let listed = [open, refusal()];
        assert_eq!(args.follow_query(&listed).after_seq, Some(6));
        let mut out = Vec::new();
        let mut printer = Printer::new(&mut out, true);
        printer.list(&listed).unwrap();
        for event in [
            Event::Receipt(Box::new(allowed())),
            Event::Receipt(Box::new(refusal())),
            Event::Missed { missed: 3 },
        ] {
            printer.event(&event).unwrap();
        }
        drop(printer);
        let text = String::from_utf8(out).unwrap();
        let seqs: Vec<_> = text
            .lines()
            .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["seq"].as_u64())
            .collect();
        assert_eq!(seqs, [Some(7), Some(8), Some(7), None]);
        assert!(text.ends_with("{\"missed\":3}\n"));
    }

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        logs: LogsArgs,
    }

    #[test]
    fn the_command_line_becomes_a_query() {
        let parse = |text: &str| Line::try_parse_from(text.split(' ')).map(|line| line.logs);
        let args = parse("logs -f --agent a --denied --host API.x.com --since 1h -n 5").unwrap();
        let query = args.query();
        assert!(args.follow && query.denied);
        assert_eq!(
            (query.agent.as_deref(), query.host.as_deref(), query.limit),
            (Some("a"), Some("api.x.com"), Some(5))
        );
        let ago = Time::now().seconds() - query.since.unwrap().seconds();
        assert!((3600..3700).contains(&ago), "{ago}");
        assert_eq!(parse("logs --since 2026-01-31").unwrap().filter.since, "2026-01-31".parse().ok());
        for wrong in ["logs --since soon", "logs --since -1h", "logs -n 0", "logs --since 99999999999999999w"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
