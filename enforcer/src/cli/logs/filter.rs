//! Which receipts: the options that `logs` and `receipts` share, and times as people write them.

use clap::Args;

use crate::audit::Query;
use crate::audit::clock::Time;

/// Which receipts.
#[derive(Args, Clone, Debug, Default)]
pub(in crate::cli) struct Filter {
    /// Only this agent's
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) agent: Option<String>,
    /// Only refused requests
    #[arg(long)]
    pub(in crate::cli) denied: bool,
    /// Only this host, or *.example.com for all hosts below it
    #[arg(long, value_name = "HOST")]
    pub(in crate::cli) host: Option<String>,
    /// Not before: 30s, 15m, 1h, 2d, 1w ago, or a time as 2026-01-31T14:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(in crate::cli) since: Option<Time>,
    /// Before: as --since
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(in crate::cli) until: Option<Time>,
    /// At most this many, the newest
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(in crate::cli) limit: Option<u32>,
}

impl Filter {
    pub(in crate::cli) fn query(&self) -> Query {
        Query {
            agent: self.agent.clone(),
            denied: self.denied,
            host: self.host.as_ref().map(|host| host.to_lowercase()),
            since: self.since,
            until: self.until,
            limit: self.limit,
            after_seq: None,
        }
    }
}

/// `15m` ago, or a point in time.
pub(in crate::cli) fn moment(text: &str) -> Result<Time, String> {
    let ago = || {
        let unit = text.chars().last()?;
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return None,
        };
        let number: i64 = text.strip_suffix(unit)?.parse().ok().filter(|n| *n >= 0)?;
        let micros = number.checked_mul(seconds)?.checked_mul(1_000_000)?;
        Some(Time::from_micros(Time::now().micros().saturating_sub(micros)))
    };
    ago().map_or_else(|| text.parse(), Ok).map_err(|error| format!("{error}, or 15m, 1h, 2d for a while ago"))
}
