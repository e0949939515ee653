//! Root, per-agent intermediates and leaves.
//!
//! The root's key exists in memory only while it signs: callers keep it sealed and hand the opened
//! bytes in. Constraints sit on the intermediate, because Java ignores them on a trust anchor. Every
//! subject name differs: with equal names OpenSSL takes a leaf for self-signed.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256, SanType,
    SerialNumber,
};
use ring::rand::SecureRandom as _;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use super::TlsError;
use crate::secret::encode::base64_padded;
use crate::text::hex;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Clocks of agents in virtual machines lag; a leaf made now must be valid there too.
const BACKDATE: Duration = Duration::from_secs(3600);
const ROOT_VALIDITY: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
pub(super) const INTERMEDIATE_VALIDITY: Duration = Duration::from_secs(7 * 24 * 3600);
pub(super) const LEAF_VALIDITY: Duration = DAY;
/// `ub-common-name` (RFC 5280, appendix A).
const MAX_COMMON_NAME: usize = 64;

/// The host's root certificate. Holds no key.
pub struct Authority {
    root: CertificateDer<'static>,
}

impl Authority {
    /// Makes a new root. The second value is to be sealed; it is all that [`Authority::open`] needs.
    pub fn create(hostname: &str, now: SystemTime) -> Result<(Self, Zeroizing<Vec<u8>>), TlsError> {
        let name = format!("enforcer root ({})", common_name(hostname, MAX_COMMON_NAME - 16));
        let made = |error| TlsError::Certificate { what: name.clone(), error };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(made)?;
        let mut params = params(&name, now, ROOT_VALIDITY)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let root = params.self_signed(&key).map_err(made)?.der().clone();
        let pkcs8 = Zeroizing::new(key.serialize_der());
        let sealed = seal(&pkcs8, &root);
        Ok((Authority { root }, sealed))
    }

    /// From the bytes of [`Authority::create`]; keeps the certificate, not the key.
    pub fn open(sealed: &[u8]) -> Result<Self, TlsError> {
        let (_, root) = unseal(sealed)?;
        let root = CertificateDer::from(root.to_vec());
        x509_parser::parse_x509_certificate(&root)
            .map_err(|_error| TlsError::SealedRoot("its certificate cannot be read"))?;
        Ok(Authority { root })
    }

    pub fn root_der(&self) -> &CertificateDer<'static> {
        &self.root
    }

    /// For the agent's trust store.
    pub fn root_pem(&self) -> String {
        pem("CERTIFICATE", &self.root)
    }

    /// An intermediate that can certify these hosts and nothing else. `hosts` as from
    /// `AgentPolicy::allowed_hosts`: names, `*.name`, addresses, or `*`.
    pub fn intermediate(
        &self,
        sealed: &[u8],
        agent: &str,
        hosts: &[String],
        now: SystemTime,
    ) -> Result<Intermediate, TlsError> {
        let (pkcs8, _) = unseal(sealed)?;
        let name = format!("enforcer agent {}", common_name(agent, MAX_COMMON_NAME - 15));
        let made = |error| TlsError::Certificate { what: name.clone(), error };
        let root_key =
            KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(pkcs8), &PKCS_ECDSA_P256_SHA256)
                .map_err(made)?;
        let issuer = Issuer::from_ca_cert_der(&self.root, root_key).map_err(made)?;
        let names = Names::new(agent, hosts)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(made)?;
        let mut params = params(&name, now, INTERMEDIATE_VALIDITY)?;
        // The serial keeps an agent's successive intermediates apart by name too.
        params.distinguished_name.push(
            DnType::OrganizationalUnitName,
            hex(params.serial_number.as_ref().map_or(&[], |s| s.as_ref())),
        );
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.name_constraints = names.constraints();
        let certificate = params.signed_by(&key, &issuer).map_err(made)?.der().clone();
        Ok(Intermediate {
            certificate,
            issuer: Issuer::new(params, key),
            names,
            expires: now + INTERMEDIATE_VALIDITY,
        })
    }
}

/// Certifies the hosts of one agent.
pub struct Intermediate {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    names: Names,
    expires: SystemTime,
}

impl Intermediate {
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    pub fn expires(&self) -> SystemTime {
        self.expires
    }

    /// A leaf for exactly one name or address.
    pub fn leaf(
        &self,
        host: &str,
        key: &KeyPair,
        now: SystemTime,
    ) -> Result<CertificateDer<'static>, TlsError> {
        if !self.names.permits(host) {
            return Err(TlsError::NotPermitted(host.into()));
        }
        let made = |error| TlsError::Certificate { what: host.into(), error };
        // OpenSSL holds a common name that could be a host name against the name constraints when the
        // leaf has no DNS name; the space keeps an address from being read as one.
        let (subject, san) = match host.parse::<IpAddr>() {
            Ok(ip) => (format!("address {ip}"), SanType::IpAddress(ip)),
            Err(_) => (host.to_owned(), SanType::DnsName(host.try_into().map_err(made)?)),
        };
        let mut params = params(common_name(&subject, MAX_COMMON_NAME), now, LEAF_VALIDITY)?;
        params.subject_alt_names = vec![san];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        Ok(params.signed_by(key, &self.issuer).map_err(made)?.der().clone())
    }
}

