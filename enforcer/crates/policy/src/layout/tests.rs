use super::format;
use crate::policy::Source;

fn laid_out(text: &str) -> String {
    let once = format(&Source { name: "p.yaml".into(), text: text.into() }).unwrap_or_else(|e| panic!("{e}"));
    let twice =
        format(&Source { name: "p.yaml".into(), text: once.clone() }).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(once, twice, "laying out twice changes something");
    once
}

#[test]
fn keys_spacing_and_indentation_have_one_form() {
    let text = "\
agent:   bot
version: 1


allow:
- host: a.example
  name:   r
  methods: [ GET,HEAD ]
  paths:
  - /a
  - \"/b\"


- {host: b.example,   name: s}
limits: {max_body: 1KiB, rate: 5/min}
";
    let expected = "\
version: 1
agent: bot

allow:
  - name: r
    host: a.example
    methods: [GET, HEAD]
    paths:
      - /a
      - \"/b\"

  - { name: s, host: b.example }

limits: { rate: 5/min, max_body: 1KiB }
";
    assert_eq!(laid_out(text), expected);
}

#[test]
fn comments_stay_with_what_they_are_about() {
    let text = "\
# yaml-language-server: $schema=policy.schema.json

# who
version: 1   # always
agent: bot
credentials:
    github:                # enforcer secret set
        bearer: {secret: s, env: T}   # in a header
allow:   # what it may do
    # first
    - host: a.example     # the host
      # the name
      name: r
    # - name: not-yet
    #   host: c.example

    # second
    - name: s
      host:
        - b.example # one
        - c.example
      # at the end of s
# about limits
limits: {
  rate: 5/min, # slow
  max_body: 1KiB
}
# the end
";
    let expected = "\
# yaml-language-server: $schema=policy.schema.json

# who
version: 1   # always
agent: bot

credentials:
  github:                  # enforcer secret set
    bearer: { secret: s, env: T }     # in a header

allow:   # what it may do
  # first
  # the name
  - name: r
    host: a.example       # the host
  # - name: not-yet
  #   host: c.example

  # second
  - name: s
    host:
      - b.example   # one
      - c.example
    # at the end of s

# about limits
limits:
  rate: 5/min  # slow
  max_body: 1KiB
# the end
";
    assert_eq!(laid_out(text), expected);
}

#[test]
fn texts_over_several_lines_keep_their_value() {
    let text = "\
version: 1
agent: bot
description: >-
     a long
     text

     in parts
owner: \"two
  lines\"
allow:
  - name: r
    host: a.example
    message: |
        kept
          as it is
";
    let expected = "\
version: 1
agent: bot

description: >-
  a long
  text

  in parts

owner: \"two lines\"

allow:
  - name: r
    host: a.example
    message: |
      kept
        as it is
";
    assert_eq!(laid_out(text), expected);
}

#[test]
fn spaces_that_a_text_ends_with_are_kept_where_they_are_seen() {
    let text = "version: 1\nagent: bot\ndescription: |\n  a\n   ";
    assert_eq!(laid_out(text), "version: 1\nagent: bot\ndescription: \"a\\n \\n\"\n");
}

#[test]
fn long_collections_are_written_out() {
    let hosts: Vec<String> = (0..20).map(|n| format!("host-{n}.example.com")).collect();
    let text = format!("version: 1\nagent: bot\ndeny: [{{name: r, host: [{}]}}]\n", hosts.join(", "));
    let out = laid_out(&text);
    assert!(out.contains("  - name: r\n    host:\n      - host-0.example.com\n"), "{out}");
}

#[test]
fn what_is_not_yaml_is_refused_with_its_place() {
    for text in ["", "a: [", "a: *b", "a: 1\na: 2", "---\na: 1\n---\nb: 2\n"] {
        assert!(format(&Source { name: "p.yaml".into(), text: text.into() }).is_err(), "{text:?}");
    }
}
