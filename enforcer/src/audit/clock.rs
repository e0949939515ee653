//! Points in time as receipts write them: RFC 3339, UTC, microseconds.
//!
//! Left out: time zones. People see local times through `cli`, the log only ever says UTC.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Microseconds since 1970-01-01T00:00:00Z. Always within the years 1970 to 9999.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(i64);

/// 9999-12-31T23:59:59.999999Z: RFC 3339 has four digits for a year.
const LAST: i64 = 253_402_300_799_999_999;
const DAY: i64 = 86_400;

impl Time {
    /// The wall clock now; a clock set before 1970 reads as 1970.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Time::from_micros(i64::try_from(since.as_micros()).unwrap_or(LAST))
    }

    /// Clamped to the years RFC 3339 can write.
    pub fn from_micros(micros: i64) -> Self {
        Time(micros.clamp(0, LAST))
    }

    pub fn micros(self) -> i64 {
        self.0
    }

    pub fn seconds(self) -> i64 {
        self.0 / 1_000_000
    }
}

/// Year, month, day, hour, minute and second of `seconds` since 1970 (proleptic Gregorian calendar).
pub fn civil(seconds: i64) -> (i64, i64, i64, i64, i64, i64) {
    // Howard Hinnant's `civil_from_days`: years start in March, so the leap day comes last.
    let z = seconds.div_euclid(DAY) + 719_468;
    let of_day = seconds.rem_euclid(DAY);
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    (year, month, day, of_day / 3600, of_day / 60 % 60, of_day % 60)
}

fn days(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let mp = (month + 9) % 12;
    let doy = (153 * mp + 2) / 5 + day - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day, hour, minute, second) = civil(self.seconds());
        // Two of these for each request: digits by hand are several times as fast as seven padded numbers.
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        for (end, mut number) in [
            (3, year),
            (6, month),
            (9, day),
            (12, hour),
            (15, minute),
            (18, second),
            (25, self.0 % 1_000_000),
        ] {
            let mut at = end;
            while number > 0 {
                text[at] += (number % 10) as u8;
                number /= 10;
                at -= usize::from(number > 0);
            }
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_not_ascii| fmt::Error)?)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time; write it as 2026-01-31, 2026-01-31T14:00:00Z or 2026-01-31T14:00:00+01:00")]
pub struct TimeError(pub String);

impl FromStr for Time {
    type Err = TimeError;

    /// RFC 3339, or a date alone (midnight UTC).
    fn from_str(text: &str) -> Result<Self, TimeError> {
        parse(text.as_bytes()).ok_or_else(|| TimeError(text.chars().take(40).collect()))
    }
}

fn parse(text: &[u8]) -> Option<Time> {
    let number = |from: usize, to: usize| -> Option<i64> {
        text.get(from..to)?
            .iter()
            .try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))
    };
    let is = |at: usize, byte: u8| text.get(at) == Some(&byte);
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        1..=12 => 31,
        _ => return None,
    };
    if !is(4, b'-') || !is(7, b'-') || !(1..=last).contains(&day) {
        return None;
    }
    let mut micros = days(year, month, day) * DAY * 1_000_000;
    if text.len() > 10 {
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        let separated = (is(10, b'T') || is(10, b't') || is(10, b' ')) && is(13, b':') && is(16, b':');
        if !separated || hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        micros += (hour * 3600 + minute * 60 + second) * 1_000_000;
        let mut at = 19;
        if is(at, b'.') {
            at += 1;
            let digits = text.get(at..)?.iter().take_while(|b| b.is_ascii_digit()).count();
            if digits == 0 || digits > 9 {
                return None;
            }
            for place in 0..digits.min(6) {
                micros += number(at + place, at + place + 1)? * 10_i64.pow(5 - u32::try_from(place).ok()?);
            }
            at += digits;
        }
        let offset = match text.get(at..)? {
            b"Z" | b"z" => 0,
            [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
                let (hours, minutes) = (number(at + 1, at + 3)?, number(at + 4, at + 6)?);
                if hours > 23 || minutes > 59 {
                    return None;
                }
                (hours * 3600 + minutes * 60) * if *sign == b'+' { 1 } else { -1 }
            }
            _ => return None,
        };
        micros -= offset * 1_000_000;
    }
    (0..=LAST).contains(&micros).then_some(Time(micros))
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Both clocks at one moment. The wall clock may lie; with the boot id, the monotonic one shows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    pub(super) time: Time,
    pub(super) mono: u64,
}

impl Stamp {
    pub(super) fn now() -> Self {
        let mono = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let nanos = u64::try_from(mono.tv_sec).unwrap_or(0) * 1_000_000_000;
        Stamp { time: Time::now(), mono: nanos + u64::try_from(mono.tv_nsec).unwrap_or(0) }
    }
}

/// The kernel's id of this boot; `None` where `/proc` does not say.
pub fn boot_id() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let id = text.trim();
    (id.len() == 36 && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read_as_rfc_3339() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400_000_001, "2000-02-29T00:00:00.000001Z"),
            (1_763_868_731_123_456, "2025-11-23T03:32:11.123456Z"),
            (LAST, "9999-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!(Time(micros).to_string(), text);
            assert_eq!(text.parse(), Ok(Time(micros)));
        }
        let same = "2025-11-23T04:32:11.5+01:00".parse::<Time>().unwrap();
        assert_eq!(same, "2025-11-23 03:32:11.500000Z".parse().unwrap());
        assert_eq!("2025-11-23".parse::<Time>().unwrap().to_string(), "2025-11-23T00:00:00.000000Z");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2025",
            "2025-02-29",
            "2025-13-01",
            "2025-11-23T24:00:00Z",
            "2025-11-23T10:00:00",
            "2025-11-23T10:00:00.Z",
            "yesterday",
            "2025-11-23T10:00:00+1",
        ] {
            assert!(text.parse::<Time>().is_err(), "{text}");
        }
    }
}
