//! `why ID`: the recorded decision about one request, and the smallest change that would allow it.
//!
//! Goes by the id in the refusal, so it never answers for another agent or another policy.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::policy::{mark, short};
use super::{Context, Ended, Output};
use crate::control::client::escape;
use crate::text::shown;

#[derive(Debug, Args)]
pub(super) struct WhyArgs {
    /// The `request_id` of the refusal (`r_…`)
    request_id: String,
}

pub(super) fn why(args: &WhyArgs, context: &Context, out: &mut Output) -> Ended {
    let receipt: Value = context.client()?.get(&format!("/v1/receipts/{}", escape(&args.request_id)))?;
    if context.json {
        out.json(&receipt, true)?;
        return Ok(ExitCode::SUCCESS);
    }
    let text = |key: &str| receipt[key].as_str().map(|text| shown(text).into_owned()).unwrap_or_default();
    let allowed = receipt["verdict"] == "allow";
    let (sign, style) = mark(allowed);
    out.line(format!("{style}{sign}{style:#} {}", subject(&receipt)))?;
    out.line(format!("  when     {}", text("time")))?;
    out.line(format!("  agent    {} (session {})", text("agent"), text("session")))?;
    if receipt["pid"].as_u64().is_some_and(|pid| pid != 0) {
        out.line(format!("  process  {} (`{}`), user {}", receipt["pid"], text("comm"), receipt["uid"]))?;
    }
    out.line(format!("  because  {}", because(&text("reason"))))?;
    for (title, key) in [("rule", "rule"), ("used", "credential")] {
        if receipt[key].is_string() {
            out.line(format!("  {title:<7}  {}", text(key)))?;
        }
    }
    if receipt["policy"].is_string() {
        out.line(format!("  policy   revision {}", short(&text("policy"))))?;
    }
    let outcome = &receipt["outcome"];
    let mut end = outcome["end"]
        .as_str()
        .map(|text| shown(text).into_owned())
        .unwrap_or_else(|| "under way".to_owned());
    if let Some(status) = outcome["status"].as_u64() {
        end.push_str(&format!(", status {status}"));
    }
    out.line(format!("  outcome  {end}"))?;
    if let Some(error) = outcome["error"].as_str() {
        out.line(format!("           {}", shown(error)))?;
    }
    if !allowed {
        for line in advice(&receipt) {
            out.line(line)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `DELETE https://api.github.com/repos/a/b`, or as much of it as is known.
fn subject(receipt: &Value) -> String {
    let text = |key: &str| receipt[key].as_str().map(|text| shown(text).into_owned()).unwrap_or_default();
    let protocol = text("protocol");
    let default = match protocol.as_str() {
        "https" => 443,
        "http" => 80,
        "dns" => 53,
        _ => 0,
    };
    let port = match receipt["port"].as_u64() {
        Some(port) if port != default => format!(":{port}"),
        Some(_) | None => String::new(),
    };
    format!("{} {protocol}://{}{port}{}", text("method"), text("host"), text("path")).trim().to_owned()
}

/// A reason code in words. Codes of other parts that have none here stand for themselves.
fn because(code: &str) -> String {
    let words = match code {
        "allowed" => "a rule allows it",
        "no_rule" => "no rule allows it",
        "no_policy" => "the agent has no policy in force",
        "deny_rule" => "a deny rule matches",
        "rate_limited" => "it came too often",
        "name_not_allowed" => "no rule names this host",
        "special_address" => "the host resolves to a special-purpose address",
        "record_type" => "this kind of DNS question is not answered",
        other => return other.to_owned(),
    };
    format!("{words} ({code})")
}

/// What a person would write to allow it. Nothing is changed.
fn advice(receipt: &Value) -> Vec<String> {
    let text = |key: &str| receipt[key].as_str().map(|text| shown(text).into_owned());
    match (receipt["reason"].as_str().unwrap_or_default(), text("host")) {
        ("no_rule" | "name_not_allowed", Some(host)) => {
            let mut lines = vec![
                String::new(),
                format!("To allow it, add this to the policy of `{}`:", text("agent").unwrap_or_default()),
                String::new(),
                "allow:".to_owned(),
                "  - name: choose-a-name".to_owned(),
                format!("    host: {host}"),
            ];
            if receipt["protocol"] != "dns" {
                if let Some(method) = text("method") {
                    lines.push(format!("    methods: {method}"));
                }
                if let Some(path) = text("path") {
                    lines.push(format!("    paths: {}", Value::String(path)));
                }
            }
            lines
        }
        ("deny_rule", _) => vec![
            String::new(),
            "A deny rule always wins. Only a change of that rule would allow it.".to_owned(),
        ],
        ("rate_limited", _) => {
            vec![
                String::new(),
                "The request itself is allowed; it came too often. Try again later.".to_owned(),
            ]
        }
        _ => Vec::new(),
    }
}
