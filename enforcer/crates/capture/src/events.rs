//! What the programs tell: refusals and counters for the worker, which needs no capability to read them, and new
//! network namespaces for the keeper.
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use aya::maps::{Map, MapData, PerCpuArray, RingBuf};
use enforcer_common::{RefusalEvent, counter, hook, reason};

use crate::records::{address, comm};

/// One refusal.
#[derive(Clone, Debug)]
pub struct Refused {
    /// 0: not known.
    pub cgroup_id: u64,
    pub hook: &'static str,
    pub reason: &'static str,
    /// AF_*.
    pub family: u16,
    /// SOCK_*; for `setsockopt` the level.
    pub sock_type: u32,
    /// IP protocol; for `setsockopt` the option name.
    pub protocol: u32,
    pub address: Option<SocketAddr>,
    /// 0 for packets.
    pub pid: u32,
    pub uid: u32,
    /// Set by the agent: to show, not to decide by.
    pub comm: String,
}

/// The ring buffer. One consumer at a time.
pub struct Events {
    ring: RingBuf<MapData>,
}

impl Events {
    /// From the descriptor that [`crate::kernel::Kernel::events`] gave.
    pub fn new(map: OwnedFd) -> io::Result<Self> {
        Ok(Events { ring: ring(map)? })
    }

    /// Does not block; poll `as_fd` for readability first.
    #[expect(clippy::should_implement_trait, reason = "a later call may give more after a `None`")]
    pub fn next(&mut self) -> Option<Refused> {
        loop {
            let item = self.ring.next()?;
            match refused(&item) {
                Some(refused) => return Some(refused),
                None => tracing::warn!(bytes = item.len(), "an event of another version"),
            }
        }
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

/// Connects from network namespaces that nobody listens in. For the keeper.
pub(crate) struct NewNamespaces {
    ring: RingBuf<MapData>,
}

impl NewNamespaces {
    /// From the descriptor that [`crate::kernel::Kernel::new_namespaces`] gave.
    pub(crate) fn new(map: OwnedFd) -> io::Result<Self> {
        Ok(NewNamespaces { ring: ring(map)? })
    }

    /// The cgroup that tried. Does not block; poll `as_fd` for readability first.
    pub(crate) fn next(&mut self) -> Option<u64> {
        let item = self.ring.next()?;
        // The first field of `NewNamespace`; the keeper looks for itself which namespaces there are.
        item.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes))
    }
}

impl AsFd for NewNamespaces {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

fn ring(map: OwnedFd) -> io::Result<RingBuf<MapData>> {
    let data = MapData::from_fd(map).map_err(io::Error::other)?;
    let map = Map::from_map_data(data).map_err(io::Error::other)?;
    RingBuf::try_from(map).map_err(io::Error::other)
}

/// How often a hook decided what, on all CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HookCount {
    pub passed: u64,
    pub redirected: u64,
    pub refused: u64,
    /// Refusals whose event found no room in the ring buffer.
    pub lost_events: u64,
}

/// The counters of all hooks.
pub struct Counters {
    map: PerCpuArray<MapData, u64>,
}

impl Counters {
    /// From the descriptor that [`crate::kernel::Kernel::counters`] gave.
    pub fn new(map: OwnedFd) -> io::Result<Self> {
        let data = MapData::from_fd(map).map_err(io::Error::other)?;
        let map = Map::from_map_data(data).map_err(io::Error::other)?;
        Ok(Counters { map: PerCpuArray::try_from(map).map_err(io::Error::other)? })
    }

    /// One line per hook, by name.
    pub fn read(&self) -> io::Result<Vec<(&'static str, HookCount)>> {
        let slot = |hook: u16, what: u32| -> io::Result<u64> {
            let index = u32::from(hook) * counter::WIDTH + what;
            Ok(self.map.get(&index, 0).map_err(io::Error::other)?.iter().sum())
        };
        HOOKS
            .iter()
            .map(|(hook, name)| {
                let count = HookCount {
                    passed: slot(*hook, counter::PASSED)?,
                    redirected: slot(*hook, counter::REDIRECTED)?,
                    refused: slot(*hook, counter::REFUSED)?,
                    lost_events: slot(*hook, counter::LOST_EVENT)?,
                };
                Ok((*name, count))
            })
            .collect()
    }
}

const HOOKS: &[(u16, &str)] = &[
    (hook::SOCK_CREATE, "sock_create"),
    (hook::CONNECT4, "connect4"),
    (hook::CONNECT6, "connect6"),
    (hook::SENDMSG4, "sendmsg4"),
    (hook::SENDMSG6, "sendmsg6"),
    (hook::BIND4, "bind4"),
    (hook::BIND6, "bind6"),
    (hook::SETSOCKOPT, "setsockopt"),
    (hook::EGRESS, "egress"),
    (hook::INGRESS, "ingress"),
    (hook::DEVICE, "device"),
];

