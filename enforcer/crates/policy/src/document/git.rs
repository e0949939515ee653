//! `git` in a rule: fetching, and pushing to which refs.
//!
//! In an allow rule a push may move the refs it names forward; creating, deleting and forcing each have to
//! be said. In a deny rule what is said is blocked, and all of it where nothing is.

use super::checks;
use super::fields;
use super::reader::Reader;
use super::rule::Effect;
use crate::matcher::{GitCheck, PushCheck, Stops};
use crate::yaml::{Entry, Value};

pub(super) fn read(r: &mut Reader<'_>, entry: &Entry, effect: Effect) -> Option<GitCheck> {
    let fields = r.section(entry, &fields::GIT)?;
    let fetch = fields.get("fetch").and_then(|entry| flag(r, entry)).unwrap_or(false);
    let push = fields.get("push").and_then(|entry| push(r, entry, effect));
    if !fetch && fields.get("push").is_none() {
        let hint = "write `fetch: true`, or `push: { refs: [\"refs/heads/bot/**\"] }`, or both";
        r.error_with("E001", &entry.value.span, "`git` says nothing", hint);
    }
    Some(GitCheck { fetch, push })
}

fn push(r: &mut Reader<'_>, entry: &Entry, effect: Effect) -> Option<PushCheck> {
    let all = PushCheck { refs: None, create: true, update: true, delete: true, force: true };
    if let Value::Scalar(_) = entry.value.value {
        return match (flag(r, entry)?, effect) {
            (false, _) => None,
            (true, Effect::Deny) => Some(all),
            (true, Effect::Allow) => {
                let hint = "write `push: { refs: [\"refs/heads/bot/**\"], create: true }`";
                r.error_with(
                    "E001",
                    &entry.value.span,
                    "an allow rule has to say which refs may be pushed",
                    hint,
                );
                None
            }
        };
    }
    let fields = r.section(entry, &fields::PUSH)?;
    let refs = fields.get("refs").and_then(|entry| {
        let span = entry.value.span.clone();
        let globs = checks::globs(r, entry, Stops::Slashes)?;
        if let Some(odd) = globs.iter().find(|glob| !glob.text().starts_with("refs/")) {
            let message = format!("`{}` is not the full name of a ref", crate::canon::shown(odd.text()));
            r.error_with(
                "E001",
                &span,
                message,
                "write for example `refs/heads/bot/*`; `*` stays within a `/`, `**` does not",
            );
        }
        Some(globs)
    });
    if effect == Effect::Allow && fields.get("refs").is_none() {
        r.missing(
            &entry.value,
            "an allow rule has to say which refs may be pushed",
            "write `refs: [\"refs/heads/bot/**\"]`",
        );
    }
    let mut said = |name: &str| fields.get(name).and_then(|entry| flag(r, entry));
    let (create, update, delete, force) = (said("create"), said("update"), said("delete"), said("force"));
    Some(match effect {
        Effect::Allow => PushCheck {
            refs,
            create: create.unwrap_or(false),
            update: update.unwrap_or(true),
            delete: delete.unwrap_or(false),
            force: force.unwrap_or(false),
        },
        Effect::Deny if [create, update, delete, force].iter().all(Option::is_none) => {
            PushCheck { refs, ..all }
        }
        Effect::Deny => PushCheck {
            refs,
            create: create.unwrap_or(false),
            update: update.unwrap_or(false),
            delete: delete.unwrap_or(false),
            force: force.unwrap_or(false),
        },
    })
}

fn flag(r: &mut Reader<'_>, entry: &Entry) -> Option<bool> {
    r.choice(entry, &[("true", true), ("false", false)], &[])
}
