//! Every `unsafe` line of the crate, wrapped so that callers need none.

pub(crate) mod bpf;
pub(crate) mod process;
pub(crate) mod saved_syn;