const REASONS: &[(u16, &str)] = &[
    (reason::UNKNOWN_AGENT, "unknown_agent"),
    (reason::UNKNOWN_NETNS, "unknown_netns"),
    (reason::SOCKET_KIND, "socket_kind"),
    (reason::TRAFFIC_KIND, "traffic_kind"),
    (reason::RESERVED_PORT, "reserved_port"),
    (reason::BOUND_DEVICE, "bound_device"),
    (reason::SOCKET_OPTION, "socket_option"),
    (reason::INTERNAL, "internal"),
    (reason::NOT_LOOPBACK, "not_loopback"),
    (reason::FOREIGN_SOCKET, "foreign_socket"),
];

fn name(table: &[(u16, &'static str)], number: u16) -> &'static str {
    table.iter().find(|(known, _)| *known == number).map_or("unknown", |(_, name)| name)
}

/// `None`: not the size of an event of this version.
fn refused(bytes: &[u8]) -> Option<Refused> {
    if bytes.len() != size_of::<RefusalEvent>() {
        return None;
    }
    let mut at = 0;
    let u64 = |at: &mut usize| -> Option<u64> { Some(u64::from_ne_bytes(field(bytes, at)?)) };
    let u32 = |at: &mut usize| -> Option<u32> { Some(u32::from_ne_bytes(field(bytes, at)?)) };
    let u16 = |at: &mut usize| -> Option<u16> { Some(u16::from_ne_bytes(field(bytes, at)?)) };
    // In the order of `RefusalEvent`, which has no padding; struct literals evaluate as written.
    let event = RefusalEvent {
        cgroup_id: u64(&mut at)?,
        at_ns: u64(&mut at)?,
        addr_be: [u32(&mut at)?, u32(&mut at)?, u32(&mut at)?, u32(&mut at)?],
        port_be: u16(&mut at)?,
        family: u16(&mut at)?,
        hook: u16(&mut at)?,
        reason: u16(&mut at)?,
        sock_type: u32(&mut at)?,
        protocol: u32(&mut at)?,
        pid: u32(&mut at)?,
        uid: u32(&mut at)?,
        comm: field(bytes, &mut at)?,
    };
    let address = match event.hook {
        // No destination in these.
        hook::SOCK_CREATE | hook::SETSOCKOPT => None,
        _ => match i32::from(event.family) {
            libc::AF_INET => address(4, event.addr_be),
            libc::AF_INET6 => address(6, event.addr_be),
            _ => None,
        },
    };
    Some(Refused {
        cgroup_id: event.cgroup_id,
        hook: name(HOOKS, event.hook),
        reason: name(REASONS, event.reason),
        family: event.family,
        sock_type: event.sock_type,
        protocol: event.protocol,
        address: address.map(|ip| SocketAddr::new(ip, u16::from_be(event.port_be))),
        pid: event.pid,
        uid: event.uid,
        comm: comm(&event.comm),
    })
}

fn field<const N: usize>(bytes: &[u8], at: &mut usize) -> Option<[u8; N]> {
    let field = bytes.get(*at..*at + N)?.try_into().ok()?;
    *at += N;
    Some(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_field_by_field() {
        let mut bytes = Vec::new();
        bytes.extend(5_u64.to_ne_bytes());
        bytes.extend(1_u64.to_ne_bytes());
        bytes.extend([203, 0, 113, 5]);
        bytes.extend([0; 12]);
        bytes.extend(8080_u16.to_be_bytes());
        bytes.extend(2_u16.to_ne_bytes());
        bytes.extend(hook::CONNECT4.to_ne_bytes());
        bytes.extend(reason::TRAFFIC_KIND.to_ne_bytes());
        for number in [2_u32, 17, 42, 1000] {
            bytes.extend(number.to_ne_bytes());
        }
        bytes.extend(b"dig\0\0\0\0\0\0\0\0\0\0\0\0\0");
        let refused = refused(&bytes).unwrap();
        assert_eq!(refused.address, Some("203.0.113.5:8080".parse().unwrap()));
        assert_eq!((refused.cgroup_id, refused.hook, refused.reason), (5, "connect4", "traffic_kind"));
        assert_eq!((refused.sock_type, refused.protocol, refused.pid, refused.uid), (2, 17, 42, 1000));
        assert_eq!(refused.comm, "dig");
    }

    #[test]
    fn another_size_is_another_version() {
        assert!(refused(&[0; size_of::<RefusalEvent>() - 8]).is_none());
        assert!(refused(&[]).is_none());
        assert!(refused(&[0; size_of::<RefusalEvent>()]).is_some_and(|refused| refused.hook == "unknown"));
    }
}
