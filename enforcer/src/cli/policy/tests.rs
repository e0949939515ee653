use std::os::unix::fs::PermissionsExt;

use crate::cli::tests::{enforcer, file};

const UNTIDY: &str = "agent:  bot\nversion: 1\nallow:\n- host: api.example.com   # the host\n  name: read\n  methods: [ GET ]\n";
const TIDY: &str = "version: 1\nagent: bot\n\nallow:\n  - name: read\n    host: api.example.com  # the host\n    methods: [GET]\n";

#[test]
fn fmt_looks_or_writes_and_keeps_the_mode() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), "bot.yaml", UNTIDY);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    let (code, text, _) = enforcer(&["policy", "fmt", "--check", &path]);
    assert_eq!((code, text), (3, format!("would change {path}\n1 file, 1 to change\n")));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), UNTIDY);
    let (code, text, _) = enforcer(&["policy", "fmt", &path]);
    assert_eq!((code, text), (0, format!("changed {path}\n1 file, 1 changed\n")));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), TIDY);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(enforcer(&["policy", "fmt", "--check", &path]).0, 0);
    // Nothing else is left in the folder, and what cannot be read is left alone.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let bad = file(folder.path(), "bad.yaml", "a: [");
    assert_eq!(enforcer(&["policy", "fmt", &bad]).0, 3);
    assert_eq!(std::fs::read_to_string(&bad).unwrap(), "a: [");
}

#[test]
fn the_schema_is_one_json_document() {
    let (code, text, _) = enforcer(&["policy", "schema"]);
    let schema: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(code, 0);
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert!(schema["properties"]["allow"]["items"]["properties"]["rate"].is_object());
}
