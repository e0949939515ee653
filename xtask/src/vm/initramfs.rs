//! The guest's first files: busybox, the modules that its root needs, and what to run.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use enforcer_tests::world::command::quote;

use super::kernel::Kernel;
use crate::run::output;

/// What the root needs before its own `modprobe` can be asked.
const MODULES: &[&str] = &["virtio_pci", "9pnet_virtio", "9p", "overlay"];
const BUSYBOX: &str = "/bin/busybox";

/// Writes the archive; `settings` are variables that `init.sh` reads.
pub(super) fn write(kernel: &Kernel, settings: &[(&str, String)], to: &Path) -> Result<()> {
    let dir = to.with_extension("dir");
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    fs::create_dir_all(dir.join("bin"))?;
    fs::create_dir_all(dir.join("modules"))?;
    fs::copy(BUSYBOX, dir.join("bin/busybox")).with_context(|| format!("copy {BUSYBOX}"))?;
    fs::write(dir.join("init"), include_str!("init.sh"))?;
    fs::set_permissions(dir.join("init"), fs::Permissions::from_mode(0o755))?;
    let settings: String =
        settings.iter().map(|(name, value)| format!("{name}={}\n", quote(value))).collect();
    fs::write(dir.join("settings"), settings)?;
    let mut order = String::new();
    for file in modules(kernel)? {
        let name = file.file_name().context("a module has a name")?.to_string_lossy().into_owned();
        let name = name.trim_end_matches(".xz").to_owned();
        if file.extension().is_some_and(|e| e == "xz") {
            let unpacked = Command::new("xz").arg("-dc").arg(&file).output()?;
            ensure!(unpacked.status.success(), "cannot unpack {}", file.display());
            fs::write(dir.join("modules").join(&name), unpacked.stdout)?;
        } else {
            fs::copy(&file, dir.join("modules").join(&name))?;
        }
        if !order.contains(&format!("{name}\n")) {
            order.push_str(&format!("{name}\n"));
        }
    }
    fs::write(dir.join("modules/order"), order)?;
    pack(&dir, to)?;
    Ok(fs::remove_dir_all(&dir)?)
}

/// Files of the modules, each after those that it needs. What is built in has none.
fn modules(kernel: &Kernel) -> Result<Vec<std::path::PathBuf>> {
    let mut files = Vec::new();
    let dir = kernel.dir.display().to_string();
    for module in MODULES {
        let told = output(
            &kernel.dir,
            &["/sbin/modprobe", "-d", &dir, "-S", &kernel.release, "--show-depends", module],
        )?;
        let paths = told.lines().filter_map(|line| line.strip_prefix("insmod "));
        files.extend(paths.map(|path| std::path::PathBuf::from(path.trim())));
    }
    Ok(files)
}

fn pack(dir: &Path, to: &Path) -> Result<()> {
    let mut find = Command::new("find").arg(".").current_dir(dir).stdout(Stdio::piped()).spawn()?;
    let names = find.stdout.take().context("find has an output")?;
    let packed = Command::new("cpio")
        .args(["--quiet", "-o", "-H", "newc", "-R", "0:0"])
        .current_dir(dir)
        .stdin(names)
        .stdout(fs::File::create(to)?)
        .status()
        .context("start cpio")?;
    ensure!(find.wait()?.success() && packed.success(), "cannot pack {}", to.display());
    Ok(())
}
