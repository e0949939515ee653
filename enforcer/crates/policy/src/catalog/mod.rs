//! Catalogues: what the requests of a service are called, so that policies can speak of actions.
//!
//! A catalogue is data (`policies/services/NAME.yaml`): for each action its methods, path templates and
//! checks, what kind of action it is, and whether it is dangerous. An action that a policy names becomes
//! an ordinary rule when the policy loads; nothing here takes part in a decision.
//!
//! - `shipped`: the catalogues and presets that are part of the program
//! - `scope`: what `{owner}/{repo}` becomes where a policy names resources
//! - `fill`: what `${region}` becomes where a policy gives settings
//! - `document::catalogue`, `document::services`: how both are read

mod ask;
mod expand;
mod fill;
mod import;
mod scope;
mod shelf;
mod shipped;

pub use ask::{Catalogues, Service, ServiceAction, ServiceSetting};
pub(crate) use expand::{rules, texts_of, with_head};
pub(crate) use fill::{Settings, fill};
pub use import::{ImportError, Imported, import};
pub(crate) use scope::{Resource, ResourceShape};
pub use shelf::Library;
pub(crate) use shelf::{Shelf, inside, shipped_catalogue};
pub(crate) use shipped::{PRESETS, SERVICES};

use std::fmt;
use std::sync::Arc;

use crate::canon::{Host, Method, Request};
use crate::diagnostics::Span;
use crate::matcher::{Conditions, HostPattern, Template};
use crate::name::Name;
use crate::yaml::{Entry, Node};

/// One service's actions, read and found correct.
#[derive(Clone, Debug)]
pub(crate) struct Catalogue {
    pub(crate) name: Name,
    pub(crate) about: String,
    /// What `resources` of a policy means.
    pub(crate) resource: Option<ResourceShape>,
    pub(crate) settings: Vec<Setting>,
    /// the settings that the policy gives whose own this is
    pub(crate) given: Vec<Entry>,
    /// by the name that requests use; the first is for requests that name none
    pub(crate) hosts: Vec<(String, Node)>,
    /// in the order of the file
    pub(crate) actions: Vec<Action>,
    /// where its actions are, each once
    pub(crate) reach: Vec<HostPattern>,
    /// Do its ids hold encoded slashes?
    pub(crate) raw_path: bool,
    /// for the revision of policies that speak of it
    pub(crate) text: Arc<str>,
}

/// A value that whoever uses a catalogue or a preset may or has to give.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) name: String,
    pub(crate) about: String,
    pub(crate) given: Given,
}

#[derive(Clone, Debug)]
pub(crate) enum Given {
    /// unless the policy says otherwise
    Default(Node),
    /// It has to be given; this is what one looks like.
    Needed { example: Node },
    /// Where it is not given, what mentions it is left out.
    Optional { example: Option<Node> },
}

#[derive(Clone, Debug)]
pub(crate) struct Action {
    pub(crate) name: Name,
    pub(crate) about: String,
    pub(crate) kind: Kind,
    /// completes "which …": `deletes a repository`
    pub(crate) dangerous: Option<String>,
    /// completes "which …" as well: `makes a token`
    pub(crate) mints: Option<String>,
    pub(crate) endpoints: Vec<Endpoint>,
    /// Of each endpoint, for every resource, with examples for settings that nobody gives.
    pub(crate) conditions: Vec<Conditions>,
}

/// The fields of one rule, with `{capture}` and `${setting}` still in them.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) span: Span,
    pub(crate) methods: Vec<Method>,
    /// one of the catalogue's names for hosts
    pub(crate) host: String,
    pub(crate) path: Node,
    /// `graphql`, `form`, `git` and the like, as they stand
    pub(crate) checks: Vec<Entry>,
}

/// A word for all actions of a kind that nothing warns of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
    Delete,
    Admin,
}

pub(crate) const KINDS: &[(&str, Kind)] =
    &[("read", Kind::Read), ("write", Kind::Write), ("delete", Kind::Delete), ("admin", Kind::Admin)];

impl Kind {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Kind::Read => "read",
            Kind::Write => "write",
            Kind::Delete => "delete",
            Kind::Admin => "admin",
        }
    }
}

