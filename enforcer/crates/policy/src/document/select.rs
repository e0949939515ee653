//! `select:`: what is this agent, beside what `enforcer run NAME` starts.
//!
//! `run` is read: it names the agent itself. The other ways to be the agent are known words that this
//! version has nothing to hold them to, and so are errors.

use super::fields::SELECTOR;
use super::reader::Reader;
use crate::name::Name;
use crate::yaml::Entry;

pub(super) fn read(r: &mut Reader<'_>, entry: &Entry, agent: Option<&Name>) {
    for node in r.list(entry) {
        let Some(run) = r.fields(node, &SELECTOR).and_then(|fields| fields.get("run")) else { continue };
        let (Some(name), Some(agent)) = (r.name(run), agent) else { continue };
        if name.value != *agent {
            let message = format!("`run: {}` is not this agent, which is `{agent}`", name.value);
            let hint = "an agent is run by its own name; rename one of the two";
            r.error_with("E013", &name.span, message, hint);
        }
    }
}
