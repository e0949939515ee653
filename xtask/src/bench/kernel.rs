//! The measurement itself is `benches/kernel` of the capture crate.

use std::path::Path;

use anyhow::Result;

use crate::run::step_with;
use crate::test::runner;
use crate::{bpf, setup};

pub(super) fn bench(root: &Path) -> Result<()> {
    setup::setup(root)?;
    bpf::build(root, None)?;
    // Unoptimized like the tests, from what they have built: the time is the kernel's.
    let words = ["cargo", "bench", "--profile", "dev", "-p", "enforcer-capture", "--bench", "kernel"];
    step_with(root, "Measuring the programs in the kernel", &words, &runner(root)?)
}
