//! The system calls the worker may make: what its runtime, SQLite, the receipts and sockets need. No other.
//!
//! An allow-list, so that what a later kernel adds is out as well. Refused calls fail with EPERM; those newer than
//! this list with ENOSYS, for which libraries have another way. Nothing here starts a program or a process,
//! makes memory executable, or opens a way to other processes.

use libc::{c_int, c_long};
use seccompiler::{BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

use crate::Error;
use crate::seccomp::{self, Rules};

/// One above `mseal` (Linux 6.10), the newest call that was looked at. The numbers are the same everywhere.
const NEWER: u32 = 463;

/// Allowed whatever the arguments.
const ALLOWED: &[c_long] = &[
    // descriptors
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fcntl,
    libc::SYS_pipe2,
    libc::SYS_eventfd2,
    libc::SYS_lseek,
    // files; Landlock says which
    libc::SYS_openat,
    libc::SYS_statx,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fadvise64,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_flock,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_umask,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
    libc::SYS_splice,
    // sockets; which ones is below
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    // waiting
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_futex,
    libc::SYS_futex_waitv,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_restart_syscall,
    // time, randomness, who am I
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_times,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_getrusage,
    libc::SYS_pidfd_open,
    // memory
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_mlock,
    libc::SYS_munlock,
    libc::SYS_membarrier,
    // threads
    // clone3 is turned into ENOSYS by a filter of its own.
    libc::SYS_clone3,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    // signals: handlers, and raising one in itself to abort
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// The older spellings that this architecture has.
#[cfg(target_arch = "x86_64")]
const ALSO_ALLOWED: &[c_long] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_chmod,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_wait,
    libc::SYS_time,
];
#[cfg(target_arch = "aarch64")]
const ALSO_ALLOWED: &[c_long] = &[libc::SYS_renameat];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const ALSO_ALLOWED: &[c_long] = &[];

/// `PIDFD_GET_INFO` in its first version, as `sys::pidfd` asks it.
const PIDFD_GET_INFO: u64 = (3 << 30) | (64 << 16) | (0xff << 8) | 11;

/// Commands of bpf(2) that work on a map that was passed. No others: loading, pinning, and finding objects by id.
const BPF_COMMANDS: [u64; 6] = [
    1,  // BPF_MAP_LOOKUP_ELEM
    2,  // BPF_MAP_UPDATE_ELEM
    3,  // BPF_MAP_DELETE_ELEM
    4,  // BPF_MAP_GET_NEXT_KEY
    15, // BPF_OBJ_GET_INFO_BY_FD
    21, // BPF_MAP_LOOKUP_AND_DELETE_ELEM
];

/// `PR_SET_VMA`: the C library names its memory.
const PR_SET_VMA: c_int = 0x5356_4d41;
/// `PR_GET_AUXV`: where rustix learns the size of a page.
const PR_GET_AUXV: c_int = 0x4155_5856;

pub(super) fn restrict() -> Result<(), Error> {
    // The other way round the second filter could not be put in force any more.
    let programs = [seccomp::no_clone3().map_err(failed)?, allowed()?];
    programs.iter().try_for_each(|program| seccompiler::apply_filter_all_threads(program)).map_err(failed)
}

fn allowed() -> Result<BpfProgram, Error> {
    let mut rules: Rules = ALLOWED.iter().chain(ALSO_ALLOWED).map(|call| (*call, vec![])).collect();
    let mut add = |call: c_long, alternatives: Vec<Vec<Condition>>| {
        let compiled: Result<Vec<_>, _> = alternatives.into_iter().map(rule).collect();
        compiled.map(|compiled| rules.insert(call, compiled)).map(drop)
    };
    add(libc::SYS_socket, sockets())?;
    // Both ends stay here: a pair of streams cannot be connected elsewhere, one of datagrams could.
    add(libc::SYS_socketpair, vec![vec![is(0, libc::AF_UNIX as u64), socket_type(libc::SOCK_STREAM)]])?;
    // Threads of this process only, in the namespaces it has.
    add(
        libc::SYS_clone,
        vec![vec![bits(0, (libc::CLONE_THREAD | NAMESPACES) as u64, libc::CLONE_THREAD as u64)]],
    )?;
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        add(call, vec![vec![bits(2, libc::PROT_EXEC as u64, 0)]])?;
    }
    let own_pid = u64::from(std::process::id());
    // Itself: `abort` asks so.
    add(libc::SYS_tgkill, vec![vec![is(0, own_pid)]])?;
    add(libc::SYS_prlimit64, vec![vec![is(0, 0)], vec![is(0, own_pid)]])?;
    // The indexer steps back behind requests: the calling thread, and no other process.
    add(libc::SYS_setpriority, vec![vec![is(0, 0), is(1, 0)]])?;
    let controls = [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_GET_DUMPABLE, PR_SET_VMA, PR_GET_AUXV];
    add(libc::SYS_prctl, any_of(0, controls.map(|control| control as u64)))?;
    let requests =
        [libc::FIONBIO, libc::FIONREAD, libc::FIOCLEX, libc::TCGETS, libc::TIOCGWINSZ, libc::TIOCOUTQ];
    #[allow(clippy::unnecessary_cast, reason = "an `int` in the C library musl")]
    let mut requests = any_of(1, requests.map(|request| request as u64));
    requests.push(vec![is(1, PIDFD_GET_INFO)]);
    add(libc::SYS_ioctl, requests)?;
    add(libc::SYS_bpf, any_of(0, BPF_COMMANDS))?;

    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    let program = seccomp::compile(rules, SeccompAction::Allow, refuse).map_err(failed)?;
    Ok(seccomp::without_calls_from(NEWER, program))
}

