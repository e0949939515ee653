//! What a loaded policy is, as the rest of the product sees it.
//!
//! Left out: how it is made (`compile`) and how it answers (`decide`, `explain`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::bait::{Decoy, Tripwire};
use crate::body::Wanted;
use crate::canon::{Host, Request};
use crate::catalog::{Catalogue, Library, RuleAction};
use crate::decide::Observed;
use crate::diagnostics::Report;
use crate::document::Limits;
use crate::local::Local;
use crate::matcher::{Conditions, HostPattern, Index, Template, action};
use crate::name::{AgentName, CredentialName, Name, RuleName, SecretName};
use crate::select::Selector;
use crate::window::Moment;

/// One policy file.
#[derive(Clone, Debug)]
pub struct Source {
    pub name: String,
    pub text: String,
}

/// All policies in force. Cheap to clone behind an `Arc`.
#[derive(Debug)]
pub struct PolicySet {
    pub(crate) agents: BTreeMap<Name, Arc<AgentPolicy>>,
}

/// A set that loaded, with the warnings it loaded with.
#[derive(Debug)]
pub struct Compiled {
    pub set: PolicySet,
    pub warnings: Report,
}

impl PolicySet {
    /// Any error in any file: nothing loads. Policies that refer to other files need
    /// [`PolicySet::compile_with`].
    pub fn compile(sources: &[Source]) -> Result<Compiled, Report> {
        Self::compile_with(sources, &Library::default())
    }

    /// The same, with the files that the policies refer to.
    pub fn compile_with(sources: &[Source], library: &Library) -> Result<Compiled, Report> {
        crate::compile::compile(sources, library)
    }

    /// Denies everything.
    pub fn empty() -> Self {
        PolicySet { agents: BTreeMap::new() }
    }

    pub fn agent(&self, name: &str) -> Option<&Arc<AgentPolicy>> {
        self.agents.get(name)
    }

    pub fn agents(&self) -> impl Iterator<Item = &Arc<AgentPolicy>> {
        self.agents.values()
    }
}

/// How a host name stands to a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameMatch {
    No,
    /// Named outright by an allow rule.
    Exact,
    /// Only under a wildcard: never ask an upstream resolver because the agent said so.
    Wildcard,
}

#[derive(Debug)]
pub struct AgentPolicy {
    pub name: AgentName,
    /// any of them; `None`: the policy does not say
    pub(crate) select: Option<Vec<Selector>>,
    pub(crate) description: Option<String>,
    pub(crate) owner: Option<String>,
    pub(crate) revision: String,
    pub(crate) durability: Durability,
    /// deny rules, then allow rules, each in the order of the file
    pub(crate) rules: Vec<Arc<Rule>>,
    /// of the rule with the same number
    pub(crate) conditions: Vec<Conditions>,
    /// rules below this number deny
    pub(crate) denies: usize,
    /// does any rule look into bodies?
    pub(crate) reads_bodies: bool,
    pub(crate) deny: Index,
    pub(crate) allow: Index,
    pub(crate) credentials: Vec<CredentialSpec>,
    pub(crate) private_addresses: Vec<ipnet::IpNet>,
    pub(crate) also_resolved: Vec<Host>,
    pub(crate) local: Local,
    pub(crate) decoys: Vec<Decoy>,
    pub(crate) tripwire: Tripwire,
    pub(crate) limits: Limits,
    /// rules that a test of the file comes to
    pub(crate) tested: BTreeSet<RuleName>,
    pub(crate) mode: Mode,
    /// stands for the rule of what passes without one
    pub(crate) unruled: Arc<Rule>,
    pub(crate) resolve: Resolve,
    pub(crate) dns_rate: Option<Rate>,
    /// of rules for raw connections
    pub(crate) raw_ports: BTreeSet<u16>,
    /// those that it speaks of
    pub(crate) catalogues: Vec<Arc<Catalogue>>,
}

