//! `logs` and `receipts`: asks the daemon for receipts and hands them to what renders them.

use std::ops::ControlFlow;
use std::process::ExitCode;

use http::Method;

use super::failure::FAILED;
use super::logs::{LogsArgs, Printer};
use super::receipts::{self, ReceiptsCommand, VerifyArgs};
use super::{Context, Ended, Failure, Output};
use crate::audit::verify::Report;
use crate::audit::{Event, Query, Receipt};
use crate::control::client::{Client, escape};

pub(super) fn logs(args: &LogsArgs, context: &Context, out: &mut Output) -> Ended {
    let client = context.client()?;
    let receipts = list(&client, &args.query())?;
    let mut printer = Printer::new(out, context.json);
    let mut result = printer.list(&receipts);
    if args.follow && result.is_ok() {
        let path = format!("/v1/receipts/follow?{}", args.follow_query(&receipts).to_url());
        let mut unreadable = None;
        client.lines(&path, |line| {
            match serde_json::from_str::<Event>(line) {
                Ok(event) => result = printer.event(&event),
                Err(error) => unreadable = Some(error),
            }
            if result.is_ok() && unreadable.is_none() {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        if let Some(error) = unreadable {
            return Err(Failure::new(FAILED, error).hint("is the daemon as old as this client?"));
        }
    }
    out.written(result)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn receipts(command: &ReceiptsCommand, context: &Context, out: &mut Output) -> Ended {
    match command {
        ReceiptsCommand::Ls(args) => {
            let client = context.client()?;
            receipts::ls(args, context.json, out, |query| list(&client, query))?;
        }
        ReceiptsCommand::Show(args) => {
            let receipt: Receipt = context.client()?.get(&format!("/v1/receipts/{}", escape(&args.id)))?;
            receipts::show(&receipt, context.json, out)?;
        }
        ReceiptsCommand::Verify(args) => {
            let good = receipts::report(&verified(args, context)?, context.json, out)?;
            return Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(FAILED) });
        }
        ReceiptsCommand::Export(args) => {
            let client = context.client()?;
            receipts::export(args, out, |query| list(&client, query))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(client: &Client, query: &Query) -> Result<Vec<Receipt>, Failure> {
    Ok(client.get(&format!("/v1/receipts?{}", query.to_url()))?)
}

fn verified(args: &VerifyArgs, context: &Context) -> Result<Report, Failure> {
    match &args.dir {
        Some(dir) => Ok(receipts::verify_offline(dir, args)?),
        None => {
            let body = serde_json::to_vec(&args.request()).map_err(anyhow::Error::from)?;
            Ok(context.client()?.json(Method::POST, "/v1/receipts/verify", body)?)
        }
    }
}
