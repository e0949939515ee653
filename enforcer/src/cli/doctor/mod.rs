//! `doctor`: one line for each thing that fails in practice, with what was found and how to repair it.
//!
//! Looks, and changes nothing. Needs no daemon; as root it sees everything, as a user part of it. A check that
//! could not look says so as a warning: unknown is not fine.

mod daemon;
mod files;
mod host;
mod kernel;
mod neighbours;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};

use super::failure::BROKEN;
use super::{Context, Ended, Failure, Output};
use crate::config::{Config, ConfigError};
use crate::control::client::ClientError;
use crate::text::shown;

/// In the order in which one thing needs the one before.
const CHECKS: &[&[Check]] =
    &[kernel::CHECKS, host::CHECKS, neighbours::CHECKS, files::CHECKS, daemon::CHECKS];

/// One thing that is looked at. The name is a key of the JSON: added to, never renamed.
struct Check {
    name: &'static str,
    run: fn(&Host) -> Finding,
}

#[derive(Debug, PartialEq, Eq)]
enum Finding {
    Ok(String),
    /// It works, or may work; somebody should know.
    Warn {
        found: String,
        fix: String,
    },
    /// Something will not work, or does not hold.
    Fail {
        found: String,
        fix: String,
    },
}

/// What several checks need, found out once.
struct Host {
    root: bool,
    config: Result<Config, ConfigError>,
    status: Result<Value, ClientError>,
}

impl Finding {
    fn ok(found: impl Into<String>) -> Self {
        Finding::Ok(found.into())
    }

    fn warn(found: impl Into<String>, fix: impl Into<String>) -> Self {
        Finding::Warn { found: found.into(), fix: fix.into() }
    }

    fn fail(found: impl Into<String>, fix: impl Into<String>) -> Self {
        Finding::Fail { found: found.into(), fix: fix.into() }
    }

    /// The file that would tell cannot be read.
    fn unreadable(path: &str, error: &std::io::Error) -> Self {
        Finding::warn(format!("not checked: cannot read {path}: {error}"), "mount it, or run this as root")
    }

    fn needs_root() -> Self {
        Finding::warn("not checked: this needs root", "sudo enforcer doctor")
    }

    fn needs_settings() -> Self {
        Finding::warn("not checked: the settings do not load", "repair what `settings` says first")
    }

    fn word(&self) -> &'static str {
        match self {
            Finding::Ok(_) => "ok",
            Finding::Warn { .. } => "warn",
            Finding::Fail { .. } => "fail",
        }
    }

    fn found(&self) -> &str {
        match self {
            Finding::Ok(found) | Finding::Warn { found, .. } | Finding::Fail { found, .. } => found,
        }
    }

    fn fix(&self) -> Option<&str> {
        match self {
            Finding::Ok(_) => None,
            Finding::Warn { fix, .. } | Finding::Fail { fix, .. } => Some(fix),
        }
    }
}

pub(super) fn doctor(context: &Context, out: &mut Output) -> Ended {
    let status = match context.client() {
        Ok(client) => client.get("/v1/status"),
        // The check `settings` says it better.
        Err(_) => Err(ClientError::Broken("the settings do not load, so its socket is not known".to_owned())),
    };
    let host = Host { root: rustix::process::geteuid().is_root(), config: context.settings(), status };
    let checks = CHECKS.iter().copied().flatten();
    let findings: Vec<_> = checks.map(|check| (check.name, (check.run)(&host))).collect();
    let count = |word: &str| findings.iter().filter(|(_, finding)| finding.word() == word).count();
    let (warnings, broken) = (count("warn"), count("fail"));
    if context.json {
        let checks: Vec<Value> = findings.iter().map(|(name, finding)| as_json(name, finding)).collect();
        out.json(&json!({ "ok": broken == 0, "warn": warnings, "fail": broken, "checks": checks }), true)?;
    } else {
        print(&findings, out)?;
        out.line(format!("{} checks: {warnings} to look at, {broken} broken", findings.len()))?;
    }
    Ok(if broken == 0 { ExitCode::SUCCESS } else { ExitCode::from(BROKEN) })
}

fn as_json(name: &str, finding: &Finding) -> Value {
    json!({ "name": name, "status": finding.word(), "found": finding.found(), "fix": finding.fix() })
}

fn print(findings: &[(&'static str, Finding)], out: &mut Output) -> Result<(), Failure> {
    let width = findings.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let indent = " ".repeat(width + 8);
    let lines = |text: &str| {
        let lines: Vec<_> = text.trim_end().split('\n').map(shown).collect();
        lines.join(&format!("\n{indent}"))
    };
    for (name, finding) in findings {
        let style = Style::new().bold().fg_color(Some(colour(finding).into()));
        let (word, found) = (finding.word(), lines(finding.found()));
        out.line(format!("{style}{word:<4}{style:#}  {name:<width$}  {found}"))?;
        if let Some(fix) = finding.fix() {
            out.line(format!("{indent}fix: {}", lines(fix)))?;
        }
    }
    Ok(())
}

fn colour(finding: &Finding) -> AnsiColor {
    match finding {
        Finding::Ok(_) => AnsiColor::Green,
        Finding::Warn { .. } => AnsiColor::Yellow,
        Finding::Fail { .. } => AnsiColor::Red,
    }
}
