//! The certificates as strict clients see them.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use zeroize::Zeroizing;

use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

struct World {
    servers: Servers,
    sealed: Zeroizing<Vec<u8>>,
}

fn world() -> World {
    let (authority, sealed) = Authority::create("host.test", SystemTime::now()).unwrap();
    let copy = sealed.clone();
    let open: OpenRoot = Arc::new(move || {
        let copy = copy.clone();
        Box::pin(async move { Ok(copy) })
    });
    World { servers: Servers::new(Arc::new(authority), open).unwrap(), sealed }
}

impl World {
    async fn agent(&self, agent: &str, hosts: &[&str]) -> Arc<AgentServer> {
        let hosts: Vec<String> = hosts.iter().map(|h| h.to_string()).collect();
        self.servers.of(agent, &hosts.join(","), || hosts.clone(), SystemTime::now()).await.unwrap()
    }

    fn client(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.servers.authority().root_der().clone()).unwrap();
        ClientTls::with_roots(roots).config(&[b"http/1.1"]).unwrap()
    }
}

/// Serves `times` connections that each get `ok`.
async fn serve(config: Arc<rustls::ServerConfig>, times: usize) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for _ in 0..times {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(mut stream) = TlsAcceptor::from(config.clone()).accept(stream).await {
                stream.write_all(b"ok").await.unwrap();
                stream.shutdown().await.unwrap();
            }
        }
    });
    address
}

async fn connect(
    client: &Arc<ClientConfig>,
    address: std::net::SocketAddr,
    name: &str,
) -> std::io::Result<HandshakeKind> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut stream = TlsConnector::from(client.clone()).connect(name, stream).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(stream.get_ref().1.handshake_kind().unwrap())
}

