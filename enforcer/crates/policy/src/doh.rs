//! DNS over HTTPS: names asked for past our resolver, hidden in a request to a host that is allowed.
//!
//! Refused on every host. A rule that writes the well-known path out (`paths: /dns-query`) means it, and is believed.

use crate::canon::{Headers, Request};
use crate::matcher::Template;

/// Of RFC 8484, and what nearly every server uses.
const SEGMENT: &str = "dns-query";
/// RFC 8484, RFC 9230, and the JSON that some servers speak.
const MEDIA: [&str; 3] =
    ["application/dns-message", "application/oblivious-dns-message", "application/dns-json"];

/// For the agent, for receipts and explanations.
pub const DNS_OVER_HTTPS: &str = "names are asked for at the agent's own resolver, not over HTTPS; a rule that allows it writes the path `/dns-query` out";

impl Template {
    /// Is a request that is allowed by this template a look-up, which it does not mean?
    pub fn catches_dns(&self, request: &Request) -> bool {
        if is_path(request.target.path()) { !is_path(self.as_str()) } else { is_media(&request.headers) }
    }
}

/// Is this the well-known path, below whatever?
fn is_path(path: &str) -> bool {
    // An encoded slash is one for some servers.
    let pieces = path.split('/').flat_map(|segment| segment.split("%2F"));
    pieces.into_iter().any(|piece| piece.eq_ignore_ascii_case(SEGMENT))
}

/// Does a request say that it brings a DNS message, or wants one?
fn is_media(headers: &Headers) -> bool {
    ["content-type", "accept"].iter().flat_map(|name| headers.values(name)).any(|value| {
        let kinds = value.split(|byte| matches!(byte, b',' | b';'));
        kinds
            .map(<[u8]>::trim_ascii)
            .any(|kind| MEDIA.iter().any(|m| kind.eq_ignore_ascii_case(m.as_bytes())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{PolicySet, Source};
    use crate::window::Moment;

    #[test]
    fn explanations_cases_and_tests_know_of_it() {
        let text = "version: 1\nagent: bot\nMODEallow: [{ name: r, host: a.test }]\n";
        let request = |path: &str| Request::parse("GET", &format!("https://a.test{path}")).unwrap();
        for mode in ["", "mode: observe\n"] {
            let source = |more: &str| {
                let text = format!("{}{more}", text.replace("MODE", mode));
                [Source { name: "p.yaml".into(), text }]
            };
            let compiled = PolicySet::compile(&source("")).unwrap();
            let policy = compiled.set.agent("bot").unwrap();
            assert!(policy.explain(&request("/x"), Moment::ANY).allowed);
            let mut asks = request("/x");
            asks.headers.push("accept", b"application/dns-json");
            for request in [request("/dns-query?dns=AAAB"), asks] {
                let told = policy.explain(&request, Moment::ANY);
                assert!(!told.allowed && told.reason.contains("over HTTPS"), "{told:?}");
                assert_eq!(told.hint.as_deref(), Some(DNS_OVER_HTTPS));
            }
            let tests = |expect: &str| {
                source(&format!(
                    "tests: [{{ request: \"GET https://a.test/dns-query\", expect: {expect} }}]\n"
                ))
            };
            assert!(PolicySet::compile(&tests("deny")).is_ok());
            let report = PolicySet::compile(&tests("allow")).unwrap_err().to_string();
            assert!(report.contains("E040") && report.contains("over HTTPS"), "{report}");
        }
        // What no rule allows passes where it is observed, but not this.
        let observing = "version: 1\nagent: bot\nmode: observe\n";
        let compiled =
            PolicySet::compile(&[Source { name: "p.yaml".into(), text: observing.into() }]).unwrap();
        let policy = compiled.set.agent("bot").unwrap();
        assert!(policy.explain(&request("/x"), Moment::ANY).allowed);
        assert!(!policy.explain(&request("/dns-query"), Moment::ANY).allowed);
    }

    fn caught(template: &str, path: &str, header: Option<(&str, &str)>) -> bool {
        let mut request = Request::parse("GET", &format!("https://a.test{path}")).unwrap();
        if let Some((name, value)) = header {
            request.headers.push(name, value.as_bytes());
        }
        Template::parse(template).unwrap().catches_dns(&request)
    }

    #[test]
    fn the_path_is_known_wherever_it_hangs() {
        for yes in ["/dns-query", "/dns-query/", "/a/DNS-Query", "/profile/dns-query/x", "/a%2Fdns-query"] {
            assert!(caught("/**", yes, None), "{yes}");
        }
        for no in ["/", "/dns-query-docs", "/v1/dns", "/docs/dns_query"] {
            assert!(!caught("/**", no, None), "{no}");
        }
        for written_out in ["/dns-query", "/{id}/dns-query"] {
            assert!(!caught(written_out, "/dns-query", Some(("accept", "application/dns-message"))));
        }
        assert!(caught("/*", "/dns-query", None));
    }

    #[test]
    fn the_media_type_is_known_in_either_direction() {
        let said = |name, value| caught("/**", "/x", Some((name, value)));
        assert!(said("content-type", "application/dns-message"));
        assert!(said("content-type", "Application/DNS-Message; charset=x"));
        assert!(said("accept", "text/html, application/dns-json;q=0.5"));
        assert!(said("accept", "application/oblivious-dns-message"));
        assert!(!said("accept", "application/json"));
        assert!(!said("x-note", "application/dns-message"));
    }
}
