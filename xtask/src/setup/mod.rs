//! What the other chores need installed.
pub(crate) mod bpf_toolchain;
