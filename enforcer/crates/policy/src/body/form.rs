//! `name=value` pairs, as in queries and in `application/x-www-form-urlencoded` bodies.

/// More than any honest form has.
const MAX_PAIRS: usize = 1000;

/// One name with its value, both decoded.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) name: String,
    pub(crate) value: String,
    /// The value with `+` kept, where it has one: to some servers a `+` in a query is no space.
    pub(crate) kept_plus: Option<String>,
}

/// The pairs of a canonical query. Nothing in one can be unreadable.
pub(crate) fn query(text: &str) -> impl Iterator<Item = Pair> {
    split(text).filter_map(|(name, value)| {
        let kept_plus = if value.contains('+') { decode(value, false) } else { None };
        Some(Pair { name: decode(name, true)?, value: decode(value, true)?, kept_plus })
    })
}

/// The pairs of a form, or why it is none that all servers read alike.
pub(crate) fn parse(bytes: &[u8]) -> Result<Vec<Pair>, String> {
    let Ok(text) = std::str::from_utf8(bytes) else { return Err("it is not UTF-8".into()) };
    let text = text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n')).unwrap_or(text);
    if text.starts_with(['{', '[', '"', '<']) {
        return Err("it is no form, whatever its content-type says".into());
    }
    if let Some(odd) = text.chars().find(|c| c.is_control() || *c == ' ' || *c == ';' || !c.is_ascii()) {
        return Err(format!("it has a {odd:?} that is not percent-encoded"));
    }
    let mut pairs = Vec::new();
    for (name, value) in split(text) {
        let (Some(name), Some(value)) = (decode(name, true), decode(value, true)) else {
            return Err("it has an escape that is none, or not UTF-8".into());
        };
        if names_method(&name) {
            return Err("it has a `_method` field, which changes the method on some servers".into());
        }
        pairs.push(Pair { name, value, kept_plus: None });
        if pairs.len() > MAX_PAIRS {
            return Err(format!("it has more than {MAX_PAIRS} fields"));
        }
    }
    Ok(pairs)
}

/// Is `own` the field `name` to every server (`Some(true)`), to none, or to some?
///
/// PHP and Rails read `a[]` and `a[x]` as `a`, PHP reads ` a`, `a.b` and `a b` as `a`, `a_b` and `a_b`,
/// ASP.NET does not look at case.
pub(crate) fn is_named(own: &str, name: &str) -> Option<bool> {
    if own == name {
        return Some(true);
    }
    let fold = |text: &str| {
        let text = text.trim_start().split(['[', '\0']).next().unwrap_or_default();
        text.replace([' ', '.'], "_").to_lowercase()
    };
    if fold(own) == fold(name) { None } else { Some(false) }
}

fn names_method(name: &str) -> bool {
    is_named(name, "_method") != Some(false)
}

fn split(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

fn decode(text: &str, plus: bool) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let value = digit(bytes.next())? << 4 | digit(bytes.next())?;
                out.push(u8::try_from(value).ok()?);
            }
            b'+' if plus => out.push(b' '),
            byte => out.push(byte),
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::{is_named, parse, query};

    #[test]
    fn forms_decode_once() {
        let pairs = parse(b"a=1&b=x+y%26%3D&c&=d&a=2\r\n").unwrap();
        let shown: Vec<_> = pairs.iter().map(|pair| (pair.name.as_str(), pair.value.as_str())).collect();
        assert_eq!(shown, [("a", "1"), ("b", "x y&="), ("c", ""), ("", "d"), ("a", "2")]);
        for bad in [
            &b"a=%"[..],
            b"a=%zz",
            b"a=%ff",
            b"a=\xff",
            b"a=1;b=2",
            b"a b=1",
            b"{\"a\":1}",
            b"_method=DELETE",
            b"_Method=x",
            b"_method[]=x",
            "ä=1".as_bytes(),
            b"a=1\0",
        ] {
            assert!(parse(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        let read: Vec<_> = query("a=1+2&b=%2B").map(|pair| (pair.value, pair.kept_plus)).collect();
        assert_eq!(read, [("1 2".to_owned(), Some("1+2".to_owned())), ("+".to_owned(), None)]);
    }

    #[test]
    fn twins_of_a_name_are_neither_it_nor_another() {
        for (own, expected) in [
            ("a_b", Some(true)),
            ("a.b", None),
            ("a b", None),
            (" a_b", None),
            ("A_B", None),
            ("a_b[]", None),
            ("a_b[x]", None),
            ("ab", Some(false)),
        ] {
            assert_eq!(is_named(own, "a_b"), expected, "{own}");
        }
    }
}
