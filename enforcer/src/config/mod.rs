//! The daemon's own settings: one YAML file, unknown key is an error, defaults without a file.
//!
//! Keeper and worker read the same text (the keeper hands it over), so both see the same values.
//! Nothing here is about agents: that is policy. What the host's own files say is in [`host`].

mod diagnose;
pub mod host;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

pub use diagnose::ConfigError;

/// Where the file is looked for when none is named.
pub const DEFAULT_PATH: &str = "/etc/enforcer/enforcer.yaml";
/// A settings file is a page of text; more is a mistake.
const MAX_FILE: u64 = 256 * 1024;

/// All settings. Every path can be moved, so that several copies can run side by side.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `control.sock`, `launch.sock`, `sessions/`, `netns/`, `trust/`
    #[serde(deserialize_with = "absolute")]
    pub run_dir: PathBuf,
    /// `worker/` (owned by the worker), `agents/NAME` (homes), `ids.json`
    #[serde(deserialize_with = "absolute")]
    pub state_dir: PathBuf,
    #[serde(deserialize_with = "absolute")]
    pub policy_dir: PathBuf,
    pub vault_key: VaultKeySource,
    /// The managed root, below the mount point of cgroup2.
    #[serde(deserialize_with = "cgroup_name")]
    pub managed_root: String,
    /// A directory in a bpffs that only root can enter.
    #[serde(deserialize_with = "absolute")]
    pub pins: PathBuf,
    pub ids: Ids,
    /// Who may use the sockets besides root. A group that does not exist: root only.
    pub group: String,
    pub resolver: ResolverConfig,
    /// PEM files with roots for upstreams, beside the host's own.
    #[serde(deserialize_with = "absolutes")]
    pub upstream_roots: Vec<PathBuf>,
    pub prove: ProveConfig,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            run_dir: "/run/enforcer".into(),
            state_dir: "/var/lib/enforcer".into(),
            policy_dir: "/etc/enforcer/policies".into(),
            vault_key: VaultKeySource::File("/etc/enforcer/vault.key".into()),
            managed_root: "enforcer-agents.slice".to_owned(),
            pins: "/sys/fs/bpf/enforcer".into(),
            ids: Ids::default(),
            group: "enforcer".to_owned(),
            resolver: ResolverConfig::default(),
            upstream_roots: Vec::new(),
            prove: ProveConfig::default(),
        }
    }
}

impl Config {
    /// Reads the file named, or the one at the default place. A file that was named must exist;
    /// without one at the default place the defaults hold.
    pub fn load(named: Option<&Path>) -> Result<Self, ConfigError> {
        let (config, _text) = Self::load_with_text(named)?;
        Ok(config)
    }

    /// As [`Config::load`], and the text that was read, for the other process.
    pub fn load_with_text(named: Option<&Path>) -> Result<(Self, String), ConfigError> {
        let path = named.unwrap_or(Path::new(DEFAULT_PATH));
        let text = match read(path) {
            Ok(text) => text,
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(ConfigError::Read { path: path.to_owned(), error }),
        };
        Ok((Self::parse(&path.display().to_string(), &text)?, text))
    }

    /// Settings from text. `name` is shown in errors.
    pub fn parse(name: &str, text: &str) -> Result<Self, ConfigError> {
        let empty = text.lines().all(|line| {
            let line = line.trim();
            line.is_empty() || line.starts_with('#') || line == "---"
        });
        if empty {
            return Ok(Config::default());
        }
        serde_saphyr::from_str(text).map_err(|error| diagnose::explain(name, text, &error))
    }

    pub fn control_socket(&self) -> PathBuf {
        self.run_dir.join("control.sock")
    }

    pub fn launch_socket(&self) -> PathBuf {
        self.run_dir.join("launch.sock")
    }

    /// What the worker owns: vault, receipts, index.
    pub fn worker_dir(&self) -> PathBuf {
        self.state_dir.join("worker")
    }
}

/// Where the key of the vault is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VaultKeySource {
    /// A file only root can read.
    File(PathBuf),
    /// A name under `$CREDENTIALS_DIRECTORY` (`LoadCredentialEncrypted=`).
    SystemdCredential(String),
}

/// User and group ids of our own; they need no passwd entries.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "RawIds")]
pub struct Ids {
    pub worker: u32,
    /// One per agent: by default as many as there can be sessions at a time.
    pub agents: IdRange,
}

impl Default for Ids {
    fn default() -> Self {
        Ids { worker: 61500, agents: IdRange { first: 61600, last: 62623 } }
    }
}

/// First and last id, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct IdRange {
    pub first: u32,
    pub last: u32,
}

impl IdRange {
    pub fn contains(self, id: u32) -> bool {
        (self.first..=self.last).contains(&id)
    }
}

/// How names of upstreams are looked up.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResolverConfig {
    /// Empty: those of the host's resolv.conf. See [`ResolverConfig::servers`].
    #[serde(deserialize_with = "servers")]
    pub servers: Vec<SocketAddr>,
    #[serde(deserialize_with = "absolute")]
    pub hosts_file: PathBuf,
    #[serde(deserialize_with = "timeout_ms")]
    pub timeout_ms: u64,
}

