//! Checks on places in a JSON body.

use super::check::Check;
use super::path::JsonPath;
use crate::body::{Body, Json};
use crate::canon::Request;

/// A place and what has to be there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Place {
    pub(crate) path: JsonPath,
    pub(crate) check: Check,
}

impl Place {
    pub(crate) fn in_value(&self, root: &Json, wide: bool) -> bool {
        self.check.holds(&self.path.values(root), wide)
    }

    pub(crate) fn in_body(&self, request: &Request, wide: bool) -> bool {
        match &request.body {
            Body::Json(body) => self.in_value(&body.0, wide),
            Body::Empty => self.check.holds(&[], wide),
            Body::Unread | Body::Form(_) | Body::Push(_) => wide,
        }
    }
}
