//! A catalogue out of an OpenAPI 3 document: paths, methods, names of operations, tags.
//!
//! What comes out is a beginning for people: it loads, its kinds are those of the methods, and what looks as if it
//! made credentials is flagged by its words. What cannot be said is left out and told, never widened in silence.
//!
//! - `read`: the document, with its bounds
//! - `name`: names of actions out of names of operations

mod name;
mod read;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostics::{File, Report};
use crate::document::catalogue;
use crate::matcher::Template;
use crate::name::Name;
use crate::yaml::quoted;
pub use read::ImportError;
use read::{Document, Operation};

/// The catalogue's text, and what there is to say about it.
#[derive(Debug)]
pub struct Imported {
    pub text: String,
    pub actions: usize,
    /// sentences about what was left out or matched more coarsely than the document says
    pub notes: Vec<String>,
}

/// `host`: where the service is, if the document does not say or says something else.
pub fn import(service: &str, text: &str, host: Option<&str>) -> Result<Imported, ImportError> {
    let service = Name::parse(service).map_err(|error| ImportError::Service(error.to_string()))?;
    let document = read::document(text)?;
    let (own, base) = document.server.clone().unwrap_or_default();
    let host = host.map(str::to_owned).or(own).ok_or(ImportError::NoHost)?;
    let mut writer = Writer::default();
    let mut tags: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in &document.operations {
        tags.entry(operation.tag.as_deref().unwrap_or_default()).or_default().push(operation);
    }
    for (tag, operations) in tags {
        if !tag.is_empty() {
            writer.comment(tag);
        }
        for operation in operations {
            writer.operation(operation, &base);
        }
    }
    if writer.actions == 0 {
        return Err(ImportError::NoOperations);
    }
    let text = format!(
        "version: 1\nservice: {service}\nabout: {}\nhosts:\n  api: {}\nactions:\n{}",
        quoted(&about(&document)),
        quoted(&host),
        writer.text
    );
    catalogue::read(&File::new(&format!("{service}.yaml"), &text), service.as_str())
        .map_err(ImportError::Unusable)?;
    Ok(Imported { text, actions: writer.actions, notes: writer.notes() })
}

fn about(document: &Document) -> String {
    let version = document.version.as_ref().map_or(String::new(), |version| format!(" {version}"));
    sentence(&format!("{}{version}, from its OpenAPI document", document.title))
}

#[derive(Default)]
struct Writer {
    text: String,
    actions: usize,
    names: BTreeSet<String>,
    left_out: Vec<String>,
    coarse: Vec<String>,
}

impl Writer {
    fn comment(&mut self, tag: &str) {
        self.text.push_str(&format!("  # {}\n", sentence(tag)));
    }

    fn operation(&mut self, operation: &Operation, base: &str) {
        let method = operation.method;
        let shown = format!("{method} {}", operation.path);
        if operation.path.contains(['?', '#']) {
            self.left_out
                .push(format!("{shown}: it holds a query or a fragment, and rules match the path alone"));
            return;
        }
        let (path, coarse) = template(&format!("{base}{}", operation.path));
        if let Err(why) = Template::parse(&path) {
            self.left_out.push(format!("{shown}: {why}"));
            return;
        }
        if coarse {
            self.coarse.push(shown);
        }
        let name = name::of(operation, &mut self.names);
        let kind = match method {
            "GET" | "HEAD" | "OPTIONS" => "read",
            "DELETE" => "delete",
            _ => "write",
        };
        let about = operation.summary.clone().unwrap_or_else(|| format!("{method} {}", operation.path));
        self.text
            .push_str(&format!("  {name}:\n    kind: {kind}\n    about: {}\n", quoted(&sentence(&about))));
        if kind == "write" && mints(operation) {
            self.text.push_str("    mints_credentials: may make credentials, by its name\n");
        }
        self.text.push_str(&format!("    requests: {}\n", quoted(&format!("{method} {path}"))));
        self.actions += 1;
    }

    fn notes(self) -> Vec<String> {
        let mut notes: Vec<String> =
            self.left_out.into_iter().map(|what| format!("left out: {what}")).collect();
        let coarse = self.coarse.iter().map(|path| {
            format!("matched whole, though the document has text beside a parameter in one segment: {path}")
        });
        notes.extend(coarse);
        notes
    }
}

/// In the spelling of catalogues. `true`: a segment is matched more coarsely than the document says.
fn template(path: &str) -> (String, bool) {
    let mut coarse = false;
    let mut names: BTreeSet<String> = BTreeSet::new();
    let segments: Vec<String> = path
        .split('/')
        .map(|segment| {
            let Some((before, rest)) = segment.split_once('{') else { return segment.to_owned() };
            let (inner, after) = rest.split_once('}').unwrap_or((rest, ""));
            coarse |= !before.is_empty() || !after.is_empty();
            let mut name = word(inner);
            while !names.insert(name.clone()) {
                name.push('_');
            }
            format!("{{{name}}}")
        })
        .collect();
    (segments.join("/"), coarse)
}

/// The alphabet of captures.
fn word(text: &str) -> String {
    let word: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
    if word.is_empty() { "part".to_owned() } else { word }
}

/// Words of paths and names that make new ways in.
const MINTING: &[&str] = &[
    "token",
    "tokens",
    "apikey",
    "apikeys",
    "key",
    "keys",
    "credential",
    "credentials",
    "secret",
    "secrets",
    "password",
    "passwords",
];

fn mints(operation: &Operation) -> bool {
    let text = format!("{} {}", operation.path, operation.id.as_deref().unwrap_or_default());
    name::words(&text).iter().any(|word| MINTING.contains(&word.as_str()))
}

/// One line without what moves a cursor.
fn sentence(text: &str) -> String {
    const MOST: usize = 200;
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    let plain = line.chars().filter(|c| !c.is_control() && !crate::diagnostics::is_bidi(*c));
    plain.take(MOST).collect()
}

/// For callers that show why nothing came out.
impl ImportError {
    pub fn report(&self) -> Option<&Report> {
        match self {
            ImportError::Unusable(report) => Some(report),
            ImportError::Service(_)
            | ImportError::TooLarge
            | ImportError::Unreadable(_)
            | ImportError::NotOpenapi(_)
            | ImportError::NoHost
            | ImportError::NoOperations
            | ImportError::TooMany(_) => None,
        }
    }
}
