//! A disk with a volatile cache: what was not flushed is in nbdkit's memory alone, and gone when it is killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::run::output;

const SIZE: u64 = 256 * 1024 * 1024;

/// How the disk takes a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flush {
    /// It puts everything where it lasts.
    Honest,
    /// It says so, and does not. What then gets lost shows that the cache is volatile.
    Lies,
}

/// An image and the server that is its cache.
pub(super) struct Disk {
    server: Child,
    socket: PathBuf,
}

/// An empty file system.
pub(super) fn make(image: &Path) -> Result<()> {
    if image.exists() {
        fs::remove_file(image)?;
    }
    fs::File::create(image)?.set_len(SIZE)?;
    output(Path::new("/"), &["/sbin/mke2fs", "-q", "-t", "ext4", &image.display().to_string()])?;
    Ok(())
}

impl Disk {
    pub(super) fn plug_in(image: &Path, flush: Flush) -> Result<Self> {
        // A socket's name is at most 108 bytes, and a checkout may lie deep.
        let socket = std::env::temp_dir().join(format!("enforcer-vm-{}.sock", std::process::id()));
        if socket.exists() {
            fs::remove_file(&socket)?;
        }
        let cache = match flush {
            Flush::Honest => "cache=writeback",
            Flush::Lies => "cache=unsafe",
        };
        let server = Command::new("nbdkit")
            .args(["--foreground", "--exit-with-parent", "--filter=cache", "--unix"])
            .arg(&socket)
            .arg("file")
            .arg(image)
            .arg(cache)
            .stdin(Stdio::null())
            .spawn()
            .context("start nbdkit")?;
        let disk = Disk { server, socket };
        let deadline = Instant::now() + Duration::from_secs(60);
        while !disk.socket.exists() {
            ensure!(Instant::now() < deadline, "nbdkit does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(disk)
    }

    /// For QEMU's command line.
    pub(super) fn device(&self) -> Vec<String> {
        let drive =
            format!("if=none,id=disk,format=raw,cache=writeback,file=nbd:unix:{}", self.socket.display());
        ["-drive", &drive, "-device", "virtio-blk-pci,drive=disk,write-cache=on"].map(str::to_owned).to_vec()
    }

    /// Its cache is lost.
    pub(super) fn cut(&mut self) -> Result<()> {
        self.server.kill()?;
        self.server.wait()?;
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _gone = self.cut();
        let _removed = fs::remove_file(&self.socket);
    }
}
