//! What one rule asks of a request: host, scheme, port, method, path, and checks, each a closed condition.
//!
//! There is no "unset" in here. Whoever builds [`Conditions`] decides what an absent field means,
//! once: in `deny` it always means anything; in `allow` a protocol is https and a port its default.
//!
//! Left out: effect and order of rules, which are `decide`'s.

mod check;
mod checks;
mod git;
mod graphql;
mod host;
mod index;
mod json;
mod mcp;
mod path;
mod query;
mod template;
#[cfg(test)]
mod tests;
mod tree;

pub(crate) use check::{Check, Glob, Kind, Literal, Pattern, Stops, Test};
pub(crate) use checks::{Checks, Held, action};
pub use git::git_report;
pub(crate) use git::{GitCheck, PushCheck};
pub(crate) use graphql::{FieldPath, GraphqlCheck};
pub(crate) use host::HostPattern;
pub(crate) use index::Index;
pub(crate) use json::Place;
pub(crate) use mcp::{McpCheck, RpcCheck, Tool};
pub(crate) use path::JsonPath;
pub(crate) use query::Field;
pub use template::Template;

use crate::body::Wanted;
use crate::canon::{Host, Method, Request, Scheme, Target};
use crate::window::{Moment, Window};

/// What becomes of a connection to the endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Carriage {
    /// Its requests are judged one by one.
    #[default]
    Requests,
    /// TLS, relayed unread.
    Passthrough,
    /// TCP, relayed unread.
    Raw,
}

#[derive(Clone, Debug)]
pub(crate) struct Conditions {
    /// Only in allow rules something else than `Requests`.
    pub(crate) carriage: Carriage,
    /// never empty
    pub(crate) hosts: Vec<HostPattern>,
    /// `None`: any
    pub(crate) scheme: Option<Scheme>,
    /// `None`: any
    pub(crate) port: Option<u16>,
    /// `None`: any; never empty
    pub(crate) methods: Option<Vec<Method>>,
    /// never empty
    pub(crate) templates: Vec<Template>,
    /// May a segment of the path hold an encoded slash? In a deny rule always, and it counts as a slash as well.
    pub(crate) raw_path: bool,
    /// `None`: always
    pub(crate) when: Option<Window>,
    pub(crate) checks: Checks,
    /// In a deny rule doubt counts as met, and a final `/` makes no difference, since servers serve both
    /// spellings.
    pub(crate) wide: bool,
}

/// What a rule makes of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Judged<'a> {
    No,
    /// with the template that matched
    Yes(&'a Template),
    /// The body decides, and has not been read.
    Needs(Wanted),
}

/// A condition a request does not meet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unmet {
    /// as a sentence
    Check(String),
    Time,
    Path,
    /// the path has an encoded slash
    RawPath,
    Method,
    Port,
    Scheme,
    Host,
    /// it lets connections through, not requests
    Carriage,
}

