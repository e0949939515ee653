//! The number of a network namespace's netfilter rules (`NFT_MSG_GETGEN`): each change by whomever gives them the next one.
//!
//! Everything here is about the network namespace of the calling thread.

use std::io;

use rustix::net::{AddressFamily, Protocol, RawProtocol, RecvFlags, SendFlags, SocketFlags, SocketType};

/// `NETLINK_NETFILTER`.
const NETFILTER: u32 = 12;
/// `NFNL_SUBSYS_NFTABLES`, in the upper byte of a message's kind; in the lower one `NFT_MSG_NEWGEN`, `NFT_MSG_GETGEN`.
const NEW: u16 = 10 << 8 | 15;
const GET: u16 = 10 << 8 | 16;
/// `NFTA_GEN_ID`.
const ID: u16 = 1;
/// Of `struct nlmsghdr` with `struct nfgenmsg`, and of `struct nlattr`.
const HEADER: usize = 20;
const ATTRIBUTE: usize = 4;

/// The number; 1 where there never was a rule.
pub(crate) fn generation() -> io::Result<u32> {
    let protocol = RawProtocol::new(NETFILTER).map(Protocol::from_raw);
    let netlink =
        rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
    let mut message = Vec::with_capacity(HEADER);
    message.extend((HEADER as u32).to_ne_bytes());
    message.extend(GET.to_ne_bytes());
    message.extend((libc::NLM_F_REQUEST as u16).to_ne_bytes());
    // Sequence, port; then family, version and resource of `struct nfgenmsg`.
    message.resize(HEADER, 0);
    rustix::net::send(&netlink, &message, SendFlags::empty())?;
    let mut answer = [0; 4096];
    let (length, _) = rustix::net::recv(&netlink, &mut answer, RecvFlags::empty())?;
    read(answer.get(..length).unwrap_or_default())
}

fn read(answer: &[u8]) -> io::Result<u32> {
    let senseless = || io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer makes no sense");
    let word = |at: usize| answer.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    let half = |at: usize| answer.get(at..at + 2).and_then(|bytes| bytes.try_into().ok());
    match half(4).map(u16::from_ne_bytes) {
        Some(NEW) => {}
        Some(kind) if i32::from(kind) == libc::NLMSG_ERROR => {
            let error = word(16).map(i32::from_ne_bytes).ok_or_else(senseless)?;
            return Err(io::Error::from_raw_os_error(-error));
        }
        _ => return Err(senseless()),
    }
    let mut at = HEADER;
    while let (Some(length), Some(kind)) = (half(at), half(at + 2)) {
        if u16::from_ne_bytes(kind) == ID {
            return word(at + ATTRIBUTE).map(u32::from_be_bytes).ok_or_else(senseless);
        }
        let length = usize::from(u16::from_ne_bytes(length));
        if length < ATTRIBUTE {
            break;
        }
        at += length.next_multiple_of(4);
    }
    Err(senseless())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(kind: u16, rest: &[u8]) -> Vec<u8> {
        let mut bytes = (HEADER as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.resize(16, 0);
        bytes.extend(rest);
        bytes
    }

    #[test]
    fn the_number_is_found_among_the_attributes() {
        let name = [5, 0, 3, 0, b'x', 0, 0, 0];
        let id = [8, 0, 1, 0, 0, 0, 1, 2];
        assert_eq!(read(&answer(NEW, &[&[0; 4][..], &name, &id].concat())).unwrap(), 258);
        assert!(read(&answer(NEW, &[&[0; 4][..], &name].concat())).is_err());
        assert!(read(&answer(NEW, &[0, 0, 0, 0, 0, 0, 9, 0])).is_err(), "no endless loop");
        assert!(read(&answer(GET, &[0; 4])).is_err() && read(&[]).is_err());
        let denied = answer(libc::NLMSG_ERROR as u16, &(-libc::EPERM).to_ne_bytes());
        assert_eq!(read(&denied).unwrap_err().raw_os_error(), Some(libc::EPERM));
    }
}
