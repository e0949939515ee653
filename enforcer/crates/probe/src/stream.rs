//! TCP in every spelling. Success is the banner of the attacker, who speaks first.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::sys::{
    Fd, as_bytes, bind, check, connect, in4, in6, in6_on, outward_link, receive, send, setsockopt, socket,
    wait,
};
use crate::{Attempt, BANNER, Targets, Verdict};

/// A veth pair answers in microseconds; the rest is for a busy machine.
const ANSWER_MS: i32 = 700;
const TCP_FASTOPEN_CONNECT: i32 = 30;
const IPPROTO_MPTCP: i32 = 262;
const INJECTOR: u16 = 923;
/// Where `listen-inbound` waits.
const INBOUND: u16 = 7001;

pub(crate) fn tcp4(to: &Targets) -> Attempt {
    plain4(to.v4()?, 443)
}

pub(crate) fn tcp6(to: &Targets) -> Attempt {
    let fd = tcp(libc::AF_INET6)?;
    go(&fd, &in6(to.v6()?, 443))?;
    heard(&fd)
}

pub(crate) fn mapped(to: &Targets) -> Attempt {
    let fd = tcp(libc::AF_INET6)?;
    go(&fd, &in6(to.v4()?.to_ipv6_mapped(), 443))?;
    heard(&fd)
}

/// No route is needed for a neighbour: the scope says which link.
pub(crate) fn link_local(to: &Targets) -> Attempt {
    let (_, index) = outward_link()?;
    let fd = tcp(libc::AF_INET6)?;
    go(&fd, &in6_on(to.parsed("ll6")?, 443, index))?;
    heard(&fd)
}

pub(crate) fn other_port(to: &Targets) -> Attempt {
    plain4(to.v4()?, 8443)
}

pub(crate) fn dot(to: &Targets) -> Attempt {
    plain4(to.v4()?, 853)
}

pub(crate) fn dns_tcp(to: &Targets) -> Attempt {
    plain4(to.v4()?, 53)
}

pub(crate) fn host_loopback(to: &Targets) -> Attempt {
    plain4(Ipv4Addr::LOCALHOST, to.port("loopback", 5432)?)
}

pub(crate) fn host_address(to: &Targets) -> Attempt {
    plain4(to.parsed("host")?, to.port("loopback", 5433)?)
}

/// The kernel takes no address for one of its own.
pub(crate) fn host_unspecified(to: &Targets) -> Attempt {
    let port = to.port("loopback", 5433)?;
    let fd = tcp(libc::AF_INET6)?;
    go(&fd, &in6(Ipv4Addr::UNSPECIFIED.to_ipv6_mapped(), port))?;
    if let Ok(out @ Verdict::Out(_)) = heard(&fd) {
        return Ok(out);
    }
    plain4(Ipv4Addr::UNSPECIFIED, port)
}

/// Somebody outside knocks at this port all the time.
pub(crate) fn listen_inbound(_: &Targets) -> Attempt {
    let fd = tcp(libc::AF_INET)?;
    setsockopt(&fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, &1i32)?;
    bind(&fd, &in4(Ipv4Addr::UNSPECIFIED, INBOUND))?;
    // SAFETY: no pointers.
    check("listen", unsafe { libc::listen(fd.0, 8) })?;
    if !wait(fd.0, libc::POLLIN, 2500) {
        return Ok(Verdict::Silent("nobody outside gets here".to_owned()));
    }
    // SAFETY: null pointers: who it is does not matter.
    let stream =
        unsafe { libc::accept4(fd.0, std::ptr::null_mut(), std::ptr::null_mut(), libc::SOCK_CLOEXEC) };
    let stream = Fd(check("accept", stream)? as i32);
    send(stream.0, b"to whoever is outside")?;
    Ok(Verdict::Out("somebody outside connected".to_owned()))
}

/// Another agent's own server, as `probe serve 3000` is one.
pub(crate) fn agent_loopback(_: &Targets) -> Attempt {
    plain4(Ipv4Addr::LOCALHOST, 3000)
}

pub(crate) fn bound_source(to: &Targets) -> Attempt {
    let fd = tcp(libc::AF_INET)?;
    bind(&fd, &in4(Ipv4Addr::UNSPECIFIED, 0))?;
    go(&fd, &in4(to.v4()?, 22))?;
    heard(&fd)
}

/// Connect, dissolve the association, connect again: is the second one seen?
pub(crate) fn after_unspec(to: &Targets) -> Attempt {
    let fd = tcp(libc::AF_INET)?;
    let _first = go(&fd, &in4(to.v4()?, 80));
    let mut nowhere = in4(Ipv4Addr::UNSPECIFIED, 0);
    nowhere.sin_family = libc::AF_UNSPEC as u16;
    connect(&fd, &nowhere)?;
    go(&fd, &in4(to.v4()?, 443))?;
    heard(&fd)
}

