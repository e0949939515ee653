//! A catalogue's file: strict like a policy, and every action is tried as a rule before anybody uses it.

use super::form::{Form, Shape, Text, field, text};
use super::reader::{Fields, Reader};
use super::{At, checks, read_version, rule, values};
use crate::canon::{Method, shown};
use crate::catalog::{
    Action, Catalogue, Endpoint, Given, KINDS, ResourceShape, Setting, Settings, rules, shipped_catalogue,
    with_head,
};
use crate::diagnostics::{File, Report, Span, nearest};
use crate::name::Name;
use crate::yaml::{self, Entry, Node, Value};

const REQUEST: Text = text(
    r"^[A-Z]+(,[A-Z]+)*( [a-z][a-z0-9-]*)? /[^?# ]*$",
    &["POST /repos/{owner}/{repo}/pulls", "GET uploads /files/{path+}"],
);

pub(super) const SETTINGS: &Form = &Form::Keyed(&Form::Section(&SETTING));

pub(crate) const CATALOGUE: Shape = Shape::of(
    "a catalogue",
    &[
        field("version", &Form::Words(&["1"]), "The version of the language: 1."),
        field("service", NAME, "The service, called as the file is."),
        field("extends", NAME, "A shipped catalogue whose hosts, settings and actions this one starts with."),
        field("about", &Form::Prose, "What the service is, in a sentence."),
        field("docs", &Form::Prose, "Where its interface is described."),
        field(
            "hosts",
            &Form::Named(&Form::OneOrList(&Form::Scalar)),
            "Its hosts; the first is the usual one.",
        ),
        field("resource", &Form::Scalar, "What `resources` of a policy means: `{owner}/{repo}`."),
        field(
            "raw_path",
            &Form::Words(&["true", "false"]),
            "Do its ids hold encoded slashes (`group%2Fweb`)?",
        ),
        field("settings", SETTINGS, "What a policy may or has to say for itself."),
        field("actions", &Form::Named(&Form::Section(&ACTION)), "What can be done with it."),
    ],
)
.needs(&["version", "service"]);

const ACTION: Shape = Shape::of(
    "an action",
    &[
        field("about", &Form::Prose, "What it does, in a sentence."),
        field(
            "kind",
            &Form::Words(&["read", "write", "delete", "admin"]),
            "The word that stands for all such.",
        ),
        field("dangerous", &Form::Prose, "Completes `which …`; the action then has to be named itself."),
        field("mints_credentials", &Form::Prose, "The same, of what makes new ways in."),
        field(
            "requests",
            &Form::OneOrList(&Form::Either(&[Form::Text(&REQUEST), Form::Section(&ENDPOINT)])),
            "Methods, one of `hosts` if it is not the first, and a path template.",
        ),
    ],
)
.needs(&["about", "kind", "requests"]);

/// What of a rule an endpoint may say.
const CHECKED: &[&str] = &["query", "headers", "form", "json", "graphql", "mcp", "jsonrpc", "git"];
const CHECK_FORM: &Form = &Form::Keyed(&Form::Any);
const ENDPOINT: Shape = Shape::of(
    "an entry of `requests`",
    &[
        field("request", &Form::Text(&REQUEST), "Methods, host and path template."),
        field("query", CHECK_FORM, "As in a rule."),
        field("headers", CHECK_FORM, "As in a rule."),
        field("form", CHECK_FORM, "As in a rule."),
        field("json", CHECK_FORM, "As in a rule."),
        field("graphql", CHECK_FORM, "As in a rule."),
        field("mcp", CHECK_FORM, "As in a rule."),
        field("jsonrpc", CHECK_FORM, "As in a rule."),
        field("git", CHECK_FORM, "As in a rule."),
    ],
)
.needs(&["request"]);

const SETTING: Shape = Shape::of(
    "a setting",
    &[
        field("about", &Form::Prose, "What it is, in a sentence."),
        field("default", &Form::OneOrList(&Form::Scalar), "Its value where the policy gives none."),
        field(
            "example",
            &Form::OneOrList(&Form::Scalar),
            "What one looks like; unless it is optional, the policy has to give one.",
        ),
        field("optional", &Form::Words(&["true"]), "Without it, what mentions it is left out."),
    ],
)
.needs(&["about"]);

const NAME: &Form = &Form::Text(&values::NAME);

/// Settings are named in `${…}`, captures in `{…}`; both alphabets are these.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// `name`: what the file is called.
pub(crate) fn read(file: &File, name: &str) -> Result<Catalogue, Report> {
    let mut report = Report::default();
    let root = yaml::parse(file, &mut report).filter(|_| !report.has_errors());
    let catalogue = root.and_then(|root| read_root(&mut Reader::new(file, &mut report), &root, name));
    report.sort();
    catalogue.filter(|_| !report.has_errors()).ok_or(report)
}

