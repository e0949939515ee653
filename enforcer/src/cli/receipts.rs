//! `enforcer receipts ls|show|verify|export`.
//!
//! Pure rendering, except for `verify --dir`, which needs no daemon. The caller is expected to ask
//!
//! - `GET /v1/receipts?` + [`Query::to_url`] → a JSON array of [`Receipt`];
//! - `GET /v1/receipts/{id}` → one [`Receipt`], or 404;
//! - `POST /v1/receipts/verify` with a [`VerifyRequest`] → a [`Report`].

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};

use super::logs::{DIM, Filter, GREEN, Pipe, Printer, RED, YELLOW, duration};
use super::zone::Zone;
use crate::audit::verify::{Report, VerifyRequest, verify};
use crate::audit::{Head, PublicKey, Query, Receipt, Verdict, export, head};
use crate::text::{shown, shown_json};

#[derive(Subcommand, Clone, Debug)]
pub(super) enum ReceiptsCommand {
    /// List receipts
    Ls(LsArgs),
    /// Show all that one receipt says
    Show(ShowArgs),
    /// Check that no receipt was changed, removed or cut off
    Verify(VerifyArgs),
    /// Write receipts as JSON lines or CSV
    Export(ExportArgs),
}

#[derive(Args, Clone, Debug, Default)]
pub(super) struct LsArgs {
    #[command(flatten)]
    pub(super) filter: Filter,
}

#[derive(Args, Clone, Debug)]
pub(super) struct ShowArgs {
    /// The request id, as in the refusal the agent got
    pub(super) id: String,
}

