//! Names: our own resolver for upstreams, and the server that answers agents by policy.
//!
//! [`Resolver`] is the only way a name becomes an address, and it never calls getaddrinfo. [`serve`]
//! answers one session: names the policy names outright are looked up, names under a wildcard get a
//! made-up address and no packet leaves, everything else does not exist. [`special()`] is the table of
//! addresses that no name may lead to. Dialling is `proxy`'s.

mod answer;
mod exchange;
mod resolver;
mod server;
mod special;
#[cfg(test)]
mod tests;

pub use resolver::{ResolveError, Resolver};
pub use server::{Sockets, serve};
pub use special::{forbidden, special};