fn read_root(r: &mut Reader<'_>, root: &Node, file_name: &str) -> Option<Catalogue> {
    let top = r.fields(root, &CATALOGUE)?;
    read_version(r, root, top.get("version"));
    require(r, root, top, &CATALOGUE);
    let name = top.get("service").and_then(|entry| r.name(entry));
    if let Some(name) = name.as_ref().filter(|name| name.value.as_str() != file_name) {
        let message = format!("the catalogue of `{}` stands in a file called `{file_name}.yaml`", name.value);
        r.error("E051", &name.span, message);
    }
    let base = top.get("extends").and_then(|entry| Some((extended(r, entry)?, entry.value.span.clone())));
    let mut catalogue = Catalogue {
        name: name.map_or_else(|| Name::parse("service").ok(), |name| Some(name.value))?,
        about: top.get("about").and_then(|entry| r.prose(entry)).unwrap_or_default(),
        resource: top.get("resource").and_then(|entry| resource(r, entry)),
        settings: top.get("settings").map(|entry| settings(r, entry)).unwrap_or_default(),
        given: Vec::new(),
        hosts: top.get("hosts").map(|entry| hosts(r, entry)).unwrap_or_default(),
        actions: Vec::new(),
        reach: Vec::new(),
        raw_path: match top.get("raw_path") {
            Some(entry) => r.choice(entry, &[("true", true), ("false", false)], &[]).unwrap_or(false),
            None => base.as_ref().is_some_and(|(base, _)| base.raw_path),
        },
        text: r.file.text.clone(),
    };
    if let Some(entry) = top.get("actions") {
        catalogue.actions =
            named(r, entry).into_iter().filter_map(|(name, entry)| action(r, name, entry)).collect();
    }
    if let Some(base) = base {
        inherit(&mut catalogue, &base.0, &base.1);
    }
    if catalogue.hosts.is_empty() || catalogue.actions.is_empty() {
        r.missing(root, "a catalogue needs `hosts` and `actions`", "write both, or `extends: NAME`");
        return None;
    }
    try_out(r, &mut catalogue, |_endpoint| true);
    Some(catalogue)
}

/// A catalogue as one policy has it, which gives these settings: its actions are where they are for that policy.
/// `at`: where what comes from the catalogue is placed.
pub(super) fn with_settings(r: &mut Reader<'_>, base: &Catalogue, given: &[Entry], at: &Span) -> Catalogue {
    let mut own = Catalogue { given: given.to_vec(), reach: Vec::new(), ..base.clone() };
    for setting in &mut own.settings {
        if let Some(entry) = given.iter().find(|entry| entry.key == setting.name) {
            setting.given = Given::Default(entry.value.clone());
        }
    }
    let endpoints = own.actions.iter_mut().flat_map(|action| &mut action.endpoints);
    endpoints.for_each(|endpoint| endpoint.span = at.clone());
    // Most settings are of a few actions; the others are where they were.
    try_out(r, &mut own, |endpoint| given.iter().any(|entry| needs(base, endpoint, &entry.key)));
    own
}

/// Is this setting in the endpoint?
pub(super) fn needs(catalogue: &Catalogue, endpoint: &Endpoint, setting: &str) -> bool {
    let named = format!("${{{setting}}}");
    catalogue.hosts(&endpoint.host).is_some_and(|hosts| holds(hosts, &named))
        || holds(&endpoint.path, &named)
        || endpoint.checks.iter().any(|entry| holds(&entry.value, &named))
}

fn holds(node: &Node, part: &str) -> bool {
    match &node.value {
        Value::Null => false,
        Value::Scalar(text) => text.contains(part),
        Value::List(items) => items.iter().any(|item| holds(item, part)),
        Value::Map(entries) => entries.iter().any(|entry| holds(&entry.value, part)),
    }
}

pub(super) fn require(r: &mut Reader<'_>, node: &Node, fields: Fields<'_>, shape: &Shape) {
    for need in shape.needs.iter().filter(|need| **need != "version" && fields.get(need).is_none()) {
        r.missing(node, &format!("{} needs `{need}`", shape.what), &format!("write `{need}: …`"));
    }
}

