//! A compiler for `bpfel-unknown-none`: Debian's, which has `core` for that target prebuilt, or a rustup nightly that builds `core`
//! itself; and bpf-linker, cached in `target/tools`.
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::bpf::run;
use crate::run::as_root;

pub(crate) const TARGET: &str = "bpfel-unknown-none";

const LINKER_VERSION: &str = "0.13.0";
const LLVM: &str = "/usr/lib/llvm-22";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_CORE: &str = "/usr/lib/rustlib/bpfel-unknown-none/lib";
const NIGHTLY: &str = "rustup toolchain install nightly --component rust-src";
const DEBIAN_COMPILER_PACKAGES: &[&str] = &["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"];
const DEBIAN_LLVM_PACKAGES: &[&str] = &["llvm-22-dev", "libpolly-22-dev"];

/// What builds the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Toolchain {
    compiler: Compiler,
    linker: PathBuf,
}

/// The two ways to a `core` for the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Compiler {
    /// Debian's rustc with `core` for the target prebuilt
    Debian,
    /// A rustup nightly that builds `core` from its component rust-src
    Nightly,
}

impl Toolchain {
    /// A cargo command for the `enforcer-ebpf` workspace below `root`, without its subcommand.
    pub(crate) fn cargo(&self, root: &Path) -> Result<Command> {
        let mut cargo = match self.compiler {
            Compiler::Debian => {
                let mut cargo = Command::new(DEBIAN_CARGO);
                // The kernel side needs a few unstable features that this stable compiler has.
                cargo.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
                cargo
            }
            Compiler::Nightly => {
                let mut cargo = Command::new("rustup");
                cargo.args(["run", "nightly", "cargo", "-Z", "build-std=core"]);
                cargo
            }
        };
        let tools = self.linker.parent().context("the linker has a folder")?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path =
            std::env::join_paths(std::iter::once(tools.to_owned()).chain(std::env::split_paths(&path)))
                .context("PATH cannot be extended")?;
        cargo.current_dir(root.join("enforcer-ebpf")).env("PATH", path);
        // The outer cargo's choice of toolchain and flags is for the host.
        for name in
            ["RUSTUP_TOOLCHAIN", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO"]
        {
            cargo.env_remove(name);
        }
        if self.compiler == Compiler::Nightly {
            cargo.env_remove("RUSTC");
        }
        Ok(cargo)
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let compiler = match self.compiler {
            Compiler::Debian => "Debian's rustc with prebuilt core",
            Compiler::Nightly => "rustup nightly with build-std",
        };
        write!(f, "{compiler}, bpf-linker {LINKER_VERSION}")
    }
}

/// Finds the toolchain, or installs Debian's (on it and its derivatives, as root). With `wanted` it is that compiler or none.
pub(crate) fn ensure_toolchain(root: &Path, wanted: Option<Compiler>) -> Result<Toolchain> {
    let found = match wanted {
        Some(compiler) => compiler.is_there().then_some(compiler),
        None => Compiler::value_variants().iter().copied().find(Compiler::is_there),
    };
    let compiler = match (found, wanted) {
        (Some(compiler), _) => compiler,
        (None, Some(Compiler::Nightly)) => {
            bail!("there is no rustup nightly with the source of `core`. Install it: {NIGHTLY}")
        }
        (None, None | Some(Compiler::Debian)) => {
            install(DEBIAN_COMPILER_PACKAGES)?;
            Some(Compiler::Debian)
                .filter(Compiler::is_there)
                .context("the packages are installed, but there is no `core` for the eBPF target")?
        }
    };
    Ok(Toolchain { compiler, linker: ensure_linker(root)? })
}

impl Compiler {
    fn is_there(&self) -> bool {
        match self {
            Compiler::Debian => {
                [DEBIAN_RUSTC, DEBIAN_CARGO].iter().all(|path| Path::new(path).is_file())
                    && has_core(Path::new(DEBIAN_CORE))
            }
            Compiler::Nightly => nightly_sysroot()
                .is_some_and(|root| root.join("lib/rustlib/src/rust/library/core/src/lib.rs").is_file()),
        }
    }
}

fn nightly_sysroot() -> Option<PathBuf> {
    let asked =
        Command::new("rustup").args(["run", "nightly", "rustc", "--print", "sysroot"]).output().ok()?;
    let sysroot = PathBuf::from(String::from_utf8(asked.stdout).ok()?.trim());
    sysroot.is_absolute().then_some(sysroot)
}

fn has_core(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libcore-") && name.ends_with(".rlib")
    })
}

fn ensure_linker(root: &Path) -> Result<PathBuf> {
    let tools = root.join("target/tools");
    let linker = tools.join("bin/bpf-linker");
    if version(&linker).is_some_and(|version| version == LINKER_VERSION) {
        return Ok(linker);
    }
    // The linker is built against LLVM's libraries, Polly's included.
    if !Path::new(LLVM).join("include/llvm-c").is_dir() || !polly_is_there() {
        install(DEBIAN_LLVM_PACKAGES)?;
    }
    let mut cargo = Command::new("cargo");
    cargo.args(["install", "bpf-linker", "--version", LINKER_VERSION, "--locked", "--force"]);
    cargo.args(["--no-default-features", "--features", "llvm-22", "--root"]).arg(&tools);
    cargo.env("LLVM_PREFIX", LLVM).current_dir(root);
    run(&mut cargo).context("cannot build bpf-linker")?;
    match version(&linker) {
        Some(version) if version == LINKER_VERSION => Ok(linker),
        other => {
            bail!("bpf-linker {LINKER_VERSION} was installed, but `{}` says {other:?}", linker.display())
        }
    }
}

fn polly_is_there() -> bool {
    ["libPolly.a", "libPolly.so"].iter().any(|name| Path::new(LLVM).join("lib").join(name).exists())
}

/// What `bpf-linker --version` prints after its name.
fn version(linker: &Path) -> Option<String> {
    let output = Command::new(linker).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().strip_prefix("bpf-linker ")?.to_owned())
}

fn install(packages: &[&str]) -> Result<()> {
    let wanted = packages.join(" ");
    if !Path::new("/usr/bin/apt-get").is_file() {
        bail!(
            "the eBPF toolchain is missing. On Debian or Ubuntu: apt-get install {wanted}. Elsewhere: a rustup nightly with \
             rust-src (`{NIGHTLY}`) and LLVM 22 with headers at {LLVM}"
        );
    }
    apt_get(&["update", "-q"])?;
    let mut words = vec!["install", "-q", "-y", "--no-install-recommends"];
    words.extend(packages);
    apt_get(&words).with_context(|| format!("cannot install {wanted}"))
}

/// As root, through sudo for everybody else.
fn apt_get(words: &[&str]) -> Result<()> {
    let mut line = vec!["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"];
    line.extend(words);
    let line = as_root(&line)?;
    let (first, rest) = line.split_first().context("a command has a first word")?;
    run(Command::new(first).args(rest))
}