/// The action that a rule was made of.
#[derive(Clone, Debug)]
pub struct RuleAction {
    pub service: Name,
    pub action: Name,
    /// with the captures that make up a resource
    pub(crate) templates: Vec<Template>,
    pub(crate) captures: Vec<Box<str>>,
}

impl RuleAction {
    /// `github/create-pr myorg/myrepo`: for receipts.
    pub(crate) fn told(&self, request: &Request) -> String {
        let path = request.target.path();
        let captured = |name: &str| self.templates.iter().find_map(|template| template.captured(path, name));
        let resource: Option<Vec<String>> = self.captures.iter().map(|name| captured(name)).collect();
        match resource.filter(|parts| !parts.is_empty()) {
            Some(parts) => format!("{self} {}", parts.join("/")),
            None => self.to_string(),
        }
    }
}

impl fmt::Display for RuleAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.action)
    }
}

/// It cannot be told which resource a request is about.
#[derive(Debug)]
pub(crate) struct Unclear;

impl Catalogue {
    /// Is any action of it at this host? With examples for settings that nobody gives.
    pub(crate) fn is_at(&self, host: &Host) -> bool {
        self.reach.iter().any(|pattern| pattern.matches(host))
    }

    /// What a request is about, in the words of `resources`. `Ok(None)`: nothing that they could name.
    /// `Err`: it cannot be told, or could not be written down.
    pub(crate) fn resource_of(&self, action: &Action, request: &Request) -> Result<Option<String>, Unclear> {
        let Some(shape) = &self.resource else { return Ok(None) };
        // A setting is `${…}`, a capture `{…}`.
        let in_host = |own: &Endpoint| {
            let hosts = self.hosts(&own.host).map(texts_of).unwrap_or_default();
            hosts.iter().any(|host| host.replace("${", "").contains('{'))
        };
        if action.endpoints.iter().any(in_host) {
            return Err(Unclear);
        }
        let path = request.target.path();
        let templates = action.conditions.iter().flat_map(|own| &own.templates);
        let Some(template) = templates.into_iter().find(|template| template.matches(path)) else {
            return Err(Unclear);
        };
        let names: Vec<&str> = shape.names().collect();
        match names.iter().filter(|name| template.names(name)).count() {
            0 => return Ok(None),
            some if some < names.len() => return Err(Unclear),
            _ => {}
        }
        let parts: Option<Vec<String>> = names.iter().map(|name| template.captured(path, name)).collect();
        let text = parts.ok_or(Unclear)?.join("/");
        shape.read(&text, false).map(|_| Some(text)).map_err(|_why| Unclear)
    }

    /// The first action that a request is, and on what.
    pub(crate) fn told(&self, request: &Request) -> Option<String> {
        let action = self.actions.iter().find(|action| action.takes(request))?;
        let templates = action.conditions.iter().flat_map(|own| own.templates.clone()).collect();
        Some(self.rule_action(action, templates).told(request))
    }

    pub(crate) fn rule_action(&self, action: &Action, templates: Vec<Template>) -> RuleAction {
        let names = self.resource.iter().flat_map(ResourceShape::names);
        RuleAction {
            service: self.name.clone(),
            action: action.name.clone(),
            templates,
            captures: names.map(Into::into).collect(),
        }
    }

    pub(crate) fn hosts(&self, name: &str) -> Option<&Node> {
        self.hosts.iter().find(|(own, _)| own == name).map(|(_, hosts)| hosts)
    }

    /// Does it say which resource it is about?
    pub(crate) fn is_scoped(&self, endpoint: &Endpoint) -> bool {
        let Some(shape) = &self.resource else { return false };
        let (hosts, paths) = (self.hosts(&endpoint.host).map(texts_of), texts_of(&endpoint.path));
        hosts
            .unwrap_or_default()
            .iter()
            .all(|host| paths.iter().all(|path| shape.is_in(&format!("{host}{path}"))))
    }
}

impl Endpoint {
    pub(crate) fn is_git(&self) -> bool {
        self.checks.iter().any(|entry| entry.key == "git")
    }
}

impl Action {
    /// It has to be named itself.
    pub(crate) fn is_flagged(&self) -> bool {
        self.dangerous.is_some() || self.mints.is_some()
    }
}
