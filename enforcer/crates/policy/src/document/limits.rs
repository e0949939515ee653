//! `limits:`: bounds for the agent as a whole.

use super::fields::LIMITS;
use super::form::{Text, text};
use super::reader::Reader;
use super::values;
use crate::canon::shown;
use crate::policy::{Budget, Rate};
use crate::yaml::Entry;

pub(super) const COUNT: Text =
    Text { pattern: "^[1-9][0-9]{0,2}$", examples: &["32"], number: Some((1, 512)) };
pub(super) const BUDGET: Text = text(
    "^[0-9]+(B|KiB|MiB|GiB|KB|MB|GB)/(s|sec|second|min|minute|hour|day)( per host)?$",
    &["200MiB/day", "20MiB/hour per host"],
);

/// More than the injector serves of one agent at a time says nothing.
const MAX_CONCURRENT: u32 = 512;

#[derive(Debug, Default)]
pub(crate) struct Limits {
    pub(crate) rates: Vec<Rate>,
    pub(crate) upload: Vec<Budget>,
    pub(crate) download: Vec<Budget>,
    pub(crate) concurrent: Option<u32>,
    pub(crate) max_body: Option<u64>,
}

pub(super) fn read(r: &mut Reader<'_>, entry: &Entry) -> Limits {
    let Some(fields) = r.section(entry, &LIMITS) else { return Limits::default() };
    Limits {
        rates: fields.get("rate").map(|e| values::agent_rates(r, e)).unwrap_or_default(),
        upload: fields.get("upload").map(|e| budgets(r, e)).unwrap_or_default(),
        download: fields.get("download").map(|e| budgets(r, e)).unwrap_or_default(),
        concurrent: fields.get("concurrent").and_then(|e| concurrent(r, e)),
        max_body: fields.get("max_body").and_then(|e| values::size(r, e)),
    }
}

fn budgets(r: &mut Reader<'_>, entry: &Entry) -> Vec<Budget> {
    let mut budgets = Vec::new();
    for text in r.one_or_list(entry) {
        match parse_budget(&text.value) {
            Ok(budget) => budgets.push(budget),
            Err(why) => r.error("E001", &text.span, why),
        }
    }
    budgets
}

/// `200MiB/day`, or `20MiB/hour per host`.
pub(super) fn parse_budget(text: &str) -> Result<Budget, String> {
    let malformed = || {
        format!(
            "`{}` is not a byte budget; write SIZE/UNIT, for example `200MiB/day`, and `per host` to count each host by itself",
            shown(text)
        )
    };
    let (budget, per_host) = match text.strip_suffix(" per host") {
        Some(budget) => (budget, true),
        None => (text, false),
    };
    let (size, unit) = budget.split_once('/').ok_or_else(malformed)?;
    let period = values::period(unit).ok_or_else(malformed)?;
    let bytes = values::parse_size(size).map_err(|_why| malformed())?;
    match bytes {
        0 => Err(format!("budget `{text}` lets nothing through; to forbid requests, write a deny rule")),
        // A petabyte: beyond, the cost of a byte is lost in rounding.
        1..=0x4_0000_0000_0000 => Ok(Budget { bytes, period, per_host }),
        _ => Err(format!("budget `{text}` is too large to count")),
    }
}

fn concurrent(r: &mut Reader<'_>, entry: &Entry) -> Option<u32> {
    let text = r.text(entry)?;
    let plain = text.value.bytes().all(|b| b.is_ascii_digit()) && !text.value.starts_with('0');
    let number = text.value.parse().ok().filter(|number| plain && *number <= MAX_CONCURRENT);
    if number.is_none() {
        r.error_with(
            "E001",
            &text.span,
            format!("`{}` is not a number of requests, from 1 to {MAX_CONCURRENT}", shown(&text.value)),
            format!("without `concurrent`, an agent has {MAX_CONCURRENT} at a time"),
        );
    }
    number
}
