//! Certificates that an upstream must not get by with: the agent is told what is wrong, and nothing of its
//! request, the credential least of all, is sent. There is no switch that would let one of them through.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use enforcer_vault::{Binding, Dangers, Secret};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, GeneralSubtree,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, SanType,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::world::{SECRET, World, compile, json, policy};
use crate::tls::provider;

const HOST: &str = "api.test";
const DAY: Duration = Duration::from_secs(24 * 3600);

type Chain = Vec<CertificateDer<'static>>;

/// What an upstream shows, and the key it signs with.
struct Shown {
    name: &'static str,
    chain: Chain,
    key: Arc<KeyPair>,
    accepted: bool,
}

/// Everything that a good chain is made of.
struct Pki {
    root: Issuer<'static, KeyPair>,
    root_der: CertificateDer<'static>,
    between: Issuer<'static, KeyPair>,
    between_der: CertificateDer<'static>,
    leaf_key: Arc<KeyPair>,
}

fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) =
        ((SystemTime::now() - DAY).into(), (SystemTime::now() + DAY).into());
    params
}

fn authority(name: &str, below: u8) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn leaf() -> CertificateParams {
    let mut params = params("a server");
    params.subject_alt_names = vec![SanType::DnsName(HOST.try_into().unwrap())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.is_ca = IsCa::ExplicitNoCa;
    params
}

fn leaf_with(change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = leaf();
    change(&mut params);
    params
}

fn named(name: &str) -> CertificateParams {
    leaf_with(|leaf| leaf.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap())])
}

fn signed(params: &CertificateParams, key: &KeyPair, by: &Issuer<'_, KeyPair>) -> CertificateDer<'static> {
    params.signed_by(key, by).unwrap().der().clone()
}

impl Pki {
    fn new() -> Pki {
        let (root_params, root_key) = (authority("root", 1), key());
        let root_der = root_params.self_signed(&root_key).unwrap().der().clone();
        let root = Issuer::new(root_params, root_key);
        let (between_params, between_key) = (authority("between", 0), key());
        let between_der = signed(&between_params, &between_key, &root);
        Pki {
            root,
            root_der,
            between: Issuer::new(between_params, between_key),
            between_der,
            leaf_key: key().into(),
        }
    }

    /// A leaf behind the good intermediate.
    fn behind(&self, params: &CertificateParams) -> Chain {
        vec![signed(params, &self.leaf_key, &self.between), self.between_der.clone()]
    }

    /// A good leaf behind an intermediate of these properties.
    fn through(&self, between: CertificateParams) -> Chain {
        let between_key = key();
        let der = signed(&between, &between_key, &self.root);
        vec![signed(&leaf(), &self.leaf_key, &Issuer::new(between, between_key)), der]
    }
}

fn shown(pki: &Pki) -> Vec<Shown> {
    let now = SystemTime::now();
    let mut all = Vec::new();
    let mut add = |name, chain| all.push(Shown { name, chain, key: pki.leaf_key.clone(), accepted: false });

    add("expired", pki.behind(&leaf_with(|leaf| leaf.not_after = (now - DAY / 2).into())));
    add("not valid yet", pki.behind(&leaf_with(|leaf| leaf.not_before = (now + DAY / 2).into())));
    add("another name", pki.behind(&named("other.test")));
    add("a name above", pki.behind(&named("test")));
    add("a name below", pki.behind(&named("www.api.test")));
    add("a wildcard for names below", pki.behind(&named("*.api.test")));
    add("a wildcard within a label", pki.behind(&named("a*.test")));
    add("a wildcard for everything", pki.behind(&named("*")));
    let bare = leaf_with(|leaf| {
        leaf.subject_alt_names.clear();
        leaf.distinguished_name.push(DnType::CommonName, HOST);
    });
    add("a common name alone", pki.behind(&bare));
    let other = |san| pki.behind(&leaf_with(|leaf| leaf.subject_alt_names = vec![san]));
    add("an address", other(SanType::IpAddress([127, 0, 0, 1].into())));
    add("the name as an e-mail address", other(SanType::Rfc822Name(HOST.try_into().unwrap())));
    add("the name as a URI", other(SanType::URI("https://api.test/".try_into().unwrap())));
    let usage = |usage| pki.behind(&leaf_with(|leaf| leaf.extended_key_usages = vec![usage]));
    add("for clients only", usage(ExtendedKeyUsagePurpose::ClientAuth));
    add("for signing code", usage(ExtendedKeyUsagePurpose::CodeSigning));
    let authority_itself = leaf_with(|leaf| {
        leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        leaf.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    });
    add("an authority as a server", pki.behind(&authority_itself));
    let mut unknown = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
    unknown.set_criticality(true);
    add(
        "an unknown critical extension",
        pki.behind(&leaf_with(|leaf| leaf.custom_extensions = vec![unknown])),
    );

    add("self-signed", vec![leaf().self_signed(&*pki.leaf_key).unwrap().der().clone()]);
    add("of an unknown root", {
        let (root, root_key) = (authority("unknown", 1), key());
        let der = root.self_signed(&root_key).unwrap().der().clone();
        vec![signed(&leaf(), &pki.leaf_key, &Issuer::new(root, root_key)), der]
    });
    add("of a root that only bears the name", {
        let (root, root_key) = (authority("root", 1), key());
        let der = root.self_signed(&root_key).unwrap().der().clone();
        vec![signed(&leaf(), &pki.leaf_key, &Issuer::new(root, root_key)), der]
    });
    add("without its intermediate", vec![signed(&leaf(), &pki.leaf_key, &pki.between)]);
    add("the intermediate first", {
        let mut chain = pki.behind(&leaf());
        chain.reverse();
        chain
    });
    add("the root itself", vec![pki.root_der.clone()]);
    add("by a leaf", {
        let (signer, signer_key) = (named("signer.test"), key());
        let der = signed(&signer, &signer_key, &pki.between);
        vec![signed(&leaf(), &pki.leaf_key, &Issuer::new(signer, signer_key)), der, pki.between_der.clone()]
    });
    add("by an intermediate too deep", {
        let (deep, deep_key) = (authority("deep", 0), key());
        let der = signed(&deep, &deep_key, &pki.between);
        vec![signed(&leaf(), &pki.leaf_key, &Issuer::new(deep, deep_key)), der, pki.between_der.clone()]
    });
    let between = |change: fn(&mut CertificateParams)| {
        let mut between = authority("another between", 0);
        change(&mut between);
        pki.through(between)
    };
    add("by an expired intermediate", between(|p| p.not_after = (SystemTime::now() - DAY / 2).into()));
    add("by an intermediate that is no authority", between(|p| p.is_ca = IsCa::ExplicitNoCa));
    add("by one for other names", between(|p| p.name_constraints = names(&["other.test"], &[])));
    add("by one that excludes the name", between(|p| p.name_constraints = names(&[], &["test"])));
    add("by an intermediate for clients", {
        between(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth])
    });

    add("signed over other bytes", {
        let mut chain = pki.behind(&leaf());
        let mut der = chain[0].to_vec();
        *der.last_mut().unwrap() ^= 1;
        chain[0] = der.into();
        chain
    });
    add("cut off", vec![pki.behind(&leaf())[0][..200].to_vec().into()]);
    add("no certificate", vec![b"not a certificate".to_vec().into()]);
    all.push(Shown {
        name: "of somebody else's key",
        chain: pki.behind(&leaf()),
        key: key().into(),
        accepted: false,
    });
    // What shows that the others fail by what is wrong with them.
    for (name, chain) in [
        ("good", pki.behind(&leaf())),
        ("good, with the root", [pki.behind(&leaf()), vec![pki.root_der.clone()]].concat()),
        ("good, by a wildcard", pki.behind(&named("*.test"))),
        ("good, by a constrained intermediate", between(|p| p.name_constraints = names(&["api.test"], &[]))),
    ] {
        all.push(Shown { name, chain, key: pki.leaf_key.clone(), accepted: true });
    }
    all
}

