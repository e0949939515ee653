//! What is checked of a change before its tests run. Stops at the first failure.

use std::path::Path;

use anyhow::Result;

use crate::run::{step, step_with};
use crate::{bpf, fuzz, setup, tidy};

pub(crate) fn ci(root: &Path) -> Result<()> {
    setup::setup(root)?;
    step(root, "Format", &["cargo", "fmt", "--all", "--check"])?;
    let kernel_half = ["cargo", "fmt", "--manifest-path", "enforcer-ebpf/Cargo.toml", "--check"];
    step(root, "Format of the kernel half", &kernel_half)?;
    tidy::tidy(root)?;
    // The host crate embeds the object, so it comes before anything that compiles the host crate.
    bpf::build(root, None)?;
    step(root, "Lints", &["cargo", "clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    fuzz::smoke(root)?;
    // Private items are documented too, so a link to one leads somewhere.
    let strict = [("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links".to_owned())];
    step_with(
        root,
        "Documentation",
        &["cargo", "doc", "--workspace", "--no-deps", "--document-private-items"],
        &strict,
    )
}