fn extended(r: &mut Reader<'_>, entry: &Entry) -> Option<std::sync::Arc<Catalogue>> {
    let name = r.name(entry)?;
    match shipped_catalogue(name.value.as_str()) {
        Some(Ok(catalogue)) => Some(catalogue),
        Some(Err(report)) => {
            r.add(report);
            None
        }
        None => {
            let known = crate::catalog::SERVICES.iter().map(|(name, _)| *name);
            let message = format!("no catalogue `{}` is shipped", name.value);
            match nearest(name.value.as_str(), known) {
                Some(near) => r.error_with("E051", &name.span, message, format!("did you mean `{near}`?")),
                None => r.error("E051", &name.span, message),
            }
            None
        }
    }
}

/// What the file says itself comes first and counts. `at`: where what is inherited is placed, since its own places
/// are in another file.
fn inherit(own: &mut Catalogue, base: &Catalogue, at: &Span) {
    own.text = format!("{}{}", own.text, base.text).into();
    own.resource = own.resource.take().or_else(|| base.resource.clone());
    if own.about.is_empty() {
        own.about.clone_from(&base.about);
    }
    for setting in &base.settings {
        if !own.settings.iter().any(|own| own.name == setting.name) {
            own.settings.push(setting.placed(at));
        }
    }
    // The first is the usual one, so the order is the base's.
    let mut hosts = base.hosts.clone();
    hosts.iter_mut().for_each(|(_, host)| host.placed(at));
    for (name, host) in std::mem::take(&mut own.hosts) {
        match hosts.iter_mut().find(|(other, _)| *other == name) {
            Some(other) => other.1 = host,
            None => hosts.push((name, host)),
        }
    }
    own.hosts = hosts;
    for action in &base.actions {
        if !own.actions.iter().any(|own| own.name == action.name) {
            let mut action = action.clone();
            action.endpoints.iter_mut().for_each(|endpoint| endpoint.span = at.clone());
            own.actions.push(action);
        }
    }
}

/// The entries of a mapping whose keys are names.
fn named<'n>(r: &mut Reader<'_>, entry: &'n Entry) -> Vec<(At<Name>, &'n Entry)> {
    let entries = checks::keys(r, entry);
    entries.iter().filter_map(|entry| Some((r.parse_name(&entry.key, &entry.key_span)?, entry))).collect()
}

fn resource(r: &mut Reader<'_>, entry: &Entry) -> Option<ResourceShape> {
    let text = r.text(entry)?;
    match ResourceShape::parse(&text.value) {
        Ok(shape) => Some(shape),
        Err(why) => {
            r.error("E001", &text.span, why);
            None
        }
    }
}

fn hosts(r: &mut Reader<'_>, entry: &Entry) -> Vec<(String, Node)> {
    let mut hosts = Vec::new();
    for (name, entry) in named(r, entry) {
        if !r.one_or_list(entry).is_empty() {
            hosts.push((name.value.to_string(), entry.value.clone()));
        }
    }
    hosts
}

/// Of catalogues and of presets.
pub(super) fn settings(r: &mut Reader<'_>, entry: &Entry) -> Vec<Setting> {
    let mut settings = Vec::new();
    for entry in checks::keys(r, entry) {
        if !is_word(&entry.key) {
            let message = format!("`{}` is not the name of a setting", shown(&entry.key));
            r.error_with("E001", &entry.key_span, message, "write lower-case letters, digits and `_`");
            continue;
        }
        let Some(read) = r.section(entry, &SETTING) else { continue };
        require(r, &entry.value, read, &SETTING);
        let about = read.get("about").and_then(|entry| r.prose(entry)).unwrap_or_default();
        let mut value = |name: &str| {
            let entry = read.get(name)?;
            (!r.one_or_list(entry).is_empty()).then(|| entry.value.clone())
        };
        let given = match (value("default"), value("example"), read.get("optional")) {
            (Some(default), None, None) => Given::Default(default),
            (None, Some(example), None) => Given::Needed { example },
            (None, example, Some(optional)) => {
                r.choice(optional, &[("true", ())], &[]);
                Given::Optional { example }
            }
            _ => {
                r.error(
                    "E001",
                    &entry.key_span,
                    "a setting has one of `default`, `example` and `optional: true`",
                );
                continue;
            }
        };
        settings.push(Setting { name: entry.key.clone(), about, given });
    }
    settings
}

