//! Rules whose connections nobody looks into: `tls: passthrough` and `protocol: tcp`.
//!
//! Such a rule has a name, an address and limits. A field that would need a look inside is an error.

use super::At;
use super::reader::{Fields, Reader};
use crate::diagnostics::Span;
use crate::matcher::{Carriage, HostPattern};

/// What is known of a connection without reading it.
const KNOWN: &[&str] =
    &["name", "host", "port", "protocol", "tls", "rate", "when", "message", "mode", "audit"];

pub(super) fn check(r: &mut Reader<'_>, fields: Fields<'_>, carriage: Carriage, hosts: &[At<HostPattern>]) {
    let what = match carriage {
        Carriage::Requests => return,
        Carriage::Passthrough => "TLS that is passed through",
        Carriage::Raw => "a raw connection",
    };
    for entry in fields.all().iter().filter(|entry| !KNOWN.contains(&entry.key.as_str())) {
        if entry.key == "credential" {
            let message = format!("a credential cannot be put into {what}");
            let hint = "remove the credential, or let requests be inspected (`protocol: https`, no `tls`)";
            r.error_with("E022", &entry.value.span, message, hint);
        } else {
            let message = format!("`{}` cannot be seen in {what}", entry.key);
            let hint =
                "match on host and port only, or let requests be inspected (`protocol: https`, no `tls`)";
            r.error_with("E026", &entry.key_span, message, hint);
        }
    }
    for host in hosts {
        check_host(r, carriage, &host.value, &host.span);
    }
    if carriage == Carriage::Raw
        && fields.get("port").is_none()
        && let Some(entry) = fields.get("protocol")
    {
        let hint = "write for example `port: 5432`";
        r.error_with("E001", &entry.value.span, "a rule for raw connections needs a port", hint);
    }
}

fn check_host(r: &mut Reader<'_>, carriage: Carriage, host: &HostPattern, span: &Span) {
    match (carriage, host) {
        (Carriage::Passthrough, HostPattern::Any) => r.error_with(
            "E031",
            span,
            "`host: \"*\"` with `tls: passthrough` lets the agent speak with anybody unseen",
            "list the hosts",
        ),
        (Carriage::Passthrough, HostPattern::Exact(name)) if name.ip().is_some() => r.error_with(
            "E026",
            span,
            format!("a client sends no server name for the address `{name}`"),
            "write the host's name, or a rule with `protocol: tcp`",
        ),
        (Carriage::Raw, HostPattern::Any | HostPattern::Below(_)) => r.error_with(
            "E026",
            span,
            format!("a raw connection has no name in it that could be held against `{host}`"),
            "list the hosts one by one; the agent's address must be one that we resolved for them",
        ),
        (Carriage::Requests | Carriage::Passthrough | Carriage::Raw, _) => {}
    }
}
