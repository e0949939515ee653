//! E028, W034: deny rules that would have to look into connections nobody looks into.
//!
//! A deny rule for some requests of a host, and a rule that passes connections to that host on unread:
//! the first would not hold.

use crate::diagnostics::{File, Finding, Report};
use crate::document::{Document, RuleText};
use crate::matcher::{Carriage, HostPattern};

pub(crate) fn check(file: &File, document: &Document, report: &mut Report) {
    let unread = |rule: &&RuleText| rule.conditions.carriage != Carriage::Requests;
    for rule in document.allow.iter().filter(unread) {
        let looking = document.deny.iter().filter(|deny| !deny.conditions.whole_endpoint());
        for deny in looking.filter(|deny| meets(deny, rule)) {
            let (allow, deny_name) = (&rule.name.value, &deny.name.value);
            if deny.host_spans.is_empty() {
                let message =
                    format!("deny rule `{deny_name}` does not see what rule `{allow}` lets through");
                report.push(
                    Finding::warning("W034", file, &rule.name.span, message)
                        .label("relayed unread")
                        .also(file, &deny.name.span, "this deny rule is for every host")
                        .hint("name the hosts of the deny rule, if it is not meant for this one"),
                );
            } else {
                let message =
                    format!("deny rule `{deny_name}` cannot hold where rule `{allow}` lets through unread");
                report.push(
                    Finding::error("E028", file, &rule.name.span, message)
                        .label("nobody sees methods, paths and bodies here")
                        .also(file, &deny.name.span, "would have to see them")
                        .hint("deny the whole host, or let its requests be inspected"),
                );
            }
        }
    }
}

fn meets(deny: &RuleText, rule: &RuleText) -> bool {
    let port = deny.conditions.port.is_none() || deny.conditions.port == rule.conditions.port;
    let host = |one: &HostPattern, other: &HostPattern| one.covers(other) || other.covers(one);
    port && deny.conditions.hosts.iter().any(|one| rule.conditions.hosts.iter().any(|other| host(one, other)))
}
