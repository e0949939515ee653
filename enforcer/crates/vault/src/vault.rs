//! The vault itself: storing, listing and giving out.
//!
//! Every value is sealed on its own (see `seal`). The set of records in force is authenticated as
//! well, by the *head*: a row that was removed, or put back from an older copy of this file, no
//! longer fits it. `last_used` is the one column that is not authenticated.

use std::path::Path;

use rusqlite::Connection;
use zeroize::Zeroizing;

use crate::database::{self, Stored};
use crate::seal::{self, ID_LEN, Label, Sealer, TAG_LEN};
use crate::{Binding, Secret, VaultError, VaultKey};

/// What people store.
const SECRETS: &str = "secret";
/// What the daemon keeps for itself.
const OWN: &str = "own";
/// `last_used` is written this often at most: it costs a synced write.
const TOUCH_EVERY: i64 = 60;

/// Metadata; never the value.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Entry {
    pub name: String,
    pub version: u32,
    #[serde(deserialize_with = "crate::binding::stored::deserialize")]
    pub hosts: Vec<Binding>,
    pub created: i64,
    /// To the minute, and not authenticated: for people, not for decisions.
    pub last_used: Option<i64>,
    pub length: usize,
}

/// What a decided request wants the secret for.
#[derive(Debug, Clone, Copy)]
pub struct Use<'a> {
    pub agent: &'a str,
    pub secret: &'a str,
    pub scheme: &'a str,
    pub host: &'a str,
    pub port: u16,
}

impl Use<'_> {
    fn endpoint(&self) -> String {
        let Use { scheme, host, port, .. } = self;
        let bare_v6 = host.contains(':') && !host.starts_with('[');
        if bare_v6 { format!("{scheme}://[{host}]:{port}") } else { format!("{scheme}://{host}:{port}") }
    }
}

type Unsealed = (Entry, Zeroizing<Vec<u8>>);

/// An open vault. Holds the file exclusively.
pub struct Vault {
    database: Connection,
    sealer: Sealer,
    epoch: u64,
}

impl Vault {
    /// Opens or creates the database and checks that the key opens it.
    pub fn open(path: &Path, key: VaultKey) -> Result<Self, VaultError> {
        let database = database::open(path)?;
        let doing = "read the vault";
        let known: Option<[u8; ID_LEN]> = database::meta(&database, "id").map_err(storage(doing))?;
        let id = match known {
            Some(id) => id,
            None => return Self::found(database, &key),
        };
        let sealer = Sealer::new(&key, id);
        let check: Option<[u8; 32]> = database::meta(&database, "key_check").map_err(storage(doing))?;
        if !check.is_some_and(|mac| sealer.check_head(KEY_CHECK, &mac)) {
            return Err(VaultError::Other(format!(
                "this key does not open this vault; use the key `{}` was made with, or restore key and vault together",
                path.display()
            )));
        }
        let epoch = database::meta(&database, "epoch").map_err(storage(doing))?.map(u64::from_be_bytes);
        let head: Option<[u8; 32]> = database::meta(&database, "head").map_err(storage(doing))?;
        let (Some(epoch), Some(head)) = (epoch, head) else {
            return Err(changed("its head is missing"));
        };
        let listing = listing(&database, epoch).map_err(storage(doing))?;
        if !sealer.check_head(&listing, &head) {
            return Err(changed("records were removed, renamed or put back from an older copy"));
        }
        Ok(Vault { database, sealer, epoch })
    }

    fn found(mut database: Connection, key: &VaultKey) -> Result<Self, VaultError> {
        let doing = "make the vault";
        let rows: i64 = database
            .query_row("SELECT (SELECT count(*) FROM record) + (SELECT count(*) FROM meta)", [], |row| {
                row.get(0)
            })
            .map_err(storage(doing))?;
        if rows != 0 {
            return Err(changed("its id is missing"));
        }
        let mut id = [0; ID_LEN];
        seal::random(&mut id)?;
        let sealer = Sealer::new(key, id);
        let change = database.transaction().map_err(storage(doing))?;
        database::set_meta(&change, "id", &id).map_err(storage(doing))?;
        database::set_meta(&change, "key_check", &sealer.sign_head(KEY_CHECK)).map_err(storage(doing))?;
        write_head(&change, &sealer, 1).map_err(storage(doing))?;
        change.commit().map_err(storage(doing))?;
        Ok(Vault { database, sealer, epoch: 1 })
    }

