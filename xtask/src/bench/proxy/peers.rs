//! Who is measured: how each is started, reached and counted.

use std::cell::RefCell;
use std::path::PathBuf;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use enforcer_tests::world::{Daemon, World, plan};
use serde_json::{Value, json};

use super::group::Group;
use super::rows::{Row, Who};
use super::server::Server;
use super::upstream::UPSTREAM;
use super::{configs, forward, ours, pin};

/// A way of being there, and of being asked.
enum Kind<'a> {
    /// Nobody: what generator and upstream can do at all.
    Direct,
    /// A server before the upstream, at a port of the host's.
    Server { port: u16, command: Configure, server: RefCell<Option<Server>> },
    /// The generator is an agent.
    Ours { daemon: Rc<RefCell<Daemon<'a>>>, agent: &'static str },
}

/// Something that answers for the upstream.
pub(super) struct Peer<'a> {
    pub(super) name: &'static str,
    world: &'a World,
    kind: Kind<'a>,
    group: Option<Group>,
    h2: bool,
    /// Certificates for any name.
    names: bool,
    /// What a forward proxy is asked for.
    connect: Option<String>,
}

/// What is known of a peer that is a server.
pub(super) struct Known {
    pub(super) name: &'static str,
    port: u16,
    command: Configure,
    h2: bool,
    names: bool,
    /// How a forward proxy is asked; it asks no name server.
    connect: Option<By>,
}

#[derive(Clone, Copy)]
enum By {
    Name,
    Address,
}

pub(super) const DIRECT: &str = "direct";

pub(super) const SERVERS: &[Known] = &[
    reverse("nginx", 9441, configs::nginx, false),
    reverse("haproxy", 9442, configs::haproxy, false),
    reverse("mini", 9444, configs::mini, true),
    forward("hudsucker", 9445, forward::hudsucker, true, By::Name),
    forward("squid", 9446, forward::squid, false, By::Name),
    // A new connection takes it so long that a thousand names would be most of the run.
    Known { names: false, ..forward("mitmproxy", 9447, forward::mitmproxy, true, By::Address) },
];

type Configure = fn(&World) -> Result<Command>;

const fn reverse(name: &'static str, port: u16, command: Configure, names: bool) -> Known {
    Known { name, port, command, h2: true, names, connect: None }
}

const fn forward(name: &'static str, port: u16, command: Configure, h2: bool, by: By) -> Known {
    Known { name, port, command, h2, names: true, connect: Some(by) }
}

/// Where a configuration of a server finds its port.
pub(super) fn port(name: &str) -> u16 {
    SERVERS.iter().find(|known| known.name == name).map_or(0, |known| known.port)
}

/// Those that are wanted, started, in the order in which they take turns.
pub(super) fn all<'a>(
    world: &'a World,
    daemon: &Rc<RefCell<Daemon<'a>>>,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<Peer<'a>>> {
    let direct =
        Peer { name: DIRECT, world, kind: Kind::Direct, group: None, h2: true, names: true, connect: None };
    let mut peers = vec![direct];
    for known in SERVERS {
        let group = Group::new(world, known.name)?;
        let connect = known.connect.map(|by| match by {
            By::Name => format!("{{name}}:{UPSTREAM}"),
            By::Address => format!("{}:{UPSTREAM}", plan::SERVER_V4),
        });
        let kind = Kind::Server { port: known.port, command: known.command, server: RefCell::new(None) };
        peers.push(Peer {
            name: known.name,
            world,
            kind,
            group: Some(group),
            h2: known.h2,
            names: known.names,
            connect,
        });
    }
    for (name, agent) in ours::AGENTS {
        let group = Some(Group::new(world, "enforcer")?);
        let kind = Kind::Ours { daemon: daemon.clone(), agent };
        peers.push(Peer { name, world, kind, group, h2: true, names: true, connect: None });
    }
    peers.retain(|peer| wanted(peer.name));
    peers.iter().try_for_each(Peer::start)?;
    Ok(peers)
}

