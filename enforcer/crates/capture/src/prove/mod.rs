//! `enforcer prove`: every way out is tried as an agent is, and each line that holds is tried alone.
//!
//! In production nobody stands outside and counts, so this brings its own outside: a namespace at the far end of a cable, and
//! witnesses that see every frame. The attempts are made five times. Without any guard, at a place that leads to the far end: that they arrive shows
//! that attempts and witness work on this very kernel. Then with the empty namespace alone, with the packet
//! filter alone, with the programs (and the filter of system calls) alone, each but the first with a way out that it has to keep shut. Last as
//! an agent, launched by the daemon like any other, under witnesses in its own namespace and in the host's.
//!
//! Runs as root in a process of its own, not in the daemon: what it reads from attempts is not for the keeper to read.

mod decoys;
mod trial;
mod witness;
mod yard;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use enforcer_probe::{Needs, Open, ROUTES, Route, Sign, Verdict};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::backstop::{Backstop, TABLE};
use crate::error::Doing;
use crate::netns::Netns;
use crate::session;
use crate::sys;

use decoys::Decoys;
use trial::Verdicts;
use witness::{CONTROL, Marks, Seen, Sees, Witness};

/// Who makes attempts where nothing guards: the user that stands for nobody.
const ORDINARY: u32 = 65_534;
/// NET_ADMIN, NET_RAW: what root's attempts on the network need, without root.
const CAPABLE: &[u32] = &[12, 13];
/// Needs more of root than that, and would leave the namespaces made for it.
const NEVER_UNGUARDED: &str = "setns-host";

/// What is needed to launch like everybody else.
#[derive(Clone, Debug)]
pub struct Request {
    pub agent: String,
    /// As `--config` would have it; `None`: the default.
    pub config: Option<PathBuf>,
    /// This program, where agents can execute it.
    pub executable: PathBuf,
    /// Full path of the managed root.
    pub managed_root: PathBuf,
    pub pins: PathBuf,
}

/// Which lines were in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Guard {
    /// None at all: shows that the attempt works.
    None,
    /// The empty network namespace.
    Namespace,
    /// The table in the namespace, with a way out.
    Nftables,
    /// The programs and the filter of system calls, with a way out.
    Programs,
    /// All of it, as an agent.
    Agent,
}

impl Guard {
    pub const ALL: [Guard; 5] =
        [Guard::None, Guard::Namespace, Guard::Nftables, Guard::Programs, Guard::Agent];
}

/// What became of one attempt under one guard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub fate: Fate,
    /// Packets that a witness saw.
    pub packets: u32,
    /// What the one who tried says.
    pub said: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    Out,
    Held,
    /// This kernel has no such thing.
    Absent,
    /// It did not come to an attempt, which proves nothing.
    Failed,
}

/// One way out, under each guard it was tried under.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    pub route: String,
    pub what: String,
    pub outcomes: BTreeMap<Guard, Outcome>,
    /// Why it was not tried as an agent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub skipped: Option<String>,
}

/// The whole table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    pub agent: String,
    pub kernel: String,
    /// Frames that a witness had no room for: with any, nothing is proved.
    pub lost: u32,
    /// Was the packet filter there to be tried alone?
    pub nftables: bool,
    pub routes: Vec<Tried>,
}

impl Proof {
    /// Ways by which something got out as an agent, or that could not be judged.
    pub fn leaks(&self) -> Vec<&Tried> {
        let bad = |tried: &&Tried| {
            tried
                .outcomes
                .get(&Guard::Agent)
                .is_some_and(|outcome| matches!(outcome.fate, Fate::Out | Fate::Failed))
        };
        self.routes.iter().filter(bad).collect()
    }

    /// Ways that did not get out without a guard either, as far as they were tried: on this kernel they show nothing.
    pub fn unproved(&self) -> Vec<&Tried> {
        let no_contrast = |tried: &&Tried| {
            tried.outcomes.get(&Guard::None).is_some_and(|outcome| outcome.fate != Fate::Out)
        };
        self.routes.iter().filter(no_contrast).collect()
    }

