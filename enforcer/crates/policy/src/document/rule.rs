//! The rules of `deny:` and `allow:`.
//!
//! What an absent field means is decided here and nowhere else. In `allow`: host must be there,
//! protocol is https, port is the protocol's own, methods and paths are any. In `deny`: any, always.

use std::sync::Arc;

use super::reader::{Fields, Reader};
use super::{At, checks, fields, mcp, response, tunnel, values, when};
use crate::canon::{Method, Scheme, shown};
use crate::catalog::RuleAction;
use crate::diagnostics::{Span, nearest};
use crate::matcher::{Carriage, Conditions, HostPattern, Template};
use crate::name::Name;
use crate::policy::{Mode, Rate, ResponseRules};
use crate::yaml::{Entry, Node, Value};

/// Names below these exist only inside an organisation, so one wildcard may take them all.
const PRIVATE_TOP_LEVELS: &[&str] = &[
    "corp",
    "example",
    "home",
    "internal",
    "intranet",
    "invalid",
    "lan",
    "local",
    "localhost",
    "private",
    "test",
];

const COMMON_METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Deny,
    Allow,
}

#[derive(Debug)]
pub(crate) struct RuleText {
    pub(crate) name: At<Name>,
    /// as they were read, for showing
    pub(crate) fields: Vec<Entry>,
    pub(crate) conditions: Conditions,
    /// where each pattern of `conditions.hosts` stands; empty where the rule names no host
    pub(crate) host_spans: Vec<Span>,
    pub(crate) credential: Option<At<String>>,
    pub(crate) rates: Vec<Rate>,
    pub(crate) max_body: Option<u64>,
    pub(crate) websocket: bool,
    pub(crate) response: Option<Arc<ResponseRules>>,
    pub(crate) mode: Option<Mode>,
    pub(crate) message: Option<String>,
    /// of a catalogue, where it was made of one
    pub(crate) action: Option<Arc<RuleAction>>,
}

impl RuleText {
    pub(crate) fn of_one_catalogue(&self, other: &RuleText) -> bool {
        let service = |rule: &RuleText| rule.action.as_ref().map(|action| action.service.clone());
        service(self).is_some() && service(self) == service(other)
    }
}

pub(super) fn read_all(r: &mut Reader<'_>, entry: &Entry, effect: Effect) -> Vec<RuleText> {
    r.list(entry).iter().filter_map(|node| read(r, node, effect)).collect()
}

fn read(r: &mut Reader<'_>, node: &Node, effect: Effect) -> Option<RuleText> {
    read_named(r, node, effect, None)
}

/// `named`: a name that the rule has though it does not stand in it.
pub(super) fn read_named(
    r: &mut Reader<'_>,
    node: &Node,
    effect: Effect,
    named: Option<At<Name>>,
) -> Option<RuleText> {
    let shape = match effect {
        Effect::Deny => &fields::DENY_RULE,
        Effect::Allow => &fields::ALLOW_RULE,
    };
    let fields = r.fields(node, shape)?;
    for entry in shape.not_here.iter().filter_map(|field| fields.get(field)) {
        r.error_with(
            "E021",
            &entry.key_span,
            format!("`{}` does nothing in a deny rule", entry.key),
            "a deny rule only blocks; remove it",
        );
    }
    // Everything is read before the first return, so that one file shows all its errors.
    let name = match (named, fields.get("name")) {
        (Some(name), _) => Some(name),
        (None, Some(entry)) => r.name(entry),
        (None, None) => {
            r.missing(
                node,
                "a rule needs a name",
                "write `name: NAME`; it stands in every receipt of the rule",
            );
            None
        }
    };
    let hosts = read_hosts(r, node, fields, effect);
    let (scheme, carriage) = read_protocol(r, fields, effect);
    tunnel::check(r, fields, carriage, &hosts);
    let port = read_port(r, fields);
    let methods = read_methods(r, fields);
    let raw_path = effect == Effect::Deny || read_raw_path(r, fields);
    let templates = read_paths(r, fields, effect, raw_path);
    let grpc = fields.get("grpc").and_then(|entry| mcp::read_grpc(r, fields, entry));
    let (methods, templates) = match grpc {
        Some((methods, templates)) => (Some(methods), templates),
        None => (methods, templates),
    };
    let when = fields.get("when").and_then(|entry| when::read(r, entry));
    let rates = fields.get("rate").map(|entry| values::rates(r, entry, &templates)).unwrap_or_default();
    let rule = RuleText {
        fields: fields.all().to_vec(),
        conditions: Conditions {
            carriage,
            hosts: hosts.iter().map(|host| host.value.clone()).collect(),
            scheme,
            port: match (effect, scheme) {
                (Effect::Allow, Some(scheme)) => Some(port.unwrap_or(scheme.default_port())),
                (Effect::Allow, None) | (Effect::Deny, _) => port,
            },
            methods,
            when,
            templates,
            raw_path,
            checks: checks::read(r, fields, effect),
            wide: effect == Effect::Deny,
        },
        host_spans: match fields.get("host") {
            Some(_) => hosts.into_iter().map(|host| host.span).collect(),
            None => Vec::new(),
        },
        credential: fields.get("credential").and_then(|entry| r.text(entry)),
        rates,
        max_body: fields.get("max_body").and_then(|entry| values::size(r, entry)),
        websocket: read_websocket(r, fields),
        response: read_response(r, fields),
        mode: fields.get("mode").and_then(|entry| read_mode(r, entry)),
        message: fields.get("message").and_then(|entry| r.prose(entry)),
        action: None,
        name: name?,
    };
    Some(rule)
}

