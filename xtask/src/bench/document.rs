//! A table's place in `enforcer/docs/performance.md`.

use std::path::Path;

use anyhow::{Context, Result};

const DOCUMENT: &str = "enforcer/docs/performance.md";

/// Puts the table between the two comments that carry the bench's name, with the date and the command.
pub(super) fn write(root: &Path, bench: &str, table: &str) -> Result<()> {
    write_as(root, bench, &format!("bench {bench} --write"), table)
}

/// The same for a command with more words.
pub(crate) fn write_as(root: &Path, bench: &str, command: &str, table: &str) -> Result<()> {
    let path = root.join(DOCUMENT);
    let (begin, end) = (format!("<!-- bench {bench} -->\n"), format!("<!-- end of bench {bench} -->\n"));
    let old = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let place = old.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
    let (before, after) = place.with_context(|| format!("{} has no place for the table", path.display()))?;
    let date = crate::run::output(root, &["date", "-u", "+%Y-%m-%d"])?;
    let kernel = crate::run::output(root, &["uname", "-r"])?;
    let said = format!("{}, kernel {}, `cargo xtask {command}`.", date.trim(), kernel.trim());
    let text = format!("{before}{begin}{said}\n\n{table}{end}{after}");
    std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))
}

/// Of the last minute, five and fifteen.
pub(super) fn load() -> Result<String> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').take(3).collect::<Vec<_>>().join(" "))
}
