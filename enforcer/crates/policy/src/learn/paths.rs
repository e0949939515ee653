//! Path templates from paths: what looks like an id and varies becomes `{id}`, what is constant stays.
//!
//! Two rules keep a suggestion tight. A segment that had one value keeps it, whatever it looks like.
//! Words are listed; only where there are very many of them do they become one segment, and only where
//! whole subtrees are too many to read do they become `**`, the deepest first.

use std::collections::{BTreeMap, BTreeSet};

use crate::matcher::Template;

/// As many different words in one place are a set nobody reviews one by one.
const MANY_WORDS: usize = 12;
/// As many templates in one rule.
const MANY_TEMPLATES: usize = 24;
/// A subtree is only summed up when it is worth it.
const WORTH: usize = 4;

/// Templates that together match every path, without those that another one covers. `shallow`: may
/// everything below the root become `/**`?
pub(super) fn templates<'p>(paths: impl IntoIterator<Item = &'p str>, shallow: bool) -> Vec<String> {
    let mut root = Node::default();
    for path in paths {
        root.add(path.split('/').skip(1));
    }
    root.generalise();
    while root.leaves() > MANY_TEMPLATES {
        let Some(way) = root.deepest_worth(if shallow { 0 } else { 1 }) else { break };
        root.sum_up(&way);
    }
    let mut found = Vec::new();
    root.write(&mut Vec::new(), &mut found);
    without_covered(found)
}

#[derive(Default)]
struct Node {
    ends: bool,
    /// everything below is `**`
    summed: bool,
    children: BTreeMap<Key, Node>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Word(String),
    /// one segment, with what its values look like
    Any(Class),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Number,
    Uuid,
    Date,
    Hash,
    Id,
    Name,
}

impl Node {
    fn add<'s>(&mut self, mut segments: impl Iterator<Item = &'s str>) {
        match segments.next() {
            None => self.ends = true,
            Some(segment) => self.children.entry(Key::Word(segment.to_owned())).or_default().add(segments),
        }
    }

    fn merge(&mut self, other: Node) {
        self.ends |= other.ends;
        for (key, child) in other.children {
            self.children.entry(key).or_default().merge(child);
        }
    }

    fn generalise(&mut self) {
        let classes: BTreeMap<Key, Class> = self
            .children
            .keys()
            .filter_map(|key| match key {
                Key::Word(word) => Some((key.clone(), class(word)?)),
                Key::Any(_) => None,
            })
            .collect();
        // The empty segment after a final slash is none that `{name}` takes.
        let words = self
            .children
            .keys()
            .filter(|key| !classes.contains_key(key) && **key != Key::Word(String::new()))
            .count();
        let merged: Vec<(Key, Class)> = if words > MANY_WORDS {
            let named = self.children.keys().filter(|key| **key != Key::Word(String::new()));
            named.map(|key| (key.clone(), Class::Name)).collect()
        } else if classes.len() > 1 {
            let mut kinds: BTreeSet<Class> = classes.values().copied().collect();
            let kind = kinds.pop_first().filter(|_| kinds.is_empty()).unwrap_or(Class::Id);
            classes.into_keys().map(|key| (key, kind)).collect()
        } else {
            Vec::new()
        };
        for (key, class) in merged {
            if let Some(child) = self.children.remove(&key) {
                self.children.entry(Key::Any(class)).or_default().merge(child);
            }
        }
        self.children.values_mut().for_each(Node::generalise);
    }

    fn leaves(&self) -> usize {
        if self.summed {
            return 1;
        }
        usize::from(self.ends) + self.children.values().map(Node::leaves).sum::<usize>()
    }

    /// The way to the deepest node with enough below it, at least `least` segments down.
    fn deepest_worth(&self, least: usize) -> Option<Vec<Key>> {
        fn search(node: &Node, way: &mut Vec<Key>, least: usize, best: &mut Option<Vec<Key>>) {
            if node.summed || node.leaves() < WORTH {
                return;
            }
            let deeper = best.as_ref().is_none_or(|best| way.len() > best.len());
            if way.len() >= least && deeper {
                *best = Some(way.clone());
            }
            for (key, child) in &node.children {
                way.push(key.clone());
                search(child, way, least, best);
                way.pop();
            }
        }
        let mut best = None;
        search(self, &mut Vec::new(), least, &mut best);
        best
    }

    fn sum_up(&mut self, way: &[Key]) {
        let mut node = self;
        for key in way {
            match node.children.get_mut(key) {
                Some(child) => node = child,
                None => return,
            }
        }
        node.summed = true;
    }

    fn write<'n>(&'n self, way: &mut Vec<&'n Key>, found: &mut Vec<String>) {
        if self.summed {
            let prefix = spelt(way);
            found.push(if prefix == "/" { "/**".to_owned() } else { format!("{prefix}/**") });
            return;
        }
        if self.ends {
            found.push(spelt(way));
        }
        for (key, child) in &self.children {
            way.push(key);
            child.write(way, found);
            way.pop();
        }
    }
}

