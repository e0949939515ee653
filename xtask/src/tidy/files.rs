//! Files: each says its duty first, none tells where somebody's machine keeps it, and the top level
//! is what the README shows.

use std::collections::BTreeSet;

use super::{Finding, SourceFile};

/// Names in example paths that are nobody's.
const NOBODY: [&str; 5] = ["agent", "alice", "bob", "user", "you"];

pub(crate) fn check(file: &SourceFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    // A sibling `tests.rs` has its duty in its name.
    let says_itself = file.path.ends_with("/tests.rs");
    if file.path.ends_with(".rs") && !says_itself && !file.text.starts_with("//! ") {
        let what = "opens without `//!`: say the file's duty, and what it leaves out".to_owned();
        findings.push(Finding { file: file.path.clone(), line: 1, what });
    }
    for (number, line) in file.text.lines().enumerate() {
        if let Some(path) = private_path(line) {
            let what = format!("`{path}` is a path of somebody's machine; write one that is true everywhere");
            findings.push(Finding { file: file.path.clone(), line: number + 1, what });
        }
    }
    findings
}

/// Entries of the top level and lines of the README's layout must be the same.
pub(crate) fn layout(files: &[SourceFile]) -> Vec<Finding> {
    let Some(readme) = files.iter().find(|f| f.path == "README.md") else {
        return vec![Finding { file: "README.md".to_owned(), line: 0, what: "is missing".to_owned() }];
    };
    let shown = shown(&readme.text);
    // Settings of tools begin with a dot and are not for readers.
    let there: BTreeSet<&str> =
        files.iter().filter_map(|f| f.path.split('/').next()).filter(|name| !name.starts_with('.')).collect();
    let finding = |name: &str, what: &str| Finding {
        file: "README.md".to_owned(),
        line: 0,
        what: format!("`{name}` {what}"),
    };
    let new = there
        .difference(&shown)
        .map(|name| finding(name, "is at the top level but not in the README's layout"));
    let gone = shown
        .difference(&there)
        .map(|name| finding(name, "is in the README's layout but not at the top level"));
    new.chain(gone).collect()
}

/// First words of the lines of the block below `## Layout`.
fn shown(readme: &str) -> BTreeSet<&str> {
    let Some((_, rest)) = readme.split_once("## Layout") else { return BTreeSet::new() };
    let block = rest.split("```").nth(1).unwrap_or_default();
    let names = block.lines().skip(1).filter(|line| !line.starts_with(' '));
    names.filter_map(|line| line.split_whitespace().next()).map(|name| name.trim_end_matches('/')).collect()
}

/// An absolute path below a home or a private work directory.
fn private_path(line: &str) -> Option<String> {
    // Written in two parts, so that this file is not its own finding.
    for (start, rest) in [("/ho", "me/"), ("/Us", "ers/"), ("/ro", "ot/"), ("/wo", "rk/")] {
        let prefix = format!("{start}{rest}");
        for (at, _) in line.match_indices(&prefix) {
            let before = line.get(..at).and_then(|s| s.chars().next_back());
            // In the middle of a relative path, a URL or a variable's expansion it is something else.
            if before.is_some_and(|c| c.is_alphanumeric() || "-_.}~*$".contains(c)) {
                continue;
            }
            let tail = line.get(at..).unwrap_or_default();
            let path: String = tail.chars().take_while(|c| !" \"'`)>,;|".contains(*c)).collect();
            let owner = path.get(prefix.len()..).and_then(|p| p.split('/').next()).unwrap_or_default();
            if !NOBODY.contains(&owner) {
                return Some(path);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> SourceFile {
        SourceFile { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_file_says_its_duty_first() {
        assert_eq!(check(&file("a.rs", "//! Counts.\nfn f() {}")), []);
        assert_eq!(check(&file("a.rs", "fn f() {}")).len(), 1);
        assert_eq!(check(&file("a.rs", "// Counts.")).len(), 1);
        assert_eq!(check(&file("gate/tests.rs", "use super::*;")), []);
    }

    #[test]
    fn no_file_tells_where_somebody_keeps_it() {
        let private = ["/ho", "me/jane/enforcer/x"].concat();
        assert_eq!(check(&file("a.md", &format!("see `{private}`"))).len(), 1);
        assert_eq!(check(&file("a.md", &["/ro", "ot/.cargo/bin"].concat())).len(), 1);
        assert_eq!(check(&file("a.md", &["/ho", "me/alice/project"].concat())), []);
        assert_eq!(check(&file("a.md", &["target/wo", "rk/x"].concat())), []);
    }

    #[test]
    fn the_layout_is_the_top_level() {
        let readme = "# x\n\n## Layout\n\n```\nREADME.md  this\nsrc/       code\n  inner    more\n```\n";
        assert_eq!(layout(&[file("README.md", readme), file("src/a.rs", "")]), []);
        let findings = layout(&[file("README.md", readme), file("stray.txt", ""), file(".ci/run", "")]);
        let text: Vec<_> = findings.iter().map(ToString::to_string).collect();
        assert_eq!(text.len(), 2, "{text:?}");
        assert!(
            text[0].contains("`stray.txt` is at the top level") && text[1].contains("`src` is in the README")
        );
    }
}
