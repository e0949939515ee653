use std::sync::atomic::Ordering;

use enforcer_policy::{Pattern, PolicySet, Source};
use http::HeaderValue;
use proptest::prelude::*;

use super::*;

/// The `response:` of a rule, as the language reads it.
fn rules(response: &str) -> Arc<ResponseRules> {
    let text =
        format!("version: 1\nagent: a\nallow:\n  - {{ name: r, host: a.test, response: {response} }}\n");
    let compiled = PolicySet::compile(&[Source { name: "p".into(), text }]).unwrap_or_else(|e| panic!("{e}"));
    compiled.set.agent("a").unwrap().rules()[0].response.clone().unwrap()
}

fn content(rules: &Arc<ResponseRules>, media_type: &str) -> Result<Option<Content>, ScrubError> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_str(media_type).unwrap());
    Content::of(rules, &headers, &Arc::default())
}

/// In pieces of this length.
fn read(content: &mut Content, text: &[u8], piece: usize) -> Result<String, ScrubError> {
    let mut out = Vec::new();
    for chunk in text.chunks(piece.max(1)) {
        out.extend_from_slice(&content.feed(chunk)?);
    }
    out.extend_from_slice(&content.finish()?);
    Ok(String::from_utf8(out).unwrap())
}

fn json(response: &str, text: &str) -> Result<String, ScrubError> {
    let rules = rules(response);
    let whole = read(&mut content(&rules, "application/json").unwrap().unwrap(), text.as_bytes(), text.len());
    for piece in 1..text.len().min(40) {
        let pieces = read(&mut content(&rules, "application/json").unwrap().unwrap(), text.as_bytes(), piece);
        assert_eq!(pieces.as_ref().ok(), whole.as_ref().ok(), "in pieces of {piece}");
    }
    whole
}

