//! Everything that a bare Debian or Ubuntu with cargo lacks. Idempotent: a second run installs nothing.
//!
//! It asks dpkg first and calls apt only for what is missing, so a machine that is set up needs
//! neither root nor a network.

pub(crate) mod bpf_toolchain;
pub(crate) mod clients;

use std::path::Path;

use anyhow::{Result, bail};

use crate::run::{self, as_root, done, note, step, succeeds, title};

/// Debian packages and why.
const PACKAGES: &[(&str, &str)] = &[
    ("ca-certificates", "public roots, which agents get beside ours"),
    ("curl", "a client that the tests and the demo run as an agent"),
    ("wget", "another one, with GnuTLS"),
    ("git", "clones and pushes through the enforcer; its http-backend is the server"),
    ("git-lfs", "which moves large files for it"),
    ("nginx", "the upstream with TLS"),
    ("apache2-bin", "another server that odd paths are tried on; without its service"),
    ("fcgiwrap", "runs git's http-backend behind nginx"),
    ("iproute2", "makes the network namespaces of the stage"),
    ("iputils-ping", "a packet that is easy to see"),
    ("procps", "sysctl for those namespaces"),
    ("util-linux", "nsenter and setpriv"),
    ("slowhttptest", "attacks that take their time"),
    ("dns2tcp", "a tunnel through DNS that must not get out"),
    ("iodine", "another one, for whole packets"),
    ("knot-dnsutils", "kdig, which asks over TLS, HTTPS and QUIC"),
    ("nftables", "the second line in an attached namespace"),
    ("runc", "starts the containers that the tests attach"),
    ("openssl", "looks at certificates in tests"),
    ("python3", "a runtime that agents use"),
    ("python3-venv", "where its clients are installed"),
    ("python3-requests", "its best known HTTP client"),
    ("python3-httpx", "and another, with its own trust store"),
    ("ruby", "a language that agents use"),
    ("php-cli", "another one"),
    ("php-curl", "its other HTTP client"),
    ("gh", "GitHub's command line"),
    ("tmux", "a server on a unix socket that agents must not reach, and may have for themselves"),
    ("dbus", "another one"),
    ("openssh-client", "ssh-agent is another one"),
    ("gpg-agent", "and another one"),
    ("gcc", "the C parts of SQLite, zstd and ring"),
    ("g++", "libFuzzer"),
    ("libc6-dev", "headers for them"),
];

/// The runner of the tests.
const NEXTEST: &str = "0.9.143";

/// What building, checking and the show take.
pub(crate) fn setup(root: &Path) -> Result<()> {
    title("Setting up");
    packages(root)?;
    node(root)?;
    nextest(root)?;
    components(root);
    bpf_toolchain::ensure_toolchain(root, None)?;
    done("the toolchain for programs in the kernel");
    Ok(())
}

/// The same, and the clients that the tests run as agents.
pub(crate) fn for_tests(root: &Path) -> Result<()> {
    setup(root)?;
    clients::ensure(root)
}

fn packages(root: &Path) -> Result<()> {
    if !succeeds(&["dpkg-query", "--version"]) {
        let names: Vec<_> = PACKAGES.iter().map(|(name, _)| *name).collect();
        bail!("this is not Debian or Ubuntu. Install the equivalents of: {}", names.join(" "));
    }
    ensure_packages(root, PACKAGES)
}

/// Installs those that are missing.
pub(crate) fn ensure_packages(root: &Path, packages: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<_> = packages.iter().filter(|(name, _)| !present(name)).collect();
    if missing.is_empty() {
        done(&format!("{} Debian packages", packages.len()));
        return Ok(());
    }
    for (name, why) in &missing {
        note(&format!("missing: {name} ({why})"));
    }
    install(root, &missing.iter().map(|(name, _)| *name).collect::<Vec<_>>())
}

/// git and curl may come from elsewhere: what counts is that the programme is there.
fn present(package: &str) -> bool {
    let program = match package {
        "curl" | "wget" | "git" | "openssl" | "gcc" | "g++" => Some(package),
        _ => None,
    };
    program.is_some_and(|p| succeeds(&[p, "--version"]))
        || program == Some("openssl") && succeeds(&["openssl", "version"])
        || run::output(Path::new("/"), &["dpkg-query", "-W", "-f", "${Status}", package])
            .is_ok_and(|status| status.ends_with("ok installed"))
}

fn install(root: &Path, names: &[&str]) -> Result<()> {
    let mut words =
        vec!["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "--no-install-recommends"];
    words.extend(names);
    let install = as_root(&words)?;
    if step(root, "Installing Debian packages", &install).is_ok() {
        return Ok(());
    }
    // A fresh machine has no package lists, or old ones.
    step(root, "Reading package lists", &as_root(&["apt-get", "update"])?)?;
    step(root, "Installing Debian packages", &install)
}

/// Any node with `fetch` will do (18 and up).
fn node(root: &Path) -> Result<()> {
    if !succeeds(&["node", "-e", "fetch"]) {
        note("missing: nodejs (its fetch is a client that the tests run as an agent)");
        install(root, &["nodejs"])?;
    }
    done("node");
    Ok(())
}

fn nextest(root: &Path) -> Result<()> {
    if !succeeds(&["cargo", "nextest", "--version"]) {
        note("missing: cargo-nextest (runs each test in a process of its own)");
        step(
            root,
            "Building cargo-nextest",
            &["cargo", "install", "cargo-nextest", "--locked", "--version", NEXTEST],
        )?;
    }
    done("cargo-nextest");
    Ok(())
}

/// Only `ci` needs them, so their absence stops nothing here.
fn components(root: &Path) {
    for (component, probe) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        let there = succeeds(&["cargo", probe, "--version"])
            || step(root, "Adding a component", &["rustup", "component", "add", component]).is_ok();
        match there {
            true => done(component),
            false => {
                note(&format!("{component} is not to be had here; `cargo xtask ci` will fail without it"))
            }
        }
    }
}
