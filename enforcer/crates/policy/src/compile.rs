//! From texts to a [`PolicySet`]: read every file, resolve names, build the index, run the tests.
//!
//! All errors of all files are reported together, and with one error nothing loads: half a set
//! could be wider than the whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::catalog::Library;
use crate::diagnostics::{File, Finding, Report, Span, nearest};
use crate::document::{self, At, Document, RuleText, include};
use crate::matcher::{Carriage, Conditions, HostPattern, Index};
use crate::name::Name;
use crate::policy::{AgentPolicy, Compiled, Mode, PolicySet, Rule, Source};
use crate::{lint, selftest, unseen, yaml};

/// No policy written by people comes near; a generated one this long cannot be reviewed.
const MAX_FILE: usize = 1024 * 1024;

pub(crate) fn compile(sources: &[Source], library: &Library) -> Result<Compiled, Report> {
    let mut report = Report::default();
    let mut agents: BTreeMap<Name, Arc<AgentPolicy>> = BTreeMap::new();
    let mut named: BTreeMap<Name, (File, At<Name>)> = BTreeMap::new();
    for source in sources {
        let before = report.findings.len();
        let Some((file, document)) = read(source, library, &mut report) else { continue };
        let Some(agent) = document.agent.clone() else { continue };
        match named.get(&agent.value) {
            Some((first_file, first)) => {
                let message = format!(
                    "two files are for agent `{}`: {} and {}",
                    agent.value, first_file.name, file.name
                );
                report.push(
                    Finding::error("E011", &file, &agent.span, message)
                        .label("second")
                        .also(first_file, &first.span, "first")
                        .hint("an agent has one policy; join the files or rename one agent"),
                );
            }
            None => {
                named.insert(agent.value.clone(), (file.clone(), agent.clone()));
            }
        }
        if let Some(policy) = build(&file, agent.value.clone(), document, before, &mut report) {
            agents.insert(agent.value, Arc::new(policy));
        }
    }
    report.sort();
    if report.has_errors() {
        Err(report)
    } else {
        Ok(Compiled { set: PolicySet { agents }, warnings: report })
    }
}

/// The file, with what it includes behind it, and what it says.
pub(crate) fn read(source: &Source, library: &Library, report: &mut Report) -> Option<(File, Document)> {
    let file = File::new(&source.name, &source.text);
    if file.text.len() > MAX_FILE {
        report.push(Finding::about("E001", &file, "the file is larger than 1 MiB"));
        return None;
    }
    let before = report.findings.len();
    let root = yaml::parse(&file, report)?;
    // What YAML refused left holes in the tree; complaints about holes would hide the cause.
    if report.findings.len() > before {
        return None;
    }
    let shelf = library.shelf(&source.name);
    let (file, included) = include::gather(&file, &root, shelf, report)?;
    let document = document::read(&file, &root, &included, shelf, report)?;
    Some((file, document))
}

/// The policy of one file, where nothing in that file is wrong: no error among what was found after `before`.
fn build(
    file: &File,
    agent: Name,
    document: Document,
    before: usize,
    report: &mut Report,
) -> Option<AgentPolicy> {
    check_names(file, &document, report);
    check_reach(file, &document, report);
    unseen::check(file, &document, report);
    if report.findings.iter().skip(before).any(|finding| finding.error) {
        return None;
    }
    lint::check(file, &document, report);
    let revision = revision(file, &document);
    let denies = document.deny.len();
    let (mut rules, mut conditions) = (Vec::new(), Vec::new());
    for text in document.deny.into_iter().chain(document.allow) {
        let (rule, condition) = split(file, text, document.mode);
        rules.push(Arc::new(rule));
        conditions.push(condition);
    }
    let (of_deny, of_allow) = conditions.split_at(denies);
    let (deny, allow) = (Index::new(0, true, of_deny), Index::new(denies, false, of_allow));
    let reads_bodies = conditions.iter().any(|conditions: &Conditions| conditions.checks.wanted().is_some());
    let raw = conditions.iter().filter(|conditions| conditions.carriage == Carriage::Raw);
    let raw_ports = raw.filter_map(|conditions| conditions.port).collect();
    let mut policy = AgentPolicy {
        raw_ports,
        mode: document.mode,
        unruled: Arc::new(unruled(file)),
        resolve: document.resolve,
        dns_rate: document.dns_rate,
        name: agent,
        select: document.select,
        description: document.description,
        owner: document.owner,
        revision,
        catalogues: document.catalogues,
        durability: document.durability,
        reads_bodies,
        rules,
        conditions,
        denies,
        deny,
        allow,
        credentials: document.credentials.into_iter().map(|credential| credential.value).collect(),
        private_addresses: document.private_addresses,
        also_resolved: document.also_resolved,
        local: document.local,
        decoys: document.decoys.into_iter().map(|decoy| decoy.value).collect(),
        tripwire: document.tripwire,
        limits: document.limits,
        tested: BTreeSet::new(),
    };
    policy.tested = selftest::run(file, &policy, &document.tests, report);
    Some(policy)
}

