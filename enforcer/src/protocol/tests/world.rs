//! A stage in one process: an upstream on loopback, agents with listeners, and everything between
//! them that is real but the kernel.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use enforcer_capture::records::{Origin, OriginalDst, RecordError};
use enforcer_policy::{Name, PolicySet, Source};
use enforcer_vault::{Binding, Dangers, Secret, VaultKey};
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;

use crate::agent::{Agent, CgroupId, NetnsCookie, SessionId};
use crate::audit::{AuditLog, Options, Query, Receipt};
use crate::credential::Placeholders;
use crate::dns::Resolver;
use crate::gate::Gate;
use crate::gate::lifeline::Lifelines;
use crate::gate::limit::Limits;
use crate::protocol::PROTOCOLS;
use crate::proxy::{BoxError, CONNECTIONS, Caps, Origins, Session, Shared, Upstreams, serve_session};
use crate::secret::Secrets;
use crate::switches::Switches;
use crate::tls::{Authority, ClientTls, Distrust, Servers, provider};

pub(super) const SECRET: &str = "sk-live-4f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c";
const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub(super) type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

/// One request as the upstream saw it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) connection: usize,
    pub(super) line: String,
    pub(super) headers: http::HeaderMap,
    pub(super) body: Bytes,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

pub(super) struct World {
    pub(super) https: u16,
    pub(super) http: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    origins: Arc<Table>,
    pub(super) shared: Arc<Shared>,
    listeners: HashMap<&'static str, SocketAddr>,
    root: RootCertStore,
    /// the upstream's own
    pub(super) server_tls: Arc<ServerConfig>,
    pub(super) certificate: rustls::pki_types::CertificateDer<'static>,
    pub(super) policies: watch::Sender<Arc<PolicySet>>,
    pub(super) lifelines: Arc<Lifelines>,
    pub(super) switches: Arc<Switches>,
    pub(super) secrets: Secrets,
    audit: AuditLog,
    pub(super) shutdown: CancellationToken,
    pub(super) sessions: Vec<JoinHandle<()>>,
    _directory: tempfile::TempDir,
}

/// Stands in for the kernel's records: the client's own address tells where it was going.
#[derive(Default)]
struct Table(Mutex<HashMap<SocketAddr, SocketAddr>>);

struct Redirects(Arc<Table>);

impl Origins for Redirects {
    fn take(&self, accepted: BorrowedFd<'_>, agent: &Agent) -> Result<Origin, RecordError> {
        let peer = socket2::SockRef::from(&accepted).peer_addr().unwrap().as_socket().unwrap();
        let destination = self.0.0.lock().unwrap().remove(&peer).ok_or(RecordError::NoRecord)?;
        Ok(Origin {
            dst: OriginalDst(destination),
            cgroup_id: agent.cgroup.0,
            netns_cookie: agent.netns.0,
            pid: 4711,
            uid: agent.uid,
            comm: "curl".into(),
        })
    }
}

pub(super) fn compile(texts: &[String]) -> Arc<PolicySet> {
    let sources: Vec<Source> = texts
        .iter()
        .enumerate()
        .map(|(n, text)| Source { name: format!("{n}.yaml"), text: text.clone() })
        .collect();
    Arc::new(PolicySet::compile(&sources).unwrap_or_else(|report| panic!("{report}")).set)
}

/// The agents' policies: `HTTPS` and `CLEAR` stand for the upstream's ports.
pub(super) fn policy(agent: &str, https: u16, http: u16) -> String {
    include_str!("policy.yaml")
        .replace("AGENT", agent)
        .replace("HTTPS", &https.to_string())
        .replace("CLEAR", &http.to_string())
}

impl World {
    pub(super) async fn new() -> World {
        World::trusting(&[]).await
    }

