//! The kinds of credential: where each stands in a request, and how it is written.
//!
//! A kind is one file here and one line in [`KINDS`]; the policy crate knows its form.

mod basic;
mod bearer;
mod header;
mod placeholder;
mod query;

use enforcer_policy::{CredentialKind, Place};
use http::header::{HeaderName, HeaderValue};
use http::request::Parts;

/// One line of the table.
pub struct Kind {
    /// the word in a policy
    pub name: &'static str,
    /// as it is written there
    pub example: &'static str,
    pub(super) read: fn(&CredentialKind) -> Option<Box<dyn Credential>>,
}

/// Every kind there is.
pub static KINDS: &[Kind] = &[bearer::KIND, header::KIND, basic::KIND, query::KIND, placeholder::KIND];

/// The kind that a policy asks for; `None`: the policy knows more than this table.
pub(super) fn of(form: &CredentialKind) -> Option<Box<dyn Credential>> {
    KINDS.iter().find_map(|kind| (kind.read)(form))
}

/// A credential of some kind, without its value.
pub(super) trait Credential: Send + Sync {
    /// Where the agent may use the placeholder. Everything else it sends there is removed.
    fn places(&self) -> Vec<Place>;

    /// Are texts of the agent kept, with the placeholder in them swapped?
    fn edits(&self) -> bool {
        false
    }

    /// Does a request get the value in which the agent used the placeholder so often?
    fn wanted(&self, _found: usize) -> Wanted {
        Wanted::Yes
    }

    /// Puts the value in. The reason of a failure does not quote it.
    fn apply(&self, parts: &mut Parts, placeholder: &str, value: &[u8]) -> Result<(), String>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Yes,
    No,
    /// The policy insists on the placeholder.
    Missing,
}

/// The one header with this name, never indexed by HPACK and never printed.
fn insert(parts: &mut Parts, name: &str, value: &[u8]) -> Result<(), String> {
    let name =
        HeaderName::from_bytes(name.as_bytes()).map_err(|_cause| format!("`{name}` cannot name a header"))?;
    parts.headers.insert(name, sensitive(value)?);
    Ok(())
}

fn sensitive(value: &[u8]) -> Result<HeaderValue, String> {
    let mut value =
        HeaderValue::from_bytes(value).map_err(|_cause| "no header can carry the result".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}
