//! The SQLite index behind the log: made to be asked, not to be believed.
//!
//! What the log has grown by is read from the place that the database itself remembers. A new, lost, damaged or
//! foreign database is filled from the first segment on by the same code.

mod indexer;
mod rows;

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, Row, ToSql, params};

use super::clock::Time;
use super::entry;
use super::query::Query;
use super::record::{Intent, Receipt, RequestId};
use super::segment::{self, Line, Lines};
use super::shared::Progress;
use crate::text::hex;
pub(super) use indexer::run;
use rows::Rows;

/// Of the tables below. Another number in the file: the index is made anew.
const VERSION: i64 = 2;
/// Entries a transaction takes at most.
const BATCH: usize = 2000;
const TABLES: &str = "
CREATE TABLE receipts (
    seq INTEGER PRIMARY KEY, time INTEGER NOT NULL, id TEXT NOT NULL, agent TEXT NOT NULL, host TEXT, denied INTEGER NOT NULL,
    intent TEXT NOT NULL, outcome TEXT, count INTEGER NOT NULL, until INTEGER, hash TEXT NOT NULL
) STRICT;
CREATE INDEX by_id ON receipts (id);
CREATE INDEX by_agent ON receipts (agent, seq);
CREATE INDEX by_time ON receipts (time);
CREATE INDEX by_denied ON receipts (seq) WHERE denied = 1;
CREATE INDEX by_host ON receipts (host, seq);
CREATE TABLE place (one INTEGER PRIMARY KEY CHECK (one = 1), segment INTEGER NOT NULL, at INTEGER NOT NULL, end INTEGER NOT NULL,
    seq INTEGER NOT NULL, hash TEXT NOT NULL) STRICT;
INSERT INTO place VALUES (1, 1, 0, 0, 0, '');
";

const SELECT: &str = "SELECT seq, time, intent, outcome, count, until, hash FROM receipts";

/// The last entry the index holds: where its line begins and ends.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    segment: u32,
    at: u64,
    end: u64,
    seq: u64,
    hash: String,
}

pub(super) struct Index {
    db: Connection,
}

/// The last entry an existing index has seen.
pub(super) fn last_seq(path: &Path) -> Option<u64> {
    let index = Index::read_only(path).ok()?;
    index.place().ok().map(|place| place.seq)
}

