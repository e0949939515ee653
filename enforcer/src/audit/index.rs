//! The SQLite index behind the log: made to be asked, not to be believed.
//!
//! Its own thread reads what the log has grown by, from the place the database itself remembers. A new, lost,
//! damaged or foreign database is filled from the first segment on by the same code.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, Row, ToSql, params};
use serde::Deserialize;

use super::clock::Time;
use super::entry::{self, Body, Entry};
use super::query::Query;
use super::record::{Intent, Outcome, Receipt, RequestId, Verdict};
use super::segment::{self, Line, Lines};
use super::shared::{Progress, Rested, Shared};
use crate::text::hex;

/// Of the tables below. Another number in the file: the index is made anew.
const VERSION: i64 = 2;
/// Entries a transaction takes at most.
const BATCH: usize = 2000;
/// After a failure. The log does not wait for the index.
const RETRY: Duration = Duration::from_secs(1);

/// Between two looks at the log while nobody asks: one transaction for many entries.
const REST: Duration = Duration::from_millis(250);
/// The same while somebody follows.
const FOLLOWED: Duration = Duration::from_millis(10);
/// A log that grows by more than this in a rest is busy: the index waits until it is less so …
const BUSY: u64 = 200;
/// … or this far behind. What is behind is read in a second when somebody asks.
const BEHIND: u64 = 100_000;
/// Tests wait for the index all the time; on a busy machine the lower priority made seconds minutes.
const NICE: i32 = if cfg!(test) { 0 } else { 10 };

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

/// The thread behind the log. Receipts finished after entry `seen` are told to the followers.
pub(super) fn run(shared: &Shared, seen: u64) {
    // Requests come first. On Linux this is the priority of the calling thread.
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "the indexer keeps the usual priority");
    }
    let mut index = None;
    let mut failing = false;
    let mut seq = 0;
    while let Some(progress) = shared.grown(seq) {
        let result = match &mut index {
            Some(index) => catch_up(index, shared, progress, seen),
            None => Index::open(&shared.index, &shared.receipts)
                .and_then(|opened| catch_up(index.insert(opened), shared, progress, seen)),
        };
        match result {
            Ok(last) => {
                seq = last;
                shared.indexed.send_replace(last);
                if std::mem::take(&mut failing) {
                    tracing::info!("the index of the receipts can be written again");
                }
                // What is left now is for the next start.
                if rest(shared, last) == Rested::Closed && shared.progress().seq - last > BUSY {
                    break;
                }
            }
            Err(error) => {
                index = None;
                if !std::mem::replace(&mut failing, true) {
                    let path = shared.index.display();
                    tracing::error!(%error, %path, "the index of the receipts cannot be written; the log has them, `enforcer logs` is behind");
                }
                if shared.rest(RETRY) == Rested::Closed {
                    break;
                }
            }
        }
    }
    shared.publish(None);
}

