//! `when:` of a rule: days, hours, the zone they are meant in, and an end.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::{TimeZone, TimeZoneDatabase};

use super::At;
use super::fields::WHEN;
use super::form::{Text, text};
use super::reader::{Fields, Reader};
use crate::canon::shown;
use crate::diagnostics::nearest;
use crate::window::{DAYS, Span, Window, days};
use crate::yaml::Entry;

pub(super) const DAY: Text =
    text("^(mon|tue|wed|thu|fri|sat|sun)(-(mon|tue|wed|thu|fri|sat|sun))?$", &["mon-fri", "sat"]);
pub(super) const HOURS: Text = text("^[0-2][0-9]:[0-5][0-9]-[0-2][0-9]:[0-5][0-9]$", &["09:00-18:00"]);
pub(super) const ZONE: Text = text("^[A-Za-z][A-Za-z0-9_+/-]*$", &["Europe/Berlin", "UTC"]);
pub(super) const UNTIL: Text = text("^[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ].+)?$", &["2026-12-31"]);
pub(super) const MOMENT: Text = text("^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ].+$", &["2026-01-05T10:00:00+01:00"]);

pub(super) fn read(r: &mut Reader<'_>, entry: &Entry) -> Option<Window> {
    let fields = r.section(entry, &WHEN)?;
    let days = fields.get("days").map(|entry| read_days(r, entry));
    let hours = fields.get("hours").map(|entry| read_hours(r, entry));
    let zone = read_zone(r, entry, fields);
    let until = fields.get("until").map(|entry| read_until(r, entry, zone.as_ref()));
    if fields.get("days").or(fields.get("hours")).or(fields.get("until")).is_none() {
        r.error_with(
            "E001",
            &entry.value.span,
            "`when` names no time",
            "write for example `days: mon-fri`, `hours: 09:00-18:00` or `until: 2026-12-31`",
        );
        return None;
    }
    // A field that is there and could not be read leaves no window, and so no policy.
    Some(Window {
        days: whole(days)?,
        hours: whole(hours)?,
        zone: zone.unwrap_or(TimeZone::UTC),
        until: whole(until)?,
    })
}

/// Absent is fine, unreadable is not.
fn whole<T>(field: Option<Option<T>>) -> Option<Option<T>> {
    match field {
        None => Some(None),
        Some(value) => value.map(Some),
    }
}

fn read_days(r: &mut Reader<'_>, entry: &Entry) -> Option<[bool; 7]> {
    let mut all = [false; 7];
    let mut good = true;
    for text in r.one_or_list(entry) {
        match days(&text.value) {
            Some(some) => all.iter_mut().zip(some).for_each(|(day, on)| *day |= on),
            None => {
                good = false;
                let message = format!(
                    "`{}` is not a day: {}, or two of them as in `mon-fri`",
                    shown(&text.value),
                    DAYS.join(", ")
                );
                let short: String = text.value.to_ascii_lowercase().chars().take(3).collect();
                match nearest(&short, DAYS.iter().copied()) {
                    Some(near) => {
                        r.error_with("E001", &text.span, message, format!("did you mean `{near}`?"))
                    }
                    None => r.error("E001", &text.span, message),
                }
            }
        }
    }
    (good && all.contains(&true)).then_some(all)
}

fn read_hours(r: &mut Reader<'_>, entry: &Entry) -> Option<Vec<Span>> {
    let mut spans = Vec::new();
    let mut good = true;
    for text in r.one_or_list(entry) {
        match Span::parse(&text.value) {
            Some(span) => spans.push(span),
            None => {
                good = false;
                r.error_with(
                    "E001",
                    &text.span,
                    format!("`{}` is not a span of hours", shown(&text.value)),
                    "write HH:MM-HH:MM, for example `09:00-18:00`, or `22:00-06:00` over midnight",
                );
            }
        }
    }
    (good && !spans.is_empty()).then_some(spans)
}

/// Hours without a zone would be read as everybody's own.
fn read_zone(r: &mut Reader<'_>, entry: &Entry, fields: Fields<'_>) -> Option<TimeZone> {
    let Some(zone) = fields.get("timezone") else {
        let whole_day = |entry: &Entry| matches!(&entry.value.value, crate::yaml::Value::Scalar(text) if date(text).is_some());
        if fields.get("days").or(fields.get("hours")).is_some() || fields.get("until").is_some_and(whole_day)
        {
            r.error_with(
                "E001",
                &entry.key_span,
                "`when` does not say in which time zone",
                "write for example `timezone: Europe/Berlin` or `timezone: UTC`",
            );
        }
        return None;
    };
    let At { value: name, span } = r.text(zone)?;
    let database = TimeZoneDatabase::bundled();
    match database.get(&name) {
        Ok(found) => return Some(found),
        Err(_unknown) => {
            let message = format!("`{}` is not a time zone", shown(&name));
            let known: Vec<String> = database.available().map(|name| name.to_string()).collect();
            match nearest(&name, known.iter().map(String::as_str)) {
                Some(near) => r.error_with("E001", &span, message, format!("did you mean `{near}`?")),
                None => r.error_with("E001", &span, message, "write a name such as `Europe/Berlin` or `UTC`"),
            }
        }
    }
    None
}

/// A day means its whole.
fn read_until(r: &mut Reader<'_>, entry: &Entry, zone: Option<&TimeZone>) -> Option<Timestamp> {
    let text = r.text(entry)?;
    if let Ok(moment) = text.value.parse::<Timestamp>() {
        return Some(moment);
    }
    let end = date(&text.value).and_then(|date| date.tomorrow().ok());
    match (end, zone) {
        (Some(end), Some(zone)) => {
            if let Ok(moment) = end.to_zoned(zone.clone()) {
                return Some(moment.timestamp());
            }
        }
        // Said by `read_zone`.
        (Some(_), None) => return None,
        (None, _) => {}
    }
    r.error_with(
        "E001",
        &text.span,
        format!("`{}` is not a day or a moment", shown(&text.value)),
        "write `2026-12-31`, which includes that day, or `2026-12-31T18:00:00+01:00`",
    );
    None
}

fn date(text: &str) -> Option<Date> {
    // jiff reads more forms than this language has.
    (text.len() == 10).then(|| text.parse().ok()).flatten()
}