    /// Counts every change of a record. Kept outside by a caller, it tells an older copy of the
    /// whole file from the newest.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Stores a new version in the place of the old one; returns it.
    pub fn set(
        &mut self,
        name: &str,
        hosts: &[Binding],
        secret: Secret,
        now: i64,
    ) -> Result<u32, VaultError> {
        check_name(name)?;
        if hosts.is_empty() {
            return Err(VaultError::Invalid(format!(
                "secret `{name}` needs at least one host it may be sent to"
            )));
        }
        self.store(SECRETS, name, &write_hosts(hosts), secret.expose(), now)
    }

    /// All secrets, by name. Fails where one of them does not authenticate: what it says cannot be trusted.
    pub fn list(&self) -> Result<Vec<Entry>, VaultError> {
        let rows = database::records(&self.database, SECRETS).map_err(storage("list the secrets"))?;
        rows.into_iter().map(|row| self.unseal(SECRETS, row).map(|(entry, _value)| entry)).collect()
    }

    pub fn entry(&self, name: &str) -> Result<Entry, VaultError> {
        self.read(SECRETS, name)?
            .map(|(entry, _value)| entry)
            .ok_or_else(|| VaultError::NotFound(name.to_owned()))
    }

    /// Removes the value; its number of versions stays known, so that `name@3` never means two values.
    pub fn remove(&mut self, name: &str) -> Result<(), VaultError> {
        let doing = "remove the secret";
        let change = self.database.transaction().map_err(storage(doing))?;
        if !database::delete(&change, SECRETS, name).map_err(storage(doing))? {
            return Err(VaultError::NotFound(name.to_owned()));
        }
        write_head(&change, &self.sealer, self.epoch + 1).map_err(storage(doing))?;
        change.commit().map_err(storage(doing))?;
        self.epoch += 1;
        Ok(())
    }

    /// The value, if and only if the binding (authenticated with the ciphertext) covers the use.
    pub fn fetch(&mut self, usage: Use<'_>, now: i64) -> Result<(Secret, u32), VaultError> {
        let found = self.read(SECRETS, usage.secret)?;
        let (entry, value) = found.ok_or_else(|| VaultError::NotFound(usage.secret.to_owned()))?;
        // Unsealed first: a binding is worth nothing before it has authenticated.
        if !entry.hosts.iter().any(|b| b.covers(usage.scheme, usage.host, usage.port)) {
            return Err(VaultError::NotBound {
                secret: entry.name,
                endpoint: usage.endpoint(),
                allowed: entry.hosts.iter().map(Binding::to_string).collect::<Vec<_>>().join(", "),
            });
        }
        if entry.last_used.is_none_or(|last| !(last..last + TOUCH_EVERY).contains(&now)) {
            database::touch(&self.database, SECRETS, usage.secret, now)
                .map_err(storage("note the use of a secret"))?;
        }
        Ok((Secret::from_sealed(value), entry.version))
    }

    /// Those of the named secrets that may be sent to an endpoint, for keeping them out of what comes
    /// back from there. No use is noted; a name that is not known, or not bound there, gives nothing.
    pub fn bound(
        &self,
        names: &[String],
        scheme: &str,
        host: &str,
        port: u16,
    ) -> Result<Vec<(String, Secret, u32)>, VaultError> {
        let mut found = Vec::new();
        for name in names {
            if let Some((entry, value)) = self.read(SECRETS, name)?
                && entry.hosts.iter().any(|b| b.covers(scheme, host, port))
            {
                found.push((entry.name, Secret::from_sealed(value), entry.version));
            }
        }
        Ok(found)
    }

    /// The daemon's own keys (CA root, receipt key): another namespace, not listed, not fetchable.
    pub fn seal_own(&mut self, name: &str, bytes: &[u8]) -> Result<(), VaultError> {
        check_name(name)?;
        self.store(OWN, name, "[]", bytes, 0).map(drop)
    }

