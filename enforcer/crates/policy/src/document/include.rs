//! `include:` and `use:`: parts of a policy that stand in other files.
//!
//! An included file has the words of a policy that make rules, and none of those that make an agent. Paths
//! go from the policy folder and stay in it; a file that several others include counts once.

use std::collections::BTreeSet;

use super::catalogue::{self, require};
use super::form::{Form, Shape, Text, field, text};
use super::reader::Reader;
use super::services::read_settings;
use super::{Document, case, checks, credential, fields, read_version, rule, services, values};
use crate::canon::shown;
use crate::catalog::{PRESETS, Shelf, fill, inside};
use crate::diagnostics::{File, Finding, Report, Span, nearest};
use crate::yaml::{self, Entry, Node, Value};

/// Files of one policy: more cannot be reviewed.
const MAX_INCLUDED: usize = 64;
/// As for policies.
const MAX_FILE: usize = 1024 * 1024;

pub(super) const PATH: Text = text("^[A-Za-z0-9_-][A-Za-z0-9._/-]*[.]yaml$", &["shared/base.yaml"]);
pub(super) const USED: &Form =
    &Form::Either(&[Form::Text(&values::NAME), Form::Named(&Form::Keyed(&Form::OneOrList(&Form::Scalar)))]);

/// What is an agent's own, and no part of other files.
const OWN: &[&str] =
    &["agent", "owner", "select", "mode", "limits", "dns", "loopback", "unix", "decoys", "tripwire", "audit"];
pub(super) const FRAGMENT: Shape = Shape::of("an included file", fields::POLICY.known).not_here(OWN);

const PRESET: Shape = Shape::of(
    "a preset",
    &[
        field("version", &Form::Words(&["1"]), "The version of the language: 1."),
        field("preset", &Form::Text(&values::NAME), "Its name, called as the file is."),
        field("about", &Form::Prose, "What it is for, in a sentence."),
        field("settings", catalogue::SETTINGS, "What whoever uses it may or has to say."),
        field("deny", &Form::List(&Form::Section(&fields::DENY_RULE)), "As in a policy."),
        field("allow", &Form::List(&Form::Section(&fields::ALLOW_RULE)), "As in a policy."),
        field("services", &Form::Named(&Form::Section(&services::SERVICE)), "As in a policy."),
    ],
)
.needs(&["version", "preset", "about"]);

/// The file with what it includes behind it, and the roots of those texts. `None`, after saying so, where one of
/// them cannot be read.
pub(crate) fn gather(
    file: &File,
    root: &Node,
    shelf: Shelf<'_>,
    report: &mut Report,
) -> Option<(File, Vec<Node>)> {
    let mut gathered =
        Gathered { root: file, shelf, files: Vec::new(), nodes: Vec::new(), known: BTreeSet::new() };
    let before = report.findings.len();
    gathered.follow(root, &mut vec![file.name.to_string()], report);
    (report.findings.len() == before).then(|| (file.including(gathered.files), gathered.nodes))
}

struct Gathered<'a> {
    root: &'a File,
    shelf: Shelf<'a>,
    files: Vec<File>,
    nodes: Vec<Node>,
    known: BTreeSet<String>,
}

impl Gathered<'_> {
    /// `way`: the files that led here.
    fn follow(&mut self, node: &Node, way: &mut Vec<String>, report: &mut Report) {
        let Value::Map(entries) = &node.value else { return };
        let Some(entry) = entries.iter().find(|entry| entry.key == "include") else { return };
        let so_far = self.root.including(self.files.clone());
        let texts = Reader::new(&so_far, report).one_or_list(entry);
        for text in texts {
            if let Err(why) = inside(&text.value) {
                let hint = "write a path from the policy folder, for example `shared/base.yaml`";
                self.complain(&text.span, why, hint, report);
                continue;
            }
            let Some(file) = self.shelf.file(&text.value) else {
                let why = format!("there is no file `{}`", text.value);
                let hint = format!(
                    "paths go from the policy folder, so it would be {}",
                    self.shelf.path(&text.value)
                );
                self.complain(&text.span, why, &hint, report);
                continue;
            };
            if way.contains(&file.name.to_string()) {
                let round: Vec<&str> = way.iter().map(String::as_str).chain([&*file.name]).collect();
                let why = format!("this file includes itself: {}", round.join(" → "));
                self.complain(&text.span, why, "remove one of these includes", report);
                continue;
            }
            if !self.known.insert(file.name.to_string()) {
                continue;
            }
            if self.files.len() == MAX_INCLUDED || file.text.len() > MAX_FILE {
                let why = format!("a policy includes at most {MAX_INCLUDED} files of 1 MiB");
                self.complain(&text.span, why, "join some of them", report);
                return;
            }
            let Some(mut node) = yaml::parse(&file, report) else { continue };
            self.files.push(file.clone());
            let start = self.root.starts(&self.files).last().copied().unwrap_or_default();
            node.shift(start);
            way.push(file.name.to_string());
            // Before what it includes itself: nearer files come first.
            self.nodes.push(node.clone());
            self.follow(&node, way, report);
            way.pop();
        }
    }

    fn complain(&self, span: &Span, why: String, hint: &str, report: &mut Report) {
        let file = self.root.including(self.files.clone());
        report.push(Finding::error("E050", &file, span, why).hint(hint));
    }
}

