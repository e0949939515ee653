//! Where secret values come from: an async handle to the vault's own thread.
//!
//! Callers get an [`enforcer_vault::Secret`] for one decided use; metadata calls serve `control`.
//! One thread owns the vault, so uses and changes have one order; a change is in force for every
//! fetch that starts after it returned. Not here: whether a use is allowed, and what is done with a value.

mod bound;
mod cache;
pub(crate) mod encode;

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use enforcer_vault::{Binding, Entry, Secret, Use, Vault, VaultError, VaultKey};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use zeroize::Zeroizing;

pub use bound::Bound;
use cache::Cache;

/// Requests waiting for the thread. A fetch is some 100 µs, so this is a queue of milliseconds;
/// beyond it callers wait their turn.
const QUEUE: usize = 64;
/// A synced write on a slow disk takes tenths of a second; this is a disk that hangs.
const DEADLINE: Duration = Duration::from_secs(10);

/// A value for a decided use. No Debug, like the secret in it.
pub struct Fetched {
    pub secret: Secret,
    pub name: String,
    pub version: u32,
}

/// Cheap handle; the vault closes when the last one is dropped.
#[derive(Clone)]
pub struct Secrets {
    thread: Sender<Job>,
    room: Arc<Semaphore>,
    cache: Arc<Mutex<Cache>>,
}

impl Secrets {
    /// Opens the vault on a thread of its own behind a bounded channel.
    pub fn open(path: &Path, key: VaultKey) -> Result<Self, VaultError> {
        let vault = Vault::open(path, key)?;
        let (thread, jobs) = channel();
        let cache = Arc::new(Mutex::new(Cache::default()));
        let of_thread = cache.clone();
        std::thread::Builder::new()
            .name("vault".to_owned())
            .spawn(move || serve(vault, &jobs, &of_thread))
            .map_err(|e| VaultError::Other(format!("cannot start the vault's thread: {e}")))?;
        Ok(Secrets { thread, room: Arc::new(Semaphore::new(QUEUE)), cache })
    }

    /// The value and its version for one use; cached in memory for a short time per use, dropped
    /// on set and remove.
    pub async fn fetch(
        &self,
        agent: &str,
        secret: &str,
        scheme: &str,
        host: &str,
        port: u16,
    ) -> Result<Arc<Fetched>, VaultError> {
        let usage = Use { agent, secret, scheme, host, port };
        let key = cache::key(&usage);
        if let Some(found) = cache::lock(&self.cache).get(&key, Instant::now()) {
            return Ok(found);
        }
        let (agent, secret, scheme, host) =
            (agent.to_owned(), secret.to_owned(), scheme.to_owned(), host.to_owned());
        self.ask(move |vault, cache| {
            let usage = Use { agent: &agent, secret: &secret, scheme: &scheme, host: &host, port };
            let (value, version) = vault.fetch(usage, now())?;
            let fetched = Arc::new(Fetched { secret: value, name: secret, version });
            // Filled by the thread that makes changes: a slow reader cannot put an old value back.
            cache::lock(cache).put(key, fetched.clone(), Instant::now());
            Ok(fetched)
        })
        .await
    }

    /// Those of the named secrets that may be sent to an endpoint; cached like single values. For what
    /// must not come back from there, so asking is not a use.
    pub async fn bound(
        &self,
        names: Vec<String>,
        scheme: &str,
        host: &str,
        port: u16,
    ) -> Result<Arc<Bound>, VaultError> {
        if names.is_empty() {
            return Ok(Arc::default());
        }
        let key = cache::key_of_bound(&names, scheme, host, port);
        if let Some(found) = cache::lock(&self.cache).bound(&key, Instant::now()) {
            return Ok(found);
        }
        let (scheme, host) = (scheme.to_owned(), host.to_owned());
        self.ask(move |vault, cache| {
            let found = vault.bound(&names, &scheme, &host, port)?.into_iter();
            let found = found.map(|(name, secret, version)| Arc::new(Fetched { secret, name, version }));
            let found = Arc::new(Bound::new(found.collect()));
            cache::lock(cache).put_bound(key, found.clone(), Instant::now());
            Ok(found)
        })
        .await
    }

    pub async fn set(&self, name: String, hosts: Vec<Binding>, secret: Secret) -> Result<u32, VaultError> {
        self.ask(move |vault, cache| {
            let result = vault.set(&name, &hosts, secret, now());
            cache::lock(cache).forget(&name);
            result
        })
        .await
    }

    pub async fn list(&self) -> Result<Vec<Entry>, VaultError> {
        self.ask(|vault, _| vault.list()).await
    }

    pub async fn entry(&self, name: String) -> Result<Entry, VaultError> {
        self.ask(move |vault, _| vault.entry(&name)).await
    }

    pub async fn remove(&self, name: String) -> Result<(), VaultError> {
        self.ask(move |vault, cache| {
            let result = vault.remove(&name);
            cache::lock(cache).forget(&name);
            result
        })
        .await
    }

    pub async fn seal_own(&self, name: &'static str, bytes: Zeroizing<Vec<u8>>) -> Result<(), VaultError> {
        self.ask(move |vault, _| vault.seal_own(name, &bytes)).await
    }

    pub async fn open_own(&self, name: &'static str) -> Result<Option<Zeroizing<Vec<u8>>>, VaultError> {
        self.ask(move |vault, _| vault.open_own(name)).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Vault, &Mutex<Cache>) -> Result<T, VaultError> + Send + 'static,
    ) -> Result<T, VaultError> {
        let (reply, answer) = oneshot::channel();
        let all = async {
            let seat = self.room.clone().acquire_owned().await.map_err(|_closed| gone())?;
            let run: Work = Box::new(move |vault: &mut Vault, cache: &Mutex<Cache>| {
                // An asker that has given up gets nothing; the value in the reply is zeroed on drop.
                drop(reply.send(work(vault, cache)));
            });
            self.thread.send(Job { run, _seat: seat }).map_err(|_stopped| gone())?;
            answer.await.map_err(|_dropped| gone())?
        };
        tokio::time::timeout(DEADLINE, all).await.unwrap_or_else(|_elapsed| {
            Err(VaultError::Other(format!(
                "the vault did not answer within {} seconds; is its disk hanging?",
                DEADLINE.as_secs()
            )))
        })
    }
}

type Work = Box<dyn FnOnce(&mut Vault, &Mutex<Cache>) + Send>;

struct Job {
    run: Work,
    /// Given back once the job is done or dropped.
    _seat: OwnedSemaphorePermit,
}

fn serve(mut vault: Vault, jobs: &Receiver<Job>, cache: &Mutex<Cache>) {
    loop {
        // Values do not outlive their time in memory because nobody asks.
        match jobs.recv_timeout(cache::KEEP) {
            Ok(job) => (job.run)(&mut vault, cache),
            Err(RecvTimeoutError::Timeout) => cache::lock(cache).expire(Instant::now()),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn gone() -> VaultError {
    VaultError::Other("the vault's thread has stopped; restart the daemon and look at its log".to_owned())
}

fn now() -> i64 {
    // A clock before 1970 gives 0: the time is shown to people, nothing is decided by it.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs().try_into().unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
