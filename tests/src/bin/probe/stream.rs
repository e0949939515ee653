//! TCP in every spelling. Success is the banner of the attacker, who speaks first.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::sys::{
    Fd, as_bytes, bind, check, connect, in4, in6, outward_link, receive, send, setsockopt, socket, wait,
};
use crate::{Attempt, BANNER, Stage, Verdict};

/// A veth pair answers in microseconds; the rest is for a busy machine.
const ANSWER_MS: i32 = 700;
const TCP_FASTOPEN_CONNECT: i32 = 30;
const IPPROTO_MPTCP: i32 = 262;
const INJECTOR: u16 = 923;

pub(crate) fn tcp4(stage: &Stage) -> Attempt {
    plain4(stage.v4()?, 443)
}

pub(crate) fn tcp6(stage: &Stage) -> Attempt {
    let fd = tcp(libc::AF_INET6)?;
    go(&fd, &in6(stage.v6()?, 443))?;
    heard(&fd)
}

pub(crate) fn mapped(stage: &Stage) -> Attempt {
    let fd = tcp(libc::AF_INET6)?;
    go(&fd, &in6(stage.v4()?.to_ipv6_mapped(), 443))?;
    heard(&fd)
}

pub(crate) fn other_port(stage: &Stage) -> Attempt {
    plain4(stage.v4()?, 8443)
}

pub(crate) fn dot(stage: &Stage) -> Attempt {
    plain4(stage.v4()?, 853)
}

pub(crate) fn dns_tcp(stage: &Stage) -> Attempt {
    plain4(stage.v4()?, 53)
}

pub(crate) fn host_loopback(_: &Stage) -> Attempt {
    plain4(Ipv4Addr::LOCALHOST, 5432)
}

pub(crate) fn host_address(stage: &Stage) -> Attempt {
    plain4(stage.word("host")?.parse().map_err(|e| Verdict::Silent(format!("host: {e}")))?, 5433)
}

/// Another agent's own server, as `probe serve 3000` is one.
pub(crate) fn agent_loopback(_: &Stage) -> Attempt {
    plain4(Ipv4Addr::LOCALHOST, 3000)
}

pub(crate) fn bound_source(stage: &Stage) -> Attempt {
    let fd = tcp(libc::AF_INET)?;
    bind(&fd, &in4(Ipv4Addr::UNSPECIFIED, 0))?;
    go(&fd, &in4(stage.v4()?, 22))?;
    heard(&fd)
}

/// Connect, dissolve the association, connect again: is the second one seen?
pub(crate) fn after_unspec(stage: &Stage) -> Attempt {
    let fd = tcp(libc::AF_INET)?;
    let _first = go(&fd, &in4(stage.v4()?, 80));
    let mut nowhere = in4(Ipv4Addr::UNSPECIFIED, 0);
    nowhere.sin_family = libc::AF_UNSPEC as u16;
    connect(&fd, &nowhere)?;
    go(&fd, &in4(stage.v4()?, 443))?;
    heard(&fd)
}

pub(crate) fn fastopen_sendto(stage: &Stage) -> Attempt {
    let fd = tcp(libc::AF_INET)?;
    match crate::sys::sendto(&fd, b"hello", libc::MSG_FASTOPEN | libc::MSG_NOSIGNAL, &in4(stage.v4()?, 443)) {
        Err(Verdict::Refused(why)) if why.contains("os error 115") => {}
        other => other?,
    }
    heard(&fd)
}

pub(crate) fn fastopen_connect(stage: &Stage) -> Attempt {
    let fd = tcp(libc::AF_INET)?;
    setsockopt(&fd, libc::IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &1i32)?;
    go(&fd, &in4(stage.v4()?, 443))?;
    let _may_be_in_progress = send(fd.0, b"hello");
    heard(&fd)
}

pub(crate) fn mptcp(stage: &Stage) -> Attempt {
    let fd = socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, IPPROTO_MPTCP)?;
    go(&fd, &in4(stage.v4()?, 443))?;
    heard(&fd)
}

