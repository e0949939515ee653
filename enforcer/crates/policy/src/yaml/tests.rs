use super::{Node, Value, parse};
use crate::diagnostics::{File, Report};

fn read(text: &str) -> (Option<Node>, Vec<String>) {
    let mut report = Report::default();
    let root = parse(&File::new("f", text), &mut report);
    let found = report.findings.iter().map(|f| format!("{}:{} {}", f.line, f.column, f.message)).collect();
    (root, found)
}

#[test]
fn nodes_know_their_bytes() {
    let text = "a: [x, \"y\"]\nb:\n  c: ü\n";
    let (root, errors) = read(text);
    assert_eq!(errors, [""; 0]);
    let Value::Map(entries) = root.unwrap().value else { panic!() };
    let Value::List(items) = &entries[0].value.value else { panic!() };
    assert_eq!(text.get(items[1].span.clone()).unwrap(), "\"y\"");
    let Value::Map(inner) = &entries[1].value.value else { panic!() };
    assert_eq!(text.get(inner[0].key_span.clone()).unwrap(), "c");
    assert_eq!(text.get(inner[0].value.span.clone()).unwrap(), "ü");
}

#[test]
fn what_yaml_has_and_the_language_has_not_is_refused_with_its_place() {
    for (text, expected) in [
        ("", "0:0 the file is empty"),
        ("# only a comment\n", "0:0 the file is empty"),
        ("a: &x 1\n", "1:7 anchors (`&name`) are not part of the policy language"),
        ("a: &x 1\nb: *x\n", "2:4 aliases (`*name`) are not part of the policy language"),
        ("a: *.example.com\n", "1:4 a value that starts with `*` must be in quotes"),
        ("a: *\n", "1:4 a value that starts with `*` or `&` must be in quotes"),
        ("a: !x 1\n", "1:7 tags (`!name`) are not part of the policy language"),
        ("a: !!str 1\n", "1:10 tags (`!name`) are not part of the policy language"),
        ("a: {<<: {b: 1}}\n", "1:5 merge keys (`<<`) are not part of the policy language"),
        ("a: 1\nb: 2\na: 3\n", "3:1 the same key is written twice: a"),
        ("{a: 1, a: 2}\n", "1:8 the same key is written twice: a"),
        ("a: 1\n\"a\": 2\n", "2:1 the same key is written twice: a"),
        ("[a]: 1\n", "1:1 a key must be a single word"),
        ("a: 1\n---\nb: 1\n", "2:1 a file holds one policy, but a second document starts here"),
        ("%YAML 1.2\n---\na: 1\n", "1:1 `%` directives are not part of the policy language"),
        ("a: @x\n", "1:4 a value that starts with `@` must be in quotes"),
        ("a: `x`\n", "1:4 a value that starts with ``` must be in quotes"),
        ("a: [1\n", "1:4 a `[` is never closed"),
        ("a: {b: 1\n", "1:4 a `{` is never closed"),
        ("a: \"x\n", "1:4 a quote is never closed"),
        ("a: b: c\n", "1:5 a `:` stands where none may stand"),
        ("a:\n\t- b\n", "2:2 a tab stands where only spaces may stand"),
        ("a:\n    b: 1\n  c: 2\n", "3:3 this line is indented differently from the lines it belongs to"),
    ] {
        let (_, errors) = read(text);
        assert_eq!(errors.last().map(String::as_str), Some(expected), "{text:?} gave {errors:?}");
    }
}

#[test]
fn deep_nesting_ends_in_an_error() {
    let (_, errors) = read(&"[".repeat(100_000));
    assert_eq!(errors.len(), 1);
    let (_, errors) = read(&(0..100).map(|i| format!("{}a:\n", " ".repeat(i))).collect::<String>());
    assert_eq!(errors.len(), 1, "{errors:?}");
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "[ -~\n\tü]{0,80}") {
        drop(read(&text));
    }
}
