//! The system calls, each with its error as a verdict.

use std::ffi::CStr;
use std::io::Error;
use std::mem::size_of;
use std::net::{Ipv4Addr, Ipv6Addr};

use libc::{c_int, c_void, sockaddr_in, sockaddr_in6, socklen_t};

use crate::Verdict;

/// A descriptor, closed at the end.
pub(crate) struct Fd(pub(crate) c_int);

impl Drop for Fd {
    fn drop(&mut self) {
        // SAFETY: the number came from the kernel and is closed once.
        unsafe { libc::close(self.0) };
    }
}

/// A negative return is a refusal that names the call.
pub(crate) fn check(call: &str, result: impl Into<i64>) -> Result<i64, Verdict> {
    let result = result.into();
    if result < 0 { Err(Verdict::Refused(format!("{call}: {}", Error::last_os_error()))) } else { Ok(result) }
}

/// A socket that this kernel may have no code for.
pub(crate) fn rare_socket(family: c_int, kind: c_int, protocol: c_int) -> Result<Fd, Verdict> {
    socket(family, kind, protocol).map_err(|refused| match Error::last_os_error().raw_os_error() {
        Some(libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT | libc::ESOCKTNOSUPPORT) => {
            Verdict::Absent(refused.text().to_owned())
        }
        _ => refused,
    })
}

/// A child of this process. Its descriptors are those of the moment it was started.
pub(crate) struct Child(c_int);

impl Child {
    /// For processes with one thread.
    pub(crate) fn start(work: impl FnOnce() -> u8) -> Result<Self, Verdict> {
        // SAFETY: this process has one thread, so the child may do whatever it could do.
        let pid = check("fork", unsafe { libc::fork() })? as c_int;
        if pid == 0 {
            let code = work();
            // SAFETY: ends the child without running what belongs to the parent.
            unsafe { libc::_exit(i32::from(code)) };
        }
        Ok(Child(pid))
    }

    /// Its exit code, or the signal that ended it.
    pub(crate) fn wait(self) -> Result<Result<i32, i32>, Verdict> {
        let mut status = 0;
        // SAFETY: our child, and a place for its status.
        check("waitpid", unsafe { libc::waitpid(self.0, &raw mut status, 0) })?;
        Ok(if libc::WIFEXITED(status) { Ok(libc::WEXITSTATUS(status)) } else { Err(libc::WTERMSIG(status)) })
    }
}

/// Runs `work` in a child and waits for it.
pub(crate) fn in_child(work: impl FnOnce() -> u8) -> Result<Result<i32, i32>, Verdict> {
    Child::start(work)?.wait()
}

pub(crate) fn socket(family: c_int, kind: c_int, protocol: c_int) -> Result<Fd, Verdict> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) };
    check(&format!("socket({family},{kind},{protocol})"), fd)?;
    Ok(Fd(fd))
}

/// Anything with a fixed layout that the kernel takes by address and length.
pub(crate) fn as_bytes<T>(value: &T) -> (*const c_void, socklen_t) {
    (std::ptr::from_ref(value).cast(), size_of::<T>() as socklen_t)
}

pub(crate) fn in4(address: Ipv4Addr, port: u16) -> sockaddr_in {
    sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(address).to_be() },
        sin_zero: [0; 8],
    }
}

pub(crate) fn in6(address: Ipv6Addr, port: u16) -> sockaddr_in6 {
    sockaddr_in6 {
        sin6_family: libc::AF_INET6 as u16,
        sin6_port: port.to_be(),
        sin6_flowinfo: 0,
        sin6_addr: libc::in6_addr { s6_addr: address.octets() },
        sin6_scope_id: 0,
    }
}

/// The same with the interface that a link-local address needs.
pub(crate) fn in6_on(address: Ipv6Addr, port: u16, link: u32) -> sockaddr_in6 {
    sockaddr_in6 { sin6_scope_id: link, ..in6(address, port) }
}

pub(crate) fn connect<T>(fd: &Fd, address: &T) -> Result<(), Verdict> {
    let (pointer, length) = as_bytes(address);
    // SAFETY: pointer and length describe `address`, which outlives the call.
    check("connect", unsafe { libc::connect(fd.0, pointer.cast(), length) }).map(drop)
}

