//! `enforcer logs`: receipts as lines, newest last.
//!
//! Pure rendering: how receipts get here is the caller's part. It is expected to ask the control socket
//!
//! - `GET /v1/receipts?` + [`Query::to_url`] → a JSON array of [`Receipt`];
//! - `GET /v1/receipts/follow?` + [`Query::to_url`] → lines of JSON, an [`Event`] each.

mod filter;
mod line;
#[cfg(test)]
pub(super) mod tests;

use std::collections::HashSet;
use std::io::{self, Write};

use clap::Args;

use super::Output;
use super::zone::Zone;
use crate::audit::clock::Time;
use crate::audit::{Event, Query, Receipt, export};

pub(super) use filter::{Filter, moment};
pub(super) use line::duration;
use line::line;

/// Receipts shown before the new ones in `logs -f`.
const BEFORE_FOLLOW: u32 = 10;

#[derive(Args, Clone, Debug, Default)]
pub(super) struct LogsArgs {
    /// Go on showing receipts as requests finish
    #[arg(short, long)]
    pub(super) follow: bool,
    #[command(flatten)]
    pub(super) filter: Filter,
}

impl LogsArgs {
    /// What to ask first.
    pub(super) fn query(&self) -> Query {
        let mut query = self.filter.query();
        if self.follow {
            query.limit = query.limit.or(Some(BEFORE_FOLLOW));
        }
        query
    }

    /// What to follow with, after `listed` has been shown: everything behind it, and what was still open in it.
    pub(super) fn follow_query(&self, listed: &[Receipt]) -> Query {
        let open = listed.iter().filter(|receipt| receipt.outcome.is_none()).map(|receipt| receipt.seq).min();
        let after = open.map(|seq| seq - 1).or(listed.last().map(|receipt| receipt.seq));
        Query { after_seq: after, limit: None, until: None, ..self.filter.query() }
    }
}

/// Writes receipts as they come.
pub(super) struct Printer<'a> {
    out: &'a mut Output,
    json: bool,
    zone: Zone,
    /// Finished receipts already written; they may come once more when following.
    written: HashSet<u64>,
}

impl<'a> Printer<'a> {
    pub(super) fn new(out: &'a mut Output, json: bool) -> Self {
        Printer { out, json, zone: Zone::local(), written: HashSet::new() }
    }

    pub(super) fn list(&mut self, receipts: &[Receipt]) -> io::Result<()> {
        receipts.iter().try_for_each(|receipt| self.receipt(receipt))?;
        self.written.extend(receipts.iter().filter(|r| r.outcome.is_some()).map(|r| r.seq));
        self.out.flush()
    }

    pub(super) fn event(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::Receipt(receipt) if self.written.remove(&receipt.seq) => return Ok(()),
            Event::Receipt(receipt) => self.receipt(receipt)?,
            Event::Missed { missed } if self.json => writeln!(self.out, "{{\"missed\":{missed}}}")?,
            Event::Missed { missed } => {
                writeln!(
                    self.out,
                    "! {missed} receipts came too fast to be shown here; `enforcer receipts ls` has them"
                )?;
            }
        }
        self.out.flush()
    }

    fn receipt(&mut self, receipt: &Receipt) -> io::Result<()> {
        if self.json {
            return export::jsonl(&mut self.out, std::slice::from_ref(receipt));
        }
        writeln!(self.out, "{}", line(receipt, &self.zone, Time::now()))
    }
}
