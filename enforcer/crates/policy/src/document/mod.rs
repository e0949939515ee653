//! A policy file with every field read, or refused with its place.
//!
//! Three answers to a field: it is read; it is part of the language but cannot be enforced yet, which
//! is an error and never ignored (E030); it is unknown (E001, with the nearest known name).
//!
//! Left out: whether names refer to anything. That takes the whole file and is `compile`'s.

mod bait;
mod case;
pub(crate) mod catalogue;
mod checks;
mod credential;
mod fields;
mod form;
mod git;
mod graphql;
pub(crate) mod include;
mod later;
mod limits;
mod local;
mod mcp;
mod reader;
mod response;
mod rule;
mod select;
mod services;
#[cfg(test)]
mod tests;
mod tunnel;
mod values;
mod when;

use std::sync::Arc;

use crate::bait::{Decoy, Tripwire};
use crate::canon::Host;
use crate::catalog::{Catalogue, Shelf};
use crate::diagnostics::{File, Report, Span};
use crate::local::Local;
use crate::name::Name;
use crate::policy::{CredentialSpec, Durability, Mode, Rate, Resolve};
use crate::select::Selector;
use crate::yaml::{Entry, Node};
pub(crate) use case::Case;
pub(crate) use catalogue::CATALOGUE;
pub(crate) use fields::POLICY;
pub(crate) use form::{Form, Shape, Text};
pub(crate) use limits::Limits;
use reader::Reader;
pub(crate) use rule::RuleText;
pub(crate) use values::NAME;

/// A value and the bytes it was read from.
#[derive(Clone, Debug)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) span: Span,
}

/// Fields that could not be read are absent; the report then has an error and nothing loads.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) agent: Option<At<Name>>,
    pub(crate) select: Option<Vec<Selector>>,
    pub(crate) mode: Mode,
    pub(crate) mode_span: Option<Span>,
    pub(crate) description: Option<String>,
    pub(crate) owner: Option<String>,
    /// also those whose contents could not be read, so that one error does not cause more
    pub(crate) declared: Vec<At<Name>>,
    pub(crate) credentials: Vec<At<CredentialSpec>>,
    pub(crate) deny: Vec<RuleText>,
    pub(crate) allow: Vec<RuleText>,
    pub(crate) limits: Limits,
    pub(crate) private_addresses: Vec<ipnet::IpNet>,
    pub(crate) also_resolved: Vec<Host>,
    pub(crate) local: Local,
    pub(crate) decoys: Vec<At<Decoy>>,
    pub(crate) tripwire: Tripwire,
    pub(crate) resolve: Resolve,
    pub(crate) dns_rate: Option<Rate>,
    pub(crate) durability: Durability,
    pub(crate) tests: Vec<Case>,
    /// those that the policy speaks of
    pub(crate) catalogues: Vec<Arc<Catalogue>>,
    /// texts of presets, which are part of what the policy says
    pub(crate) beside: Vec<String>,
}

impl Document {
    /// Texts that it says something by, besides those of its files.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &str> {
        self.catalogues.iter().map(|catalogue| &*catalogue.text).chain(self.beside.iter().map(String::as_str))
    }
}

