//! What is done to the link and to the daemon, one thing at a time. What the upstream does by itself is in `traffic`.

use std::fmt;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::history;
use crate::world::command::{self, patient};
use crate::world::net::{HOST_LINK, OUTSIDE_LINK};
use crate::world::{Daemon, World, plan};

/// Name of the table that loses packets.
const TABLE: &str = "soak";
/// Slow enough that large bodies wait for it.
const SLOW: [&str; 7] = ["tbf", "rate", "16mbit", "burst", "64kb", "latency", "200ms"];
const LIMIT: Duration = Duration::from_secs(60);
/// A machine that compiles beside it makes every answer wait; how long it took is printed.
const SERVED: Duration = Duration::from_secs(180);
/// As long as a log of a whole run takes to read on a busy machine.
const VERIFYING: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Two packets of TCP in a hundred are lost, in each direction.
    Lossy,
    /// 16 Mbit/s in each direction.
    Slow,
    /// Both at once.
    LossyAndSlow,
    /// The link is as it was.
    Clear,
    Reload,
    Rotate,
    /// SIGTERM, and a start.
    Restart,
    /// SIGUSR2.
    Upgrade,
    KillWorker,
    KillKeeper,
    KillBoth,
}

impl Fault {
    /// In the first part of a run, round and round.
    pub const ROUGH: &[Fault] = &[
        Fault::Lossy,
        Fault::Reload,
        Fault::Restart,
        Fault::KillWorker,
        Fault::Rotate,
        Fault::Slow,
        Fault::KillKeeper,
        Fault::Reload,
        Fault::Clear,
        Fault::Upgrade,
        Fault::KillBoth,
        Fault::LossyAndSlow,
        Fault::Rotate,
        Fault::Restart,
        Fault::Clear,
        Fault::KillWorker,
    ];
    /// In the second, where the daemon's processes stay the same.
    pub const QUIET: &[Fault] = &[
        Fault::Lossy,
        Fault::Reload,
        Fault::Slow,
        Fault::Rotate,
        Fault::LossyAndSlow,
        Fault::Reload,
        Fault::Clear,
        Fault::Rotate,
    ];

    pub fn kills(self) -> bool {
        matches!(self, Fault::KillWorker | Fault::KillKeeper | Fault::KillBoth)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Lossy => "2 % of packets lost",
            Fault::Slow => "16 Mbit/s",
            Fault::LossyAndSlow => "16 Mbit/s and 2 % lost",
            Fault::Clear => "a good link",
            Fault::Reload => "reload",
            Fault::Rotate => "another secret",
            Fault::Restart => "restart",
            Fault::Upgrade => "upgrade",
            Fault::KillWorker => "worker killed",
            Fault::KillKeeper => "keeper killed",
            Fault::KillBoth => "both killed",
        })
    }
}

/// What faults are thrown at.
#[derive(Debug)]
pub struct Target<'d, 'w> {
    pub daemon: &'d mut Daemon<'w>,
    /// Each agent's two policies, between which a reload changes.
    pub policies: Vec<(String, [String; 2])>,
    pub secret: Secret,
    reloads: usize,
}

/// The secret that the upstream wants, which has a number.
#[derive(Debug)]
pub struct Secret {
    pub name: &'static str,
    /// Where the upstream reads what it accepts.
    pub accepted: PathBuf,
    pub number: u64,
    /// When each had been replaced by the next.
    pub replaced: std::collections::BTreeMap<u64, i64>,
}

impl<'d, 'w> Target<'d, 'w> {
    pub fn new(
        daemon: &'d mut Daemon<'w>,
        policies: Vec<(String, [String; 2])>,
        name: &'static str,
        accepted: PathBuf,
    ) -> Result<Self> {
        let secret = Secret { name, accepted, number: 0, replaced: Default::default() };
        let mut target = Target { daemon, policies, secret, reloads: 0 };
        target.rotate()?;
        Ok(target)
    }

