//! Every client of the matrix, also those that take long to install, with large transfers of 64 MiB.

use std::path::Path;

use anyhow::Result;

use crate::run::{step, step_with};
use crate::{bpf, setup, test};

pub(crate) fn clients(root: &Path) -> Result<()> {
    setup::for_tests(root)?;
    setup::clients::ensure_large(root)?;
    bpf::build(root, None)?;
    step(root, "Building", &["cargo", "build", "--workspace", "--all-targets"])?;
    let mut variables = test::runner(root)?;
    variables.push(("ENFORCER_CLIENTS", "all".to_owned()));
    let words =
        ["cargo", "nextest", "run", "-p", "enforcer-tests", "--test", "clients", "--run-ignored", "all"];
    // What it prints is the table of `enforcer/docs/clients.md`.
    step_with(root, "Trying every client", &[&words[..], &["--no-capture"]].concat(), &variables)
}
