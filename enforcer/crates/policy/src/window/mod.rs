//! `when`: the times at which a rule is there. Outside of them it matches nothing.
//!
//! Days and hours are those of a named time zone, from the table that is built in: a host's own zone
//! and its zone files do not change what a policy means. There is no clock here; callers bring the
//! moment.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;

pub(crate) const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const MINUTES: u16 = 24 * 60;

/// The moment a decision is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(Option<Timestamp>);

impl Moment {
    /// No moment: every window is taken for open. For tests of a policy that do not name a time, and
    /// for asking what a policy could do at some time.
    pub const ANY: Moment = Moment(None);

    /// RFC 3339, with an offset or `Z`.
    pub fn parse(text: &str) -> Option<Moment> {
        text.parse().ok().map(|at| Moment(Some(at)))
    }
}

impl From<SystemTime> for Moment {
    /// A clock outside of what the calendar can say reads as its nearest end.
    fn from(time: SystemTime) -> Self {
        let at = match time.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_secs()).map_or(Timestamp::MAX, second),
            Err(_before_1970) => Timestamp::UNIX_EPOCH,
        };
        Moment(Some(at))
    }
}

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap_or(Timestamp::MAX)
}

/// All that is there has to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// from Monday; the part of a span after midnight belongs to the day it began on
    pub(crate) days: Option<[bool; 7]>,
    /// never empty
    pub(crate) hours: Option<Vec<Span>>,
    pub(crate) zone: TimeZone,
    /// the first moment at which it is closed for good
    pub(crate) until: Option<Timestamp>,
}

/// Minutes of a day, the second one not included; over midnight where it is not the larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    from: u16,
    to: u16,
}

impl Window {
    pub(crate) fn is_open(&self, at: Moment) -> bool {
        let Moment(Some(at)) = at else { return true };
        if self.until.is_some_and(|until| at >= until) {
            return false;
        }
        if self.days.is_none() && self.hours.is_none() {
            return true;
        }
        let local = self.zone.to_datetime(at);
        let minute = local.hour().unsigned_abs() as u16 * 60 + local.minute().unsigned_abs() as u16;
        let today = usize::from(local.weekday().to_monday_zero_offset().unsigned_abs());
        let on = |day: usize| self.days.is_none_or(|days| days.get(day % 7).copied().unwrap_or(false));
        match &self.hours {
            None => on(today),
            Some(spans) => spans.iter().any(|span| {
                if span.from < span.to {
                    on(today) && (span.from..span.to).contains(&minute)
                } else {
                    (on(today) && minute >= span.from) || (on(today + 6) && minute < span.to)
                }
            }),
        }
    }
}

impl Span {
    /// `09:00-18:00`, `22:00-06:00` (over midnight), `18:00-24:00`.
    pub(crate) fn parse(text: &str) -> Option<Span> {
        let (from, to) = text.split_once('-')?;
        let (from, to) = (minute(from)?, minute(to)?);
        (from != to && from < MINUTES).then_some(Span { from, to })
    }
}

fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let two = |text: &str| -> Option<u16> {
        (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
    };
    let (hour, minute) = (two(hour)?, two(minute)?);
    (minute < 60 && hour * 60 + minute <= MINUTES).then_some(hour * 60 + minute)
}

/// `mon` or `mon-fri`, which may go over Sunday.
pub(crate) fn days(text: &str) -> Option<[bool; 7]> {
    let day = |text: &str| DAYS.iter().position(|day| *day == text);
    let (from, to) = match text.split_once('-') {
        Some((from, to)) => (day(from)?, day(to)?),
        None => (day(text)?, day(text)?),
    };
    let mut days = [false; 7];
    for number in from..=(if to < from { to + 7 } else { to }) {
        if let Some(day) = days.get_mut(number % 7) {
            *day = true;
        }
    }
    Some(days)
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = Vec::new();
        if let Some(days) = &self.days {
            let on: Vec<&str> = DAYS.iter().zip(days).filter(|(_, on)| **on).map(|(day, _)| *day).collect();
            parts.push(format!("on {}", on.join(", ")));
        }
        if let Some(spans) = &self.hours {
            let spans: Vec<String> = spans.iter().map(Span::to_string).collect();
            parts.push(format!("from {}", spans.join(" and ")));
        }
        if self.days.is_some() || self.hours.is_some() {
            parts.push(self.zone.iana_name().unwrap_or("UTC").to_owned());
        }
        if let Some(until) = self.until {
            parts.push(format!("until {until}"));
        }
        f.write_str(&parts.join(" "))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Span { from, to } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

#[cfg(test)]
mod tests;
