//! `?NAME=VALUE`, for services that take a key nowhere else.

use enforcer_policy::{CredentialKind, Place};
use http::request::Parts;

use super::{Credential, Kind};
use crate::credential::target;

pub(super) const KIND: Kind = Kind {
    name: "query",
    example: "query: { name: key, secret: maps-key, env: MAPS_KEY }",
    read: |form| match form {
        CredentialKind::Query { name } => Some(Box::new(Query { name: name.clone() })),
        _ => None,
    },
};

struct Query {
    name: String,
}

impl Credential for Query {
    fn places(&self) -> Vec<Place> {
        vec![Place::Query(self.name.clone())]
    }

    fn apply(&self, parts: &mut Parts, _placeholder: &str, value: &[u8]) -> Result<(), String> {
        target::append(parts, &self.name, value)
    }
}
