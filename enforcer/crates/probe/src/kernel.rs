//! What else one can ask of the kernel: routes, filters, devices, settings, helpers, other tables of system calls.

use std::ffi::CString;
use std::io::{Error, ErrorKind, Write};
use std::os::fd::AsRawFd;

use crate::host::refused;
use crate::sys::{Fd, check, in_child, outward_link, receive, send, socket};
use crate::{Attempt, Targets, Verdict};

/// RTM_NEWROUTE for 198.51.100.0/24 by the first interface.
pub(crate) fn netlink_route(_: &Targets) -> Attempt {
    let fd = socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
    let index = outward_link().map(|(_, index)| index).unwrap_or(1);
    let mut body = Vec::new();
    // struct rtmsg: AF_INET, /24, table main, protocol static, scope link, unicast
    body.extend([2, 24, 0, 0, 254, 4, 253, 1, 0, 0, 0, 0]);
    body.extend([8, 0, 1, 0, 198, 51, 100, 0]);
    body.extend([8, 0, 4, 0]);
    body.extend(index.to_ne_bytes());
    // REQUEST, ACK, CREATE, REPLACE
    send(fd.0, &message(24, 0x505, &body))?;
    acknowledged("RTM_NEWROUTE", &fd)?;
    Ok(Verdict::Out("changed the routes".to_owned()))
}

/// NFT_MSG_NEWTABLE in a batch of one: who can add a table can take ours away.
pub(crate) fn nft_table(_: &Targets) -> Attempt {
    const NEW: u16 = 0xa00;
    const DELETE: u16 = 0xa02;
    change_table(NEW)?;
    let _nobody_else_has_one_of_this_name = change_table(DELETE);
    Ok(Verdict::Out("made a table of the packet filter".to_owned()))
}

fn change_table(what: u16) -> Result<(), Verdict> {
    const NETLINK_NETFILTER: i32 = 12;
    // REQUEST; with ACK and CREATE.
    const PLAIN: u16 = 1;
    const FULL: u16 = 0x405;
    let fd = socket(libc::AF_NETLINK, libc::SOCK_RAW, NETLINK_NETFILTER)?;
    let mut batch = message(0x10, PLAIN, &[0, 0, 0, 10]);
    // struct nfgenmsg: family inet; NFTA_TABLE_NAME, 10 bytes with the header, padded to 12.
    batch.extend(message(what, FULL, &[1, 0, 0, 0, 10, 0, 1, 0, b'p', b'r', b'o', b'b', b'e', 0, 0, 0]));
    batch.extend(message(0x11, PLAIN, &[0, 0, 0, 10]));
    send(fd.0, &batch)?;
    acknowledged("NFT_MSG_NEWTABLE", &fd)
}

/// A netlink message: length, type, flags, sequence, port.
fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let mut message = (16 + body.len() as u32).to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// The kernel's answer: an error number, zero for yes.
fn acknowledged(call: &str, fd: &Fd) -> Result<(), Verdict> {
    let reply = receive(fd.0, 250);
    let code = reply.get(16..20).and_then(|b| b.try_into().ok()).map_or(-libc::EIO, i32::from_ne_bytes);
    if code == 0 { Ok(()) } else { Err(refused(call, &Error::from_raw_os_error(-code))) }
}

/// Writes what is there already.
pub(crate) fn proc_sys_net(_: &Targets) -> Attempt {
    write_back("/proc/sys/net/ipv4/ip_default_ttl")
}

/// Whoever sets it names a programme that root runs outside of every cgroup.
pub(crate) fn core_pattern(_: &Targets) -> Attempt {
    write_back("/proc/sys/kernel/core_pattern")
}

fn write_back(path: &str) -> Attempt {
    let text = std::fs::read(path).map_err(|e| refused("read", &e))?;
    let mut file = std::fs::OpenOptions::new().write(true).open(path).map_err(|e| refused("open", &e))?;
    file.write_all(&text).map_err(|e| refused("write", &e))?;
    Ok(Verdict::Out(format!("wrote {path}")))
}

