//! DNS over HTTPS: names asked for past our resolver, hidden in a request to a host that is allowed.
//!
//! Refused on every host. A rule that writes the well-known path out (`paths: /dns-query`) means it, and is believed.

use http::{HeaderMap, header};

/// Of RFC 8484, and what nearly every server uses.
const SEGMENT: &str = "dns-query";
/// RFC 8484, RFC 9230, and the JSON that some servers speak.
const MEDIA: [&str; 3] =
    ["application/dns-message", "application/oblivious-dns-message", "application/dns-json"];

/// Is this the well-known path, below whatever?
pub fn is_path(path: &str) -> bool {
    // An encoded slash is one for some servers.
    let pieces = path.split('/').flat_map(|segment| segment.split("%2F"));
    pieces.into_iter().any(|piece| piece.eq_ignore_ascii_case(SEGMENT))
}

/// Does a request say that it brings a DNS message, or wants one?
pub fn is_media(headers: &HeaderMap) -> bool {
    [header::CONTENT_TYPE, header::ACCEPT].iter().flat_map(|name| headers.get_all(name)).any(|value| {
        let kinds = value.as_bytes().split(|byte| matches!(byte, b',' | b';'));
        kinds
            .map(<[u8]>::trim_ascii)
            .any(|kind| MEDIA.iter().any(|m| kind.eq_ignore_ascii_case(m.as_bytes())))
    })
}

/// Does the template that allows a request name the path, rather than catch it with a wildcard?
pub(super) fn is_written_out(template: &str) -> bool {
    is_path(template)
}

/// For the agent and the receipt.
pub const REASON: &str = "names are asked for at the agent's own resolver, not over HTTPS; a rule that allows it writes the path `/dns-query` out";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_known_wherever_it_hangs() {
        for yes in ["/dns-query", "/dns-query/", "/a/DNS-Query", "/profile/dns-query/x", "/a%2Fdns-query"] {
            assert!(is_path(yes), "{yes}");
        }
        for no in ["/", "/dns-query-docs", "/v1/dns", "/docs/dns_query"] {
            assert!(!is_path(no), "{no}");
        }
        assert!(is_written_out("/dns-query") && is_written_out("/{id}/dns-query"));
        assert!(!is_written_out("/**") && !is_written_out("/*"));
    }

    #[test]
    fn the_media_type_is_known_in_either_direction() {
        let said = |name: &str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.append(name.parse::<header::HeaderName>().unwrap(), value.parse().unwrap());
            is_media(&headers)
        };
        assert!(said("content-type", "application/dns-message"));
        assert!(said("content-type", "Application/DNS-Message; charset=x"));
        assert!(said("accept", "text/html, application/dns-json;q=0.5"));
        assert!(said("accept", "application/oblivious-dns-message"));
        assert!(!said("accept", "application/json"));
        assert!(!said("x-note", "application/dns-message"));
    }
}
