//! What may be asked of the receipts: the same words in `enforcer logs`, in the URL and in the index.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::clock::Time;
use super::record::Receipt;

/// Receipts given at once where nobody asked for a number, and at most.
const USUAL: u32 = 200;
const MOST: u32 = 10_000;

/// Empty fields ask nothing. As the query of `GET /v1/receipts` and `GET /v1/receipts/follow`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Query {
    pub agent: Option<String>,
    /// refusals only
    pub denied: bool,
    /// a host, or `*.example.com` for all below
    pub host: Option<String>,
    pub since: Option<Time>,
    pub until: Option<Time>,
    /// 200 where nothing is said, 10,000 at most
    pub limit: Option<u32>,
    /// page on: the first receipts after this number. Without it: the newest ones
    pub after_seq: Option<u64>,
}

impl Query {
    pub fn limit(&self) -> u32 {
        self.limit.unwrap_or(USUAL).clamp(1, MOST)
    }

    /// Whether a receipt is one that was asked for; `limit` and `after_seq` aside.
    pub fn matches(&self, receipt: &Receipt) -> bool {
        let host = receipt.intent.host.as_deref();
        self.agent.as_deref().is_none_or(|agent| agent == receipt.intent.agent)
            && (!self.denied || receipt.refused())
            && self.host.as_deref().is_none_or(|asked| match asked.strip_prefix('*') {
                Some(below) => host.is_some_and(|host| host.len() > below.len() && host.ends_with(below)),
                None => host == Some(asked),
            })
            && self.since.is_none_or(|since| receipt.time >= since)
            && self.until.is_none_or(|until| receipt.time < until)
    }

    /// `agent=a&denied=true`, percent-encoded, without the `?`.
    pub fn to_url(&self) -> String {
        let pairs = [
            ("agent", self.agent.clone()),
            ("denied", self.denied.then(|| "true".to_owned())),
            ("host", self.host.clone()),
            ("since", self.since.map(|t| t.to_string())),
            ("until", self.until.map(|t| t.to_string())),
            ("limit", self.limit.map(|n| n.to_string())),
            ("after_seq", self.after_seq.map(|n| n.to_string())),
        ];
        let mut url = String::new();
        for (name, value) in pairs {
            let Some(value) = value else { continue };
            if !url.is_empty() {
                url.push('&');
            }
            url.push_str(name);
            url.push('=');
            for byte in value.bytes() {
                if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                    url.push(char::from(byte));
                } else {
                    write!(url, "%{byte:02X}").expect("a String takes every write");
                }
            }
        }
        url
    }
}
