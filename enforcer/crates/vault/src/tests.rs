//! The vault against a thief and a forger with the file in hand.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};

use crate::seal::{Label, Sealer};
use crate::{Binding, Dangers, Entry, Secret, Use, Vault, VaultError, VaultKey, check_key_place};

const CANARY: &str = "canary-7Hq2Zr9Lw4Xk8Vb1Nd6Ts3Py5Mf0";

struct Place {
    _directory: tempfile::TempDir,
    file: PathBuf,
}

fn place() -> Place {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("vault.db");
    Place { _directory: directory, file }
}

fn key(byte: u8) -> VaultKey {
    VaultKey::read([byte; 32].as_slice()).unwrap()
}

fn open(place: &Place) -> Vault {
    Vault::open(&place.file, key(7)).unwrap()
}

fn hosts(texts: &[&str]) -> Vec<Binding> {
    let dangers = Dangers { wildcard: true, plaintext: true };
    texts.iter().map(|t| Binding::parse(t, dangers).unwrap()).collect()
}

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec()).unwrap()
}

fn usage<'a>(name: &'a str, host: &'a str) -> Use<'a> {
    Use { agent: "bot", secret: name, scheme: "https", host, port: 443 }
}

fn value(vault: &mut Vault, name: &str, host: &str) -> Result<String, VaultError> {
    vault
        .fetch(usage(name, host), 100)
        .map(|(secret, _)| String::from_utf8(secret.expose().to_vec()).unwrap())
}

fn stored() -> Place {
    let place = place();
    let mut vault = open(&place);
    vault.set("github", &hosts(&["api.github.com"]), secret(CANARY), 1).unwrap();
    vault.set("slack", &hosts(&["slack.com"]), secret("another-value-of-some-length"), 1).unwrap();
    vault.seal_own("ca-root", b"a private key").unwrap();
    place
}

/// Runs SQL on the closed file, as somebody who can write it would.
fn forge(place: &Place, sql: &str) {
    let database = Connection::open(&place.file).unwrap();
    database.execute_batch(sql).unwrap();
}

/// Neither opening nor fetching gives the value.
fn is_noticed(place: &Place, name: &str, host: &str) -> bool {
    match Vault::open(&place.file, key(7)) {
        Err(_) => true,
        Ok(mut vault) => value(&mut vault, name, host).is_err(),
    }
}

#[test]
fn a_value_comes_back_for_its_host_only() {
    let place = stored();
    let mut vault = open(&place);
    assert_eq!(value(&mut vault, "github", "api.github.com").unwrap(), CANARY);
    for (scheme, host, port) in [
        ("https", "slack.com", 443),
        ("https", "api.github.com.evil.example", 443),
        ("https", "xapi.github.com", 443),
        ("https", "API.github.com", 443),
        ("https", "api.github.com.", 443),
        ("https", "api.github.com", 8443),
        ("http", "api.github.com", 443),
        ("http", "api.github.com", 80),
        ("ws", "api.github.com", 443),
    ] {
        let refused =
            vault.fetch(Use { agent: "bot", secret: "github", scheme, host, port }, 1).err().unwrap();
        assert!(matches!(&refused, VaultError::NotBound { .. }), "{scheme}://{host}:{port}: {refused}");
        assert!(refused.to_string().contains("https://api.github.com:443"), "{refused}");
    }
    assert!(matches!(value(&mut vault, "gitlab", "api.github.com"), Err(VaultError::NotFound(_))));
}

#[test]
fn versions_count_on_and_never_mean_two_values() {
    let place = stored();
    let mut vault = open(&place);
    let again = hosts(&["api.github.com"]);
    assert_eq!(vault.set("github", &again, secret("the-second-value"), 5).unwrap(), 2);
    assert_eq!(value(&mut vault, "github", "api.github.com").unwrap(), "the-second-value");
    vault.remove("github").unwrap();
    assert!(matches!(vault.entry("github"), Err(VaultError::NotFound(_))));
    assert!(matches!(vault.remove("github"), Err(VaultError::NotFound(_))));
    drop(vault);
    let mut vault = open(&place);
    assert_eq!(vault.set("github", &again, secret("the-third-value"), 9).unwrap(), 3);
}

