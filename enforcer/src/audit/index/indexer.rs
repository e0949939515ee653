//! The thread behind the log, which keeps the index near its end.

use std::time::Duration;

use super::{Index, IndexError};
use crate::audit::shared::{Progress, Rested, Shared};

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

/// The thread behind the log. Receipts finished after entry `seen` are told to the followers.
pub(in crate::audit) fn run(shared: &Shared, seen: u64) {
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
