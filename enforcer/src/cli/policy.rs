//! `policy check`, `policy explain`, `reload`.
//!
//! `check` and `explain --policy` need neither daemon nor root, so they run in CI and in editors.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use enforcer_policy::{Compiled, PolicySet, Report, Source};
use serde_json::{Value, json};

use super::failure::{DENIED, FAILED, INVALID};
use super::output::moment;
use super::{Context, Ended, Failure, Output};
use crate::control::{ExplainError, explain as explain_request};
use crate::policies::Loaded;
use crate::text::shown;

#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// Check policy files; needs no daemon
    Check(CheckArgs),
    /// Say what would happen to a request, and by which rule
    Explain(ExplainArgs),
}

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Files, or folders with `*.yaml` files; all are checked together
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Warnings count as errors
    #[arg(long)]
    strict: bool,
}

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// Agent, as its policy names it
    agent: String,
    /// `GET`, `POST`, …
    method: String,
    /// `https://api.example.com/path`
    url: String,
    /// Ask this file or folder instead of the daemon
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Exit with 6 when the request would be denied
    #[arg(long)]
    exit_code: bool,
}

pub(super) fn policy(command: PolicyCommand, context: &Context, out: &mut Output) -> Ended {
    match command {
        PolicyCommand::Check(args) => check(&args, context, out),
        PolicyCommand::Explain(args) => explain(&args, context, out),
    }
}

fn check(args: &CheckArgs, context: &Context, out: &mut Output) -> Ended {
    let sources = read_all(&args.files)?;
    let (agents, report) = match PolicySet::compile(&sources) {
        Ok(Compiled { set, warnings }) => (set.agents().count(), warnings),
        Err(report) => (0, report),
    };
    let errors = report.findings.iter().filter(|f| f.error).count();
    let warnings = report.findings.len() - errors;
    let ok = errors == 0 && !(args.strict && warnings > 0);
    if context.json {
        let findings = &report.findings;
        out.json(&json!({ "ok": ok, "files": sources.len(), "agents": agents, "findings": findings }), true)?;
    } else {
        if !report.findings.is_empty() {
            out.line(render(&report).trim_end())?;
        }
        let files = count(sources.len(), "file");
        match (ok, errors, warnings) {
            (true, _, 0) => out.line(format!("ok: {files}, {}", count(agents, "agent")))?,
            (true, _, w) => {
                out.line(format!("ok: {files}, {}, {}", count(agents, "agent"), count(w, "warning")))?
            }
            (false, 0, w) => out.line(format!("not ok: {files}, {} with `--strict`", count(w, "warning")))?,
            (false, e, 0) => out.line(format!("not ok: {files}, {}", count(e, "error")))?,
            (false, e, w) => {
                out.line(format!("not ok: {files}, {}, {}", count(e, "error"), count(w, "warning")))?
            }
        }
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::from(INVALID) })
}

/// With ANSI in it; the writer takes it out again where colour is not wanted.
fn render(report: &Report) -> String {
    report.render(true)
}

fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

fn explain(args: &ExplainArgs, context: &Context, out: &mut Output) -> Ended {
    let answer: Value = match &args.policy {
        Some(path) => {
            let compiled = PolicySet::compile(&read_all(std::slice::from_ref(path))?).map_err(invalid)?;
            let explained =
                explain_request(&compiled.set, &args.agent, &args.method, &args.url).map_err(unexplained)?;
            serde_json::to_value(explained).map_err(|e| Failure::new(FAILED, e))?
        }
        None => {
            let body = json!({ "agent": args.agent, "method": args.method, "url": args.url }).to_string();
            context.client()?.json(http::Method::POST, "/v1/explain", body.into_bytes())?
        }
    };
    let allowed = answer["allowed"].as_bool().unwrap_or(false);
    if context.json {
        out.json(&answer, true)?;
    } else {
        print_explained(&answer, allowed, out)?;
    }
    Ok(if args.exit_code && !allowed { ExitCode::from(DENIED) } else { ExitCode::SUCCESS })
}

fn print_explained(answer: &Value, allowed: bool, out: &mut Output) -> Result<(), Failure> {
    let text = |key: &str| shown(answer[key].as_str().unwrap_or_default());
    let (mark, style) = mark(allowed);
    out.line(format!("{style}{mark}{style:#} {} {}", text("method"), text("url")))?;
    out.line(format!("  agent    {} (policy revision {})", text("agent"), short(&text("revision"))))?;
    if answer["rule"].is_string() {
        out.line(format!("  rule     {} ({})", text("rule"), text("place")))?;
    }
    out.line(format!("  because  {}", text("reason")))?;
    for (title, key) in [("then", "obligations"), ("steps", "steps")] {
        for (n, item) in answer[key].as_array().into_iter().flatten().filter_map(Value::as_str).enumerate() {
            out.line(format!("  {:<7}  {}", if n == 0 { title } else { "" }, shown(item)))?;
        }
    }
    if answer["hint"].is_string() {
        out.line(format!("  hint     {}", text("hint")))?;
    }
    Ok(())
}

/// Never colour alone: the sign says it too.
pub(super) fn mark(allowed: bool) -> (&'static str, anstyle::Style) {
    use anstyle::AnsiColor::{Green, Red};
    if allowed { ("+ allow", Green.on_default().bold()) } else { ("- deny", Red.on_default().bold()) }
}

/// Enough of a digest to tell two apart.
pub(super) fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
}

pub(super) fn reload(context: &Context, out: &mut Output) -> Ended {
    let loaded: Loaded = context.client()?.json(http::Method::POST, "/v1/policies/reload", Vec::new())?;
    if context.json {
        out.json(&loaded, true)?;
        return Ok(ExitCode::SUCCESS);
    }
    let at = moment(i64::try_from(loaded.at).unwrap_or(0));
    out.line(format!(
        "in force: {} from {}, read {at}",
        count(loaded.files.len(), "policy file"),
        loaded.directory.display()
    ))?;
    if let Some(report) = &loaded.report {
        out.line(report.split('\n').map(shown).collect::<Vec<_>>().join("\n").trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn invalid(report: Report) -> Failure {
    Failure::text(INVALID, format!("the policy does not load\n{}", report.render(false)))
}

fn unexplained(error: ExplainError) -> Failure {
    let hint = error.hint();
    let failure = Failure::new(FAILED, error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn read_all(paths: &[PathBuf]) -> Result<Vec<Source>, Failure> {
    let mut sources = Vec::new();
    for path in paths {
        if path.is_dir() {
            let mut files: Vec<PathBuf> = std::fs::read_dir(path)
                .and_then(|entries| entries.map(|entry| entry.map(|e| e.path())).collect())
                .map_err(|error| unreadable(path, error))?;
            files.retain(|file| file.extension().is_some_and(|e| e == "yaml"));
            files.sort();
            if files.is_empty() {
                return Err(Failure::text(FAILED, format!("there is no *.yaml file in {}", path.display())));
            }
            for file in &files {
                sources.push(read(file)?);
            }
        } else {
            sources.push(read(path)?);
        }
    }
    Ok(sources)
}

fn read(path: &Path) -> Result<Source, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, error))?;
    Ok(Source { name: path.display().to_string(), text })
}

fn unreadable(path: &Path, error: std::io::Error) -> Failure {
    Failure::new(FAILED, anyhow::Error::new(error).context(format!("cannot read {}", path.display())))
}
