//! One layout for policy files: order of keys, indentation, spacing. Comments stay where they belong.
//!
//! What the author chose and readers profit from is kept: flow or block, quotes, grouping by blank
//! lines. Nothing is printed that would not be read as the same tree: the new text is parsed again and
//! compared before anybody gets it.
//!
//! Left out: whether the file is a correct policy. Any YAML of the language can be laid out.

mod edit;
mod print;
#[cfg(test)]
mod tests;
mod tree;

pub(crate) use edit::{Edit, edited};

use crate::diagnostics::{File, Finding, Report};
use crate::document::{Form, POLICY};
use crate::policy::Source;
use crate::yaml::{self, Node, Value};

/// The file in its one layout, or why it cannot be read. Laying out twice changes nothing more.
pub fn format(source: &Source) -> Result<String, Report> {
    let file = File::new(&source.name, &source.text);
    let mut report = Report::default();
    let Some(before) = yaml::parse(&file, &mut report).filter(|_| !report.has_errors()) else {
        return Err(report);
    };
    let Some(mut tree) = tree::read(&file.text) else {
        return Err(refused(&file, "its comments cannot be told from its values"));
    };
    tree.order(&Form::Section(&POLICY));
    let text = print::print(&tree);
    let after = yaml::parse(&File::new(&source.name, &text), &mut report);
    match after {
        Some(after)
            if !report.has_errors() && same(&before, &after) && comments(&file.text) == comments(&text) =>
        {
            Ok(text)
        }
        // Never reached by a file anybody has seen; and if it is, the file stays as it is.
        _ => Err(refused(&file, "a part of it would not survive being laid out anew")),
    }
}

fn refused(file: &File, why: &str) -> Report {
    let finding = Finding::about("E002", file, format!("the file is left as it is: {why}"));
    Report { findings: vec![finding] }
}

/// Equal as the readers see it: order counts in lists and not in mappings.
fn same(one: &Node, other: &Node) -> bool {
    match (&one.value, &other.value) {
        (Value::Null, Value::Null) => true,
        (Value::Scalar(a), Value::Scalar(b)) => a == b,
        (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len()
                && a.iter().all(|a| b.iter().any(|b| a.key == b.key && same(&a.value, &b.value)))
        }
        (Value::Null | Value::Scalar(_) | Value::List(_) | Value::Map(_), _) => false,
    }
}

/// Every comment, sorted: none may be lost, and moving is allowed.
fn comments(text: &str) -> Option<Vec<String>> {
    let mut comments: Vec<String> = tree::read(text)?.all_comments().map(str::to_owned).collect();
    comments.sort();
    Some(comments)
}
