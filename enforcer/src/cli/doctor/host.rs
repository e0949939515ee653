//! The host's settings: what could let a secret out, or an agent in, beside the network.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::SystemTime;

use enforcer_capture::host as capture;

use super::{Check, Finding, Host};
use crate::config::{Ids, host as names};

pub(super) const CHECKS: &[Check] = &[
    Check { name: "capabilities", run: capabilities },
    Check { name: "ptrace", run: ptrace },
    Check { name: "swap", run: swap },
    Check { name: "core-pattern", run: core_pattern },
    Check { name: "clock", run: clock },
    Check { name: "ids", run: ids },
    Check { name: "group", run: group },
    Check { name: "trust-stores", run: trust_stores },
    Check { name: "resolver", run: resolver },
];

/// What the daemon needs of root: number, name, what for.
const NEEDED: [(u32, &str, &str); 9] = [
    (0, "CAP_CHOWN", "agents' homes"),
    (1, "CAP_DAC_OVERRIDE", "agents' files"),
    (5, "CAP_KILL", "signals to agents"),
    (6, "CAP_SETGID", "agents' groups"),
    (7, "CAP_SETUID", "agents' users"),
    (8, "CAP_SETPCAP", "agents without capabilities"),
    (10, "CAP_NET_BIND_SERVICE", "the injector's port"),
    (12, "CAP_NET_ADMIN", "programs and packet filter"),
    (21, "CAP_SYS_ADMIN", "namespaces, mounts and programs"),
];

fn capabilities(host: &Host) -> Finding {
    if !host.root {
        return Finding::needs_root();
    }
    match fs::read_to_string("/proc/self/status") {
        Ok(status) => judge_capabilities(&status),
        Err(error) => Finding::unreadable("/proc/self/status", &error),
    }
}

/// Root of a container has fewer than root of a host.
pub(super) fn judge_capabilities(status: &str) -> Finding {
    let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    let Some(bounding) = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()) else {
        return Finding::warn(
            "not checked: the kernel does not say which capabilities root has",
            "report this",
        );
    };
    let missing: Vec<String> = NEEDED
        .iter()
        .filter(|(number, ..)| bounding >> number & 1 == 0)
        .map(|(_, name, what)| format!("{name} ({what})"))
        .collect();
    if missing.is_empty() {
        return Finding::ok("root has all that the daemon needs");
    }
    Finding::fail(
        format!("root lacks {}", missing.join(", ")),
        "run the daemon on the host, not in a container, or give the container these capabilities",
    )
}

fn ptrace(_: &Host) -> Finding {
    match fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope") {
        Ok(text) if text.trim() == "0" => Finding::warn(
            "every process may look into others of its user (kernel.yama.ptrace_scope is 0)",
            "sysctl -w kernel.yama.ptrace_scope=1, and a file in /etc/sysctl.d; agents with `--user` share a user",
        ),
        Ok(text) => Finding::ok(format!("kernel.yama.ptrace_scope is {}", text.trim())),
        Err(_) => Finding::warn(
            "no Yama: every process may look into others of its user",
            "add `yama` to `lsm=` on the kernel's command line; until then avoid `enforcer run --user`",
        ),
    }
}

fn swap(_: &Host) -> Finding {
    match fs::read_to_string("/proc/swaps") {
        Ok(table) => judge_swap(&table),
        // A kernel without swap has no such file.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Finding::ok("none"),
        Err(error) => Finding::unreadable("/proc/swaps", &error),
    }
}

/// zram stays in memory. Whether a device mapper's device is encrypted is for its owner to know.
pub(super) fn judge_swap(table: &str) -> Finding {
    let devices: Vec<&str> =
        table.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    let on_disk: Vec<&str> = devices.iter().copied().filter(|d| !d.starts_with("/dev/zram")).collect();
    match (devices.is_empty(), on_disk.is_empty()) {
        (true, _) => Finding::ok("none"),
        (false, true) => Finding::ok("in memory only (zram)"),
        (false, false) => Finding::warn(
            format!("secrets in memory could be written to {}", on_disk.join(", ")),
            "encrypt it (a `swap` line in /etc/crypttab), or `swapoff -a`; nothing to do if it is encrypted already",
        ),
    }
}

fn core_pattern(_: &Host) -> Finding {
    let path = "/proc/sys/kernel/core_pattern";
    match fs::read_to_string(path) {
        Ok(pattern) => judge_core_pattern(pattern.trim()),
        Err(error) => Finding::unreadable(path, &error),
    }
}

pub(super) fn judge_core_pattern(pattern: &str) -> Finding {
    match pattern.strip_prefix('|') {
        // A limit of zero does not stop pipes (core(5)).
        Some(program) => Finding::warn(
            format!(
                "a crashing agent makes the kernel run `{}` as root, outside of the agent",
                program.split_whitespace().next().unwrap_or_default()
            ),
            "sysctl -w kernel.core_pattern=core, and a file in /etc/sysctl.d, unless you trust that program with its input",
        ),
        None => Finding::ok(format!("files (`{pattern}`)")),
    }
}

