//! Entries of the log as rows of the index: what belongs together is gathered first, and written once.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};
use serde::Deserialize;

use super::signed;
use crate::audit::clock::Time;
use crate::audit::entry::{self, Body, Entry};
use crate::audit::record::{Intent, Outcome, Verdict};
use crate::text::hex;

/// Receipts of one batch before they are inserted. Most are finished within it, and are written once.
#[derive(Default)]
pub(super) struct Rows(BTreeMap<u64, New>);

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
pub(super) struct Seen {
    pub(super) seq: u64,
    pub(super) hash: String,
    /// the receipt that it finished
    pub(super) finished: Option<u64>,
}

/// What says which receipt an outcome belongs to.
#[derive(Deserialize)]
struct Of {
    of: u64,
}

impl Rows {
    /// `None`: the line cannot be read.
    pub(super) fn take(&mut self, db: &Connection, line: &[u8]) -> rusqlite::Result<Option<Seen>> {
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

    pub(super) fn insert(self, db: &Connection) -> rusqlite::Result<()> {
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

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("intents and outcomes are plain data")
}