#[derive(Args, Clone, Debug, Default)]
pub(super) struct VerifyArgs {
    /// A head kept elsewhere: shows that the end of the log was not cut off and the log not written anew
    #[arg(long, value_name = "HEX")]
    pub(super) head: Option<Head>,
    /// Check this folder without the daemon
    #[arg(long, value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,
    /// With --dir: the public key of the heads, in hex or as a file; the folder's own head.pub if not given
    #[arg(long, value_name = "KEY", requires = "dir")]
    pub(super) key: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub(super) struct ExportArgs {
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    pub(super) format: Format,
    #[command(flatten)]
    pub(super) filter: Filter,
    /// Write to this new file, readable for you alone
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Jsonl,
    Csv,
}

impl VerifyArgs {
    pub(super) fn request(&self) -> VerifyRequest {
        VerifyRequest { head: self.head.map(|head| head.to_string()) }
    }
}

pub(super) fn ls(
    args: &LsArgs,
    json: bool,
    out: impl Write,
    fetch: impl FnOnce(&Query) -> anyhow::Result<Vec<Receipt>>,
) -> anyhow::Result<()> {
    let mut printer = Printer::new(out, json);
    let result = printer.list(&fetch(&args.filter.query())?);
    Ok(printer.end(result)?)
}

pub(super) fn show(receipt: &Receipt, json: bool, out: impl Write) -> anyhow::Result<()> {
    let mut out = Pipe::new(out);
    let result = if json {
        export::jsonl(&mut out, std::slice::from_ref(receipt))
    } else {
        out.write_all(details(receipt, &Zone::local()).as_bytes())
    };
    Ok(out.end(result)?)
}

/// Asks for receipts page by page until there are no more.
pub(super) fn export(
    args: &ExportArgs,
    out: impl Write,
    mut fetch: impl FnMut(&Query) -> anyhow::Result<Vec<Receipt>>,
) -> anyhow::Result<()> {
    let mut query = args.filter.query();
    let mut pages = std::iter::from_fn(|| {
        // With a limit the newest are meant, which one question answers.
        let last = query.limit.is_some() && query.after_seq.is_some();
        if query.limit.is_none() {
            query.after_seq = query.after_seq.or(Some(0));
        }
        let asked = Query { limit: query.limit.or(Some(PAGE)), ..query.clone() };
        let page = if last { Ok(Vec::new()) } else { fetch(&asked) };
        if let Ok(page) = &page {
            query.after_seq = page.last().map(|receipt| receipt.seq).or(query.after_seq);
        }
        page.map(|page| (!page.is_empty()).then_some(page)).transpose()
    });
    match &args.output {
        None => {
            let mut out = Pipe::new(out);
            match write_pages(args.format, &mut out, &mut pages)? {
                Ok(()) => Ok(()),
                Err(error) => Ok(out.end(Err(error))?),
            }
        }
        Some(path) => {
            let cannot = || format!("cannot write {}; name a file that does not exist yet", path.display());
            let file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
                .with_context(cannot)?;
            let mut file = io::BufWriter::new(file);
            write_pages(args.format, &mut file, &mut pages)?.with_context(cannot)?;
            file.into_inner()
                .map_err(io::IntoInnerError::into_error)
                .and_then(|file| file.sync_all())
                .with_context(cannot)
        }
    }
}

const PAGE: u32 = 1000;

/// Outside: what asking failed with; inside: what writing failed with.
fn write_pages(
    format: Format,
    out: &mut dyn Write,
    pages: &mut dyn Iterator<Item = anyhow::Result<Vec<Receipt>>>,
) -> anyhow::Result<io::Result<()>> {
    let mut result = match format {
        Format::Jsonl => Ok(()),
        Format::Csv => export::csv_header(out),
    };
    for page in pages {
        let page = page?;
        result = result.and_then(|()| match format {
            Format::Jsonl => export::jsonl(out, &page),
            Format::Csv => export::csv(out, &page),
        });
        if result.is_err() {
            break;
        }
    }
    Ok(result.and_then(|()| out.flush()))
}

/// `verify --dir`: the folder with the segments, or the state folder around it.
pub(super) fn verify_offline(dir: &Path, args: &VerifyArgs) -> anyhow::Result<Report> {
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
pub(super) fn report(report: &Report, json: bool, out: impl Write) -> anyhow::Result<bool> {
    let mut out = Pipe::new(out);
    let text = if json {
        shown_json(serde_json::to_string(report)?) + "\n"
    } else {
        findings(report, &Zone::local())
    };
    let result = out.write_all(text.as_bytes());
    out.end(result)?;
    Ok(report.is_good())
}

fn findings(report: &Report, zone: &Zone) -> String {
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
    let until = report.last_time.map_or_else(String::new, |time| {
        let (date, clock, offset) = zone.split(time);
        format!(", {date} {clock}{offset}")
    });
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

fn details(receipt: &Receipt, zone: &Zone) -> String {
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::logs::tests::{allowed, refusal};
    use super::*;
    use crate::audit::verify::Fault;

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
        assert!(!report(&bad, true, Vec::new()).unwrap());
    }

    fn exported(format: Format, limit: Option<u32>) -> (String, Vec<Query>) {
        let args = ExportArgs { format, filter: Filter { limit, ..Filter::default() }, output: None };
        let mut asked = Vec::new();
        let mut out = Vec::new();
        export(&args, &mut out, |query| {
            asked.push(query.clone());
            Ok(match (query.after_seq, query.limit) {
                (Some(0), _) => vec![allowed()],
                (Some(7), _) => vec![refusal()],
                (None, Some(5)) => vec![allowed(), refusal()],
                _ => Vec::new(),
            })
        })
        .unwrap();
        (String::from_utf8(out).unwrap(), asked)
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
            text.starts_with("seq,time,id,")
                && text.contains("\r\n7,2026-01-31T14:02:11.500000Z,r_7f3k9qaaaa,")
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
        export(&args, Vec::new(), |_| Ok(vec![allowed()])).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
        let error = export(&args, Vec::new(), |_| Ok(vec![allowed()])).unwrap_err();
        assert!(format!("{error:#}").contains("does not exist yet"), "{error:#}");
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
        assert!(
            matches!(parse("receipts show r_abc"), Ok(ReceiptsCommand::Show(args)) if args.id == "r_abc")
        );
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
}
