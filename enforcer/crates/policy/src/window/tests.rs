use super::*;

fn window(days: Option<&str>, hours: &[&str], zone: &str) -> Window {
    Window {
        days: days.map(|text| super::days(text).unwrap()),
        hours: (!hours.is_empty()).then(|| hours.iter().map(|text| Span::parse(text).unwrap()).collect()),
        zone: jiff::tz::TimeZoneDatabase::bundled().get(zone).unwrap(),
        until: None,
    }
}

fn open(window: &Window, at: &str) -> bool {
    window.is_open(Moment::parse(at).unwrap())
}

#[test]
fn days_and_hours_are_those_of_the_zone() {
    let office = window(Some("mon-fri"), &["09:00-18:00"], "Europe/Berlin");
    for (at, expected) in [
        // 2026-01-05 is a Monday; Berlin is an hour ahead of UTC.
        ("2026-01-05T07:59:59Z", false),
        ("2026-01-05T08:00:00Z", true),
        ("2026-01-05T16:59:59Z", true),
        ("2026-01-05T17:00:00Z", false),
        ("2026-01-04T12:00:00Z", false),
        ("2026-01-10T12:00:00Z", false),
        // In summer, two hours.
        ("2026-07-06T07:00:00Z", true),
        ("2026-07-06T16:00:00Z", false),
        // The day is Berlin's: Sunday evening in UTC is Monday there.
        ("2026-01-04T23:30:00Z", false),
    ] {
        assert_eq!(open(&office, at), expected, "{at}");
    }
    let mondays = window(Some("mon"), &[], "Asia/Tokyo");
    assert!(open(&mondays, "2026-01-04T15:00:00Z") && !open(&mondays, "2026-01-05T15:00:00Z"));
}

#[test]
fn an_hour_that_is_skipped_or_doubled_opens_nothing_twice() {
    // 2026-03-29 02:00 to 03:00 does not exist in Berlin; 2026-10-25 02:00 to 03:00 exists twice.
    let night = window(None, &["02:00-03:00"], "Europe/Berlin");
    assert!(!open(&night, "2026-03-29T00:59:59Z") && !open(&night, "2026-03-29T01:00:00Z"));
    assert!(open(&night, "2026-10-25T00:30:00Z") && open(&night, "2026-10-25T01:30:00Z"));
    assert!(!open(&night, "2026-10-25T02:00:00Z"));
}

#[test]
fn a_span_over_midnight_belongs_to_the_day_it_began_on() {
    let friday_night = window(Some("fri"), &["22:00-06:00"], "UTC");
    for (at, expected) in [
        ("2026-01-09T21:59:00Z", false),
        ("2026-01-09T22:00:00Z", true),
        ("2026-01-10T05:59:59Z", true),
        ("2026-01-10T06:00:00Z", false),
        ("2026-01-09T03:00:00Z", false),
    ] {
        assert_eq!(open(&friday_night, at), expected, "{at}");
    }
}

#[test]
fn until_is_the_first_moment_that_is_closed() {
    let mut always = window(None, &[], "UTC");
    always.until = Some("2026-01-31T00:00:00Z".parse().unwrap());
    assert!(open(&always, "2026-01-30T23:59:59Z"));
    assert!(!open(&always, "2026-01-31T00:00:00Z"));
    assert!(always.is_open(Moment::ANY));
}

#[test]
fn spans_and_days_are_exact() {
    for good in ["00:00-24:00", "09:00-18:00", "22:00-06:00", "18:00-24:00"] {
        assert_eq!(Span::parse(good).unwrap().to_string(), good);
    }
    for bad in [
        "",
        "9:00-18:00",
        "09:00",
        "09:00-09:00",
        "24:00-06:00",
        "09:60-10:00",
        "09:00-24:01",
        "-1:00-2:00",
        "09:00 - 18:00",
    ] {
        assert!(Span::parse(bad).is_none(), "{bad}");
    }
    assert_eq!(days("sat-mon").unwrap(), [true, false, false, false, false, true, true]);
    assert_eq!(days("sun").unwrap(), [false, false, false, false, false, false, true]);
    for bad in ["", "monday", "Mon", "mon-", "mon-tue-wed"] {
        assert!(days(bad).is_none(), "{bad}");
    }
}

#[test]
fn a_clock_beyond_the_calendar_is_at_its_end() {
    let far = UNIX_EPOCH + std::time::Duration::from_secs(u64::MAX / 4);
    let mut always = window(None, &[], "UTC");
    always.until = Some("9000-01-01T00:00:00Z".parse().unwrap());
    assert!(!always.is_open(far.into()));
    assert!(always.is_open((UNIX_EPOCH - std::time::Duration::from_secs(1)).into()));
}

#[test]
fn a_week_begins_on_monday() {
    assert_eq!(jiff::civil::Weekday::Monday.to_monday_zero_offset(), 0);
    assert_eq!(DAYS[0], "mon");
}
