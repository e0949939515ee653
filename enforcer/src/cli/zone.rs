//! Local time for people: the offset from UTC at a moment, from the system's zone file (TZif, RFC 9636).
//!
//! Zone files that end in a rule instead of a table (for times the table does not reach) are not read
//! further; times are then shown in UTC, and say so.

use std::path::PathBuf;

use crate::audit::clock::{Time, civil};

/// The zone of `TZ`, else of `/etc/localtime`.
pub(crate) struct Zone {
    /// (from second, offset in seconds), ascending
    changes: Vec<(i64, i32)>,
    /// before the first change
    first: Option<i32>,
    /// whether the last offset holds for good
    settled: bool,
}

impl Zone {
    pub(crate) const UTC: Zone = Zone { changes: Vec::new(), first: None, settled: true };

    pub(crate) fn local() -> Self {
        let file = match std::env::var("TZ") {
            Ok(name) => PathBuf::from("/usr/share/zoneinfo").join(name.trim_start_matches(':')),
            Err(_) => PathBuf::from("/etc/localtime"),
        };
        std::fs::read(file).ok().and_then(|bytes| Zone::parse(&bytes)).unwrap_or(Zone::UTC)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (counts, _) = header(bytes)?;
        // Version 1 data come first, with 32-bit times; everybody skips them.
        let bytes = bytes.get(44 + data_len(&counts, 4)..)?;
        let (counts, version) = header(bytes)?;
        if version < b'2' {
            return None;
        }
        let [_, _, _, times, types, _] = counts;
        let data = bytes.get(44..)?;
        let offset = |kind: usize| -> Option<i32> {
            let at = times * 9 + kind * 6;
            (kind < types).then(|| data.get(at..at + 4)?.try_into().ok().map(i32::from_be_bytes)).flatten()
        };
        let change = |n: usize| -> Option<(i64, i32)> {
            let second = i64::from_be_bytes(data.get(n * 8..n * 8 + 8)?.try_into().ok()?);
            Some((second, offset(usize::from(*data.get(times * 8 + n)?))?))
        };
        let changes = (0..times).map(change).collect::<Option<Vec<_>>>()?;
        // The rule behind the data names changes in a year only if it has a comma.
        let settled = !data.get(data_len(&counts, 8)..)?.contains(&b',');
        Some(Zone { changes, first: offset(0), settled })
    }

    /// Seconds east of UTC; `None` where only UTC can be shown.
    fn offset(&self, time: Time) -> Option<i64> {
        let after = self.changes.partition_point(|(from, _)| *from <= time.seconds());
        if after == self.changes.len() && !self.settled {
            return None;
        }
        let offset = if after == 0 { self.first } else { Some(self.changes[after - 1].1) };
        offset.map(i64::from)
    }

    /// `2026-01-31 14:02:11+01:00`
    pub(crate) fn text(&self, time: Time) -> String {
        let (date, clock, offset) = self.split(time);
        format!("{date} {clock}{offset}")
    }

    /// `2026-01-31`, `14:02:11` and `+01:00`, or `Z` for UTC.
    pub(crate) fn split(&self, time: Time) -> (String, String, String) {
        let offset = self.offset(time);
        let (year, month, day, hour, minute, second) = civil(time.seconds() + offset.unwrap_or(0));
        let zone = offset.map_or_else(
            || "Z".to_owned(),
            |offset| {
                let sign = if offset < 0 { '-' } else { '+' };
                format!("{sign}{:02}:{:02}", offset.abs() / 3600, offset.abs() / 60 % 60)
            },
        );
        (format!("{year:04}-{month:02}-{day:02}"), format!("{hour:02}:{minute:02}:{second:02}"), zone)
    }
}

/// The six counts of a header (isut, isstd, leap, time, type, char) and the version.
fn header(bytes: &[u8]) -> Option<([usize; 6], u8)> {
    let rest = bytes.strip_prefix(b"TZif")?;
    let mut counts = [0; 6];
    for (count, field) in counts.iter_mut().zip(rest.get(16..40)?.chunks_exact(4)) {
        *count = usize::try_from(u32::from_be_bytes(field.try_into().ok()?)).ok()?;
    }
    // Real files have some hundreds of changes; nothing is multiplied that could overflow.
    counts.iter().all(|count| *count < 100_000).then_some((counts, rest[0]))
}

fn data_len([isut, isstd, leap, times, types, chars]: &[usize; 6], width: usize) -> usize {
    times * (width + 1) + types * 6 + chars + leap * (width + 4) + isstd + isut
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A zone file with one winter and one summer time.
    fn file(rule: &str) -> Vec<u8> {
        let mut file = Vec::new();
        for version in 0..2 {
            file.extend(b"TZif2");
            file.extend([0; 15]);
            let times = if version == 0 { 0 } else { 2 };
            [0, 0, 0, times, 2, 4].iter().for_each(|count: &u32| file.extend(count.to_be_bytes()));
            if version == 1 {
                [1_711_846_800_i64, 1_729_990_800]
                    .iter()
                    .for_each(|second| file.extend(second.to_be_bytes()));
                file.extend([1, 0]);
            }
            file.extend([0, 0, 0x0e, 0x10, 0, 0, 0, 0, 0x1c, 0x20, 1, 0]);
            file.extend(b"CET\0");
        }
        file.extend(format!("\n{rule}\n").bytes());
        file
    }

    fn check(rule: &str, time: &str, expect: &str) {
        assert_eq!(Zone::parse(&file(rule)).unwrap().text(time.parse().unwrap()), expect);
    }

    #[test]
    fn times_follow_the_zone() {
        check("CET-1", "2024-01-31T23:30:00Z", "2024-02-01 00:30:00+01:00");
        check("CET-1", "2024-07-01T12:00:00Z", "2024-07-01 14:00:00+02:00");
        check("CET-1", "2025-07-01T12:00:00Z", "2025-07-01 13:00:00+01:00");
    }

    #[test]
    fn behind_the_table_of_a_zone_with_rules_it_is_utc_and_says_so() {
        check("CET-1CEST,M3.5.0,M10.5.0/3", "2025-07-01T12:00:00Z", "2025-07-01 12:00:00Z");
        check("CET-1CEST,M3.5.0,M10.5.0/3", "2024-07-01T12:00:00Z", "2024-07-01 14:00:00+02:00");
    }

    #[test]
    fn a_damaged_file_is_no_zone() {
        let good = file("CET-1");
        for len in 0..good.len() - 8 {
            assert!(Zone::parse(&good[..len]).is_none(), "{len}");
        }
    }
}
