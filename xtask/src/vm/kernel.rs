//! Debian's kernels: found in all its releases, fetched by apt, unpacked below `target/vm` and never installed.
//!
//! apt gets package lists of its own for this; what the host installs from stays as it is.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::run::{done, note, output, step};

/// Releases with kernels of their own, by the archive that they are in.
const SUITES: &[(&str, &[&str])] = &[
    ("debian", &["bullseye", "bookworm", "bookworm-backports", "trixie", "trixie-backports", "sid"]),
    ("debian-security", &["bullseye-security", "bookworm-security", "trixie-security"]),
];
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// In place of a version: whatever is the newest now.
pub(super) const NEWEST: &str = "newest";

/// An unpacked kernel.
#[derive(Debug)]
pub(super) struct Kernel {
    /// `6.1.0-18-amd64`.
    pub(super) release: String,
    pub(super) version: (u32, u32),
    /// Holds `lib/modules/RELEASE`.
    pub(super) dir: PathBuf,
    pub(super) image: PathBuf,
}

/// The newest kernel of this version (`6.1`), or of all ([`NEWEST`]); fetched if it is not there yet.
pub(super) fn fetch(vm: &Path, wanted: &str) -> Result<Kernel> {
    let dir = vm.join("kernels").join(wanted);
    let mark = dir.join("release");
    if !mark.exists() {
        let apt = Apt::prepare(vm)?;
        let packages = apt.newest(wanted)?;
        let place = dir.display().to_string();
        fs::create_dir_all(&dir)?;
        for package in &packages {
            apt.download(&dir, package)?;
        }
        for deb in fs::read_dir(&dir)?
            .flatten()
            .map(|e| e.path())
            .filter(|p| p.extension().is_some_and(|e| e == "deb"))
        {
            output(vm, &["dpkg", "-x", &deb.display().to_string(), &place])?;
            fs::remove_file(deb)?;
        }
        if !dir.join("lib").exists() {
            std::os::unix::fs::symlink("usr/lib", dir.join("lib"))?;
        }
        let release = only_entry(&dir.join("lib/modules"))?;
        step(vm, "Indexing modules", &["/sbin/depmod", "-b", &place, &release])?;
        fs::write(&mark, &release)?;
    }
    let release = fs::read_to_string(&mark)?;
    let places =
        [dir.join(format!("boot/vmlinuz-{release}")), dir.join(format!("lib/modules/{release}/vmlinuz"))];
    let image = places.into_iter().find(|p| p.exists()).context("the kernel's package holds no image")?;
    let version = version(&release).with_context(|| format!("`{release}` does not begin with a version"))?;
    done(&format!("Linux {release}"));
    Ok(Kernel { release, version, dir, image })
}

/// The first two numbers.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn only_entry(dir: &Path) -> Result<String> {
    let names: Vec<_> =
        fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))?.flatten().collect();
    let [one] = names.as_slice() else { bail!("{} should hold one kernel's modules", dir.display()) };
    Ok(one.file_name().to_string_lossy().into_owned())
}

/// apt with lists and a cache of its own.
struct Apt {
    options: Vec<String>,
}

impl Apt {
    /// Asks the mirrors that this host uses for the lists of all releases.
    fn prepare(vm: &Path) -> Result<Self> {
        let dir = vm.join("apt");
        fs::create_dir_all(dir.join("lists/partial"))?;
        fs::create_dir_all(dir.join("cache/archives/partial"))?;
        let sources = dir.join("sources.list");
        let set = |name: &str, value: &str| ["-o".to_owned(), format!("{name}={value}")];
        let at = |name: &str| dir.join(name).display().to_string();
        let options = [
            set("Dir::Etc::sourcelist", &sources.display().to_string()),
            set("Dir::Etc::sourceparts", "-"),
            set("Dir::State::lists", &at("lists")),
            set("Dir::Cache", &at("cache")),
            // The user `_apt` cannot write below a checkout.
            set("APT::Sandbox::User", ""),
            set("Acquire::Languages", "none"),
            set("Acquire::IndexTargets::deb::DEP-11::DefaultEnabled", "false"),
        ];
        let apt = Apt { options: options.concat() };
        if !sources.exists() {
            fs::write(&sources, sources_list(&mirrors(vm)?))?;
        }
        if apt.run(vm, "apt-get", &["update"]).is_err() {
            note("not every release's list of packages could be read");
        }
        Ok(apt)
    }

    fn run(&self, dir: &Path, program: &str, words: &[&str]) -> Result<String> {
        let mut line = vec![program];
        line.extend(self.options.iter().map(String::as_str));
        line.extend(words);
        output(dir, &line)
    }

