//! Every `unsafe` line of the crate, wrapped so that callers need none.

pub(crate) mod bpf;
mod child;
mod frames;
pub(crate) mod inet_diag;
pub(crate) mod nf_tables;
mod pidfd;
mod process;
mod program;
pub(crate) mod saved_syn;
mod signals;
mod socket;
mod users;

use std::io;

pub(crate) use child::*;
pub(crate) use frames::*;
pub(crate) use pidfd::*;
pub(crate) use process::*;
pub(crate) use program::*;
pub(crate) use signals::*;
pub(crate) use socket::*;
pub(crate) use users::*;

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
