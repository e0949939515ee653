//! Against OpenSSL and keytool where the host has them, which every machine that builds this has.

use std::process::Command;

use super::*;

fn openssl(arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A root of our own with a subject, as PEM.
fn root(dir: &Path, subject: &str, utf8: bool) -> String {
    let (key, file) = (dir.join("key.pem"), dir.join("made.pem"));
    let mut arguments =
        vec!["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    arguments.extend(["-days", "2", "-subj", subject, "-multivalue-rdn"]);
    if utf8 {
        arguments.push("-utf8");
    }
    arguments.extend(["-keyout", key.to_str().unwrap(), "-out", file.to_str().unwrap()]);
    openssl(&arguments);
    fs::read_to_string(file).unwrap()
}

fn check_hash(dir: &Path, pem: &str) {
    let file = dir.join("one.pem");
    fs::write(&file, pem).unwrap();
    let expected = openssl(&["x509", "-noout", "-hash", "-in", file.to_str().unwrap()]);
    let parsed = certificate::parse_pem(pem.as_bytes());
    assert_eq!(format!("{:08x}", parsed[0].subject_hash().unwrap()), expected.trim());
}

#[test]
fn subject_hashes_are_those_of_openssl() {
    let dir = tempfile::tempdir().unwrap();
    for subject in [
        "/CN=enforcer",
        "/C=DE/O=  Some   Company  /OU=Ä Ö/CN=Enforcer Root   X",
        "/O=b+CN=a+OU=Z/DC=example/emailAddress=A@b.C",
    ] {
        check_hash(dir.path(), &root(dir.path(), subject, true));
    }
    // T61 and BMP strings, as old roots have them.
    check_hash(dir.path(), &root(dir.path(), "/CN=Enf\u{f6}rcer", false));
    let host = fs::read("/etc/ssl/certs/ca-certificates.crt").unwrap();
    for certificate in certificate::parse_pem(&host) {
        let hash = format!("{:08x}", certificate.subject_hash().unwrap());
        let link = Path::new("/etc/ssl/certs").join(format!("{hash}.0"));
        assert!(link.exists(), "the host's directory has no {hash}.0");
    }
}

#[test]
fn no_bytes_make_the_reader_fall() {
    let der = certificate::parse_pem(&fs::read("/etc/ssl/certs/ca-certificates.crt").unwrap())[0].der.clone();
    for cut in 0..der.len() {
        assert_eq!(Certificate { der: der[..cut].to_vec() }.subject_hash(), None);
    }
    for position in 0..der.len() {
        let mut bent = der.clone();
        bent[position] ^= 0xff;
        std::hint::black_box(Certificate { der: bent }.subject_hash());
    }
}

#[test]
fn the_directory_makes_openssl_and_java_trust_us() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (root(dir.path(), "/CN=ours", true), root(dir.path(), "/CN=theirs", true));
    let caller = CallerTrust { roots: theirs.clone(), wgetrc: "timeout=7".into() };
    let made = dir.path().join("session");
    let trust = build(&made, Path::new("/shown"), Path::new("/"), &ours, &caller).unwrap();

    for pem in [&ours, &theirs] {
        let file = dir.path().join("leaf.pem");
        fs::write(&file, pem).unwrap();
        let certs = made.join("certs");
        openssl(&["verify", "-no-CAfile", "-CApath", certs.to_str().unwrap(), file.to_str().unwrap()]);
        let bundle = made.join("bundle.pem");
        openssl(&["verify", "-no-CApath", "-CAfile", bundle.to_str().unwrap(), file.to_str().unwrap()]);
    }
    assert!(made.join("certs/ca-certificates.crt").is_file());
    assert!(fs::read_to_string(made.join("bundle.pem")).unwrap().matches("BEGIN").count() > 50);
    assert_eq!(fs::read_to_string(made.join("ca.pem")).unwrap().matches("BEGIN").count(), 2);
    assert_eq!(
        fs::read_to_string(made.join("wgetrc")).unwrap(),
        "timeout=7\nca_certificate=/shown/bundle.pem\n"
    );
    assert!(trust.binds.contains(&Bind { from: made.join("certs"), to: "/etc/ssl/certs".into() }));
    for name in BUNDLE_VARIABLES {
        assert!(trust.environment.contains(&(name.into(), "/shown/bundle.pem".into())), "{name}");
    }

    let listed = Command::new("keytool")
        .args(["-list", "-storepass", java::PASSWORD, "-keystore", made.join("cacerts").to_str().unwrap()])
        .output();
    // Not every machine has a JVM; the store's own digest is what keytool checks.
    if let Ok(listed) = listed {
        assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stdout));
    }
}

