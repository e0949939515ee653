//! The measurement itself is `benches/policy` of the policy crate.

use std::path::Path;

use anyhow::Result;

use crate::run::step;

pub(super) fn bench(root: &Path) -> Result<()> {
    step(root, "Measuring decisions", &["cargo", "bench", "-p", "enforcer-policy", "--bench", "policy"])
}
