//! Links at the egress of a network device (tcx, Linux 6.6).
use std::io;
use std::mem::size_of;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};

use super::{LINK_CREATE, call, info, raw};

/// `BPF_TCX_EGRESS`.
const TCX_EGRESS: u32 = 47;
/// `BPF_LINK_TYPE_TCX`.
const LINK_TYPE_TCX: u32 = 11;

/// The part of `union bpf_attr` for `BPF_LINK_CREATE` at a device.
#[repr(C)]
struct TcxLinkAttr {
    program: u32,
    ifindex: u32,
    attach_type: u32,
    flags: u32,
    relative: u32,
    reserved: u32,
    expected_revision: u64,
}

/// The head of `struct bpf_link_info`, for a tcx link.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct TcxInfo {
    kind: u32,
    id: u32,
    program_id: u32,
    reserved: u32,
    ifindex: u32,
    attach_type: u32,
}

/// Attaches a program to a device of the calling thread's network namespace, before all that are there: one of those could say
/// "accept" and so keep the packet from us.
pub(crate) fn attach_tcx(program: BorrowedFd<'_>, ifindex: u32) -> io::Result<OwnedFd> {
    /// `BPF_F_BEFORE`; with nothing named it is before everything.
    const BEFORE: u32 = 1 << 3;
    let attr = TcxLinkAttr {
        program: raw(program),
        ifindex,
        attach_type: TCX_EGRESS,
        flags: BEFORE,
        relative: 0,
        reserved: 0,
        expected_revision: 0,
    };
    debug_assert_eq!(size_of::<TcxLinkAttr>(), 32);
    // SAFETY: the descriptor is open (borrowed); the result is a descriptor of ours.
    unsafe { call(LINK_CREATE, &attr).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

/// The device of a tcx link; 0 when it is gone. A number that is only unique in its namespace.
pub(crate) fn tcx_ifindex(link: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: TcxInfo is plain integers, of which the kernel fills at most its size.
    let info: TcxInfo = unsafe { info(link) }?;
    if info.kind != LINK_TYPE_TCX || info.attach_type != TCX_EGRESS {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a tcx egress link"));
    }
    Ok(info.ifindex)
}
