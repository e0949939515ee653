//! Ways that are no packet: namespaces, cgroups, pins, unix sockets, other processes.

use std::ffi::CString;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::process::ExitCode;
use std::ptr;
use std::time::Duration;

use crate::sys::{Fd, as_bytes, check, in_child, send};
use crate::{Attempt, BANNER, Targets, Verdict, dgram};

const BPF_MAP_CREATE: i32 = 0;
const BPF_OBJ_PIN: i32 = 6;
const BPF_OBJ_GET: i32 = 7;
const BPF_LINK_DETACH: i32 = 34;

/// A server of an agent's own on its loopback.
pub(crate) fn serve(rest: &[String]) -> ExitCode {
    let port = rest.first().and_then(|w| w.parse().ok()).unwrap_or(3000);
    let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) else { return ExitCode::from(1) };
    println!("started");
    for mut stream in listener.incoming().flatten() {
        let _whoever = stream.write_all(BANNER.as_bytes());
    }
    ExitCode::SUCCESS
}

/// Makes a map and pins it, so that there is a pin to be opened. For the stage, not for an agent.
pub(crate) fn pin(rest: &[String]) -> ExitCode {
    let Some(Ok(name)) = rest.first().map(|path| CString::new(path.as_str())) else {
        return ExitCode::from(2);
    };
    // An array of one 4-byte value.
    let map = [2u32, 4, 4, 1, 0, 0];
    let (pointer, size) = as_bytes(&map);
    // SAFETY: the attributes have BPF_MAP_CREATE's layout and outlive the call.
    let Ok(fd) =
        check("BPF_MAP_CREATE", unsafe { libc::syscall(libc::SYS_bpf, BPF_MAP_CREATE, pointer, size) })
    else {
        return ExitCode::from(1);
    };
    let attributes = [name.as_ptr() as u64, fd as u64, 0];
    let (pointer, size) = as_bytes(&attributes);
    // SAFETY: the attributes have BPF_OBJ_PIN's layout and outlive the call, as does the name.
    match check("BPF_OBJ_PIN", unsafe { libc::syscall(libc::SYS_bpf, BPF_OBJ_PIN, pointer, size) }) {
        Ok(_) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(1)
        }
    }
}

/// Detaches the pinned links of these paths, which root of the host may. For the stage: a line that holds is taken away.
pub(crate) fn detach(rest: &[String]) -> ExitCode {
    for path in rest {
        let Ok(name) = CString::new(path.as_str()) else { return ExitCode::from(2) };
        let attributes = [name.as_ptr() as u64, 0, 0];
        let (pointer, size) = as_bytes(&attributes);
        // SAFETY: the attributes have BPF_OBJ_GET's layout and outlive the call, as does the name.
        let opened =
            check("BPF_OBJ_GET", unsafe { libc::syscall(libc::SYS_bpf, BPF_OBJ_GET, pointer, size) });
        let detached = opened.and_then(|fd| {
            let link = Fd(fd as i32);
            let attributes = [link.0 as u64];
            let (pointer, size) = as_bytes(&attributes);
            // SAFETY: the attributes have BPF_LINK_DETACH's layout, a descriptor and zeroes, and outlive the call.
            check("BPF_LINK_DETACH", unsafe { libc::syscall(libc::SYS_bpf, BPF_LINK_DETACH, pointer, size) })
        });
        if let Err(why) = detached {
            eprintln!("{path}: {why}");
            return ExitCode::from(1);
        }
    }
    ExitCode::SUCCESS
}

/// A namespace of one's own, as root in it, and then out.
pub(crate) fn unshare_netns(to: &Targets) -> Attempt {
    // SAFETY: no pointers.
    check("unshare", unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET) })?;
    dgram::sendto(to)
}

/// Root in a user namespace has every capability there, and none over the network, which is not of that namespace.
pub(crate) fn unshare_userns_raw(to: &Targets) -> Attempt {
    // SAFETY: no pointers.
    check("unshare", unsafe { libc::unshare(libc::CLONE_NEWUSER) })?;
    crate::raw::icmp_raw(to)
}

/// A programme in a namespace of its own hands its packets to one outside of it, as slirp4netns and pasta do.
pub(crate) fn netns_relay(to: &Targets) -> Attempt {
    let (mut inner, mut outer) = UnixStream::pair().map_err(|e| refused("socketpair", &e))?;
    let data = to.payload("by relay");
    let ended = in_child(|| {
        // SAFETY: no pointers.
        let inside = unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET) } == 0;
        u8::from(!(inside && inner.write_all(&data).is_ok()))
    })?;
    if ended != Ok(0) {
        return Ok(Verdict::Refused("a namespace of one's own cannot be made".to_owned()));
    }
    let mut packet = vec![0; data.len()];
    outer.read_exact(&mut packet).map_err(|e| refused("read", &e))?;
    let fd = dgram::udp(libc::AF_INET)?;
    crate::sys::sendto(&fd, &packet, 0, &crate::sys::in4(to.v4()?, dgram::PORT))?;
    dgram::sent(&fd)
}