impl AgentPolicy {
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }

    pub fn owner(&self) -> Option<&str> {
        self.owner.as_deref()
    }

    /// Digest of the source text: hex, changes when the file changes.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    pub fn durability(&self) -> Durability {
        self.durability
    }

    pub fn credentials(&self) -> &[CredentialSpec] {
        &self.credentials
    }

    pub fn credential(&self, name: &str) -> Option<&CredentialSpec> {
        self.credentials.iter().find(|credential| credential.name.as_str() == name)
    }

    /// `dns.rate`: questions for names
    pub fn dns_rate(&self) -> Option<&Rate> {
        self.dns_rate.as_ref()
    }

    /// Does any rule hold at some times only?
    pub fn is_timed(&self) -> bool {
        self.conditions.iter().any(|conditions| conditions.when.is_some())
    }

    /// Deny rules first, then allow rules, each in the order of the file.
    pub fn rules(&self) -> &[Arc<Rule>] {
        &self.rules
    }

    /// What a request is to its server beyond method and path, for receipts. With a catalogue, its action and
    /// resource (`github/create-pr myorg/web`), also where no rule allows it; else an operation, a tool, refs.
    /// Never values of bodies. `observed`: what [`AgentPolicy::observe`] said of this request at this moment.
    pub fn action(&self, request: &Request, observed: &Observed, at: Moment) -> Option<String> {
        let told = |number: usize| {
            let looking = |c: &&Conditions| !c.checks.is_empty() && c.takes_head(request, at);
            self.conditions.get(number).filter(looking).and_then(|c| action(&c.checks, request))
        };
        let first = self.deny.first_for(request, told).or_else(|| self.allow.first_for(request, told));
        let inside = first.map(|(_, action)| action);
        let Some(named) = self.catalogue_action(request, observed) else { return inside };
        Some(match inside {
            Some(inside) => format!("{named} ({inside})"),
            None => named,
        })
    }

    /// Of the rule that decides, else of what the catalogues call such a request.
    fn catalogue_action(&self, request: &Request, observed: &Observed) -> Option<String> {
        match observed.rule().and_then(|rule| rule.action.as_ref()) {
            Some(action) => Some(action.told(request)),
            None => self.catalogues.iter().find_map(|catalogue| catalogue.told(request)),
        }
    }

    /// `dns.private_addresses`: special-purpose destinations the policy names.
    pub fn private_addresses(&self) -> &[ipnet::IpNet] {
        &self.private_addresses
    }

    /// Hosts named outright, for the agent's guide text and the CA's name constraints; wildcards as `*.x`.
    /// Each once, in the order of the file, without those a deny rule takes away altogether.
    pub fn allowed_hosts(&self) -> Vec<String> {
        if self.observes() {
            return vec!["*".to_owned()];
        }
        let mut hosts: Vec<String> = Vec::new();
        for conditions in self.conditions.iter().skip(self.denies) {
            for pattern in &conditions.hosts {
                let gone = matches!(pattern, HostPattern::Exact(host) if self.denies_host(host));
                let text = pattern.to_string();
                if !gone && !hosts.contains(&text) {
                    hosts.push(text);
                }
            }
        }
        hosts
    }

    /// `limits.rate`
    pub fn rates(&self) -> &[Rate] {
        &self.limits.rates
    }

    /// `limits.upload`: what the agent may send, heads of requests included
    pub fn upload(&self) -> &[Budget] {
        &self.limits.upload
    }

    /// `limits.download`
    pub fn download(&self) -> &[Budget] {
        &self.limits.download
    }

    /// `limits.concurrent`: requests under way at a time
    pub fn concurrent(&self) -> Option<u32> {
        self.limits.concurrent
    }

    /// `limits.max_body`
    pub fn max_body(&self) -> Option<u64> {
        self.limits.max_body
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    Written,
    Synced,
}

