//! Every `unsafe` line of the crate, wrapped so that callers need none.

pub(crate) mod process;
