//! Policies: what an agent may do, as YAML people read and as decisions the gate obeys.
//!
//! Pure: no I/O, no clock, no async. Callers hand in texts, canonical requests and the time.
//!
//! The way of a file: [`Source`] text → `yaml` (a tree with places) → `document` (typed, every field
//! read or refused) → `compile` (names resolved, index built, the file's own tests run) →
//! [`PolicySet`]. The way of a request: bytes → `canon` ([`Request`], canonical or refused) →
//! [`AgentPolicy::decide`], which may want the body → `body` ([`Reader`]) → `decide` again.
//!
//! Left out: rates are only described here (the gate counts), secrets are only named here (the vault
//! keeps them), and addresses are not judged here (the connector does, on the address it dials).
#![forbid(unsafe_code)]

mod audit;
mod bait;
mod body;
mod canon;
mod cases;
mod catalog;
mod compare;
mod compile;
mod decide;
mod diagnostics;
mod document;
mod doh;
mod effective;
mod explain;
mod layout;
mod learn;
mod lint;
mod local;
mod matcher;
mod name;
mod policy;
mod schema;
mod select;
mod selftest;
mod tunnel;
mod unseen;
mod window;
mod yaml;

pub use audit::{Surroundings, audit};
pub use bait::{Decoy, Response, Tripwire};
pub use body::{Body, FormBody, JsonBody, Push, Reader, Unreadable, Wanted};
pub use canon::{Headers, Host, Method, Request, RequestError, Scheme, Target, authority};
pub use cases::{Case, Cases};
pub use catalog::{
    Catalogues, ImportError, Imported, Library, RuleAction, Service, ServiceAction, ServiceSetting, import,
};
pub use compare::{Change, Class, Comparison, compare};
pub use decide::{Observed, WouldDeny};
pub use diagnostics::{Finding, Report};
pub use doh::DNS_OVER_HTTPS;
pub use effective::effective;
pub use explain::Explanation;
pub use layout::format;
pub use learn::{Seen, Suggestion, Unused, recorded, suggest, unused};
pub use matcher::Template;
pub use matcher::git_report;
pub use name::{AgentName, CredentialName, Name, NameError, RuleName, SecretName};
pub use policy::{
    AgentPolicy, Budget, Compiled, CredentialKind, CredentialSpec, Decision, Durability, JsonPath, Mode,
    NameMatch, Pattern, Place, PolicySet, Rate, ResponseRules, Rule, Source, Step,
};
pub use schema::{catalogue_schema, schema};
pub use select::{Container, Unselected, User, Workload};
pub use tunnel::{Endpoint, Relay, Route};
pub use window::Moment;
