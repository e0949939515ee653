//! The worker: builds every part once, in order, and answers the keeper. The only module that knows all parts.
//!
//! Runs as its own user without capabilities; what needs root arrives as descriptors.

mod keeper;
mod keys;
mod refusals;
mod sessions;

use std::collections::HashMap;
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use enforcer_capture::cgroup;
use enforcer_capture::confine::{self, Confinement};
use enforcer_capture::events::Events;
use enforcer_capture::message::{Backstop, Channel, Received, ToKeeper, ToWorker};
use enforcer_capture::records::Records;
use enforcer_vault::VaultKey;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use crate::agent::Agents;
use crate::audit::clock::boot_id;
use crate::audit::{AuditLog, Options};
use crate::config::{Config, host};
use crate::control::{self, ControlState, Switchboard};
use crate::credential::Placeholders;
use crate::dns::Resolver;
use crate::gate::lifeline::Lifelines;
use crate::gate::limit::Limits;
use crate::gate::{self, Gate};
use crate::policies::Policies;
use crate::protocol::PROTOCOLS;
use crate::proxy::{Caps, Shared, Upstreams};
use crate::secret::Secrets;
use crate::shutdown::{DRAIN, Shutdown};
use crate::switches::Switches;
use crate::tls::{ClientTls, Distrust, Servers};
use keeper::{Given, Keeper};
use keys::OwnKeys;
use sessions::Sessions;

/// Messages of the keeper that wait for the worker; launches come one by one.
const QUEUE: usize = 64;

/// What the keeper hands over with `ToWorker::Start`.
struct Start {
    config: Config,
    backstop: Backstop,
    vault_key: OwnedFd,
    control: UnixListener,
    records: OwnedFd,
    events: OwnedFd,
}

/// The whole life of the worker process. `channel` is its line to the keeper.
pub fn worker(channel: Channel) -> anyhow::Result<()> {
    // No core, no ptrace by the same user, no /proc/PID/mem: secrets pass through this process.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .context("cannot make the worker undumpable")?;
    if let Err(error) = raise_descriptors() {
        warn!(%error, "few descriptors: many connections of one agent may leave others without");
    }
    let start = start(&channel)?;
    let files = host_files(&start.config)?;
    // Reads the quota of the cgroup, which is out of reach from the next line on.
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let confinement = confined(&start.config)?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(run(Arc::new(channel), start, files, confinement))
}

/// What is read of the host's files, once, before the worker is confined.
struct HostFiles {
    resolver: Resolver,
    roots: ClientTls,
}

fn host_files(config: &Config) -> anyhow::Result<HostFiles> {
    Ok(HostFiles { resolver: resolver(config)?, roots: ClientTls::load(&config.upstream_roots)? })
}

/// Before the first byte of an agent or an upstream: policies to read, the worker's own files to write, no more.
fn confined(config: &Config) -> anyhow::Result<Confinement> {
    confine::confine(&[&config.policy_dir], &[&config.worker_dir()]).map_err(|error| {
        let hint = error.hint().unwrap_or_default();
        anyhow!(error).context(format!("the worker does not start unconfined; {hint}"))
    })
}

/// One agent at its cap needs two descriptors for each of 512 connections, which is all that a shell
/// grants by default: every other agent, the vault and the receipts would be left without.
fn raise_descriptors() -> rustix::io::Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
}

fn start(channel: &Channel) -> anyhow::Result<Start> {
    let Received { message, descriptors } =
        channel.receive::<ToWorker>()?.context("the keeper closed the channel before it said a word")?;
    let ToWorker::Start { config, backstop } = message else {
        bail!("the keeper's first message is not `Start`");
    };
    let [vault_key, control, records, events] = <[OwnedFd; 4]>::try_from(descriptors)
        .map_err(|got| anyhow!("`Start` came with {} descriptors instead of 4", got.len()))?;
    let config = Config::parse("enforcer.yaml", &config)?;
    Ok(Start { config, backstop, vault_key, control: control.into(), records, events })
}