/// A placeholder is called after the segment before it: `/issues/{issue}/comments/{comment}`.
fn spelt(way: &[&Key]) -> String {
    let mut names: Vec<String> = Vec::new();
    let mut text = String::new();
    let mut before = "";
    for key in way {
        text.push('/');
        match key {
            Key::Word(word) => {
                // A literal star is no wildcard.
                text.push_str(&word.replace('*', "%2A"));
                before = word;
            }
            Key::Any(class) => {
                let mut name = singular(before).unwrap_or_else(|| class.word().to_owned());
                let taken = names.iter().filter(|taken| **taken == name).count();
                names.push(name.clone());
                if taken > 0 {
                    name.push_str(&format!("-{}", taken + 1));
                }
                text.push_str(&format!("{{{name}}}"));
                before = "";
            }
        }
    }
    if text.is_empty() { "/".to_owned() } else { text }
}

fn singular(word: &str) -> Option<String> {
    let plain = word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b == b'-');
    match word.strip_suffix('s') {
        Some(one) if plain && one.len() >= 2 => match one.strip_suffix("ie") {
            Some(stem) => Some(format!("{stem}y")),
            None => Some(one.to_owned()),
        },
        _ => None,
    }
}

impl Class {
    fn word(self) -> &'static str {
        match self {
            Class::Number => "number",
            Class::Uuid => "uuid",
            Class::Date => "date",
            Class::Hash => "hash",
            Class::Id => "id",
            Class::Name => "name",
        }
    }
}

/// What a segment looks like. `None`: a word.
fn class(segment: &str) -> Option<Class> {
    let bytes = segment.as_bytes();
    let count = |is: fn(&u8) -> bool| bytes.iter().filter(|b| is(b)).count();
    let digits = count(u8::is_ascii_digit);
    let (lower, upper) = (count(u8::is_ascii_lowercase), count(u8::is_ascii_uppercase));
    let dashes = bytes.iter().filter(|b| **b == b'-').count();
    let lengths: Vec<usize> = segment.split('-').map(str::len).collect();
    let hex = bytes.iter().all(|b| b.is_ascii_hexdigit() || *b == b'-');
    let alphabet = bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if digits == bytes.len() && digits > 0 {
        Some(Class::Number)
    } else if hex && lengths == [8, 4, 4, 4, 12] {
        Some(Class::Uuid)
    } else if digits == 8 && dashes == 2 && lengths == [4, 2, 2] {
        Some(Class::Date)
    } else if hex && dashes == 0 && digits > 0 && bytes.len() >= 7 {
        Some(Class::Hash)
    } else if alphabet
        && bytes.len() >= 8
        && (digits >= 2 && lower + upper >= 2 || bytes.len() >= 16 && lower > 1 && upper > 3)
    {
        Some(Class::Id)
    } else {
        None
    }
}