#[test]
fn the_listing_has_metadata_and_not_the_daemons_own_keys() {
    let place = stored();
    let mut vault = open(&place);
    value(&mut vault, "slack", "slack.com").unwrap();
    let list = vault.list().unwrap();
    assert_eq!(list.iter().map(|e| e.name.as_str()).collect::<Vec<_>>(), ["github", "slack"]);
    assert_eq!(list[0].length, CANARY.len());
    assert_eq!((list[0].last_used, list[1].last_used), (None, Some(100)));
    let text = serde_json::to_string(&list).unwrap();
    assert!(!text.contains("canary") && text.contains("https://api.github.com:443"), "{text}");
    assert!(matches!(value(&mut vault, "ca-root", "slack.com"), Err(VaultError::NotFound(_))));
    assert_eq!(vault.open_own("ca-root").unwrap().unwrap().as_slice(), b"a private key");
    assert!(vault.open_own("github").unwrap().is_none());
}

#[test]
fn a_listing_with_dangerous_hosts_can_be_read_back() {
    let place = place();
    let mut vault = open(&place);
    vault.set("wide", &hosts(&["*.example.com", "http://plain.example"]), secret(CANARY), 1).unwrap();
    let text = serde_json::to_string(&vault.entry("wide").unwrap()).unwrap();
    let entry: Entry = serde_json::from_str(&text).unwrap();
    assert_eq!(entry.hosts, vault.entry("wide").unwrap().hosts);
    assert!(serde_json::from_str::<Binding>("\"*.example.com\"").is_err());
}

#[test]
fn last_used_is_written_once_a_minute() {
    let place = stored();
    let mut vault = open(&place);
    for (now, expected) in [(100, 100), (159, 100), (160, 160), (10, 10)] {
        vault.fetch(usage("github", "api.github.com"), now).unwrap();
        assert_eq!(vault.entry("github").unwrap().last_used, Some(expected), "at {now}");
    }
}

#[test]
fn every_flipped_byte_of_a_row_is_noticed() {
    let place = stored();
    let columns = ["id", "nonce", "sealed"];
    for column in columns {
        let read = format!("SELECT {column} FROM record WHERE name = 'github'");
        let original: Vec<u8> =
            Connection::open(&place.file).unwrap().query_row(&read, [], |row| row.get(0)).unwrap();
        for at in 0..original.len() {
            let mut bent = original.clone();
            bent[at] ^= 1 << (at % 8);
            let write = |bytes: &[u8]| {
                let sql = format!("UPDATE record SET {column} = ? WHERE name = 'github'");
                Connection::open(&place.file).unwrap().execute(&sql, params![bytes]).unwrap();
            };
            write(&bent);
            assert!(is_noticed(&place, "github", "api.github.com"), "{column}[{at}]");
            write(&original);
        }
    }
    assert!(!is_noticed(&place, "github", "api.github.com"));
}

#[test]
fn edited_metadata_is_noticed() {
    for sql in [
        r#"UPDATE record SET hosts = '["https://evil.example:443"]' WHERE name = 'github'"#,
        r#"UPDATE record SET hosts = '["https://api.github.com:443","https://evil.example:443"]' WHERE name = 'github'"#,
        "UPDATE record SET version = 9 WHERE name = 'github'",
        "UPDATE record SET created = 9 WHERE name = 'github'",
        "UPDATE record SET name = 'gitlab' WHERE name = 'github'",
        "UPDATE record SET namespace = 'own' WHERE name = 'github'",
        "DELETE FROM record WHERE name = 'slack'",
        "DELETE FROM last_version WHERE name = 'slack'",
        "UPDATE last_version SET version = 0 WHERE name = 'github'",
        "UPDATE meta SET value = x'0000000000000063' WHERE key = 'epoch'",
        "DELETE FROM meta WHERE key = 'id'",
        "DELETE FROM meta WHERE key = 'head'",
        "UPDATE meta SET value = randomblob(16) WHERE key = 'id'",
    ] {
        let place = stored();
        forge(&place, sql);
        assert!(is_noticed(&place, "github", "evil.example"), "{sql}");
        assert!(is_noticed(&place, "github", "api.github.com"), "{sql}");
    }
}

