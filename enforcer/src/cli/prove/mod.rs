//! `prove`: tries every way out as an agent, says what stopped each, signs the table, tells the daemon.
//!
//! The trying is `capture::prove`'s; here are arguments, the table for people, the file, and the exit code.

mod seal;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use enforcer_capture::cgroup;
use enforcer_capture::prove::{self as capture, Fate, Guard, Proof, Request, Tried};
use http::Method;
use serde_json::{Value, json};

use super::failure::{BROKEN, FAILED, INVALID, NOT_PERMITTED};
use super::output::moment;
use super::{Context, Ended, Failure, Output};
use crate::config::Config;
use crate::text::shown;

/// What an agent's folder keeps of earlier proofs.
const KEPT: usize = 100;

#[derive(Debug, Args)]
pub(super) struct ProveArgs {
    /// Agent, as its policy names it
    #[arg(required_unless_present_any = ["all", "verify"])]
    agent: Option<String>,
    /// Every agent that has a policy
    #[arg(long, conflicts_with_all = ["agent", "verify"])]
    all: bool,
    /// Check the signature of an earlier proof, and show it
    #[arg(long, value_name = "FILE", conflicts_with = "agent")]
    verify: Option<PathBuf>,
    /// The public key it must be signed with, instead of this host's own
    #[arg(long, value_name = "HEX", requires = "verify")]
    key: Option<String>,
}

pub(super) fn prove(args: &ProveArgs, context: &Context, out: &mut Output) -> Ended {
    let config = context.settings()?;
    if let Some(file) = &args.verify {
        return verify(file, args.key.as_deref(), &config, context, out);
    }
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::text(
            NOT_PERMITTED,
            "only root may do this: the witnesses see every packet of the host",
        )
        .hint("run it with `sudo`"));
    }
    let agents = match &args.agent {
        Some(agent) => vec![agent.clone()],
        None => with_policy(context)?,
    };
    let mut code = ExitCode::SUCCESS;
    for agent in agents {
        let proof = tried(&agent, context, &config)?;
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let file = keep(&config, &proof, at)?;
        let told = tell(context, &proof, &file);
        if context.json {
            out.json(&proof, true)?;
        } else {
            print(&proof, out)?;
            out.line(format!("signed and kept in {}", shown(&file.display().to_string())))?;
        }
        if !proof.holds() {
            code = ExitCode::from(BROKEN);
        }
        // After the table: it is worth more than its receipt.
        told?;
    }
    Ok(code)
}

/// The process that makes the attempts.
pub(super) fn attempt(hold: bool) -> Ended {
    if hold {
        return Ok(enforcer_probe::hold());
    }
    // Other sessions of the agent run under the same id: they shall not take hold of this one and answer for it.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(std::io::Error::from)?;
    Ok(enforcer_probe::each())
}

fn with_policy(context: &Context) -> Result<Vec<String>, Failure> {
    let policies: Value = context.client()?.get("/v1/policies")?;
    let agents = policies["agents"].as_array().into_iter().flatten();
    Ok(agents.filter_map(|agent| agent["agent"].as_str().map(str::to_owned)).collect())
}

fn tried(agent: &str, context: &Context, config: &Config) -> Result<Proof, Failure> {
    let executable = std::env::current_exe()?;
    let managed_root =
        cgroup::managed_root(&config.managed_root).map_err(|error| Failure::new(FAILED, error))?;
    let request = Request {
        agent: agent.to_owned(),
        config: context.config_path().map(Path::to_owned),
        executable,
        managed_root,
        pins: config.pins.clone(),
    };
    capture::prove(&request).map_err(|error| {
        let hint = error.hint();
        let failure = Failure::new(FAILED, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })
}

fn folder(config: &Config) -> PathBuf {
    config.state_dir.join("proofs")
}

/// Writes the signed proof and lets go of the oldest ones.
fn keep(config: &Config, proof: &Proof, at: u64) -> Result<PathBuf, Failure> {
    let folder = folder(config);
    let body = serde_json::to_string(&json!({ "at": at, "holds": proof.holds(), "proof": proof }))
        .map_err(|error| Failure::new(FAILED, error))?;
    let file = seal::write(&folder, &format!("{}-{at}.json", proof.agent), &body)?;
    let mut earlier: Vec<PathBuf> = std::fs::read_dir(&folder)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| number(path, &proof.agent).is_some())
        .collect();
    earlier.sort_by_key(|path| number(path, &proof.agent));
    for old in earlier.iter().rev().skip(KEPT) {
        std::fs::remove_file(old)?;
    }
    Ok(file)
}

