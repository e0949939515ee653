//! What the two filters of system calls share: the agent's (`init::filter`) and the worker's (`confine`).
//!
//! Builds and applies programs; which calls they let through is the callers'.

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, SeccompRule, TargetArch, sock_filter};

/// Calls by number; no rules at all means whatever the arguments.
pub(crate) type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// x32 calls have the same architecture number as x86-64 and other call numbers, from here up.
#[cfg(target_arch = "x86_64")]
pub(crate) const X32: u32 = 0x4000_0000;

#[derive(Debug, thiserror::Error)]
pub(crate) enum FilterError {
    #[error(transparent)]
    Backend(#[from] seccompiler::BackendError),
    #[error(transparent)]
    Apply(#[from] seccompiler::Error),
}

/// `listed` for calls that a rule matches, `others` for all else.
pub(crate) fn compile(
    rules: Rules,
    listed: SeccompAction,
    others: SeccompAction,
) -> Result<BpfProgram, FilterError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    // A call of another architecture's table kills the process: seccompiler's first instructions.
    Ok(SeccompFilter::new(rules, others, listed, arch)?.try_into()?)
}

/// Before all else: calls with this number or a higher one get ENOSYS, as from a kernel that has none such.
pub(crate) fn without_calls_from(first: u32, program: BpfProgram) -> BpfProgram {
    /// Offset of `nr` in `struct seccomp_data`.
    const NR: u32 = 0;
    let mut guarded = vec![
        sock_filter { code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, jt: 0, jf: 0, k: NR },
        sock_filter { code: (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16, jt: 0, jf: 1, k: first },
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

/// Refuses `clone3` with ENOSYS, which makes the C library use `clone`: clone3's arguments lie in memory, where a
/// filter cannot look.
pub(crate) fn no_clone3() -> Result<BpfProgram, FilterError> {
    let absent = SeccompAction::Errno(libc::ENOSYS as u32);
    compile(Rules::from([(libc::SYS_clone3, vec![])]), absent, SeccompAction::Allow)
}