    /// Attempts got out where nothing guards, none did as an agent, all were judged, and no frame was overlooked.
    pub fn holds(&self) -> bool {
        let any = |guard, fate| {
            self.routes
                .iter()
                .any(|tried| tried.outcomes.get(&guard).is_some_and(|o: &Outcome| o.fate == fate))
        };
        self.lost == 0
            && any(Guard::None, Fate::Out)
            && any(Guard::Agent, Fate::Held)
            && self.leaks().is_empty()
    }
}

/// Tries everything. Takes half a minute.
pub fn prove(request: &Request) -> Result<Proof, Error> {
    let prover = Prover::new(request)?;
    let mut proof = Proof {
        agent: request.agent.clone(),
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        lost: 0,
        nftables: matches!(prover.backstop, Backstop::Nft(_)),
        routes: Vec::new(),
    };
    let mut outcomes: BTreeMap<&'static str, BTreeMap<Guard, Outcome>> = BTreeMap::new();
    for guard in Guard::ALL {
        if guard == Guard::Nftables && !proof.nftables {
            continue;
        }
        let trial = prover.under(guard)?;
        proof.lost += trial.seen.iter().map(|seen| seen.lost).sum::<u32>();
        for route in &trial.tried {
            outcomes.entry(route.name).or_default().insert(guard, trial.judge(route));
        }
    }
    proof.routes = ROUTES
        .iter()
        .map(|route| Tried {
            route: route.name.to_owned(),
            what: route.what.to_owned(),
            outcomes: outcomes.remove(route.name).unwrap_or_default(),
            skipped: skipped(route).map(str::to_owned),
        })
        .collect();
    Ok(proof)
}

/// What only the tests set up.
fn skipped(route: &Route) -> Option<&'static str> {
    match route.needs {
        Needs::Nothing | Needs::Victim => None,
        Needs::InheritedFd | Needs::InheritedStdin => Some("needs a careless caller"),
        Needs::OtherAgent => Some("needs another agent's server"),
        Needs::Outsider => Some("needs somebody outside who connects in"),
    }
}

/// The outcome of one guard.
struct Trial {
    tried: Vec<&'static Route>,
    verdicts: Verdicts,
    seen: Vec<Seen>,
}

impl Trial {
    fn judge(&self, route: &Route) -> Outcome {
        let packets = self.seen.iter().filter_map(|seen| seen.packets.get(route.name)).sum();
        let Some(verdict) = self.verdicts.get(route.name) else {
            let said = "the attempt was not made".to_owned();
            return Outcome { fate: Fate::Failed, packets, said };
        };
        let fate = match verdict {
            _ if packets > 0 => Fate::Out,
            Verdict::Absent(_) => Fate::Absent,
            // Of packets, those who saw them have the word; an answer that was heard counts besides.
            Verdict::Out(_) if route.sign == Sign::Here || verdict.text().contains("heard") => Fate::Out,
            Verdict::Out(_) | Verdict::Refused(_) | Verdict::Silent(_) => Fate::Held,
        };
        Outcome { fate, packets, said: verdict.text().to_owned() }
    }
}

struct Prover<'a> {
    request: &'a Request,
    backstop: Backstop,
    /// A place without a guard, and the far end of its cable.
    yard: Netns,
    beyond: Netns,
    decoys: Decoys,
    /// What marks each attempt's packets.
    nonce: String,
    marks: Arc<Marks>,
}

impl<'a> Prover<'a> {
    fn new(request: &'a Request) -> Result<Self, Error> {
        let mut random = [0u8; 8];
        session::random(&mut random).doing(|| "get random bytes from the kernel".into())?;
        let nonce: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let yard = yard::empty().doing(|| "make a network namespace".into())?;
        let beyond = yard::lay_cable(&yard).doing(|| "lay a cable between two namespaces".into())?;
        let number = |name| number_of(name);
        let decoys = Decoys::new(
            &yard,
            yard::target4(number("scm-rights")),
            yard::target4(number("pidfd-getfd")),
            ORDINARY,
        )
        .doing(|| "set up what the attempts aim at".into())?;
        let mut marks: Marks = ROUTES.iter().map(|route| (route.name, marks_of(route, &nonce))).collect();
        marks.insert(CONTROL, vec![format!("{nonce}-control").into_bytes()]);
        let marks = Arc::new(marks);
        Ok(Prover { request, backstop: Backstop::find(), yard, beyond, decoys, nonce, marks })
    }

