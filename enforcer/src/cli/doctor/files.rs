//! Our own files: settings, vault key, state, policies.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Check, Finding, Host};
use crate::config::{Config, ConfigError, VaultKeySource};
use crate::policies::Policies;

pub(super) const CHECKS: &[Check] = &[
    Check { name: "settings", run: settings },
    Check { name: "vault-key", run: vault_key },
    Check { name: "state-dir", run: state_dir },
    Check { name: "policy-dir", run: policy_dir },
];

fn settings(host: &Host) -> Finding {
    match &host.config {
        Ok(_) => Finding::ok("they load"),
        Err(ConfigError::Read { path, error }) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Finding::warn(
                format!("not checked: {} is not yours to read", path.display()),
                "sudo enforcer doctor",
            )
        }
        Err(error) => {
            let fix = error.hint().unwrap_or_else(|| "correct the file that is named".to_owned());
            Finding::fail(error.to_string(), fix)
        }
    }
}

fn vault_key(host: &Host) -> Finding {
    let Ok(config) = &host.config else { return Finding::needs_settings() };
    match &config.vault_key {
        VaultKeySource::SystemdCredential(name) => Finding::ok(format!("the systemd credential `{name}`")),
        VaultKeySource::File(path) => match fs::symlink_metadata(path) {
            Ok(metadata) => {
                let (uid, mode) = (metadata.uid(), metadata.mode());
                judge_key(path, metadata.is_file(), uid, mode, &config.state_dir)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => missing_key(path, config),
            Err(error) => Finding::unreadable(&path.display().to_string(), &error),
        },
    }
}

pub(super) fn judge_key(path: &Path, file: bool, uid: u32, mode: u32, state_dir: &Path) -> Finding {
    let shown = path.display();
    if !file || uid != 0 || mode & 0o077 != 0 {
        return Finding::fail(
            format!(
                "{shown} is not a file that root alone can read (user {uid}, mode {:04o})",
                mode & 0o7777
            ),
            format!("chown root: {shown} && chmod 600 {shown}, and think about who has read it"),
        );
    }
    if path.starts_with(state_dir) {
        return Finding::warn(
            format!("{shown} lies beside the vault that it opens: one copy of the directory has both"),
            "move it out of `state_dir` and set `vault_key`; better, `vault_key: {systemd_credential: NAME}`",
        );
    }
    Finding::ok(format!("{shown}, for root alone"))
}

fn missing_key(path: &Path, config: &Config) -> Finding {
    // As a user the directory cannot be looked into: then the daemon's start says it.
    if config.worker_dir().join("vault.db").exists() {
        return Finding::fail(
            format!("{} is missing, and there is a vault that it opens", path.display()),
            "restore the key from your backup; a new key cannot open the old vault",
        );
    }
    Finding::ok(format!("{} is made at the first start", path.display()))
}

/// Below this receipts soon cannot be written, and then nothing is allowed any more.
const LEAST_FREE: u64 = 64 * 1024 * 1024;
/// Days of receipts of a busy host.
const ENOUGH_FREE: u64 = 1024 * 1024 * 1024;

fn state_dir(host: &Host) -> Finding {
    let Ok(config) = &host.config else { return Finding::needs_settings() };
    let dir = &config.state_dir;
    let existing = dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    match rustix::fs::statvfs(existing) {
        Ok(stat) => {
            judge_space(dir, stat.f_bavail.saturating_mul(stat.f_frsize), (stat.f_favail, stat.f_files))
        }
        Err(error) => Finding::unreadable(&dir.display().to_string(), &error.into()),
    }
}

/// Some file systems count no inodes: 0 of 0.
pub(super) fn judge_space(dir: &Path, free: u64, (inodes, of): (u64, u64)) -> Finding {
    let (dir, mib) = (dir.display(), free / (1024 * 1024));
    let fix = "free some space, or set `state_dir` to a larger file system";
    if free < LEAST_FREE || of > 0 && inodes < 64 {
        return Finding::fail(
            format!("{mib} MiB and {inodes} inodes free in {dir}: without receipts nothing is allowed"),
            fix,
        );
    }
    if free < ENOUGH_FREE {
        return Finding::warn(format!("{mib} MiB free in {dir}: receipts will fill it"), fix);
    }
    Finding::ok(format!("{} GiB free in {dir}", mib / 1024))
}

fn policy_dir(host: &Host) -> Finding {
    let Ok(config) = &host.config else { return Finding::needs_settings() };
    let (dir, worker) = (&config.policy_dir, config.ids.worker);
    let shown = dir.display();
    if !dir.exists() {
        return Finding::fail(
            format!("{shown} is not there: nothing is allowed"),
            format!("install -d -m 0755 {shown}, and put a policy for each agent in it"),
        );
    }
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let yaml = entries.filter(|path| path.extension().is_some_and(|e| e == "yaml"));
    let shut = dir.ancestors().map(|dir| (dir.to_owned(), 0o1)).chain(yaml.map(|file| (file, 0o4))).find(
        |(path, bit)| fs::metadata(path).is_ok_and(|m| !permits(m.uid(), m.gid(), m.mode(), worker, *bit)),
    );
    if let Some((path, _)) = shut {
        return Finding::fail(
            format!("the worker (user {worker}) may not read {}", path.display()),
            format!("chmod a+rX {}", path.display()),
        );
    }
    // The daemon's last word first: what is in force is what it read.
    if let Ok(status) = &host.status
        && status["policies"]["in_force"].as_bool() == Some(false)
    {
        let report = status["policies"]["report"].as_str().unwrap_or_default();
        return Finding::fail(
            format!("the daemon could not read {shown}: {report}"),
            "correct it, then `enforcer reload`",
        );
    }
    let policies = Policies::open(dir);
    let last = policies.last();
    let agents = match policies.current().agents().count() {
        1 => "1 agent".to_owned(),
        count => format!("{count} agents"),
    };
    match (last.in_force, last.files.is_empty(), last.report) {
        (false, _, report) => Finding::fail(
            report.unwrap_or_else(|| format!("{shown} cannot be read")),
            format!("correct it; `enforcer policy check {shown}` shows the same"),
        ),
        (true, true, _) => Finding::warn(
            format!("{shown} holds no policy: nothing is allowed"),
            "put a file for each agent in it; `enforcer policy check FILE` checks it",
        ),
        (true, false, None) => Finding::ok(format!("policies of {agents} in {shown}")),
        (true, false, Some(report)) => Finding::warn(
            format!("policies of {agents} in {shown}, with warnings:\n{report}"),
            format!("`enforcer policy check {shown}` shows the same"),
        ),
    }
}

/// May this user, in no group but its own, use the file in this way (`4` read, `1` pass)?
pub(super) fn permits(uid: u32, gid: u32, mode: u32, user: u32, bit: u32) -> bool {
    let shift = match (uid == user, gid == user) {
        (true, _) => 6,
        (false, true) => 3,
        (false, false) => 0,
    };
    mode >> shift & bit != 0
}
