//! Ports that are relayed between the host and a session's network namespace.
//!
//! The keeper opens what is listened on, so that it lasts from worker to worker; it reads nothing from it.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::error::Doing;
use crate::netns::{self, Netns};

/// Each holds listeners open for as long as its session runs.
pub(crate) const MOST: usize = 64;

/// One relayed port of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Forward {
    /// The host's loopback, at this port of the agent's own.
    Loopback(u16),
    /// A server of the agent's, at an address of the host.
    Published(Publish),
}

impl Forward {
    /// How many there are of it.
    pub fn listeners(self) -> usize {
        self.addresses().len()
    }

    /// Where it listens: an agent's loopback is IPv4 and IPv6.
    pub(crate) fn addresses(self) -> Vec<SocketAddr> {
        match self {
            Forward::Loopback(port) => [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
                .map(|ip| SocketAddr::new(ip, port))
                .to_vec(),
            Forward::Published(publish) => vec![publish.at()],
        }
    }

    pub(crate) fn listen(self, netns: &Netns) -> io::Result<Vec<OwnedFd>> {
        match self {
            Forward::Loopback(_) => netns.listen(&self.addresses()),
            Forward::Published(publish) => netns::listen_at(publish.at()).map(|listener| vec![listener]),
        }
    }
}

/// `[[ADDRESS:]HOST-PORT:]PORT`, as of `docker run --publish`; without the others the address is 127.0.0.1 and the
/// port the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// Of the host.
    pub address: IpAddr,
    /// Of the host.
    pub host_port: u16,
    /// Of the agent.
    pub port: u16,
}

impl Publish {
    pub fn at(self) -> SocketAddr {
        SocketAddr::new(self.address, self.host_port)
    }

    /// May this caller have it? A root daemon binds for it, so what the kernel would have refused is refused here.
    pub(crate) fn check(self, caller: u32) -> Result<(), Error> {
        if caller == 0 {
            return Ok(());
        }
        if !self.address.is_loopback() {
            return Err(Error::refused(
                format!(
                    "only root may publish at {}: what listens there is open to the network",
                    self.address
                ),
                format!(
                    "leave the address out: `--publish {}:{}` listens on 127.0.0.1",
                    self.host_port, self.port
                ),
            ));
        }
        let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
            .doing(|| "see which ports are for root".into())?;
        // What cannot be read is taken for the kernel's default.
        if self.host_port < first.trim().parse().unwrap_or(1024) {
            return Err(Error::refused(
                format!("port {} of the host is for root", self.host_port),
                format!("publish a higher one, for example `--publish 8080:{}`", self.port),
            ));
        }
        Ok(())
    }

    /// The listener, before anything of the session exists.
    pub(crate) fn listen(self) -> Result<OwnedFd, Error> {
        let at = self.at();
        netns::listen_at(at).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => Error::refused(
                format!("cannot publish port {}: {at} is taken on this host", self.port),
                format!("`ss -ltnp` shows by whom; or publish at another: `--publish OTHER:{}`", self.port),
            ),
            io::ErrorKind::AddrNotAvailable => Error::refused(
                format!("cannot publish port {}: this host has no address {}", self.port, self.address),
                "`ip address` lists those it has",
            ),
            _ => Error::Io { what: format!("publish port {} at {at}", self.port), source: error },
        })
    }
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to the agent's port {}", self.at(), self.port)
    }
}

impl FromStr for Publish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (rest, port) = text.rsplit_once(':').map_or((None, text), |(rest, port)| (Some(rest), port));
        let port = number(port)?;
        let Some(rest) = rest else {
            return Ok(Publish { address: Ipv4Addr::LOCALHOST.into(), host_port: port, port });
        };
        let (address, host_port) = match rest.rsplit_once(':') {
            Some((address, host_port)) => (self::address(address)?, host_port),
            None => (Ipv4Addr::LOCALHOST.into(), rest),
        };
        Ok(Publish { address, host_port: number(host_port)?, port })
    }
}

fn number(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port > 0 && text.bytes().all(|b| b.is_ascii_digit()) => Ok(port),
        _ => Err(format!("`{text}` is not a port; write PORT, HOST-PORT:PORT or ADDRESS:HOST-PORT:PORT")),
    }
}

fn address(text: &str) -> Result<IpAddr, String> {
    let bare = match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(v6) => v6.parse().map(IpAddr::V6).ok(),
        None => text.parse().map(IpAddr::V4).ok(),
    };
    bare.ok_or_else(|| format!("`{text}` is not an address; write for example 127.0.0.1 or [::1]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_ports_read_as_dockers() {
        for (text, at, port) in [
            ("3000", "127.0.0.1:3000", 3000),
            ("8080:3000", "127.0.0.1:8080", 3000),
            ("0.0.0.0:8080:3000", "0.0.0.0:8080", 3000),
            ("[::1]:8080:3000", "[::1]:8080", 3000),
        ] {
            let publish: Publish = text.parse().unwrap();
            assert_eq!((publish.at().to_string().as_str(), publish.port), (at, port), "{text}");
        }
        for bad in [
            "",
            "0",
            "65536",
            "+1",
            "x",
            ":3000",
            "8080:",
            "::3000",
            "::1:8080:3000",
            "[127.0.0.1]:1:2",
            "1:2:3",
            "3000/udp",
            "a:1:2",
        ] {
            assert!(bad.parse::<Publish>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_the_kernel_keeps_for_root_is_not_had_through_a_daemon_of_roots() {
        let publish = |text: &str| text.parse::<Publish>().unwrap();
        for (text, root_only) in
            [("3000", false), ("[::1]:3000:3000", false), ("80", true), ("0.0.0.0:3000:3000", true)]
        {
            assert_eq!(publish(text).check(4242).is_err(), root_only, "{text}");
            assert!(publish(text).check(0).is_ok(), "{text}");
        }
    }
}