#[test]
fn the_value_of_another_row_does_not_open_under_this_name() {
    let place = stored();
    // Everything that is not the name and the binding, ids included, so that the head still fits a set of ids.
    forge(
        &place,
        "CREATE TEMP TABLE swap AS SELECT * FROM record WHERE namespace = 'secret';
         UPDATE record SET (id, nonce, sealed) =
             (SELECT id, nonce, sealed FROM swap WHERE swap.name <> record.name) WHERE namespace = 'secret';",
    );
    assert!(is_noticed(&place, "github", "api.github.com"));
    assert!(is_noticed(&place, "slack", "slack.com"));
}

/// The head aside, each part of the label alone keeps a value from opening.
#[test]
fn a_ciphertext_opens_under_its_own_label_only() {
    const LABEL: Label<'_> = Label { namespace: "secret", name: "ab", version: 1, hosts: "[]", created: 1 };
    let label = LABEL;
    let sealer = Sealer::new(&key(7), [1; 16]);
    let open = |sealer: &Sealer, label: Label<'_>| {
        let sealed = Sealer::new(&key(7), [1; 16]).seal(LABEL, CANARY.as_bytes()).unwrap();
        sealer.open(label, sealed).is_ok()
    };
    assert!(open(&sealer, label));
    for other in [
        Label { namespace: "own", ..label },
        Label { name: "a", ..label },
        Label { namespace: "secreta", name: "b", ..label },
        Label { version: 2, ..label },
        Label { hosts: "[\"https://a.example:443\"]", ..label },
        Label { created: 2, ..label },
    ] {
        assert!(!open(&sealer, other));
    }
    assert!(!open(&Sealer::new(&key(7), [2; 16]), label), "another database");
    assert!(!open(&Sealer::new(&key(8), [1; 16]), label), "another key");
}

#[test]
fn a_row_put_back_from_an_older_copy_is_noticed() {
    let place = stored();
    let old = place.file.with_extension("old");
    fs::copy(&place.file, &old).unwrap();
    let before = open(&place).epoch();
    open(&place).set("github", &hosts(&["api.github.com"]), secret("the-rotated-value"), 2).unwrap();
    assert_eq!(open(&place).epoch(), before + 1);
    forge(
        &place,
        &format!(
            "ATTACH '{}' AS old; INSERT OR REPLACE INTO main.record SELECT * FROM old.record WHERE name = 'github'",
            old.display()
        ),
    );
    assert!(is_noticed(&place, "github", "api.github.com"));
}

#[test]
fn a_row_of_another_vault_with_the_same_key_is_noticed() {
    let (ours, theirs) = (stored(), stored());
    forge(
        &ours,
        &format!(
            "ATTACH '{}' AS other; INSERT OR REPLACE INTO main.record SELECT * FROM other.record WHERE name = 'github'",
            theirs.file.display()
        ),
    );
    assert!(is_noticed(&ours, "github", "api.github.com"));
}

#[test]
fn another_key_opens_nothing_and_says_so() {
    let place = stored();
    let refused = Vault::open(&place.file, key(8)).err().unwrap().to_string();
    assert!(refused.starts_with("this key does not open this vault; use the key"), "{refused}");
    assert!(!is_noticed(&place, "github", "api.github.com"));
}

