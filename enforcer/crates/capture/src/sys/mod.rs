//! System calls that need `unsafe`, each behind a safe function.

pub(crate) mod bpf;
pub(crate) mod saved_syn;
