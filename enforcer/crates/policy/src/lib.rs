//! Policies: what an agent may do, as YAML people read and as decisions the gate obeys.
//!
//! Pure: no I/O, no clock, no async. Callers hand in texts and canonical requests.
#![forbid(unsafe_code)]
// SKELETON: signatures are the contract; bodies and file layout are the policy crate's to write.

use std::net::IpAddr;
use std::sync::Arc;

/// A validated name: lower-case letters, digits and `-`, 1 to 63 bytes, starts with a letter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);
impl Name {
    pub fn parse(text: &str) -> Result<Self, NameError> { let _ = text; todo!() }
    pub fn as_str(&self) -> &str { &self.0 }
}
impl std::fmt::Display for Name { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str(&self.0) } }
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a name: lower-case letters, digits and `-`, starting with a letter, at most 63")]
pub struct NameError(pub String);
pub type AgentName = Name;
pub type RuleName = Name;
pub type CredentialName = Name;
pub type SecretName = Name;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme { Http, Https }
impl Scheme {
    pub fn default_port(self) -> u16 { match self { Scheme::Http => 80, Scheme::Https => 443 } }
    pub fn as_str(self) -> &'static str { match self { Scheme::Http => "http", Scheme::Https => "https" } }
}

/// A canonical host: a DNS name (lower case, A-labels, LDH, no trailing dot, last label not numeric) or an IP address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host(HostRepr);
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum HostRepr { Name(Arc<str>), Ip(IpAddr) }
impl Host {
    /// Strict: what is ambiguous is an error, never repaired.
    pub fn parse(text: &str) -> Result<Self, RequestError> { let _ = text; todo!() }
    pub fn from_ip(ip: IpAddr) -> Self { Host(HostRepr::Ip(ip)) }
    pub fn ip(&self) -> Option<IpAddr> { match &self.0 { HostRepr::Ip(ip) => Some(*ip), HostRepr::Name(_) => None } }
    pub fn name(&self) -> Option<&str> { match &self.0 { HostRepr::Name(n) => Some(n), HostRepr::Ip(_) => None } }
}
impl std::fmt::Display for Host { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { let _ = f; todo!() } }

/// An upper-case method token; TRACE, TRACK and CONNECT are never methods here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Method(Arc<str>);
impl Method {
    pub fn parse(text: &str) -> Result<Self, RequestError> { let _ = text; todo!() }
    pub fn as_str(&self) -> &str { &self.0 }
}

/// A canonical request target in origin form: `/a/b?c=d`. Unreserved percent-escapes decoded, others
/// kept in upper-case hex; dot segments, `//`, `%2f`, `%5c`, `\`, `;`, `%00`, controls, non-ASCII, fragments refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target { text: String, path_len: usize }
impl Target {
    pub fn parse(text: &str) -> Result<Self, RequestError> { let _ = text; todo!() }
    pub fn path(&self) -> &str { &self.text[..self.path_len] }
    pub fn query(&self) -> Option<&str> { todo!() }
    /// What is sent upstream.
    pub fn as_str(&self) -> &str { &self.text }
}

/// Why bytes could not be made canonical. `code` is stable, for receipts and refusals.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RequestError { pub code: &'static str, pub message: String }

/// The one request type that is judged.
#[derive(Clone, Debug)]
pub struct Request { pub scheme: Scheme, pub host: Host, pub port: u16, pub method: Method, pub target: Target }
impl Request {
    /// From `METHOD`, `scheme://host[:port]/path` as typed by a person.
    pub fn parse(method: &str, url: &str) -> Result<Self, RequestError> { let _ = (method, url); todo!() }
}

/// One policy file.
#[derive(Clone, Debug)]
pub struct Source { pub name: String, pub text: String }

/// All policies in force. Cheap to clone behind an `Arc`.
#[derive(Debug)]
pub struct PolicySet { agents: std::collections::BTreeMap<Name, Arc<AgentPolicy>> }
/// A set that loaded, with the warnings it loaded with.
#[derive(Debug)]
pub struct Compiled { pub set: PolicySet, pub warnings: Report }
/// Findings with their places, ready to print.
#[derive(Debug, Default)]
pub struct Report { pub findings: Vec<Finding> }
#[derive(Debug, Clone, serde::Serialize)]
pub struct Finding { pub code: &'static str, pub error: bool, pub file: String, pub line: usize, pub column: usize, pub message: String, pub hint: Option<String> }
impl Report { /// Drawn as in `ux`: `error[E020]: …` with the cited line; `color` adds ANSI.
    pub fn render(&self, color: bool) -> String { let _ = color; todo!() } }
impl std::fmt::Display for Report { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str(&self.render(false)) } }

