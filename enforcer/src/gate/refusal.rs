//! How a no reads: a stable code, an HTTP status, and a body a program can act on.
//!
//! Texts speak of the asking agent's own rules only: never of other agents, secret names or values.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use crate::audit::RequestId;

/// Every reason for a refusal. Codes are stable: receipts, refusals and manuals name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    AgentDisabled,
    NoPolicy,
    NoRule,
    DenyRule,
    RateLimited,
    BudgetSpent,
    UnusableRate,
    LimitsUnavailable,
    BadRequest,
    ClientDistrust,
    HeadersTooLarge,
    Misdirected,
    TooLarge,
    BodyUnreadable,
    PlaceholderMisplaced,
    PlaceholderRequired,
    DecoyUsed,
    CredentialUnavailable,
    CredentialUnfit,
    SpecialAddress,
    DnsOverHttps,
    NameUnresolved,
    UpstreamUnreachable,
    UpstreamCertificate,
    UpstreamFailed,
    UpstreamTimeout,
    ResponseUnsearchable,
    ResponseUnreadable,
    ResponseType,
    ResponseTooLarge,
    ReceiptsUnavailable,
    Withdrawn,
}

impl Code {
    pub const ALL: &[Code] = &[
        Code::AgentDisabled,
        Code::NoPolicy,
        Code::NoRule,
        Code::DenyRule,
        Code::RateLimited,
        Code::BudgetSpent,
        Code::UnusableRate,
        Code::LimitsUnavailable,
        Code::BadRequest,
        Code::ClientDistrust,
        Code::HeadersTooLarge,
        Code::Misdirected,
        Code::TooLarge,
        Code::BodyUnreadable,
        Code::PlaceholderMisplaced,
        Code::PlaceholderRequired,
        Code::DecoyUsed,
        Code::CredentialUnavailable,
        Code::CredentialUnfit,
        Code::SpecialAddress,
        Code::DnsOverHttps,
        Code::NameUnresolved,
        Code::UpstreamUnreachable,
        Code::UpstreamCertificate,
        Code::UpstreamFailed,
        Code::UpstreamTimeout,
        Code::ResponseUnsearchable,
        Code::ResponseUnreadable,
        Code::ResponseType,
        Code::ResponseTooLarge,
        Code::ReceiptsUnavailable,
        Code::Withdrawn,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Code::AgentDisabled => "agent_disabled",
            Code::NoPolicy => "no_policy",
            Code::NoRule => "no_rule",
            Code::DenyRule => "deny_rule",
            Code::RateLimited => "rate_limited",
            Code::BudgetSpent => "budget_spent",
            Code::LimitsUnavailable => "limits_unavailable",
            Code::UnusableRate => "unusable_rate",
            Code::BadRequest => "bad_request",
            Code::ClientDistrust => "client_distrust",
            Code::HeadersTooLarge => "headers_too_large",
            Code::Misdirected => "misdirected",
            Code::TooLarge => "too_large",
            Code::BodyUnreadable => "body_unreadable",
            Code::PlaceholderMisplaced => "placeholder_misplaced",
            Code::PlaceholderRequired => "placeholder_required",
            Code::DecoyUsed => "decoy_used",
            Code::CredentialUnavailable => "credential_unavailable",
            Code::CredentialUnfit => "credential_unfit",
            Code::SpecialAddress => "special_address",
            Code::DnsOverHttps => "dns_over_https",
            Code::NameUnresolved => "name_unresolved",
            Code::UpstreamUnreachable => "upstream_unreachable",
            Code::UpstreamCertificate => "upstream_certificate",
            Code::UpstreamFailed => "upstream_failed",
            Code::UpstreamTimeout => "upstream_timeout",
            Code::ResponseUnsearchable => "response_unsearchable",
            Code::ResponseUnreadable => "response_unreadable",
            Code::ResponseType => "response_type",
            Code::ResponseTooLarge => "response_too_large",
            Code::ReceiptsUnavailable => "receipts_unavailable",
            Code::Withdrawn => "withdrawn",
        }
    }

    pub fn status(self) -> StatusCode {
        match self {
            Code::AgentDisabled
            | Code::Withdrawn
            | Code::NoPolicy
            | Code::NoRule
            | Code::DenyRule
            | Code::UnusableRate
            | Code::BodyUnreadable
            | Code::PlaceholderMisplaced
            | Code::PlaceholderRequired
            | Code::DecoyUsed
            | Code::CredentialUnfit
            | Code::SpecialAddress
            | Code::DnsOverHttps => StatusCode::FORBIDDEN,
            Code::RateLimited | Code::BudgetSpent => StatusCode::TOO_MANY_REQUESTS,
            // The client never hears of it: it has ended the handshake.
            Code::BadRequest | Code::ClientDistrust => StatusCode::BAD_REQUEST,
            Code::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Code::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::NameUnresolved
            | Code::UpstreamUnreachable
            | Code::UpstreamCertificate
            | Code::UpstreamFailed
            | Code::UpstreamTimeout
            | Code::ResponseUnsearchable
            | Code::ResponseUnreadable
            | Code::ResponseType
            | Code::ResponseTooLarge => StatusCode::BAD_GATEWAY,
            Code::CredentialUnavailable | Code::ReceiptsUnavailable | Code::LimitsUnavailable => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    /// How the exchange ended, for its receipt.
    pub fn end(self) -> &'static str {
        match self.status() {
            StatusCode::BAD_GATEWAY => "upstream_failed",
            _ => "refused",
        }
    }

    /// The coarse word in `error`.
    fn error(self) -> &'static str {
        match self.status() {
            StatusCode::FORBIDDEN => "blocked_by_policy",
            StatusCode::TOO_MANY_REQUESTS => "rate_limited",
            StatusCode::MISDIRECTED_REQUEST => "misdirected_request",
            StatusCode::PAYLOAD_TOO_LARGE => "too_large",
            StatusCode::BAD_GATEWAY => "upstream_failed",
            StatusCode::SERVICE_UNAVAILABLE => "unavailable",
            _ => "bad_request",
        }
    }

    /// gRPC's codes: 3 invalid argument, 7 permission denied, 8 resource exhausted, 14 unavailable.
    fn grpc(self) -> &'static str {
        match self.status() {
            StatusCode::FORBIDDEN => "7",
            StatusCode::TOO_MANY_REQUESTS | StatusCode::PAYLOAD_TOO_LARGE => "8",
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => "14",
            _ => "3",
        }
    }

    /// May the same request pass later without anyone changing anything?
    fn retry(self) -> bool {
        matches!(
            self.status(),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE
        ) && !matches!(
            self,
            Code::UpstreamCertificate
                | Code::ResponseUnsearchable
                | Code::ResponseUnreadable
                | Code::ResponseType
                | Code::ResponseTooLarge
        )
    }

    fn advice(self) -> &'static str {
        match self {
            Code::AgentDisabled => {
                "A person has switched this agent off. Stop: do not retry and do not look for another way. Only \
                 a person can switch it on again."
            }
            Code::Withdrawn => {
                "The policy or the credential was changed while this request ran, so it was cut; whether it took \
                 effect is not known. A new request is judged by what is in force now."
            }
            Code::NoPolicy | Code::NoRule | Code::DenyRule | Code::SpecialAddress | Code::UnusableRate => {
                "This is a decision, not a fault. Do not retry, use another address or turn off certificate \
                 checks. If the task needs it, tell the person you work for and give them the request id."
            }
            Code::DnsOverHttps => {
                "Names resolve by the system's own resolver here; switch DNS over HTTPS off. What the policy \
                 allows can be reached without it."
            }
            Code::RateLimited => {
                "The allowance for this request is used up. Wait as long as `retry_after` says, then try again; \
                 retrying earlier does not help."
            }
            Code::BudgetSpent => {
                "The bytes that may be sent or received are used up. Wait as long as `retry_after` says, or send \
                 and ask for less."
            }
            Code::LimitsUnavailable => {
                "Requests are refused while it cannot be written down what is used up. Try again later."
            }
            Code::ClientDistrust => {
                "The client does not trust the certificates that are made here. Do not turn off certificate checks; the reason says what \
                 makes it trust them."
            }
            Code::BadRequest | Code::HeadersTooLarge => "Send the request in the plain form HTTP prescribes.",
            Code::Misdirected => {
                "The connection, its server name and the request must all name the same host and port. Open a \
                 new connection for this host."
            }
            Code::TooLarge => {
                "Send a smaller body, or ask the person you work for to raise the limit that the reason names."
            }
            Code::BodyUnreadable => {
                "The policy looks into bodies sent here, so they have to be plain: one content type a rule names, \
                 UTF-8, not compressed, no key twice. Send it again in that form."
            }
            Code::PlaceholderMisplaced => {
                "The placeholder stands for a credential and may be sent only where the policy says. Do not \
                 write it into documents, messages or addresses."
            }
            Code::PlaceholderRequired => {
                "Send the placeholder from your environment as the credential; it is replaced on the way."
            }
            Code::DecoyUsed => {
                "The request holds a key that is not yours to use. Stop and tell the person you work for how it came there."
            }
            Code::CredentialUnavailable | Code::CredentialUnfit => {
                "The credential for this rule cannot be used. Tell the person you work for and give them the \
                 request id."
            }
            Code::NameUnresolved
            | Code::UpstreamUnreachable
            | Code::UpstreamFailed
            | Code::UpstreamTimeout => {
                "The policy allows this request; the server did not answer it. Whether it took effect is not \
                 known unless the reason says so."
            }
            Code::UpstreamCertificate => {
                "The server's certificate could not be verified, so nothing was sent. Do not try to go around it."
            }
            Code::ResponseUnsearchable => {
                "The answer came in a form that cannot be searched for secrets. Ask for another `accept-encoding`."
            }
            Code::ResponseUnreadable | Code::ResponseType | Code::ResponseTooLarge => {
                "The request was sent and answered; the policy does not let this answer through. Asking again gives the \
                 same. Ask for less, or for another form of it."
            }
            Code::ReceiptsUnavailable => {
                "Requests are refused while receipts cannot be written. Try again later."
            }
        }
    }
}

