//! A session's resolver over real sockets, with a name server of our own behind it that counts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use enforcer_policy::{AgentName, Host, PolicySet, Source};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::rdata::{A, CNAME};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::agent::{Agent, CgroupId, NetnsCookie, SessionId};
use crate::audit::{AuditLog, Options, Query as ReceiptQuery};
use crate::switches::{Off, Switches};

const POLICY: &str = r#"
version: 1
agent: bot
allow:
  - name: api
    host: [api.example.com, alias.example.com, inside.example.com, lan.example.com, gone.example.com, big.example.com, broken.example.com, slow.example.com]
  - name: under
    host: "*.wild.example.com"
dns:
  private_addresses: [10.9.0.0/16]
"#;

/// A name server on loopback. Names under `example.com` mean what the tests below say.
struct Upstream {
    address: SocketAddr,
    packets: Arc<AtomicUsize>,
}

impl Upstream {
    async fn start() -> Self {
        let udp = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = udp.local_addr().unwrap();
        let tcp = tokio::net::TcpListener::bind(address).await.unwrap();
        let packets = Arc::new(AtomicUsize::new(0));
        let counter = packets.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            loop {
                let (length, client) = udp.recv_from(&mut buffer).await.unwrap();
                counter.fetch_add(1, Ordering::SeqCst);
                let question = Message::from_vec(&buffer[..length]).unwrap();
                let answer = zone(&question, false);
                if answer.queries[0].name().to_ascii() == "slow.example.com." {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                // First what a blind forger would send: another id, and another question.
                let mut forged = forgery(&answer);
                forged.metadata.id ^= 1;
                udp.send_to(&forged.to_vec().unwrap(), client).await.unwrap();
                let mut forged = forgery(&answer);
                forged.queries[0].set_name(Name::from_ascii("other.example.com.").unwrap());
                udp.send_to(&forged.to_vec().unwrap(), client).await.unwrap();
                udp.send_to(b"noise", client).await.unwrap();
                udp.send_to(&answer.to_vec().unwrap(), client).await.unwrap();
            }
        });
        let counter = packets.clone();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = tcp.accept().await.unwrap();
                counter.fetch_add(1, Ordering::SeqCst);
                let mut question = vec![0; usize::from(stream.read_u16().await.unwrap())];
                stream.read_exact(&mut question).await.unwrap();
                let answer = zone(&Message::from_vec(&question).unwrap(), true).to_vec().unwrap();
                stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        });
        Upstream { address, packets }
    }

    fn packets(&self) -> usize {
        self.packets.load(Ordering::SeqCst)
    }
}

fn forgery(answer: &Message) -> Message {
    let mut forged = answer.clone();
    forged.answers.clear();
    forged.metadata.response_code = ResponseCode::NoError;
    let name = forged.queries[0].name().clone();
    forged.add_answer(Record::from_rdata(name, 60, RData::A(A::new(6, 6, 6, 6))));
    forged
}

fn zone(question: &Message, tcp: bool) -> Message {
    let query = question.queries[0].clone();
    let name = query.name().clone();
    let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
    answer.add_query(query.clone());
    let v4 = query.query_type() == RecordType::A;
    let mut a = |name: &Name, address: [u8; 4]| {
        answer.add_answer(Record::from_rdata(name.clone(), 300, RData::A(A(address.into()))));
    };
    match name.to_ascii().as_str() {
        "api.example.com." | "slow.example.com." if v4 => a(&name, [8, 8, 8, 8]),
        "alias.example.com." if v4 => {
            let target = Name::from_ascii("target.example.net.").unwrap();
            // The address first: order inside an answer means nothing. And one of somebody else.
            a(&target, [8, 8, 4, 4]);
            a(&Name::from_ascii("stranger.example.net.").unwrap(), [6, 6, 6, 6]);
            answer.add_answer(Record::from_rdata(name, 300, RData::CNAME(CNAME(target))));
        }
        "inside.example.com." if v4 => {
            a(&name, [169, 254, 169, 254]);
            a(&name, [127, 0, 0, 1]);
        }
        "lan.example.com." if v4 => {
            a(&name, [10, 9, 0, 1]);
            a(&name, [10, 8, 0, 1]);
        }
        "big.example.com." if v4 && !tcp => answer.metadata.truncation = true,
        "big.example.com." if v4 => (1..=40).for_each(|n| a(&name, [9, 9, 9, n])),
        "gone.example.com." => answer.metadata.response_code = ResponseCode::NXDomain,
        "broken.example.com." => answer.metadata.response_code = ResponseCode::ServFail,
        "loop.example.com." => {
            answer.add_answer(Record::from_rdata(name.clone(), 300, RData::CNAME(CNAME(name))));
        }
        _ => {}
    }
    answer
}

