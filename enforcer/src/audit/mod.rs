//! Receipts: an append-only, hash-chained log is the truth; SQLite indexes it behind.
//!
//! No receipt, no credential: [`AuditLog::begin`] returns once the intent is as durable as asked, and
//! the [`RecordGuard`] it returns writes exactly one outcome, also when the request is cancelled.
//!
//! | file | duty |
//! |---|---|
//! | `record` | what a receipt says: [`Intent`], [`Outcome`], [`Receipt`] |
//! | `entry`, `chain` | one line of the log; the hash chain through the lines |
//! | `head` | signed heads, which make a cut tail provable |
//! | `segment` | segment files: names, reading lines |
//! | `appender` | bytes onto the disk, whole or not at all |
//! | `writer` | the one thread that writes: group commit, heads, rotation |
//! | `recover` | what start-up finds and mends |
//! | `fold` | floods of equal refusals become counts |
//! | `log`, `guard`, `follow` | the handles the rest of the daemon holds |
//! | `shared` | what handles and threads have in common |
//! | `index`, `query` | the SQLite index behind the log, and what may be asked of it |
//! | `verify`, `export` | offline checks; JSON lines and CSV |
//! | `clock`, `text` | times; text made safe to show |
//!
//! Left out: who may read receipts (`control`), how they look on a terminal (`cli`).

mod appender;
mod chain;
pub mod clock;
mod entry;
pub mod export;
mod fold;
mod follow;
mod guard;
pub mod head;
mod index;
mod log;
mod query;
mod record;
mod recover;
mod segment;
mod shared;
pub mod verify;
mod writer;

#[cfg(test)]
mod tests;

pub use follow::Event;
pub use guard::RecordGuard;
pub use head::{Head, PublicKey};
pub use log::{AuditError, AuditLog, Options};
pub use query::Query;
pub use record::{Intent, Outcome, Receipt, RequestId, Verdict};