fn action(r: &mut Reader<'_>, name: At<Name>, entry: &Entry) -> Option<Action> {
    if KINDS.iter().any(|(word, _)| *word == name.value.as_str()) {
        r.error(
            "E051",
            &name.span,
            format!("`{}` stands for all actions of a kind; call it otherwise", name.value),
        );
    }
    let read = r.section(entry, &ACTION)?;
    require(r, &entry.value, read, &ACTION);
    let mut prose = |name: &str| read.get(name).and_then(|entry| r.prose(entry));
    let (about, dangerous, mints) = (prose("about"), prose("dangerous"), prose("mints_credentials"));
    let kind = read.get("kind").and_then(|entry| r.choice(entry, KINDS, &[]));
    let requests = read.get("requests")?;
    let nodes = match &requests.value.value {
        Value::List(_) => r.list(requests),
        Value::Null => {
            r.empty(requests);
            return None;
        }
        Value::Scalar(_) | Value::Map(_) => std::slice::from_ref(&requests.value),
    };
    let endpoints = nodes.iter().filter_map(|node| endpoint(r, node)).collect();
    Some(Action {
        name: name.value,
        about: about?,
        kind: kind?,
        dangerous,
        mints,
        endpoints,
        conditions: Vec::new(),
    })
}

fn endpoint(r: &mut Reader<'_>, node: &Node) -> Option<Endpoint> {
    let (request, checks) = match &node.value {
        Value::Map(entries) => {
            let fields = r.fields(node, &ENDPOINT)?;
            require(r, node, fields, &ENDPOINT);
            let checks =
                entries.iter().filter(|entry| CHECKED.contains(&entry.key.as_str())).cloned().collect();
            (r.text(fields.get("request")?)?, checks)
        }
        Value::Null | Value::Scalar(_) | Value::List(_) => (r.item("requests", node)?, Vec::new()),
    };
    let parts: Vec<&str> = request.value.split(' ').collect();
    let (methods, host, path) = match parts.as_slice() {
        [methods, path] => (*methods, "", *path),
        [methods, host, path] => (*methods, *host, *path),
        _ => {
            let message = format!("`{}` is not a request of a catalogue", shown(&request.value));
            r.error_with(
                "E001",
                &request.span,
                message,
                "write for example `POST /repos/{owner}/{repo}/pulls`",
            );
            return None;
        }
    };
    let mut read = Vec::new();
    for method in methods.split(',') {
        match Method::parse(method) {
            Ok(method) => read.push(method),
            Err(error) => r.error("E001", &request.span, error.to_string()),
        }
    }
    let path = Node { span: request.span.clone(), value: Value::Scalar(path.to_owned()), quoted: true };
    let methods = with_head(read);
    Some(Endpoint { span: request.span, methods, host: host.to_owned(), path, checks })
}

/// Reads the endpoints of every action that has a new one as the rules that they would be, for every resource.
fn try_out(r: &mut Reader<'_>, catalogue: &mut Catalogue, new: impl Fn(&Endpoint) -> bool) {
    let stand_ins: Settings =
        catalogue.settings.iter().map(|setting| (setting.name.clone(), setting.stand_in())).collect();
    let first = catalogue.hosts.first().map(|(name, _)| name.clone()).unwrap_or_default();
    let mut actions = std::mem::take(&mut catalogue.actions);
    for action in actions.iter_mut().filter(|action| action.endpoints.iter().any(&new)) {
        action.conditions.clear();
        let mut said = false;
        for endpoint in &mut action.endpoints {
            if endpoint.host.is_empty() {
                endpoint.host.clone_from(&first);
            }
            if catalogue.hosts(&endpoint.host).is_none() {
                let message = format!("`{}` is not one of `hosts`", shown(&endpoint.host));
                r.error("E051", &endpoint.span, message);
                continue;
            }
            let raw: Vec<Entry> = (catalogue.raw_path && !endpoint.is_git())
                .then(|| Entry::said("raw_path", "true", &endpoint.span))
                .into_iter()
                .collect();
            let made = match rules(catalogue, endpoint, &[], &stand_ins, &raw, &endpoint.span) {
                Ok(made) => made,
                Err(name) => {
                    r.error("E053", &endpoint.span, format!("`${{{name}}}` is not one of `settings`"));
                    continue;
                }
            };
            for made in made {
                said = true;
                let name = At { value: action.name.clone(), span: endpoint.span.clone() };
                let read = rule::read_named(r, &made.rule, rule::Effect::Allow, Some(name));
                action.conditions.extend(read.map(|rule| rule.conditions));
            }
        }
        let optional = stand_ins.values().any(Option::is_none);
        if !said
            && !optional
            && let Some(endpoint) = action.endpoints.first()
        {
            let message = format!("no request of `{}` is there where no resource is named", action.name);
            let hint = "captures beside text (`{repo}.git`) need a spelling without it too";
            r.error_with("E054", &endpoint.span, message, hint);
        }
    }
    for pattern in actions.iter().flat_map(|action| &action.conditions).flat_map(|own| &own.hosts) {
        if !catalogue.reach.contains(pattern) {
            catalogue.reach.push(pattern.clone());
        }
    }
    catalogue.actions = actions;
}