/// One session with its resolver.
struct Stage {
    upstream: Upstream,
    udp: SocketAddr,
    tcp: SocketAddr,
    audit: AuditLog,
    policies: watch::Sender<Arc<PolicySet>>,
    switches: Arc<Switches>,
    _folder: tempfile::TempDir,
    shutdown: CancellationToken,
    served: tokio::task::JoinHandle<std::io::Result<()>>,
}

async fn stage() -> Stage {
    let upstream = Upstream::start().await;
    let folder = tempfile::tempdir().unwrap();
    let audit = AuditLog::open(folder.path(), Options::default()).unwrap();
    let source = Source { name: "bot.yaml".into(), text: POLICY.into() };
    let set = PolicySet::compile(&[source]).map_err(|report| report.to_string()).unwrap().set;
    let policies = watch::Sender::new(Arc::new(set));
    let agent = Arc::new(Agent {
        name: AgentName::parse("bot").unwrap(),
        session: SessionId("bot-abc123".into()),
        cgroup: CgroupId(7),
        netns: NetnsCookie(8),
        uid: 61600,
    });
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (udp_address, tcp_address) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
    let resolver = Arc::new(Resolver::new(vec![upstream.address], Vec::new(), Duration::from_secs(2)));
    let shutdown = CancellationToken::new();
    let switches = Arc::new(Switches::open(folder.path()).unwrap());
    let sockets = Sockets { udp: vec![udp], tcp: vec![tcp] };
    let served = tokio::spawn(serve(
        sockets,
        agent,
        policies.subscribe(),
        switches.clone(),
        resolver,
        audit.clone(),
        shutdown.clone(),
    ));
    Stage {
        upstream,
        udp: udp_address,
        tcp: tcp_address,
        audit,
        policies,
        switches,
        _folder: folder,
        shutdown,
        served,
    }
}

