//! Values with a form of their own: rates, sizes, networks, names of hosts and variables.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::At;
use super::form::{Text, text};
use super::reader::Reader;
use crate::canon::{Host, shown};
use crate::matcher::Template;
use crate::policy::Rate;
use crate::yaml::Entry;

pub(crate) const NAME: Text = text("^[a-z][a-z0-9-]{0,62}$", &["read-issues"]);
/// Rules made of a catalogue's actions have two names.
pub(super) const RULE: Text =
    text("^[a-z][a-z0-9-]{0,62}(/[a-z][a-z0-9-]{0,62})?$", &["read-issues", "github/create-pr"]);
pub(super) const HOST: Text = text(
    r"^\*$|^(\*\.)?([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$|^\[?[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]+\]?$",
    &["api.github.com", "*.example.com"],
);
pub(super) const HOST_NAME: Text = text(
    r"^([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$",
    &["db.internal"],
);
pub(super) const PORT: Text =
    Text { pattern: "^[1-9][0-9]{0,4}$", examples: &["8443"], number: Some((1, 65535)) };
/// What [`count`] takes, but for leading zeros; larger numbers are written in quotes.
pub(super) const COUNT: Text =
    Text { pattern: "^[1-9][0-9]*$", examples: &["200"], number: Some((1, 1_000_000_000)) };
pub(super) const METHOD: Text = text("^[A-Z][A-Z0-9-]{0,31}$", &["GET", "POST"]);
pub(super) const PATH: Text = text("^/[^?#]*$", &["/repos/{owner}/{repo}/issues/**"]);
pub(super) const RATE: Text = text(
    r"^[0-9]+/(s|sec|second|min|minute|hour|day)( burst [0-9]+)?( per \{[A-Za-z0-9_-]+\}(/\{[A-Za-z0-9_-]+\})*)?$",
    &["30/min burst 10", "100/hour", "5/hour per {owner}"],
);
pub(super) const SIZE: Text = text("^[0-9]+(B|KiB|MiB|GiB|KB|MB|GB)$", &["10MiB"]);
pub(super) const NETWORK: Text = text("^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$", &["10.1.0.0/16"]);
pub(super) const VARIABLE: Text = text("^[A-Za-z_][A-Za-z0-9_]{0,127}$", &["GITHUB_TOKEN"]);
pub(super) const REQUEST: Text =
    text("^[A-Z][A-Z0-9-]{0,31} https?://[^ ]+$", &["GET https://api.github.com/user"]);
pub(super) const HEADER: Text = text("^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$", &["x-api-key"]);
pub(super) const FORMAT: Text = text(r"^[ -~]*\{\}[ -~]*$", &["Bearer {}"]);
pub(super) const USER: Text =
    Text { pattern: "^[^:]*$", examples: &["x-access-token"], number: Some((0, u64::MAX)) };
pub(super) const PARAMETER: Text = text("^[A-Za-z0-9._~-]{1,128}$", &["api_key"]);

/// A bucket refills in whole nanoseconds; at a million per second rounding stays below a thousandth.
const MAX_PER_SECOND: u64 = 1_000_000;

/// Of a rule with these paths: what a rate is counted by must be in each of them.
pub(super) fn rates(r: &mut Reader<'_>, entry: &Entry, templates: &[Template]) -> Vec<Rate> {
    let mut rates = Vec::new();
    for text in r.one_or_list(entry) {
        let rate = match parse_rate(&text.value) {
            Ok(rate) => rate,
            Err(why) => {
                not_a_rate(r, &text, why);
                continue;
            }
        };
        let missing = rate
            .per
            .iter()
            .find_map(|name| templates.iter().find(|template| !template.names(name)).map(|t| (name, t)));
        match missing {
            Some((name, template)) => {
                let message = format!("the rate counts per `{{{name}}}`, which is not in path `{template}`");
                let hint = "each of the rule's `paths` needs it, as in `/repos/{owner}/**`";
                r.error_with("E025", &text.span, message, hint);
            }
            None => rates.push(rate),
        }
    }
    rates
}