/// Into the host's namespace, or into that of process 1.
pub(crate) fn setns_host(to: &Targets) -> Attempt {
    let mut why = String::new();
    for path in [to.word("netns")?, "/proc/1/ns/net"] {
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error) => {
                why.push_str(&format!("open {path}: {error}; "));
                continue;
            }
        };
        // SAFETY: an open descriptor and a flag.
        match check("setns", unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) }) {
            Ok(_) => return dgram::sendto(to),
            Err(error) => why.push_str(&format!("{path}: {error}; ")),
        }
    }
    Ok(Verdict::Refused(why))
}

/// Every `cgroup.procs` that can be found, the root's first.
pub(crate) fn cgroup_procs(to: &Targets) -> Attempt {
    let root = to.word("cgroup")?;
    let mut last = "no cgroup is to be seen".to_owned();
    let below = std::fs::read_dir(root).into_iter().flatten().flatten().map(|e| e.path());
    for dir in std::iter::once(root.into()).chain(below) {
        let path = dir.join("cgroup.procs");
        match std::fs::OpenOptions::new().write(true).open(&path).and_then(|mut f| f.write_all(b"0")) {
            Ok(()) => return Ok(Verdict::Out(format!("moved to {}", dir.display()))),
            Err(error) => last = format!("{}: {error}", path.display()),
        }
    }
    Ok(Verdict::Refused(last))
}

/// Programs at a child cgroup could change what those above decided.
pub(crate) fn cgroup_child(to: &Targets) -> Attempt {
    let own =
        std::fs::read_to_string("/proc/self/cgroup").map_err(|e| refused("read /proc/self/cgroup", &e))?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let child =
        std::path::Path::new(to.word("cgroup")?).join(own).join(format!("probe-{}", std::process::id()));
    std::fs::create_dir(&child).map_err(|e| refused("mkdir", &e))?;
    let _empty = std::fs::remove_dir(&child);
    Ok(Verdict::Out(format!("made {}", child.display())))
}

/// Whoever opens a pinned link can detach it. The caller, who may list them, names them all.
pub(crate) fn bpf_pins(to: &Targets) -> Attempt {
    let mut last = "no pin was named".to_owned();
    for path in to.word("pins")?.split(',') {
        let Ok(name) = CString::new(path) else { continue };
        let attributes = [name.as_ptr() as u64, 0, 0];
        let (pointer, size) = as_bytes(&attributes);
        // SAFETY: the attributes have BPF_OBJ_GET's layout and outlive the call, as does the name.
        match check("BPF_OBJ_GET", unsafe { libc::syscall(libc::SYS_bpf, BPF_OBJ_GET, pointer, size) }) {
            Ok(fd) => {
                drop(Fd(fd as i32));
                return Ok(Verdict::Out(format!("opened {path}")));
            }
            Err(error) => last = format!("{path}: {error}"),
        }
    }
    Ok(Verdict::Refused(last))
}

pub(crate) fn unix_abstract(to: &Targets) -> Attempt {
    let name = SocketAddr::from_abstract_name(to.word("deputies")?).map_err(|e| refused("name", &e))?;
    hear(UnixStream::connect_addr(&name).map_err(|e| refused("connect", &e))?)
}

pub(crate) fn unix_path(to: &Targets) -> Attempt {
    by_path(to, "deputy.sock")
}

pub(crate) fn unix_dgram(to: &Targets) -> Attempt {
    let path = format!("{}/deputy.dgram", to.word("deputies")?);
    let socket = UnixDatagram::unbound().map_err(|e| refused("socket", &e))?;
    socket.send_to(b"do this for me", path).map_err(|e| refused("sendto", &e))?;
    Ok(Verdict::Out("a service of the host took it".to_owned()))
}

pub(crate) fn docker_sock(to: &Targets) -> Attempt {
    by_path(to, "docker.sock")
}