fn clock(_: &Host) -> Finding {
    // The program was built before its file was written here, so a clock before that is wrong.
    let written = fs::metadata("/proc/self/exe").and_then(|file| file.modified());
    if written.is_ok_and(|written| SystemTime::now() < written) {
        return Finding::fail(
            "it is earlier than this program's own file: certificates and receipts would be wrong",
            "set the clock: timedatectl set-ntp true",
        );
    }
    if !Path::new("/run/systemd/system").exists() {
        return Finding::ok("later than this program; whether it is kept by NTP is not known here");
    }
    let asked = Command::new("timedatectl")
        .args(["show", "--property=NTPSynchronized", "--value"])
        .stdin(Stdio::null())
        .output();
    match asked {
        Ok(output) if output.stdout.starts_with(b"yes") => Finding::ok("kept by NTP"),
        Ok(output) if output.stdout.starts_with(b"no") => Finding::warn(
            "not kept by NTP: a clock that is wrong makes certificates invalid",
            "timedatectl set-ntp true",
        ),
        Ok(_) | Err(_) => Finding::ok("later than this program; whether it is kept by NTP is not known here"),
    }
}

fn ids(host: &Host) -> Finding {
    let Ok(config) = &host.config else { return Finding::needs_settings() };
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let taken = taken_ids(&config.ids, &read("/etc/passwd"), &read("/etc/group"), &read("/etc/subuid"));
    let Ids { worker, agents } = &config.ids;
    let range = format!("worker {worker}, agents {}-{}", agents.first, agents.last);
    if taken.is_empty() {
        return Finding::ok(format!("{range}; nobody else has them"));
    }
    Finding::fail(
        format!("{range}: also used by {}", taken.join(", ")),
        "set `ids` in enforcer.yaml to ids that nobody has: who shares one can look into the agent",
    )
}

/// Who else has one of our ids: users, groups and the ranges that users give to containers.
pub(super) fn taken_ids(ids: &Ids, passwd: &str, group: &str, subuid: &str) -> Vec<String> {
    let ours = |id: u32| id == ids.worker || ids.agents.contains(id);
    let mut taken = Vec::new();
    for (what, table) in [("user", passwd), ("group", group)] {
        for line in table.lines() {
            let mut fields = line.split(':');
            let (name, id) =
                (fields.next().unwrap_or_default(), fields.nth(1).and_then(|id| id.parse().ok()));
            if id.is_some_and(ours) {
                taken.push(format!("{what} {name}"));
            }
        }
    }
    for line in subuid.lines() {
        let mut fields = line.split(':');
        let name = fields.next().unwrap_or_default();
        let mut number = || fields.next().and_then(|n| n.parse::<u32>().ok());
        let (Some(first), Some(count)) = (number(), number()) else { continue };
        let last = first.saturating_add(count.saturating_sub(1));
        let overlaps = |low: u32, high: u32| count > 0 && first <= high && low <= last;
        if overlaps(ids.worker, ids.worker) || overlaps(ids.agents.first, ids.agents.last) {
            taken.push(format!("containers of {name} (/etc/subuid)"));
        }
    }
    taken
}

fn group(host: &Host) -> Finding {
    let Ok(config) = &host.config else { return Finding::needs_settings() };
    let name = &config.group;
    match capture::group_id(name) {
        Ok(Some(id)) => Finding::ok(format!("{name} ({id}) may use the daemon")),
        Ok(None) => Finding::warn(
            format!("there is no group `{name}`: only root may use the daemon"),
            format!("groupadd --system {name} && usermod -aG {name} USER, then restart the daemon"),
        ),
        Err(error) => Finding::warn(format!("cannot look up `{name}`: {error}"), "see /etc/nsswitch.conf"),
    }
}

fn trust_stores(_: &Host) -> Finding {
    let found = capture::trust_stores();
    if found.is_empty() {
        return Finding::warn(
            "no store of public roots was found: upstreams cannot be verified with it",
            "apt-get install ca-certificates, or name a file in `upstream_roots`",
        );
    }
    let shown: Vec<String> = found.iter().map(|path| path.display().to_string()).collect();
    Finding::ok(shown.join(", "))
}

fn resolver(host: &Host) -> Finding {
    let Ok(config) = &host.config else { return Finding::needs_settings() };
    let servers = if config.resolver.servers.is_empty() {
        match names::read("/etc/resolv.conf".as_ref()) {
            Ok(text) => names::name_servers(&text),
            Err(error) => return Finding::unreadable("/etc/resolv.conf", &error),
        }
    } else {
        config.resolver.servers.clone()
    };
    if servers.is_empty() {
        return Finding::fail(
            "no name server is known: names of upstreams cannot be looked up",
            "add one to /etc/resolv.conf, or to `resolver.servers` in enforcer.yaml",
        );
    }
    let shown: Vec<String> = servers.iter().map(ToString::to_string).collect();
    Finding::ok(shown.join(", "))
}
