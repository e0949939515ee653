//! Taking parts out of a file and leaving the rest as its author wrote it, comments included.

use std::collections::BTreeSet;

use super::print;
use super::tree::{self, Kind, Piece, Slot};
use crate::diagnostics::{File, Report};
use crate::document::{Form, POLICY};
use crate::policy::Source;

/// A part that goes. What is above it as a comment goes with it.
pub(crate) enum Edit {
    /// an allow rule, by name
    Rule(String),
    /// of an allow rule, an item of this list
    Item(String, &'static str, String),
    /// of an entry of `services`, an action that it names
    Action(String, String),
    Credential(String),
    /// the tests on these lines
    TestsAt(BTreeSet<usize>),
}

/// The file without these parts, laid out. Lists and sections that would be empty go too.
pub(crate) fn edited(source: &Source, edits: &[Edit]) -> Result<String, Report> {
    let file = File::new(&source.name, &source.text);
    let Some(mut tree) = tree::read(&file.text) else {
        return Err(super::refused(&file, "its comments cannot be told from its values"));
    };
    for edit in edits {
        match edit {
            Edit::Rule(name) => {
                retain(section(&mut tree.root, "allow"), |slot| field(slot, "name") != Some(name));
            }
            Edit::Item(rule, list, value) => {
                for slot in section(&mut tree.root, "allow").into_iter().flatten() {
                    if field(slot, "name") == Some(rule) {
                        retain(section(&mut slot.value, list), |item| scalar(&item.value) != Some(value));
                    }
                }
            }
            Edit::Action(entry, action) => without_action(section(&mut tree.root, "services"), entry, action),
            Edit::Credential(name) => {
                retain(section(&mut tree.root, "credentials"), |slot| slot.name() != name);
            }
            Edit::TestsAt(lines) => {
                let Some(tests) = section(&mut tree.root, "tests") else { continue };
                let starts: Vec<usize> = tests.iter().map(Slot::line).collect();
                let hit: BTreeSet<usize> = lines
                    .iter()
                    .filter_map(|line| starts.iter().copied().filter(|start| start <= line).max())
                    .collect();
                tests.retain(|slot| !hit.contains(&slot.line()));
            }
        }
    }
    if let Kind::Map { slots, .. } = &mut tree.root.kind {
        slots.retain(|slot| !matches!(&slot.value.kind, Kind::List { slots, .. } | Kind::Map { slots, .. } if slots.is_empty()));
    }
    tree.order(&Form::Section(&POLICY));
    Ok(print::print(&tree))
}

/// An entry that allows nothing any more and denies nothing goes, too.
fn without_action(services: Option<&mut Vec<Slot>>, entry: &str, action: &str) {
    let Some(services) = services else { return };
    services.retain_mut(|slot| {
        if slot.name() != entry {
            return true;
        }
        retain(section(&mut slot.value, "allow"), |item| scalar(&item.value) != Some(action));
        retain(section(&mut slot.value, "rate"), |rate| rate.name() != action);
        let Kind::Map { slots, .. } = &mut slot.value.kind else { return true };
        slots.retain(|field| match (field.name(), &field.value.kind) {
            ("allow" | "rate", Kind::List { slots, .. } | Kind::Map { slots, .. }) => !slots.is_empty(),
            ("allow", _) => scalar(&field.value) != Some(action),
            _ => true,
        });
        slots.iter().any(|field| matches!(field.name(), "allow" | "deny"))
    });
}

/// The items or entries below a key.
fn section<'t>(piece: &'t mut Piece, key: &str) -> Option<&'t mut Vec<Slot>> {
    let Kind::Map { slots, .. } = &mut piece.kind else { return None };
    let slot = slots.iter_mut().find(|slot| slot.name() == key)?;
    match &mut slot.value.kind {
        Kind::List { slots, .. } | Kind::Map { slots, .. } => Some(slots),
        Kind::Scalar(_) | Kind::Block { .. } => None,
    }
}

fn retain(slots: Option<&mut Vec<Slot>>, keep: impl Fn(&Slot) -> bool) {
    if let Some(slots) = slots {
        slots.retain(keep);
    }
}

fn field<'t>(slot: &'t Slot, key: &str) -> Option<&'t str> {
    let Kind::Map { slots, .. } = &slot.value.kind else { return None };
    scalar(&slots.iter().find(|slot| slot.name() == key)?.value)
}

/// Names, methods and hosts have no escapes, so taking off the quotes is enough.
fn scalar(piece: &Piece) -> Option<&str> {
    match &piece.kind {
        Kind::Scalar(raw) => Some(raw.trim_matches(['"', '\''])),
        Kind::Block { .. } | Kind::List { .. } | Kind::Map { .. } => None,
    }
}
