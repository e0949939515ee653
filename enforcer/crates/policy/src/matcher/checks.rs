//! All that one rule asks of a request besides where it goes: the closed list of checks.
//!
//! What the head alone decides is decided on the head; for the rest the rule says which body it needs.

use super::git::{GitCheck, Service};
use super::graphql::{self, GraphqlCheck};
use super::json::Place;
use super::mcp::{self, McpCheck, RpcCheck};
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
    pub(crate) graphql: Option<GraphqlCheck>,
    pub(crate) mcp: Option<McpCheck>,
    pub(crate) jsonrpc: Option<RpcCheck>,
    pub(crate) git: Option<GitCheck>,
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
        if let Some(git) = &self.git
            && !git.reads(request)
        {
            return if git.holds(request, wide) { Held::Yes } else { Held::No };
        }
        if let (Body::Unread, Some(wanted)) = (&request.body, self.wanted()) {
            return Held::Needs(wanted);
        }
        let body = self.json.iter().all(|place| place.in_body(request, wide))
            && self.form.iter().all(|field| query::in_form(field, request, wide))
            && self.graphql.as_ref().is_none_or(|check| check.holds(request, wide))
            && self.mcp.as_ref().is_none_or(|check| check.holds(request, wide))
            && self.jsonrpc.as_ref().is_none_or(|check| check.holds(request, wide))
            && self.git.as_ref().is_none_or(|check| check.holds(request, wide));
        if body { Held::Yes } else { Held::No }
    }

    /// The body that has to be read, if one has.
    pub(crate) fn wanted(&self) -> Option<Wanted> {
        let json =
            !self.json.is_empty() || self.graphql.is_some() || self.mcp.is_some() || self.jsonrpc.is_some();
        let wanted = Wanted {
            json,
            form: !self.form.is_empty(),
            push: self.git.as_ref().is_some_and(|git| git.push.is_some()),
            prove: self.git.as_ref().is_some_and(GitCheck::proves),
        };
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
        if let Some(git) = self.git.as_ref().filter(|git| !git.reads(request)) {
            if !git.holds(request, wide) {
                unmet.push(git.lacks(request));
            }
            return unmet;
        }
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
        unmet.extend(self.graphql.iter().filter(|c| !c.holds(request, wide)).map(|c| c.lacks(request)));
        unmet.extend(self.mcp.iter().filter(|c| !c.holds(request, wide)).map(McpCheck::wants));
        unmet.extend(self.jsonrpc.iter().filter(|c| !c.holds(request, wide)).map(RpcCheck::wants));
        unmet.extend(self.git.iter().filter(|c| !c.holds(request, wide)).map(|c| c.lacks(request)));
        unmet
    }

    /// Does every request that passes `other` pass these? See `Conditions::covers`. `alike`: are both of allow rules,
    /// or both of deny rules?
    pub(crate) fn covers(&self, other: &Checks, alike: bool) -> bool {
        fn same<T: PartialEq>(own: &Option<T>, other: &Option<T>, alike: bool) -> bool {
            own.is_none() || alike && own == other
        }
        // Equal checks: what an allow rule finds met beyond doubt, an allow rule and a deny rule find met.
        let fields = |own: &[Field], others: &[Field]| own.iter().all(|field| others.contains(field));
        fields(&self.query, &other.query)
            && fields(&self.headers, &other.headers)
            && fields(&self.form, &other.form)
            && self.json.iter().all(|place| other.json.contains(place))
            // Rules of different effect mean different things by these, so only none at all is surely less.
            && same(&self.graphql, &other.graphql, alike)
            && same(&self.mcp, &other.mcp, alike)
            && same(&self.jsonrpc, &other.jsonrpc, alike)
            && same(&self.git, &other.git, alike)
    }
}

/// What a request is to its server, for receipts: names of operations, tools and refs, never values.
pub(crate) fn action(checks: &Checks, request: &Request) -> Option<String> {
    if let (Some(_), Body::Push(push)) = (&checks.git, &request.body) {
        return Some(push.summary());
    }
    if checks.git.is_some() {
        return Service::of(request).map(|service| service.word().to_owned());
    }
    if checks.graphql.is_some() {
        return graphql::summary(request);
    }
    match &request.body {
        Body::Json(body) if checks.mcp.is_some() || checks.jsonrpc.is_some() => mcp::summary(&body.0),
        _ => None,
    }
}
