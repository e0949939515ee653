//! One guest: QEMU without KVM, its console in a file, its words line by line. It ends with its owner.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use enforcer_tests::world::command::quote;

use super::guest::Scene;
use super::kernel::Kernel;
use super::{Run, initramfs};

/// Between two lines of a guest. Everything is some twenty times slower in it, on a machine that compiles beside.
const SILENCE: Duration = Duration::from_secs(900);

/// A busy host is late with the guest's timer interrupts: the kernel must not conclude that there are none.
const COMMAND_LINE: &str = "console=ttyS0 panic=-1 no_timer_check";

/// A guest that runs.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) console: PathBuf,
    child: Child,
    lines: Receiver<String>,
}

impl Machine {
    /// `devices`: added to QEMU's command line.
    pub(super) fn boot(run: &Run<'_>, kernel: &Kernel, scene: &Scene, devices: &[String]) -> Result<Self> {
        let file = |end: &str| run.dir.join(format!("{}-{}.{end}", kernel.release, scene.name));
        let (archive, console) = (file("cpio"), file("console"));
        let me = run.root.join("target/debug/xtask").display().to_string();
        let settings = [
            ("PROGRAM", format!("{} vm --on-guest {}", quote(&me), scene.name)),
            ("INIT", scene.init.to_owned()),
            ("MODULES", kernel.dir.join("lib/modules").join(&kernel.release).display().to_string()),
            ("HIERARCHY", scene.hierarchy.to_owned()),
        ];
        initramfs::write(kernel, &settings, &archive)?;
        let mut child = command(kernel, scene, devices, &archive, &console)
            .spawn()
            .context("start qemu-system-x86_64")?;
        let words = child.stdout.take().context("QEMU has an output")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(words).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Machine { console, child, lines })
    }

    /// The guest's next line; `None`: it is over.
    pub(super) fn line(&mut self) -> Result<Option<String>> {
        match self.lines.recv_timeout(SILENCE) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => {
                bail!("the guest has said nothing for {SILENCE:?}; its console: {}", self.console.display())
            }
        }
    }

    /// Pulls the plug.
    pub(super) fn cut(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _gone = self.cut();
    }
}

fn command(kernel: &Kernel, scene: &Scene, devices: &[String], archive: &Path, console: &Path) -> Command {
    let _none_yet = fs::remove_file(console);
    // It goes when we are killed, too.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
    command.args(["-nodefaults", "-no-user-config", "-display", "none"]);
    command.args([
        "-accel",
        "tcg,thread=multi",
        "-cpu",
        "max",
        "-smp",
        "2",
        "-m",
        "2048",
        "-no-reboot",
        "-nic",
        "none",
    ]);
    command.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(archive);
    command.args(["-append", &format!("{COMMAND_LINE} {}", scene.append)]);
    command.args(["-serial", &format!("file:{}", console.display()), "-serial", "stdio"]);
    command.args(["-virtfs", "local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap"]);
    command.args(devices);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}
