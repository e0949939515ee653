//! Decimal numbers compared exactly.
//!
//! Floating point would call 9007199254740993 and 9007199254740992 equal, and a server that counts
//! money would not.

use std::cmp::Ordering;
use std::fmt;

/// Beyond this many significant digits nobody counts; such a number cannot be judged.
const MAX_DIGITS: usize = 64;
/// Beyond, most servers, which read numbers as 64-bit floating point, find infinity, zero or an error.
const MAX_EXPONENT: i64 = 308;

/// `0.DIGITS × 10^EXPONENT`, with neither leading nor trailing zeros; zero has no digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Number {
    negative: bool,
    digits: Box<str>,
    exponent: i64,
}

impl Number {
    /// As JSON writes numbers (RFC 8259, 6). `None`: it is none, or too large or precise to judge.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = match rest.find(['e', 'E']) {
            Some(at) => (rest.get(..at)?, exponent(rest.get(at + 1..)?)?),
            None => (rest, 0),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((_, "")) => return None,
            Some(parts) => parts,
            None => (mantissa, ""),
        };
        let numeric = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty()
            || !numeric(whole)
            || !numeric(fraction)
            || (whole.len() > 1 && whole.starts_with('0'))
        {
            return None;
        }
        let all = format!("{whole}{fraction}");
        let significant = all.trim_start_matches('0');
        let leading = i64::try_from(all.len() - significant.len()).ok()?;
        let digits = significant.trim_end_matches('0');
        if digits.is_empty() {
            return Some(Number { negative: false, digits: "".into(), exponent: 0 });
        }
        let exponent = exponent.checked_add(i64::try_from(whole.len()).ok()?)?.checked_sub(leading)?;
        if digits.len() > MAX_DIGITS || exponent.abs() > MAX_EXPONENT {
            return None;
        }
        Some(Number { negative, digits: digits.into(), exponent })
    }

    /// In a place without types (a query, a form, a header): digits and a point. Servers read more
    /// forms, each its own.
    pub(crate) fn plain(text: &str) -> Option<Self> {
        if text.contains(['e', 'E']) { None } else { Number::parse(text) }
    }

    /// May some server read this text as a number equal to this one?
    pub(crate) fn may_be(&self, text: &str) -> bool {
        let own = format!("{}0.{}e{}", if self.negative { "-" } else { "" }, self.digits, self.exponent);
        match (own.parse::<f64>(), text.trim().replace('_', "").parse::<f64>()) {
            (Ok(own), Ok(other)) => own == other,
            _ => false,
        }
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        let sign = |n: &Number| match (n.digits.is_empty(), n.negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        };
        let size = (self.exponent, &self.digits).cmp(&(other.exponent, &other.digits));
        match sign(self).cmp(&sign(other)) {
            Ordering::Equal if sign(self) < 0 => size.reverse(),
            Ordering::Equal if sign(self) == 0 => Ordering::Equal,
            Ordering::Equal => size,
            unequal => unequal,
        }
    }
}

/// As people write it, without an exponent.
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.negative { "-" } else { "" };
        let places = i64::try_from(self.digits.len()).unwrap_or(i64::MAX);
        let zeros = |count: i64| "0".repeat(usize::try_from(count).unwrap_or(0));
        let (digits, exponent) = (&self.digits, self.exponent);
        if digits.is_empty() {
            f.write_str("0")
        } else if exponent >= places {
            write!(f, "{sign}{digits}{}", zeros(exponent - places))
        } else if exponent <= 0 {
            write!(f, "{sign}0.{}{digits}", zeros(-exponent))
        } else {
            let (whole, fraction) = digits.split_at(usize::try_from(exponent).unwrap_or(0));
            write!(f, "{sign}{whole}.{fraction}")
        }
    }
}

fn exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let size: i64 = digits.parse().ok()?;
    Some(if text.starts_with('-') { -size } else { size })
}

#[cfg(test)]
mod tests {
    use super::Number;

    #[test]
    fn numbers_compare_exactly() {
        let ascending = [
            "-1e3",
            "-999.5",
            "-1",
            "-0.5",
            "0",
            "1e-3",
            "0.01",
            "0.1",
            "1",
            "1.0000000000000000000000001",
            "9",
            "10",
            "5000",
            "5000.000000000000000000001",
            "9007199254740992",
            "9007199254740993",
            "1e300",
        ];
        for (n, small) in ascending.iter().enumerate() {
            for (m, large) in ascending.iter().enumerate() {
                let (a, b) = (Number::parse(small).unwrap(), Number::parse(large).unwrap());
                assert_eq!(a.cmp(&b), n.cmp(&m), "{small} {large}");
            }
        }
        for (a, b) in [("1", "1.0"), ("100", "1e2"), ("0.1", "1E-1"), ("-0", "0"), ("0e5", "0.00")] {
            assert_eq!(Number::parse(a), Number::parse(b), "{a} {b}");
        }
        for bad in [
            "",
            "-",
            "+1",
            "01",
            "1.",
            ".5",
            "1e",
            "1e+",
            "0x1",
            "1_0",
            "NaN",
            "１",
            " 1",
            "1e999",
            "1e99999999999999999999",
        ] {
            assert_eq!(Number::parse(bad), None, "{bad}");
        }
        assert!(Number::plain("5e3").is_none());
        for (text, shown) in
            [("5e3", "5000"), ("0.050", "0.05"), ("-12.50", "-12.5"), ("0", "0"), ("16000", "16000")]
        {
            assert_eq!(Number::parse(text).unwrap().to_string(), shown);
        }
        let five = Number::parse("5").unwrap();
        assert!(
            five.may_be("05")
                && five.may_be("+5")
                && five.may_be("5e0")
                && five.may_be(" 5 ")
                && !five.may_be("6")
        );
    }
}
