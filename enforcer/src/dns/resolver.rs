//! A name's addresses: hosts file, cache, then the configured servers.
//!
//! Single flight: any number of callers waiting for one name cost one question. Bounded in entries,
//! in lookups at a time and in time. It does not judge addresses: see `special`.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use enforcer_policy::Host;
use hickory_proto::rr::{Name, RecordType};
use quick_cache::sync::Cache;
use tokio::sync::{OnceCell, Semaphore};

use super::exchange::{Said, ask};

/// Names remembered, found or not.
const CACHE_ENTRIES: usize = 4096;
/// Addresses remembered of names. Agents can only have names looked up that their policies name.
const PAST: usize = 16 * 1024;
/// A name that was not found is asked for again after this long.
const NEGATIVE: Duration = Duration::from_secs(5);
/// A TTL of 0 would make each of a burst of requests ask again; one second is what stub resolvers use.
const MIN_TTL: Duration = Duration::from_secs(1);
/// A TTL above this only delays a move of the upstream.
const MAX_TTL: Duration = Duration::from_secs(3600);
/// Addresses kept of one name. Dialling more than this many is hopeless.
const MAX_ADDRESSES: usize = 16;
/// Lookups under way at a time, for all agents together; a lookup holds at most two sockets.
const MAX_LOOKUPS: usize = 256;
/// How long the second address family may lag behind the first (RFC 8305 waits 50 ms for a better
/// order; we wait longer because the answer is cached and shared).
const GRACE: Duration = Duration::from_millis(300);
/// Rounds over the server list.
const TRIES: u32 = 2;
/// Servers used, as in resolv.conf(5).
const MAX_SERVERS: usize = 3;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    #[error("`{0}` does not exist")]
    NoName(String),
    #[error("`{0}` cannot be resolved: {1}")]
    Failed(String, String),
}

/// Asks the configured servers (UDP, then TCP), reads the hosts file first, caches by TTL within
/// bounds. Never getaddrinfo.
pub struct Resolver {
    servers: Vec<SocketAddr>,
    hosts: HashMap<String, Arc<[IpAddr]>>,
    timeout: Duration,
    cache: Cache<Arc<str>, Entry>,
    /// addresses that a name had, for connections to addresses that we gave out
    past: Cache<(Arc<str>, IpAddr), ()>,
    flights: Mutex<HashMap<Arc<str>, Arc<OnceCell<Entry>>>>,
    lookups: Semaphore,
}

#[derive(Clone, Debug)]
struct Entry {
    found: Result<Arc<[IpAddr]>, ResolveError>,
    until: Instant,
}

impl Resolver {
    /// `hosts`: the lines of a hosts file, name by name. `timeout` bounds one whole lookup.
    pub fn new(servers: Vec<SocketAddr>, hosts: Vec<(String, IpAddr)>, timeout: Duration) -> Self {
        let mut by_name: HashMap<String, Vec<IpAddr>> = HashMap::new();
        for (name, address) in hosts {
            let known = by_name.entry(name.to_ascii_lowercase()).or_default();
            if !known.contains(&address) && known.len() < MAX_ADDRESSES {
                known.push(address);
            }
        }
        Resolver {
            servers: servers.into_iter().take(MAX_SERVERS).collect(),
            hosts: by_name.into_iter().map(|(name, addresses)| (name, addresses.into())).collect(),
            timeout,
            cache: Cache::new(CACHE_ENTRIES),
            past: Cache::new(PAST),
            flights: Mutex::default(),
            lookups: Semaphore::new(MAX_LOOKUPS),
        }
    }

    /// Addresses of a name, A and AAAA, at most 16; never empty. An address is its own answer.
    pub async fn lookup(&self, host: &Host) -> Result<Arc<[IpAddr]>, ResolveError> {
        let name = match (host.ip(), host.name()) {
            (Some(ip), _) => return Ok(Arc::new([ip])),
            (None, Some(name)) => name,
            (None, None) => return Err(failed(&host.to_string(), "it is neither a name nor an address")),
        };
        if let Some(addresses) = self.hosts.get(name) {
            return Ok(addresses.clone());
        }
        if let Some(entry) = self.cache.get(name)
            && entry.until > Instant::now()
        {
            return entry.found;
        }
        let flight = Flight::join(self, name.into());
        flight.cell.get_or_init(|| self.land(name)).await.found.clone()
    }

    /// Is this an address of the host's, now or when it was last asked for? Programs keep addresses for
    /// longer than names are good for, and servers give out a few of many.
    pub async fn leads_to(&self, host: &Host, address: IpAddr) -> bool {
        if host.name().is_some_and(|name| self.past.get(&(name.into(), address)).is_some()) {
            return true;
        }
        self.lookup(host).await.is_ok_and(|found| found.contains(&address))
    }