const NAMESPACES: c_int = libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWUTS;

/// TCP and UDP over IPv4 and IPv6. Unix sockets come from the keeper: a new one could knock at the
/// host's other daemons.
fn sockets() -> Vec<Vec<Condition>> {
    let kinds = [(libc::SOCK_STREAM, libc::IPPROTO_TCP), (libc::SOCK_DGRAM, libc::IPPROTO_UDP)];
    let mut sockets = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        for (kind, protocol) in kinds {
            for protocol in [0, protocol] {
                sockets.push(vec![is(0, family as u64), socket_type(kind), is(2, protocol as u64)]);
            }
        }
    }
    sockets
}

/// Argument, mask, and the value under the mask.
type Condition = (u8, u64, u64);

fn is(argument: u8, value: u64) -> Condition {
    (argument, u64::from(u32::MAX), value)
}

fn bits(argument: u8, mask: u64, value: u64) -> Condition {
    (argument, mask, value)
}

/// Beside the type this argument has the flags SOCK_NONBLOCK and SOCK_CLOEXEC.
fn socket_type(kind: c_int) -> Condition {
    bits(1, 0xf, kind as u64)
}

fn any_of<const N: usize>(argument: u8, values: [u64; N]) -> Vec<Vec<Condition>> {
    values.iter().map(|value| vec![is(argument, *value)]).collect()
}

fn rule(conditions: Vec<Condition>) -> Result<SeccompRule, Error> {
    conditions
        .into_iter()
        .map(|(argument, mask, value)| {
            SeccompCondition::new(
                argument,
                // All of these arguments are `int` or smaller than one to the kernel.
                SeccompCmpArgLen::Dword,
                SeccompCmpOp::MaskedEq(mask),
                value,
            )
        })
        .collect::<Result<_, _>>()
        .and_then(SeccompRule::new)
        .map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::refused(
        format!("cannot filter the worker's system calls: {error}"),
        "the kernel must have CONFIG_SECCOMP_FILTER, on x86-64, aarch64 or riscv64; the worker never runs without the filter",
    )
}
