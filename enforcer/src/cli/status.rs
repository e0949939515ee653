//! `status`: is the daemon there, what is in force, what is wrong.

use std::process::ExitCode;

use serde_json::Value;

use super::output::{moment, span};
use super::{Context, Ended, Output};
use crate::telemetry::escaped;

pub(super) fn status(context: &Context, out: &mut Output) -> Ended {
    let status: Value = context.client()?.get("/v1/status")?;
    if context.json {
        out.json(&status, true)?;
        return Ok(ExitCode::SUCCESS);
    }
    let number = |key: &str| status[key].as_u64().unwrap_or(0);
    let version = escaped(status["version"].as_str().unwrap_or("?"));
    out.line(format!("enforcer {version}, worker {}, up {}", number("pid"), span(number("uptime_s"))))?;

    let policies = &status["policies"];
    let at = policies["at"].as_i64().map(moment).unwrap_or_default();
    let directory = escaped(policies["directory"].as_str().unwrap_or_default());
    if policies["in_force"].as_bool() == Some(true) {
        out.line(format!("policies  {} in force from {directory}, read {at}", number("agents")))?;
    } else {
        out.line(format!(
            "policies  ! the last attempt to read {directory} failed ({at}); {} in force",
            number("agents")
        ))?;
    }
    for line in policies["report"].as_str().unwrap_or_default().lines() {
        out.line(format!("          {}", escaped(line)))?;
    }
    out.line(format!("sessions  {}", number("sessions")))?;
    for (name, off) in status["disabled"].as_object().into_iter().flatten() {
        let at = off["at"].as_i64().map(moment).unwrap_or_default();
        let frozen = if off["frozen"] == true { " and frozen" } else { "" };
        let reason =
            off["reason"].as_str().map(|reason| format!(": {}", escaped(reason))).unwrap_or_default();
        let line = format!(
            "agent     ! {} is disabled{frozen} since {at} by user {}{reason}",
            escaped(name),
            off["uid"]
        );
        out.line(line)?;
    }
    match status["vault_error"].as_str() {
        Some(error) => out.line(format!("secrets   ! {}", escaped(error)))?,
        None => out.line(format!("secrets   {}", number("secrets")))?,
    }
    if let Some(receipts) = status["receipts"].as_object() {
        let shown: Vec<String> = receipts.iter().map(|(key, value)| format!("{key} {value}")).collect();
        out.line(format!("receipts  {}", escaped(&shown.join(", "))))?;
    }
    Ok(ExitCode::SUCCESS)
}
