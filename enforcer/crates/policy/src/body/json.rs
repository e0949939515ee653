//! JSON as a tree, read more strictly than servers do.
//!
//! Written by hand for what libraries do not offer together: duplicate keys are an error (servers
//! disagree which one counts), numbers keep their text (a float would lose digits), and depth and the
//! number of values are bounded.

use std::collections::HashSet;

/// Deeper nesting is met nowhere but in attacks.
const MAX_DEPTH: usize = 64;
/// Bounds the memory of a tree: 32 bytes for each value.
const MAX_VALUES: usize = 500_000;

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    /// As it was written; always in JSON's form.
    Number(Box<str>),
    Text(Box<str>),
    List(Vec<Json>),
    Map(Vec<(Box<str>, Json)>),
}

/// What an object has under a key.
pub(crate) enum Entry<'a> {
    Missing,
    One(&'a Json),
    /// Servers would disagree: a key that differs in case alone is the same key to some.
    Unclear,
}

impl Json {
    /// The one value in these bytes, or why there is none.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Json, String> {
        let Ok(text) = std::str::from_utf8(bytes) else { return Err("it is not UTF-8".into()) };
        let mut parser = Parser { text, at: 0, values: 0 };
        parser.space();
        let value = parser.value(0)?;
        parser.space();
        if parser.at < text.len() {
            return Err(parser.wrong("text follows the value"));
        }
        Ok(value)
    }

    pub(crate) fn get(&self, key: &str) -> Entry<'_> {
        let Json::Map(entries) = self else { return Entry::Missing };
        let mut found = Entry::Missing;
        for (own, value) in entries {
            if **own == *key {
                if matches!(found, Entry::Missing) {
                    found = Entry::One(value);
                }
            } else if same_folded(own, key) {
                return Entry::Unclear;
            }
        }
        found
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Json::Text(text) => Some(text),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::List(_) | Json::Map(_) => None,
        }
    }
}

