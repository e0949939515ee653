//! Names of agents, rules, credentials and secrets.
//!
//! One alphabet for all of them: they appear in receipts, headers, file names and environment
//! variables, and must mean the same in each.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// A DNS label holds 63 bytes; names stay usable as one.
const MAX_NAME: usize = 63;

/// A validated name: lower-case letters, digits and `-`, 1 to 63 bytes, starts with a letter. Rules that are
/// made out of a catalogue's actions have two, with a `/` between, so no rule in a file can be called so.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

pub type AgentName = Name;
pub type RuleName = Name;
pub type CredentialName = Name;
pub type SecretName = Name;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a name: lower-case letters, digits and `-`, starting with a letter, at most 63")]
pub struct NameError(pub String);

impl Name {
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let starts_well = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
        let all_well = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if starts_well && all_well && text.len() <= MAX_NAME {
            Ok(Name(text.into()))
        } else {
            // The text goes into logs and answers: shortened, and nothing that moves a cursor.
            Err(NameError(text.chars().take(MAX_NAME + 1).flat_map(char::escape_debug).collect()))
        }
    }

    /// `github` and `create-pr`: `github/create-pr`.
    pub(crate) fn joined(&self, inner: &Name) -> Name {
        Name(format!("{self}/{inner}").into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `Name` orders, compares and hashes as its text, so maps keyed by it are asked with a `&str`.
impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::Name;

    #[test]
    fn only_lower_case_labels_are_names() {
        for good in ["a", "github", "no-delete", "a1", "a-", &"a".repeat(63)] {
            assert_eq!(Name::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "1a", "-a", "A", "a_b", "a.b", "a b", "ä", "a\0", "a/b", &"a".repeat(64)] {
            assert!(Name::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_bad_name_is_shown_without_control_characters() {
        assert!(Name::parse("a\u{1b}[2J").unwrap_err().to_string().contains("\\u{1b}[2J"));
    }
}