impl Peer<'_> {
    pub(super) fn plays(&self, row: &Row) -> bool {
        match row.who {
            Who::Policies => true,
            _ if self.name != ours::NAME && self.is_ours() => false,
            Who::All => true,
            Who::H2 => self.h2,
            Who::Names => self.names,
            Who::Ours => self.name == ours::NAME || self.name == DIRECT,
        }
    }

    fn is_ours(&self) -> bool {
        matches!(self.kind, Kind::Ours { .. })
    }

    /// What the generator is told of where the peer is.
    pub(super) fn route(&self) -> Value {
        let address = match &self.kind {
            Kind::Server { port, .. } => format!("{}:{port}", plan::HOST_V4),
            Kind::Direct | Kind::Ours { .. } => format!("{}:{UPSTREAM}", plan::SERVER_V4),
        };
        json!({ "address": address, "connect": self.connect, "name": plan::API, "port": UPSTREAM })
    }

    /// The generator, where it would run for this peer, always on the first processor. Another `client` is another agent.
    pub(super) fn command(&self, client: usize) -> Command {
        let generator = self.world.bin("load").display().to_string();
        let line = ["taskset", "-c", "0", &generator];
        match &self.kind {
            Kind::Ours { daemon, agent } => {
                let agent = if client == 0 { agent } else { ours::ANOTHER };
                daemon.borrow().agent_command(agent, &line)
            }
            Kind::Direct | Kind::Server { .. } => self.world.on_host(&line),
        }
    }

    /// Starts it where it does not run, and waits until it can be asked.
    pub(super) fn start(&self) -> Result<()> {
        self.launch()?;
        if let Kind::Server { port, server, .. } = &self.kind
            && let Some(server) = server.borrow_mut().as_mut()
        {
            let port = port.to_string();
            server.wait(|| self.world.on_host(&["ss", "-Hltn", "sport", "=", &port]))?;
        }
        Ok(())
    }

    /// Starts it where it does not run, on the second processor, which it takes for the only one.
    pub(super) fn launch(&self) -> Result<()> {
        let _back = pin::to_second()?;
        match (&self.kind, &self.group) {
            (Kind::Server { command, server, .. }, Some(group)) if server.borrow().is_none() => {
                let out = self.files().join(format!("{}.out", self.name));
                *server.borrow_mut() = Some(Server::start(group.wrap(&command(self.world)?), &out)?);
            }
            (Kind::Ours { daemon, .. }, Some(group)) if daemon.borrow().pid().is_none() => {
                daemon.borrow_mut().start()?;
                group.take(&daemon.borrow().ours(&["daemon", "worker"]))?;
            }
            (Kind::Direct | Kind::Server { .. } | Kind::Ours { .. }, _) => (),
        }
        Ok(())
    }

    pub(super) fn stop(&self) -> Result<()> {
        match &self.kind {
            Kind::Server { server, .. } => drop(server.borrow_mut().take()),
            Kind::Ours { daemon, .. } if daemon.borrow().pid().is_some() => drop(daemon.borrow_mut().stop()?),
            Kind::Ours { .. } | Kind::Direct => (),
        }
        Ok(())
    }

    fn files(&self) -> PathBuf {
        self.world.dir.join("bench")
    }

    pub(super) fn spent(&self) -> Result<Duration> {
        self.group.as_ref().map_or(Ok(Duration::ZERO), Group::spent)
    }

    /// In KiB.
    pub(super) fn resident(&self) -> Result<Option<f64>> {
        self.group.as_ref().map(Group::resident).transpose()
    }

    pub(super) fn settle(&self) -> Result<()> {
        let look = if self.is_ours() { ours::LOOK } else { LOOK };
        self.group.as_ref().map_or(Ok(()), |group| group.settle(look))
    }
}

/// Nobody else has a thread that waits before it tidies up.
const LOOK: Duration = Duration::from_millis(30);
