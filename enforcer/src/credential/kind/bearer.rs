//! `Authorization: Bearer VALUE` (RFC 6750, 2.1).

use enforcer_policy::{CredentialKind, Place};
use http::request::Parts;
use zeroize::Zeroizing;

use super::{Credential, Kind, insert};

pub(super) const KIND: Kind = Kind {
    name: "bearer",
    example: "bearer: { secret: github-token, env: GITHUB_TOKEN }",
    read: |form| matches!(form, CredentialKind::Bearer).then(|| Box::new(Bearer) as Box<dyn Credential>),
};

struct Bearer;

impl Credential for Bearer {
    fn places(&self) -> Vec<Place> {
        vec![Place::Header("authorization".to_owned())]
    }

    fn apply(&self, parts: &mut Parts, _placeholder: &str, value: &[u8]) -> Result<(), String> {
        insert(parts, "authorization", &Zeroizing::new([b"Bearer ", value].concat()))
    }
}
