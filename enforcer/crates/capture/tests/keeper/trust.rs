//! The agent's view of certificates and the variables that point at them.

use std::fs;

use crate::world::World;

#[test]
fn certificates_of_our_root_are_trusted_by_directory_bundle_and_variables() {
    let world = World::started();
    let leaf = world.dir.path().join("ca.pem");
    let verify = |options: &str| {
        let script = format!("openssl verify {options} {}", leaf.display());
        assert!(world.shell(&script).contains("OK"), "{options}");
    };
    verify("-no-CAfile -CApath /etc/ssl/certs");
    verify("-no-CApath -CAfile /etc/ssl/certs/ca-certificates.crt");
    verify("-no-CApath -CAfile $SSL_CERT_FILE");
    verify("-no-CAfile -CApath $SSL_CERT_DIR");

    let variables = world.shell("env");
    let trust = world.run_dir.join("trust");
    for line in [
        format!("GIT_SSL_CAINFO={}/bundle.pem", trust.display()),
        format!("NODE_EXTRA_CA_CERTS={}/ca.pem", trust.display()),
        format!("WGETRC={}/wgetrc", trust.display()),
        "UV_SYSTEM_CERTS=1".into(),
        "EXAMPLE_TOKEN=placeholder".into(),
        "ENFORCER_AGENT=bot".into(),
        "XDG_RUNTIME_DIR=/run/user/61600".into(),
    ] {
        assert!(variables.lines().any(|seen| seen == line), "{line} is not in {variables}");
    }
    // The host's own store is untouched, and the agent cannot touch its copy.
    let ours = fs::read_to_string(&leaf).unwrap();
    let host = fs::read_to_string("/etc/ssl/certs/ca-certificates.crt").unwrap();
    assert!(!host.contains(ours.lines().nth(1).unwrap()));
    assert!(!world.run(&["touch", "/etc/ssl/certs/x"]).status.success());
    assert_eq!(world.shell("cat $ENFORCER_GUIDE"), "be good\n");
}

#[test]
fn roots_that_the_person_trusts_are_merged() {
    let world = World::started();
    world.certificate("theirs");
    let theirs = world.dir.path().join("theirs.pem");
    let script = format!("openssl verify -no-CApath -CAfile $SSL_CERT_FILE {}", theirs.display());
    let output = world
        .command("bot", None, &["/bin/sh", "-c", &script])
        .env("REQUESTS_CA_BUNDLE", &theirs)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = world.run(&["/bin/sh", "-c", &script]);
    assert!(!output.status.success(), "only where the person asked for it");
}

#[test]
fn a_java_store_is_replaced_where_the_host_has_one() {
    let world = World::started();
    if fs::exists("/etc/ssl/certs/java/cacerts").unwrap() {
        let list = "keytool -list -keystore /etc/ssl/certs/java/cacerts -storepass changeit | head -4; env";
        let seen = world.shell(list);
        assert!(seen.contains("Your keystore contains"), "{seen}");
        assert!(!seen.contains("JAVA_TOOL_OPTIONS"));
    } else {
        assert!(world.shell("env").contains("JAVA_TOOL_OPTIONS=-Djavax.net.ssl.trustStore="));
    }
}
