//! The daemon and what it keeps in the kernel.

use enforcer_capture::cgroup;
use enforcer_capture::kernel::{self, Inspection, Layout};
use serde_json::Value;

use super::{Check, Finding, Host};
use crate::control::client::ClientError;

pub(super) const CHECKS: &[Check] = &[
    Check { name: "daemon", run: daemon },
    Check { name: "vault", run: vault },
    Check { name: "pins", run: pins },
    Check { name: "hooks", run: hooks },
    Check { name: "proofs", run: proofs },
];

fn daemon(host: &Host) -> Finding {
    match &host.status {
        Ok(status) => {
            judge_version(status["version"].as_str().unwrap_or_default(), env!("CARGO_PKG_VERSION"))
        }
        Err(error) => {
            let fix = error.hint().unwrap_or_default();
            match error {
                ClientError::NotPermitted { .. } => Finding::warn(format!("not checked: {error}"), fix),
                ClientError::NotRunning { .. } | ClientError::Answered { .. } | ClientError::Broken(_) => {
                    Finding::fail(error.to_string(), fix)
                }
            }
        }
    }
}

pub(super) fn judge_version(running: &str, own: &str) -> Finding {
    if running == own {
        return Finding::ok(format!("version {own} answers"));
    }
    Finding::warn(
        format!("the running daemon is version {running}, this program is {own}"),
        "systemctl restart enforcer",
    )
}

fn vault(host: &Host) -> Finding {
    match &host.status {
        Ok(status) => match status["vault_error"].as_str() {
            None => Finding::ok(format!("opens; {} secrets", status["secrets"].as_u64().unwrap_or(0))),
            Some(error) => Finding::fail(
                format!("secrets cannot be used: {error}"),
                "restore vault.db and its key from the same backup",
            ),
        },
        Err(_) => Finding::warn("not checked: the daemon does not answer", "repair what `daemon` says first"),
    }
}

fn inspection(host: &Host) -> Result<Inspection, Finding> {
    let Ok(config) = &host.config else { return Err(Finding::needs_settings()) };
    if !host.root {
        return Err(Finding::needs_root());
    }
    let managed_root = cgroup::managed_root(&config.managed_root)
        .map_err(|error| Finding::fail(error.to_string(), error.hint().unwrap_or_default()))?;
    if !managed_root.exists() {
        let found = format!("there is no {}: the daemon has never run here", managed_root.display());
        return Err(match host.status {
            Ok(_) => Finding::fail(found, "systemctl restart enforcer, and find out who removed it"),
            Err(_) => Finding::warn(found, "start the daemon"),
        });
    }
    kernel::inspect(&Layout { managed_root, pins: config.pins.clone() }).map_err(|error| {
        let hint = error.hint();
        Finding::fail(format!("{:#}", anyhow::Error::new(error)), hint)
    })
}

fn pins(host: &Host) -> Finding {
    match inspection(host) {
        Ok(found) => judge_pins(&found, host.status.is_ok()),
        Err(finding) => finding,
    }
}

pub(super) fn judge_pins(found: &Inspection, running: bool) -> Finding {
    let fix = "restart the daemon to attach again, and find out who removed it";
    if found.attached == found.hooks && found.missing_maps.is_empty() {
        return Finding::ok(format!("all {} programs are attached and pinned", found.attached));
    }
    let nothing = found.attached == 0 && found.elsewhere.is_empty();
    if nothing && !running {
        return Finding::warn(
            "nothing is pinned: the daemon has not run since the host started, or let go with `unmanage`",
            "start the daemon",
        );
    }
    let mut broken = Vec::new();
    for (what, names) in [
        ("without a pin", &found.unpinned),
        ("attached to nothing or elsewhere", &found.elsewhere),
        ("maps without a pin", &found.missing_maps),
    ] {
        if !names.is_empty() {
            broken.push(format!("{what}: {}", names.join(", ")));
        }
    }
    Finding::fail(format!("agents are not held by every program; {}", broken.join("; ")), fix)
}

fn hooks(host: &Host) -> Finding {
    match inspection(host) {
        Ok(found) => judge_hooks(&found),
        Err(finding) => finding,
    }
}

pub(super) fn judge_hooks(found: &Inspection) -> Finding {
    if found.others.is_empty() {
        return Finding::ok("no program but ours runs for agents");
    }
    let others: Vec<String> = found.others.iter().map(|(hook, count)| format!("{hook} ({count})")).collect();
    Finding::warn(
        format!("programs of others run for agents too, at {}", others.join(", ")),
        "`bpftool cgroup tree` shows whose; one that rewrites addresses after ours can break the redirect",
    )
}

fn proofs(host: &Host) -> Finding {
    match &host.status {
        Ok(status) => judge_proofs(status),
        Err(_) => Finding::ok("none: the daemon does not run"),
    }
}

pub(super) fn judge_proofs(status: &Value) -> Finding {
    let all: Vec<_> = status["proofs"].as_object().into_iter().flatten().collect();
    let failed: Vec<String> = all
        .iter()
        .filter(|(_, proof)| proof["holds"] != true)
        .map(|(agent, proof)| {
            let leaks: Vec<&str> =
                proof["leaks"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            format!("{agent} ({})", leaks.join(", "))
        })
        .collect();
    if !failed.is_empty() {
        return Finding::fail(
            format!("`enforcer prove` failed for {}", failed.join(", ")),
            "`enforcer prove AGENT` shows each way; until it holds, do not run that agent",
        );
    }
    match all.is_empty() {
        true => Finding::ok("none since the daemon started; `enforcer prove AGENT` makes one"),
        false => {
            let agents: Vec<&str> = all.iter().map(|(agent, _)| agent.as_str()).collect();
            Finding::ok(format!("nothing got out: {}", agents.join(", ")))
        }
    }
}