/// It brings nothing along and forbids nothing.
fn unruled(file: &File) -> Rule {
    Rule {
        name: Name::parse("observed").expect("it is a name"),
        mode: Mode::Observe,
        credential: None,
        rates: Vec::new(),
        max_body: None,
        websocket: true,
        response: None,
        message: None,
        action: None,
        place: file.name.to_string(),
    }
}

fn split(file: &File, text: RuleText, mode: Mode) -> (Rule, Conditions) {
    let rule = Rule {
        mode: text.mode.unwrap_or(mode),
        place: file.place(&text.name.span),
        name: text.name.value,
        // Declared, as `check_names` has made sure, and so a name.
        credential: text.credential.and_then(|credential| Name::parse(&credential.value).ok()),
        rates: text.rates,
        max_body: text.max_body,
        websocket: text.websocket,
        response: text.response,
        message: text.message,
        action: text.action,
    };
    (rule, text.conditions)
}

/// An agent that may send to any host may send so much only.
fn check_reach(file: &File, document: &Document, report: &mut Report) {
    // A budget for each host is none for all of them.
    if document.limits.upload.iter().any(|budget| !budget.per_host) {
        return;
    }
    for rule in &document.allow {
        let hosts = rule.conditions.hosts.iter().zip(&rule.host_spans);
        for (_, span) in hosts.filter(|(host, _)| **host == HostPattern::Any) {
            let message = "`host: \"*\"` lets the agent send anything anywhere; it needs `limits.upload`";
            let hint = "list the hosts, or add for example `limits: { upload: 50MiB/day }`";
            report.push(Finding::error("E031", file, span, message).hint(hint));
        }
    }
}

/// Names that are used are declared, and names that are declared are so once.
fn check_names(file: &File, document: &Document, report: &mut Report) {
    let mut rules: BTreeMap<&Name, &RuleText> = BTreeMap::new();
    for rule in document.deny.iter().chain(&document.allow) {
        match rules.get(&rule.name.value) {
            // The requests of one action, under the one name that its rate is counted by.
            Some(first) if rule.action.is_some() && first.name.span == rule.name.span => {}
            Some(first) => report.push(
                Finding::error(
                    "E010",
                    file,
                    &rule.name.span,
                    format!("two rules are called `{}`", rule.name.value),
                )
                .label("second")
                .also(file, &first.name.span, "first")
                .hint("names appear in receipts and alerts, so each must be unique in the file"),
            ),
            None => {
                rules.insert(&rule.name.value, rule);
            }
        }
        if let Some(used) = &rule.credential {
            check_credential(file, &document.declared, used, report);
        }
    }
    let of_credentials =
        document.credentials.iter().filter_map(|c| Some((c.value.env.as_deref()?, &c.span, "credentials")));
    let of_decoys = document.decoys.iter().map(|decoy| (decoy.value.env.as_str(), &decoy.span, "decoys"));
    let mut variables: BTreeMap<&str, (&Span, &str)> = BTreeMap::new();
    for (variable, span, what) in of_credentials.chain(of_decoys) {
        match variables.get(variable) {
            Some((first, before)) => {
                let two =
                    if *before == what { format!("two {what}") } else { "a credential and a decoy".into() };
                report.push(
                    Finding::error("E012", file, span, format!("{two} use the variable `{variable}`"))
                        .label("second")
                        .also(file, first, "first")
                        .hint("the agent finds one value in one variable"),
                );
            }
            None => {
                variables.insert(variable, (span, what));
            }
        }
    }
}

fn check_credential(file: &File, declared: &[At<Name>], used: &At<String>, report: &mut Report) {
    if declared.iter().any(|name| name.value.as_str() == used.value) {
        return;
    }
    let finding =
        Finding::error("E020", file, &used.span, format!("credential `{}` is not declared", used.value))
            .label("not under `credentials:`");
    report.push(match nearest(&used.value, declared.iter().map(|name| name.value.as_str())) {
        Some(near) => finding.hint(format!("did you mean `{near}`?")),
        None => finding.hint(format!(
            "declare it: `credentials: {{ {}: {{ bearer: {{ secret: NAME }} }} }}`",
            used.value
        )),
    });
}

/// Of everything that the policy is made of. A file that stands alone has the digest of its text.
fn revision(file: &File, document: &Document) -> String {
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    for (number, text) in file.texts().chain(document.sources()).enumerate() {
        // Where one ends and the next begins is part of it.
        if number > 0 {
            digest.update(&(text.len() as u64).to_be_bytes());
        }
        digest.update(text.as_bytes());
    }
    digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