/// A helper outside hands us a socket that leads out.
pub(crate) fn scm_rights(to: &Targets) -> Attempt {
    let path = format!("{}/giver.sock", to.word("deputies")?);
    let stream = UnixStream::connect(&path).map_err(|e| refused("connect", &e))?;
    let mut space = [0u64; 8];
    let mut byte = [0u8; 1];
    let mut iov = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: all-zero is a valid message header.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    message.msg_control = space.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&space) as _;
    // SAFETY: the header's buffers are ours and outlive the call.
    check("recvmsg", unsafe { libc::recvmsg(stream.as_raw_fd(), &raw mut message, 0) } as i64)?;
    if message.msg_controllen as usize <= size_of::<libc::cmsghdr>() {
        return Ok(Verdict::Refused("the message came without a descriptor".to_owned()));
    }
    // The descriptor follows the 16-byte header.
    let fd = Fd(space[2] as u32 as i32);
    send(fd.0, &to.payload("by a socket handed over"))?;
    Ok(Verdict::Out("sent on a socket that was handed over".to_owned()))
}

pub(crate) fn ptrace_outside(to: &Targets) -> Attempt {
    let pid: i32 = to.parsed("victim")?;
    // SAFETY: attaching takes no pointers.
    check("PTRACE_ATTACH", unsafe {
        libc::ptrace(libc::PTRACE_ATTACH, pid, ptr::null_mut::<u8>(), ptr::null_mut::<u8>())
    })?;
    // SAFETY: as above; the victim must run on for the next probe.
    unsafe {
        libc::waitpid(pid, ptr::null_mut(), 0);
        libc::ptrace(libc::PTRACE_DETACH, pid, ptr::null_mut::<u8>(), ptr::null_mut::<u8>());
    }
    Ok(Verdict::Out(format!("took hold of process {pid}")))
}

/// Asked for an address where nothing is: the kernel looks at the right first.
pub(crate) fn process_vm(to: &Targets) -> Attempt {
    let pid: i32 = to.parsed("victim")?;
    let mut byte = [0u8; 1];
    let here = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let there = libc::iovec { iov_base: ptr::without_provenance_mut(4096), iov_len: 1 };
    // SAFETY: one byte of ours, and an address that means something in the other process only.
    let read = unsafe { libc::process_vm_readv(pid, &raw const here, 1, &raw const there, 1, 0) };
    match check("process_vm_readv", read as i64) {
        Err(_) if std::io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT) => {
            Ok(Verdict::Out(format!("may read the memory of process {pid}")))
        }
        Err(refused) => Ok(refused),
        Ok(_) => Ok(Verdict::Out(format!("read the memory of process {pid}"))),
    }
}

pub(crate) fn proc_mem(to: &Targets) -> Attempt {
    let path = format!("/proc/{}/mem", to.word("victim")?);
    std::fs::OpenOptions::new().read(true).write(true).open(&path).map_err(|e| refused("open", &e))?;
    Ok(Verdict::Out(format!("opened {path}")))
}

/// Signal 0: only whether one might.
pub(crate) fn signal_outside(to: &Targets) -> Attempt {
    let pid: i32 = to.parsed("victim")?;
    // SAFETY: no pointers.
    check("kill", unsafe { libc::kill(pid, 0) })?;
    Ok(Verdict::Out(format!("may signal process {pid}")))
}

pub(crate) fn pidfd_getfd(to: &Targets) -> Attempt {
    let pid: i32 = to.parsed("victim")?;
    // SAFETY: no pointers.
    let pidfd = Fd(check("pidfd_open", unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })? as i32);
    let mut last = Verdict::Refused("the victim holds no socket".to_owned());
    for number in 3..12 {
        // SAFETY: no pointers.
        match check("pidfd_getfd", unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.0, number, 0) }) {
            Ok(fd) => {
                let fd = Fd(fd as i32);
                if send(fd.0, &to.payload("by a socket taken")).is_ok() {
                    return Ok(Verdict::Out(format!("sent on descriptor {number} of process {pid}")));
                }
            }
            Err(error) => last = error,
        }
    }
    Ok(last)
}

fn by_path(to: &Targets, name: &str) -> Attempt {
    let path = format!("{}/{name}", to.word("deputies")?);
    hear(UnixStream::connect(path).map_err(|e| refused("connect", &e))?)
}

fn hear(mut stream: UnixStream) -> Attempt {
    let mut text = String::new();
    let _no_limit_no_harm = stream.set_read_timeout(Some(Duration::from_millis(500)));
    let _partial = stream.read_to_string(&mut text);
    if text.contains(BANNER) {
        return Ok(Verdict::Out("heard a service of the host".to_owned()));
    }
    Ok(Verdict::Silent(format!("connected, heard {text:?}")))
}

pub(crate) fn refused(call: &str, error: &std::io::Error) -> Verdict {
    Verdict::Refused(format!("{call}: {error}"))
}
