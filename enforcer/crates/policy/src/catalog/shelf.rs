//! Files that policies refer to: what they include, and their own catalogues and presets.
//!
//! The crate reads no files. [`Library::load`] says which ones it wants, one after the other, and callers bring
//! them from the policy folder. A path stays below that folder by its form: relative, no `..`, nothing hidden.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use super::{Catalogue, PRESETS, SERVICES};
use crate::canon::shown;
use crate::diagnostics::{File, Report};
use crate::document::catalogue;
use crate::policy::Source;
use crate::yaml::{self, Node, Value};

/// Files that one load may ask for: policies that refer to more are not written by people.
const MAX_FILES: usize = 1024;

/// Files beside policies, by path. Without any, the shipped catalogues and presets are there all the same.
#[derive(Clone, Debug, Default)]
pub struct Library {
    /// `None`: looked for, and not there
    files: BTreeMap<String, Option<Arc<str>>>,
}

/// The library as one policy sees it, from its folder.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shelf<'a> {
    library: &'a Library,
    folder: &'a str,
}

impl Library {
    /// Asks `read` for every file that the policies refer to, directly or not. Paths begin with the folder of the
    /// policy, as its name gives it. `read` says `None` where there is no such file.
    pub fn load<E>(
        sources: &[Source],
        mut read: impl FnMut(&str) -> Result<Option<String>, E>,
    ) -> Result<Library, E> {
        let mut library = Library::default();
        let mut texts: Vec<(String, Arc<str>)> = sources
            .iter()
            .map(|source| (folder(&source.name).to_owned(), source.text.as_str().into()))
            .collect();
        while let Some((folder, text)) = texts.pop() {
            for relative in mentions(&text) {
                let path = beside(&folder, &relative);
                if library.files.contains_key(&path) || library.files.len() >= MAX_FILES {
                    continue;
                }
                let found: Option<Arc<str>> = read(&path)?.map(Into::into);
                // A preset that is shipped may speak of services that the folder has catalogues of.
                let next = found.clone().or_else(|| shipped_preset(&relative).map(Into::into));
                texts.extend(next.map(|text| (folder.clone(), text)));
                library.files.insert(path, found);
            }
        }
        Ok(library)
    }

    /// Names of the files that are there.
    pub fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter_map(|(path, text)| Some((path.as_str(), text.as_deref()?)))
    }

    pub(crate) fn shelf<'a>(&'a self, policy: &'a str) -> Shelf<'a> {
        Shelf { library: self, folder: folder(policy) }
    }
}

impl<'a> Shelf<'a> {
    /// A file beside the policy, under the name that findings give it.
    pub(crate) fn file(&self, relative: &str) -> Option<File> {
        let path = beside(self.folder, relative);
        let text = self.library.files.get(&path)?.as_deref()?;
        Some(File::new(&path, text))
    }

    pub(crate) fn path(&self, relative: &str) -> String {
        beside(self.folder, relative)
    }

    /// `Err`: it is there and not correct.
    pub(crate) fn catalogue(&self, name: &str) -> Option<Result<Arc<Catalogue>, Report>> {
        match self.file(&format!("services/{name}.yaml")) {
            Some(file) => Some(catalogue::read(&file, name).map(Arc::new)),
            None => shipped_catalogue(name),
        }
    }

    pub(crate) fn preset(&self, name: &str) -> Option<File> {
        let relative = format!("presets/{name}.yaml");
        let shipped = || shipped_preset(&relative).map(|text| File::new(&shipped_name(&relative), text));
        self.file(&relative).or_else(shipped)
    }

    /// What there is, for "did you mean".
    pub(crate) fn names(
        &self,
        kind: &str,
        shipped: &'static [(&'static str, &'static str)],
    ) -> BTreeSet<String> {
        let start = beside(self.folder, &format!("{kind}/"));
        let own =
            self.library.files().filter_map(|(path, _)| path.strip_prefix(&start)?.strip_suffix(".yaml"));
        own.chain(shipped.iter().map(|(name, _)| *name)).map(str::to_owned).collect()
    }
}

/// A catalogue that is part of the program, read once.
pub(crate) fn shipped_catalogue(name: &str) -> Option<Result<Arc<Catalogue>, Report>> {
    static READ: [OnceLock<Arc<Catalogue>>; SERVICES.len()] = [const { OnceLock::new() }; SERVICES.len()];
    let number = SERVICES.iter().position(|(own, _)| *own == name)?;
    let ((_, text), slot) = (SERVICES.get(number)?, READ.get(number)?);
    if let Some(read) = slot.get() {
        return Some(Ok(read.clone()));
    }
    let file = File::new(&shipped_name(&format!("services/{name}.yaml")), text);
    Some(catalogue::read(&file, name).map(|read| slot.get_or_init(|| Arc::new(read)).clone()))
}

fn shipped_preset(relative: &str) -> Option<&'static str> {
    let name = relative.strip_prefix("presets/")?.strip_suffix(".yaml")?;
    PRESETS.iter().find(|(own, _)| *own == name).map(|(_, text)| *text)
}

/// No file of the host's is called so.
fn shipped_name(relative: &str) -> String {
    format!("(shipped)/{relative}")
}

fn folder(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// A path relative to the policy folder, from where the caller stands.
fn beside(folder: &str, relative: &str) -> String {
    if folder.is_empty() { relative.to_owned() } else { format!("{folder}/{relative}") }
}

/// Why a path may not be included.
pub(crate) fn inside(path: &str) -> Result<(), String> {
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
    };
    if path.starts_with('/') {
        return Err(format!("`{}` is an absolute path", shown(path)));
    }
    if path.split('/').any(|part| part == "..") {
        return Err(format!("`{}` leads out of the policy folder", shown(path)));
    }
    if path.len() > 255 || !path.split('/').all(plain) || !path.ends_with(".yaml") {
        return Err(format!("`{}` is not the path of a policy file", shown(path)));
    }
    Ok(())
}

/// What a text refers to, by path from the policy folder. What cannot be read refers to nothing, and is reported
/// when the policy is read.
fn mentions(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    if !["include", "use", "services"].iter().any(|word| text.contains(word)) {
        return found;
    }
    let Some(root) = yaml::parse(&File::new("", text), &mut Report::default()) else { return found };
    let name = |kind: &str, text: &str| {
        crate::name::Name::parse(text).ok().map(|name| format!("{kind}/{name}.yaml"))
    };
    for path in field(&root, "include").iter().flat_map(|node| items(node)).filter_map(scalar) {
        found.extend(inside(path).is_ok().then(|| path.to_owned()));
    }
    for item in field(&root, "use").iter().flat_map(|node| items(node)) {
        let used = match &item.value {
            Value::Map(entries) => entries.first().map(|entry| entry.key.as_str()),
            Value::Null | Value::Scalar(_) | Value::List(_) => scalar(item),
        };
        found.extend(used.and_then(|used| name("presets", used)));
    }
    if let Some(Node { value: Value::Map(entries), .. }) = field(&root, "services") {
        for entry in entries {
            let service = field(&entry.value, "service").and_then(scalar).unwrap_or(&entry.key);
            found.extend(name("services", service));
        }
    }
    found
}

fn field<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    let Value::Map(entries) = &node.value else { return None };
    entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
}

fn items(node: &Node) -> &[Node] {
    match &node.value {
        Value::List(items) => items,
        Value::Null | Value::Scalar(_) | Value::Map(_) => std::slice::from_ref(node),
    }
}

fn scalar(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar(text) => Some(text),
        Value::Null | Value::List(_) | Value::Map(_) => None,
    }
}