async fn run(
    channel: Arc<Channel>,
    start: Start,
    files: HostFiles,
    confinement: Confinement,
) -> anyhow::Result<()> {
    let Start { config, backstop, vault_key, control, records, events } = start;
    let shutdown = Shutdown::new();

    let directory = config.worker_dir();
    let key = VaultKey::read(std::fs::File::from(vault_key)).context("cannot read the vault key")?;
    let secrets = Secrets::open(&directory.join("vault.db"), key).context("cannot open the vault")?;
    let own = OwnKeys::open(&secrets).await?;
    let audit = AuditLog::open(&directory, Options { key: Some(&own.receipts), ..Options::default() })?;
    let policies = Policies::open(&config.policy_dir);
    let resolver = Arc::new(files.resolver);
    let agents = Arc::new(Agents::default());
    let switches = Arc::new(Switches::open(&directory)?);
    let lifelines = Arc::new(Lifelines::default());
    let limits = Arc::new(Limits::open(&directory, boot_id().as_deref())?);
    let (tripping, tripped) = mpsc::channel(gate::WAITING);
    let ca_pem: Arc<str> = own.authority.root_pem().into();
    let keeper = Arc::new(Keeper::new(Arc::clone(&channel)));
    let distrust = Arc::new(Distrust::new(Arc::clone(&keeper) as Arc<_>));
    let shared = Arc::new(Shared {
        gate: Gate::new(
            policies.watch(),
            Arc::clone(&switches),
            Arc::clone(&lifelines),
            limits,
            audit.clone(),
        )
        .reporting_to(tripping),
        servers: Servers::new(Arc::clone(&own.authority), keys::open_root(secrets.clone()))?,
        distrust: Arc::clone(&distrust),
        secrets: secrets.clone(),
        placeholders: Placeholders::new(&own.placeholders),
        upstreams: Upstreams::new(Arc::clone(&resolver), files.roots, Arc::clone(&lifelines)),
        origins: Box::new(Records::new(records).context("cannot use the connect records")?),
        protocols: PROTOCOLS,
        shutdown: shutdown.token(),
        caps: Caps::default(),
    });

    let sweeping = Arc::clone(&shared);
    let token = shutdown.token();
    shutdown.spawn(async move {
        tokio::select! {
            () = sweeping.upstreams.keep_swept() => {}
            () = token.cancelled() => {}
        }
    });
    let judging = Arc::clone(&shared);
    let token = shutdown.token();
    shutdown.spawn(async move {
        tokio::select! {
            () = judging.gate.follow_policies() => {}
            () = token.cancelled() => {}
        }
    });
    refusals::spawn(
        Events::new(events).context("cannot read the kernel's refusals")?,
        Arc::clone(&agents),
        audit.clone(),
        &shutdown,
    );
    let managed_root =
        cgroup::managed_root(&config.managed_root).context("cannot tell agents from other callers")?;
    let switchboard = Arc::new(Switchboard::new(
        Arc::clone(&switches),
        lifelines,
        Arc::clone(&keeper) as Arc<_>,
        audit.clone(),
    ));
    let following = Arc::clone(&switchboard);
    let token = shutdown.token();
    shutdown.spawn(async move {
        tokio::select! {
            () = following.follow(tripped) => {}
            () = token.cancelled() => {}
        }
    });
    let state = ControlState {
        policies: policies.clone(),
        agents: Arc::clone(&agents),
        switchboard,
        secrets,
        audit: audit.clone(),
        ca_pem: Arc::clone(&ca_pem),
        confinement: confinement.to_string().into(),
        backstop,
        proofs: Arc::default(),
        distrust,
        started: Instant::now(),
    };
    let serving = control::serve(control, managed_root, state, shutdown.token());
    shutdown.spawn(async move {
        if let Err(error) = serving.await {
            error!(%error, "the control socket failed");
        }
    });

    let sessions = Sessions {
        agents,
        policies,
        switches,
        resolver,
        audit: audit.clone(),
        shared,
        sockets: Arc::clone(&keeper) as Arc<_>,
        ca_pem,
        shutdown: shutdown.clone(),
        running: HashMap::new(),
    };
    channel.send(&ToKeeper::Ready, &[]).context("cannot tell the keeper that the worker serves")?;
    let patience = answer(&channel, &keeper, sessions).await;

    let cut = shutdown.drain(patience).await;
    if cut > 0 {
        warn!(cut, "work under way was cut at the deadline");
    }
    audit.close();
    Ok(())
}

