//! Settings from text: what loads, and how mistakes read.

use super::*;

fn error(text: &str) -> (String, Option<String>) {
    let error = Config::parse("enforcer.yaml", text).expect_err("must not load");
    let hint = error.hint();
    (error.to_string(), hint)
}

#[test]
fn nothing_written_means_the_defaults() {
    for text in ["", "\n", "# only a comment\n", "---\n"] {
        assert_eq!(Config::parse("x", text).unwrap(), Config::default());
    }
    assert_eq!(Config::default().control_socket(), Path::new("/run/enforcer/control.sock"));
}

#[test]
fn every_key_can_be_set() {
    let config = Config::parse(
        "x",
        "run_dir: /tmp/run\nstate_dir: /tmp/state\npolicy_dir: /tmp/policies\nvault_key: /tmp/key\n\
         managed_root: a/b.slice\npins: /sys/fs/bpf/x\nids: { worker: 5, agents: 10-20 }\ngroup: ops\n\
         resolver: { servers: [192.0.2.1, '192.0.2.2:5353', '2001:db8::1', '[2001:db8::2]:54'], \
         hosts_file: /tmp/hosts, timeout_ms: 500 }\nupstream_roots: [/tmp/a.pem]\nprove: { every: 90m }\n",
    )
    .unwrap();
    assert_eq!(config.vault_key, VaultKeySource::File("/tmp/key".into()));
    assert_eq!(config.ids, Ids { worker: 5, agents: IdRange { first: 10, last: 20 } });
    let servers: Vec<String> = config.resolver.servers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["192.0.2.1:53", "192.0.2.2:5353", "[2001:db8::1]:53", "[2001:db8::2]:54"]);
    assert_eq!(config.managed_root, "a/b.slice");
    assert_eq!(config.prove.every, Some(Duration::from_secs(5400)));
    assert_eq!(config.upstream_roots, [PathBuf::from("/tmp/a.pem")]);

    let config = Config::parse("x", "vault_key: { systemd_credential: vault }\n").unwrap();
    assert_eq!(config.vault_key, VaultKeySource::SystemdCredential("vault".into()));
}

#[test]
fn mistakes_show_the_place_and_a_way_out() {
    let (text, hint) = error("run_dir: /tmp\npolicydir: /x\n");
    insta::assert_snapshot!(text, @r"
    enforcer.yaml:2:1: `policydir` is not a setting
      2 | policydir: /x
        | ^
    ");
    assert_eq!(hint.as_deref(), Some("did you mean `policy_dir`?"));

    let (text, hint) = error("resolver:\n  servers: []\n  colour: red\n");
    insta::assert_snapshot!(text, @r"
    enforcer.yaml:3:3: `colour` is not a setting
      3 |   colour: red
        |   ^
    ");
    assert_eq!(hint.as_deref(), Some("known here: servers, hosts_file, timeout_ms"));
}

#[test]
fn a_span_is_a_number_and_a_unit() {
    for bad in ["9s", "h", "1", "1w", "-1h", "1.5h", "99999999999999999999d", ""] {
        assert!(error(&format!("prove: {{ every: '{bad}' }}")).0.contains("for example `1h`"), "{bad}");
    }
    let every = |text: &str| Config::parse("x", &format!("prove: {{ every: {text} }}")).unwrap().prove.every;
    assert_eq!(
        (every("10s"), every("2d")),
        (Some(Duration::from_secs(10)), Some(Duration::from_secs(172_800)))
    );
}

#[test]
fn values_out_of_range_are_refused() {
    let table = [
        ("run_dir: run\n", "`run` is not a whole path"),
        ("run_dir: /run/../etc\n", "without `..`"),
        ("ids: { worker: 0 }\n", "`ids.worker` cannot be 0"),
        ("ids: { worker: 61700 }\n", "agents must not share the worker's id"),
        ("ids: { agents: 0-10 }\n", "not a range of ids"),
        ("ids: { agents: 20-10 }\n", "not a range of ids"),
        ("ids: { agents: many }\n", "not a range of ids"),
        ("managed_root: /x\n", "below the cgroup2 mount"),
        ("managed_root: ../x\n", "below the cgroup2 mount"),
        ("managed_root: ''\n", "below the cgroup2 mount"),
        ("resolver: { servers: [dns.example.com] }\n", "not the address of a name server"),
        ("resolver: { timeout_ms: 0 }\n", "not a usable timeout"),
        ("vault_key: { systemd_credential: ../x }\n", "not the name of a credential"),
        ("vault_key: { file: /x }\n", "`file` is not a setting"),
        ("group: a\ngroup: b\n", "2:1: `group` is written twice"),
        ("- a\n", "enforcer.yaml:1:"),
        ("run_dir: [\n", "enforcer.yaml:"),
    ];
    for (text, expected) in table {
        let (message, _) = error(text);
        assert!(message.contains(expected), "{text:?} gave {message}");
        assert!(!message.contains("DuplicateKeyPolicy"), "{message}");
    }
}

#[test]
fn a_named_file_must_exist_and_the_default_one_need_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("enforcer.yaml");
    let error = Config::load(Some(&path)).expect_err("was named");
    assert!(error.to_string().contains("enforcer.yaml"), "{error}");
    assert!(error.hint().is_some());
    std::fs::write(&path, "group: ops\n").unwrap();
    let (config, text) = Config::load_with_text(Some(&path)).unwrap();
    assert_eq!((config.group.as_str(), text.as_str()), ("ops", "group: ops\n"));
    assert!(Config::load(Some(directory.path())).is_err());
}

#[test]
fn name_servers_and_host_names_are_read_as_libc_reads_them() {
    let servers = host::name_servers(
        "# comment\nsearch example.com\nnameserver 192.0.2.1\nnameserver\t2001:db8::1\nnameserver fe80::1%eth0\n\
         nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\noptions edns0\n",
    );
    let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.2:53"]);

    let names =
        host::host_names("127.0.0.1 localhost\n# x\n192.0.2.9  Api.Example.Com. api # alias\nnonsense\n");
    let names: Vec<String> = names.iter().map(|(n, a)| format!("{n}={a}")).collect();
    assert_eq!(names, ["localhost=127.0.0.1", "api.example.com=192.0.2.9", "api=192.0.2.9"]);
}