/// `included`: the roots of the files behind this one.
pub(crate) fn read(
    file: &File,
    root: &Node,
    included: &[Node],
    shelf: Shelf<'_>,
    report: &mut Report,
) -> Option<Document> {
    let mut reader = Reader::new(file, report);
    let r = &mut reader;
    let top = r.fields(root, &fields::POLICY)?;
    read_version(r, root, top.get("version"));
    let agent = match top.get("agent") {
        Some(entry) => r.name(entry),
        None => {
            r.missing(root, "a policy needs a name for its agent", "write `agent: NAME`");
            None
        }
    };
    let select = top.get("select").map(|entry| select::read(r, entry, agent.as_ref().map(|a| &a.value)));
    let mode = top.get("mode").and_then(|entry| rule::read_mode(r, entry)).unwrap_or(Mode::Enforce);
    let (declared, credentials) =
        top.get("credentials").map(|e| credential::read_all(r, e)).unwrap_or_default();
    let mut document = Document {
        agent,
        select,
        mode,
        mode_span: top.get("mode").map(|entry| entry.value.span.clone()),
        description: top.get("description").and_then(|e| r.prose(e)),
        owner: top.get("owner").and_then(|e| r.prose(e)),
        declared,
        credentials,
        deny: top.get("deny").map(|e| rule::read_all(r, e, rule::Effect::Deny)).unwrap_or_default(),
        allow: top.get("allow").map(|e| rule::read_all(r, e, rule::Effect::Allow)).unwrap_or_default(),
        limits: top.get("limits").map(|e| limits::read(r, e)).unwrap_or_default(),
        private_addresses: Vec::new(),
        also_resolved: Vec::new(),
        local: Local {
            loopback: top.get("loopback").map(|e| local::ports(r, e)).unwrap_or_default(),
            unix: top.get("unix").map(|e| local::sockets(r, e)).unwrap_or_default(),
        },
        decoys: top.get("decoys").map(|e| bait::decoys(r, e)).unwrap_or_default(),
        tripwire: top.get("tripwire").map(|e| bait::tripwire(r, e)).unwrap_or_default(),
        resolve: Resolve::Allowed,
        dns_rate: None,
        durability: Durability::Written,
        tests: top.get("tests").map(|e| case::read_all(r, e)).unwrap_or_default(),
        catalogues: Vec::new(),
        beside: Vec::new(),
    };
    if let Some(entry) = top.get("services") {
        services::read(r, entry, shelf, &mut document);
    }
    if let Some(entry) = top.get("use") {
        include::presets(r, entry, shelf, &mut document);
    }
    for node in included {
        include::fragment(r, node, shelf, &mut document);
    }
    if let Some(dns) = top.get("dns").and_then(|entry| r.section(entry, &fields::DNS)) {
        document.private_addresses =
            dns.get("private_addresses").map(|e| values::networks(r, e)).unwrap_or_default();
        document.also_resolved = dns.get("also").map(|e| values::names(r, e)).unwrap_or_default();
        document.dns_rate = dns.get("rate").and_then(|e| values::agent_rate(r, e));
        if let Some(entry) = dns.get("resolve") {
            let words = [("allowed", Resolve::Allowed), ("any", Resolve::Any), ("none", Resolve::None)];
            document.resolve = r.choice(entry, &words, &[]).unwrap_or(Resolve::None);
            if let Some(also) = dns.get("also").filter(|_| document.resolve == Resolve::None) {
                let hint = "remove `also`, or write `resolve: allowed`";
                r.error_with(
                    "E001",
                    &also.key_span,
                    "`resolve: none` resolves no name, also not these",
                    hint,
                );
            }
        }
    }
    if let Some(audit) = top.get("audit").and_then(|entry| r.section(entry, &fields::AUDIT)) {
        if let Some(entry) = audit.get("level") {
            r.choice(entry, &[("metadata", ())], &["none", "headers", "full"]);
        }
        if let Some(entry) = audit.get("bodies") {
            r.choice(entry, &[("none", ())], &["hash", "redacted"]);
        }
        let durability = audit.get("durability").and_then(|e| {
            r.choice(e, &[("written", Durability::Written), ("synced", Durability::Synced)], &[])
        });
        document.durability = durability.unwrap_or(document.durability);
    }
    Some(document)
}

fn read_version(r: &mut Reader<'_>, root: &Node, entry: Option<&Entry>) {
    let Some(entry) = entry else {
        r.missing(root, "a policy needs a version", "write `version: 1` at the top");
        return;
    };
    if let Some(text) = r.text(entry)
        && text.value != "1"
    {
        let message = format!("version `{}` is not known here; this enforcer reads version 1", text.value);
        r.error("E001", &text.span, message);
    }
}