/// A refusal, complete: whom it concerns, what was asked, why not.
#[derive(Debug)]
pub struct Refusal {
    pub code: Code,
    pub id: RequestId,
    pub agent: String,
    /// `METHOD scheme://host/path`, as far as it could be read; never the query.
    pub request: Option<String>,
    pub rule: Option<String>,
    pub reason: String,
    pub retry_after: Option<Duration>,
    /// The refusal in git's own words, with its content type, for a request of git's.
    pub report: Option<(&'static str, Vec<u8>)>,
}

#[derive(Serialize)]
struct Body<'a> {
    error: &'static str,
    agent: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    code: &'static str,
    reason: &'a str,
    retry: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    advice: &'static str,
    person: String,
}

impl Refusal {
    /// Whole seconds, rounded up: whoever waits that long is let through.
    fn seconds(&self) -> Option<u64> {
        self.retry_after.map(|wait| wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
    }

    pub fn body(&self) -> Bytes {
        let body = Body {
            error: self.code.error(),
            agent: &self.agent,
            request_id: &self.id.0,
            request: self.request.as_deref(),
            rule: self.rule.as_deref(),
            code: self.code.as_str(),
            reason: &self.reason,
            retry: self.code.retry(),
            retry_after: self.seconds(),
            advice: self.code.advice(),
            person: format!("enforcer why {}", self.id),
        };
        let mut text = serde_json::to_vec(&body).expect("strings and numbers always serialise");
        text.push(b'\n');
        text.into()
    }

    /// As an HTTP answer; `grpc`: to a client that reads gRPC.
    pub fn respond(&self, grpc: bool) -> Response<Bytes> {
        let body = match &self.report {
            Some((_, report)) => Bytes::copy_from_slice(report),
            None if grpc => Bytes::new(),
            None => self.body(),
        };
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert("x-enforcer-request-id", text(&self.id.0));
        if let Some(seconds) = self.seconds() {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some((kind, _)) = self.report {
            // git reads what is in the body only of a 200.
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        } else if grpc {
            // A response of trailers only: the status stands in the headers (gRPC over HTTP/2).
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert("grpc-status", HeaderValue::from_static(self.code.grpc()));
            headers.insert("grpc-message", text(&percent(&format!("{} ({})", self.reason, self.id))));
        } else {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            *response.status_mut() = self.code.status();
        }
        response
    }
}

pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"application/grpc"))
}

fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static("unprintable"))
}

/// gRPC's percent-encoding of messages: printable ASCII but `%` stays.
fn percent(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'$' | b'&'..=b'~' => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: Code, retry_after: Option<Duration>) -> Refusal {
        Refusal {
            code,
            id: RequestId("r_7f3k9qabcd".into()),
            agent: "github-pr-bot".into(),
            request: Some("DELETE https://api.github.com/repos/a/b".into()),
            rule: Some("no-delete".into()),
            reason: "deny rule `no-delete` matches".into(),
            retry_after,
            report: None,
        }
    }

    #[test]
    fn a_denial_says_what_why_and_what_to_do() {
        let response = refusal(Code::DenyRule, None).respond(false);
        assert_eq!(response.status(), 403);
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(response.headers()["x-enforcer-request-id"], "r_7f3k9qabcd");
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(body["error"], "blocked_by_policy");
        assert_eq!(body["agent"], "github-pr-bot");
        assert_eq!(body["request"], "DELETE https://api.github.com/repos/a/b");
        assert_eq!(body["rule"], "no-delete");
        assert_eq!(body["retry"], false);
        assert_eq!(body["person"], "enforcer why r_7f3k9qabcd");
        assert!(body["advice"].as_str().unwrap().contains("Do not retry"));
    }

    #[test]
    fn a_rate_names_whole_seconds_rounded_up() {
        let response = refusal(Code::RateLimited, Some(Duration::from_millis(719_001))).respond(false);
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "720");
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!((&body["retry"], &body["retry_after"]), (&true.into(), &720.into()));
    }

    #[test]
    fn grpc_hears_grpc() {
        let mut request = HeaderMap::new();
        request.insert("content-type", "application/grpc+proto".parse().unwrap());
        assert!(is_grpc(&request));
        for (code, status) in [(Code::NoRule, "7"), (Code::RateLimited, "8"), (Code::UpstreamFailed, "14")] {
            let response = refusal(code, None).respond(true);
            assert_eq!(
                (response.status().as_u16(), response.headers()["grpc-status"].to_str().unwrap()),
                (200, status)
            );
            assert!(response.body().is_empty());
        }
    }

    #[test]
    fn codes_are_unique_and_lower_case() {
        let mut codes: Vec<_> = Code::ALL.iter().map(|c| c.as_str()).collect();
        assert!(codes.iter().all(|c| c.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Code::ALL.len());
    }
}
