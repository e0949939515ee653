//! What a careful reader of a policy would ask about: reach of credentials, rules without a bound.
//!
//! Beside the warnings that every load gives. Nothing here is an error; a policy may mean all of it.
//! For CI, `enforcer policy audit` ends with an exit code for what was found.
//!
//! Left out: where bindings come from. Callers ask the vault.

mod dangers;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::canon::{Host, Scheme, authority};
use crate::catalog::Library;
use crate::compile;
use crate::diagnostics::{File, Finding, Report, Span};
use crate::document::{Document, RuleText};
use crate::matcher::HostPattern;
use crate::policy::{Compiled, PolicySet, Source};

/// What the audit knows beside the files.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// the hosts each secret is bound to, as the vault spells them; `None`: the vault was not asked
    pub bindings: Option<BTreeMap<String, Vec<String>>>,
    /// files that the policies refer to
    pub library: Library,
}

/// Every finding, in the order of the files. `Err`: the files do not load, and this is why.
pub fn audit(sources: &[Source], around: &Surroundings) -> Result<Report, Report> {
    let Compiled { set: _, warnings: mut report } = PolicySet::compile_with(sources, &around.library)?;
    for source in sources {
        let Some((file, document)) = compile::read(source, &around.library, &mut report) else { continue };
        dangers::check(&file, &source.name, &document, around, &mut report);
        for rule in &document.allow {
            bound(&file, &document, rule, &mut report);
            whole_host(&file, rule, &mut report);
            if let Some(bindings) = &around.bindings {
                reach(&file, &document, rule, bindings, &mut report);
            }
        }
    }
    report.sort();
    Ok(report)
}

/// W050, W051: a loop in an agent is bounded by nothing else.
fn bound(file: &File, document: &Document, rule: &RuleText, report: &mut Report) {
    if !rule.rates.is_empty() {
        return;
    }
    let name = &rule.name.value;
    let finding = match &rule.credential {
        Some(credential) => Finding::warning(
            "W050",
            file,
            &rule.name.span,
            format!("rule `{name}` brings a credential and has no rate"),
        )
        .also(file, &credential.span, "credential"),
        None if document.limits.rates.is_empty() => Finding::warning(
            "W051",
            file,
            &rule.name.span,
            format!("nothing bounds how often rule `{name}` is used"),
        ),
        None => return,
    };
    report
        .push(finding.hint(
            "add for example `rate: 60/min` to the rule; `enforcer policy suggest` says what was seen",
        ));
}

/// W052: everything a key can do, the agent can do.
fn whole_host(file: &File, rule: &RuleText, report: &mut Report) {
    let Some(credential) = &rule.credential else { return };
    if rule.conditions.whole_endpoint() {
        let message =
            format!("credential `{}` may be used for every method and path of its hosts", credential.value);
        report.push(
            Finding::warning("W052", file, &rule.name.span, message)
                .also(file, &credential.span, "credential")
                .hint(
                    "name `methods` and `paths`; where many are meant, `methods: [GET, HEAD]` is a beginning",
                ),
        );
    }
}

/// W053, W054: what the vault would refuse when it is too late to ask.
fn reach(
    file: &File,
    document: &Document,
    rule: &RuleText,
    bindings: &BTreeMap<String, Vec<String>>,
    report: &mut Report,
) {
    let Some(credential) = &rule.credential else { return };
    let spec = document.credentials.iter().find(|spec| spec.value.name.as_str() == credential.value);
    let Some(secret) = spec.map(|spec| spec.value.secret.as_str()) else { return };
    let Some(hosts) = bindings.get(secret) else {
        let message =
            format!("secret `{secret}` is not in the vault, so rule `{}` will fail", rule.name.value);
        report.push(
            Finding::warning("W054", file, &credential.span, message)
                .hint(format!("store it with `enforcer secret set {secret} --host HOST`")),
        );
        return;
    };
    let places: Vec<(Scheme, HostPattern, u16)> = hosts.iter().filter_map(|text| binding(text)).collect();
    for (pattern, span) in rule.conditions.hosts.iter().zip(&rule.host_spans) {
        let bound = places.iter().any(|(scheme, host, port)| {
            host.covers(pattern)
                && rule.conditions.scheme == Some(*scheme)
                && rule.conditions.port == Some(*port)
        });
        if !bound {
            report.push(beyond(file, rule, pattern, span, secret, hosts));
        }
    }
}

fn beyond(
    file: &File,
    rule: &RuleText,
    pattern: &HostPattern,
    span: &Span,
    secret: &str,
    hosts: &[String],
) -> Finding {
    let message = format!(
        "rule `{}` would send secret `{secret}` to {pattern}, where the vault does not let it go",
        rule.name.value
    );
    let hint = format!(
        "it is bound to {}; change the rule, or the binding with `enforcer secret set {secret} --host …`",
        hosts.join(", ")
    );
    Finding::warning("W053", file, span, message).label("beyond its binding").hint(hint)
}

/// As `enforcer secret ls` prints it: `api.example.com`, `*.example.com`, `https://a.example:8443`.
fn binding(text: &str) -> Option<(Scheme, HostPattern, u16)> {
    let (scheme, rest) = match text.split_once("://") {
        Some(("http", rest)) => (Scheme::Http, rest),
        Some(("https", rest)) => (Scheme::Https, rest),
        Some(_) => return None,
        None => (Scheme::Https, text),
    };
    let (star, rest) = match rest.strip_prefix("*.") {
        Some(rest) => ("*.", rest),
        None => ("", rest),
    };
    let (host, port) = match authority(rest) {
        Ok(read) => read,
        // An IPv6 address without brackets.
        Err(_) => (Host::parse(rest).ok()?, None),
    };
    let pattern = HostPattern::parse(&format!("{star}{host}")).ok()?;
    Some((scheme, pattern, port.unwrap_or(scheme.default_port())))
}