    fn under(&self, guard: Guard) -> Result<Trial, Error> {
        match guard {
            Guard::None => self.unguarded(),
            Guard::Namespace => {
                let empty = yard::empty().doing(|| "make a network namespace".into())?;
                self.on_the_network(&empty, &empty)
            }
            Guard::Nftables => {
                let near = yard::empty().doing(|| "make a network namespace".into())?;
                let far = yard::lay_cable(&near).doing(|| "lay a cable between two namespaces".into())?;
                self.backstop.load(&near)?;
                self.on_the_network(&near, &far)
            }
            Guard::Programs => self.launched(true),
            Guard::Agent => self.launched(false),
        }
    }

    /// Attempts on the network where only the cable leads out; those on the host, on the host.
    fn unguarded(&self) -> Result<Trial, Error> {
        let mut trial = self.on_the_network(&self.yard, &self.beyond)?;
        let here: Vec<&'static Route> = ROUTES
            .iter()
            .filter(|route| route.sign == Sign::Here && route.open == Open::Leaks && skipped(route).is_none())
            .collect();
        let verdicts = trial::run(self.ordinary(None, &[])?, &self.lines(&here), |_| Ok(()))?;
        trial.verdicts.extend(verdicts);
        trial.tried.extend(here);
        Ok(trial)
    }

    /// As an ordinary user, and what the kernel leaves to the capable as one of those. The witness is at `far`.
    fn on_the_network(&self, near: &Netns, far: &Netns) -> Result<Trial, Error> {
        let on_network = |route: &&Route| {
            route.sign == Sign::Packet && skipped(route).is_none() && route.name != NEVER_UNGUARDED
        };
        let (anybody, capable): (Vec<&'static Route>, Vec<_>) =
            ROUTES.iter().filter(on_network).partition(|route| route.open != Open::LeaksAsRoot);
        // In an empty namespace there is no far end: what is for loopback has not departed.
        let mut witnesses = vec![self.witness(Some(far), Sees::Departing)?];
        if !std::ptr::eq(far, &raw const self.beyond) {
            // Where sockets that are handed over lead.
            witnesses.push(self.witness(Some(&self.beyond), Sees::All)?);
        }
        let mut verdicts = Verdicts::new();
        for (routes, capabilities) in [(&anybody, &[][..]), (&capable, CAPABLE)] {
            let command = self.ordinary(Some(near), capabilities)?;
            verdicts.extend(trial::run(command, &self.lines(routes), |_| Ok(()))?);
        }
        let tried = anybody.into_iter().chain(capable).collect();
        Ok(Trial { tried, verdicts, seen: heard(witnesses)? })
    }

    /// A sibling of the agent's: the same cgroup above it, the same user, a session of its own. `alone`: with a way out of its
    /// namespace and without the packet filter, so that the programs are all there is.
    fn launched(&self, alone: bool) -> Result<Trial, Error> {
        let tried: Vec<&'static Route> = ROUTES
            .iter()
            .filter(|route| skipped(route).is_none() && (!alone || route.sign == Sign::Packet))
            .collect();
        let mut command = Command::new("/proc/self/exe");
        if let Some(config) = &self.request.config {
            command.arg("--config").arg(config);
        }
        command.args(["run", "--clean-env", &self.request.agent, "--"]);
        command.arg(&self.request.executable).arg("attempt");
        command.current_dir("/");
        let mut witnesses = Vec::new();
        let verdicts = trial::run(command, &self.lines(&tried), |pid| {
            let netns = self.netns_of(pid)?;
            if alone {
                self.backstop.unload(TABLE, &netns)?;
                let far = yard::lay_cable(&netns).doing(|| "lay a cable into the namespace".into())?;
                witnesses.push(self.witness(Some(&far), Sees::All)?);
            } else {
                witnesses.push(self.witness(Some(&netns), Sees::Departing)?);
                witnesses.push(self.witness(None, Sees::Targets)?);
                witnesses.push(self.witness(Some(&self.beyond), Sees::All)?);
            }
            Ok(())
        })?;
        Ok(Trial { tried, verdicts, seen: heard(witnesses)? })
    }

    fn witness(&self, netns: Option<&Netns>, sees: Sees) -> Result<Witness, Error> {
        let control = format!("{}-control", self.nonce);
        Witness::start(netns, sees, Arc::clone(&self.marks))
            .and_then(|witness| witness.check(netns, control.as_bytes()).map(|()| witness))
            .doing(|| "place a witness".into())
    }

    /// The namespace of a process that is an agent's, and no other's.
    fn netns_of(&self, pid: u32) -> Result<Netns, Error> {
        let doing = || format!("look at process {pid}");
        let netns = Netns::of_process(pid).doing(doing)?;
        let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).doing(doing)?;
        let root = self.request.managed_root.file_name().unwrap_or_default().to_string_lossy();
        let own = format!("/{root}/{}-", self.request.agent);
        if !cgroup.lines().any(|line| line.starts_with("0::") && line.contains(&own)) {
            return Err(Error::refused(
                format!("process {pid} is not in a session of `{}`", self.request.agent),
                "nothing was proved; try again",
            ));
        }
        Ok(netns)
    }

