//! The system calls an agent may not make: socket families beyond the governed ones, ways round this filter,
//! and helpers of the kernel that act outside of every cgroup.

use seccompiler::{BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

use crate::Error;
use crate::seccomp::{self, Rules};

/// The only families a socket may have: the programs in the kernel govern these, nothing governs the others.
const FAMILIES: [i32; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// Refused with EPERM whatever the arguments.
const REFUSED: [libc::c_long; 11] = [
    // Its requests pass by this filter.
    libc::SYS_io_uring_setup,
    // Sockets and memory of processes outside.
    libc::SYS_pidfd_getfd,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_bpf,
    // Their upcalls start root's helpers outside of all cgroups.
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    // Could move a thread into the network namespace of another process of the same user.
    libc::SYS_setns,
];

fn failed(error: impl std::fmt::Display) -> Error {
    Error::refused(
        format!("cannot filter the agent's system calls: {error}"),
        "the kernel must have CONFIG_SECCOMP_FILTER, on x86-64, aarch64 or riscv64",
    )
}

/// `foreign_processes`: others outside run under the same user, so tracing is refused as well.
pub(super) fn build(foreign_processes: bool) -> Result<Vec<BpfProgram>, Error> {
    let mut rules: Rules = REFUSED.iter().map(|call| (*call, vec![])).collect();
    if foreign_processes {
        rules.insert(libc::SYS_ptrace, vec![]);
    }
    for call in [libc::SYS_socket, libc::SYS_socketpair] {
        let none_of_them = FAMILIES
            .iter()
            .map(|family| SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, *family as u64))
            .collect::<Result<_, _>>()
            .and_then(SeccompRule::new)
            .map_err(failed)?;
        rules.insert(call, vec![none_of_them]);
    }
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    let refuse = seccomp::compile(rules, refuse, SeccompAction::Allow).map_err(failed)?;
    // They would pass by the numbers above.
    #[cfg(target_arch = "x86_64")]
    let refuse = seccomp::without_calls_from(seccomp::X32, refuse);
    Ok(vec![refuse, seccomp::no_clone3().map_err(failed)?])
}

/// From here on, for good. `no_new_privs` must be set.
pub(super) fn apply(filters: &[BpfProgram]) -> Result<(), Error> {
    filters.iter().try_for_each(|filter| seccompiler::apply_filter(filter)).map_err(failed)
}
