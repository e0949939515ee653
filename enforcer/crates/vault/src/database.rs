//! The SQLite file under the vault: opening it safely, its schema and its rows.
//!
//! Sees ciphertext only. `user_version` counts the migrations, `application_id` says whose file it
//! is. The file is held exclusively, so the records in memory and on disk cannot part.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use rusqlite::types::Type;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, Transaction, params};

use crate::VaultError;
use crate::seal::{ID_LEN, Id, Sealed};

/// "enfV"
const APPLICATION_ID: i32 = 0x656e_6656;
/// Longer than a worker that ends takes to let go of the file.
const BUSY: Duration = if cfg!(test) { Duration::from_millis(50) } else { Duration::from_secs(5) };

/// Each entry brings the schema from its index to the next `user_version`. Never edited, only added to.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE record (
        namespace TEXT NOT NULL,
        name      TEXT NOT NULL,
        version   INTEGER NOT NULL,
        hosts     TEXT NOT NULL,
        created   INTEGER NOT NULL,
        last_used INTEGER,
        id        BLOB NOT NULL,
        nonce     BLOB NOT NULL,
        sealed    BLOB NOT NULL,
        PRIMARY KEY (namespace, name)
    ) STRICT, WITHOUT ROWID;
    -- outlives the record: a name that is used again goes on counting
    CREATE TABLE last_version (
        namespace TEXT NOT NULL,
        name      TEXT NOT NULL,
        version   INTEGER NOT NULL,
        PRIMARY KEY (namespace, name)
    ) STRICT, WITHOUT ROWID;
"];

/// One row as it is stored.
pub(crate) struct Stored {
    pub(crate) name: String,
    pub(crate) version: u32,
    pub(crate) hosts: String,
    pub(crate) created: i64,
    pub(crate) last_used: Option<i64>,
    pub(crate) sealed: Sealed,
}

/// Opens or makes the file (0600) with settings that leave nothing behind and lose nothing.
pub(crate) fn open(path: &Path) -> Result<Connection, VaultError> {
    let doing = format!("open the vault `{}`", path.display());
    let failed = |e: rusqlite::Error| VaultError::storage(&doing, explain(&e));
    // SQLite refuses links anywhere in the path; those above the file are the host's business.
    let directory = fs::canonicalize(crate::key::directory_of(path))
        .map_err(|e| VaultError::storage(&format!("{doing}: its directory"), e))?;
    let name =
        path.file_name().ok_or_else(|| VaultError::Invalid(format!("`{}` names no file", path.display())))?;
    let path = directory.join(name);
    prepare_file(&path, &doing)?;
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let mut database = Connection::open_with_flags(&path, flags).map_err(failed)?;
    database.busy_timeout(BUSY).map_err(failed)?;
    // Exclusive before WAL: then no shared-memory file is made beside the database.
    database
        .execute_batch(
            "PRAGMA locking_mode = EXCLUSIVE;
             PRAGMA temp_store = MEMORY;
             PRAGMA trusted_schema = OFF;
             PRAGMA cell_size_check = ON;
             PRAGMA secure_delete = ON;",
        )
        .map_err(failed)?;
    let owner: i32 = database.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(failed)?;
    let tables: i64 =
        database.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed)?;
    if owner != APPLICATION_ID && (owner != 0 || tables != 0) {
        return Err(VaultError::Other(format!("`{}` is a database, but not a vault", path.display())));
    }
    database.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    database.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    migrate(&mut database, &path, &doing)?;
    Ok(database)
}

fn prepare_file(path: &Path, doing: &str) -> Result<(), VaultError> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => {
            Err(VaultError::Invalid(format!("the vault `{}` is not a regular file", path.display())))
        }
        Ok(found) if found.mode() & 0o077 != 0 => Err(VaultError::Invalid(format!(
            "the vault `{}` can be used by others (mode {:04o}); `chmod 600` it",
            path.display(),
            found.mode() & 0o7777
        ))),
        Ok(_) => Ok(()),
        // Made here rather than by SQLite, for the mode; WAL and journal inherit it.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map(drop)
            .map_err(|e| VaultError::storage(doing, e)),
        Err(e) => Err(VaultError::storage(doing, e)),
    }
}

fn migrate(database: &mut Connection, path: &Path, doing: &str) -> Result<(), VaultError> {
    let failed = |e: rusqlite::Error| VaultError::storage(doing, explain(&e));
    let version: i64 = database.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
    let Some(missing) = usize::try_from(version).ok().and_then(|v| MIGRATIONS.get(v..)) else {
        return Err(VaultError::Other(format!(
            "the vault `{}` was written by a newer version (schema {version}, this one knows {}); use that version",
            path.display(),
            MIGRATIONS.len()
        )));
    };
    if missing.is_empty() {
        return Ok(());
    }
    let change = database.transaction().map_err(failed)?;
    for step in missing {
        change.execute_batch(step).map_err(failed)?;
    }
    change.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed)?;
    change.pragma_update(None, "user_version", MIGRATIONS.len() as i64).map_err(failed)?;
    change.commit().map_err(failed)
}