pub(crate) fn fastopen_sendto(to: &Targets) -> Attempt {
    let fd = tcp(libc::AF_INET)?;
    match crate::sys::sendto(&fd, b"hello", libc::MSG_FASTOPEN | libc::MSG_NOSIGNAL, &in4(to.v4()?, 443)) {
        Err(Verdict::Refused(why)) if why.contains("os error 115") => {}
        other => other?,
    }
    heard(&fd)
}

pub(crate) fn fastopen_connect(to: &Targets) -> Attempt {
    let fd = tcp(libc::AF_INET)?;
    setsockopt(&fd, libc::IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &1i32)?;
    go(&fd, &in4(to.v4()?, 443))?;
    let _may_be_in_progress = send(fd.0, b"hello");
    heard(&fd)
}

pub(crate) fn mptcp(to: &Targets) -> Attempt {
    let fd = socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, IPPROTO_MPTCP)?;
    go(&fd, &in4(to.v4()?, 443))?;
    heard(&fd)
}

/// The reply must be the metadata service's own, not a refusal in HTTP.
pub(crate) fn metadata(_: &Targets) -> Attempt {
    plain4(Ipv4Addr::new(169, 254, 169, 254), 80)
}

pub(crate) fn metadata6(_: &Targets) -> Attempt {
    let fd = tcp(libc::AF_INET6)?;
    go(&fd, &in6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), 80))?;
    heard(&fd)
}

pub(crate) fn metadata_azure(_: &Targets) -> Attempt {
    plain4(Ipv4Addr::new(168, 63, 129, 16), 80)
}

/// To the injector itself, not by way of a redirect: no record says who asks for what.
pub(crate) fn injector_direct(to: &Targets) -> Attempt {
    let fd = tcp(libc::AF_INET)?;
    go(&fd, &in4(Ipv4Addr::LOCALHOST, INJECTOR))?;
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", to.word("name")?);
    send(fd.0, request.as_bytes())?;
    let reply = String::from_utf8_lossy(&receive(fd.0, ANSWER_MS)).into_owned();
    if reply.starts_with("HTTP/1.1 2") {
        Ok(Verdict::Out(reply))
    } else {
        Ok(Verdict::Refused(format!("the injector says {reply:?}")))
    }
}

/// With the port in hand one would receive what others send to the injector.
pub(crate) fn injector_bind(_: &Targets) -> Attempt {
    let fd = tcp(libc::AF_INET)?;
    setsockopt(&fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, &1i32)?;
    bind(&fd, &in4(Ipv4Addr::UNSPECIFIED, INJECTOR))?;
    Ok(Verdict::Out(format!("bound port {INJECTOR}")))
}

fn plain4(address: Ipv4Addr, port: u16) -> Attempt {
    let fd = tcp(libc::AF_INET)?;
    go(&fd, &in4(address, port))?;
    heard(&fd)
}

pub(crate) fn tcp(family: i32) -> Result<Fd, Verdict> {
    socket(family, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, libc::IPPROTO_TCP)
}

/// Connects without waiting for ever.
pub(crate) fn go<T>(fd: &Fd, address: &T) -> Result<(), Verdict> {
    let (pointer, length) = as_bytes(address);
    // SAFETY: pointer and length describe `address`, which outlives the call.
    let result = unsafe { libc::connect(fd.0, pointer.cast(), length) };
    if result < 0 && std::io::Error::last_os_error().raw_os_error() != Some(libc::EINPROGRESS) {
        check("connect", result)?;
    }
    if !wait(fd.0, libc::POLLOUT, ANSWER_MS) {
        return Err(Verdict::Silent("the connection is not established".to_owned()));
    }
    let (mut error, mut size) = (0i32, 4u32);
    // SAFETY: an int and its size, as SO_ERROR wants.
    unsafe {
        libc::getsockopt(fd.0, libc::SOL_SOCKET, libc::SO_ERROR, (&raw mut error).cast(), &raw mut size);
    }
    match error {
        0 => Ok(()),
        code => Err(Verdict::Refused(format!("connect: {}", std::io::Error::from_raw_os_error(code)))),
    }
}

/// A connection proves nothing, it may lead to the injector: the attacker's own words do.
pub(crate) fn heard(fd: &Fd) -> Attempt {
    let reply = receive(fd.0, ANSWER_MS);
    let text = String::from_utf8_lossy(&reply);
    if text.contains(BANNER) {
        Ok(Verdict::Out(format!("heard {text:?}")))
    } else {
        Ok(Verdict::Silent(format!("connected, heard {text:?}")))
    }
}
