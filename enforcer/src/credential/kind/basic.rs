//! `Authorization: Basic base64(USERNAME:VALUE)` (RFC 7617). git over HTTPS wants this one.

use enforcer_policy::{CredentialKind, Place};
use http::request::Parts;
use zeroize::Zeroizing;

use super::{Credential, Kind, insert};
use crate::secret::encode;

pub(super) const KIND: Kind = Kind {
    name: "basic",
    example: "basic: { username: x-access-token, secret: github-token, env: GITHUB_TOKEN }",
    read: |form| match form {
        CredentialKind::Basic { username } => Some(Box::new(Basic { username: username.clone() })),
        _ => None,
    },
};

struct Basic {
    username: String,
}

impl Credential for Basic {
    fn places(&self) -> Vec<Place> {
        vec![Place::Header("authorization".to_owned())]
    }

    fn apply(&self, parts: &mut Parts, _placeholder: &str, value: &[u8]) -> Result<(), String> {
        let pair = Zeroizing::new([self.username.as_bytes(), b":", value].concat());
        let coded = encode::base64_padded(&pair);
        insert(parts, "authorization", &Zeroizing::new([b"Basic ", coded.as_slice()].concat()))
    }
}