/// Answers the keeper until it says `Drain` or is gone; how long what runs may still take.
async fn answer(channel: &Arc<Channel>, keeper: &Keeper, mut sessions: Sessions) -> Duration {
    let (sender, mut messages) = mpsc::channel(QUEUE);
    let reading = Arc::clone(channel);
    // A thread of its own: the channel blocks, and it ends with the process.
    std::thread::spawn(move || {
        while let Ok(Some(received)) = reading.receive::<ToWorker>() {
            if sender.blocking_send(received).is_err() {
                return;
            }
        }
    });
    while let Some(Received { message, descriptors }) = messages.recv().await {
        let reply = match message {
            ToWorker::Drain { patience } => {
                info!("draining");
                return patience;
            }
            ToWorker::Start { .. } => {
                error!("the keeper said `Start` twice");
                return DRAIN;
            }
            ToWorker::Prepare { seq, agent, workload } => sessions.prepare(seq, agent.as_deref(), workload),
            ToWorker::Govern { seq, session } => sessions.govern(seq, session, descriptors),
            ToWorker::Serve { seq, session, netns_cookie } => {
                sessions.serve_in(seq, &session, netns_cookie, descriptors)
            }
            ToWorker::Left { session, netns_cookie } => {
                sessions.left(&session, netns_cookie);
                continue;
            }
            ToWorker::Standing { session, attached } => {
                sessions.agents.stands(&session, attached);
                continue;
            }
            ToWorker::Switched { seq, error } => {
                keeper.answered(seq, error.map_or(Ok(Given::Descriptors(Vec::new())), Err));
                continue;
            }
            ToWorker::Socket { seq, error } => {
                keeper.answered(seq, error.map_or(Ok(Given::Descriptors(descriptors)), Err));
                continue;
            }
            ToWorker::Looked { seq, process } => {
                keeper.answered(seq, process.map(Given::Process));
                continue;
            }
            ToWorker::Ended { session } => {
                sessions.ended(&session);
                continue;
            }
            ToWorker::Reload { seq } => sessions.reload(seq),
        };
        if let Err(error) = channel.send(&reply, &[]) {
            error!(%error, "the keeper does not listen any more");
            return DRAIN;
        }
    }
    error!("the keeper is gone; the worker ends");
    DRAIN
}

/// The host's resolver settings, read once: a resolver that an agent could steer is none.
fn resolver(config: &Config) -> anyhow::Result<Resolver> {
    let settings = &config.resolver;
    let servers = if settings.servers.is_empty() {
        host::name_servers(&host::read("/etc/resolv.conf".as_ref()).context("cannot read /etc/resolv.conf")?)
    } else {
        settings.servers.clone()
    };
    let names = host::read(&settings.hosts_file)
        .map(|text| host::host_names(&text))
        .with_context(|| format!("cannot read the hosts file {}", settings.hosts_file.display()))?;
    Ok(Resolver::new(servers, names, settings.timeout()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worker_takes_all_descriptors_it_may_have() {
        let maximum = getrlimit(Resource::Nofile).maximum;
        setrlimit(Resource::Nofile, Rlimit { current: Some(256), maximum }).unwrap();
        raise_descriptors().unwrap();
        assert_eq!(getrlimit(Resource::Nofile).current, maximum);
    }
}