/// What a programme writes into such an interface is forwarded, and no cgroup's.
pub(crate) fn tun(_: &Targets) -> Attempt {
    const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
    const IFF_TUN_NO_PI: u16 = 0x1001;
    let file = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    let file = file.map_err(|error| match error.kind() {
        ErrorKind::NotFound => Verdict::Absent("there is no /dev/net/tun".to_owned()),
        _ => refused("open /dev/net/tun", &error),
    })?;
    // struct ifreq: an empty name lets the kernel choose one.
    let mut request = [0u8; 40];
    request[16..18].copy_from_slice(&IFF_TUN_NO_PI.to_ne_bytes());
    // SAFETY: a request of the size that the call takes, which outlives it.
    check("TUNSETIFF", unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, request.as_mut_ptr()) })?;
    Ok(Verdict::Out("made an interface".to_owned()))
}

/// /dev/null under another name, so that nothing comes to harm.
pub(crate) fn mknod(_: &Targets) -> Attempt {
    let path = std::env::temp_dir().join(format!("probe-node-{}", std::process::id()));
    let Ok(name) = CString::new(path.as_os_str().as_encoded_bytes()) else {
        return Err(Verdict::Silent("TMPDIR has a NUL in it".to_owned()));
    };
    // SAFETY: a terminated string.
    check("mknod", unsafe { libc::mknod(name.as_ptr(), libc::S_IFCHR | 0o600, libc::makedev(1, 3)) })?;
    let _made_by_us = std::fs::remove_file(&path);
    Ok(Verdict::Out("made a device node".to_owned()))
}

/// With a text for the helper the kernel starts one, as root, for a key that it does not have.
pub(crate) fn request_key(_: &Targets) -> Attempt {
    let about = format!("probe:{}\0", std::process::id());
    // SAFETY: three terminated strings; no keyring to link to.
    let key = unsafe {
        libc::syscall(libc::SYS_request_key, c"user".as_ptr(), about.as_ptr(), c"hello".as_ptr(), 0)
    };
    match check("request_key", key) {
        Err(refused) => match Error::last_os_error().raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Ok(refused),
            Some(libc::ENOSYS) => Ok(Verdict::Absent(refused.text().to_owned())),
            _ => Ok(Verdict::Out(format!("the kernel asked its helper: {}", refused.text()))),
        },
        Ok(_) => Ok(Verdict::Out("the kernel's helper made a key".to_owned())),
    }
}

/// `struct clone_args`, first version with a cgroup.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// No write to a file of the cgroup file system is needed for it.
pub(crate) fn clone_into_cgroup(to: &Targets) -> Attempt {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let root = std::fs::File::open(to.word("cgroup")?).map_err(|e| refused("open the root cgroup", &e))?;
    let arguments = CloneArgs {
        flags: CLONE_INTO_CGROUP,
        exit_signal: libc::SIGCHLD as u64,
        cgroup: root.as_raw_fd() as u64,
        ..CloneArgs::default()
    };
    // SAFETY: as fork in a process with one thread: the arguments have the kernel's layout, and there is no new stack.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<CloneArgs>()) };
    if pid == 0 {
        // SAFETY: ends the child.
        unsafe { libc::_exit(0) };
    }
    let pid = check("clone3", pid)? as i32;
    // SAFETY: our child, whose status does not matter.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    Ok(Verdict::Out("a child was born in the root cgroup".to_owned()))
}

/// The numbers of that table are others: a filter that does not look at the table lets them pass.
#[cfg(target_arch = "x86_64")]
pub(crate) fn compat_call(_: &Targets) -> Attempt {
    const SOCKET: u64 = 359;
    let ended = in_child(|| {
        let result: u64;
        // SAFETY: socket(AF_VSOCK, SOCK_STREAM, 0) by interrupt, which touches no memory; rbx is put back.
        unsafe {
            std::arch::asm!(
                "xchg rbx, {family}",
                "int 0x80",
                "xchg rbx, {family}",
                family = inout(reg) libc::AF_VSOCK as u64 => _,
                inlateout("rax") SOCKET => result,
                in("rcx") libc::SOCK_STREAM as u64,
                in("rdx") 0u64,
                out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            );
        }
        u8::from((result as i32) < 0)
    })?;
    Ok(match ended {
        Ok(0) => Verdict::Out("made a VSOCK socket".to_owned()),
        Ok(_) => Verdict::Refused("the call fails".to_owned()),
        Err(libc::SIGSEGV) => Verdict::Absent("there is no 32-bit table".to_owned()),
        Err(signal) => Verdict::Refused(format!("ended by signal {signal}")),
    })
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn compat_call(_: &Targets) -> Attempt {
    Ok(Verdict::Absent("not on this processor".to_owned()))
}
