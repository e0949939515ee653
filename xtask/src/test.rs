//! Every test, from a bare machine: set up, build, run. Privileged tests are not skipped.

use std::path::Path;

use anyhow::{Result, bail};

use crate::run::{self, is_root, step, step_with};
use crate::{bpf, setup};

pub(crate) fn test(root: &Path, rest: &[String]) -> Result<()> {
    setup::for_tests(root)?;
    bpf::build(root, None)?;
    // All binaries: the tests drive `enforcer`, which no test target depends on.
    step(root, "Building", &["cargo", "build", "--workspace", "--all-targets"])?;
    let mut words =
        vec!["cargo".to_owned(), "nextest".to_owned(), "run".to_owned(), "--workspace".to_owned()];
    words.extend(rest.iter().cloned());
    step_with(root, "Testing", &words, &runner(root)?)
}

/// Namespaces, cgroups and BPF need root; cargo does not, and must not own files of the checkout.
/// So cargo stays the user's, and each test is started through sudo.
pub(crate) fn runner(root: &Path) -> Result<Vec<(&'static str, String)>> {
    if is_root() {
        return Ok(Vec::new());
    }
    // Asks for the password once, here, where the user looks.
    if step(root, "Asking for root", &["sudo", "-v"]).is_err() {
        bail!("privileged tests need root and are not skipped. Run as root: cargo xtask test");
    }
    let about = run::output(root, &["rustc", "-vV"])?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
    let key = match host {
        "x86_64-unknown-linux-gnu" => "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER",
        "aarch64-unknown-linux-gnu" => "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER",
        other => {
            bail!("no way is known to start tests through sudo on {other}. Run as root: cargo xtask test")
        }
    };
    Ok(vec![(key, "sudo -E".to_owned())])
}