    /// The packages of the newest build of this version.
    fn newest(&self, wanted: &str) -> Result<Vec<String>> {
        let found = self.run(
            Path::new("/"),
            "apt-cache",
            &["search", "--names-only", "^linux-(image|binary)-[0-9].*-amd64$"],
        )?;
        let names: Vec<&str> = found.lines().filter_map(|line| line.split(' ').next()).collect();
        newest(&names, wanted)
            .with_context(|| format!("none of Debian's releases has a kernel {wanted} any more; other versions: `apt-cache search linux-image`"))
    }

    fn download(&self, dir: &Path, package: &str) -> Result<()> {
        let mut line = vec!["apt-get"];
        line.extend(self.options.iter().map(String::as_str));
        line.extend(["-qq", "download", package]);
        step(dir, &format!("Fetching {package}"), &line)
    }
}

/// From lately on, image and modules are packages of their own.
fn newest(names: &[&str], wanted: &str) -> Option<Vec<String>> {
    let of = |kind: &str| {
        let version = if wanted == NEWEST { String::new() } else { format!("{wanted}.") };
        let prefix = format!("linux-{kind}-{version}");
        let ours = names.iter().filter_map(|name| name.strip_prefix(&prefix)?.strip_suffix("-amd64"));
        // A flavour (cloud, rt) stands between the build and the architecture.
        let plain =
            ours.filter(|rest| !rest.rsplit('-').next().is_some_and(|w| w.chars().all(char::is_alphabetic)));
        plain.max_by_key(|rest| numbers(rest)).map(|rest| format!("{version}{rest}-amd64"))
    };
    match of("binary") {
        Some(release) => {
            Some(["base", "binary", "modules"].map(|part| format!("linux-{part}-{release}")).to_vec())
        }
        None => of("image").map(|release| vec![format!("linux-image-{release}")]),
    }
}

fn numbers(text: &str) -> Vec<u32> {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect()
}

/// Archive and address of each Debian mirror that this host's apt knows.
fn mirrors(vm: &Path) -> Result<Vec<(String, String)>> {
    let told = output(vm, &["apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI)"])?;
    let mut mirrors: Vec<(String, String)> = Vec::new();
    for uri in told.lines().filter_map(|line| line.strip_prefix("Debian ")) {
        let archive = uri.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
        if !mirrors.iter().any(|(known, _)| *known == archive) {
            mirrors.push((archive, uri.to_owned()));
        }
    }
    ensure!(!mirrors.is_empty(), "the kernels come from Debian's mirrors, and this host's apt knows none");
    ensure!(Path::new(KEYRING).exists(), "{KEYRING} is missing. Run: apt-get install debian-archive-keyring");
    Ok(mirrors)
}

fn sources_list(mirrors: &[(String, String)]) -> String {
    let suites = |archive: &str| {
        SUITES.iter().find(|(name, _)| *name == archive).map_or(&[][..], |(_, suites)| suites)
    };
    let lines = mirrors.iter().flat_map(|(archive, uri)| {
        suites(archive).iter().map(move |suite| format!("deb [signed-by={KEYRING}] {uri} {suite} main\n"))
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_build_of_a_version_is_taken() {
        let names = [
            "linux-image-6.1.0-9-amd64",
            "linux-image-6.1.0-56-amd64",
            "linux-image-6.1.0-57-cloud-amd64",
            "linux-image-6.1.0-58-rt-amd64",
            "linux-image-6.12.95+deb12-amd64",
            "linux-image-6.12.117+deb13-amd64",
            "linux-image-6.12.117+deb12-amd64",
            "linux-image-7.2.13+deb14-amd64",
            "linux-binary-7.2.9+deb13-amd64",
            "linux-binary-7.2.13+deb14-amd64",
        ];
        assert_eq!(newest(&names, "6.1").unwrap(), ["linux-image-6.1.0-56-amd64"]);
        assert_eq!(newest(&names, "6.12").unwrap(), ["linux-image-6.12.117+deb13-amd64"]);
        assert_eq!(
            newest(&names, "7.2").unwrap(),
            [
                "linux-base-7.2.13+deb14-amd64",
                "linux-binary-7.2.13+deb14-amd64",
                "linux-modules-7.2.13+deb14-amd64"
            ]
        );
        assert_eq!(newest(&names, NEWEST), newest(&names, "7.2"));
        assert_eq!(newest(&names, "4.19"), None);
    }
}