impl PolicySet {
    /// Any error in any file: nothing loads.
    pub fn compile(sources: &[Source]) -> Result<Compiled, Report> { let _ = sources; todo!() }
    /// Denies everything.
    pub fn empty() -> Self { PolicySet { agents: Default::default() } }
    pub fn agent(&self, name: &str) -> Option<&Arc<AgentPolicy>> { self.agents.iter().find(|(n, _)| n.as_str() == name).map(|(_, p)| p) }
    pub fn agents(&self) -> impl Iterator<Item = &Arc<AgentPolicy>> { self.agents.values() }
}

/// How a host name stands to a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameMatch { No, /// Named outright by an allow rule. Exact, 
    Exact, /// Only under a wildcard: never ask an upstream resolver because the agent said so.
    Wildcard }

#[derive(Debug)]
pub struct AgentPolicy { pub name: AgentName, rules: Vec<Arc<Rule>>, credentials: Vec<CredentialSpec> }
impl AgentPolicy {
    pub fn description(&self) -> Option<&str> { todo!() }
    pub fn owner(&self) -> Option<&str> { todo!() }
    /// Digest of the source text: hex, changes when the file changes.
    pub fn revision(&self) -> &str { todo!() }
    pub fn durability(&self) -> Durability { todo!() }
    /// Could any allow rule match this name (on any port)? For DNS.
    pub fn resolves(&self, host: &Host) -> NameMatch { let _ = host; todo!() }
    /// Could any allow rule match this endpoint? For the TLS handshake, before a request is seen.
    pub fn reaches(&self, scheme: Scheme, host: &Host, port: u16) -> bool { let _ = (scheme, host, port); todo!() }
    pub fn decide(&self, request: &Request) -> Decision { let _ = request; todo!() }
    /// The decision rule by rule, as text for people.
    pub fn explain(&self, request: &Request) -> Explanation { let _ = request; todo!() }
    pub fn credentials(&self) -> &[CredentialSpec] { &self.credentials }
    pub fn credential(&self, name: &str) -> Option<&CredentialSpec> { self.credentials.iter().find(|c| c.name.as_str() == name) }
    pub fn rules(&self) -> &[Arc<Rule>] { &self.rules }
    /// `dns.private_addresses`: special-purpose destinations the policy names.
    pub fn private_addresses(&self) -> &[ipnet::IpNet] { todo!() }
    /// Hosts named outright, for the agent's guide text and the CA's name constraints; wildcards as `*.x`.
    pub fn allowed_hosts(&self) -> Vec<String> { todo!() }
    /// `limits.rate`
    pub fn rates(&self) -> &[Rate] { todo!() }
    pub fn max_body(&self) -> Option<u64> { todo!() }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability { Written, Synced }

/// What the gate gets to work with.
#[derive(Clone, Debug)]
pub enum Decision { Allow { rule: Arc<Rule>, /// the path template that matched, `/**` where the rule names none
        template: Arc<str> }, Deny { /// the deny rule; `None`: no rule matched
        rule: Option<Arc<Rule>> } }

#[derive(Debug)]
pub struct Rule { pub name: RuleName, pub credential: Option<CredentialName>, pub rates: Vec<Rate>, pub max_body: Option<u64>, pub message: Option<String>, /// file:line
    pub place: String }

/// `count` per `period`, with `burst` in one moment (`5/hour burst 2`; without: burst = count).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate { pub count: u32, pub period: std::time::Duration, pub burst: u32 }

#[derive(Clone, Debug)]
pub struct CredentialSpec { pub name: CredentialName, pub secret: SecretName, /// the variable the agent finds its placeholder in
    pub env: Option<String>, pub kind: CredentialKind }
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
pub enum Place { Header(String), Query(String), Path }

#[derive(Debug, serde::Serialize)]
pub struct Explanation { pub allowed: bool, pub rule: Option<String>, pub place: Option<String>, pub reason: String, pub steps: Vec<String>, pub obligations: Vec<String>, pub hint: Option<String> }