    pub fn throw(&mut self, fault: Fault) -> Result<()> {
        let world = self.daemon.world;
        match fault {
            Fault::Lossy => link(world, true, false),
            Fault::Slow => link(world, false, true),
            Fault::LossyAndSlow => link(world, true, true),
            Fault::Clear => link(world, false, false),
            Fault::Reload => self.reload(),
            Fault::Rotate => self.rotate(),
            Fault::Restart => self.daemon.restart(),
            Fault::Upgrade => self.daemon.upgrade(),
            Fault::KillWorker => {
                self.daemon.kill9_worker()?;
                self.another_worker()
            }
            Fault::KillKeeper => {
                self.daemon.kill9_keeper()?;
                self.daemon.start()
            }
            Fault::KillBoth => {
                self.daemon.kill9()?;
                self.daemon.start()
            }
        }
    }

    /// Whether the receipts are whole: what the command says.
    pub fn verify(&self) -> Result<String> {
        let output = command::run(self.daemon.tool(&["receipts", "verify"]), VERIFYING)?;
        ensure!(output.ok(), "the receipts are not whole\n{output}");
        Ok(output.stdout)
    }

    fn another_worker(&self) -> Result<()> {
        let deadline = Instant::now() + patient(LIMIT);
        while !self.daemon.cli(&["status"])?.ok() {
            ensure!(Instant::now() < deadline, "no other worker in {LIMIT:?}\n{}", self.daemon.log_text());
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn reload(&mut self) -> Result<()> {
        self.reloads += 1;
        for (agent, policies) in &self.policies {
            self.daemon.write_policy(agent, &policies[self.reloads % 2])?;
        }
        self.daemon.cli_ok(&["reload"]).map(drop)
    }

    fn rotate(&mut self) -> Result<()> {
        let Secret { name, accepted, number, replaced } = &mut self.secret;
        let value = random()?;
        let next = *number + 1;
        let mut file = fs::File::options().create(true).append(true).open(&*accepted)?;
        file.write_all(format!("{next} {value}\n").as_bytes())?;
        self.daemon.secret_set(name, plan::SHOP, &value)?;
        replaced.insert(*number, history::now());
        *number = next;
        Ok(())
    }
}

fn random() -> Result<String> {
    let mut bytes = [0; 20];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Netem would do both; not every kernel has it.
fn link(world: &World, lossy: bool, slow: bool) -> Result<()> {
    for (device, host) in [(HOST_LINK, true), (OUTSIDE_LINK, false)] {
        let there = |words: &[&str]| if host { world.on_host(words) } else { world.outside(words) };
        let mut rules = format!("table inet {TABLE} {{}}\ndelete table inet {TABLE}\n");
        if lossy {
            // Where it arrives: what is dropped where it leaves, the sender would be told.
            rules += &format!(
                "table inet {TABLE} {{\n chain lose {{\n  type filter hook prerouting priority -300\n  \
                 iifname \"{device}\" meta l4proto tcp numgen random mod 100 < 2 drop\n }}\n}}\n"
            );
        }
        let loaded = command::run_with_input(there(&["nft", "-f", "-"]), Some(rules.as_bytes()), LIMIT)?;
        ensure!(loaded.ok(), "the link cannot be made to lose packets\n{loaded}");
        let words: Vec<&str> = match slow {
            true => ["replace", "dev", device, "root"].into_iter().chain(SLOW).collect(),
            // There may be none.
            false => vec!["del", "dev", device, "root"],
        };
        let set = command::run(there(&[vec!["tc", "qdisc"], words].concat()), LIMIT)?;
        ensure!(set.ok() || !slow, "the link cannot be made slow\n{set}");
    }
    Ok(())
}

/// How long until an agent whose history this is has a good answer more.
pub fn served_again(history: &std::path::Path, from: u64) -> Result<Duration> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let begun = Instant::now();
    loop {
        let mut news = Vec::new();
        let mut file = fs::File::open(history).with_context(|| format!("open {}", history.display()))?;
        file.seek(SeekFrom::Start(from))?;
        file.read_to_end(&mut news)?;
        // One of the injector's own has a sixth word, its code.
        let good = |line: &str| line.contains(" answered 200 ") && line.split(' ').count() == 5;
        if String::from_utf8_lossy(&news).lines().any(good) {
            return Ok(begun.elapsed());
        }
        ensure!(begun.elapsed() < patient(SERVED), "no good answer for {SERVED:?} in {}", history.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}
