//! What the keeper gives up at its start: rights and system calls that nothing it does needs. Children start without them too.
//!
//! A list of what is out, not of what is in: the keeper mounts, enters namespaces, changes users and loads programs, which is most
//! of what root can do. Its safety is that it reads no byte of an agent's; this keeps a fault from reaching the machine below.

use rustix::process::DumpableBehavior;
use rustix::thread::{CapabilitySet, CapabilitySets};
use seccompiler::SeccompAction;

use crate::Error;
use crate::error::Doing;
use crate::seccomp::{self, Rules};
use crate::sys;

/// The kernel and its memory, the clock, the log, other security modules, what is fixed or raw on disks.
const GIVEN_UP: CapabilitySet = CapabilitySet::SYS_MODULE
    .union(CapabilitySet::SYS_RAWIO)
    .union(CapabilitySet::SYS_BOOT)
    .union(CapabilitySet::SYS_TIME)
    .union(CapabilitySet::SYS_PACCT)
    .union(CapabilitySet::SYS_TTY_CONFIG)
    .union(CapabilitySet::SYSLOG)
    .union(CapabilitySet::MAC_ADMIN)
    .union(CapabilitySet::MAC_OVERRIDE)
    .union(CapabilitySet::AUDIT_CONTROL)
    .union(CapabilitySet::AUDIT_READ)
    .union(CapabilitySet::AUDIT_WRITE)
    .union(CapabilitySet::LINUX_IMMUTABLE)
    .union(CapabilitySet::LEASE)
    .union(CapabilitySet::WAKE_ALARM)
    .union(CapabilitySet::BLOCK_SUSPEND)
    .union(CapabilitySet::CHECKPOINT_RESTORE);

/// Refused with EPERM. Nothing that an agent may do is here: it inherits this.
const REFUSED: &[libc::c_long] = &[
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_open_by_handle_at,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_kexec_file_load,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
];

/// For good, before the process has threads. `again`: this process was a keeper before, which has done it.
pub(super) fn give_up(again: bool) -> Result<(), Error> {
    let doing = || "give up rights that the daemon does not need".into();
    // Not for ptrace, not for a core: keys pass by as descriptors, and places as paths.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).doing(doing)?;
    sys::forbid_core_dumps().doing(doing)?;
    for capability in GIVEN_UP {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // A kernel without it.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error).doing(doing),
        }
    }
    let CapabilitySets { effective, permitted, inheritable } =
        rustix::thread::capabilities(None).doing(doing)?;
    let left = CapabilitySets {
        effective: effective.difference(GIVEN_UP),
        permitted: permitted.difference(GIVEN_UP),
        inheritable: inheritable.difference(GIVEN_UP),
    };
    rustix::thread::set_capabilities(None, left).doing(doing)?;
    // Filters add up, and stay over an exec. A changed list therefore needs a restart.
    if again { Ok(()) } else { filter() }
}

fn filter() -> Result<(), Error> {
    let failed = |error: &dyn std::fmt::Display| {
        Error::refused(
            format!("cannot filter the daemon's system calls: {error}"),
            "the kernel must have CONFIG_SECCOMP_FILTER, on x86-64, aarch64 or riscv64",
        )
    };
    let rules: Rules = REFUSED.iter().map(|call| (*call, vec![])).collect();
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    let filter = seccomp::compile(rules, refuse, SeccompAction::Allow).map_err(|error| failed(&error))?;
    // They would pass by the numbers above.
    #[cfg(target_arch = "x86_64")]
    let filter = seccomp::without_calls_from(seccomp::X32, filter);
    seccompiler::apply_filter(&filter).map_err(|error| failed(&error))
}
