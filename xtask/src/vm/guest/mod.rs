//! What runs in the guest, as root of it: scenes, each a list of expectations that hold or do not.
//!
//! The host reads lines: `@holds`, `@fails`, and all else as something to look at.

mod bare;
mod holds;
pub(super) mod power;
mod refused;
mod systemd;

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use enforcer_tests::world::Output;

use super::Show;

/// The oldest kernel that agents are held on; `enforcer doctor` says the same.
const OLDEST: (u32, u32) = (5, 15);
/// The policy of most scenes.
const POLICY: &str = r#"version: 1
agent: bot
credentials:
  api: { bearer: { secret: api-token, env: API_TOKEN } }
allow:
  - { name: read, host: api.example.test, methods: [GET], paths: ["/v1/**"], credential: api }
"#;
/// What is on its way has come by then.
const SOON: Duration = Duration::from_secs(3);
/// A command's, before the stage's patience.
const LONG: Duration = Duration::from_secs(60);

/// A kernel, some way to boot it, and what is expected then.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    pub(super) append: &'static str,
    /// Of cgroups: `unified` or `none`.
    pub(super) hierarchy: &'static str,
    /// What starts the programme: `busybox` or `systemd`.
    pub(super) init: &'static str,
    pub(super) show: Show,
    /// Kernels that it is for.
    on: fn((u32, u32)) -> bool,
    play: fn(&Report) -> Result<()>,
}

const PLAIN: Scene = Scene {
    name: "",
    what: "",
    append: "",
    hierarchy: "unified",
    init: "busybox",
    show: Show::Features,
    on: supported,
    play: |_| bail!("not a scene"),
};

pub(super) const SCENES: &[Scene] = &[
    Scene {
        name: "too-old",
        what: "a kernel without what the programs need",
        on: |version| version < OLDEST,
        play: |report| refused::play(report, &refused::TOO_OLD),
        ..PLAIN
    },
    Scene { name: "as-it-is", what: "agents are held", play: |report| holds::play(report, true), ..PLAIN },
    Scene {
        name: "no-landlock",
        what: "agents are held without Landlock, and it is said",
        append: "lsm=yama",
        play: |report| holds::play(report, false),
        ..PLAIN
    },
    Scene {
        name: "no-nftables",
        what: "nft without nf_tables",
        append: "module_blacklist=nf_tables",
        play: |report| refused::play(report, &refused::NO_NFTABLES),
        ..PLAIN
    },
    Scene {
        name: "no-cgroup2",
        what: "no hierarchy of cgroup v2",
        hierarchy: "none",
        play: |report| refused::play(report, &refused::NO_CGROUP2),
        ..PLAIN
    },
    Scene {
        name: "no-ipv6",
        what: "no IPv6",
        append: "ipv6.disable=1",
        play: |report| refused::play(report, &refused::NO_IPV6),
        ..PLAIN
    },
    Scene {
        name: "systemd",
        what: "the units, under a real systemd with cgroup v2 alone",
        init: "systemd",
        // Which would load a driver for every device that QEMU has.
        append: "systemd.mask=systemd-udev-trigger.service",
        show: Show::Systemd,
        play: systemd::play,
        ..PLAIN
    },
    // The host says when the power goes.
    Scene { name: power::SYNCED, show: Show::Power, play: |report| power::work(report, "synced"), ..PLAIN },
    Scene { name: power::WRITTEN, show: Show::Power, play: |report| power::work(report, "written"), ..PLAIN },
    Scene { name: power::CHECK, show: Show::Power, play: power::check, ..PLAIN },
];

pub(super) fn supported(version: (u32, u32)) -> bool {
    version >= OLDEST
}

impl Scene {
    /// The scenes of a show on this kernel.
    pub(super) fn of(show: Show, version: (u32, u32)) -> impl Iterator<Item = &'static Scene> {
        SCENES.iter().filter(move |scene| scene.show == show && (scene.on)(version))
    }

    pub(super) fn named(name: &str) -> Result<&'static Scene> {
        SCENES.iter().find(|scene| scene.name == name).with_context(|| format!("there is no scene `{name}`"))
    }
}

/// The guest's side of `cargo xtask vm`.
pub(crate) fn play(name: &str) -> Result<()> {
    let scene = Scene::named(name)?;
    let report = Report;
    if let Err(error) = (scene.play)(&report) {
        report.expect(false, &format!("the scene was played: {error:#}").replace('\n', " ⏎ "));
    }
    Ok(())
}

/// Tells the host.
pub(super) struct Report;

impl Report {
    fn say(&self, line: &str) {
        let mut out = std::io::stdout().lock();
        // Nobody is left to be told when the host does not listen.
        let _told = out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush());
    }

    fn expect(&self, holds: bool, what: &str) {
        self.say(&format!("{} {what}", if holds { "@holds" } else { "@fails" }));
    }

    /// The same, and what was said when it does not hold.
    fn expect_of(&self, holds: bool, what: &str, output: &Output) {
        self.expect(holds, what);
        if !holds {
            self.say(&output.to_string());
        }
    }
}

/// Version of the kernel that runs.
fn version() -> Result<(u32, u32)> {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => bail!("cannot tell the version of `{release}`"),
    }
}