pub(crate) fn bind<T>(fd: &Fd, address: &T) -> Result<(), Verdict> {
    let (pointer, length) = as_bytes(address);
    // SAFETY: pointer and length describe `address`, which outlives the call.
    check("bind", unsafe { libc::bind(fd.0, pointer.cast(), length) }).map(drop)
}

pub(crate) fn sendto<T>(fd: &Fd, data: &[u8], flags: c_int, address: &T) -> Result<(), Verdict> {
    let (pointer, length) = as_bytes(address);
    // SAFETY: both buffers are borrowed for the call, with their own lengths.
    let sent = unsafe { libc::sendto(fd.0, data.as_ptr().cast(), data.len(), flags, pointer.cast(), length) };
    check("sendto", sent as i64).map(drop)
}

/// One message with one control message: its level, its type, its data.
pub(crate) fn sendmsg<T, C>(
    fd: &Fd,
    data: &[u8],
    address: &T,
    beside: &(c_int, c_int, C),
) -> Result<(), Verdict> {
    let (level, kind, content) = beside;
    let mut space = [0u64; 16];
    assert!(size_of::<C>() + 32 <= size_of_val(&space), "the buffer is for small control messages");
    let mut iov = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    let (name, length) = as_bytes(address);
    // SAFETY: all-zero is a valid message header.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = name.cast_mut();
    message.msg_namelen = length;
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    message.msg_control = space.as_mut_ptr().cast();
    // SAFETY: the macros compute with numbers, and point into `space`, which has room (asserted above).
    unsafe {
        message.msg_controllen = libc::CMSG_SPACE(size_of::<C>() as u32) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = *level;
        (*header).cmsg_type = *kind;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<C>() as u32) as _;
        std::ptr::copy_nonoverlapping(
            std::ptr::from_ref(content).cast::<u8>(),
            libc::CMSG_DATA(header),
            size_of::<C>(),
        );
    }
    // SAFETY: everything the header points to lives until the call has returned.
    let sent = unsafe { libc::sendmsg(fd.0, &raw const message, libc::MSG_NOSIGNAL) };
    check("sendmsg", sent as i64).map(drop)
}

pub(crate) fn send(fd: c_int, data: &[u8]) -> Result<(), Verdict> {
    // SAFETY: the buffer is borrowed for the call.
    let send = || unsafe { libc::send(fd, data.as_ptr().cast(), data.len(), libc::MSG_NOSIGNAL) };
    let mut sent = send();
    if sent < 0 && Error::last_os_error().raw_os_error() == Some(libc::ECONNREFUSED) {
        // What an earlier datagram was answered, not this one.
        sent = send();
    }
    check("send", sent as i64).map(drop)
}

pub(crate) fn setsockopt<T>(fd: &Fd, level: c_int, name: c_int, value: &T) -> Result<(), Verdict> {
    let (pointer, length) = as_bytes(value);
    // SAFETY: pointer and length describe `value`, which outlives the call.
    let result = unsafe { libc::setsockopt(fd.0, level, name, pointer, length) };
    check(&format!("setsockopt({level},{name})"), result).map(drop)
}

/// Reads what comes within the time; empty when nothing does.
pub(crate) fn receive(fd: c_int, wait_ms: c_int) -> Vec<u8> {
    let mut buffer = vec![0; 4096];
    if !wait(fd, libc::POLLIN, wait_ms) {
        return Vec::new();
    }
    // SAFETY: the buffer is ours and its length is given.
    let got = unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT) };
    buffer.truncate(usize::try_from(got).unwrap_or(0));
    buffer
}

pub(crate) fn wait(fd: c_int, events: i16, wait_ms: c_int) -> bool {
    let mut poll = libc::pollfd { fd, events, revents: 0 };
    // SAFETY: one pollfd, and the count says one.
    unsafe { libc::poll(&raw mut poll, 1, wait_ms) == 1 }
}

/// The first interface that is not loopback.
pub(crate) fn outward_link() -> Result<(String, u32), Verdict> {
    for index in 1..64 {
        let mut name = [0; libc::IF_NAMESIZE];
        // SAFETY: the buffer has the size the call asks for.
        if unsafe { libc::if_indextoname(index, name.as_mut_ptr()) }.is_null() {
            continue;
        }
        // SAFETY: the call succeeded, so the buffer holds a terminated string.
        let text = unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned();
        if text != "lo" {
            return Ok((text, index));
        }
    }
    Err(Verdict::Refused("there is no interface but loopback".to_owned()))
}