/// Waits until it is time to go on after entry `seen`: as long as requests come thick and fast, they come first.
fn rest(shared: &Shared, seen: u64) -> Rested {
    let mut last = shared.progress().seq;
    loop {
        let time = if shared.is_followed() { FOLLOWED } else { REST };
        let rested = shared.rest(time);
        let now = shared.progress().seq;
        let quiet = now - last <= BUSY || now.saturating_sub(seen) > BEHIND;
        if rested != Rested::Well || quiet || shared.is_followed() {
            return rested;
        }
        last = now;
    }
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

fn catch_up(index: &mut Index, shared: &Shared, progress: Progress, seen: u64) -> Result<u64, IndexError> {
    loop {
        let (finished, more) = index.advance(&shared.receipts, progress)?;
        let followed = shared.is_followed();
        for seq in finished.into_iter().filter(|(entry, _)| followed && *entry > seen).map(|(_, seq)| seq) {
            shared.publish(index.by_seq(seq)?);
        }
        let place = index.place()?;
        if !more {
            // Lines that cannot be read (a damaged segment somebody chose to go on behind) count as seen.
            return Ok(place.seq.max(progress.seq));
        }
        shared.indexed.send_replace(place.seq);
    }
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

/// Receipts of one batch before they are inserted. Most are finished within it, and are written once.
#[derive(Default)]
struct Rows(BTreeMap<u64, New>);

struct New {
    time: Time,
    intent: Intent,
    /// as JSON
    intent_text: String,
    outcome_text: Option<String>,
    refused: bool,
    count: u64,
    until: Option<Time>,
    hash: String,
}

/// An entry that was taken up.
struct Seen {
    seq: u64,
    hash: String,
    /// the receipt that it finished
    finished: Option<u64>,
}

/// What says which receipt an outcome belongs to.
#[derive(Deserialize)]
struct Of {
    of: u64,
}

impl Rows {
    /// `None`: the line cannot be read.
    fn take(&mut self, db: &Connection, line: &[u8]) -> rusqlite::Result<Option<Seen>> {
        let Some(parts) = entry::parts(line) else { return Ok(None) };
        let (seq, hash) = (parts.seq, parts.hash.to_owned());
        let finished = match parts.kind {
            "intent" => {
                let Ok(intent) = serde_json::from_str(parts.body) else { return Ok(None) };
                let new = New {
                    time: parts.time,
                    intent,
                    intent_text: parts.body.to_owned(),
                    outcome_text: None,
                    refused: false,
                    count: 1,
                    until: None,
                    hash: hash.clone(),
                };
                self.0.insert(seq, new);
                None
            }
            "outcome" => {
                let (Ok(Of { of }), Ok(outcome)) =
                    (serde_json::from_str(parts.body), serde_json::from_str::<Outcome>(parts.body))
                else {
                    return Ok(None);
                };
                let refused = outcome.end == "refused";
                match self.0.get_mut(&of) {
                    Some(new) => {
                        new.outcome_text = Some(parts.body.to_owned());
                        new.refused |= refused;
                    }
                    None => {
                        let sql = "UPDATE receipts SET outcome = ?2, denied = denied OR ?3 WHERE seq = ?1";
                        db.prepare_cached(sql)?.execute(params![signed(of), parts.body, refused])?;
                    }
                }
                Some(of)
            }
            _ => {
                let Some(entry) = entry::read(line) else { return Ok(None) };
                self.whole(entry).then_some(seq)
            }
        };
        Ok(Some(Seen { seq, hash, finished }))
    }

    /// Of the rarer kinds. Is it a receipt?
    fn whole(&mut self, entry: Entry) -> bool {
        let Entry { seq, time, body, hash, .. } = entry;
        let (intent, outcome, count, until) = match body {
            Body::Refused { intent, outcome } => (intent, outcome, 1, None),
            Body::Folded { intent, count, until, last: _ } => {
                let outcome = Outcome { end: "refused".to_owned(), ..Outcome::default() };
                (intent, outcome, count, Some(until))
            }
            Body::Intent(_) | Body::Outcome(_) | Body::Start(_) | Body::Stop {} | Body::Head(_) => {
                return false;
            }
        };
        let (intent_text, outcome_text) = (json(&intent), Some(json(&outcome)));
        let (refused, hash) = (false, hex(&hash));
        self.0.insert(seq, New { time, intent, intent_text, outcome_text, refused, count, until, hash });
        true
    }

    fn insert(self, db: &Connection) -> rusqlite::Result<()> {
        let sql = "INSERT OR REPLACE INTO receipts (seq, time, id, agent, host, denied, intent, outcome, count, until, hash)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
        let mut statement = db.prepare_cached(sql)?;
        for (seq, new) in self.0 {
            let New { time, intent, intent_text, outcome_text, refused, count, until, hash } = new;
            let denied = refused || intent.verdict == Verdict::Deny;
            let (time, until) = (time.micros(), until.map(Time::micros));
            let (seq, count) = (signed(seq), signed(count));
            statement.execute(params![
                seq,
                time,
                &*intent.id.0,
                intent.agent,
                intent.host,
                denied,
                intent_text,
                outcome_text,
                count,
                until,
                hash
            ])?;
        }
        Ok(())
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

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("intents and outcomes are plain data")
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
