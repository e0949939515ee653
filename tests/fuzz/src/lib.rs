//! What the targets share: a policy from its text, and requests whose bodies are read as the proxy reads them.

use std::sync::Arc;

use enforcer_policy::{AgentPolicy, Decision, Moment, PolicySet, Reader, Request, Source, Unreadable};

/// One agent with these sections.
pub fn policy(rules: &str) -> Arc<AgentPolicy> {
    try_policy(rules).unwrap_or_else(|report| panic!("{report}"))
}

pub fn try_policy(rules: &str) -> Result<Arc<AgentPolicy>, String> {
    let text = format!("version: 1\nagent: bot\n{rules}");
    let compiled =
        PolicySet::compile(&[Source { name: "p.yaml".into(), text }]).map_err(|report| report.to_string())?;
    Ok(compiled.set.agent("bot").expect("it was compiled").clone())
}

/// The request with its body read, as these rules want it. `None`: it cannot be read, and so is refused.
/// Pieces of a body must not come to something else than the whole.
pub fn request(policy: &AgentPolicy, method: &str, url: &str, media: &str, body: &[u8]) -> Option<Request> {
    let mut request = Request::parse(method, url).expect("the targets' own requests are canonical");
    request.headers.push("content-type", media.as_bytes());
    let Decision::Needs(wanted) = policy.decide(&request, Moment::ANY) else { return Some(request) };
    let reader = || wanted.reader(&request.headers, None);
    let whole = whole(reader(), body);
    // Another cut for each body: all of them would cost as many readings.
    let at = body.iter().fold(0, |sum: usize, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()))
        % (body.len() + 1);
    let pieces = in_pieces(reader(), body, at);
    let mut decided = |body| {
        request.body = body;
        decided(policy, &request)
    };
    match (whole, pieces) {
        (Ok(one), Ok(other)) => {
            let pieces = decided(other);
            assert_eq!(decided(one), pieces, "cut at {at}");
            Some(request)
        }
        (Err(_), Err(_)) => None,
        (one, other) => panic!("read whole: {one:?}; cut at {at}: {other:?}"),
    }
}

fn whole(mut reader: Reader, body: &[u8]) -> Result<enforcer_policy::Body, Unreadable> {
    reader.look(body, true).map(|body| body.expect("there is an answer at the end"))
}

fn in_pieces(mut reader: Reader, body: &[u8], at: usize) -> Result<enforcer_policy::Body, Unreadable> {
    match reader.look(&body[..at], false)? {
        Some(settled) => Ok(settled),
        None => whole(reader, body),
    }
}

/// The decision, which is final once a body was read.
fn decided(policy: &AgentPolicy, request: &Request) -> String {
    match policy.decide(request, Moment::ANY) {
        Decision::Allow { rule, .. } => format!("allow {}", rule.name),
        Decision::Deny { rule: Some(rule) } => format!("deny {}", rule.name),
        Decision::Deny { rule: None } => "deny".to_owned(),
        Decision::Needs(_) => panic!("its body was read"),
    }
}

/// The decision, which its explanation agrees with.
pub fn told(policy: &AgentPolicy, request: &Request) -> String {
    let told = decided(policy, request);
    assert_eq!(policy.explain(request, Moment::ANY).allowed, told.starts_with("allow"));
    // For receipts and refusals.
    policy.action(request, &policy.observe(request, Moment::ANY), Moment::ANY);
    policy.nearly(request, Moment::ANY);
    told
}