#[derive(Debug, thiserror::Error)]
pub(super) enum IndexError {
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Index {
    /// Opens the index of the log in `receipts`, or makes a new one if it does not fit.
    fn open(path: &Path, receipts: &Path) -> Result<Self, IndexError> {
        match Self::connect(path) {
            Ok(index) if index.fits(receipts)? => return Ok(index),
            Ok(_) => {
                tracing::info!(path = %path.display(), "the index of the receipts is filled from the log")
            }
            Err(error) if damaged(&error) => {
                tracing::warn!(%error, path = %path.display(), "the index of the receipts is damaged; it is made anew from the log");
            }
            Err(error) => return Err(error.into()),
        }
        for suffix in ["", "-wal", "-shm"] {
            let mut file = path.as_os_str().to_owned();
            file.push(suffix);
            match std::fs::remove_file(PathBuf::from(file)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        // SQLite would make it readable for everyone; its companions take their mode from it.
        OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
        let index = Self::connect(path)?;
        index.db.execute_batch(&format!("BEGIN; {TABLES} PRAGMA user_version = {VERSION}; COMMIT;"))?;
        Ok(index)
    }

    fn connect(path: &Path) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let db = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        db.busy_timeout(Duration::from_secs(5))?;
        db.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
        // What a power cut takes from the index is read from the log again.
        db.pragma_update(None, "synchronous", "off")?;
        db.pragma_update(None, "temp_store", "memory")?;
        Ok(Index { db })
    }

    pub(super) fn read_only(path: &Path) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let db = Connection::open_with_flags(path, flags)?;
        db.busy_timeout(Duration::from_secs(5))?;
        Ok(Index { db })
    }

    /// Whether this is our format and the entry it holds last is still where it was.
    fn fits(&self, receipts: &Path) -> Result<bool, IndexError> {
        let version: i64 = self.db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if version != VERSION {
            return Ok(false);
        }
        let place = self.place()?;
        if place.seq == 0 {
            return Ok(place.segment == 1 && place.end == 0);
        }
        let lines = Lines::open(&segment::path(receipts, place.segment), place.at, Some(place.end));
        let Ok(mut lines) = lines else { return Ok(false) };
        let Ok(Line::Whole(line)) = lines.next() else { return Ok(false) };
        Ok(entry::open(line).is_ok_and(|entry| entry.seq == place.seq && hex(&entry.hash) == place.hash))
    }

    fn place(&self) -> rusqlite::Result<Place> {
        self.db.query_row("SELECT segment, at, end, seq, hash FROM place", [], |row| {
            Ok(Place {
                segment: row.get(0)?,
                at: unsigned(row, 1)?,
                end: unsigned(row, 2)?,
                seq: unsigned(row, 3)?,
                hash: row.get(4)?,
            })
        })
    }

    /// Takes up to one batch of entries. Gives those that finished a receipt (their own number and that of the
    /// receipt) and whether there is more.
    fn advance(
        &mut self,
        receipts: &Path,
        progress: Progress,
    ) -> Result<(Vec<(u64, u64)>, bool), IndexError> {
        let mut place = self.place()?;
        let mut finished = Vec::new();
        let mut taken = 0;
        let mut rows = Rows::default();
        let tx = self.db.transaction()?;
        let more = 'segments: loop {
            let end = (place.segment == progress.segment).then_some(progress.len);
            match Lines::open(&segment::path(receipts, place.segment), place.end, end) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
                Ok(mut lines) => loop {
                    if taken == BATCH {
                        break 'segments true;
                    }
                    let seen = match lines.next()? {
                        Line::Whole(line) => rows.take(&tx, line)?,
                        Line::Torn(_) | Line::TooLong => None,
                        Line::End => break,
                    };
                    taken += 1;
                    (place.at, place.end) = (lines.at, lines.end);
                    match seen {
                        Some(seen) => {
                            finished.extend(seen.finished.map(|of| (seen.seq, of)));
                            (place.seq, place.hash) = (seen.seq, seen.hash);
                        }
                        None => tracing::warn!(
                            file = segment::name(place.segment),
                            at = place.at,
                            "a line of the receipt log cannot be read; it is not in the index"
                        ),
                    }
                },
            }
            if place.segment >= progress.segment {
                break false;
            }
            place = Place { segment: place.segment + 1, at: 0, end: 0, ..place };
        };
        rows.insert(&tx)?;
        let Place { segment, at, end, seq, hash } = place;
        tx.execute(
            "UPDATE place SET segment = ?1, at = ?2, end = ?3, seq = ?4, hash = ?5",
            params![segment, signed(at), signed(end), signed(seq), hash],
        )?;
        tx.commit()?;
        Ok((finished, more))
    }

    pub(super) fn query(&self, query: &Query) -> rusqlite::Result<Vec<Receipt>> {
        let mut sql = format!("{SELECT} WHERE seq > ?");
        let mut values: Vec<Box<dyn ToSql>> = vec![Box::new(signed(query.after_seq.unwrap_or(0)))];
        let mut and = |condition: &str, value: Box<dyn ToSql>| {
            sql.push_str(" AND ");
            sql.push_str(condition);
            values.push(value);
        };
        if let Some(agent) = &query.agent {
            and("agent = ?", Box::new(agent.clone()));
        }
        match query.host.as_deref().map(|host| host.strip_prefix('*').ok_or(host)) {
            Some(Ok(below)) => {
                // GLOB's own signs cannot occur in a canonical host; in a question they match nothing we mean.
                and("host GLOB ?", Box::new(format!("?*{}", below.replace(['*', '?', '['], "\0"))));
            }
            Some(Err(host)) => and("host = ?", Box::new(host.to_owned())),
            None => {}
        }
        if let Some(since) = query.since {
            and("time >= ?", Box::new(since.micros()));
        }
        if let Some(until) = query.until {
            and("time < ?", Box::new(until.micros()));
        }
        if query.denied {
            // Spelt out: the index over these is one over no others.
            sql.push_str(" AND denied = 1");
        }
        // Without a place to go on from, the newest are wanted.
        let order = if query.after_seq.is_some() { "ASC" } else { "DESC" };
        sql.push_str(&format!(" ORDER BY seq {order} LIMIT {}", query.limit()));
        let mut statement = self.db.prepare(&sql)?;
        let rows = statement.query_map(rusqlite::params_from_iter(values), receipt)?;
        let mut receipts: Vec<_> = rows.collect::<Result<_, _>>()?;
        if query.after_seq.is_none() {
            receipts.reverse();
        }
        Ok(receipts)
    }

    pub(super) fn get(&self, id: &RequestId) -> rusqlite::Result<Option<Receipt>> {
        let sql = format!("{SELECT} WHERE id = ? ORDER BY seq DESC LIMIT 1");
        self.db.query_row(&sql, [&*id.0], receipt).optional()
    }

    fn by_seq(&self, seq: u64) -> rusqlite::Result<Option<Receipt>> {
        self.db
            .prepare_cached(&format!("{SELECT} WHERE seq = ?"))?
            .query_row([signed(seq)], receipt)
            .optional()
    }
}

fn receipt(row: &Row<'_>) -> rusqlite::Result<Receipt> {
    let intent: String = row.get(2)?;
    let outcome: Option<String> = row.get(3)?;
    let unreadable = |column, error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    };
    let intent: Intent = serde_json::from_str(&intent).map_err(|error| unreadable(2, error))?;
    let outcome =
        outcome.map(|json| serde_json::from_str(&json)).transpose().map_err(|error| unreadable(3, error))?;
    Ok(Receipt {
        seq: unsigned(row, 0)?,
        time: Time::from_micros(row.get(1)?),
        intent,
        outcome,
        count: unsigned(row, 4)?,
        until: row.get::<_, Option<i64>>(5)?.map(Time::from_micros),
        hash: row.get(6)?,
    })
}

/// SQLite has signed integers only; sequence numbers and sizes stay far below.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0))
}

fn damaged(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}