impl Default for ResolverConfig {
    fn default() -> Self {
        ResolverConfig { servers: Vec::new(), hosts_file: "/etc/hosts".into(), timeout_ms: 3000 }
    }
}

impl ResolverConfig {
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

/// Whether the daemon proves by itself that nothing gets out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProveConfig {
    /// `1h`, `30m`, `1d`; absent: never.
    #[serde(deserialize_with = "interval")]
    pub every: Option<Duration>,
}

fn read(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let file = std::fs::File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    let mut text = String::new();
    file.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(std::io::Error::other("it is larger than 256 KiB"));
    }
    Ok(text)
}

/// Id 0 is root and `u32::MAX` means "no change" to the kernel.
fn usable(id: u32) -> bool {
    id != 0 && id != u32::MAX
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawIds {
    worker: u32,
    agents: IdRange,
}

impl Default for RawIds {
    fn default() -> Self {
        let Ids { worker, agents } = Ids::default();
        RawIds { worker, agents }
    }
}

impl TryFrom<RawIds> for Ids {
    type Error = String;

    fn try_from(RawIds { worker, agents }: RawIds) -> Result<Self, String> {
        if !usable(worker) {
            return Err(format!("`ids.worker` cannot be {worker}; choose an id that nobody else uses"));
        }
        if agents.contains(worker) {
            let IdRange { first, last } = agents;
            return Err(format!(
                "`ids.worker` {worker} lies in `ids.agents` {first}-{last}; agents must not share the worker's id"
            ));
        }
        Ok(Ids { worker, agents })
    }
}

impl<'de> Deserialize<'de> for IdRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parsed = text
            .split_once('-')
            .and_then(|(first, last)| Some((first.trim().parse().ok()?, last.trim().parse().ok()?)));
        match parsed {
            Some((first, last)) if first <= last && usable(first) && usable(last) => {
                Ok(IdRange { first, last })
            }
            Some(_) | None => Err(de::Error::custom(format!(
                "`{text}` is not a range of ids; write FIRST-LAST without 0, for example `61600-62623`"
            ))),
        }
    }
}

impl<'de> Deserialize<'de> for VaultKeySource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Source;
        impl<'de> Visitor<'de> for Source {
            type Value = VaultKeySource;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the path of the key file, or `{systemd_credential: NAME}`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                absolute_path(text).map(VaultKeySource::File).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                const FIELDS: &[&str] = &["systemd_credential"];
                let Some(key) = map.next_key::<String>()? else {
                    return Err(de::Error::missing_field("systemd_credential"));
                };
                if key != "systemd_credential" {
                    return Err(de::Error::unknown_field(&key, FIELDS));
                }
                let name: String = map.next_value()?;
                if name.is_empty() || name.starts_with('.') || name.contains('/') {
                    return Err(de::Error::custom(format!("`{name}` is not the name of a credential")));
                }
                if let Some(key) = map.next_key::<String>()? {
                    return Err(de::Error::unknown_field(&key, FIELDS));
                }
                Ok(VaultKeySource::SystemdCredential(name))
            }
        }
        deserializer.deserialize_any(Source)
    }
}

fn absolute_path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let plain = path.components().all(|c| !matches!(c, std::path::Component::ParentDir));
    if path.is_absolute() && plain {
        Ok(path)
    } else {
        Err(format!("`{text}` is not a whole path; write it from `/` on, without `..`"))
    }
}

fn absolute<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    absolute_path(&String::deserialize(deserializer)?).map_err(de::Error::custom)
}

fn absolutes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| absolute_path(text).map_err(de::Error::custom)).collect()
}

fn cgroup_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let plain = !text.is_empty() && text.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if plain {
        Ok(text)
    } else {
        Err(de::Error::custom(format!(
            "`{text}` is not a place below the cgroup2 mount; write it without a leading `/`, \
             for example `enforcer-agents.slice`"
        )))
    }
}

fn servers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let server = |text: &String| {
        let plain = text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 53));
        plain.or_else(|| text.parse().ok()).ok_or_else(|| {
            de::Error::custom(format!(
                "`{text}` is not the address of a name server; write for example `192.0.2.1` or `[2001:db8::1]:53`"
            ))
        })
    };
    texts.iter().map(server).collect()
}

/// A proof takes half a minute: below ten seconds it would be never over.
fn interval<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    const LEAST: u64 = 10;
    let text = String::deserialize(deserializer)?;
    let seconds = text.find(|c: char| !c.is_ascii_digit()).and_then(|at| {
        let (number, unit) = text.split_at_checked(at)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return None,
        };
        number.parse::<u64>().ok()?.checked_mul(seconds)
    });
    match seconds {
        Some(seconds) if seconds >= LEAST => Ok(Some(Duration::from_secs(seconds))),
        _ => Err(de::Error::custom(format!(
            "`{text}` is not a span of at least {LEAST} seconds; write a number and s, m, h or d, for example `1h`"
        ))),
    }
}

/// Below 100 ms no server is near enough, above 30 s no client waits.
fn timeout_ms<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let value = u64::deserialize(deserializer)?;
    if (100..=30_000).contains(&value) {
        Ok(value)
    } else {
        Err(de::Error::custom(format!("`{value}` is not a usable timeout; write milliseconds, 100 to 30000")))
    }
}
