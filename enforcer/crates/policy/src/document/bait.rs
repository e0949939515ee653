//! `decoys` and `tripwire`.

use super::fields;
use super::form::{Text, text};
use super::reader::Reader;
use super::{At, values};
use crate::bait::{Decoy, Response, Tripwire};
use crate::canon::shown;
use crate::yaml::{Entry, Node};

pub(super) const FORMAT: Text = text(r"^[!-~]*\{\}[!-~]*$", &["ghp_{}"]);

/// Real keys are shorter.
const LONGEST: usize = 200;

pub(super) fn decoys(r: &mut Reader<'_>, entry: &Entry) -> Vec<At<Decoy>> {
    let mut decoys: Vec<At<Decoy>> = Vec::new();
    for node in r.list(entry) {
        let Some(decoy) = decoy(r, node) else { continue };
        if decoys.iter().any(|earlier| earlier.value.name == decoy.value.name) {
            let message = format!("two decoys are called `{}`", decoy.value.name);
            r.error("E010", &decoy.span, message);
        }
        decoys.push(decoy);
    }
    decoys
}

fn decoy(r: &mut Reader<'_>, node: &Node) -> Option<At<Decoy>> {
    let fields = r.fields(node, &fields::DECOY)?;
    let name = match fields.get("name") {
        Some(entry) => r.name(entry),
        None => {
            r.missing(node, "a decoy needs a name", "write `name: NAME`; alerts and receipts name it");
            None
        }
    };
    let env = match fields.get("env") {
        Some(entry) => values::variable(r, entry),
        None => {
            let hint = "write `env: VARIABLE`, one that a thief would look for";
            r.missing(node, "a decoy needs a variable to lie in", hint);
            None
        }
    };
    let format = match fields.get("format") {
        Some(entry) => format(r, entry)?,
        None => "{}".to_owned(),
    };
    let name = name?;
    Some(At { value: Decoy { name: name.value, env: env?, format }, span: name.span })
}

fn format(r: &mut Reader<'_>, entry: &Entry) -> Option<String> {
    let text = r.text(entry)?;
    let printable = text.value.bytes().all(|b| b.is_ascii_graphic());
    if printable && text.value.matches("{}").count() == 1 && text.value.len() <= LONGEST {
        return Some(text.value);
    }
    let message = format!(
        "`{}` is not the form of a key: printable text without spaces, with one `{{}}` for its random part",
        shown(&text.value)
    );
    r.error_with("E001", &text.span, message, "for example `format: \"ghp_{}\"`");
    None
}

pub(super) fn tripwire(r: &mut Reader<'_>, entry: &Entry) -> Tripwire {
    let words = [
        ("alert", Response::Alert),
        ("quarantine", Response::Quarantine { freeze: false }),
        ("freeze", Response::Quarantine { freeze: true }),
    ];
    Tripwire(r.choice(entry, &words, &[]))
}
