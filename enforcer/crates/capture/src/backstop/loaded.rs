//! Whether a table is still as it was loaded: others may change the rules of a namespace that we did not make, or remove all of them.
//!
//! The kernel numbers the rule sets of a namespace. While the number is the same, nothing has changed; when it is another, `nft` lists the
//! table, and that is compared with its listing right after it was loaded.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use super::Backstop;
use crate::netns::Netns;
use crate::sys::nf_tables::generation;

/// Others change rules at the same time: once is rare, and so often in a row is no chance.
const ATTEMPTS: usize = 10;

/// A table as it was loaded.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// Of the namespace's rules, when the table was last seen to be this.
    generation: u32,
    listing: String,
}

impl Loaded {
    /// Loads a table, and keeps what it looks like. Inside of the namespace.
    pub(super) fn by(nft: &Path, table: &str, load: impl Fn() -> io::Result<()>) -> io::Result<Self> {
        for _ in 0..ATTEMPTS {
            let before = generation()?;
            load()?;
            let listing = list(nft, table)?;
            let generation = generation()?;
            // One change since, and that is ours: the listing is of what was loaded.
            if generation == before.wrapping_add(1) {
                return Ok(Loaded { generation, listing });
            }
        }
        Err(io::Error::other("others change the rules of this namespace all the time"))
    }

    /// Inside of the namespace.
    fn holds(&mut self, nft: &Path, table: &str) -> io::Result<bool> {
        let now = generation()?;
        if now == self.generation {
            return Ok(true);
        }
        let same = list(nft, table)? == self.listing;
        if same {
            self.generation = now;
        }
        Ok(same)
    }
}

impl Backstop {
    /// Whether the table is in force as it was loaded. An error: that cannot be seen, or there is no such table.
    pub(crate) fn holds(&self, table: &str, netns: &Netns, loaded: &mut Loaded) -> io::Result<bool> {
        match self {
            Backstop::Nft(nft) => netns.within(|| loaded.holds(nft, table)),
            Backstop::Absent => Ok(false),
        }
    }
}

/// As `nft` shows it, without what counts.
fn list(nft: &Path, table: &str) -> io::Result<String> {
    let output = Command::new(nft)
        .args(["--stateless", "list", "table", "inet", table])
        .env_clear()
        .stdin(Stdio::null())
        .output()?;
    if !output.status.success() {
        return Err(super::said(&output.stderr));
    }
    String::from_utf8(output.stdout).map_err(io::Error::other)
}