impl Stage {
    async fn exchange(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(bytes, self.udp).await.unwrap();
        let mut buffer = vec![0; 65535];
        let received = tokio::time::timeout(Duration::from_millis(1500), socket.recv(&mut buffer)).await;
        received.ok().map(|length| buffer[..length.unwrap()].to_vec())
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Message {
        let answer = self.exchange(&question(name, kind).to_vec().unwrap()).await.expect("an answer");
        Message::from_vec(&answer).unwrap()
    }

    /// Reason, host and kind of each.
    async fn refusals(&self) -> Vec<[String; 3]> {
        let query = ReceiptQuery { denied: true, ..ReceiptQuery::default() };
        let receipts = self.audit.query(query).await.unwrap();
        let row =
            |i: crate::audit::Intent| [i.reason, i.host.unwrap_or_default(), i.method.unwrap_or_default()];
        receipts.into_iter().map(|r| row(r.intent)).collect()
    }
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.set_edns(Edns::new());
    message
}

fn addresses(message: &Message) -> Vec<IpAddr> {
    message
        .answers
        .iter()
        .map(|r| match &r.data {
            RData::A(a) => a.0.into(),
            RData::AAAA(a) => a.0.into(),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn extended_error(message: &Message) -> Option<u16> {
    match message.edns.as_ref()?.option(EdnsCode::Unknown(15))? {
        EdnsOption::Unknown(_, data) => Some(u16::from_be_bytes([data[0], data[1]])),
        _ => None,
    }
}

#[tokio::test]
async fn a_disabled_agent_gets_no_names_and_no_packet_leaves() {
    let stage = stage().await;
    let bot = AgentName::parse("bot").unwrap();
    stage.switches.turn_off(&bot, Off { at: 1, uid: 0, reason: None, frozen: false, quarantine: false });
    for name in ["api.example.com.", "a.wild.example.com.", "www.example.com."] {
        let answer = stage.ask(name, RecordType::A).await;
        assert_eq!(
            (answer.metadata.response_code, extended_error(&answer)),
            (ResponseCode::NXDomain, Some(15))
        );
    }
    assert_eq!(stage.upstream.packets(), 0);
    assert!(stage.refusals().await.iter().all(|[reason, _, kind]| reason == "agent_disabled" && kind == "A"));
    stage.switches.turn_on(&bot);
    assert_eq!(addresses(&stage.ask("api.example.com.", RecordType::A).await).len(), 1);
}

#[tokio::test]
async fn what_each_question_is_answered_and_whether_it_leaves_the_host() {
    use RecordType as T;
    use ResponseCode as C;
    let stage = stage().await;
    // question, kind; answer: code, addresses, extended error, may a packet leave?
    type Row = (&'static str, T, C, &'static [&'static str], Option<u16>, bool);
    let table: &[Row] = &[
        ("api.example.com.", T::A, C::NoError, &["8.8.8.8"], None, true),
        ("API.Example.COM.", T::A, C::NoError, &["8.8.8.8"], None, false),
        ("api.example.com.", T::AAAA, C::NoError, &[], None, false),
        ("alias.example.com.", T::A, C::NoError, &["8.8.4.4"], None, true),
        ("gone.example.com.", T::A, C::NXDomain, &[], None, true),
        ("broken.example.com.", T::A, C::ServFail, &[], Some(23), true),
        ("inside.example.com.", T::A, C::NoError, &[], Some(17), true),
        ("lan.example.com.", T::A, C::NoError, &["10.9.0.1"], None, true),
        ("api.example.com.", T::HTTPS, C::NoError, &[], None, false),
        ("api.example.com.", T::SVCB, C::NoError, &[], None, false),
        ("api.example.com.", T::MX, C::NoError, &[], None, false),
        ("api.example.com.", T::TXT, C::Refused, &[], Some(15), false),
        ("api.example.com.", T::ANY, C::Refused, &[], Some(15), false),
        ("api.example.com.", T::AXFR, C::Refused, &[], Some(15), false),
        ("api.example.com.", T::NULL, C::Refused, &[], Some(15), false),
        ("api.example.com.", T::Unknown(65399), C::Refused, &[], Some(15), false),
        ("a.wild.example.com.", T::AAAA, C::NoError, &[], None, false),
        ("a.wild.example.com.", T::HTTPS, C::NoError, &[], None, false),
        ("wild.example.com.", T::A, C::NXDomain, &[], Some(15), false),
        ("www.example.com.", T::A, C::NXDomain, &[], Some(15), false),
        ("api.example.com.evil.test.", T::A, C::NXDomain, &[], Some(15), false),
        ("evilapi.example.com.", T::A, C::NXDomain, &[], Some(15), false),
        ("x.api.example.com.", T::A, C::NXDomain, &[], Some(15), false),
        ("com.", T::A, C::NXDomain, &[], Some(15), false),
        (".", T::A, C::NXDomain, &[], Some(15), false),
        ("_dns.api.example.com.", T::SRV, C::NXDomain, &[], Some(15), false),
        ("127.0.0.1.", T::A, C::NXDomain, &[], Some(15), false),
        ("2130706433.", T::A, C::NXDomain, &[], Some(15), false),
        ("0x7f.1.", T::A, C::NXDomain, &[], Some(15), false),
        ("8.8.8.8.in-addr.arpa.", T::PTR, C::NXDomain, &[], None, false),
        ("use-application-dns.net.", T::A, C::NXDomain, &[], None, false),
        ("mask.icloud.com.", T::A, C::NXDomain, &[], None, false),
        ("mask-h2.icloud.com.", T::AAAA, C::NXDomain, &[], None, false),
        ("_dns.resolver.arpa.", T::SVCB, C::NXDomain, &[], Some(15), false),
    ];
    for (name, kind, code, expected, extended, leaves) in table {
        let before = stage.upstream.packets();
        let answer = stage.ask(name, *kind).await;
        let what = format!("{name} {kind}");
        assert_eq!(answer.metadata.response_code, *code, "{what}");
        let expected: Vec<IpAddr> = expected.iter().map(|a| a.parse().unwrap()).collect();
        assert_eq!(addresses(&answer), expected, "{what}");
        assert_eq!(extended_error(&answer), *extended, "{what}");
        assert_eq!(stage.upstream.packets() > before, *leaves, "{what}");
        assert_eq!(answer.metadata.id, 0x1234, "{what}");
        assert!(answer.answers.iter().all(|r| r.ttl <= 60), "{what}");
    }
}

#[tokio::test]
async fn names_under_a_wildcard_get_a_made_up_address_and_no_packet_leaves() {
    let stage = stage().await;
    let range: ipnet::IpNet = "198.18.0.0/15".parse().unwrap();
    let mut seen = std::collections::HashSet::new();
    for n in 0..40 {
        let name = format!("dGhlIHNlY3JldCBpcyA0Mg-{n}.wild.example.com.");
        let first = addresses(&stage.ask(&name, RecordType::A).await);
        assert_eq!(first, addresses(&stage.ask(&name, RecordType::A).await));
        assert!(first.len() == 1 && range.contains(&first[0]), "{first:?}");
        seen.insert(first[0]);
    }
    assert!(seen.len() > 35);
    assert_eq!(stage.upstream.packets(), 0);
}

#[tokio::test]
async fn refusals_are_on_record_with_their_reason() {
    let stage = stage().await;
    stage.ask("secret.evil.test.", RecordType::A).await;
    stage.ask("api.example.com.", RecordType::TXT).await;
    stage.ask("inside.example.com.", RecordType::A).await;
    stage.ask("bad_name.example.com.", RecordType::A).await;
    stage.ask("api.example.com.", RecordType::A).await;
    stage.policies.send_replace(Arc::new(PolicySet::empty()));
    let answer = stage.ask("api.example.com.", RecordType::A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
    let found = stage.refusals().await;
    let expected = [
        ["name_not_allowed", "secret.evil.test", "A"],
        ["record_type", "", "TXT"],
        ["special_address", "inside.example.com", "A"],
        ["bad_name", "", "A"],
        ["no_policy", "api.example.com", "A"],
    ];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn broken_and_hostile_messages_are_answered_with_an_error_or_not_at_all() {
    let stage = stage().await;
    let good = question("api.example.com.", RecordType::A).to_vec().unwrap();
    let edited = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    let mut two = question("api.example.com.", RecordType::A);
    two.add_query(Query::query(Name::from_ascii("api.example.com.").unwrap(), RecordType::AAAA));
    let mut chaos = question("version.bind.", RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    let mut other_class = question("api.example.com.", RecordType::A);
    other_class.queries[0].set_query_class(DNSClass::CH);
    let mut smuggled = question("api.example.com.", RecordType::A);
    let name = Name::from_ascii("api.example.com.").unwrap();
    smuggled.add_answer(Record::from_rdata(name, 60, RData::A(A(Ipv4Addr::LOCALHOST))));
    let header = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    let with_name = |name: &[u8]| [&header[..], name, &[0, 1, 0, 1]].concat();

    let table: Vec<(&str, Vec<u8>, Option<ResponseCode>)> = vec![
        ("an answer", edited(2, 0x81), None),
        ("shorter than a header", good[..11].to_vec(), None),
        ("nothing", Vec::new(), None),
        ("a header alone", header.to_vec(), Some(ResponseCode::FormErr)),
        ("a status request", edited(2, 0x11), Some(ResponseCode::NotImp)),
        ("an update", edited(2, 0x29), Some(ResponseCode::NotImp)),
        ("no question", edited(5, 0), Some(ResponseCode::FormErr)),
        ("two questions", two.to_vec().unwrap(), Some(ResponseCode::FormErr)),
        ("an answer in a question", smuggled.to_vec().unwrap(), Some(ResponseCode::FormErr)),
        ("three additional records", edited(11, 3), Some(ResponseCode::FormErr)),
        ("bytes behind", [good.clone(), vec![0]].concat(), Some(ResponseCode::FormErr)),
        ("a name that points at itself", with_name(&[0xc0, 12]), Some(ResponseCode::FormErr)),
        ("a name that points ahead", with_name(&[0xc0, 0xff]), Some(ResponseCode::FormErr)),
        ("a label with a dot in it", with_name(b"\x0fapi.example.com\0"), Some(ResponseCode::NXDomain)),
        ("a label with a zero in it", with_name(b"\x03a\0b\x03com\0"), Some(ResponseCode::NXDomain)),
        ("too long", [good.clone(), vec![0; 5000]].concat(), Some(ResponseCode::FormErr)),
        ("chaos class", chaos.to_vec().unwrap(), Some(ResponseCode::Refused)),
        ("an allowed name in another class", other_class.to_vec().unwrap(), Some(ResponseCode::Refused)),
    ];
    for (what, bytes, expected) in table {
        let before = stage.upstream.packets();
        let answer = stage.exchange(&bytes).await.map(|bytes| Message::from_vec(&bytes).unwrap());
        assert_eq!(answer.as_ref().map(|a| a.metadata.response_code), expected, "{what}");
        assert!(answer.is_none_or(|a| a.answers.is_empty() && a.metadata.id == 0x1234), "{what}");
        assert_eq!(stage.upstream.packets(), before, "{what}");
    }
    // It still works.
    assert_eq!(addresses(&stage.ask("api.example.com.", RecordType::A).await).len(), 1);
}

#[tokio::test]
async fn long_answers_are_cut_over_udp_and_whole_over_tcp() {
    let stage = stage().await;
    let mut plain = question("big.example.com.", RecordType::A);
    plain.edns = None;
    let bytes = stage.exchange(&plain.to_vec().unwrap()).await.unwrap();
    assert!(bytes.len() <= 512);
    let mut stream = tokio::net::TcpStream::connect(stage.tcp).await.unwrap();
    // Two questions on one connection.
    for _ in 0..2 {
        let bytes = plain.to_vec().unwrap();
        stream.write_u16(u16::try_from(bytes.len()).unwrap()).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let mut answer = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(addresses(&Message::from_vec(&answer).unwrap()).len(), 16);
    }
    // UDP, cut upstream, then TCP; and AAAA over UDP.
    assert_eq!(stage.upstream.packets(), 3);
    // A length beyond the cap closes the connection.
    stream.write_u16(u16::MAX).await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_flood_is_refused_and_folded_into_few_receipts() {
    let stage = stage().await;
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let bytes = question("a.wild.example.com.", RecordType::A).to_vec().unwrap();
    let mut refused = 0;
    let mut buffer = [0; 4096];
    for _ in 0..400 {
        socket.send_to(&bytes, stage.udp).await.unwrap();
        let received = tokio::time::timeout(Duration::from_secs(2), socket.recv(&mut buffer)).await;
        let answer = Message::from_vec(&buffer[..received.unwrap().unwrap()]).unwrap();
        refused += usize::from(answer.metadata.response_code == ResponseCode::Refused);
    }
    assert!((100..=300).contains(&refused), "{refused}");
    let receipts = stage.refusals().await;
    assert!(!receipts.is_empty() && receipts.len() < 20, "{}", receipts.len());
    assert!(receipts.iter().all(|[reason, ..]| reason == "rate_limited"));
}

#[tokio::test]
async fn the_server_stops_when_told() {
    let stage = stage().await;
    stage.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(2), stage.served).await.unwrap().unwrap().unwrap();
}

/// The next worker gets what waits in the socket, not what was taken out of it.
#[tokio::test]
async fn a_question_under_way_is_answered_before_the_server_stops() {
    let stage = stage().await;
    let bytes = question("slow.example.com.", RecordType::A).to_vec().unwrap();
    let asked = async { Message::from_vec(&stage.exchange(&bytes).await.expect("an answer")).unwrap() };
    let stop = async {
        while stage.upstream.packets() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stage.shutdown.cancel();
    };
    let (answer, ()) = tokio::join!(asked, stop);
    assert_eq!(addresses(&answer), ["8.8.8.8".parse::<IpAddr>().unwrap()]);
    stage.served.await.unwrap().unwrap();
}

// The resolver by itself.

fn resolver(servers: Vec<SocketAddr>) -> Resolver {
    let hosts = vec![
        ("Local.Example.COM".to_owned(), "192.0.2.7".parse().unwrap()),
        ("local.example.com".to_owned(), "2001:db8::7".parse().unwrap()),
    ];
    Resolver::new(servers, hosts, Duration::from_millis(600))
}

async fn lookup(resolver: &Resolver, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
    resolver.lookup(&Host::parse(name).unwrap()).await.map(|found| found.to_vec())
}

#[tokio::test]
async fn the_hosts_file_comes_first_and_answers_are_kept() {
    let upstream = Upstream::start().await;
    let resolver = resolver(vec![upstream.address]);
    assert_eq!(lookup(&resolver, "local.example.com").await.unwrap().len(), 2);
    assert_eq!(lookup(&resolver, "192.0.2.1").await.unwrap(), ["192.0.2.1".parse::<IpAddr>().unwrap()]);
    assert_eq!(upstream.packets(), 0);
    let expected = ["8.8.8.8".parse::<IpAddr>().unwrap()];
    for _ in 0..3 {
        assert_eq!(lookup(&resolver, "api.example.com").await.unwrap(), expected);
        assert_eq!(upstream.packets(), 2);
    }
    // What does not exist is kept too, for a while.
    for _ in 0..3 {
        let error = lookup(&resolver, "gone.example.com").await.unwrap_err();
        assert_eq!(error, ResolveError::NoName("gone.example.com".into()));
        assert_eq!(upstream.packets(), 4);
    }
}

#[tokio::test]
async fn many_callers_of_one_name_cost_one_question() {
    let upstream = Upstream::start().await;
    let resolver = Arc::new(resolver(vec![upstream.address]));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let resolver = resolver.clone();
        tasks.spawn(async move { lookup(&resolver, "api.example.com").await });
    }
    while let Some(found) = tasks.join_next().await {
        assert_eq!(found.unwrap().unwrap().len(), 1);
    }
    assert_eq!(upstream.packets(), 2);
}

#[tokio::test]
async fn a_dead_server_is_passed_over_and_a_silent_world_is_an_error_in_time() {
    let upstream = Upstream::start().await;
    // Bound and never answered, so that nobody else gets the port.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let dead = silent.local_addr().unwrap();
    assert_eq!(lookup(&resolver(vec![dead, upstream.address]), "api.example.com").await.unwrap().len(), 1);

    let started = std::time::Instant::now();
    let error = lookup(&resolver(vec![dead]), "api.example.com").await.unwrap_err();
    assert!(matches!(error, ResolveError::Failed(_, _)), "{error}");
    assert!(started.elapsed() < Duration::from_secs(30));
    let error = lookup(&resolver(Vec::new()), "api.example.com").await.unwrap_err();
    assert!(error.to_string().contains("resolver.servers"), "{error}");
    for name in ["loop.example.com", "nothing.example.com", "broken.example.com"] {
        let error = lookup(&resolver(vec![upstream.address]), name).await.unwrap_err();
        assert!(matches!(error, ResolveError::Failed(_, _)), "{name}: {error}");
    }
}

#[tokio::test]
async fn callers_who_give_up_leave_nothing_behind() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let resolver = Arc::new(resolver(vec![silent.local_addr().unwrap()]));
    for _ in 0..3 {
        let gone = tokio::time::timeout(Duration::from_millis(20), lookup(&resolver, "api.example.com"));
        assert!(gone.await.is_err());
    }
    assert_eq!(resolver.under_way(), 0);
}
