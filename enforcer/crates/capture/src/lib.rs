//! The host side: kernel programs, cgroups, namespaces, listeners, launches. All that needs root.
//!
//! The keeper (root) runs [`keeper`]; the worker (own user, no capabilities) uses [`records`], [`events`],
//! [`peer`] and [`message`] only.
// SKELETON: signatures are the contract. Two people work here: `kernel`, `records`, `events`, `link` (kernel side)
// and `keeper`, `message`, `launch`, `init`, `netns`, `cgroup`, `seccomp`, `trust`, `peer`, `worker` (process side).

pub mod events;
pub mod kernel;
pub mod message;
pub mod records;
mod sys;