    /// Asks, and remembers what came of it.
    async fn land(&self, name: &str) -> Entry {
        let (found, ttl) = match self.ask_servers(name).await {
            Ok((addresses, ttl)) => {
                addresses.iter().for_each(|address| self.past.insert((name.into(), *address), ()));
                (Ok(addresses.into()), ttl.clamp(MIN_TTL, MAX_TTL))
            }
            Err(error) => (Err(error), NEGATIVE),
        };
        let entry = Entry { found, until: Instant::now() + ttl };
        self.cache.insert(name.into(), entry.clone());
        entry
    }

    async fn ask_servers(&self, name: &str) -> Result<(Vec<IpAddr>, Duration), ResolveError> {
        if self.servers.is_empty() {
            return Err(failed(name, "no name server is configured (`resolver.servers`, /etc/resolv.conf)"));
        }
        let wire = Name::from_ascii(format!("{name}.")).map_err(|e| failed(name, &e.to_string()))?;
        let permit = tokio::time::timeout(self.timeout, self.lookups.acquire())
            .await
            .map_err(|e| failed(name, &format!("too many lookups are under way ({e})")))?;
        let families = self.ask_families(&wire).await;
        drop(permit);
        let mut addresses = Vec::new();
        let mut ttl = u32::MAX;
        let mut missing = false;
        let mut failure = None;
        for said in families {
            match said {
                Ok(Said::Addresses(found, found_ttl)) => {
                    if !found.is_empty() {
                        ttl = ttl.min(found_ttl);
                    }
                    addresses.extend(found);
                }
                Ok(Said::NoName) => missing = true,
                Err(text) => failure = Some(text),
            }
        }
        addresses.truncate(MAX_ADDRESSES);
        match (addresses.is_empty(), missing, failure) {
            (false, _, _) => Ok((addresses, Duration::from_secs(ttl.into()))),
            (true, true, _) => Err(ResolveError::NoName(name.to_owned())),
            (true, false, Some(text)) => Err(failed(name, &text)),
            (true, false, None) => Err(failed(name, "it has no address")),
        }
    }

    /// Both families at once. When one has addresses, the other is waited for a moment only: there are
    /// servers that never answer AAAA.
    async fn ask_families(&self, name: &Name) -> [Result<Said, String>; 2] {
        let v4 = self.ask_kind(name, RecordType::A);
        let v6 = self.ask_kind(name, RecordType::AAAA);
        tokio::pin!(v4, v6);
        let late = |e| Err(format!("the second address family was not answered in time ({e})"));
        tokio::select! {
            first = &mut v4 => {
                let patience = if found_any(&first) { GRACE } else { self.timeout };
                let second = tokio::time::timeout(patience, v6).await.unwrap_or_else(late);
                [first, second]
            }
            first = &mut v6 => {
                let patience = if found_any(&first) { GRACE } else { self.timeout };
                let second = tokio::time::timeout(patience, v4).await.unwrap_or_else(late);
                [first, second]
            }
        }
    }

    /// One record type, server by server, twice over. Each attempt gets an equal share of the time.
    async fn ask_kind(&self, name: &Name, kind: RecordType) -> Result<Said, String> {
        let attempts = TRIES * u32::try_from(self.servers.len()).unwrap_or(u32::MAX);
        let share = self.timeout / attempts.max(1);
        let mut last = String::new();
        for _ in 0..TRIES {
            for &server in &self.servers {
                match tokio::time::timeout(share, ask(server, name, kind)).await {
                    Ok(Ok(said)) => return Ok(said),
                    Ok(Err(error)) => last = error.to_string(),
                    Err(_elapsed) => last = format!("{} did not answer in time", server.ip()),
                }
            }
        }
        Err(last)
    }

    #[cfg(test)]
    pub(super) fn under_way(&self) -> usize {
        self.flights().len()
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<OnceCell<Entry>>>> {
        // Every change under the lock is one call on the map: a panic leaves it whole.
        self.flights.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// One caller's part in a lookup that may be shared. The last one to leave takes the entry away, so
/// that callers who gave up do not leave it behind.
struct Flight<'a> {
    resolver: &'a Resolver,
    name: Arc<str>,
    cell: Arc<OnceCell<Entry>>,
}

impl<'a> Flight<'a> {
    fn join(resolver: &'a Resolver, name: Arc<str>) -> Self {
        let cell = resolver.flights().entry(name.clone()).or_default().clone();
        Flight { resolver, name, cell }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut flights = self.resolver.flights();
        let landed = self.cell.initialized();
        // Two owners are the map and us; nobody can join while we hold the lock.
        if flights.get(&self.name).is_some_and(|c| Arc::ptr_eq(c, &self.cell))
            && (landed || Arc::strong_count(&self.cell) <= 2)
        {
            flights.remove(&self.name);
        }
    }
}

fn found_any(said: &Result<Said, String>) -> bool {
    matches!(said, Ok(Said::Addresses(found, _)) if !found.is_empty())
}

fn failed(name: &str, why: &str) -> ResolveError {
    ResolveError::Failed(name.to_owned(), why.to_owned())
}