/// Loose source route: the SYN goes to the first hop whatever the destination says.
pub(crate) fn lsrr(stage: &Stage) -> Attempt {
    let fd = tcp(libc::AF_INET)?;
    setsockopt(&fd, libc::IPPROTO_IP, libc::IP_OPTIONS, &loose_route(stage.v4()?))?;
    go(&fd, &in4(Ipv4Addr::new(198, 51, 100, 7), 443))?;
    heard(&fd)
}

pub(crate) fn loose_route(hop: Ipv4Addr) -> [u8; 12] {
    let [a, b, c, d] = hop.octets();
    // NOP, type 131, length 11, pointer 4, one hop and room for the final destination.
    [1, 131, 11, 4, a, b, c, d, 0, 0, 0, 0]
}

/// Segment routing header (type 4) with the attacker as the first segment.
pub(crate) fn rthdr(stage: &Stage) -> Attempt {
    let fd = tcp(libc::AF_INET6)?;
    let mut header = [0u8; 40];
    // next header, length in units of 8, type, segments left, last entry
    header[1..5].copy_from_slice(&[4, 4, 1, 1]);
    header[24..40].copy_from_slice(&stage.v6()?.octets());
    setsockopt(&fd, libc::IPPROTO_IPV6, libc::IPV6_RTHDR, &header)?;
    go(&fd, &in6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7), 443))?;
    heard(&fd)
}

pub(crate) fn bindtodevice(stage: &Stage) -> Attempt {
    let fd = tcp(libc::AF_INET)?;
    let (link, _) = outward_link()?;
    // SAFETY: the buffer is the name's own, with its length.
    let result = unsafe {
        libc::setsockopt(
            fd.0,
            libc::SOL_SOCKET,
            libc::SO_BINDTODEVICE,
            link.as_ptr().cast(),
            link.len() as u32,
        )
    };
    check("SO_BINDTODEVICE", result)?;
    go(&fd, &in4(stage.v4()?, 443))?;
    heard(&fd)
}

/// The reply must be the metadata service's own, not a refusal in HTTP.
pub(crate) fn metadata(_: &Stage) -> Attempt {
    let fd = tcp(libc::AF_INET)?;
    go(&fd, &in4(Ipv4Addr::new(169, 254, 169, 254), 80))?;
    let _may_be_closed = send(fd.0, b"GET /latest/meta-data/ HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n");
    heard(&fd)
}

/// To the injector itself, not by way of a redirect: no record says who asks for what.
pub(crate) fn injector_direct(stage: &Stage) -> Attempt {
    let fd = tcp(libc::AF_INET)?;
    go(&fd, &in4(Ipv4Addr::LOCALHOST, INJECTOR))?;
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", stage.word("name")?);
    send(fd.0, request.as_bytes())?;
    let reply = String::from_utf8_lossy(&receive(fd.0, ANSWER_MS)).into_owned();
    if reply.starts_with("HTTP/1.1 2") {
        Ok(Verdict::Out(reply))
    } else {
        Ok(Verdict::Refused(format!("the injector says {reply:?}")))
    }
}

/// With the port in hand one would receive what others send to the injector.
pub(crate) fn injector_bind(_: &Stage) -> Attempt {
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

fn tcp(family: i32) -> Result<Fd, Verdict> {
    socket(family, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, libc::IPPROTO_TCP)
}

/// Connects without waiting for ever.
fn go<T>(fd: &Fd, address: &T) -> Result<(), Verdict> {
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
fn heard(fd: &Fd) -> Attempt {
    let reply = receive(fd.0, ANSWER_MS);
    let text = String::from_utf8_lossy(&reply);
    if text.contains(BANNER) {
        Ok(Verdict::Out(format!("heard {text:?}")))
    } else {
        Ok(Verdict::Silent(format!("connected, heard {text:?}")))
    }
}
