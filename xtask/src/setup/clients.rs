//! The clients of the matrix, installed below `target/clients` by pip and npm as anybody would: `tests/tests/clients` says which.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow};

use super::{ensure_packages, install};
use crate::run::{done, note, step, succeeds};

/// Debian's for `cargo xtask clients` alone, most of them large.
const LARGE: &[(&str, &str)] = &[
    ("libnss3-tools", "a client with NSS"),
    ("golang-go", "Go and its net/http"),
    ("openjdk-17-jdk-headless", "Java and its HttpClient"),
    ("chromium", "a browser"),
];

/// Downloads fail at times; what fails this often fails for a reason.
const ATTEMPTS: usize = 3;

/// Installs what is not there in the versions that are asked for: two registries at a time, since each is mostly waited for.
pub(crate) fn ensure(root: &Path) -> Result<()> {
    let (lists, clients) = (root.join("tests/tests/clients"), root.join("target/clients"));
    fs::create_dir_all(&clients)?;
    std::thread::scope(|scope| {
        let node = scope.spawn(|| cached(&lists.join("package.json"), &clients.join("node"), || node(root)));
        let python = cached(&lists.join("python.txt"), &clients.join("python"), || python(root));
        node.join().map_err(|_panic| anyhow!("installing JavaScript's clients panicked"))?.and(python)
    })?;
    done("clients from the registries of Python and JavaScript");
    Ok(())
}

/// What takes long. Java of another version will do. Rust's are built, from a list of their own.
pub(crate) fn ensure_large(root: &Path) -> Result<()> {
    let there = |(package, _): &(&str, &str)| match *package {
        "openjdk-17-jdk-headless" => succeeds(&["javac", "-version"]),
        _ => false,
    };
    let wanted: Vec<_> = LARGE.iter().filter(|package| !there(package)).copied().collect();
    ensure_packages(root, &wanted)?;
    let manifest = "tests/tests/clients/rust/Cargo.toml";
    let build =
        ["cargo", "build", "--locked", "--manifest-path", manifest, "--target-dir", "target/clients/rust"];
    step(root, "Building Rust's clients", &build)
}

/// Installs into `place`, unless the list is the one that was installed from.
fn cached(list: &Path, place: &Path, install: impl FnOnce() -> Result<()>) -> Result<()> {
    let wanted = fs::read(list).with_context(|| format!("read {}", list.display()))?;
    let installed = place.join("installed-from");
    if fs::read(&installed).is_ok_and(|there| there == wanted) {
        return Ok(());
    }
    if place.exists() {
        fs::remove_dir_all(place).with_context(|| format!("remove {}", place.display()))?;
    }
    install()?;
    fs::write(&installed, wanted).with_context(|| format!("write {}", installed.display()))
}

/// Debian's Python, whatever else is on the PATH: agents have to reach it.
fn python(root: &Path) -> Result<()> {
    step(
        root,
        "Making a place for Python's clients",
        &["/usr/bin/python3", "-m", "venv", "target/clients/python"],
    )?;
    let pip = [
        "target/clients/python/bin/python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-compile",
        "--requirement",
    ];
    again(root, "Installing Python's clients", &[&pip[..], &["tests/tests/clients/python.txt"]].concat())
}

/// No scripts of packages are run: deno and bun would fetch a second time what their packages brought.
fn node(root: &Path) -> Result<()> {
    if !succeeds(&["npm", "--version"]) {
        note("missing: npm (a client, and it installs others)");
        install(root, &["npm"])?;
    }
    fs::create_dir_all(root.join("target/clients/node"))?;
    fs::copy(root.join("tests/tests/clients/package.json"), root.join("target/clients/node/package.json"))?;
    let npm =
        ["npm", "install", "--prefix", "target/clients/node", "--ignore-scripts", "--no-audit", "--no-fund"];
    again(root, "Installing JavaScript's clients", &npm)
}

fn again(root: &Path, what: &str, words: &[&str]) -> Result<()> {
    for _ in 1..ATTEMPTS {
        match step(root, what, words) {
            Ok(()) => return Ok(()),
            Err(error) => note(&format!("{error} Trying again")),
        }
    }
    step(root, what, words)
}