    fn ordinary(&self, netns: Option<&Netns>, capabilities: &'static [u32]) -> Result<Command, Error> {
        let mut command = Command::new("/proc/self/exe");
        command.arg("attempt").env_clear().current_dir("/");
        let netns =
            netns.map(|netns| netns.file.try_clone()).transpose().doing(|| "copy a descriptor".into())?;
        sys::become_ordinary(&mut command, netns.map(OwnedFd::from), ORDINARY, capabilities, None);
        Ok(command)
    }

    /// What to try, one line each.
    fn lines(&self, routes: &[&'static Route]) -> Vec<String> {
        let mount = self.request.managed_root.parent().unwrap_or(Path::new("/"));
        let pins = pins_below(&self.request.pins).join(",");
        let decoys = &self.decoys;
        let line = |route: &&'static Route| {
            let n = number_of(route.name);
            let [high, low] = n.to_be_bytes();
            format!(
                "{} v4={} v6={} ll6=fe80::18:{n:x} group4=239.18.{high}.{low} group6=ff15::18:{n:x} mark={}-{n:03} \
                 host=127.0.0.1 loopback={} name=localhost netns=/proc/1/ns/net cgroup={} pins={pins} \
                 deputies={} victim={}\n",
                route.name,
                yard::target4(n),
                yard::target6(n),
                self.nonce,
                decoys.port,
                mount.display(),
                decoys.dir.display(),
                decoys.victim(),
            )
        };
        routes.iter().map(line).collect()
    }
}

fn heard(witnesses: Vec<Witness>) -> Result<Vec<Seen>, Error> {
    let seen: std::io::Result<Vec<Seen>> = witnesses.into_iter().map(Witness::finish).collect();
    seen.doing(|| "hear the witnesses".into())
}

/// Its place in the table, from 1: 198.18.0.0 is the witnesses'.
fn number_of(name: &str) -> u16 {
    ROUTES.iter().position(|route| route.name == name).map_or(0, |at| at as u16 + 1)
}

fn marks_of(route: &Route, nonce: &str) -> Vec<Vec<u8>> {
    let n = number_of(route.name);
    let [high, low] = n.to_be_bytes();
    let mut marks = vec![
        yard::target4(n).octets().to_vec(),
        yard::target6(n).octets().to_vec(),
        vec![239, 18, high, low],
        std::net::Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0x18, n).octets().to_vec(),
        std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0x18, n).octets().to_vec(),
        format!("{nonce}-{n:03}").into_bytes(),
    ];
    match route.name {
        "metadata" => marks.push(vec![169, 254, 169, 254]),
        "metadata6" => marks.push(vec![0xfd, 0, 0x0e, 0xc2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0x54]),
        "metadata-azure" => marks.push(vec![168, 63, 129, 16]),
        "dns-tunnel" => marks.push(b"c2VjcmV0".to_vec()),
        _ => {}
    }
    marks
}

fn pins_below(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(pins_below(&entry.path()));
        } else {
            found.push(entry.path().display().to_string());
        }
    }
    found
}
