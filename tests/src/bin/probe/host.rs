//! Ways that are no packet: namespaces, cgroups, pins, unix sockets, other processes.

use std::ffi::CString;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::process::ExitCode;
use std::ptr;
use std::time::Duration;

use crate::sys::{Fd, as_bytes, check, outward_link, send, socket};
use crate::{Attempt, BANNER, Stage, Verdict, dgram};

const BPF_MAP_CREATE: i32 = 0;
const BPF_OBJ_PIN: i32 = 6;
const BPF_OBJ_GET: i32 = 7;

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

/// RTM_NEWROUTE for 198.51.100.0/24 by the first interface.
pub(crate) fn netlink_route(_: &Stage) -> Attempt {
    let fd = socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
    let index = outward_link().map(|(_, index)| index).unwrap_or(1);
    let mut message = vec![0u8; 16];
    // struct rtmsg: AF_INET, /24, table main, protocol static, scope link, unicast
    message.extend([2, 24, 0, 0, 254, 4, 253, 1, 0, 0, 0, 0]);
    message.extend([8, 0, 1, 0, 198, 51, 100, 0]);
    message.extend([8, 0, 4, 0]);
    message.extend(index.to_ne_bytes());
    let length = message.len() as u32;
    message[..4].copy_from_slice(&length.to_ne_bytes());
    message[4..6].copy_from_slice(&24u16.to_ne_bytes());
    // REQUEST, ACK, CREATE, REPLACE
    message[6..8].copy_from_slice(&0x505u16.to_ne_bytes());
    send(fd.0, &message)?;
    let reply = crate::sys::receive(fd.0, 250);
    let code = reply.get(16..20).and_then(|b| b.try_into().ok()).map_or(-libc::EIO, i32::from_ne_bytes);
    if code == 0 {
        return Ok(Verdict::Out("changed the routes".to_owned()));
    }
    Ok(Verdict::Refused(format!("RTM_NEWROUTE: {}", std::io::Error::from_raw_os_error(-code))))
}

/// A namespace of one's own, as root in it, and then out.
pub(crate) fn unshare_netns(stage: &Stage) -> Attempt {
    // SAFETY: no pointers.
    check("unshare", unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET) })?;
    dgram::sendto(stage)
}

/// Into the host's namespace, or into that of process 1.
pub(crate) fn setns_host(stage: &Stage) -> Attempt {
    let mut why = String::new();
    for path in [stage.word("netns")?, "/proc/1/ns/net"] {
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error) => {
                why.push_str(&format!("open {path}: {error}; "));
                continue;
            }
        };
        // SAFETY: an open descriptor and a flag.
        match check("setns", unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) }) {
            Ok(_) => return dgram::sendto(stage),
            Err(error) => why.push_str(&format!("{path}: {error}; ")),
        }
    }
    Ok(Verdict::Refused(why))
}

/// Every `cgroup.procs` that can be found, the root's first.
pub(crate) fn cgroup_procs(stage: &Stage) -> Attempt {
    let root = stage.word("cgroup")?;
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

/// Whoever opens a pinned link can detach it. The caller, who may list them, names them all.
pub(crate) fn bpf_pins(stage: &Stage) -> Attempt {
    let mut last = "no pin was named".to_owned();
    for path in stage.word("pins")?.split(',') {
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

pub(crate) fn unix_abstract(stage: &Stage) -> Attempt {
    let name = SocketAddr::from_abstract_name(stage.word("deputies")?).map_err(|e| refused("name", &e))?;
    hear(UnixStream::connect_addr(&name).map_err(|e| refused("connect", &e))?)
}

pub(crate) fn unix_path(stage: &Stage) -> Attempt {
    by_path(stage, "deputy.sock")
}

pub(crate) fn docker_sock(stage: &Stage) -> Attempt {
    by_path(stage, "docker.sock")
}

/// A helper outside hands us a socket that leads out.
pub(crate) fn scm_rights(stage: &Stage) -> Attempt {
    let path = format!("{}/giver.sock", stage.word("deputies")?);
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
    send(fd.0, b"by a socket handed over")?;
    Ok(Verdict::Out("sent on a socket that was handed over".to_owned()))
}

pub(crate) fn ptrace_outside(stage: &Stage) -> Attempt {
    let pid = stage.number("victim")?;
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

pub(crate) fn pidfd_getfd(stage: &Stage) -> Attempt {
    let pid = stage.number("victim")?;
    // SAFETY: no pointers.
    let pidfd = Fd(check("pidfd_open", unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })? as i32);
    let mut last = Verdict::Refused("the victim holds no socket".to_owned());
    for number in 3..12 {
        // SAFETY: no pointers.
        match check("pidfd_getfd", unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.0, number, 0) }) {
            Ok(fd) => {
                let fd = Fd(fd as i32);
                if send(fd.0, b"by a socket taken").is_ok() {
                    return Ok(Verdict::Out(format!("sent on descriptor {number} of process {pid}")));
                }
            }
            Err(error) => last = error,
        }
    }
    Ok(last)
}

fn by_path(stage: &Stage, name: &str) -> Attempt {
    let path = format!("{}/{name}", stage.word("deputies")?);
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

fn refused(call: &str, error: &std::io::Error) -> Verdict {
    Verdict::Refused(format!("{call}: {error}"))
}
