//! Golden files: written with `UPDATE_GOLDEN=1 cargo test -p enforcer-policy`, reviewed as a diff.

use std::path::{Path, PathBuf};

/// Files of a folder with this ending, in order.
#[allow(dead_code, reason = "not every test that has golden files lists a folder")]
pub(crate) fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a folder can be listed").path())
        .filter(|path| path.extension().is_some_and(|own| own == ending))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no .{ending} files in {}", folder.display());
    files
}

#[allow(dead_code, reason = "not every test that lists files has golden ones")]
pub(crate) fn check(path: &Path, actual: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, actual).expect("golden files are writable");
        return;
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(actual, expected, "{} differs; look at it, then UPDATE_GOLDEN=1", path.display());
}