    /// These roots are upstreams' as well.
    pub(super) async fn trusting(roots: &[rustls::pki_types::CertificateDer<'static>]) -> World {
        let directory = tempfile::tempdir().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (certificate, config) = upstream_tls();
        let https = upstream(Some(config.clone()), seen.clone()).await;
        let http = upstream(None, seen.clone()).await;

        let secrets =
            Secrets::open(&directory.path().join("vault.db"), VaultKey::read(&[7u8; 32][..]).unwrap())
                .unwrap();
        for (name, value) in [("token", SECRET), ("token-b", "sk-other-0123456789abcdef0123456789abcdef")] {
            let hosts =
                vec![Binding::parse(&format!("https://api.test:{https}"), Dangers::default()).unwrap()];
            secrets.set(name.into(), hosts, Secret::new(value.as_bytes().to_vec()).unwrap()).await.unwrap();
        }
        let audit = AuditLog::open(directory.path(), Options::default()).unwrap();
        let set = compile(&["one", "two"].map(|agent| policy(agent, https, http)));
        let (policies, watching) = watch::channel(set);
        let (authority, sealed) = Authority::create("test", SystemTime::now()).unwrap();
        let mut root = RootCertStore::empty();
        root.add(authority.root_der().clone()).unwrap();
        let open_root: crate::tls::OpenRoot = Arc::new(move || {
            let sealed = sealed.clone();
            Box::pin(async move { Ok(sealed) })
        });
        let names =
            ["api.test", "other.test", "plain.test"].map(|name| (name.to_owned(), LOCALHOST)).to_vec();
        let resolver = Arc::new(Resolver::new(Vec::new(), names, Duration::from_secs(1)));
        let mut upstream_roots = RootCertStore::empty();
        for root in roots.iter().chain([&certificate]) {
            upstream_roots.add(root.clone()).unwrap();
        }
        let origins = Arc::new(Table::default());
        let shutdown = CancellationToken::new();
        let lifelines = Arc::new(Lifelines::default());
        let switches = Arc::new(Switches::open(directory.path()).unwrap());
        let limits = Arc::new(Limits::open(directory.path(), None).unwrap());
        let shared = Arc::new(Shared {
            gate: Gate::new(watching, switches.clone(), lifelines.clone(), limits, audit.clone()),
            servers: Servers::new(Arc::new(authority), open_root).unwrap(),
            distrust: Arc::new(Distrust::new(Arc::new(crate::tls::distrust::tests::Told(None)))),
            secrets: secrets.clone(),
            placeholders: Placeholders::new(&[9; 32]),
            upstreams: Upstreams::new(resolver, ClientTls::with_roots(upstream_roots), lifelines.clone()),
            origins: Box::new(Redirects(origins.clone())),
            protocols: PROTOCOLS,
            shutdown: shutdown.clone(),
            caps: Caps::default(),
        });
        let judging = shared.clone();
        tokio::spawn(async move { judging.gate.follow_policies().await });
        let (mut listeners, mut sessions) = (HashMap::new(), Vec::new());
        for (number, name) in [(1, "one"), (2, "two")] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            listeners.insert(name, listener.local_addr().unwrap());
            let agent = Arc::new(Agent {
                name: Name::parse(name).unwrap(),
                session: SessionId(format!("{name}-session").into()),
                cgroup: CgroupId(number),
                netns: NetnsCookie(number),
                uid: 61600,
            });
            let session = Session { agent, listeners: vec![listener] };
            sessions.push(tokio::spawn(serve_session(session, shared.clone())));
        }
        World {
            https,
            http,
            seen,
            origins,
            shared,
            listeners,
            root,
            server_tls: config,
            certificate,
            policies,
            lifelines,
            switches,
            secrets,
            audit,
            shutdown,
            sessions,
            _directory: directory,
        }
    }

    /// From here on `api.test`, with its credential, is what a test serves at this port.
    pub(super) async fn moves_to(&mut self, https: u16) {
        self.https = https;
        let hosts = Binding::parse(&format!("https://api.test:{https}"), Dangers::default()).unwrap();
        let value = Secret::new(SECRET.into()).unwrap();
        self.secrets.set("token".into(), vec![hosts], value).await.unwrap();
        self.policies.send_replace(compile(&["one", "two"].map(|agent| policy(agent, https, self.http))));
    }

