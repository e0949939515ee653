//! What end-to-end tests and the demo stand on: a [`world`] of two network namespaces with real
//! servers outside and the daemon inside, a [`sniff`]er that counts what leaves, and the table
//! of [`probes`] that try to get out. [`soak`] is a long run of mixed load and faults.
//!
//! Nothing here links the product. A test drives the binary, as a user does.
#![forbid(unsafe_code)]

pub mod packet;
pub mod probes;
pub mod sniff;
pub mod soak;
pub mod world;