/// Templates that another one of the list takes the paths of are not needed.
fn without_covered(found: Vec<String>) -> Vec<String> {
    let parsed: Vec<Option<Template>> = found.iter().map(|text| Template::parse(text).ok()).collect();
    let covered = |number: usize, own: &Template| {
        parsed.iter().enumerate().any(|(other, template)| {
            template.as_ref().is_some_and(|template| {
                // Of two that cover each other, the first stays.
                number != other && template.covers(own) && (!own.covers(template) || other < number)
            })
        })
    };
    found
        .iter()
        .enumerate()
        .filter(|(number, _)| {
            parsed.get(*number).and_then(Option::as_ref).is_none_or(|own| !covered(*number, own))
        })
        .map(|(_, text)| text.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{class, templates};

    #[test]
    fn ids_become_segments_and_constants_stay() {
        for (paths, expected) in [
            (&["/repos/o/r/issues/7", "/repos/o/r/issues/8"][..], &["/repos/o/r/issues/{issue}"][..]),
            // One value is a constant, whatever it looks like.
            (&["/repos/o/r/issues/7"], &["/repos/o/r/issues/7"]),
            (&["/a/7/x", "/a/8/x", "/a/9/y"], &["/a/{number}/x", "/a/{number}/y"]),
            (&["/issues/7", "/issues/8", "/issues/new"], &["/issues/{issue}"]),
            (&["/issues/7", "/issues/8", "/issues/new/form"], &["/issues/new/form", "/issues/{issue}"]),
            (&["/alice", "/bob"], &["/alice", "/bob"]),
            (&["/", "/a/", "/a"], &["/", "/a", "/a/"]),
            (&["/c/0b1c2d3e", "/c/9f8e7d6c/files", "/c/aaaaaaa1/files"], &["/c/{hash}", "/c/{hash}/files"]),
            (
                &["/u/123e4567-e89b-12d3-a456-426614174000", "/u/123e4567-e89b-12d3-a456-426614174001"],
                &["/u/{uuid}"],
            ),
            (
                &["/v1/customers/cus_NffrFeUfNV2Hib", "/v1/customers/cus_9s6XKzkNRiz8i3"],
                &["/v1/customers/{customer}"],
            ),
            (&["/days/2024-01-15", "/days/2024-01-16"], &["/days/{day}"]),
            (&["/p/1/q/2", "/p/3/q/4"], &["/p/{number}/q/{number-2}"]),
            (&["/star/*", "/star/x"], &["/star/%2A", "/star/x"]),
        ] {
            assert_eq!(templates(paths.iter().copied(), false), expected, "{paths:?}");
        }
    }

    #[test]
    fn very_many_words_become_one_segment_and_deep_trees_end_in_two_stars() {
        let words: Vec<String> = (0..30).map(|n| format!("/users/{}", "abcdefghij".repeat(n + 1))).collect();
        assert_eq!(templates(words.iter().map(String::as_str), false), ["/users/{user}"]);
        let alphabet = "abcdefgh";
        let mut deep = Vec::new();
        for a in alphabet.chars() {
            for b in alphabet.chars() {
                deep.push(format!("/std/{a}/{b}.html"));
            }
        }
        deep.push("/index.html".to_owned());
        let found = templates(deep.iter().map(String::as_str), false);
        assert!(
            found.len() <= super::MANY_TEMPLATES && found.contains(&"/index.html".to_owned()),
            "{found:?}"
        );
        assert!(found.iter().all(|t| t.starts_with("/std/") || t == "/index.html"), "{found:?}");
    }

    #[test]
    fn words_are_not_ids() {
        for word in
            ["v1", "repos", "issues", "index.html", "README.md", "deadbeef", "oauth2", "utf8", "a-b-c", "api"]
        {
            assert_eq!(class(word), None, "{word}");
        }
        for id in
            ["7", "0b1c2d3", "cus_NffrFeUfNV2Hib", "dQw4w9WgXcQ", "2024-01-15", "01ARZ3NDEKTSV4RRFFQ69G5FAV"]
        {
            assert!(class(id).is_some(), "{id}");
        }
    }
}
