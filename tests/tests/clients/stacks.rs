//! How each TLS library says that it does not trust us, and what the doctor makes of that: which process, which program, what to do.

use std::fs;

use enforcer_tests::world::World;

use super::upstream::Shop;
use super::{as_agent, distrust, installed};

const POLICY: &str = r#"
version: 1
agent: bot
allow:
  - { name: stacks, host: "*.stacks.test", methods: [GET, HEAD, POST] }
"#;

/// A program that was told of another root than ours, by the TLS library that it has. For rustls see `distrust`.
struct Stack {
    /// Also the host that it asks, `NAME.stacks.test`.
    name: &'static str,
    /// A shell line; `$URL` is what it asks for, `$OTHER` a file with another root.
    line: &'static str,
    /// How the library says that it does not trust us.
    sign: &'static str,
    /// Part of the program's path.
    program: &'static str,
    kind: &'static str,
    fix: &'static str,
}

#[rustfmt::skip]
const STACKS: &[Stack] = &[
    Stack { name: "openssl", line: "curl -sS --cacert $OTHER --capath /tmp $URL", sign: "unknown_ca", program: "/curl", kind: "curl", fix: "`--cacert`" },
    Stack { name: "openssl-python", line: r#"$PYTHON -c "import ssl, urllib.request as r; r.urlopen('$URL', context=ssl.create_default_context(cafile='$OTHER'))""#, sign: "unknown_ca", program: "/python3.", kind: "Python", fix: "`cafile=`" },
    Stack { name: "openssl-ruby", line: r#"ruby -ropen-uri -e "URI.open('$URL', ssl_ca_cert: '$OTHER')""#, sign: "unknown_ca", program: "/ruby", kind: "Ruby", fix: "`ca_file`" },
    Stack { name: "gnutls", line: "wget -O- --ca-directory=/tmp --ca-certificate=$OTHER $URL", sign: "left", program: "/wget", kind: "wget", fix: "`--ca-certificate`" },
    Stack { name: "boringssl", line: r#"$BUN -e "await fetch('$URL', { tls: { ca: await Bun.file('$OTHER').text() } })""#, sign: "left", program: "/bun", kind: "bun", fix: "`tls: { ca }`" },
    Stack { name: "boringssl-grpc", line: r#"$PYTHON -c "import grpc; c = grpc.secure_channel('$HOST:443', grpc.ssl_channel_credentials(open('$OTHER', 'rb').read())); c.unary_unary('/a.B/C')(b'', timeout=30)""#, sign: "left", program: "/python3.", kind: "Python", fix: "`root_certificates=`" },
];

/// Of those that take long to install.
#[rustfmt::skip]
const LARGE: &[Stack] = &[
    Stack { name: "nss", line: "d=sql:$(mktemp -d) && certutil -N -d $d --empty-password && tstclnt -h $HOST -p 443 -d $d < /dev/null", sign: "unknown_ca", program: "/tstclnt", kind: "unknown", fix: "brings its own roots" },
    Stack { name: "go", line: "export HOME=$(mktemp -d) SSL_CERT_DIR=/nowhere && SHOP=https://$HOST SSL_CERT_FILE=$OTHER go run net_http.go", sign: "bad_certificate", program: "/net_http", kind: "unknown", fix: "start it with SSL_CERT_FILE=" },
    Stack { name: "java", line: "cd $(mktemp -d) && keytool -importcert -noprompt -file $OTHER -keystore other -storepass changeit && SHOP=https://$HOST java -Djavax.net.ssl.trustStore=$PWD/other -Djavax.net.ssl.trustStorePassword=changeit $FLOOR/HttpClients.java", sign: "left", program: "/java", kind: "Java", fix: "`-Djavax.net.ssl.trustStore`" },
    Stack { name: "webpki", line: "env -u SSL_CERT_FILE SHOP=https://$HOST $RUST_CLIENTS/reqwest", sign: "unknown_ca", program: "/reqwest", kind: "unknown", fix: "start it with SSL_CERT_FILE=" },
];

#[test]
fn each_tls_library_that_does_not_trust_us_is_named_with_the_fix() {
    check(STACKS);
}

#[test]
#[ignore = "takes hundreds of megabytes to install: cargo xtask clients"]
fn and_those_that_are_large() {
    check(LARGE);
}

/// All of them are tried before the test fails.
fn check(stacks: &[Stack]) {
    let world = World::new().unwrap();
    let shop = Shop::open(&world, &installed()).unwrap();
    let daemon = world.daemon(&[("bot", POLICY)]).unwrap();
    // A root, and not ours: that of the servers outside.
    let other = shop.floor.join("other.pem");
    fs::copy(world.upstream_ca(), &other).unwrap();
    let mut wrong = Vec::new();
    for stack in stacks {
        let host = format!("{}.stacks.test", stack.name);
        let variables = [
            format!("HOST={host}"),
            format!("URL=https://{host}/"),
            format!("OTHER={}", other.display()),
            format!("CLIENT={}", stack.name),
        ];
        let output = as_agent(&daemon, &shop, &variables, stack.line);
        println!("{}: {}", stack.name, output.all());
        let found = distrust::wait(&daemon, stack.name, |found| found["host"] == host.as_str());
        println!("{}: {found}", stack.name);
        let says = |key: &str| found[key].as_str().unwrap_or_default();
        let right = says("sign") == stack.sign
            && says("kind") == stack.kind
            && says("fix").contains(stack.fix)
            && says("exe").contains(stack.program)
            && found["pid"].as_u64().is_some_and(|pid| pid > 1);
        if output.ok() || !right {
            wrong.push(format!("{}: {found}\n{output}", stack.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
