//! Every chore of the project.
use std::path::Path;

mod bpf;
mod setup;

fn main() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    match std::env::args().nth(1).as_deref() {
        Some("bpf") => bpf::build(root).map(|object| anstream::println!("{}", object.display())),
        _ => anyhow::bail!("usage: cargo xtask bpf"),
    }
}
