use super::{ImportError, import};

/// In the manner of real documents: variables, tags, names of all kinds, a segment with text beside its parameter.
const SPEC: &str = r##"
openapi: 3.0.3
info: { title: Widgets, version: "2.1" }
servers:
  - url: https://{region}.api.example.com/v1/
    variables: { region: { default: eu } }
paths:
  /widgets:
    get: { operationId: listWidgets, summary: List widgets, tags: [widgets] }
    post: { operationId: widgets/create, summary: "Make a \"widget\"", tags: [widgets] }
  /widgets/{widget-id}:
    parameters: [{ name: widget-id, in: path }]
    delete: { operationId: read, tags: [widgets] }
  /widgets/{id}:publish:
    post: { summary: Publish }
  /api-keys:
    post: { operationId: create_api_key, tags: [admin] }
  "/search?q={q}":
    get: { operationId: search }
  /shared: { $ref: "#/components/pathItems/shared" }
components:
  pathItems:
    shared:
      put: { operationId: putShared, description: "First line.\nSecond." }
"##;

#[test]
fn an_openapi_document_becomes_a_catalogue_that_loads() {
    let imported = import("widgets", SPEC, None).unwrap_or_else(|error| panic!("{error}"));
    let expected = r#"version: 1
service: widgets
about: "Widgets 2.1, from its OpenAPI document"
hosts:
  api: "eu.api.example.com"
actions:
  put-shared:
    kind: write
    about: "First line."
    requests: "PUT /v1/shared"
  post-widgets-id-publish:
    kind: write
    about: "Publish"
    requests: "POST /v1/widgets/{id}"
  # admin
  create-api-key:
    kind: write
    about: "POST /api-keys"
    mints_credentials: may make credentials, by its name
    requests: "POST /v1/api-keys"
  # widgets
  list-widgets:
    kind: read
    about: "List widgets"
    requests: "GET /v1/widgets"
  widgets-create:
    kind: write
    about: "Make a \"widget\""
    requests: "POST /v1/widgets"
  read-request:
    kind: delete
    about: "DELETE /widgets/{widget-id}"
    requests: "DELETE /v1/widgets/{widget_id}"
"#;
    assert_eq!(imported.text, expected);
    assert_eq!(imported.actions, 6);
    assert_eq!(
        imported.notes,
        [
            "left out: GET /search?q={q}: it holds a query or a fragment, and rules match the path alone",
            "matched whole, though the document has text beside a parameter in one segment: POST /widgets/{id}:publish",
        ]
    );
    let other = import("widgets", SPEC, Some("widgets.internal")).unwrap();
    assert!(other.text.contains("api: \"widgets.internal\""));
}

#[test]
fn json_is_read_as_yaml_is() {
    let json = r#"{"openapi":"3.1.0","paths":{"/a":{"get":{"operationId":"getA"}}}}"#;
    let imported = import("a", json, Some("a.example")).unwrap();
    assert!(imported.text.contains("  get-a:\n"), "{}", imported.text);
}

#[test]
fn what_is_no_openapi_3_document_says_so() {
    let told = |text: &str| match import("a", text, None) {
        Ok(imported) => panic!("{}", imported.text),
        Err(error) => error.to_string(),
    };
    for (text, expected) in [
        ("swagger: \"2.0\"\npaths: {}\n", "Swagger 2"),
        ("a: b\n", "it has no `openapi: 3.…`"),
        ("openapi: 3.0.0\n", "it has no `paths`"),
        ("{\"openapi\": \"3.0.0\"", "neither JSON nor YAML"),
        ("a: [1\n", "neither JSON nor YAML"),
        ("openapi: 3.0.0\npaths: { /a: { get: {} } }\n", "name it with `--host`"),
        ("openapi: 3.0.0\nservers: [{ url: https://a.example }]\npaths: {}\n", "no operation"),
        ("openapi: 3.0.0\nservers: [{ url: \"https://a b\" }]\npaths: { /a: { get: {} } }\n", "no catalogue"),
    ] {
        assert!(told(text).contains(expected), "{text}: {}", told(text));
    }
    assert!(matches!(import("Bad Name", SPEC, None), Err(ImportError::Service(_))));
}

#[test]
fn depth_aliases_and_size_have_bounds() {
    let deep = format!("{{\"openapi\":\"3.0.0\",\"paths\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(matches!(import("a", &deep, None), Err(ImportError::Unreadable(_))));
    let mut bomb = String::from("openapi: 3.0.0\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for n in 1..12 {
        let inner: Vec<String> = (0..10).map(|_| format!("*a{}", n - 1)).collect();
        bomb.push_str(&format!("a{n}: &a{n} [{}]\n", inner.join(", ")));
    }
    assert!(matches!(import("a", &bomb, None), Err(ImportError::Unreadable(_))));
    let paths: Vec<String> = (0..10_001).map(|n| format!("\"/p{n}\":{{\"get\":{{}}}}")).collect();
    let many = format!("{{\"openapi\":\"3.0.0\",\"paths\":{{{}}}}}", paths.join(","));
    assert!(matches!(import("a", &many, Some("a.example")), Err(ImportError::TooMany(_))));
}
