//! `NAME: FORMAT`, with `{}` in the format replaced by the value.

use enforcer_policy::{CredentialKind, Place};
use http::request::Parts;
use zeroize::Zeroizing;

use super::{Credential, Kind, insert};

pub(super) const KIND: Kind = Kind {
    name: "header",
    example: "header: { name: x-api-key, secret: anthropic-key, env: ANTHROPIC_API_KEY }",
    read: |form| match form {
        CredentialKind::Header { name, format } => {
            Some(Box::new(Header { name: name.to_ascii_lowercase(), format: format.clone() }))
        }
        _ => None,
    },
};

struct Header {
    name: String,
    format: String,
}

impl Credential for Header {
    fn places(&self) -> Vec<Place> {
        vec![Place::Header(self.name.clone())]
    }

    fn apply(&self, parts: &mut Parts, _placeholder: &str, value: &[u8]) -> Result<(), String> {
        let (before, after) = self.format.split_once("{}").ok_or("its format has no `{}` for the value")?;
        insert(parts, &self.name, &Zeroizing::new([before.as_bytes(), value, after.as_bytes()].concat()))
    }
}
