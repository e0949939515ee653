//! `select:`: which workloads are the agent, told by how they run.

use super::fields::{CONTAINER, SELECTOR};
use super::form::{Text, text};
use super::reader::{Fields, Reader};
use super::{At, checks};
use crate::canon::shown;
use crate::matcher::{Glob, Stops};
use crate::name::Name;
use crate::select::Selector;
use crate::yaml::Entry;

pub(super) const UNIT: Text = text(r"^[^/\s]+\.(service|scope)$", &["worker.service", "worker@*.service"]);
pub(super) const SLICE: Text = text(r"^[^/\s*]+\.slice$", &["agents.slice"]);
pub(super) const CGROUP: Text = text(r"^/[^*\s]+(/\*\*)?$", &["/agents.slice/**"]);
pub(super) const USER: Text = Text {
    pattern: r"^([A-Za-z_][A-Za-z0-9_.-]*\$?|0|[1-9][0-9]*)$",
    examples: &["deploybot", "1001"],
    number: Some((0, 4_294_967_294)),
};

/// Nothing where an entry could not be read: the report has an error, and nothing loads.
pub(super) fn read(r: &mut Reader<'_>, entry: &Entry, agent: Option<&Name>) -> Vec<Selector> {
    let mut selectors = Vec::new();
    for node in r.list(entry) {
        let Some(fields) = r.fields(node, &SELECTOR) else { continue };
        if let [_, second, ..] = fields.all() {
            let hint = "write each as an entry of its own; any of them selects";
            r.error_with("E001", &second.key_span, "an entry of `select` says one thing", hint);
        }
        if let Some(entry) = fields.all().first() {
            selectors.extend(selector(r, fields, entry, agent));
        }
    }
    selectors
}

fn selector(r: &mut Reader<'_>, fields: Fields<'_>, entry: &Entry, agent: Option<&Name>) -> Option<Selector> {
    match entry.key.as_str() {
        "run" => run(r, entry, agent),
        "unit" => unit(r, entry),
        "slice" => {
            let text = r.text(entry)?;
            let name = text.value.strip_suffix(".slice").filter(|name| plain(name) && !name.contains('*'));
            if name.is_none() {
                refuse(r, &text, "a slice of systemd", "`agents.slice`");
                return None;
            }
            Some(Selector::Slice(text.value.into()))
        }
        "cgroup" => cgroup(r, entry),
        "user" => user(r, entry),
        "container" => container(r, fields.get("container")?),
        // `fields::SELECTOR` has no other.
        _ => None,
    }
}

fn refuse(r: &mut Reader<'_>, text: &At<String>, what: &str, example: &str) {
    let message = format!("`{}` is not {what}", shown(&text.value));
    r.error_with("E001", &text.span, message, format!("write for example {example}"));
}

/// May it be the name of a directory?
fn plain(name: &str) -> bool {
    let odd = |c: char| c == '/' || c.is_whitespace() || c.is_control();
    !name.is_empty() && name != "." && name != ".." && !name.contains(odd)
}

fn run(r: &mut Reader<'_>, entry: &Entry, agent: Option<&Name>) -> Option<Selector> {
    let (name, agent) = (r.name(entry)?, agent?);
    if name.value != *agent {
        let message = format!("`run: {}` is not this agent, which is `{agent}`", name.value);
        let hint = "an agent is run by its own name; rename one of the two";
        r.error_with("E013", &name.span, message, hint);
    }
    Some(Selector::Run)
}

fn unit(r: &mut Reader<'_>, entry: &Entry) -> Option<Selector> {
    let text = r.text(entry)?;
    let name = text.value.strip_suffix(".service").or_else(|| text.value.strip_suffix(".scope"));
    // `*` alone would be every service of the host.
    if !name.is_some_and(|name| plain(name) && !name.starts_with('*')) {
        let example = "`worker.service`, `worker@*.service` or `job.scope`; a slice is `slice: NAME.slice`";
        refuse(r, &text, "a unit of systemd that has processes", example);
        return None;
    }
    Some(Selector::Unit(Glob::new(&text.value, Stops::Slashes)))
}

fn cgroup(r: &mut Reader<'_>, entry: &Entry) -> Option<Selector> {
    let text = r.text(entry)?;
    let (path, below) = match text.value.strip_suffix("/**") {
        Some(path) => (path, true),
        None => (text.value.as_str(), false),
    };
    let good = path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(plain));
    if !good || path.contains('*') {
        refuse(
            r,
            &text,
            "the path of a cgroup",
            "`/agents.slice/one`, or `/agents.slice/**` for all below it, too",
        );
        return None;
    }
    Some(Selector::Cgroup { path: path.into(), below })
}

fn user(r: &mut Reader<'_>, entry: &Entry) -> Option<Selector> {
    let text = r.text(entry)?;
    let name = text.value.as_str();
    if name.bytes().all(|b| b.is_ascii_digit()) && !name.is_empty() {
        let uid = name.parse().ok().filter(|uid: &u32| *uid != u32::MAX && uid.to_string() == name);
        if uid.is_none() {
            refuse(r, &text, "a user's id", "`1001`");
        }
        return uid.map(Selector::Uid);
    }
    let body = name.strip_suffix('$').unwrap_or(name);
    let letters = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if !body.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') || !body.bytes().all(letters) {
        refuse(r, &text, "a user", "`deploybot` or `1001`");
        return None;
    }
    Some(Selector::User(name.into()))
}

fn container(r: &mut Reader<'_>, entry: &Entry) -> Option<Selector> {
    let fields = r.section(entry, &CONTAINER)?;
    let mut glob = |name: &str| {
        let entry = fields.get(name)?;
        checks::one_glob(r, entry, Stops::Slashes)
    };
    let (image, name) = (glob("image"), glob("name"));
    let mut labels = Vec::new();
    for label in fields.get("labels").map(|entry| checks::keys(r, entry)).unwrap_or_default() {
        if let Some(glob) = checks::one_glob(r, label, Stops::Slashes) {
            labels.push((label.key.as_str().into(), glob));
        }
    }
    Some(Selector::Container { image, name, labels })
}
