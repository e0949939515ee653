//! What a session's record says of its table, so that a restart can leave it where it is: `nft` takes some 15 ms for each session,
//! the question for a number nothing.

use std::io;

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::{TABLE, ruleset};
use crate::sys::nf_tables::generation;

/// A table as it was loaded into a namespace where nobody else has rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// Digest of the rules, in hex: another version may have others.
    rules: String,
    /// Of the namespace's rules right after. Any change gives them another number.
    generation: u32,
}

impl Mark {
    /// Loads, inside of the namespace. `None`: this was not the only change.
    pub(super) fn by(load: impl FnOnce() -> io::Result<()>) -> io::Result<Option<Self>> {
        let before = generation()?;
        load()?;
        let generation = generation()?;
        let alone = generation == before.wrapping_add(1);
        Ok(if alone { Some(Mark { rules: rules()?, generation }) } else { None })
    }

    /// Inside of the namespace.
    pub(super) fn holds(&self) -> io::Result<bool> {
        Ok(generation()? == self.generation && rules()? == self.rules)
    }
}

fn rules() -> io::Result<String> {
    let rules = digest(&SHA256, &serde_json::to_vec(&ruleset(TABLE))?);
    Ok(rules.as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}
