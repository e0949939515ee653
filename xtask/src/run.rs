//! Steps: what is about to run, the run, and on a failure how to repeat it.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anstyle::{AnsiColor, Style};
use anyhow::{Context, Result, bail};
use enforcer_tests::world::command::quote;

pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const GREEN: Style = AnsiColor::Green.on_default().bold();
pub(crate) const RED: Style = AnsiColor::Red.on_default().bold();
pub(crate) const YELLOW: Style = AnsiColor::Yellow.on_default();
pub(crate) const CYAN: Style = AnsiColor::Cyan.on_default();

/// A headline.
pub(crate) fn title(text: &str) {
    anstream::eprintln!("{BOLD}{text}{BOLD:#}");
}

/// Something is as it should be.
pub(crate) fn done(text: &str) {
    anstream::eprintln!("  {GREEN}✓{GREEN:#} {text}");
}

/// Something a person may want to know; nothing stops.
pub(crate) fn note(text: &str) {
    anstream::eprintln!("  {YELLOW}!{YELLOW:#} {text}");
}

/// The end of a chore that did not succeed.
pub(crate) fn failure(error: &anyhow::Error) {
    anstream::eprintln!("{RED}failed:{RED:#} {error}");
    for cause in error.chain().skip(1) {
        anstream::eprintln!("  because: {cause}");
    }
}

/// Runs one step in the open: its output is the user's to see.
pub(crate) fn step(root: &Path, what: &str, words: &[impl AsRef<str>]) -> Result<()> {
    step_with(root, what, words, &[])
}

/// The same with additions to the environment.
pub(crate) fn step_with(
    root: &Path,
    what: &str,
    words: &[impl AsRef<str>],
    env: &[(&str, String)],
) -> Result<()> {
    let typed = typed(words, env);
    anstream::eprintln!("{BOLD}{what}{BOLD:#}  {DIM}$ {typed}{DIM:#}");
    let started = Instant::now();
    let mut command = command(words)?;
    let status = command
        .current_dir(root)
        .envs(env.iter().map(|(key, value)| (key, value)))
        .status()
        .with_context(|| format!("start `{typed}`"))?;
    if !status.success() {
        bail!("{what} ({status}). Repeat it with:\n\n    {typed}\n");
    }
    done(&format!("{what} {DIM}({:.1} s){DIM:#}", started.elapsed().as_secs_f32()));
    Ok(())
}

/// Runs in silence and tells whether it succeeded; a programme that is missing did not.
pub(crate) fn succeeds(words: &[&str]) -> bool {
    command(words).is_ok_and(|mut c| {
        c.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
    })
}

/// Runs in silence and returns its standard output.
pub(crate) fn output(root: &Path, words: &[&str]) -> Result<String> {
    let out =
        command(words)?.current_dir(root).output().with_context(|| format!("start `{}`", words.join(" ")))?;
    if !out.status.success() {
        bail!("`{}` failed ({}):\n{}", words.join(" "), out.status, String::from_utf8_lossy(&out.stderr));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The words as root would say them: through sudo for everybody else.
pub(crate) fn as_root(words: &[&str]) -> Result<Vec<String>> {
    let mut line = Vec::new();
    if !is_root() {
        if !succeeds(&["sudo", "--version"]) {
            bail!("this needs root, and sudo is not installed. Run the same command as root");
        }
        line.extend(["sudo", "-E"].map(str::to_owned));
    }
    line.extend(words.iter().map(|w| (*w).to_owned()));
    Ok(line)
}

fn command(words: &[impl AsRef<str>]) -> Result<Command> {
    let (first, rest) = words.split_first().context("a step has at least one word")?;
    let mut command = Command::new(first.as_ref());
    command.args(rest.iter().map(|w| OsStr::new(w.as_ref())));
    // `cargo xtask` sets these for itself; a cargo that we start works out its own.
    for inherited in ["CARGO", "CARGO_MANIFEST_DIR", "CARGO_PKG_NAME", "CARGO_PKG_VERSION"] {
        command.env_remove(inherited);
    }
    Ok(command)
}

fn typed(words: &[impl AsRef<str>], env: &[(&str, String)]) -> String {
    let env = env.iter().map(|(key, value)| format!("{key}={}", quote(value)));
    env.chain(words.iter().map(|w| quote(w.as_ref()))).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_prints_the_command_to_repeat() {
        let error = step(Path::new("/"), "look", &["sh", "-c", "exit 3"]).unwrap_err().to_string();
        assert!(error.contains("Repeat it with:\n\n    sh -c 'exit 3'"), "{error}");
    }

    #[test]
    fn the_environment_is_part_of_the_command() {
        assert_eq!(
            typed(&["cargo", "doc"], &[("RUSTDOCFLAGS", "-D warnings".into())]),
            "RUSTDOCFLAGS='-D warnings' cargo doc"
        );
    }
}
