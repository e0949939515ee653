//! Stored secrets: sealed at rest, bound to hosts, and given out one decided use at a time.
//!
//! Synchronous; callers own the thread. Plaintext exists as one type, [`Secret`]. What decides
//! whether a use is allowed lives elsewhere; the host binding is enforced here once more, because
//! it is sealed together with the value.
//!
//! Not here: who may ask (the gate), where the value goes (`credential`), and a defence against
//! putting back an older copy of the *whole* file. [`Vault::epoch`] lets a caller that keeps a
//! number in root-owned state notice that.
#![forbid(unsafe_code)]

mod binding;
mod database;
mod error;
mod key;
mod seal;
mod secret;
mod vault;

pub use binding::{Binding, Dangers};
pub use error::VaultError;
pub use key::{VaultKey, check_key_place};
pub use secret::{Secret, SecretError};
pub use vault::{Entry, Use, Vault};

#[cfg(test)]
mod tests;