/// A single one, of an agent.
pub(super) fn agent_rate(r: &mut Reader<'_>, entry: &Entry) -> Option<Rate> {
    let text = r.text(entry)?;
    match parse_rate(&text.value) {
        Ok(rate) if rate.per.is_empty() => Some(rate),
        Ok(_) => {
            r.error("E025", &text.span, "there is no path to count by here");
            None
        }
        Err(why) => {
            not_a_rate(r, &text, why);
            None
        }
    }
}

/// Of an agent, which has no paths.
pub(super) fn agent_rates(r: &mut Reader<'_>, entry: &Entry) -> Vec<Rate> {
    let mut rates = Vec::new();
    for text in r.one_or_list(entry) {
        match parse_rate(&text.value) {
            Ok(rate) if rate.per.is_empty() => rates.push(rate),
            Ok(_) => r.error_with(
                "E025",
                &text.span,
                "`limits.rate` counts all requests of the agent; there is no path to count by",
                "write `per` in the `rate` of a rule",
            ),
            Err(why) => not_a_rate(r, &text, why),
        }
    }
    rates
}

fn not_a_rate(r: &mut Reader<'_>, text: &At<String>, why: String) {
    match meant(&text.value) {
        Some(meant) => r.error_with("E001", &text.span, why, format!("did you mean `{meant}`?")),
        None => r.error("E001", &text.span, why),
    }
}

/// What `5 per hour`, `5/hours` or `5 / h` are meant to say.
fn meant(text: &str) -> Option<String> {
    let (count, rest) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    let rest = rest.trim_start();
    let unit = ["/", "per ", "a ", "an "].iter().find_map(|word| rest.strip_prefix(word))?.trim();
    let unit = match unit {
        "m" | "mins" | "minutes" => "min",
        "h" | "hr" | "hours" => "hour",
        "d" | "days" => "day",
        "secs" | "seconds" => "s",
        other => other,
    };
    let meant = format!("{count}/{unit}");
    (meant != text && parse_rate(&meant).is_ok()).then_some(meant)
}

pub(super) fn parse_rate(text: &str) -> Result<Rate, String> {
    let malformed = || {
        format!(
            "`{}` is not a rate; write COUNT/UNIT with an optional burst, for example `30/min burst 10`, and what \
             of the path to count by, for example `5/hour per {{owner}}`",
            shown(text)
        )
    };
    let (counted, per) = match text.split_once(" per ") {
        Some((counted, per)) => (counted, captures(per).ok_or_else(malformed)?),
        None => (text, Vec::new()),
    };
    let (rate, burst) = match counted.split_once(" burst ") {
        Some((rate, burst)) => (rate, Some(burst)),
        None => (counted, None),
    };
    let (count, unit) = rate.split_once('/').ok_or_else(malformed)?;
    let period = period(unit).ok_or_else(malformed)?;
    let count = whole_number(count).ok_or_else(malformed)?;
    let burst = burst.map_or(Some(count), whole_number).ok_or_else(malformed)?;
    if count == 0 || burst == 0 {
        return Err(format!("rate `{text}` lets nothing through; to forbid requests, write a deny rule"));
    }
    let most = MAX_PER_SECOND * period.as_secs();
    match (u32::try_from(count), u32::try_from(burst)) {
        (Ok(count), Ok(burst)) if u64::from(count) <= most => Ok(Rate { count, period, burst, per }),
        _ => Err(format!("rate `{text}` is too large to count; to set no limit, leave `rate` out")),
    }
}

pub(super) fn period(unit: &str) -> Option<Duration> {
    let seconds = match unit {
        "s" | "sec" | "second" => 1,
        "min" | "minute" => 60,
        "hour" => 60 * 60,
        "day" => 24 * 60 * 60,
        _ => return None,
    };
    Some(Duration::from_secs(seconds))
}

/// `{owner}`, `{owner}/{repo}`: up to four names, each once.
fn captures(text: &str) -> Option<Vec<Box<str>>> {
    let mut names: Vec<Box<str>> = Vec::new();
    for part in text.split('/') {
        let name = part.strip_prefix('{')?.strip_suffix('}')?;
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if name.is_empty() || !plain || names.len() == 4 || names.iter().any(|other| **other == *name) {
            return None;
        }
        names.push(name.into());
    }
    Some(names)
}

