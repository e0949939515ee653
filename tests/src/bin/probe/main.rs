//! Tries to get out, one way at a time: `probe NAME [KEY=VALUE…]`, or `probe loop SECONDS NAME,NAME…`.
//!
//! Exit code 0: something got out, or was accepted by the kernel on its way out. 1: refused.
//! 3: no answer. 2: wrong usage. The packet counter outside has the last word, not this programme.
//! It uses libc alone, so that it can do what a hostile programme would.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a programme for tests that speaks to its caller"
)]

mod dgram;
mod host;
mod raw;
mod stream;
mod sys;
mod uring;

use std::collections::HashMap;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What became of an attempt.
pub(crate) enum Verdict {
    Out(String),
    Refused(String),
    Silent(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Out(why) => write!(f, "GOT OUT: {why}"),
            Verdict::Refused(why) => write!(f, "refused: {why}"),
            Verdict::Silent(why) => write!(f, "no answer: {why}"),
        }
    }
}

/// An early end of an attempt is a verdict, too.
pub(crate) type Attempt = Result<Verdict, Verdict>;

/// What the caller told us about the stage.
pub(crate) struct Stage {
    words: HashMap<String, String>,
}

impl Stage {
    pub(crate) fn word(&self, key: &str) -> Result<&str, Verdict> {
        self.words.get(key).map(String::as_str).ok_or_else(|| Verdict::Silent(format!("needs {key}=…")))
    }

    pub(crate) fn v4(&self) -> Result<Ipv4Addr, Verdict> {
        self.word("v4")?.parse().map_err(|e| Verdict::Silent(format!("v4: {e}")))
    }

    pub(crate) fn v6(&self) -> Result<Ipv6Addr, Verdict> {
        self.word("v6")?.parse().map_err(|e| Verdict::Silent(format!("v6: {e}")))
    }

    pub(crate) fn number(&self, key: &str) -> Result<i32, Verdict> {
        self.word(key)?.parse().map_err(|e| Verdict::Silent(format!("{key}: {e}")))
    }
}

/// What everything says that should be out of reach.
pub(crate) const BANNER: &str = "OUTSIDE-THE-FENCE";

type Probe = (&'static str, fn(&Stage) -> Attempt);

const PROBES: &[Probe] = &[
    ("tcp4", stream::tcp4),
    ("tcp6", stream::tcp6),
    ("tcp4-mapped", stream::mapped),
    ("tcp-other-port", stream::other_port),
    ("tcp-bound-source", stream::bound_source),
    ("tcp-after-unspec", stream::after_unspec),
    ("fastopen-sendto", stream::fastopen_sendto),
    ("fastopen-connect", stream::fastopen_connect),
    ("mptcp", stream::mptcp),
    ("lsrr", stream::lsrr),
    ("rthdr", stream::rthdr),
    ("bindtodevice", stream::bindtodevice),
    ("dot-853", stream::dot),
    ("dns-tcp", stream::dns_tcp),
    ("metadata", stream::metadata),
    ("host-loopback", stream::host_loopback),
    ("host-address", stream::host_address),
    ("agent-loopback", stream::agent_loopback),
    ("injector-direct", stream::injector_direct),
    ("injector-bind", stream::injector_bind),
    ("udp-connect", dgram::connect),
    ("udp-sendto", dgram::sendto),
    ("udp-sendmmsg", dgram::sendmmsg),
    ("udp-gso", dgram::gso),
    ("udp6", dgram::udp6),
    ("udp6-mapped", dgram::mapped),
    ("udp-unspec", dgram::unspec),
    ("udp-lsrr", dgram::lsrr),
    ("udplite", dgram::udplite),
    ("quic-443", dgram::quic),
    ("dns-tunnel", dgram::dns_tunnel),
    ("multicast", dgram::multicast),
    ("broadcast", dgram::broadcast),
    ("igmp-join", dgram::igmp_join),
    ("mld-join", dgram::mld_join),
    ("so-mark", dgram::so_mark),
    ("inherited-fd", dgram::inherited_fd),
    ("inherited-stdin", dgram::inherited_stdin),
    ("icmp-ping-dgram", raw::ping_dgram),
    ("icmp6-ping-dgram", raw::ping6_dgram),
    ("icmp-raw", raw::icmp_raw),
    ("raw-hdrincl", raw::hdrincl),
    ("packet", raw::packet),
    ("vsock", raw::vsock),
    ("odd-families", raw::odd_families),
    ("io-uring-connect", uring::connect),
    ("io-uring-sendmsg", uring::sendmsg),
    ("netlink-route", host::netlink_route),
    ("unshare-netns", host::unshare_netns),
    ("setns-host", host::setns_host),
    ("cgroup-procs", host::cgroup_procs),
    ("bpf-pins", host::bpf_pins),
    ("unix-abstract", host::unix_abstract),
    ("unix-path", host::unix_path),
    ("docker-sock", host::docker_sock),
    ("scm-rights", host::scm_rights),
    ("ptrace-outside", host::ptrace_outside),
    ("pidfd-getfd", host::pidfd_getfd),
];

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let name = words.next().unwrap_or_default();
    let rest: Vec<String> = words.collect();
    let stage = Stage {
        words: rest
            .iter()
            .filter_map(|w| w.split_once('='))
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect(),
    };
    match name.as_str() {
        "list" => {
            PROBES.iter().for_each(|(name, _)| println!("{name}"));
            ExitCode::SUCCESS
        }
        "serve" => host::serve(&rest),
        "pin" => host::pin(&rest),
        "loop" => repeat(&rest, &stage),
        _ => match PROBES.iter().find(|(known, _)| *known == name) {
            Some((_, attempt)) => report(&name, *attempt, &stage),
            None => {
                eprintln!("probe: there is no `{name}`; `probe list` names them all");
                ExitCode::from(2)
            }
        },
    }
}

fn report(name: &str, attempt: fn(&Stage) -> Attempt, stage: &Stage) -> ExitCode {
    let verdict = attempt(stage).unwrap_or_else(|early| early);
    println!("{name}: {verdict}");
    match verdict {
        Verdict::Out(_) => ExitCode::SUCCESS,
        Verdict::Refused(_) => ExitCode::from(1),
        Verdict::Silent(_) => ExitCode::from(3),
    }
}

/// Every named way again and again; the first that gets out ends it.
fn repeat(rest: &[String], stage: &Stage) -> ExitCode {
    let seconds = rest.first().and_then(|w| w.parse().ok()).unwrap_or(60);
    let names: Vec<&str> = rest.get(1).map(|w| w.split(',').collect()).unwrap_or_default();
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut rounds = 0u32;
    println!("started");
    while Instant::now() < until {
        for (name, attempt) in PROBES.iter().filter(|(name, _)| names.contains(name)) {
            if let Verdict::Out(why) = attempt(stage).unwrap_or_else(|early| early) {
                println!("{name}: GOT OUT in round {rounds}: {why}");
                return ExitCode::SUCCESS;
            }
        }
        rounds += 1;
    }
    println!("{rounds} rounds, nothing got out");
    ExitCode::from(1)
}
