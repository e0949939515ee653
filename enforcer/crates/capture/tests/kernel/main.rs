//! The programs, attached to a managed root of their own on this machine: needs root, cgroup2 and `cargo xtask bpf`.
//!
//! Each test has its own cgroups, network namespace, bpffs and pins, and removes them, also when it fails. Agents are small Python
//! programs started inside the cgroup; what they print is what the test compares.
#![expect(clippy::unwrap_used, reason = "these are tests: clippy sees no test attribute in helpers")]
#![expect(
    clippy::print_stderr,
    reason = "what a guard could not remove has to be said, and a drop cannot fail"
)]

mod adoption;
mod contain;
mod dns;
mod redirect;
mod stage;
mod storm;
