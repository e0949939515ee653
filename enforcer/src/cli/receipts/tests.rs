use clap::Parser;

use super::details::details;
use super::verify::findings;
use super::*;
use crate::audit::head;
use crate::audit::verify::{Fault, Report};
use crate::cli::logs::tests::{allowed, refusal};
use crate::cli::tests::Page;

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[test]
fn show_says_all() {
    assert_eq!(
        plain(&details(&allowed(), &Zone::UTC)),
        "receipt    r_7f3k9qaaaa (entry 7)\n\
         time       2026-01-31 14:02:11.500000 Z\n\
         agent      github-pr-bot, session s1\n\
         process    curl (pid 42, uid 61600, cgroup 4711)\n\
         request    POST https://api.github.com:443/repos/myorg/myrepo/pulls\n\
         query keys draft\n\
         decision   allow by rule `open-pr` (allowed)\n\
         policy     1a2b3c\n\
         credential github@3\n\
         outcome    done, status 201\n\
         upstream   192.0.2.7:443\n\
         took       234 ms, first byte after 200 ms\n\
         body       120 B sent, 4.4 KiB received\n\
         hash       00ff\n"
    );
    let mut open = refusal();
    open.outcome = None;
    assert!(plain(&details(&open, &Zone::UTC)).contains("outcome    none yet\n"));
}

#[test]
fn show_cannot_be_written_to_by_agents() {
    let mut receipt = allowed();
    receipt.intent.path = Some("/\n\x1b[31m\u{202e}".to_owned());
    receipt.intent.comm = "\x1b[2J".to_owned();
    receipt.outcome.as_mut().unwrap().error = Some("a\rb".to_owned());
    let text = plain(&details(&receipt, &Zone::UTC));
    assert!(text.lines().all(|line| !line.chars().any(crate::text::hidden)), "{text:?}");
    assert!(text.contains("/\\n\\u{1b}[31m\\u{202e}"));
}

#[test]
fn a_check_says_what_it_found() {
    let good = Report {
        segments: 2,
        entries: 9,
        last_seq: 9,
        heads_checked: 3,
        head: Some("ab".to_owned()),
        holds_expected: true,
        ..Report::default()
    };
    assert_eq!(
        plain(&findings(&good, &Zone::UTC)),
        "+ good: 9 entries in 2 segments, up to entry 9\n  3 signed heads\n  the given head is in the log: nothing before it was cut off or written anew\n  keep this head elsewhere, and give it to the next `enforcer receipts verify --head`:\n  ab\n"
    );
    let fault = Fault {
        file: "00000001.log".to_owned(),
        line: 17,
        seq: 17,
        what: "the line was changed".to_owned(),
        known: false,
    };
    let bad = Report { faults: vec![fault], heads_checked: 0, ..good };
    let text = plain(&findings(&bad, &Zone::UTC));
    assert!(text.starts_with("- 00000001.log:17: entry 17: the line was changed\n- damaged"), "{text}");
    assert!(!report(&bad, true, &mut Output::to(Page::default())).unwrap());
}

fn exported(format: Format, limit: Option<u32>) -> (String, Vec<Query>) {
    let args = ExportArgs { format, filter: Filter { limit, ..Filter::default() }, output: None };
    let mut asked = Vec::new();
    let page = Page::default();
    export(&args, &mut Output::to(page.clone()), |query| {
        asked.push(query.clone());
        Ok(match (query.after_seq, query.limit) {
            (Some(0), _) => vec![allowed()],
            (Some(7), _) => vec![refusal()],
            (None, Some(5)) => vec![allowed(), refusal()],
            _ => Vec::new(),
        })
    })
    .unwrap();
    (page.text(), asked)
}

#[test]
fn export_asks_for_page_after_page() {
    let (text, asked) = exported(Format::Jsonl, None);
    assert_eq!(text.lines().count(), 2);
    assert_eq!(asked.iter().map(|q| q.after_seq).collect::<Vec<_>>(), [Some(0), Some(7), Some(8)]);
    let (text, asked) = exported(Format::Csv, Some(5));
    assert_eq!(text.lines().count(), 3);
    assert_eq!(asked.len(), 1);
    assert!(
        text.starts_with("seq,time,id,") && text.contains("\r\n7,2026-01-31T14:02:11.500000Z,r_7f3k9qaaaa,")
    );
}

#[test]
fn export_to_a_file_replaces_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.jsonl");
    let args = ExportArgs {
        format: Format::Jsonl,
        filter: Filter { limit: Some(5), ..Filter::default() },
        output: Some(path.clone()),
    };
    export(&args, &mut Output::to(Page::default()), |_| Ok(vec![allowed()])).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
    let error = export(&args, &mut Output::to(Page::default()), |_| Ok(vec![allowed()])).unwrap_err();
    assert!(error.render().contains("does not exist yet"), "{}", error.render());
}

#[test]
fn a_folder_is_checked_without_a_daemon() {
    use crate::audit::{AuditLog, Options};
    let dir = tempfile::tempdir().unwrap();
    let key = head::new_key();
    let log = AuditLog::open(dir.path(), Options { key: Some(&key), ..Options::default() }).unwrap();
    log.close();
    let args = VerifyArgs { head: log.head(), ..VerifyArgs::default() };
    let found = verify_offline(dir.path(), &args).unwrap();
    assert!(found.is_good() && found.holds_expected && found.heads_checked > 0);
    assert!(verify_offline(&dir.path().join("receipts"), &args).unwrap().is_good());
    let foreign = VerifyArgs { key: Some("0".repeat(64)), ..args.clone() };
    assert!(!verify_offline(dir.path(), &foreign).unwrap().is_good());
    assert!(verify_offline(dir.path(), &VerifyArgs { key: Some("junk".to_owned()), ..args }).is_err());
    assert!(verify_offline(&dir.path().join("nowhere"), &VerifyArgs::default()).is_err());
}

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    command: ReceiptsCommand,
}

#[test]
fn the_command_line_is_understood() {
    let parse = |text: &str| Line::try_parse_from(text.split(' ')).map(|line| line.command);
    assert!(matches!(parse("receipts ls --denied"), Ok(ReceiptsCommand::Ls(args)) if args.filter.denied));
    assert!(matches!(parse("receipts show r_abc"), Ok(ReceiptsCommand::Show(args)) if args.id == "r_abc"));
    assert!(
        matches!(parse("receipts export --format csv -o x"), Ok(ReceiptsCommand::Export(args)) if args.format == Format::Csv)
    );
    let head = format!("verify --head {:016x}{}", 5, "0".repeat(64));
    assert!(
        matches!(parse(&format!("receipts {head}")), Ok(ReceiptsCommand::Verify(args)) if args.request().head.is_some())
    );
    for wrong in [
        "receipts verify --head zz",
        "receipts verify --key x",
        "receipts show",
        "receipts export --format xml",
    ] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}