impl Conditions {
    pub(crate) fn judge(&self, request: &Request, at: Moment) -> Judged<'_> {
        if !self.takes_method(&request.method)
            || !self.reaches(request.scheme, &request.host, request.port, at)
        {
            return Judged::No;
        }
        let Some(template) = self.template(&request.target) else { return Judged::No };
        if !self.takes_slashes(&request.target) {
            return Judged::No;
        }
        if self.checks.is_empty() {
            return Judged::Yes(template);
        }
        match self.checks.hold(request, self.wide) {
            Held::Yes => Judged::Yes(template),
            Held::No => Judged::No,
            Held::Needs(wanted) => Judged::Needs(wanted),
        }
    }

    /// Are the conditions that are known before a request is seen met?
    pub(crate) fn reaches(&self, scheme: Scheme, host: &Host, port: u16, at: Moment) -> bool {
        self.carriage == Carriage::Requests
            && self.scheme.is_none_or(|own| own == scheme)
            && self.leads(host, port, at)
    }

    /// Host, port and time.
    pub(crate) fn leads(&self, host: &Host, port: u16, at: Moment) -> bool {
        self.port.is_none_or(|own| own == port)
            && self.hosts.iter().any(|pattern| pattern.matches(host))
            && self.is_open(at)
    }

    pub(crate) fn is_open(&self, at: Moment) -> bool {
        self.when.as_ref().is_none_or(|when| when.is_open(at))
    }

    /// Does it match whatever the request asks of the endpoint?
    pub(crate) fn whole_endpoint(&self) -> bool {
        self.methods.is_none() && self.checks.is_empty() && self.templates.iter().any(Template::is_any)
    }

    /// Checks last, and only of a request that is otherwise met: of another one they mean little.
    pub(crate) fn unmet(&self, request: &Request, at: Moment) -> Vec<Unmet> {
        let unmet = self.unmet_head(request, at);
        if unmet.is_empty() {
            return self.checks.unmet(request, self.wide).into_iter().map(Unmet::Check).collect();
        }
        unmet
    }

    fn unmet_head(&self, request: &Request, at: Moment) -> Vec<Unmet> {
        [
            (Unmet::Host, self.hosts.iter().any(|pattern| pattern.matches(&request.host))),
            (Unmet::Scheme, self.scheme.is_none_or(|own| own == request.scheme)),
            (Unmet::Port, self.port.is_none_or(|own| own == request.port)),
            (Unmet::Method, self.takes_method(&request.method)),
            (Unmet::Path, self.template(&request.target).is_some()),
            (Unmet::RawPath, self.takes_slashes(&request.target)),
            (Unmet::Time, self.is_open(at)),
            (Unmet::Carriage, self.carriage == Carriage::Requests),
        ]
        .into_iter()
        .filter(|(_, met)| !met)
        .map(|(condition, _)| condition)
        .collect()
    }

    /// Does every request that `other` matches match here too (where this is of an allow rule, `other` is
    /// too)? A `false` may be wrong, a `true` never is.
    pub(crate) fn covers(&self, other: &Conditions) -> bool {
        self.port.is_none_or(|own| other.port == Some(own))
            && other.hosts.iter().all(|host| self.hosts.iter().any(|own| own.covers(host)))
            && self.covers_inside(other)
            && self.when.as_ref().is_none_or(|own| other.when.as_ref() == Some(own))
    }

    /// What is to be seen inside of a connection, and whether anybody looks.
    fn covers_inside(&self, other: &Conditions) -> bool {
        let https = |conditions: &Conditions| conditions.scheme.is_none_or(|own| own == Scheme::Https);
        match (self.carriage, other.carriage) {
            (Carriage::Requests, Carriage::Requests) => {
                self.scheme.is_none_or(|own| other.scheme == Some(own))
                    && match (&self.methods, &other.methods) {
                        (None, _) => true,
                        (Some(_), None) => false,
                        (Some(own), Some(others)) => others.iter().all(|method| own.contains(method)),
                    }
                    && other.templates.iter().all(|t| self.templates.iter().any(|own| own.covers(t)))
                    && (self.raw_path || !other.raw_path)
                    && self.checks.covers(&other.checks, self.wide == other.wide)
            }
            // The first allow rule for an endpoint says whether it is inspected; a deny rule has to be for all of it.
            (Carriage::Requests, Carriage::Passthrough) => {
                https(self) && (!self.wide || self.whole_endpoint())
            }
            (Carriage::Passthrough, Carriage::Requests) => other.scheme == Some(Scheme::Https),
            (Carriage::Requests, Carriage::Raw) => {
                self.wide && self.scheme.is_none() && self.whole_endpoint()
            }
            (Carriage::Passthrough, Carriage::Passthrough) | (Carriage::Raw, Carriage::Raw) => true,
            (Carriage::Passthrough, Carriage::Raw)
            | (Carriage::Raw, Carriage::Requests | Carriage::Passthrough) => false,
        }
    }

    /// The same with one host, one method and one template each; together they match what this matches.
    pub(crate) fn atoms(&self) -> Vec<Conditions> {
        let methods: Vec<Option<Vec<Method>>> = match &self.methods {
            None => vec![None],
            Some(methods) => methods.iter().map(|method| Some(vec![method.clone()])).collect(),
        };
        let mut atoms = Vec::new();
        for host in &self.hosts {
            for methods in &methods {
                for template in &self.templates {
                    atoms.push(Conditions {
                        hosts: vec![host.clone()],
                        methods: methods.clone(),
                        templates: vec![template.clone()],
                        ..self.clone()
                    });
                }
            }
        }
        atoms
    }

    /// Would it match if every check held?
    pub(crate) fn takes_head(&self, request: &Request, at: Moment) -> bool {
        self.reaches(request.scheme, &request.host, request.port, at)
            && self.takes_method(&request.method)
            && self.template(&request.target).is_some()
            && self.takes_slashes(&request.target)
    }

    /// Is there nothing in it that a method and a URL do not tell?
    pub(crate) fn judged_by_head(&self) -> bool {
        self.when.is_none() && self.checks.is_empty() && self.carriage == Carriage::Requests
    }

    /// Could a request match both? A `true` may be wrong, a `false` never is.
    pub(crate) fn overlaps(&self, other: &Conditions) -> bool {
        // What only one of them takes has no encoded slash.
        let raw = self.raw_path && other.raw_path;
        self.overlaps_at(other, |own, given| {
            own.overlaps(given) || raw && own.decoded().overlaps(&given.decoded())
        })
    }

    /// Could a request that matches this be what `done` is of? A server whose ids hold no encoded slashes may
    /// take one for a slash.
    pub(crate) fn may_ask(&self, done: &Conditions) -> bool {
        let decodes = self.raw_path && !done.raw_path;
        self.overlaps_at(done, |own, given| own.overlaps(given) || decodes && own.decoded().overlaps(given))
    }

    fn overlaps_at(&self, other: &Conditions, paths: impl Fn(&Template, &Template) -> bool) -> bool {
        fn meet<T: PartialEq>(own: Option<T>, other: Option<T>) -> bool {
            own.is_none() || other.is_none() || own == other
        }
        meet(self.scheme, other.scheme)
            && meet(self.port, other.port)
            && match (&self.methods, &other.methods) {
                (Some(own), Some(others)) => others.iter().any(|method| own.contains(method)),
                (None, _) | (_, None) => true,
            }
            && other.hosts.iter().any(|host| self.hosts.iter().any(|own| own.overlaps(host)))
            && other.templates.iter().any(|given| self.templates.iter().any(|own| paths(own, given)))
    }

    fn takes_method(&self, method: &Method) -> bool {
        self.methods.as_ref().is_none_or(|own| own.contains(method))
    }

    fn takes_slashes(&self, target: &Target) -> bool {
        self.raw_path || !target.has_encoded_slash()
    }

    fn template(&self, target: &Target) -> Option<&Template> {
        let find = |path: &str| {
            let path = bare(path, self.wide);
            self.templates.iter().find(|template| template.matches(path))
        };
        let as_sent = find(target.path());
        if as_sent.is_some() || !self.wide {
            return as_sent;
        }
        target.decoded_slashes().and_then(|path| find(&path))
    }
}

/// A path as a rule sees it: a wide one is blind to a final `/`.
fn bare(path: &str, wide: bool) -> &str {
    match path.strip_suffix('/') {
        Some(shorter) if wide && !shorter.is_empty() => shorter,
        _ => path,
    }
}