/// Digits only: no sign, no space, no separators. Too large for a `u64` reads as the largest.
fn whole_number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// A whole number from 1.
pub(super) fn count(r: &mut Reader<'_>, entry: &Entry) -> Option<u64> {
    let text = r.text(entry)?;
    let count = whole_number(&text.value).filter(|count| (1..u64::MAX).contains(count));
    if count.is_none() {
        r.error("E001", &text.span, format!("`{}` is not a whole number from 1", shown(&text.value)));
    }
    count
}

pub(super) fn size(r: &mut Reader<'_>, entry: &Entry) -> Option<u64> {
    let text = r.text(entry)?;
    match parse_size(&text.value) {
        Ok(size) => Some(size),
        Err(why) => {
            r.error("E001", &text.span, why);
            None
        }
    }
}

pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let malformed = || {
        format!(
            "`{}` is not a size; write a whole number and a unit (B, KiB, MiB, GiB), for example `10MiB`",
            shown(text)
        )
    };
    let digits_end = text.bytes().position(|b| !b.is_ascii_digit()).ok_or_else(malformed)?;
    let (count, unit) = text.split_at(digits_end);
    let unit: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err(malformed()),
    };
    let count = whole_number(count).ok_or_else(malformed)?;
    count
        .checked_mul(unit)
        .filter(|size| *size < u64::MAX)
        .ok_or_else(|| format!("size `{text}` is too large"))
}

/// `dns.private_addresses`. Narrow on purpose: one wide network would let loopback and metadata addresses in.
pub(super) fn networks(r: &mut Reader<'_>, entry: &Entry) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for text in r.one_or_list(entry) {
        match parse_network(&text.value) {
            Ok(network) => networks.push(network),
            Err(why) => r.error("E001", &text.span, why),
        }
    }
    networks
}

pub(super) fn parse_network(text: &str) -> Result<IpNet, String> {
    let malformed =
        || format!("`{}` is not a network; write ADDRESS/BITS, for example `10.1.0.0/16`", shown(text));
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_not_an_address) => text.parse::<IpNet>().map_err(|_error| malformed())?,
    };
    if network.trunc() != network {
        return Err(format!("`{text}` has bits set after its prefix; the network is `{}`", network.trunc()));
    }
    let (narrowest, mapped) = match network {
        IpNet::V4(_) => (8, false),
        // fc00::/7 is the widest private range (RFC 4193).
        IpNet::V6(v6) => (7, v6.addr().to_ipv4_mapped().is_some()),
    };
    if mapped {
        return Err(format!("`{text}` hides IPv4 addresses; write those"));
    }
    if network.prefix_len() < narrowest {
        return Err(format!("`{text}` is wider than /{narrowest}; name the private networks one by one"));
    }
    Ok(network)
}

/// `dns.also`: names that resolve though no rule reaches them.
pub(super) fn names(r: &mut Reader<'_>, entry: &Entry) -> Vec<Host> {
    let mut names = Vec::new();
    for text in r.one_or_list(entry) {
        match Host::parse(&text.value) {
            Ok(host) if host.name().is_some() => names.push(host),
            Ok(_) => {
                r.error("E001", &text.span, format!("`{}` is an address and needs no resolving", text.value))
            }
            Err(error) => r.error_with(
                "E001",
                &text.span,
                error.to_string(),
                "names are listed one by one, without wildcards",
            ),
        }
    }
    names
}

/// A name every shell can set. Those that change how programs start are not for placeholders.
pub(super) fn variable(r: &mut Reader<'_>, entry: &Entry) -> Option<String> {
    let text = r.text(entry)?;
    let name = &text.value;
    let shell = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !name.starts_with(|c: char| c.is_ascii_digit());
    let reserved = ["PATH", "HOME", "USER", "SHELL", "IFS", "ENV", "BASH_ENV", "TERM", "TMPDIR"];
    if name.is_empty() || !shell || name.len() > 128 {
        r.error(
            "E001",
            &text.span,
            format!("`{}` is not a variable name, for example `GITHUB_TOKEN`", shown(name)),
        );
        None
    } else if reserved.contains(&name.as_str()) || name.starts_with("LD_") {
        r.error("E001", &text.span, format!("variable `{name}` has a meaning of its own; choose another"));
        None
    } else {
        Some(text.value)
    }
}
