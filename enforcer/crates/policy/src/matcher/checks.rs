//! All that one rule asks of a request besides where it goes: the closed list of checks.
//!
//! What the head alone decides is decided on the head; for the rest the rule says which body it needs.

use super::json::Place;
use super::query::{self, Field};
use crate::body::{Body, Wanted};
use crate::canon::Request;

/// No check at all is the default: anything goes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Checks {
    pub(crate) query: Vec<Field>,
    pub(crate) headers: Vec<Field>,
    pub(crate) form: Vec<Field>,
    pub(crate) json: Vec<Place>,
}

/// What became of the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    Yes,
    No,
    /// The body decides, and has not been read.
    Needs(Wanted),
}

impl Checks {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Checks::default()
    }

    /// `wide`: in a deny rule, where doubt counts as yes.
    pub(crate) fn hold(&self, request: &Request, wide: bool) -> Held {
        let head = self.query.iter().all(|field| query::in_query(field, request, wide))
            && self.headers.iter().all(|field| query::in_headers(field, request, wide));
        if !head {
            return Held::No;
        }
        if let (Body::Unread, Some(wanted)) = (&request.body, self.wanted()) {
            return Held::Needs(wanted);
        }
        let body = self.json.iter().all(|place| place.in_body(request, wide))
            && self.form.iter().all(|field| query::in_form(field, request, wide));
        if body { Held::Yes } else { Held::No }
    }

    /// The body that has to be read, if one has.
    pub(crate) fn wanted(&self) -> Option<Wanted> {
        let wanted = Wanted { json: !self.json.is_empty(), form: !self.form.is_empty() };
        (wanted != Wanted::default()).then_some(wanted)
    }

    /// What a request lacks, each as a sentence about the rule and never about the request's values.
    pub(crate) fn unmet(&self, request: &Request, wide: bool) -> Vec<String> {
        let mut unmet = Vec::new();
        let mut fields = |what: &str, fields: &[Field], holds: fn(&Field, &Request, bool) -> bool| {
            for field in fields.iter().filter(|field| !holds(field, request, wide)) {
                unmet.push(format!("{what} `{}` must {}", field.name, field.check));
            }
        };
        fields("query", &self.query, query::in_query);
        fields("header", &self.headers, query::in_headers);
        if matches!(request.body, Body::Unread) {
            return unmet;
        }
        if let Some(wanted) = self.wanted().filter(|wanted| !wide && !wanted.fits(&request.body)) {
            unmet.push(format!("the body is {}, not {}", request.body.kind(), wanted.kinds()));
            return unmet;
        }
        fields("form field", &self.form, query::in_form);
        for place in self.json.iter().filter(|place| !place.in_body(request, wide)) {
            unmet.push(format!("json `{}` must {}", place.path, place.check));
        }
        unmet
    }

    /// Does every request that passes `other` pass these? See `Conditions::covers`.
    pub(crate) fn covers(&self, other: &Checks) -> bool {
        // Equal checks: what an allow rule finds met beyond doubt, an allow rule and a deny rule find met.
        let fields = |own: &[Field], others: &[Field]| own.iter().all(|field| others.contains(field));
        fields(&self.query, &other.query)
            && fields(&self.headers, &other.headers)
            && fields(&self.form, &other.form)
            && self.json.iter().all(|place| other.json.contains(place))
    }
}
