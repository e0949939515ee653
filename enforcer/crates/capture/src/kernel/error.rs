//! Why the kernel side does not stand, and what to do about it.
use std::io;
use std::path::PathBuf;

use aya::EbpfError;
use aya::programs::ProgramError;

use crate::host::{self, OLDEST_KERNEL};

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    #[error("loading the eBPF programs needs root")]
    NotRoot,
    #[error("the eBPF object was not built in; run `cargo xtask bpf`")]
    NoObject,
    #[error("cannot use the cgroup `{path}`")]
    ManagedRoot {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
    #[error("the managed root `{path}` is not in a cgroup2 hierarchy")]
    NoCgroup2 { path: PathBuf },
    #[error("`{path}` is the root of the cgroup hierarchy: everything on this host would be governed")]
    RootOfHierarchy { path: PathBuf },
    #[error("the daemon does not run in the initial cgroup namespace")]
    CgroupNamespace,
    #[error("there is no bpffs for the pins `{path}`")]
    NoBpffs {
        path: PathBuf,
        #[source]
        error: Option<io::Error>,
    },
    #[error("cannot use `{path}`")]
    Pins {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
    #[error("the kernel does not take the eBPF object")]
    Load {
        #[source]
        error: Box<EbpfError>,
    },
    #[error("the kernel does not take the program for the hook `{hook}`")]
    Program {
        hook: &'static str,
        since: &'static str,
        #[source]
        error: Rejected,
    },
    #[error("cannot attach to the hook `{hook}`")]
    Attach {
        hook: &'static str,
        #[source]
        error: io::Error,
    },
    #[error("the map `{map}` is not as this version made it: {difference}")]
    OtherLayout { map: &'static str, difference: String },
    #[error("{} agents are governed already, which is the most there can be", enforcer_common::AGENT_SLOTS)]
    TooManyAgents,
    #[error("the pinned link `{pin}` belongs to another cgroup (id {cgroup_id})")]
    Foreign { pin: PathBuf, cgroup_id: u64 },
    #[error("the program for the hook `{hook}` is no longer attached to `{root}`")]
    Detached { hook: &'static str, root: PathBuf },
    #[error("the pin `{pin}` is gone or is another object")]
    Unpinned { pin: PathBuf },
    #[error("cannot {what}")]
    Io {
        what: String,
        #[source]
        error: io::Error,
    },
}

impl KernelError {
    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            KernelError::NotRoot => "run the daemon as root; only its small keeper keeps the privilege".to_owned(),
            KernelError::NoObject => {
                "`cargo xtask setup` installs the toolchain, `cargo xtask bpf` builds the object; then build again".to_owned()
            }
            KernelError::ManagedRoot { error, .. } if error.kind() == io::ErrorKind::NotFound => {
                "the keeper makes it under the cgroup2 mount; check `managed_root` and whether cgroup2 is mounted".to_owned()
            }
            KernelError::NoCgroup2 { .. } => {
                "see `findmnt -t cgroup2`; hosts in hybrid mode have it at /sys/fs/cgroup/unified; set `managed_root` to a path in it"
                    .to_owned()
            }
            KernelError::RootOfHierarchy { .. } => "set `managed_root` to a cgroup of its own".to_owned(),
            KernelError::CgroupNamespace => {
                "start it on the host, or its container with the host's cgroup namespace (`--cgroupns=host`)".to_owned()
            }
            KernelError::NoBpffs { .. } => {
                "mount one: `mount -t bpf bpf /sys/fs/bpf`, and set `pins` to a directory in it".to_owned()
            }
            KernelError::Load { .. } => too_old().unwrap_or_else(|| {
                "the kernel must have CONFIG_BPF_SYSCALL, CONFIG_CGROUP_BPF and BTF support; 5.15 or later".to_owned()
            }),
            KernelError::Program { hook, since, .. } => too_old().unwrap_or_else(|| {
                format!(
                    "`{hook}` is in kernels from {since} on, with CONFIG_CGROUP_BPF; the cause has the verifier's last words, the log \
                     at level debug all of them"
                )
            }),
            KernelError::Attach { .. } => {
                "another tool may hold this cgroup exclusively: see `bpftool cgroup show` on the managed root".to_owned()
            }
            KernelError::OtherLayout { .. } => {
                "this is a fault of enforcer; please report it. `enforcer unmanage` and a new start make the maps again".to_owned()
            }
            KernelError::TooManyAgents => "end some of them, or turn to a second host".to_owned(),
            KernelError::Foreign { .. } => {
                "another instance uses these pins: give this one its own `pins`, or run `enforcer unmanage` there first".to_owned()
            }
            KernelError::Detached { .. } | KernelError::Unpinned { .. } => {
                "no agent is started like this; restart the daemon to attach again, and find out who removed it".to_owned()
            }
            KernelError::ManagedRoot { .. } | KernelError::Pins { .. } | KernelError::Io { .. } => {
                "the cause above is the kernel's answer; root and an unlocked bpf(2) are needed".to_owned()
            }
        }
    }
}

/// What the kernel said to a program: its error, and the verdict of the verifier without the way there.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Rejected(String);

impl From<ProgramError> for Rejected {
    fn from(error: ProgramError) -> Self {
        let ProgramError::LoadError { io_error, verifier_log } = error else {
            return Rejected(error.to_string());
        };
        let log = verifier_log.to_string();
        tracing::debug!(%log, "the verifier's log");
        Rejected(match verdict(&log) {
            Some(verdict) => format!("{io_error}: {verdict}"),
            None => io_error.to_string(),
        })
    }
}

/// The last line that is no statistics.
fn verdict(log: &str) -> Option<&str> {
    let statistics = ["verification time ", "stack depth ", "processed ", "insns_"];
    let mut lines = log.lines().rev().map(str::trim);
    lines.find(|line| !line.is_empty() && !statistics.iter().any(|start| line.starts_with(start)))
}

/// The next step where the kernel's age is the reason.
fn too_old() -> Option<String> {
    let (release, version) = host::kernel();
    let (major, minor) = OLDEST_KERNEL;
    (version? < OLDEST_KERNEL)
        .then(|| format!("this kernel, {release}, is too old: install one from {major}.{minor} on"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_is_found_below_the_trace() {
        let log = "24: (85) call unknown#187\ninvalid func unknown#187\nverification time 78784 usec\nstack depth 128+0\n\
                   processed 293 insns (limit 1000000) max_states_per_insn 1\n";
        assert_eq!(verdict(log), Some("invalid func unknown#187"));
        assert_eq!(verdict("processed 2 insns\n"), None);
    }
}
