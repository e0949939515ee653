//! Servers on this host that would do for an agent what it may not do itself, reached by unix sockets.
//!
//! Agents do not see `/run`, nor the places that their view hides (`capture::init`). What lies elsewhere they see.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::{Check, Finding, Host};

pub(super) const CHECKS: &[Check] = &[Check { name: "deputies", run: deputies }];

/// Well-known sockets; a `*` stands for one whole name.
const KNOWN: &[&str] = &[
    "/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/podman/podman.sock",
    "/run/user/*/docker.sock",
    "/run/user/*/podman/podman.sock",
    "/run/systemd/private",
    "/run/dbus/system_bus_socket",
    "/run/user/*/bus",
    "/run/user/*/systemd/private",
    "/run/user/*/gnupg/S.gpg-agent",
    "/run/user/*/keyring/ssh",
    "/run/user/*/wayland-0",
    "/run/snapd.socket",
    "/run/libvirt/libvirt-sock",
    "/var/lib/lxd/unix.socket",
    "/var/lib/incus/unix.socket",
    "/tmp/.X11-unix/*",
    "/tmp/tmux-*/default",
    "/tmp/ssh-*/agent.*",
];
/// Where people put sockets that nobody knows of.
const OPEN: &[&str] = &["/tmp/*", "/tmp/*/*", "/var/tmp/*", "/var/tmp/*/*"];
/// Not in an agent's view.
const HIDDEN: &[&str] = &["/run/", "/tmp/.X11-unix/", "/tmp/.ICE-unix/", "/var/lib/lxd/", "/var/lib/incus/"];
/// Names looked at in one directory; a `/tmp` with more is somebody's test.
const MANY: usize = 4096;

fn deputies(_: &Host) -> Finding {
    let mut known: Vec<PathBuf> = KNOWN.iter().flat_map(|pattern| expand(pattern)).collect();
    if let Some(agent) = std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from) {
        known.push(agent);
    }
    known.extend(OPEN.iter().flat_map(|pattern| expand(pattern)).filter(|path| open_to_all(path)));
    known.retain(|path| fs::metadata(path).is_ok_and(|m| m.file_type().is_socket()));
    known.sort();
    known.dedup();
    let (exposed, hidden): (Vec<PathBuf>, Vec<PathBuf>) =
        known.into_iter().partition(|path| open_to_all(path) && !is_hidden(path));
    judge(&exposed, &hidden)
}

pub(super) fn judge(exposed: &[PathBuf], hidden: &[PathBuf]) -> Finding {
    let list = |paths: &[PathBuf]| {
        paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    };
    let out_of_reach = match hidden.len() {
        0 => "none that is known runs here".to_owned(),
        _ => format!("out of agents' reach: {}", list(hidden)),
    };
    if exposed.is_empty() {
        return Finding::ok(out_of_reach);
    }
    Finding::warn(
        format!("agents can connect to {}; {out_of_reach}", list(exposed)),
        "chmod o-rwx the socket or its directory, or move it below /run, which agents do not see",
    )
}

pub(super) fn is_hidden(path: &Path) -> bool {
    HIDDEN.iter().any(|place| path.to_string_lossy().starts_with(place))
}

/// Connecting needs write access to the socket and a way through every directory above it.
fn open_to_all(path: &Path) -> bool {
    let Ok(metadata) = fs::metadata(path) else { return false };
    metadata.file_type().is_socket()
        && metadata.mode() & 0o002 != 0
        && path.ancestors().skip(1).all(|dir| fs::metadata(dir).is_ok_and(|m| m.mode() & 0o001 != 0))
}

/// The paths that a pattern stands for. What cannot be listed has none that an ordinary user could reach.
fn expand(pattern: &str) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("/")];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let Some((before, after)) = part.split_once('*') else {
            found.iter_mut().for_each(|path| path.push(part));
            continue;
        };
        let matches = |name: &str| {
            name.len() >= before.len() + after.len() && name.starts_with(before) && name.ends_with(after)
        };
        found = found
            .iter()
            .flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten().take(MANY))
            .filter(|entry| entry.file_name().to_str().is_some_and(matches))
            .map(|entry| entry.path())
            .collect();
    }
    found
}
