//! Receipts as the requests they tell of: from the daemon, or from a file of `receipts export`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use enforcer_policy::{Seen, recorded};

use crate::audit::clock::Time;
use crate::audit::{Query, Receipt, Verdict};
use crate::cli::logs::moment;
use crate::cli::{Context, Failure};

/// Receipts read at a time.
const PAGE: u32 = 5000;

#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct Recorded {
    /// Not before: 30s, 15m, 1h, 7d, 4w ago, or a time as 2026-01-31T14:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment, default_value = "7d")]
    since: Time,
    /// Read this file of `enforcer receipts export --format jsonl` instead of asking the daemon
    #[arg(long, value_name = "FILE")]
    receipts: Option<PathBuf>,
}

impl Recorded {
    /// By agent; of one agent only where it is named.
    pub(super) fn read(
        &self,
        agent: Option<&str>,
        context: &Context,
    ) -> Result<BTreeMap<String, Vec<Seen>>, Failure> {
        let receipts = match &self.receipts {
            Some(path) => from_file(path)?,
            None => self.ask(agent, context)?,
        };
        let mut seen: BTreeMap<String, Vec<Seen>> = BTreeMap::new();
        for receipt in receipts {
            let wanted =
                agent.is_none_or(|agent| agent == receipt.intent.agent) && receipt.time >= self.since;
            if let Some(one) = request(&receipt).filter(|_| wanted) {
                seen.entry(receipt.intent.agent).or_default().push(one);
            }
        }
        Ok(seen)
    }

    fn ask(&self, agent: Option<&str>, context: &Context) -> Result<Vec<Receipt>, Failure> {
        let client = context.client()?;
        let mut query = Query {
            agent: agent.map(str::to_owned),
            since: Some(self.since),
            limit: Some(PAGE),
            after_seq: Some(0),
            ..Query::default()
        };
        let mut all = Vec::new();
        loop {
            let page: Vec<Receipt> = client.get(&format!("/v1/receipts?{}", query.to_url()))?;
            let Some(last) = page.last() else { return Ok(all) };
            query.after_seq = Some(last.seq);
            all.extend(page);
        }
    }
}

fn from_file(path: &Path) -> Result<Vec<Receipt>, Failure> {
    let cannot = || format!("cannot read receipts from {}", path.display());
    let text = std::fs::read_to_string(path).with_context(cannot)?;
    let read = |(number, line): (usize, &str)| {
        serde_json::from_str(line).with_context(|| format!("{}, line {}", cannot(), number + 1))
    };
    let receipts: Result<Vec<Receipt>, anyhow::Error> = text.lines().enumerate().map(read).collect();
    Ok(receipts?)
}

/// `None`: no HTTP request was read (DNS, connections), or what was read was refused as malformed.
fn request(receipt: &Receipt) -> Option<Seen> {
    let intent = &receipt.intent;
    let (host, method, path) = (intent.host.as_deref()?, intent.method.as_deref()?, intent.path.as_deref()?);
    let request = recorded(&intent.protocol, host, intent.port?, method, path).ok()?;
    let attached = receipt.outcome.as_ref().and_then(|outcome| outcome.credential.as_deref());
    let attached = attached.and_then(|credential| credential.split('@').next());
    Some(Seen {
        id: intent.id.to_string(),
        at: u64::try_from(receipt.time.micros()).unwrap_or(0),
        request,
        rule: intent.rule.clone(),
        credential: intent.credential.as_deref().or(attached).map(str::to_owned),
        passed: intent.verdict == Verdict::Allow,
        sent: receipt.outcome.as_ref().map_or(0, |outcome| outcome.request_bytes),
        count: receipt.count,
    })
}