fn names(permitted: &[&str], excluded: &[&str]) -> Option<NameConstraints> {
    let trees =
        |names: &[&str]| names.iter().map(|name| GeneralSubtree::DnsName((*name).to_owned())).collect();
    Some(NameConstraints { permitted_subtrees: trees(permitted), excluded_subtrees: trees(excluded) })
}

/// What the server shows next.
#[derive(Debug, Default)]
struct Showing(Mutex<Option<Arc<CertifiedKey>>>);

impl ResolvesServerCert for Showing {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.lock().unwrap().clone()
    }
}

/// A server that answers every request and keeps what it reads.
async fn server(showing: Arc<Showing>) -> (u16, Arc<Mutex<Vec<u8>>>) {
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(showing);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, heard) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Vec::new())));
    let hearing = heard.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, heard) = (acceptor.clone(), hearing.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut bytes = [0; 4096];
                while let Ok(n @ 1..) = stream.read(&mut bytes).await {
                    heard.lock().unwrap().extend_from_slice(&bytes[..n]);
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
                    stream.write_all(answer).await.unwrap();
                }
            });
        }
    });
    (port, heard)
}

#[tokio::test]
async fn a_bad_certificate_gets_neither_the_request_nor_the_credential() {
    let pki = Pki::new();
    let mut world = World::trusting(std::slice::from_ref(&pki.root_der)).await;
    let showing = Arc::new(Showing::default());
    let (port, heard) = server(showing.clone()).await;
    world.https = port;
    world.policies.send_replace(compile(&[policy("one", port, world.http)]));
    let binding = Binding::parse(&format!("https://{HOST}:{port}"), Dangers::default()).unwrap();
    let secret = Secret::new(SECRET.as_bytes().to_vec()).unwrap();
    world.secrets.set("token".into(), vec![binding], secret).await.unwrap();

    let mut wrong = Vec::new();
    let cases = shown(&pki);
    assert!(cases.iter().filter(|case| !case.accepted).count() >= 20);
    for case in &cases {
        let signer = PrivatePkcs8KeyDer::from(case.key.serialize_der()).into();
        let signer = provider().key_provider.load_private_key(signer).unwrap();
        *showing.0.lock().unwrap() = Some(Arc::new(CertifiedKey::new(case.chain.clone(), signer)));
        heard.lock().unwrap().clear();
        let mut agent = world.h1("one", HOST).await;
        let response = agent.send_request(world.request("GET", "/token/x", "")).await.unwrap();
        let status = response.status().as_u16();
        let heard = String::from_utf8_lossy(&heard.lock().unwrap()).into_owned();
        if case.accepted {
            if status != 200 || !heard.contains(SECRET) {
                wrong.push(format!("{}: {status}, heard {heard:?}", case.name));
            }
            continue;
        }
        let said = if status == 200 { "accepted".into() } else { json(response).await };
        let told = said["code"] == "upstream_certificate"
            && said["reason"].as_str().is_some_and(|reason| reason.contains(HOST))
            && said["advice"].as_str().is_some_and(|advice| advice.contains("nothing was sent"));
        if status != 502 || !told || !heard.is_empty() {
            wrong.push(format!("{}: {said}, heard {heard:?}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
