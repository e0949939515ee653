//! The placeholder is swapped for the value where the agent put it, in the named places only.
//!
//! One pass: the value is not searched for placeholders again. Inside `Basic` it is swapped in the
//! decoded text.

use enforcer_policy::{CredentialKind, Place};
use http::header::HeaderName;
use http::request::Parts;
use memchr::memmem;
use zeroize::Zeroizing;

use super::{Credential, Kind, Wanted, sensitive};
use crate::credential::shape::swap;
use crate::credential::{check, target};
use crate::secret::encode;

pub(super) const KIND: Kind = Kind {
    name: "placeholder",
    example: "placeholder: { secret: bot-token, env: BOT_TOKEN, in: [path, { header: authorization }], required: true }",
    read: |form| match form {
        CredentialKind::Placeholder { places, required } => {
            Some(Box::new(Placeholder { places: places.clone(), required: *required }))
        }
        _ => None,
    },
};

struct Placeholder {
    places: Vec<Place>,
    required: bool,
}

impl Credential for Placeholder {
    fn places(&self) -> Vec<Place> {
        self.places.clone()
    }

    fn edits(&self) -> bool {
        true
    }

    fn wanted(&self, found: usize) -> Wanted {
        match (found, self.required) {
            (0, true) => Wanted::Missing,
            (0, false) => Wanted::No,
            _ => Wanted::Yes,
        }
    }

    fn apply(&self, parts: &mut Parts, placeholder: &str, value: &[u8]) -> Result<(), String> {
        let in_path = self.places.contains(&Place::Path);
        let in_query =
            |name: &[u8]| self.places.iter().any(|p| matches!(p, Place::Query(n) if n.as_bytes() == name));
        target::swap(parts, placeholder, value, in_path, |pair| in_query(&pair.name))?;
        for place in &self.places {
            let Place::Header(name) = place else { continue };
            let name = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_cause| format!("`{name}` cannot name a header"))?;
            for (_, header) in parts.headers.iter_mut().filter(|(found, _)| **found == name) {
                let text = header.as_bytes();
                let swapped = match check::basic(text) {
                    Some(coded) if memmem::find(text, placeholder.as_bytes()).is_none() => {
                        let plain = swap(&Zeroizing::new(encode::base64_decode(coded)), placeholder, value);
                        Zeroizing::new([b"Basic ", encode::base64_padded(&plain).as_slice()].concat())
                    }
                    _ => swap(text, placeholder, value),
                };
                *header = sensitive(&swapped)?;
            }
        }
        Ok(())
    }
}
