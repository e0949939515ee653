//! `status`: is the daemon there, what is in force, what is wrong.

use std::process::ExitCode;

use serde_json::Value;

use super::output::{moment, span};
use super::{Context, Ended, Output};
use crate::text::shown;

pub(super) fn status(context: &Context, out: &mut Output) -> Ended {
    let status: Value = context.client()?.get("/v1/status")?;
    if context.json {
        out.json(&status, true)?;
        return Ok(ExitCode::SUCCESS);
    }
    let number = |key: &str| status[key].as_u64().unwrap_or(0);
    let version = shown(status["version"].as_str().unwrap_or("?"));
    out.line(format!("enforcer {version}, worker {}, up {}", number("pid"), span(number("uptime_s"))))?;
    if let Some(worker) = status["worker"].as_str() {
        out.line(format!("worker    {}", shown(worker)))?;
    }

    let policies = &status["policies"];
    let at = policies["at"].as_i64().map(moment).unwrap_or_default();
    let directory = shown(policies["directory"].as_str().unwrap_or_default());
    if policies["in_force"].as_bool() == Some(true) {
        out.line(format!("policies  {} in force from {directory}, read {at}", number("agents")))?;
    } else {
        out.line(format!(
            "policies  ! the last attempt to read {directory} failed ({at}); {} in force",
            number("agents")
        ))?;
    }
    for line in policies["report"].as_str().unwrap_or_default().lines() {
        out.line(format!("          {}", shown(line)))?;
    }
    out.line(format!("sessions  {}", number("sessions")))?;
    for (session, standing) in status["attached"].as_object().into_iter().flatten() {
        attached(session, standing, out)?;
    }
    for (name, off) in status["disabled"].as_object().into_iter().flatten() {
        let at = off["at"].as_i64().map(moment).unwrap_or_default();
        let frozen = if off["frozen"] == true { " and frozen" } else { "" };
        let reason = off["reason"].as_str().map(|reason| format!(": {}", shown(reason))).unwrap_or_default();
        let (state, by) = match off["quarantine"] == true {
            true => ("in quarantine", "a tripwire".to_owned()),
            false => ("disabled", format!("user {}", off["uid"])),
        };
        out.line(format!("agent     ! {} is {state}{frozen} since {at} by {by}{reason}", shown(name)))?;
    }
    match status["vault_error"].as_str() {
        Some(error) => out.line(format!("secrets   ! {}", shown(error)))?,
        None => out.line(format!("secrets   {}", number("secrets")))?,
    }
    if let Some(receipts) = status["receipts"].as_object() {
        let counts: Vec<String> = receipts.iter().map(|(key, value)| format!("{key} {value}")).collect();
        out.line(format!("receipts  {}", shown(&counts.join(", "))))?;
    }
    out.line(match status["backstop"].as_str() {
        Some("absent") => "backstop  ! absent (nft is not installed)".to_owned(),
        Some(name) => format!("backstop  {}", shown(name)),
        // An older daemon, whose sessions have none.
        None => "backstop  ! absent (this daemon is of an older version)".to_owned(),
    })?;
    for (agent, proof) in status["proofs"].as_object().into_iter().flatten() {
        let at = proof["at"].as_i64().map(moment).unwrap_or_default();
        let leaks: Vec<&str> =
            proof["leaks"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        out.line(match proof["holds"].as_bool() {
            Some(true) => format!("proof     {} held {at}", shown(agent)),
            _ => format!("proof     ! {} got out {at}: {}", shown(agent), shown(&leaks.join(", "))),
        })?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A session that `attach` made, with each reason why it is weak, or does not trust us.
fn attached(session: &str, standing: &Value, out: &mut Output) -> Result<(), super::Failure> {
    let (mode, attached) = (&standing["mode"], &standing["attached"]);
    let word = |value: &Value| shown(value.as_str().unwrap_or("?")).into_owned();
    out.line(format!("attached  {}, {}, {}", shown(session), word(mode), word(&attached["cgroup"])))?;
    for namespace in attached["namespaces"].as_array().into_iter().flatten() {
        out.line(format!("          network {}", network(namespace)))?;
    }
    for why in attached["weak"].as_array().into_iter().flatten() {
        out.line(format!("          weak: {}", word(why)))?;
    }
    for why in attached["untrusted"].as_array().into_iter().flatten() {
        out.line(format!("          no trust: {}", word(why)))?;
    }
    Ok(())
}

/// A network namespace of an attached session, in one line.
pub(super) fn network(namespace: &Value) -> String {
    let whose = if namespace["private"] == true { "its own" } else { "shared" };
    let nftables = match (namespace["nftables"] == true, namespace["reloads"].as_u64()) {
        (false, _) => String::new(),
        (true, None | Some(0)) => ", nftables".to_owned(),
        (true, Some(times)) => format!(", nftables (changed by somebody, reloaded: {times})"),
    };
    let devices: Vec<&str> =
        namespace["devices"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let devices =
        if devices.is_empty() { String::new() } else { format!(", tcx at {}", shown(&devices.join(" "))) };
    format!("namespace {} ({whose}): programs{nftables}{devices}", namespace["cookie"])
}