#[test]
fn no_file_of_the_vault_holds_a_value_in_clear() {
    let place = stored();
    // Still open: the log and whatever else SQLite keeps are on disk now.
    let mut vault = open(&place);
    vault.set("rotated", &hosts(&["a.example"]), secret(CANARY), 1).unwrap();
    vault.seal_own("own", CANARY.as_bytes()).unwrap();
    vault.remove("rotated").unwrap();
    value(&mut vault, "github", "api.github.com").unwrap();
    let mut names = Vec::new();
    for file in fs::read_dir(place.file.parent().unwrap()).unwrap().map(Result::unwrap) {
        let bytes = fs::read(file.path()).unwrap();
        assert!(!bytes.windows(12).any(|w| w == &CANARY.as_bytes()[..12]), "{:?}", file.path());
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
        names.push(file.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(names, ["vault.db", "vault.db-wal"]);
}

#[test]
fn one_process_at_a_time() {
    let place = stored();
    let _held = open(&place);
    let refused = Vault::open(&place.file, key(7)).err().unwrap().to_string();
    assert!(refused.contains("another process has it open"), "{refused}");
}

#[test]
fn what_is_not_a_vault_is_left_alone() {
    let place = place();
    fs::write(&place.file, b"some text, longer than the header of a database would be, and not one at all")
        .unwrap();
    fs::set_permissions(&place.file, fs::Permissions::from_mode(0o600)).unwrap();
    let refused = Vault::open(&place.file, key(7)).err().unwrap().to_string();
    assert!(refused.contains("it is not a database"), "{refused}");

    fs::remove_file(&place.file).unwrap();
    forge(&place, "CREATE TABLE somebody_elses (a)");
    fs::set_permissions(&place.file, fs::Permissions::from_mode(0o600)).unwrap();
    let refused = Vault::open(&place.file, key(7)).err().unwrap().to_string();
    assert!(refused.contains("not a vault"), "{refused}");

    let place = stored();
    forge(&place, "PRAGMA user_version = 99");
    let refused = Vault::open(&place.file, key(7)).err().unwrap().to_string();
    assert!(refused.contains("newer version"), "{refused}");

    let place = stored();
    fs::set_permissions(&place.file, fs::Permissions::from_mode(0o640)).unwrap();
    let refused = Vault::open(&place.file, key(7)).err().unwrap().to_string();
    assert!(refused.contains("chmod 600"), "{refused}");

    let missing = Path::new("/nonexistent-directory/vault.db");
    assert!(Vault::open(missing, key(7)).err().unwrap().to_string().contains("its directory"));
}

#[test]
fn names_and_hosts_are_checked_before_anything_is_stored() {
    let place = place();
    let mut vault = open(&place);
    for name in ["", "Upper", "1digit", "with space", "dot.dot", "a/b", &"a".repeat(64)] {
        let refused = vault.set(name, &hosts(&["a.example"]), secret(CANARY), 1).unwrap_err();
        assert!(matches!(refused, VaultError::Invalid(_)), "{name}: {refused}");
    }
    assert!(matches!(vault.set("fine", &[], secret(CANARY), 1), Err(VaultError::Invalid(_))));
    assert!(vault.list().unwrap().is_empty());
}

#[test]
fn values_that_break_headers_or_scrubbing_are_refused() {
    for (bytes, why) in [
        (b"".as_slice(), "empty"),
        (b"short", "shorter than 8"),
        (b"longenough\n", "line break"),
        (b"long\r\nX-Evil: 1", "line break"),
        (b"long\0enough", "control"),
        (b"long\tenough", "control"),
        (b"long\x7fenough", "control"),
        ("longenöugh".as_bytes(), "ASCII"),
        (b" longenough", "space"),
        (b"longenough ", "space"),
    ] {
        let refused = Secret::new(bytes.to_vec()).err().unwrap().to_string();
        assert!(refused.contains(why), "{bytes:?}: {refused}");
    }
    assert!(Secret::new(vec![b'a'; 64 * 1024]).is_ok());
    assert!(Secret::new(vec![b'a'; 64 * 1024 + 1]).is_err());
    assert!(secret("12345678901").note().unwrap().contains("12 characters"));
    assert!(secret("aaaaaaaabbbbbbbb").note().is_some());
    assert!(secret(CANARY).note().is_none());
}

#[test]
fn bindings_have_one_reading() {
    let none = Dangers::default();
    let all = Dangers { wildcard: true, plaintext: true };
    for (text, canonical) in [
        ("api.github.com", "https://api.github.com:443"),
        ("API.GitHub.com", "https://api.github.com:443"),
        ("https://api.example.com:8443", "https://api.example.com:8443"),
        ("10.0.0.5:6443", "https://10.0.0.5:6443"),
        ("[2001:db8::1]", "https://[2001:db8::1]:443"),
        ("https://[2001:DB8:0::1]:8443", "https://[2001:db8::1]:8443"),
        ("localhost", "https://localhost:443"),
    ] {
        assert_eq!(Binding::parse(text, none).unwrap().to_string(), canonical);
        assert_eq!(Binding::parse(canonical, none).unwrap().to_string(), canonical);
    }
    assert_eq!(Binding::parse("http://a.example", all).unwrap().to_string(), "http://a.example:80");
    for text in ["*.example.com", "http://a.example", "http://*.example.com"] {
        assert!(Binding::parse(text, none).is_err(), "{text}");
        assert!(Binding::parse(text, all).is_ok(), "{text}");
    }
    for text in [
        "",
        "*",
        "*.",
        "*.com",
        "a.*.com",
        "*a.com",
        "**.a.com",
        "ftp://a.com",
        "a.com/",
        "a.com/path",
        "a.com?q",
        "u@a.com",
        "a.com:",
        "a.com:0",
        "a.com:080",
        "a.com:65536",
        "a.com:4a",
        "a.com.",
        ".a.com",
        "a..com",
        "-a.com",
        "a com",
        "2001:db8::1",
        "[2001:db8::1",
        "[a.com]",
        "1.2.3",
        "0x7f.1",
        "a.0x7f",
        "b\u{fc}cher.example",
        "a.com\0",
        "//a.com",
        "https://",
        "*.1.2.3.4",
        "http://:80",
    ] {
        assert!(Binding::parse(text, all).is_err(), "{text:?}");
    }
}

#[test]
fn a_wildcard_is_below_its_name_only() {
    let wild = &hosts(&["*.example.com"])[0];
    for (host, covered) in [
        ("a.example.com", true),
        ("a.b.example.com", true),
        ("example.com", false),
        (".example.com", false),
        ("aexample.com", false),
        ("a.example.com.evil.com", false),
        ("evil.com/.example.com", false),
        ("a..example.com", false),
    ] {
        assert_eq!(wild.covers("https", host, 443), covered, "{host}");
    }
    let six = &hosts(&["[2001:db8::1]:8443"])[0];
    assert!(six.covers("https", "2001:db8::1", 8443) && six.covers("https", "[2001:db8::1]", 8443));
    assert!(!six.covers("https", "[2001:db8::2]", 8443));
}

#[test]
fn a_key_file_is_private_whole_and_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let (keys, data) = (directory.path().join("keys"), directory.path().join("data"));
    fs::create_dir_all(data.join("below")).unwrap();
    fs::create_dir(&keys).unwrap();
    let (path, database) = (keys.join("vault.key"), data.join("vault.db"));

    let missing = check_key_place(&path, &database).unwrap_err().to_string();
    assert!(missing.contains("there is no vault key"), "{missing}");

    VaultKey::create(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert!(VaultKey::create(&path).unwrap_err().to_string().contains("not overwritten"));
    let file = VaultKey::open_file(&path, &database).unwrap();
    VaultKey::read(file).unwrap();

    for inside in [data.join("vault.key"), data.join("below/vault.key")] {
        VaultKey::create(&inside).unwrap();
        let refused = check_key_place(&inside, &database).unwrap_err().to_string();
        assert!(refused.contains("move the key elsewhere"), "{refused}");
    }
    let link = keys.join("link");
    std::os::unix::fs::symlink(data.join("vault.key"), &link).unwrap();
    assert!(check_key_place(&link, &database).unwrap_err().to_string().contains("regular file"));
    // The directory of the database by another name.
    let alias = directory.path().join("alias");
    std::os::unix::fs::symlink(&data, &alias).unwrap();
    assert!(check_key_place(&alias.join("vault.key"), &database).is_err());

    for mode in [0o640, 0o604, 0o610] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert!(check_key_place(&path, &database).unwrap_err().to_string().contains("by others"), "{mode:o}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, [1; 33]).unwrap();
    assert!(check_key_place(&path, &database).unwrap_err().to_string().contains("33 bytes"));
    for length in [0, 31, 33, 64] {
        assert!(VaultKey::read(vec![1; length].as_slice()).is_err(), "{length}");
    }
}