/// As Go, .NET and others compare keys: `ſ` is an `s`, the Kelvin sign a `k`.
fn same_folded(a: &str, b: &str) -> bool {
    let fold = |text: &str| {
        text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect::<String>()
    };
    if a.is_ascii() && b.is_ascii() { a.eq_ignore_ascii_case(b) } else { fold(a) == fold(b) }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    values: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn wrong(&self, what: &str) -> String {
        format!("{what} (byte {})", self.at)
    }

    fn take(&mut self, byte: u8, what: &str) -> Result<(), String> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            Err(self.wrong(what))
        }
    }

    fn value(&mut self, depth: usize) -> Result<Json, String> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(format!("it has more than {MAX_VALUES} values"));
        }
        if depth > MAX_DEPTH {
            return Err(format!("it is nested more than {MAX_DEPTH} deep"));
        }
        match self.peek() {
            Some(b'{') => self.map(depth),
            Some(b'[') => self.list(depth),
            Some(b'"') => self.string().map(Json::Text),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Json::Bool(true)),
            Some(b'f') => self.word("false", Json::Bool(false)),
            Some(b'n') => self.word("null", Json::Null),
            _ => Err(self.wrong("a value is missing")),
        }
    }

    fn word(&mut self, word: &str, value: Json) -> Result<Json, String> {
        if self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            self.at += word.len();
            Ok(value)
        } else {
            Err(self.wrong("this is no value"))
        }
    }

    fn list(&mut self, depth: usize) -> Result<Json, String> {
        self.at += 1;
        let mut items = Vec::new();
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Json::List(items));
        }
        loop {
            self.space();
            items.push(self.value(depth + 1)?);
            self.space();
            if self.peek() == Some(b']') {
                self.at += 1;
                return Ok(Json::List(items));
            }
            self.take(b',', "a `,` or `]` is missing")?;
        }
    }

    fn map(&mut self, depth: usize) -> Result<Json, String> {
        self.at += 1;
        let mut entries: Vec<(Box<str>, Json)> = Vec::new();
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Json::Map(entries));
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return Err(self.wrong("a key is missing"));
            }
            let key = self.string()?;
            self.space();
            self.take(b':', "a `:` is missing")?;
            self.space();
            entries.push((key, self.value(depth + 1)?));
            self.space();
            if self.peek() == Some(b'}') {
                self.at += 1;
                break;
            }
            self.take(b',', "a `,` or `}` is missing")?;
        }
        let mut keys = HashSet::with_capacity(entries.len());
        if entries.iter().all(|(key, _)| keys.insert(key)) {
            Ok(Json::Map(entries))
        } else {
            Err(self.wrong("a key is written twice in one object"))
        }
    }

    fn number(&mut self) -> Result<Json, String> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(Json::Number(self.text.get(start..self.at).unwrap_or_default().into()))
    }

    fn digits(&mut self) -> Result<(), String> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(self.wrong("a digit is missing")) }
    }

    fn string(&mut self) -> Result<Box<str>, String> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let start = self.at;
            while self.peek().is_some_and(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
                self.at += 1;
            }
            // Both ends stand before ASCII bytes, so between characters.
            out.push_str(self.text.get(start..self.at).unwrap_or_default());
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out.into());
                }
                Some(b'\\') => {
                    self.at += 1;
                    out.push(self.escape()?);
                }
                Some(_) => return Err(self.wrong("a text holds a control character")),
                None => return Err(self.wrong("a text does not end")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, String> {
        let byte = self.peek();
        self.at += 1;
        Ok(match byte {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let unit = self.unit()?;
                let code = if (0xd800..0xdc00).contains(&unit) {
                    self.take(b'\\', "half of a surrogate pair")?;
                    self.take(b'u', "half of a surrogate pair")?;
                    let low = self.unit()?;
                    if !(0xdc00..0xe000).contains(&low) {
                        return Err(self.wrong("half of a surrogate pair"));
                    }
                    0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00)
                } else {
                    unit
                };
                char::from_u32(code).ok_or_else(|| self.wrong("half of a surrogate pair"))?
            }
            _ => return Err(self.wrong("this is no escape")),
        })
    }

    fn unit(&mut self) -> Result<u32, String> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4);
        let value = digits
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .ok_or_else(|| self.wrong("four hex digits are missing"))?;
        self.at += 4;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Entry, Json};

    fn same(own: &Json, theirs: &serde_json::Value) -> bool {
        match (own, theirs) {
            (Json::Null, serde_json::Value::Null) => true,
            (Json::Bool(a), serde_json::Value::Bool(b)) => a == b,
            (Json::Number(a), serde_json::Value::Number(b)) => a.parse::<f64>().ok() == b.as_f64(),
            (Json::Text(a), serde_json::Value::String(b)) => **a == **b,
            (Json::List(a), serde_json::Value::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
            }
            (Json::Map(a), serde_json::Value::Object(b)) => {
                a.len() == b.len() && a.iter().all(|(key, a)| b.get(&**key).is_some_and(|b| same(a, b)))
            }
            _ => false,
        }
    }

    #[test]
    fn what_servers_could_read_in_two_ways_is_refused() {
        for bad in [
            "",
            " ",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "{a:1}",
            "{'a':1}",
            "[1 2]",
            "01",
            "1.",
            "+1",
            ".5",
            "1e",
            "nul",
            "NaN",
            "Infinity",
            "\"a",
            "\"\u{1}\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\ud800\"",
            "\"\\ud800\\u0041\"",
            "\"\\udc00\"",
            "1 2",
            "{} {}",
            "\u{feff}{}",
            "// x\n{}",
            "{\"a\":1,\"a\":2}",
            "{\"a\":1,\"\\u0061\":2}",
            "[{\"a\":1,\"a\":1}]",
        ] {
            assert!(Json::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Json::parse(b"\"\xff\"").is_err());
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(Json::parse(nested(65).as_bytes()).is_ok() && Json::parse(nested(66).as_bytes()).is_err());
        assert!(Json::parse(format!("[{}0]", "0,".repeat(500_000)).as_bytes()).is_err());
    }

    #[test]
    fn a_key_in_another_case_makes_a_key_unclear() {
        let json = Json::parse(r#"{"base":"main","Head":1,"ba\u017fe":2,"other":3}"#.as_bytes()).unwrap();
        assert!(matches!(json.get("base"), Entry::Unclear));
        assert!(matches!(json.get("head"), Entry::Unclear));
        assert!(matches!(json.get("other"), Entry::One(_)));
        assert!(matches!(json.get("none"), Entry::Missing));
    }

    proptest! {
        #[test]
        fn it_reads_what_serde_reads(pieces in prop::collection::vec(prop::sample::select(&[
            "{", "}", "[", "]", ",", ":", "\"a\"", "\"b\\n\\u00e9\\ud83d\\ude00\"", "1", "-0.5e3", "true", "null", " ", "\"", "\\", "0", "é",
        ][..]), 0..12)) {
            let text = pieces.concat();
            match (Json::parse(text.as_bytes()), serde_json::from_str::<serde_json::Value>(&text)) {
                (Ok(own), Ok(theirs)) => prop_assert!(same(&own, &theirs), "{}", text),
                // A number may be too large for a double, which is the other's limit and not JSON's.
                (Ok(_), Err(error)) => {
                    let skipped = serde_json::from_str::<serde::de::IgnoredAny>(&text);
                    prop_assert!(skipped.is_ok(), "{} is no JSON: {}", text, error);
                }
                (Err(why), Ok(_)) => prop_assert!(why.contains("twice"), "{}: {}", text, why),
                (Err(_), Err(_)) => {}
            }
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            drop(Json::parse(&bytes));
        }
    }
}