/// What the gate gets to work with.
#[derive(Clone, Debug)]
pub enum Decision {
    Allow {
        rule: Arc<Rule>,
        /// the path template that matched, `/**` where the rule names none
        template: Template,
    },
    Deny {
        /// the deny rule; `None`: no rule matched
        rule: Option<Arc<Rule>>,
    },
    /// The body decides and has not been read: ask again with one that [`Wanted::reader`] made. A
    /// request whose body is read never gets this answer.
    Needs(Wanted),
}

/// Does what is said hold, or is it only recorded?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Enforce,
    Observe,
}

/// `dns.resolve`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolve {
    /// Names that a rule reaches.
    Allowed,
    Any,
    None,
}

#[derive(Debug)]
pub struct Rule {
    pub name: RuleName,
    /// its own, or the policy's
    pub mode: Mode,
    pub credential: Option<CredentialName>,
    pub rates: Vec<Rate>,
    pub max_body: Option<u64>,
    /// a GET may become a WebSocket, whose messages nobody judges
    pub websocket: bool,
    pub response: Option<Arc<ResponseRules>>,
    pub message: Option<String>,
    /// of a catalogue, where the rule was made of one
    pub action: Option<Arc<RuleAction>>,
    /// file:line
    pub place: String,
}

/// `count` per `period`, with `burst` in one moment (`5/hour burst 2`; without: burst = count).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    pub count: u32,
    pub period: Duration,
    pub burst: u32,
    /// names in the rule's paths; each combination of what stands there is counted by itself
    pub per: Vec<Box<str>>,
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.count;
        match self.period.as_secs() {
            1 => write!(f, "{count}/second"),
            60 => write!(f, "{count}/minute"),
            3600 => write!(f, "{count}/hour"),
            86400 => write!(f, "{count}/day"),
            seconds => write!(f, "{count} in {seconds} seconds"),
        }?;
        if self.burst != count {
            write!(f, " burst {}", self.burst)?;
        }
        for (number, name) in self.per.iter().enumerate() {
            write!(f, "{}{{{name}}}", if number == 0 { " per " } else { "/" })?;
        }
        Ok(())
    }
}

/// `response:` of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseRules {
    /// names of JSON fields at any depth, in lower case
    pub fields: Vec<Box<str>>,
    pub json: Vec<JsonPath>,
    pub patterns: Vec<Pattern>,
    /// in lower case
    pub headers: Vec<Box<str>>,
    /// bytes that the agent gets
    pub max_body: Option<u64>,
    /// `type/subtype` in lower case; empty: any
    pub content_types: Vec<Box<str>>,
}

impl ResponseRules {
    /// Does a body have to be read?
    pub fn redacts_bodies(&self) -> bool {
        !(self.fields.is_empty() && self.json.is_empty() && self.patterns.is_empty())
    }
}

/// A place in JSON: `$.items[*].owner`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonPath {
    pub text: Box<str>,
    /// never empty
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Key(Box<str>),
    Index(usize),
    /// every key and every element
    Any,
}

/// What is looked for in texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    Email,
    CardNumber,
}

/// `bytes` per `period`; all of them may go at once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Budget {
    pub bytes: u64,
    pub period: Duration,
    /// each host is counted by itself
    pub per_host: bool,
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.period.as_secs() {
            1 => "second",
            60 => "minute",
            3600 => "hour",
            _ => "day",
        };
        let host = if self.per_host { " per host" } else { "" };
        write!(f, "{} bytes/{unit}{host}", self.bytes)
    }
}

#[derive(Clone, Debug)]
pub struct CredentialSpec {
    pub name: CredentialName,
    pub secret: SecretName,
    /// the variable the agent finds its placeholder in
    pub env: Option<String>,
    pub kind: CredentialKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// `Authorization: Bearer VALUE`
    Bearer,
    /// `NAME: FORMAT` with `{}` replaced
    Header { name: String, format: String },
    /// `Authorization: Basic base64(USERNAME:VALUE)`
    Basic { username: String },
    /// `?NAME=VALUE`
    Query { name: String },
    /// the placeholder is swapped for the value where the agent put it, in these places only
    Placeholder { places: Vec<Place>, required: bool },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Header(String),
    Query(String),
    Path,
}