fn read_hosts(r: &mut Reader<'_>, node: &Node, fields: Fields<'_>, effect: Effect) -> Vec<At<HostPattern>> {
    let Some(entry) = fields.get("host") else {
        if effect == Effect::Deny {
            return vec![At { value: HostPattern::Any, span: node.span.clone() }];
        }
        r.missing(node, "an allow rule needs a host", "write for example `host: api.github.com`");
        return Vec::new();
    };
    let mut hosts = Vec::new();
    for text in r.one_or_list(entry) {
        if let Some(value) = read_host(r, &text, effect) {
            hosts.push(At { value, span: text.span });
        }
    }
    hosts
}

fn read_host(r: &mut Reader<'_>, text: &At<String>, effect: Effect) -> Option<HostPattern> {
    let written = text.value.as_str();
    if written == "*" {
        if effect == Effect::Deny {
            let hint = "a deny rule without `host` is for every host";
            r.error_with("E001", &text.span, "`*` alone is not a host pattern", hint);
            return None;
        }
        // `compile` asks for `limits.upload`.
        return Some(HostPattern::Any);
    }
    match HostPattern::parse(written) {
        Ok(HostPattern::Below(base))
            if effect == Effect::Allow && !base.contains('.') && !PRIVATE_TOP_LEVELS.contains(&&*base) =>
        {
            r.error_with(
                "E031",
                &text.span,
                format!("`{written}` is every name under `.{base}`"),
                "list the hosts or the organisations below it",
            );
            None
        }
        Ok(pattern) => Some(pattern),
        Err(error) => {
            let hint = if written.contains("://") || written.contains('/') {
                "write the host alone; `protocol`, `port` and `paths` are fields of their own"
            } else if written.contains(':') && written.matches(':').count() == 1 {
                "write the port as `port: NUMBER`"
            } else if written.contains('*') {
                "a wildcard is written `*.example.com` and stands for every name below it"
            } else {
                "write a name such as `api.github.com`, a wildcard such as `*.example.com`, or an IP address"
            };
            r.error_with("E001", &text.span, error.to_string(), hint);
            None
        }
    }
}

fn read_protocol(r: &mut Reader<'_>, fields: Fields<'_>, effect: Effect) -> (Option<Scheme>, Carriage) {
    let absent = match effect {
        Effect::Allow => (Some(Scheme::Https), Carriage::Requests),
        Effect::Deny => (None, Carriage::Requests),
    };
    let words = [
        ("https", (Some(Scheme::Https), Carriage::Requests)),
        ("http", (Some(Scheme::Http), Carriage::Requests)),
        ("tcp", (None, Carriage::Raw)),
    ];
    let entry = fields.get("protocol");
    let (scheme, mut carriage) =
        entry.and_then(|entry| r.choice(entry, &words, fields::PROTOCOLS_LATER)).unwrap_or(absent);
    if let Some(entry) = entry.filter(|_| effect == Effect::Deny && carriage == Carriage::Raw) {
        let hint = "a deny rule without `protocol`, `methods` and `paths` is for connections of every kind";
        r.error_with("E021", &entry.value.span, "a deny rule for raw connections needs no `protocol`", hint);
        return absent;
    }
    if let Some(entry) = fields.get("tls") {
        let passed = r.choice(entry, &[("inspect", false), ("passthrough", true)], &[]).unwrap_or(false);
        if passed && scheme == Some(Scheme::Https) {
            carriage = Carriage::Passthrough;
        } else if scheme != Some(Scheme::Https) {
            let hint = "remove `tls`, or write `protocol: https`";
            r.error_with("E026", &entry.key_span, "there is no TLS in this protocol that we know of", hint);
        }
    }
    (scheme, carriage)
}