pub(super) fn fragment(r: &mut Reader<'_>, node: &Node, shelf: Shelf<'_>, document: &mut Document) {
    let Some(top) = r.fields(node, &FRAGMENT) else { return };
    read_version(r, node, top.get("version"));
    for entry in FRAGMENT.not_here.iter().filter_map(|field| top.get(field)) {
        let message = format!("`{}` is an agent's own, and this file is included", entry.key);
        r.error_with("E050", &entry.key_span, message, "write it into the policy of the agent");
    }
    if let Some(entry) = top.get("credentials") {
        let (declared, credentials) = credential::read_all(r, entry);
        for name in declared {
            if let Some(first) = document.declared.iter().find(|own| own.value == name.value) {
                let message = format!("two credentials are called `{}`", name.value);
                r.two_places("E010", (&name.span, "second"), (&first.span.clone(), "first"), &message);
            } else {
                document.declared.push(name);
            }
        }
        document.credentials.extend(credentials);
    }
    if let Some(entry) = top.get("deny") {
        document.deny.extend(rule::read_all(r, entry, rule::Effect::Deny));
    }
    if let Some(entry) = top.get("allow") {
        document.allow.extend(rule::read_all(r, entry, rule::Effect::Allow));
    }
    if let Some(entry) = top.get("services") {
        services::read(r, entry, shelf, document);
    }
    if let Some(entry) = top.get("use") {
        presets(r, entry, shelf, document);
    }
    if let Some(entry) = top.get("tests") {
        document.tests.extend(case::read_all(r, entry));
    }
}

/// `use:`, after everything that the file says itself.
pub(super) fn presets(r: &mut Reader<'_>, entry: &Entry, shelf: Shelf<'_>, document: &mut Document) {
    let items = match &entry.value.value {
        Value::List(_) => r.list(entry),
        Value::Null => return r.empty(entry),
        Value::Scalar(_) | Value::Map(_) => std::slice::from_ref(&entry.value),
    };
    for item in items {
        match &item.value {
            Value::Map(entries) if entries.len() == 1 => {
                let Some(entry) = entries.first() else { continue };
                let given = checks::keys(r, entry);
                if !given.is_empty() {
                    preset(r, &entry.key, &entry.key_span, given, shelf, document);
                }
            }
            Value::Map(_) => {
                r.error_with(
                    "E001",
                    &item.span,
                    "an entry of `use` is one preset",
                    "write `- PRESET` or `- PRESET: { SETTING: VALUE }`",
                );
            }
            Value::Null | Value::Scalar(_) | Value::List(_) => {
                if let Some(text) = r.item(&entry.key, item) {
                    preset(r, &text.value, &text.span, &[], shelf, document);
                }
            }
        }
    }
}

/// Everything that comes from a preset is placed where it is used: that is the line its reader wrote.
fn preset(
    r: &mut Reader<'_>,
    name: &str,
    span: &Span,
    given: &[Entry],
    shelf: Shelf<'_>,
    document: &mut Document,
) {
    let Some(file) = shelf.preset(name) else {
        let known = shelf.names("presets", PRESETS);
        let hint = match nearest(name, known.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!(
                "known are {}; another goes into `presets/NAME.yaml` beside the policies",
                known.into_iter().collect::<Vec<_>>().join(", ")
            ),
        };
        r.error_with("E051", span, format!("there is no preset `{}`", shown(name)), hint);
        return;
    };
    document.beside.push(file.text.to_string());
    let mut report = Report::default();
    let root = yaml::parse(&file, &mut report).filter(|_| !report.has_errors());
    let mut inner = Reader::new(&file, &mut report);
    let read = root.as_ref().and_then(|root| {
        let top = inner.fields(root, &PRESET)?;
        read_version(&mut inner, root, top.get("version"));
        require(&mut inner, root, top, &PRESET);
        let own = top.get("preset").and_then(|entry| inner.name(entry));
        if let Some(own) = own.filter(|own| own.value.as_str() != name) {
            let message = format!("the preset `{}` stands in a file called `{name}.yaml`", own.value);
            inner.error("E051", &own.span, message);
        }
        let settings = top.get("settings").map(|entry| catalogue::settings(&mut inner, entry));
        Some((top, settings.unwrap_or_default()))
    });
    let (Some((top, known)), false) = (read, report.has_errors()) else {
        r.add(report);
        return;
    };
    let Some(settings) = read_settings(r, given, &known, &format!("preset `{name}`"), span) else { return };
    for section in ["deny", "allow", "services"] {
        let Some(entry) = top.get(section) else { continue };
        let mut value = entry.value.clone();
        value.placed(span);
        match fill(&value, &settings) {
            Ok(Some(value)) => {
                let entry = Entry { key: section.to_owned(), key_span: span.clone(), value };
                match section {
                    "deny" => document.deny.extend(rule::read_all(r, &entry, rule::Effect::Deny)),
                    "allow" => document.allow.extend(rule::read_all(r, &entry, rule::Effect::Allow)),
                    _ => services::read(r, &entry, shelf, document),
                }
            }
            Ok(None) => {}
            Err(setting) => {
                let known = known.iter().find(|own| own.name == setting);
                let about = known.map_or(String::new(), |known| format!(" ({})", known.about));
                let example = known.and_then(crate::catalog::Setting::example).unwrap_or_default();
                let message = format!("preset `{name}` needs the setting `{setting}`{about}");
                r.error_with("E053", span, message, format!("write `- {name}: {{ {setting}: {example} }}`"));
                return;
            }
        }
    }
}