/// When the proof of this agent was made, from its file's name. Names of agents may end in a number, too.
fn number(path: &Path, agent: &str) -> Option<u64> {
    let name = path.file_name()?.to_str()?.strip_suffix(".json")?;
    name.strip_prefix(agent)?.strip_prefix('-')?.parse().ok()
}

/// The daemon writes it down and, where something got out, raises the alarm.
fn tell(context: &Context, proof: &Proof, file: &Path) -> Result<(), Failure> {
    let leaks: Vec<&str> = proof.leaks().iter().map(|tried| tried.route.as_str()).collect();
    let body = json!({
        "agent": proof.agent,
        "holds": proof.holds(),
        "leaks": leaks,
        "lost": proof.lost,
        "file": file.display().to_string(),
    });
    let _noted: Value = context.client()?.json(Method::POST, "/v1/proofs", body.to_string().into_bytes())?;
    Ok(())
}

fn print(proof: &Proof, out: &mut Output) -> Result<(), Failure> {
    let cell = |tried: &Tried, guard| match tried.outcomes.get(&guard).map(|outcome| outcome.fate) {
        None => "-",
        Some(Fate::Out) => "out",
        Some(Fate::Held) => "held",
        Some(Fate::Absent) => "absent",
        Some(Fate::Failed) => "failed",
    };
    let rows: Vec<Vec<String>> = proof
        .routes
        .iter()
        .map(|tried| {
            let mut row = vec![tried.route.clone()];
            row.extend(Guard::ALL.iter().map(|guard| cell(tried, *guard).to_owned()));
            row.push(stopped_by(tried));
            row
        })
        .collect();
    let head = ["ROUTE", "UNGUARDED", "NAMESPACE", "NFTABLES", "PROGRAMS", "AS AGENT", "STOPPED BY"];
    out.table(&head, &rows)?;
    let judged = proof.routes.iter().filter(|tried| tried.outcomes.contains_key(&Guard::Agent)).count();
    let leaks = proof.leaks();
    out.line(format!(
        "{}: {judged} ways tried as an agent, {} out, on kernel {}",
        shown(&proof.agent),
        leaks.len(),
        shown(&proof.kernel)
    ))?;
    let unproved: Vec<&str> = proof.unproved().iter().map(|tried| tried.route.as_str()).collect();
    if !unproved.is_empty() {
        out.line(format!(
            "these did not get out unguarded either, so they show nothing: {}",
            unproved.join(", ")
        ))?;
    }
    for tried in leaks {
        let Some(outcome) = tried.outcomes.get(&Guard::Agent) else { continue };
        out.line(format!("! {}: {} packets; {}", tried.route, outcome.packets, shown(&outcome.said)))?;
    }
    if proof.lost > 0 {
        out.line(format!("! a witness had no room for {} frames, so this proves nothing", proof.lost))?;
    }
    if !proof.nftables {
        out.line("! nft is not installed: there is no packet filter to try")?;
    }
    Ok(())
}

/// The lines that hold it alone; where none was tried alone, what the attempt was told.
fn stopped_by(tried: &Tried) -> String {
    if let Some(why) = &tried.skipped {
        return format!("not tried here: {why}");
    }
    let alone: Vec<&str> =
        [(Guard::Namespace, "namespace"), (Guard::Nftables, "nftables"), (Guard::Programs, "programs")]
            .iter()
            .filter(|(guard, _)| tried.outcomes.get(guard).is_some_and(|outcome| outcome.fate == Fate::Held))
            .map(|(_, name)| *name)
            .collect();
    match tried.outcomes.get(&Guard::Agent) {
        Some(outcome) if outcome.fate != Fate::Held => outcome.said.clone(),
        Some(outcome) if alone.is_empty() => outcome.said.clone(),
        _ => alone.join(", "),
    }
}

fn verify(file: &Path, key: Option<&str>, config: &Config, context: &Context, out: &mut Output) -> Ended {
    let signed = seal::read(file, key, &folder(config))
        .map_err(|why| Failure::text(INVALID, format!("{}: {why}", shown(&file.display().to_string()))))?;
    let value: Value = serde_json::from_str(&signed.body).map_err(|error| Failure::new(INVALID, error))?;
    let proof: Proof =
        serde_json::from_value(value["proof"].clone()).map_err(|error| Failure::new(INVALID, error))?;
    if context.json {
        out.json(&value, true)?;
    } else {
        print(&proof, out)?;
        let at = value["at"].as_i64().map(moment).unwrap_or_default();
        out.line(format!("signed {at} with {}; the signature is right", signed.key))?;
    }
    Ok(if proof.holds() { ExitCode::SUCCESS } else { ExitCode::from(BROKEN) })
}