#[test]
fn other_distributions_stores_are_copied_with_ours_inside() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, public) = (root(dir.path(), "/CN=ours", true), root(dir.path(), "/CN=public", true));
    let host = dir.path().join("host");
    let extracted = host.join("etc/pki/ca-trust/extracted");
    for place in ["pem/directory-hash", "java", "openssl"] {
        fs::create_dir_all(extracted.join(place)).unwrap();
    }
    fs::write(extracted.join("pem/tls-ca-bundle.pem"), &public).unwrap();
    fs::write(extracted.join("java/cacerts"), "old").unwrap();
    fs::write(extracted.join("pem/directory-hash/01234567.0"), &public).unwrap();
    fs::create_dir_all(host.join("etc/pki/tls/certs")).unwrap();
    symlink("../../ca-trust/extracted/pem/tls-ca-bundle.pem", host.join("etc/pki/tls/certs/ca-bundle.crt"))
        .unwrap();
    fs::create_dir_all(host.join("etc/ssl")).unwrap();
    symlink("../pki/tls/certs", host.join("etc/ssl/certs")).unwrap();

    let made = dir.path().join("session");
    let trust = build(&made, Path::new("/shown"), &host, &ours, &CallerTrust::default()).unwrap();
    let shown: Vec<_> = trust.binds.iter().map(|bind| bind.to.to_str().unwrap()).collect();
    // /etc/ssl/certs leads to /etc/pki/tls/certs here, which a mount on the one covers.
    assert_eq!(shown, ["/etc/ssl/certs", "/etc/pki/ca-trust/extracted"]);
    let copy = &trust.binds[1].from;
    assert!(fs::read_to_string(copy.join("pem/tls-ca-bundle.pem")).unwrap().matches("BEGIN").count() == 2);
    assert!(copy.join("pem/directory-hash/enforcer.pem").is_file());
    assert_eq!(fs::read(copy.join("java/cacerts")).unwrap(), fs::read(made.join("cacerts")).unwrap());
    assert!(fs::read_to_string(made.join("certs/ca-bundle.crt")).unwrap().contains("BEGIN"));
    assert!(made.join("certs/enforcer.pem").is_file());
    assert!(!trust.environment.iter().any(|(name, _)| name == "JAVA_TOOL_OPTIONS"));
}

#[test]
fn browsers_get_a_policy_beside_those_that_they_have() {
    let dir = tempfile::tempdir().unwrap();
    let ours = root(dir.path(), "/CN=ours", true);
    let managed = dir.path().join("host/etc/chromium/policies/managed");
    fs::create_dir_all(&managed).unwrap();
    fs::write(managed.join("theirs.json"), "{}").unwrap();
    let made = dir.path().join("session");
    let trust =
        build(&made, Path::new("/s"), &dir.path().join("host"), &ours, &CallerTrust::default()).unwrap();
    let bind = trust.binds.iter().find(|bind| bind.to == Path::new("/etc/chromium")).unwrap();
    let managed = bind.from.join("policies/managed");
    assert!(managed.join("theirs.json").is_file());
    let policy: serde_json::Value =
        serde_json::from_slice(&fs::read(managed.join("enforcer.json")).unwrap()).unwrap();
    let der = &certificate::parse_pem(ours.as_bytes())[0];
    assert_eq!(policy["CACertificates"], serde_json::json!([der.base64()]));
    assert_eq!(ours.lines().filter(|line| !line.starts_with('-')).collect::<String>(), der.base64());
}

#[test]
fn a_host_without_stores_still_gets_ours() {
    let dir = tempfile::tempdir().unwrap();
    let ours = root(dir.path(), "/CN=ours", true);
    let host = dir.path().join("host");
    fs::create_dir(&host).unwrap();
    let made = dir.path().join("session");
    let trust = build(&made, Path::new("/shown"), &host, &ours, &CallerTrust::default()).unwrap();
    assert_eq!(trust.binds, []);
    assert!(made.join("certs/enforcer.pem").is_file());
    assert!(trust.environment.iter().any(|(name, _)| name == "JAVA_TOOL_OPTIONS"));
    assert!(build(&dir.path().join("b"), Path::new("/s"), &host, "no", &CallerTrust::default()).is_err());
}

#[test]
fn the_callers_files_are_read_and_merged() {
    let dir = tempfile::tempdir().unwrap();
    let theirs = root(dir.path(), "/CN=theirs", true);
    let file = dir.path().join("theirs.pem");
    fs::write(&file, format!("text around\n{theirs}")).unwrap();
    let file = file.into_os_string();
    let environment = [
        (Text::from("SSL_CERT_FILE"), Text::from(file.clone())),
        (Text::from("NODE_EXTRA_CA_CERTS"), Text::from(file)),
        (Text::from("REQUESTS_CA_BUNDLE"), Text::from("/dev/zero")),
        (Text::from("CURL_CA_BUNDLE"), Text::from("/no/such/file")),
    ];
    let trust = CallerTrust::from_environment(&environment);
    assert_eq!(trust.roots.matches("BEGIN CERTIFICATE").count(), 1);
}

/// A file or store that is added here is one more line there.
#[test]
fn the_unit_template_shows_every_place_that_we_cover() {
    let template = include_str!("../../../../dist/enforcer-agent@.service");
    let lines: Vec<&str> = template.lines().filter(|line| line.contains("/over/")).collect();
    let places: Vec<&str> =
        HOST_STORES.into_iter().chain(HOST_FILES).chain(["etc/resolv.conf", "etc/nsswitch.conf"]).collect();
    for place in &places {
        let line = format!("BindReadOnlyPaths=-/run/enforcer/units/%n/over/{place}:/{place}");
        assert!(lines.contains(&line.as_str()), "{line}");
    }
    assert_eq!(lines.len(), places.len(), "{lines:?}");
}
