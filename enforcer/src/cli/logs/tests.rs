use clap::Parser;

use super::*;
use crate::audit::{Intent, Outcome, RequestId, Verdict};
use crate::cli::tests::{Gone, Page};

pub(in crate::cli) fn allowed() -> Receipt {
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
            action: None,
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

pub(in crate::cli) fn refusal() -> Receipt {
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
    assert!(!anstream::adapter::strip_str(&line).to_string().chars().any(crate::text::hidden), "{line:?}");
    assert!(!line.contains("\x1b]"));
    let page = Page::default();
    Printer::new(&mut Output::to(page.clone()), true).list(&[receipt.clone()]).unwrap();
    let json = page.text();
    assert!(json.trim_end().chars().all(|c| !crate::text::hidden(c)), "{json}");
    assert_eq!(serde_json::from_str::<Receipt>(&json).unwrap(), receipt);
}

#[test]
fn a_reader_that_has_gone_is_no_failure() {
    let mut out = Output::to(Gone);
    let result = Printer::new(&mut out, false).list(&[allowed()]);
    assert!(result.is_err());
    assert_eq!(out.written(result).unwrap_err().code(), 0);
}

#[test]
fn following_shows_each_receipt_once_and_goes_on_from_open_ones() {
    let args = LogsArgs { follow: true, ..LogsArgs::default() };
    let mut open = allowed();
    open.outcome = None;
    let listed = [open, refusal()];
    assert_eq!(args.follow_query(&listed).after_seq, Some(6));
    let page = Page::default();
    let mut out = Output::to(page.clone());
    let mut printer = Printer::new(&mut out, true);
    printer.list(&listed).unwrap();
    for event in [
        Event::Receipt(Box::new(allowed())),
        Event::Receipt(Box::new(refusal())),
        Event::Missed { missed: 3 },
    ] {
        printer.event(&event).unwrap();
    }
    let text = page.text();
    let seqs: Vec<_> =
        text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["seq"].as_u64()).collect();
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
    for wrong in ["logs --since soon", "logs --since -1h", "logs -n 0", "logs --since 99999999999999999w"] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}