/// SQLite's words for the cases a person can do something about.
pub(crate) fn explain(error: &rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseBusy) => {
            "another process has it open (is a daemon running?)".to_owned()
        }
        Some(rusqlite::ErrorCode::DiskFull) => "the disk is full".to_owned(),
        Some(rusqlite::ErrorCode::NotADatabase) => "it is not a database".to_owned(),
        Some(rusqlite::ErrorCode::DatabaseCorrupt) => {
            "the file is damaged; restore it from a backup".to_owned()
        }
        _ => error.to_string(),
    }
}

pub(crate) fn meta<const N: usize>(database: &Connection, key: &str) -> rusqlite::Result<Option<[u8; N]>> {
    database.query_row("SELECT value FROM meta WHERE key = ?", [key], |row| fixed(row, 0)).optional()
}

pub(crate) fn set_meta(change: &Transaction<'_>, key: &str, value: &[u8]) -> rusqlite::Result<()> {
    change.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", params![key, value]).map(drop)
}

const COLUMNS: &str = "name, version, hosts, created, last_used, id, nonce, sealed";

pub(crate) fn record(database: &Connection, namespace: &str, name: &str) -> rusqlite::Result<Option<Stored>> {
    let query = format!("SELECT {COLUMNS} FROM record WHERE namespace = ? AND name = ?");
    database.prepare_cached(&query)?.query_row([namespace, name], read).optional()
}

pub(crate) fn records(database: &Connection, namespace: &str) -> rusqlite::Result<Vec<Stored>> {
    let query = format!("SELECT {COLUMNS} FROM record WHERE namespace = ? ORDER BY name");
    database.prepare_cached(&query)?.query_map([namespace], read)?.collect()
}

/// The version the next value of that name gets.
pub(crate) fn next_version(database: &Connection, namespace: &str, name: &str) -> rusqlite::Result<u32> {
    database.query_row(
        "SELECT coalesce(max(version), 0) + 1 FROM last_version WHERE namespace = ? AND name = ?",
        [namespace, name],
        |row| row.get(0),
    )
}

pub(crate) fn put(change: &Transaction<'_>, namespace: &str, row: &Stored) -> rusqlite::Result<()> {
    change.execute(
        "INSERT OR REPLACE INTO record (namespace, name, version, hosts, created, id, nonce, sealed)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            namespace,
            row.name,
            row.version,
            row.hosts,
            row.created,
            row.sealed.id,
            row.sealed.nonce,
            row.sealed.ciphertext
        ],
    )?;
    change
        .execute(
            "INSERT OR REPLACE INTO last_version (namespace, name, version) VALUES (?, ?, ?)",
            params![namespace, row.name, row.version],
        )
        .map(drop)
}

pub(crate) fn delete(change: &Transaction<'_>, namespace: &str, name: &str) -> rusqlite::Result<bool> {
    change
        .execute("DELETE FROM record WHERE namespace = ? AND name = ?", [namespace, name])
        .map(|rows| rows > 0)
}

pub(crate) fn touch(database: &Connection, namespace: &str, name: &str, now: i64) -> rusqlite::Result<()> {
    database
        .execute(
            "UPDATE record SET last_used = ? WHERE namespace = ? AND name = ?",
            params![now, namespace, name],
        )
        .map(drop)
}

/// What makes up the set in force: each record with its id, and each version count.
pub(crate) fn census(
    database: &Connection,
    mut record: impl FnMut(&str, &str, u32, Id),
    mut count: impl FnMut(&str, &str, u32),
) -> rusqlite::Result<()> {
    let mut query =
        database.prepare_cached("SELECT namespace, name, version, id FROM record ORDER BY 1, 2")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        record(row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?, row.get(2)?, fixed(row, 3)?);
    }
    let mut query =
        database.prepare_cached("SELECT namespace, name, version FROM last_version ORDER BY 1, 2")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        count(row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?, row.get(2)?);
    }
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<Stored> {
    Ok(Stored {
        name: row.get(0)?,
        version: row.get(1)?,
        hosts: row.get(2)?,
        created: row.get(3)?,
        last_used: row.get(4)?,
        sealed: Sealed { id: fixed::<ID_LEN>(row, 5)?, nonce: fixed(row, 6)?, ciphertext: row.get(7)? },
    })
}

fn fixed<const N: usize>(row: &Row<'_>, column: usize) -> rusqlite::Result<[u8; N]> {
    row.get_ref(column)?
        .as_blob()?
        .try_into()
        .map_err(|wrong| rusqlite::Error::FromSqlConversionFailure(column, Type::Blob, Box::new(wrong)))
}