/// Frames are not judged, so a rule has to say that it opens such a connection.
fn read_websocket(r: &mut Reader<'_>, fields: Fields<'_>) -> bool {
    let Some(entry) = fields.get("websocket") else { return false };
    r.choice(entry, &[("true", true), ("false", false)], &[]).unwrap_or(false)
}

/// gRPC and git write no encoded slashes.
fn read_raw_path(r: &mut Reader<'_>, fields: Fields<'_>) -> bool {
    let Some(entry) = fields.get("raw_path") else { return false };
    let raw_path = r.choice(entry, &[("true", true), ("false", false)], &[]).unwrap_or(false);
    if let Some(other) = ["grpc", "git"].into_iter().find(|other| raw_path && fields.get(other).is_some()) {
        let message = format!("`{other}` has no use for `raw_path: true`");
        r.error_with("E021", &entry.key_span, message, "no such request has an encoded slash; remove it");
    }
    raw_path
}

/// Unreadable is not `observe`.
pub(super) fn read_mode(r: &mut Reader<'_>, entry: &Entry) -> Option<Mode> {
    r.choice(entry, &[("enforce", Mode::Enforce), ("observe", Mode::Observe)], &[])
}

/// Frames of a WebSocket are no answer that could be read.
fn read_response(r: &mut Reader<'_>, fields: Fields<'_>) -> Option<Arc<ResponseRules>> {
    let rules = response::read(r, fields.get("response")?)?;
    let sockets = fields
        .get("websocket")
        .filter(|entry| matches!(&entry.value.value, Value::Scalar(text) if text == "true"));
    if let Some(entry) = sockets.filter(|_| rules.redacts_bodies()) {
        r.error_with(
            "E027",
            &entry.key_span,
            "what comes over a WebSocket cannot be redacted",
            "write a rule of its own for the path of the WebSocket",
        );
    }
    Some(rules)
}

fn read_port(r: &mut Reader<'_>, fields: Fields<'_>) -> Option<u16> {
    let text = r.text(fields.get("port")?)?;
    let plain = text.value.bytes().all(|b| b.is_ascii_digit()) && !text.value.starts_with('0');
    let port = text.value.parse().ok().filter(|_| plain);
    if port.is_none() {
        r.error(
            "E001",
            &text.span,
            format!("`{}` is not a port, a number from 1 to 65535", shown(&text.value)),
        );
    }
    port
}

fn read_methods(r: &mut Reader<'_>, fields: Fields<'_>) -> Option<Vec<Method>> {
    let mut methods = Vec::new();
    for text in r.one_or_list(fields.get("methods")?) {
        match Method::parse(&text.value) {
            Ok(method) => methods.push(method),
            Err(error) if text.value == "*" => {
                r.error_with(
                    "E001",
                    &text.span,
                    error.to_string(),
                    "a rule without `methods` is for every method",
                );
            }
            Err(error) => {
                let upper = text.value.to_ascii_uppercase();
                match nearest(&upper, COMMON_METHODS.iter().copied()) {
                    Some(near) => {
                        r.error_with("E001", &text.span, error.to_string(), format!("did you mean `{near}`?"))
                    }
                    None => r.error("E001", &text.span, error.to_string()),
                }
            }
        }
    }
    Some(methods)
}

fn read_paths(r: &mut Reader<'_>, fields: Fields<'_>, effect: Effect, raw_path: bool) -> Vec<Template> {
    let Some(entry) = fields.get("paths") else { return vec![Template::any()] };
    let mut templates = Vec::new();
    for text in r.one_or_list(entry) {
        match Template::parse(&text.value) {
            Ok(template) if template.has_encoded_slash() && !raw_path => {
                let message =
                    format!("path `{template}` has an encoded slash, which this rule does not take");
                let hint = "write `raw_path: true` beside it";
                r.error_with("E001", &text.span, message, hint);
            }
            Ok(template) if effect == Effect::Deny => templates.push(template.without_final_slash()),
            Ok(template) => templates.push(template),
            Err(why) => r.error("E001", &text.span, why),
        }
    }
    templates
}