    pub fn open_own(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, VaultError> {
        Ok(self.read(OWN, name)?.map(|(_entry, value)| value))
    }

    fn store(
        &mut self,
        namespace: &str,
        name: &str,
        hosts: &str,
        value: &[u8],
        now: i64,
    ) -> Result<u32, VaultError> {
        let doing = "store the secret";
        let change = self.database.transaction().map_err(storage(doing))?;
        let version = database::next_version(&change, namespace, name).map_err(storage(doing))?;
        let label = Label { namespace, name, version, hosts, created: now };
        let row = Stored {
            name: name.to_owned(),
            version,
            hosts: hosts.to_owned(),
            created: now,
            last_used: None,
            sealed: self.sealer.seal(label, value)?,
        };
        database::put(&change, namespace, &row).map_err(storage(doing))?;
        write_head(&change, &self.sealer, self.epoch + 1).map_err(storage(doing))?;
        change.commit().map_err(storage(doing))?;
        self.epoch += 1;
        Ok(version)
    }

    fn read(&self, namespace: &str, name: &str) -> Result<Option<Unsealed>, VaultError> {
        let row = database::record(&self.database, namespace, name).map_err(storage("read the vault"))?;
        row.map(|row| self.unseal(namespace, row)).transpose()
    }

    fn unseal(&self, namespace: &str, row: Stored) -> Result<Unsealed, VaultError> {
        let Stored { name, version, hosts, created, last_used, sealed } = row;
        let label = Label { namespace, name: &name, version, hosts: &hosts, created };
        let length = sealed.ciphertext.len().saturating_sub(TAG_LEN);
        let value = self.sealer.open(label, sealed).map_err(|seal::NotAuthentic| {
            VaultError::Changed(format!(
                "the stored record of `{name}` was changed outside of this program and is not used; \
                 remove it, set it again, and find out who can write the vault"
            ))
        })?;
        let hosts = read_hosts(&hosts)?;
        Ok((Entry { name, version, hosts, created, last_used, length }, value))
    }
}

const KEY_CHECK: &[u8] = b"enforcer vault 1 key check";

fn write_head(change: &rusqlite::Transaction<'_>, sealer: &Sealer, epoch: u64) -> rusqlite::Result<()> {
    database::set_meta(change, "epoch", &epoch.to_be_bytes())?;
    let mac = sealer.sign_head(&listing(change, epoch)?);
    database::set_meta(change, "head", &mac)
}

/// What the head authenticates. Ids are random per sealing, so they stand for the ciphertext.
fn listing(database: &Connection, epoch: u64) -> rusqlite::Result<Vec<u8>> {
    let (mut records, mut counts) = (Vec::new(), Vec::new());
    database::census(
        database,
        |namespace, name, version, id| {
            seal::push(&mut records, namespace.as_bytes());
            seal::push(&mut records, name.as_bytes());
            seal::push(&mut records, &version.to_be_bytes());
            seal::push(&mut records, &id);
        },
        |namespace, name, version| {
            seal::push(&mut counts, namespace.as_bytes());
            seal::push(&mut counts, name.as_bytes());
            seal::push(&mut counts, &version.to_be_bytes());
        },
    )?;
    let mut all = Vec::with_capacity(records.len() + counts.len() + 64);
    seal::push(&mut all, b"enforcer vault 1 listing");
    seal::push(&mut all, &epoch.to_be_bytes());
    seal::push(&mut all, &records);
    seal::push(&mut all, &counts);
    Ok(all)
}

/// Sorted and without doubles: one set of hosts has one text.
fn write_hosts(hosts: &[Binding]) -> String {
    let mut texts: Vec<String> = hosts.iter().map(Binding::to_string).collect();
    texts.sort();
    texts.dedup();
    serde_json::to_string(&texts).expect("a list of strings is always JSON")
}

fn read_hosts(text: &str) -> Result<Vec<Binding>, VaultError> {
    let texts: Vec<String> =
        serde_json::from_str(text).map_err(|e| VaultError::storage("read the hosts of a secret", e))?;
    texts.iter().map(|t| Binding::read(t)).collect()
}

/// As in policies: lower-case letters, digits and `-`, starting with a letter, at most 63.
fn check_name(name: &str) -> Result<(), VaultError> {
    let fits = name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if fits {
        return Ok(());
    }
    Err(VaultError::Invalid(format!(
        "`{name}` is not a name: lower-case letters, digits and `-`, starting with a letter, at most 63"
    )))
}

fn storage(doing: &'static str) -> impl Fn(rusqlite::Error) -> VaultError {
    move |error| VaultError::storage(doing, database::explain(&error))
}

fn changed(how: &str) -> VaultError {
    VaultError::Changed(format!(
        "the vault was changed outside of this program ({how}); restore it from a backup, and find out who can write it"
    ))
}
