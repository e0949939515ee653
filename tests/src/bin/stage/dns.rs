//! A name server in one function: question in, answer out. It remembers which turning names were asked for.

use std::net::IpAddr;
use std::sync::Mutex;

use enforcer_tests::world::plan;

const A: u16 = 1;
const TXT: u16 = 16;
const AAAA: u16 = 28;
const NXDOMAIN: u8 = 3;
/// Long, so that a test can tell a cached answer; short enough for a demo to be re-run.
const TTL: u32 = 60;
/// Questions for the addresses of names that turn.
static ASKED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Answers one question, or nothing where there is none to read.
pub(crate) fn answer(query: &[u8]) -> Option<Vec<u8>> {
    let (name, end) = name(query)?;
    let kind = u16::from_be_bytes(query.get(end..end + 2)?.try_into().ok()?);
    let question = query.get(12..end + 4)?;
    let turning = plan::TURNING.contains(&name.as_str());
    let addresses = if turning { turned(&name, kind) } else { plan::addresses(&name) };
    let records: Vec<Vec<u8>> = match (kind, &addresses) {
        (TXT, Some(_)) if name.ends_with(plan::TUNNEL_ZONE) => vec![text(plan::BANNER)],
        (_, Some(addresses)) => addresses.iter().filter_map(|ip| data(kind, *ip)).collect(),
        (_, None) => Vec::new(),
    };
    let rcode = if addresses.is_some() { 0 } else { NXDOMAIN };

    let mut out = query.get(..2)?.to_vec();
    // Answer, authoritative; recursion desired is copied, as servers do.
    out.extend([0x84 | (query.get(2)? & 1), rcode, 0, 1]);
    out.extend(u16::try_from(records.len()).ok()?.to_be_bytes());
    out.extend([0, 0, 0, 0]);
    out.extend(question);
    for record in records {
        // The name is a pointer to the question's.
        out.extend([0xc0, 12]);
        out.extend(kind.to_be_bytes());
        out.extend([0, 1]);
        out.extend(if turning { 0 } else { TTL }.to_be_bytes());
        out.extend(u16::try_from(record.len()).ok()?.to_be_bytes());
        out.extend(record);
    }
    Some(out)
}

/// A good address the first time, then a private one: what was looked at is not what is dialled.
fn turned(name: &str, kind: u16) -> Option<Vec<IpAddr>> {
    let mut asked = ASKED.lock().unwrap_or_else(|e| e.into_inner());
    let again = asked.iter().any(|before| before == name);
    if kind == A && !again {
        asked.push(name.to_owned());
    }
    Some(vec![if again { plan::PRIVATE_V4 } else { plan::SERVER_V4 }.into()])
}

fn data(kind: u16, ip: IpAddr) -> Option<Vec<u8>> {
    match (kind, ip) {
        (A, IpAddr::V4(ip)) => Some(ip.octets().to_vec()),
        (AAAA, IpAddr::V6(ip)) => Some(ip.octets().to_vec()),
        _ => None,
    }
}

fn text(value: &str) -> Vec<u8> {
    let mut record = vec![u8::try_from(value.len()).unwrap_or(0)];
    record.extend(value.bytes());
    record
}

/// The question's name and where its type begins.
fn name(query: &[u8]) -> Option<(String, usize)> {
    let (mut labels, mut at) = (Vec::new(), 12);
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        let label = query.get(at..at + length)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(name: &str, kind: u16) -> Vec<u8> {
        let mut q = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            q.push(label.len() as u8);
            q.extend(label.bytes());
        }
        q.push(0);
        q.extend(kind.to_be_bytes());
        q.extend([0, 1]);
        q
    }

    #[test]
    fn answers_known_names_in_both_families() {
        let v4 = answer(&question("Api.Example.test", A)).unwrap();
        assert!(v4.ends_with(&plan::SERVER_V4.octets()));
        let v6 = answer(&question(plan::API, AAAA)).unwrap();
        assert!(v6.ends_with(&plan::SERVER_V6.octets()));
    }

    #[test]
    fn says_that_other_names_do_not_exist() {
        let none = answer(&question("nowhere.test", A)).unwrap();
        assert_eq!((none[3] & 15, none[7]), (NXDOMAIN, 0));
    }

    #[test]
    fn the_tunnel_zone_talks_back() {
        let reply = answer(&question("c2VjcmV0.tunnel.test", TXT)).unwrap();
        assert!(reply.ends_with(plan::BANNER.as_bytes()));
    }

    #[test]
    fn a_turning_name_is_private_from_the_second_question_on() {
        let name = plan::TURNING[0];
        assert!(answer(&question(name, AAAA)).unwrap().len() < question(name, AAAA).len() + 10);
        assert!(answer(&question(name, A)).unwrap().ends_with(&plan::SERVER_V4.octets()));
        for _ in 0..2 {
            assert!(answer(&question(name, A)).unwrap().ends_with(&plan::PRIVATE_V4.octets()));
        }
    }

    #[test]
    fn rubbish_gets_no_answer() {
        assert!(answer(&[0; 5]).is_none());
        assert!(answer(&[255; 40]).is_none());
    }
}
