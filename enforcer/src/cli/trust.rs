//! `trust doctor`: which clients do not trust us, and what would help.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use super::failure::BROKEN;
use super::output::{DIM, RED};
use super::zone::Zone;
use super::{Context, Ended, Failure, Output};
use crate::audit::clock::Time;
use crate::text::shown;

#[derive(Debug, Subcommand)]
pub(super) enum TrustCommand {
    /// Show which programs do not trust our certificates, for which hosts, and how to make them
    Doctor {
        /// Only of this agent
        agent: Option<String>,
    },
}

pub(super) fn trust(command: &TrustCommand, context: &Context, out: &mut Output) -> Ended {
    let TrustCommand::Doctor { agent } = command;
    let mut found: Vec<Value> = context.client()?.get("/v1/distrust")?;
    found.retain(|finding| agent.as_ref().is_none_or(|agent| finding["agent"] == *agent));
    if context.json {
        out.json(&json!({ "ok": found.is_empty(), "found": found }), true)?;
    } else if found.is_empty() {
        let whose = agent.as_ref().map(|agent| format!(" of {}", shown(agent))).unwrap_or_default();
        out.line(format!("no client{whose} has refused our certificates since the daemon started"))?;
    } else {
        let zone = Zone::local();
        found.iter().try_for_each(|finding| print(finding, &zone, out))?;
    }
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(BROKEN) })
}

/// The latest comes last, where the eye is.
fn print(finding: &Value, zone: &Zone, out: &mut Output) -> Result<(), Failure> {
    let text = |key: &str| shown(finding[key].as_str().unwrap_or("?")).into_owned();
    let times = match finding["times"].as_u64() {
        Some(1) | None => String::new(),
        Some(times) => format!(", {times} times"),
    };
    let said = match finding["sign"].as_str() {
        Some("left") => {
            "closes connections when it has seen our certificate, which may be distrust".to_owned()
        }
        _ => format!("does not trust us ({})", text("sign")),
    };
    out.line(format!("{RED}{}{RED:#}  {} {said}: {}{times}", text("agent"), text("comm"), text("host")))?;
    let exe = finding["exe"].as_str().map_or("had ended before it could be looked at".into(), shown);
    out.line(format!(
        "  {DIM}process{DIM:#}  {}, user {}, session {}, last at {}",
        finding["pid"],
        finding["uid"],
        text("session"),
        zone.text(Time::from_micros(finding["last"].as_i64().unwrap_or_default().saturating_mul(1_000_000)))
    ))?;
    out.line(format!("  {DIM}program{DIM:#}  {exe} ({})", text("kind")))?;
    out.line(format!("  {DIM}fix{DIM:#}      {}", text("fix")))
}
