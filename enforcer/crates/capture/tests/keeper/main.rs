//! The keeper, launches and the stand-in for real: cgroups, namespaces, privileges, terminals. Needs root.
//!
//! Only the kernel programs and the worker are stand-ins (`roles.rs`, a program of its own).
#![allow(clippy::unwrap_used, reason = "tests")]

mod confinement;
mod lifecycle;
mod streams;
mod trust;
mod worker_confinement;
mod world;
