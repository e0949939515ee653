//! `policy explain`: one request, rule by rule, asked of the daemon or of a file.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::files::{compile, read_all};
use super::{invalid, mark, short};
use crate::cli::failure::{DENIED, FAILED};
use crate::cli::{Context, Ended, Failure, Output};
use crate::control::{ExplainError, Question, explain as explain_request};
use crate::text::shown;

#[derive(Debug, Args)]
pub(in crate::cli) struct ExplainArgs {
    /// Agent, as its policy names it
    agent: String,
    /// `GET`, `POST`, …
    method: String,
    /// `https://api.example.com/path`
    url: String,
    /// A header of the request, `NAME: VALUE`; may be given several times
    #[arg(long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// The body of the request, as JSON
    #[arg(long, value_name = "TEXT", conflicts_with = "form_body")]
    json_body: Option<String>,
    /// The body of the request, as a form: `a=1&b=2`
    #[arg(long, value_name = "TEXT")]
    form_body: Option<String>,
    /// Ask this file or folder instead of the daemon
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Exit with 6 when the request would be denied
    #[arg(long)]
    exit_code: bool,
}

pub(super) fn explain(args: &ExplainArgs, context: &Context, out: &mut Output) -> Ended {
    let question = Question {
        agent: args.agent.clone(),
        method: args.method.clone(),
        url: args.url.clone(),
        headers: args.headers.clone(),
        json: args.json_body.clone(),
        form: args.form_body.clone(),
    };
    let answer: Value = match &args.policy {
        Some(path) => {
            let compiled = compile(&read_all(std::slice::from_ref(path))?)?.map_err(invalid)?;
            let explained = explain_request(&compiled.set, &question).map_err(unexplained)?;
            serde_json::to_value(explained).map_err(|e| Failure::new(FAILED, e))?
        }
        None => {
            let body = json!(question).to_string();
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

fn unexplained(error: ExplainError) -> Failure {
    let hint = error.hint();
    let failure = Failure::new(FAILED, error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