#[cfg(test)]
impl Intermediate {
    /// Turns our own check off for a host; the constraints in the certificate stay.
    pub(super) fn permit_for_test(&mut self, host: &str) {
        match host.parse() {
            Ok(ip) => self.names.addresses.push(ip),
            Err(_) => self.names.names.push(host.into()),
        }
    }
}

/// The host set of an intermediate.
struct Names {
    any: bool,
    /// Exact names.
    names: Vec<String>,
    /// `example.com` of `*.example.com`.
    below: Vec<String>,
    addresses: Vec<IpAddr>,
}

impl Names {
    fn new(agent: &str, hosts: &[String]) -> Result<Self, TlsError> {
        let mut names = Names { any: false, names: vec![], below: vec![], addresses: vec![] };
        for host in hosts {
            if host == "*" {
                names.any = true;
            } else if let Some(parent) = host.strip_prefix("*.") {
                names.below.push(parent.to_ascii_lowercase());
            } else if let Ok(ip) = host.trim_start_matches('[').trim_end_matches(']').parse() {
                names.addresses.push(ip);
            } else {
                names.names.push(host.to_ascii_lowercase());
            }
        }
        if hosts.is_empty() { Err(TlsError::NoHosts(agent.into())) } else { Ok(names) }
    }

    fn permits(&self, host: &str) -> bool {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return self.addresses.contains(&ip);
        }
        self.any
            || self.names.iter().any(|name| name == host)
            || self.below.iter().any(|parent| {
                host.strip_suffix(parent.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            })
    }

    /// Permitted subtrees bind only the kinds of name they mention, so a kind without any permitted
    /// name is excluded as a whole.
    fn constraints(&self) -> Option<NameConstraints> {
        let mut permitted: Vec<_> =
            self.addresses.iter().map(|ip| GeneralSubtree::IpAddress(single(*ip))).collect();
        let mut excluded = Vec::new();
        if self.addresses.is_empty() {
            excluded.push(GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4])));
            excluded.push(GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16])));
        }
        if !self.any {
            if self.names.is_empty() && self.below.is_empty() {
                excluded.push(GeneralSubtree::DnsName(String::new()));
            }
            permitted
                .extend(self.names.iter().chain(&self.below).map(|n| GeneralSubtree::DnsName(n.clone())));
        }
        Some(NameConstraints { permitted_subtrees: permitted, excluded_subtrees: excluded })
    }
}

fn single(ip: IpAddr) -> CidrSubnet {
    match ip {
        IpAddr::V4(ip) => CidrSubnet::V4(ip.octets(), [0xff; 4]),
        IpAddr::V6(ip) => CidrSubnet::V6(ip.octets(), [0xff; 16]),
    }
}

/// What every certificate of ours has: one CN, a random serial (rcgen would derive it from the key,
/// and leaves share theirs), a backdated start, an authority key identifier.
fn params(name: &str, now: SystemTime, validity: Duration) -> Result<CertificateParams, TlsError> {
    let mut serial = [0u8; 16];
    ring::rand::SystemRandom::new().fill(&mut serial).map_err(|_unspecified| TlsError::Random)?;
    // Positive and of full length: DER allows no leading zero byte.
    serial[0] = serial[0] & 0x7f | 0x40;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = (now - BACKDATE).into();
    params.not_after = (now + validity).into();
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn common_name(text: &str, max: usize) -> &str {
    // Names are ASCII (hosts, agents); a foreign host name is cut where it still is text.
    let end = (0..=max.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

/// Length of the key (big-endian u32), key, certificate.
fn seal(pkcs8: &[u8], root: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(4 + pkcs8.len() + root.len()));
    bytes.extend_from_slice(
        &u32::try_from(pkcs8.len()).expect("a P-256 key is about 140 bytes").to_be_bytes(),
    );
    bytes.extend_from_slice(pkcs8);
    bytes.extend_from_slice(root);
    bytes
}

fn unseal(sealed: &[u8]) -> Result<(&[u8], &[u8]), TlsError> {
    let (length, rest) = sealed.split_first_chunk::<4>().ok_or(TlsError::SealedRoot("it is too short"))?;
    let length = u32::from_be_bytes(*length) as usize;
    rest.split_at_checked(length).ok_or(TlsError::SealedRoot("its key is cut short"))
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let text = base64_padded(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem + &format!("-----END {label}-----\n")
}
