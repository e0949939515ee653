//! Errors in the settings file, with place, cited line and a way out.

use std::fmt;
use std::path::PathBuf;

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the settings in {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        error: std::io::Error,
    },
    #[error("{0}")]
    Invalid(Box<Finding>),
}

impl ConfigError {
    pub fn hint(&self) -> Option<String> {
        match self {
            ConfigError::Read { error, .. } => match error.kind() {
                std::io::ErrorKind::NotFound => {
                    Some("leave out `--config` to run with the defaults".to_owned())
                }
                std::io::ErrorKind::PermissionDenied => {
                    Some("run it as root, or as a member of the group `enforcer`".to_owned())
                }
                _ => None,
            },
            ConfigError::Invalid(finding) => finding.hint.clone(),
        }
    }
}

/// One mistake and where it is.
#[derive(Debug)]
pub struct Finding {
    pub file: String,
    pub line: usize,
    pub column: usize,
    pub message: String,
    pub hint: Option<String>,
    cited: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)?;
        if let Some(cited) = &self.cited {
            let number = self.line.to_string();
            let caret = self.column.saturating_sub(1);
            write!(f, "\n  {number} | {cited}\n  {:1$} | {2:3$}^", "", number.len(), "", caret)?;
        }
        Ok(())
    }
}

pub(super) fn explain(name: &str, text: &str, error: &serde_saphyr::Error) -> ConfigError {
    let plain = error.without_snippet();
    let (line, column) = plain
        .location()
        .map(|l| (usize::try_from(l.line()).unwrap_or(1), usize::try_from(l.column()).unwrap_or(1)))
        .unwrap_or((1, 1));
    let rendered = plain.to_string();
    let (message, hint) = reword(&rendered);
    let cited = text.lines().nth(line.saturating_sub(1)).map(|l| l.chars().take(100).collect());
    ConfigError::Invalid(Box::new(Finding { file: name.to_owned(), line, column, message, hint, cited }))
}

/// The parser speaks to programmers; this is what people read instead.
fn reword(rendered: &str) -> (String, Option<String>) {
    // The place is shown in front, so the parser's own words for it go.
    let message = rendered.split(" at line ").next().unwrap_or(rendered);
    let message = message.split("\n").next().unwrap_or(message).trim();
    if let Some(rest) = message.split_once("unknown field `").map(|(_, rest)| rest) {
        let mut quoted = rest.split('`');
        let written = quoted.next().unwrap_or_default();
        let known: Vec<&str> =
            quoted.skip(1).step_by(2).chain(bare_names(rest)).filter(|w| !w.is_empty()).collect();
        let hint = nearest(written, &known)
            .map(|near| format!("did you mean `{near}`?"))
            .or_else(|| (!known.is_empty()).then(|| format!("known here: {}", known.join(", "))));
        return (format!("`{written}` is not a setting"), hint);
    }
    if let Some((_, rest)) = message.split_once("duplicate mapping key: ") {
        let key = rest.split(',').next().unwrap_or(rest);
        return (format!("`{key}` is written twice"), Some("keep one of the two".to_owned()));
    }
    (message.to_owned(), None)
}

/// `…, expected one of a, b, c` when the names are not quoted.
fn bare_names(rest: &str) -> impl Iterator<Item = &str> {
    let list = rest.split_once("expected one of ").map(|(_, l)| l).filter(|l| !l.contains('`'));
    list.unwrap_or_default().split(", ").map(str::trim)
}

/// The known word within a third of the letters of what was written.
fn nearest<'a>(written: &str, known: &[&'a str]) -> Option<&'a str> {
    let limit = (written.len() / 3).max(1);
    known.iter().map(|k| (distance(written, k), *k)).filter(|(d, _)| *d <= limit).min().map(|(_, k)| k)
}

fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, cb) in b.iter().enumerate() {
            let substituted = row.get(j).copied().unwrap_or(0) + usize::from(ca != *cb);
            let deleted = row.get(j + 1).copied().unwrap_or(0) + 1;
            let inserted = next.get(j).copied().unwrap_or(0) + 1;
            next.push(substituted.min(deleted).min(inserted));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}