/// OpenSSL's opinion through Python, which applies `X509_STRICT` from 3.13 on by default.
async fn python(root_pem: &str, address: std::net::SocketAddr, name: &str) -> String {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(root_pem.as_bytes()).unwrap();
    let script = r#"
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
context.verify_flags |= ssl.VERIFY_X509_STRICT
try:
    raw = socket.create_connection(("127.0.0.1", int(sys.argv[2])), timeout=10)
    with context.wrap_socket(raw, server_hostname=sys.argv[3]) as stream:
        print(stream.recv(2).decode(), stream.version())
except ssl.SSLError as error:
    print("refused:", error)
"#;
    let (path, port, name) = (file.path().to_owned(), address.port().to_string(), name.to_owned());
    tokio::task::spawn_blocking(move || {
        let mut run = Command::new("python3");
        run.arg("-c").arg(script).arg(path).arg(port).arg(name).stdin(Stdio::null());
        let out = run.output().expect("python3 is installed");
        let _keep_until_read = file;
        String::from_utf8_lossy(&out.stdout).trim().to_owned() + &String::from_utf8_lossy(&out.stderr)
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_strict_openssl_client_accepts_names_wildcards_and_addresses() {
    let world = world();
    let pem = world.servers.authority().root_pem();
    let agent = world.agent("bot", &["api.a.test", "*.b.test", "127.0.0.1"]).await;
    let address = serve(agent.by_name(), 2).await;
    for name in ["api.a.test", "x.y.b.test"] {
        assert_eq!(python(&pem, address, name).await, "ok TLSv1.3", "{name}");
    }
    let address = serve(agent.for_address("127.0.0.1".parse().unwrap()), 1).await;
    assert_eq!(python(&pem, address, "127.0.0.1").await, "ok TLSv1.3");
}

#[tokio::test]
async fn only_names_and_only_addresses_are_constrained_too() {
    let world = world();
    let pem = world.servers.authority().root_pem();
    let names = world.agent("names", &["api.a.test"]).await;
    assert_eq!(python(&pem, serve(names.by_name(), 1).await, "api.a.test").await, "ok TLSv1.3");
    let numbers = world.agent("numbers", &["127.0.0.1", "::1"]).await;
    let address = serve(numbers.for_address("127.0.0.1".parse().unwrap()), 1).await;
    assert_eq!(python(&pem, address, "127.0.0.1").await, "ok TLSv1.3");
    let any = world.agent("any", &["*"]).await;
    assert_eq!(python(&pem, serve(any.by_name(), 1).await, "whatever.test").await, "ok TLSv1.3");
}

#[tokio::test]
async fn a_name_outside_the_policy_gets_an_alert_and_no_leaf() {
    let world = world();
    let agent = world.agent("bot", &["api.a.test", "*.b.test"]).await;
    let address = serve(agent.by_name(), 4).await;
    for name in ["evil.test", "xapi.a.test", "b.test", "sub.api.a.test"] {
        let error = connect(&world.client(), address, name).await.unwrap_err();
        assert!(error.to_string().contains("AccessDenied"), "{name}: {error}");
    }
    let address = serve(world.servers.refusing(), 1).await;
    let error = connect(&world.client(), address, "api.a.test").await.unwrap_err();
    assert!(error.to_string().contains("AccessDenied"), "{error}");
}

#[tokio::test]
async fn a_stolen_intermediate_cannot_certify_another_host() {
    let world = world();
    let hosts = ["api.a.test".to_owned()];
    let authority = world.servers.authority();
    let mut intermediate = authority.intermediate(&world.sealed, "bot", &hosts, SystemTime::now()).unwrap();
    // First with the guard: our own code does not sign it.
    let key = Arc::new(leaf::LeafKey::generate().unwrap());
    assert!(matches!(
        leaf::Leaves::new(intermediate, key.clone()).leaf("evil.test", SystemTime::now()),
        Err(TlsError::NotPermitted(_))
    ));
    // Then without: clients refuse what it signs, by the constraints alone.
    intermediate = authority.intermediate(&world.sealed, "bot", &hosts, SystemTime::now()).unwrap();
    intermediate.permit_for_test("evil.test");
    intermediate.permit_for_test("10.0.0.1");
    let leaves = leaf::Leaves::new(intermediate, key);
    for (name, python_name) in [("evil.test", "evil.test"), ("10.0.0.1", "10.0.0.1")] {
        let certified = leaves.leaf(name, SystemTime::now()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from((*certified).clone())));
        let address = serve(Arc::new(config), 2).await;
        let error = connect(&world.client(), address, name).await.unwrap_err();
        assert!(error.to_string().contains("NameConstraint"), "{error}");
        let seen = python(&authority.root_pem(), address, python_name).await;
        assert!(
            seen.contains("permitted subtree violation") || seen.contains("excluded subtree violation"),
            "{seen}"
        );
    }
}

#[tokio::test]
async fn sessions_resume_with_the_same_agent_and_with_no_other() {
    let world = world();
    let (one, two) = (world.agent("one", &["a.test"]).await, world.agent("two", &["a.test"]).await);
    let client = world.client();
    let (address_one, address_two) = (serve(one.by_name(), 4).await, serve(two.by_name(), 1).await);
    assert_eq!(connect(&client, address_one, "a.test").await.unwrap(), HandshakeKind::Full);
    assert_eq!(connect(&client, address_one, "a.test").await.unwrap(), HandshakeKind::Resumed);
    assert_eq!(connect(&client, address_two, "a.test").await.unwrap(), HandshakeKind::Full);
}

#[tokio::test]
async fn the_chain_is_made_anew_when_hosts_change_or_it_grows_old() {
    let world = world();
    let now = SystemTime::now();
    let of = async |revision: &str, host: &str, now| {
        let hosts = vec![host.to_owned()];
        world.servers.of("bot", revision, || hosts, now).await.unwrap().by_name()
    };
    let first = of("1", "a.test", now).await;
    assert!(Arc::ptr_eq(&first, &of("1", "a.test", now).await));
    assert!(Arc::ptr_eq(&first, &of("2", "a.test", now).await), "the same hosts keep their sessions");
    assert!(Arc::ptr_eq(&first, &of("2", "a.test", now + 4 * DAY).await));
    assert!(!Arc::ptr_eq(&first, &of("2", "a.test", now + 6 * DAY).await));
    assert!(!Arc::ptr_eq(&first, &of("3", "b.test", now).await));
}

#[test]
fn leaves_are_kept_and_made_again_before_they_expire() {
    let world = world();
    let now = SystemTime::now();
    let hosts = ["a.test".to_owned()];
    let intermediate = world.servers.authority().intermediate(&world.sealed, "bot", &hosts, now).unwrap();
    let leaves = leaf::Leaves::new(intermediate, Arc::new(leaf::LeafKey::generate().unwrap()));
    let first = leaves.leaf("a.test", now).unwrap();
    assert!(Arc::ptr_eq(&first, &leaves.leaf("a.test", now + DAY / 2).unwrap()));
    let later = leaves.leaf("a.test", now + DAY - Duration::from_secs(3600)).unwrap();
    assert!(!Arc::ptr_eq(&first, &later));
    let serial = |key: &rustls::sign::CertifiedKey| {
        x509_parser::parse_x509_certificate(&key.cert[0]).unwrap().1.raw_serial().to_vec()
    };
    assert_ne!(serial(&first), serial(&later), "the key is shared, the serial is not");
}

#[test]
fn a_root_opens_from_what_was_sealed_and_not_from_less() {
    let (made, sealed) = Authority::create("host.test", SystemTime::now()).unwrap();
    let opened = Authority::open(&sealed).unwrap();
    assert_eq!(made.root_der(), opened.root_der());
    assert!(opened.root_pem().starts_with("-----BEGIN CERTIFICATE-----\n"));
    for length in [0, 3, 40, sealed.len() - 1] {
        assert!(Authority::open(&sealed[..length]).is_err(), "{length}");
    }
    assert!(matches!(
        opened.intermediate(&sealed, "bot", &[], SystemTime::now()),
        Err(TlsError::NoHosts(agent)) if agent == "bot"
    ));
}