    /// What the upstream has seen so far.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Waits until the upstream has been asked for this path.
    pub(super) async fn asked(&self, path: &str) {
        for _ in 0..250 {
            if self.seen().iter().any(|seen| seen.line.contains(path)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the upstream was not asked for {path}: {:?}", self.seen());
    }

    /// All receipts, oldest first, once there are `count` of them with an outcome.
    pub(super) async fn receipts(&self, count: usize) -> Vec<Receipt> {
        let mut receipts = Vec::new();
        for _ in 0..1000 {
            receipts = self.audit.query(Query::default()).await.unwrap();
            if receipts.len() >= count && receipts.iter().all(|receipt| receipt.outcome.is_some()) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        receipts.sort_by_key(|receipt| receipt.seq);
        assert!(receipts.iter().all(|receipt| receipt.outcome.is_some()), "{receipts:#?}");
        assert!(receipts.len() >= count, "{receipts:#?}");
        receipts
    }

    /// All receipts as they are now, with and without an outcome.
    pub(super) async fn receipts_so_far(&self) -> Vec<Receipt> {
        self.audit.query(Query::default()).await.unwrap()
    }

    /// A connection as the agent's kernel would redirect it.
    pub(super) async fn dial(&self, agent: &str, port: u16) -> TcpStream {
        self.dial_to(agent, SocketAddr::new([203, 0, 113, 9].into(), port)).await
    }

    pub(super) async fn dial_to(&self, agent: &str, destination: SocketAddr) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        self.origins.0.lock().unwrap().insert(socket.local_addr().unwrap(), destination);
        let stream = socket.connect(self.listeners[agent]).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Connections that count against the agent's cap.
    pub(super) fn slots(&self, agent: &str) -> usize {
        CONNECTIONS - self.shared.caps.of(&Name::parse(agent).unwrap()).connections.available_permits()
    }

    pub(super) async fn undeclared(&self, agent: &str) -> TcpStream {
        TcpStream::connect(self.listeners[agent]).await.unwrap()
    }

    pub(super) async fn tls(
        &self,
        agent: &str,
        name: &str,
        alpn: &[&str],
    ) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.root.clone())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = self.dial(agent, self.https).await;
        TlsConnector::from(Arc::new(config))
            .connect(ServerName::try_from(name.to_owned()).unwrap(), stream)
            .await
    }

    /// An HTTP/1 client on a new TLS connection.
    pub(super) async fn h1(
        &self,
        agent: &str,
        name: &str,
    ) -> hyper::client::conn::http1::SendRequest<Full<Bytes>> {
        let stream = self.tls(agent, name, &["http/1.1"]).await.unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender
    }

    /// An HTTP/2 client on a new TLS connection.
    pub(super) async fn h2(
        &self,
        agent: &str,
        name: &str,
    ) -> hyper::client::conn::http2::SendRequest<Full<Bytes>> {
        let stream = self.tls(agent, name, &["h2"]).await.unwrap();
        let io = TokioIo::new(stream);
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    pub(super) fn authority(&self) -> String {
        format!("api.test:{}", self.https)
    }

    /// A request in HTTP/1's form.
    pub(super) fn request(&self, method: &str, path: &str, body: &str) -> Request<Full<Bytes>> {
        Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.authority())
            .body(Full::from(body.to_owned()))
            .unwrap()
    }

    /// The same in HTTP/2's.
    pub(super) fn request2(&self, method: &str, path: &str, body: &str) -> Request<Full<Bytes>> {
        let uri = format!("https://{}{path}", self.authority());
        Request::builder().method(method).uri(uri).body(Full::from(body.to_owned())).unwrap()
    }
}

pub(super) async fn text(response: Response<Incoming>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub(super) async fn json(response: Response<Incoming>) -> serde_json::Value {
    serde_json::from_str(&text(response).await).unwrap()
}

fn upstream_tls() -> (rustls::pki_types::CertificateDer<'static>, Arc<ServerConfig>) {
    let made =
        rcgen::generate_simple_self_signed(vec!["api.test".to_owned(), "other.test".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.clone()],
            PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into(),
        )
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (certificate, Arc::new(config))
}

/// A server that writes down what it gets and answers by path.
async fn upstream(tls: Option<Arc<ServerConfig>>, seen: Arc<Mutex<Vec<Seen>>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let number = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
            let (tls, seen) = (tls.clone(), seen.clone());
            tokio::spawn(async move {
                let service =
                    service_fn(move |request| super::answers::answer(request, number, seen.clone()));
                let Some(tls) = tls else {
                    let serving = hyper::server::conn::http1::Builder::new();
                    return drop(
                        serving.serve_connection(TokioIo::new(stream), service).with_upgrades().await,
                    );
                };
                let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await else { return };
                let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let io = TokioIo::new(stream);
                if h2 {
                    let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    drop(serving.serve_connection(io, service).await);
                } else {
                    let serving = hyper::server::conn::http1::Builder::new();
                    drop(serving.serve_connection(io, service).with_upgrades().await);
                }
            });
        }
    });
    port
}
