//! The host side: kernel programs, cgroups, namespaces, listeners, launches. All that needs root.
//!
//! The keeper (root) runs [`keeper`]; the worker (own user, no capabilities) uses [`records`], [`events`],
//! [`peer`], [`message`], [`forward`] and [`confine`] only; `enforcer run` uses [`launch`] and [`standin`], `enforcer attach` uses [`attach`].

// what the processes say to each other
pub mod attach;
mod channel;
mod error;
pub mod launch;
pub mod message;
pub mod peer;
// the kernel's half
pub mod events;
pub mod kernel;
pub mod records;
// what a session is made of
pub mod backstop;
pub mod cgroup;
mod etc;
pub mod forward;
mod identity;
mod mountns;
mod netns;
mod rtnetlink;
mod session;
mod trust;
// what `enforcer unmanage` does
pub mod unmanage;
// what `enforcer doctor` asks
pub mod host;
// what `enforcer prove` does
pub mod prove;
// the processes themselves
pub mod confine;
pub mod init;
pub mod keeper;
mod seccomp;
pub mod standin;
// every `unsafe` line
mod sys;

pub use error::Error;
