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
    for at in [1, body.len() / 3, body.len() / 2] {
        let pieces = in_pieces(reader(), body, at.min(body.len()));
        match (&whole, pieces) {
            (Ok(one), Ok(other)) => {
                let told = |body: &enforcer_policy::Body| {
                    told(policy, &Request { body: body.clone(), ..request.clone() })
                };
                assert_eq!(told(one), told(&other), "in pieces of {at}");
            }
            (Err(_), Err(_)) => {}
            (one, other) => panic!("read whole: {one:?}; in pieces of {at}: {other:?}"),
        }
    }
    request.body = whole.ok()?;
    Some(request)
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

/// The decision, which is final once a body was read, and which its explanation agrees with.
pub fn told(policy: &AgentPolicy, request: &Request) -> String {
    let told = match policy.decide(request, Moment::ANY) {
        Decision::Allow { rule, .. } => format!("allow {}", rule.name),
        Decision::Deny { rule: Some(rule) } => format!("deny {}", rule.name),
        Decision::Deny { rule: None } => "deny".to_owned(),
        Decision::Needs(_) => panic!("its body was read"),
    };
    assert_eq!(policy.explain(request, Moment::ANY).allowed, told.starts_with("allow"));
    // For receipts and refusals.
    policy.action(request, &policy.observe(request, Moment::ANY), Moment::ANY);
    policy.nearly(request, Moment::ANY);
    told
}