#[test]
fn named_fields_are_replaced_at_any_depth_whatever_they_hold() {
    let fields = "{ redact: [{ fields: [email, ssn] }] }";
    for (text, expected) in [
        (r#"{"id": 1, "email": "a@b.c"}"#, r#"{"id": 1, "email": "[redacted]"}"#),
        (
            r#"{"email":{"work":"a","home":["b"]},"x":[{"email":null}]}"#,
            r#"{"email":"[redacted]","x":[{"email":"[redacted]"}]}"#,
        ),
        (r#"[{"EMail" : 17 , "y":true}]"#, r#"[{"EMail" : "[redacted]" , "y":true}]"#),
        // Spelt with escapes, and twice.
        (
            r#"{"\u0065mail":"a","email":"b","emails":"c"}"#,
            r#"{"\u0065mail":"[redacted]","email":"[redacted]","emails":"c"}"#,
        ),
        (r#"{"x":"email","y":["ssn"]}"#, r#"{"x":"email","y":["ssn"]}"#),
        (r#"{"ssn":"a \" } , \\"}"#, r#"{"ssn":"[redacted]"}"#),
        (
            r#"{"email":-1.5e+3,"ssn":[[],{}],"n":-0.1}"#,
            r#"{"email":"[redacted]","ssn":"[redacted]","n":-0.1}"#,
        ),
        ("\"email\"", "\"email\""),
        ("12", "12"),
        ("", ""),
    ] {
        assert_eq!(json(fields, text).unwrap(), expected, "{text}");
    }
}

#[test]
fn paths_lead_to_one_place_only() {
    for (path, text, expected) in [
        (
            "$.notes[*].author.email",
            r#"{"notes":[{"author":{"email":1,"name":2}}],"author":{"email":3}}"#,
            r#"{"notes":[{"author":{"email":"[redacted]","name":2}}],"author":{"email":3}}"#,
        ),
        ("$.a[1]", r#"{"a":[1,2,3],"b":[1,2]}"#, r#"{"a":[1,"[redacted]",3],"b":[1,2]}"#),
        ("$[*].x", r#"[{"x":1},{"y":{"x":2}},[0]]"#, r#"[{"x":"[redacted]"},{"y":{"x":2}},[0]]"#),
        ("$.*.x", r#"{"k":{"x":1},"x":2}"#, r#"{"k":{"x":"[redacted]"},"x":2}"#),
        (r#"$[\"odd key\"]"#, r#"{"odd key":1}"#, r#"{"odd key":"[redacted]"}"#),
        ("$.a.b", r#"{"a":{"b":{"c":[1,{"d":2}]},"e":1}}"#, r#"{"a":{"b":"[redacted]","e":1}}"#),
        // Paths keep case, fields do not.
        ("$.A", r#"{"a":1,"A":2}"#, r#"{"a":1,"A":"[redacted]"}"#),
    ] {
        let response = format!("{{ redact: [{{ json: \"{path}\" }}] }}");
        assert_eq!(json(&response, text).unwrap(), expected, "{path}");
    }
}

#[test]
fn what_another_reader_could_take_for_json_ends_the_answer() {
    let fields = "{ redact: [{ fields: [email] }] }";
    for text in [
        "{email:\"a\"}",
        "{'email':\"a\"}",
        "{\"email\":\"a\",}",
        "{\"x\":1 \"email\":2}",
        "[1,,2]",
        "[1 2]",
        "// note\n{\"email\":1}",
        "{\"a\":1}{\"email\":2}",
        "{\"a\":1} x",
        "\u{feff}{\"email\":1}",
        "{\"a\":tru}",
        "{\"a\":NaN}",
        "{\"a\":01}",
        "{\"a\":+1}",
        "{\"a\":1.}",
        "{\"a\":\"\\x41\"}",
        "{\"a\":\"\n\"}",
        "{\"\\ud800\":1}",
        "{\"a\":1",
        "[",
        "\"a",
        "{\"a\"}",
        "]",
        "{]",
        "[}",
        "{\"a\":1]",
    ] {
        assert!(matches!(json(fields, text), Err(ScrubError::Json { .. })), "{text}");
    }
    let deep = "[".repeat(200);
    assert!(json(fields, &deep).is_err());
    let latin1 = b"{\"caf\xe9\":1}";
    let mut reader = content(&rules(fields), "application/json").unwrap().unwrap();
    assert!(read(&mut reader, latin1, 100).is_err());
    let long = format!("{{\"{}\":1}}", "k".repeat(5000));
    assert!(json(fields, &long).is_err());
}

#[test]
fn lines_of_json_are_several_values() {
    let rules = rules("{ redact: [{ fields: [email] }, { json: \"$.a[0]\" }] }");
    let text = b"{\"email\":1}\n{\"a\":[1,2]}\n\n{\"email\":2}";
    let read = |media_type: &str| read(&mut content(&rules, media_type).unwrap().unwrap(), text, 3);
    let expected = "{\"email\":\"[redacted]\"}\n{\"a\":[\"[redacted]\",2]}\n\n{\"email\":\"[redacted]\"}";
    assert_eq!(read("application/x-ndjson").unwrap(), expected);
    assert!(read("application/json").is_err());
}

#[test]
fn only_types_that_can_be_read_with_certainty_are_read() {
    let fields = rules("{ redact: [{ fields: [email] }] }");
    let patterns = rules("{ redact: [{ pattern: email }] }");
    let headers = rules("{ redact: [{ headers: [x-user] }] }");
    let is_read =
        |rules: &Arc<ResponseRules>, media_type: &str| content(rules, media_type).ok().map(|c| c.is_some());
    for media_type in ["application/json", "Application/JSON; charset=UTF-8", "application/hal+json"] {
        assert_eq!(is_read(&fields, media_type), Some(true), "{media_type}");
        assert_eq!(is_read(&patterns, media_type), Some(true), "{media_type}");
    }
    for media_type in ["text/html", "text/event-stream", "application/xml"] {
        assert_eq!(is_read(&fields, media_type), None, "{media_type}");
        assert_eq!(is_read(&patterns, media_type), Some(true), "{media_type}");
    }
    for media_type in [
        "application/octet-stream",
        "image/png",
        "application/json; charset=utf-16",
        "multipart/mixed",
        "json",
    ] {
        assert_eq!(is_read(&fields, media_type), None, "{media_type}");
        assert_eq!(is_read(&patterns, media_type), None, "{media_type}");
        assert_eq!(is_read(&headers, media_type), Some(false), "{media_type}");
    }
    assert!(Content::of(&fields, &HeaderMap::new(), &Arc::default()).is_err(), "no type is no JSON");
}

#[test]
fn addresses_and_cards_are_found_as_they_are_written() {
    let both = [Pattern::Email, Pattern::CardNumber];
    let redacted = |text: &str| {
        pattern::redacted(text.as_bytes(), &both).map(|(text, _)| String::from_utf8(text).unwrap())
    };
    for (text, expected) in [
        ("write to ann@example.com.", "write to [redacted]."),
        ("<a href=\"mailto:ann.b+c@mail.example.co.uk\">", "<a href=\"mailto:[redacted]\">"),
        ("a@b.c, d@e.f", "[redacted], [redacted]"),
        ("jürgen@bücher.example", "[redacted]"),
        ("card 4111 1111 1111 1111.", "card [redacted]."),
        ("4111-1111-1111-1111", "[redacted]"),
        ("5500005555555559", "[redacted]"),
        ("15 4111 1111 1111 1111 7", "15 [redacted] 7"),
        ("378282246310005", "[redacted]"),
    ] {
        assert_eq!(redacted(text).as_deref(), Some(expected), "{text}");
    }
    for text in [
        "@handle",
        "x@localhost",
        "a @ b.c",
        "4111 1111 1111 1112",
        "12345678901234567890123",
        "2026-01-05 10:00:00",
        "v1@2",
    ] {
        assert_eq!(redacted(text), None, "{text}");
    }
}

#[test]
fn patterns_are_searched_for_in_strings_keys_and_numbers() {
    let response = "{ redact: [{ pattern: [email, card_number] }] }";
    for (text, expected) in [
        (r#"{"a":"mail ann@example.com now"}"#, r#"{"a":"mail [redacted] now"}"#),
        (r#"{"a":"ann\u0040example.com \"x\""}"#, r#"{"a":"[redacted] \"x\""}"#),
        (r#"{"ann@example.com":[4111111111111111,12]}"#, r#"{"[redacted]":["[redacted]",12]}"#),
        (r#"{"a":"\u00e9","b":[]}"#, r#"{"a":"\u00e9","b":[]}"#),
    ] {
        assert_eq!(json(response, text).unwrap(), expected, "{text}");
    }
    let long = format!("[\"{}\"]", "x".repeat(300 * 1024));
    assert!(json(response, &long).is_err(), "a string too long to be searched");
}

#[test]
fn matches_without_end_do_not_fill_the_memory() {
    let rules = rules("{ redact: [{ pattern: email }] }");
    let Ok(Some(Content::Text(mut text))) = content(&rules, "text/plain") else { panic!("text is read") };
    let mut passed = 0;
    for _ in 0..200 {
        passed += text.feed(&b"a@b.c".repeat(1000)).len();
    }
    assert!(passed > 0 && text.finish().len() < 100 * 1024);
}

#[test]
fn what_was_taken_out_is_counted() {
    let rules = rules("{ redact: [{ fields: [email], pattern: email }, { headers: [X-User, set-cookie] }] }");
    let count = Arc::new(AtomicU32::new(0));
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("x-user", HeaderValue::from_static("ann"));
    super::headers(&rules, &mut headers, &count);
    assert!(!headers.contains_key("x-user"));
    let mut content = Content::of(&rules, &headers, &count).unwrap().unwrap();
    read(&mut content, br#"{"email":"a@b.c","x":"d@e.f g@h.i"}"#, 4).unwrap();
    assert_eq!(count.load(Ordering::Relaxed), 4);
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        "[a-z\"\\\\é\u{1}-\u{7f}]{0,12}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        let key = prop_oneof![Just("email".to_owned()), Just("Ssn".to_owned()), "[a-zé\"\\\\]{0,6}"];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            proptest::collection::vec((key, inner), 0..5)
                .prop_map(|entries| serde_json::Value::Object(entries.into_iter().collect())),
        ]
    })
}

/// What the stream has to come to, said in another way.
fn naive(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Array(items) => items.into_iter().map(naive).collect(),
        Value::Object(entries) => entries
            .into_iter()
            .map(|(key, value)| {
                let named = ["email", "ssn"].contains(&key.to_lowercase().as_str());
                (key, if named { INSTEAD.into() } else { naive(value) })
            })
            .collect(),
        other => other,
    }
}

proptest! {
    #[test]
    fn any_json_in_any_pieces_is_redacted_as_a_tree_would_be(value in any_json(), pretty in any::<bool>(), piece in 1usize..30) {
        let text = if pretty { serde_json::to_string_pretty(&value).unwrap() } else { value.to_string() };
        let rules = rules("{ redact: [{ fields: [email, ssn] }] }");
        let read = read(&mut content(&rules, "application/json").unwrap().unwrap(), text.as_bytes(), piece).unwrap();
        prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&read).unwrap(), naive(value));
    }

    #[test]
    fn a_text_in_any_pieces_is_redacted_as_a_whole(
        words in proptest::collection::vec(prop_oneof!["[a-z@. ]{0,9}", Just("ann@example.com".to_owned()), Just(" 4111 1111 1111 1111 ".to_owned())], 0..200),
        piece in 1usize..500,
    ) {
        let text = words.concat();
        let rules = rules("{ redact: [{ pattern: [email, card_number] }] }");
        let read = read(&mut content(&rules, "text/plain").unwrap().unwrap(), text.as_bytes(), piece).unwrap();
        let whole = pattern::redacted(text.as_bytes(), &rules.patterns)
            .map_or(text.clone(), |(text, _)| String::from_utf8(text).unwrap());
        prop_assert_eq!(read, whole);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), piece in 1usize..9) {
        let rules = rules("{ redact: [{ fields: [a], pattern: [email, card_number] }, { json: \"$[*]\" }] }");
        let mut content = content(&rules, "application/json").unwrap().unwrap();
        for chunk in bytes.chunks(piece) {
            if content.feed(chunk).is_err() {
                return Ok(());
            }
        }
        drop(content.finish());
    }
}
