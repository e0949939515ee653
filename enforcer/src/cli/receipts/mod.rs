//! `enforcer receipts ls|show|verify|export`.
//!
//! Pure rendering, except for `verify --dir`, which needs no daemon. The caller is expected to ask
//!
//! - `GET /v1/receipts?` + [`Query::to_url`] → a JSON array of [`Receipt`];
//! - `GET /v1/receipts/{id}` → one [`Receipt`], or 404;
//! - `POST /v1/receipts/verify` with a [`VerifyRequest`] → a [`Report`].

mod details;
mod export;
#[cfg(test)]
mod tests;
mod verify;

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::logs::{Filter, Printer};
use super::zone::Zone;
use super::{Failure, Output};
use crate::audit::verify::VerifyRequest;
use crate::audit::{Head, Query, Receipt};

pub(super) use export::export;
pub(super) use verify::{report, verify_offline};

#[derive(Subcommand, Clone, Debug)]
pub(super) enum ReceiptsCommand {
    /// List receipts
    Ls(LsArgs),
    /// Show all that one receipt says
    Show(ShowArgs),
    /// Check that no receipt was changed, removed or cut off
    Verify(VerifyArgs),
    /// Write receipts as JSON lines or CSV
    Export(ExportArgs),
}

#[derive(Args, Clone, Debug, Default)]
pub(super) struct LsArgs {
    #[command(flatten)]
    pub(super) filter: Filter,
}

#[derive(Args, Clone, Debug)]
pub(super) struct ShowArgs {
    /// The request id, as in the refusal the agent got
    pub(super) id: String,
}

#[derive(Args, Clone, Debug, Default)]
pub(super) struct VerifyArgs {
    /// A head kept elsewhere: shows that the end of the log was not cut off and the log not written anew
    #[arg(long, value_name = "HEX")]
    pub(super) head: Option<Head>,
    /// Check this folder without the daemon
    #[arg(long, value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,
    /// With --dir: the public key of the heads, in hex or as a file; the folder's own head.pub if not given
    #[arg(long, value_name = "KEY", requires = "dir")]
    pub(super) key: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub(super) struct ExportArgs {
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    pub(super) format: Format,
    #[command(flatten)]
    pub(super) filter: Filter,
    /// Write to this new file, readable for you alone
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Jsonl,
    Csv,
}

impl VerifyArgs {
    pub(super) fn request(&self) -> VerifyRequest {
        VerifyRequest { head: self.head.map(|head| head.to_string()) }
    }
}

pub(super) fn ls(
    args: &LsArgs,
    json: bool,
    out: &mut Output,
    fetch: impl FnOnce(&Query) -> Result<Vec<Receipt>, Failure>,
) -> Result<(), Failure> {
    let receipts = fetch(&args.filter.query())?;
    let printed = Printer::new(out, json).list(&receipts);
    out.written(printed)
}

pub(super) fn show(receipt: &Receipt, json: bool, out: &mut Output) -> Result<(), Failure> {
    if json {
        let printed =
            crate::audit::export::jsonl(out, std::slice::from_ref(receipt)).and_then(|()| out.flush());
        return out.written(printed);
    }
    out.raw(details::details(receipt, &Zone::local()).as_bytes())
}
