//! The system calls an agent may not make: socket families beyond the governed ones, ways round this filter,
//! and helpers of the kernel that act outside of every cgroup.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use crate::Error;

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
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(failed)?;
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.iter().map(|call| (*call, vec![])).collect();
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
    let refuse = compile(rules, libc::EPERM, arch)?;
    // Its arguments lie in memory, where a filter cannot look. ENOSYS makes the C library use clone.
    let no_clone3 = compile(BTreeMap::from([(libc::SYS_clone3, vec![])]), libc::ENOSYS, arch)?;
    Ok(vec![without_x32(refuse), no_clone3])
}

fn compile(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    error: i32,
    arch: TargetArch,
) -> Result<BpfProgram, Error> {
    // A call of another architecture's table kills the process: seccompiler's first instructions.
    SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(error as u32), arch)
        .and_then(BpfProgram::try_from)
        .map_err(failed)
}

/// x32 calls have the same architecture number as x86-64 and other call numbers: refused before all else.
#[cfg(target_arch = "x86_64")]
fn without_x32(program: BpfProgram) -> BpfProgram {
    use seccompiler::sock_filter;
    const X32_BIT: u32 = 0x4000_0000;
    /// Offset of `nr` in `struct seccomp_data`.
    const NR: u32 = 0;
    let mut guarded = vec![
        sock_filter { code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, jt: 0, jf: 0, k: NR },
        sock_filter { code: (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16, jt: 0, jf: 1, k: X32_BIT },
        sock_filter {
            code: (libc::BPF_RET | libc::BPF_K) as u16,
            jt: 0,
            jf: 0,
            k: libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32,
        },
    ];
    guarded.extend(program);
    guarded
}

#[cfg(not(target_arch = "x86_64"))]
fn without_x32(program: BpfProgram) -> BpfProgram {
    program
}

/// From here on, for good. `no_new_privs` must be set.
pub(super) fn apply(filters: &[BpfProgram]) -> Result<(), Error> {
    filters.iter().try_for_each(|filter| seccompiler::apply_filter(filter)).map_err(failed)
}
