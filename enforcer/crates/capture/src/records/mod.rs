//! Where an accepted connection was going, and who asked. Worker side, without privilege.
//!
//! The SYN carries the tag of the connect, the tag finds the record that the connect wrote in the kernel, and the record is
//! taken once. Without all of it the connection is refused: there is no default and no guess.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use enforcer_common::{ConnectRecord, TAG_OPTION_KIND, TAG_OPTION_LEN, TAG_OPTION_MAGIC, record_key};
use rustix::time::{ClockId, clock_gettime};

use crate::sys::bpf::HashMap;
use crate::sys::saved_syn::{self, MAX_SYN};

/// An entry lives from connect to accept. A minute covers the longest wait of a SYN that is sent again, and more.
const MAX_AGE: Duration = Duration::from_secs(60);

/// The destination the agent asked for. Never a default, never a guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginalDst(pub SocketAddr);

/// Who connected, and where to.
#[derive(Clone, Debug)]
pub struct Origin {
    /// An IPv4-mapped IPv6 destination is given as the IPv4 address it means.
    pub dst: OriginalDst,
    pub cgroup_id: u64,
    pub netns_cookie: u64,
    pub pid: u32,
    pub uid: u32,
    /// Set by the agent: to show, not to decide by.
    pub comm: String,
}

#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("the connection carries no tag of a redirected connect")]
    NoTag,
    #[error("no connect record for this connection")]
    NoRecord,
    #[error("the connect record is for another {0}")]
    Mismatch(&'static str),
    #[error("cannot read {0}")]
    Io(&'static str, #[source] std::io::Error),
}

/// The connect records.
#[derive(Debug)]
pub struct Records {
    map: HashMap<u32, ConnectRecord>,
}

impl Records {
    /// From the descriptor that [`crate::kernel::Kernel::records`] gave.
    pub fn new(map: OwnedFd) -> Result<Self, RecordError> {
        Ok(Records {
            map: HashMap::new(map).map_err(|error| RecordError::Io("the map of connect records", error))?,
        })
    }

    /// Must be set on a listener before `listen` so that `take` works (TCP_SAVE_SYN).
    pub fn prepare_listener(socket: BorrowedFd<'_>) -> std::io::Result<()> {
        saved_syn::keep(socket)
    }

    /// Reads the tag from the saved SYN of an accepted socket and takes (deletes) its record; one use.
    /// Refuses a record of another cgroup or namespace than the listener's, and old ones (> 60 s).
    pub fn take(
        &self,
        accepted: BorrowedFd<'_>,
        cgroup_id: u64,
        netns_cookie: u64,
    ) -> Result<Origin, RecordError> {
        let mut buffer = [0; MAX_SYN];
        let syn = saved_syn::read(accepted, &mut buffer)
            .map_err(|error| RecordError::Io("the SYN of the connection", error))?;
        let tag = tag(syn).ok_or(RecordError::NoTag)?;
        let in_map = |error| RecordError::Io("the map of connect records", error);
        let key = record_key(tag);
        let record = self.map.take(&key).map_err(in_map)?.ok_or(RecordError::NoRecord)?;
        if record.tag != tag {
            // Of a later connect of this agent's, which has written over ours and still needs it.
            self.map.insert_new(&key, &record).map_err(in_map)?;
            return Err(RecordError::NoRecord);
        }
        // The kernel stamps records with this clock.
        let now = clock_gettime(ClockId::Monotonic);
        let now = Duration::new(now.tv_sec.cast_unsigned(), now.tv_nsec as u32);
        check(&record, cgroup_id, netns_cookie, now)
    }
}

fn check(
    record: &ConnectRecord,
    cgroup_id: u64,
    netns_cookie: u64,
    now: Duration,
) -> Result<Origin, RecordError> {
    if record.cgroup_id != cgroup_id {
        return Err(RecordError::Mismatch("agent"));
    }
    if record.netns_cookie != netns_cookie {
        return Err(RecordError::Mismatch("network namespace"));
    }
    // A record from the future is as wrong as an old one.
    match now.checked_sub(Duration::from_nanos(record.at_ns)) {
        Some(age) if age <= MAX_AGE => {}
        _ => return Err(RecordError::Mismatch("time")),
    }
    let address = address(record.family, record.addr_be).ok_or(RecordError::Mismatch("address family"))?;
    Ok(Origin {
        dst: OriginalDst(SocketAddr::new(address, u16::from_be(record.port_be))),
        cgroup_id,
        netns_cookie,
        pid: record.pid,
        uid: record.uid,
        comm: comm(&record.comm),
    })
}

/// An address of `enforcer_common`: family 4 or 6, IPv4 in the first word.
pub(crate) fn address(family: u16, addr_be: [u32; 4]) -> Option<IpAddr> {
    match family {
        4 => Some(IpAddr::V4(Ipv4Addr::from(u32::from_be(addr_be[0])))),
        6 => {
            let mut bytes = [0; 16];
            for (to, word) in bytes.chunks_exact_mut(4).zip(addr_be) {
                to.copy_from_slice(&word.to_ne_bytes());
            }
            Some(IpAddr::V6(Ipv6Addr::from(bytes)))
        }
        _ => None,
    }
}

/// A task's comm, fit for a log line: the agent chooses it.
pub(crate) fn comm(bytes: &[u8; 16]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text)
        .chars()
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect()
}

/// The tag in the options of a SYN, from the start of its IP header.
fn tag(syn: &[u8]) -> Option<u64> {
    let header_len = match syn.first()? >> 4 {
        4 => usize::from(syn.first()? & 0x0f) * 4,
        // Our egress program lets no extension headers through.
        6 if *syn.get(6)? == 6 => 40,
        _ => return None,
    };
    let tcp = syn.get(header_len..)?;
    let options_end = usize::from(tcp.get(12)? >> 4) * 4;
    let mut options = tcp.get(20..options_end)?;
    loop {
        match *options.first()? {
            0 => return None,
            1 => options = options.get(1..)?,
            kind => {
                let len = *options.get(1)?;
                let option = options.get(..usize::from(len)).filter(|option| option.len() >= 2)?;
                if kind == TAG_OPTION_KIND
                    && len == TAG_OPTION_LEN
                    && option.get(2..4)? == TAG_OPTION_MAGIC.to_be_bytes()
                {
                    return Some(u64::from_be_bytes(option.get(4..)?.try_into().ok()?));
                }
                options = options.get(usize::from(len)..)?;
            }
        }
    }
}

#[cfg(test)]
mod tests;
