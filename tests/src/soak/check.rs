//! Lays the three histories side by side, request by request, and says where they cannot all be true, or where one tells of a wrong.
//!
//! Pure: what is wrong with a run is found here alone, and the tests below feed it runs that are broken in each way.

use std::collections::BTreeMap;
use std::fmt;

use super::content::Digest;
use super::history::{By, Event, Line, Receipt};

/// What the injector may answer to a request that the policy allows, when something is broken on purpose.
const TROUBLE: [&str; 5] =
    ["withdrawn", "upstream_failed", "upstream_unreachable", "upstream_timeout", "name_unresolved"];
/// Of these, what says that nothing was sent.
const NEVER_SENT: [&str; 3] = ["no_rule", "rate_limited", "name_unresolved"];

/// Everything that was written during one run.
#[derive(Clone, Debug, Default)]
pub struct Histories {
    pub agents: Vec<Line>,
    pub upstream: Vec<Line>,
    pub receipts: Vec<Receipt>,
    /// When each secret, by its number, had been replaced by the next.
    pub replaced: BTreeMap<u64, i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    WrongAnswer,
    WrongRefusal,
    DuplicatePost,
    WrongBody,
    WrongCredential,
    NotWrittenDown,
    WrittenTwice,
    RefusedButSent,
    Disagreement,
    NeverEnded,
    FromNobody,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::WrongAnswer => "an answer that is not this request's",
            Fault::WrongRefusal => "a refusal of what the policy allows",
            Fault::DuplicatePost => "a POST that reached the upstream twice",
            Fault::WrongBody => "a body that is not what was sent",
            Fault::WrongCredential => "a request without the credential in force",
            Fault::NotWrittenDown => "a request without a receipt from before it was sent",
            Fault::WrittenTwice => "two receipts of one request",
            Fault::RefusedButSent => "a refused request that reached the upstream",
            Fault::Disagreement => "outcomes that cannot all be true",
            Fault::NeverEnded => "a request that never ended",
            Fault::FromNobody => "a request that no agent sent, or one that was sent twice",
        })
    }
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Which requests, and what exactly.
    pub faults: BTreeMap<Fault, Vec<String>>,
    /// How many requests of a kind came to each end.
    pub ends: BTreeMap<(String, String), usize>,
    /// Requests that are safe to repeat and reached the upstream more than once.
    pub repeated: usize,
    /// Requests whose outcome the injector could not write down any more.
    pub unknown: usize,
}

impl Verdict {
    pub fn good(&self) -> bool {
        self.faults.is_empty()
    }

    pub fn count(&self, fault: Fault) -> usize {
        self.faults.get(&fault).map_or(0, Vec::len)
    }

    /// Requests of a kind with this end.
    pub fn ended(&self, kind: &str, end: &str) -> usize {
        self.ends.get(&(kind.to_owned(), end.to_owned())).copied().unwrap_or_default()
    }

    pub fn requests(&self) -> usize {
        self.ends.values().sum()
    }

    fn fault(&mut self, fault: Fault, id: &str, what: impl fmt::Display) {
        self.faults.entry(fault).or_default().push(format!("{id}: {what}"));
    }
}

/// Ids are `AGENT-KIND-NUMBER`.
pub fn kind(id: &str) -> &str {
    id.split('-').nth(1).unwrap_or_default()
}

/// One request in all histories.
#[derive(Default)]
struct Story<'a> {
    sent: Vec<(&'a str, Digest)>,
    ends: Vec<&'a Event>,
    heads: Vec<(i64, &'a str, Option<u64>)>,
    bodies: Vec<Digest>,
    answers: Vec<(u16, Digest)>,
    receipts: Vec<&'a Receipt>,
}

pub fn check(histories: &Histories) -> Verdict {
    let mut stories: BTreeMap<&str, Story<'_>> = BTreeMap::new();
    for line in &histories.agents {
        let story = stories.entry(&line.id).or_default();
        match &line.event {
            Event::Sent { method, digest } => story.sent.push((method, *digest)),
            end => story.ends.push(end),
        }
    }
    for line in &histories.upstream {
        let story = stories.entry(&line.id).or_default();
        match &line.event {
            Event::Head { method, credential } => story.heads.push((line.at, method, *credential)),
            Event::Body { digest } => story.bodies.push(*digest),
            Event::Answered { status, digest, .. } => story.answers.push((*status, *digest)),
            Event::Sent { .. } | Event::Failed { .. } | Event::Aborted => {}
        }
    }
    for receipt in &histories.receipts {
        if let Some(id) = &receipt.id {
            stories.entry(id).or_default().receipts.push(receipt);
        }
    }
    let mut verdict = Verdict::default();
    for (id, story) in &stories {
        story.sent(id, &mut verdict);
        story.at_the_upstream(id, &histories.replaced, &mut verdict);
        story.written_down(id, &mut verdict);
        story.at_the_agent(id, &mut verdict);
    }
    verdict
}

impl Story<'_> {
    fn sent(&self, id: &str, verdict: &mut Verdict) {
        if self.sent.len() != 1 {
            verdict.fault(Fault::FromNobody, id, format!("sent {} times", self.sent.len()));
        }
        if self.ends.len() != 1 {
            verdict.fault(Fault::NeverEnded, id, format!("it ended {} times", self.ends.len()));
        }
    }

    fn at_the_upstream(&self, id: &str, replaced: &BTreeMap<u64, i64>, verdict: &mut Verdict) {
        if self.heads.len() > 1 {
            match self.heads.iter().all(|(_, method, _)| *method == "GET") {
                true => verdict.repeated += 1,
                false => verdict.fault(Fault::DuplicatePost, id, format!("{} times", self.heads.len())),
            }
        }
        for body in &self.bodies {
            if self.sent.iter().all(|(_, sent)| sent != body) {
                verdict.fault(Fault::WrongBody, id, format!("{body} arrived, sent was {:?}", self.sent));
            }
        }
        for (_, method, credential) in &self.heads {
            match credential {
                // Relayed unread: no credential is put in.
                _ if *method == "TUNNEL" => {}
                None => verdict.fault(Fault::WrongCredential, id, "it is none that was ever valid"),
                // When it arrived does not tell: links are slow, and kernels deliver what a closed socket has sent.
                Some(number) => {
                    let decided = self.receipts.first().map(|receipt| receipt.at);
                    if let Some(then) = replaced.get(number).filter(|then| decided > Some(**then)) {
                        let late = decided.unwrap_or_default() - then;
                        let what = format!("secret {number}, decided {late} us after it was replaced");
                        verdict.fault(Fault::WrongCredential, id, what);
                    }
                }
            }
        }
    }

    fn written_down(&self, id: &str, verdict: &mut Verdict) {
        // A connection that is relayed unread has a receipt that cannot know the request.
        if self.heads.iter().any(|(_, method, _)| *method == "TUNNEL") || kind(id) == "tunnel" {
            return;
        }
        if self.receipts.len() > 1 {
            verdict.fault(Fault::WrittenTwice, id, format!("{:?}", self.receipts));
        }
        let answered = self.ends.iter().any(|end| matches!(end, Event::Answered { .. }));
        if answered && self.receipts.is_empty() {
            verdict.fault(Fault::NotWrittenDown, id, "answered, and there is no receipt at all");
        }
        for (at, ..) in &self.heads {
            match self.receipts.first() {
                None => verdict.fault(Fault::NotWrittenDown, id, "the upstream has seen it"),
                Some(receipt) if receipt.at > *at => {
                    let late = receipt.at - at;
                    verdict.fault(Fault::NotWrittenDown, id, format!("written {late} us after it arrived"));
                }
                Some(receipt) if !receipt.allowed => {
                    verdict.fault(Fault::RefusedButSent, id, format!("refused as {}", receipt.reason));
                }
                Some(_) => {}
            }
        }
        if kind(id) == "forbidden" && self.receipts.iter().any(|receipt| receipt.allowed) {
            verdict.fault(Fault::RefusedButSent, id, "no rule allows it, and it was allowed");
        }
        for receipt in &self.receipts {
            if receipt.allowed && matches!(receipt.end.as_deref(), None | Some("unknown")) {
                verdict.unknown += 1;
            }
            let done = receipt.allowed && receipt.end.as_deref() == Some("done");
            let statuses: Vec<u16> = self.answers.iter().map(|(status, _)| *status).collect();
            // What a WebSocket said is written down when it closes, which it may not do in order.
            if done
                && kind(id) != "websocket"
                && !statuses.iter().any(|status| Some(*status) == receipt.status)
            {
                let what =
                    format!("the receipt says done with {:?}, the upstream {statuses:?}", receipt.status);
                verdict.fault(Fault::Disagreement, id, what);
            }
        }
    }

    fn at_the_agent(&self, id: &str, verdict: &mut Verdict) {
        let Some(end) = self.ends.first() else { return };
        let name = match end {
            Event::Answered { status, by: By::Upstream, digest } => {
                if !self.answers.contains(&(*status, *digest)) {
                    let what = format!("{status} {digest}; the upstream's: {:?}", self.answers);
                    verdict.fault(Fault::WrongAnswer, id, what);
                }
                if kind(id) == "forbidden" {
                    verdict.fault(Fault::WrongAnswer, id, "no rule allows it, and it was answered");
                }
                for receipt in &self.receipts {
                    let unknown = matches!(receipt.end.as_deref(), None | Some("unknown"));
                    if !receipt.allowed || (!unknown && receipt.status != Some(*status)) {
                        let what = format!("answered {status}; the receipt says {receipt:?}");
                        verdict.fault(Fault::Disagreement, id, what);
                    }
                }
                format!("{status}")
            }
            Event::Answered { status, by: By::Injector(code), .. } => {
                self.refused(id, code, verdict);
                format!("{status} {code}")
            }
            Event::Failed { why } => format!("failed: {why}"),
            _ => "broken off".to_owned(),
        };
        *verdict.ends.entry((kind(id).to_owned(), name)).or_default() += 1;
    }

    fn refused(&self, id: &str, code: &str, verdict: &mut Verdict) {
        if NEVER_SENT.contains(&code) && !self.heads.is_empty() {
            verdict.fault(Fault::RefusedButSent, id, format!("the agent was told {code}"));
        }
        let expected = match kind(id) {
            "forbidden" => code == "no_rule",
            "limited" => code == "rate_limited" || TROUBLE.contains(&code),
            _ => TROUBLE.contains(&code),
        };
        if !expected {
            verdict.fault(Fault::WrongRefusal, id, code);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A POST that was answered, a GET that failed after a repetition, and what was refused: nothing is wrong with it.
    fn good() -> Histories {
        let line = |at, id: &str, event| Line { at, id: id.to_owned(), event };
        let (body, answer, none) = (Digest(1), Digest(2), Digest(0));
        let sent = |method: &str, digest| Event::Sent { method: method.to_owned(), digest };
        let head = |method: &str| Event::Head { method: method.to_owned(), credential: Some(1) };
        let answered = |status, digest| Event::Answered { status, by: By::Upstream, digest };
        let no = |status, code: &str| Event::Answered {
            status,
            by: By::Injector(code.to_owned()),
            digest: Digest(9),
        };
        let receipt = |at, id: &str, allowed, reason: &str, end: &str, status| Receipt {
            at,
            id: Some(id.to_owned()),
            protocol: "https".to_owned(),
            allowed,
            reason: reason.to_owned(),
            end: Some(end.to_owned()),
            status: Some(status),
        };
        Histories {
            agents: vec![
                line(0, "one-post-1", sent("POST", body)),
                line(9, "one-post-1", answered(200, answer)),
                line(0, "one-item-2", sent("GET", none)),
                line(9, "one-item-2", no(502, "upstream_failed")),
                line(0, "one-forbidden-3", sent("POST", body)),
                line(9, "one-forbidden-3", no(403, "no_rule")),
                line(0, "one-limited-4", sent("GET", none)),
                line(9, "one-limited-4", no(429, "rate_limited")),
                line(0, "one-tunnel-5", sent("TUNNEL", body)),
                line(9, "one-tunnel-5", answered(200, answer)),
            ],
            upstream: vec![
                line(3, "one-post-1", head("POST")),
                line(4, "one-post-1", Event::Body { digest: body }),
                line(5, "one-post-1", answered(200, answer)),
                line(3, "one-item-2", head("GET")),
                line(4, "one-item-2", head("GET")),
                line(3, "one-tunnel-5", Event::Head { method: "TUNNEL".to_owned(), credential: None }),
                line(4, "one-tunnel-5", Event::Body { digest: body }),
                line(5, "one-tunnel-5", answered(200, answer)),
            ],
            receipts: vec![
                receipt(1, "one-post-1", true, "allowed", "done", 200),
                receipt(1, "one-item-2", true, "allowed", "upstream_failed", 502),
                receipt(1, "one-forbidden-3", false, "no_rule", "refused", 403),
                receipt(1, "one-limited-4", false, "rate_limited", "refused", 429),
            ],
            replaced: BTreeMap::new(),
        }
    }

    #[test]
    fn a_good_run_has_no_fault() {
        let verdict = check(&good());
        assert!(verdict.good(), "{:?}", verdict.faults);
        assert_eq!((verdict.repeated, verdict.requests(), verdict.ended("post", "200")), (1, 5, 1));
    }

    #[track_caller]
    fn finds(fault: Fault, break_it: impl Fn(&mut Histories)) {
        let mut histories = good();
        break_it(&mut histories);
        let verdict = check(&histories);
        assert!(verdict.count(fault) > 0, "{fault:?} was not found; found: {:?}", verdict.faults);
    }

    fn event(lines: &mut [Line], at: usize) -> &mut Event {
        &mut lines[at].event
    }

    #[test]
    fn each_way_to_break_a_run_is_found() {
        finds(Fault::DuplicatePost, |h| h.upstream.push(h.upstream[0].clone()));
        // The credential of two heads, and one is a GET: repeated by somebody who changed the method.
        finds(Fault::DuplicatePost, |h| {
            let get = Event::Head { method: "GET".to_owned(), credential: Some(1) };
            h.upstream.push(Line { at: 4, id: "one-post-1".to_owned(), event: get });
        });
        finds(Fault::DuplicatePost, |h| h.upstream.push(h.upstream[5].clone()));
        finds(Fault::WrongAnswer, |h| {
            *event(&mut h.agents, 1) = Event::Answered { status: 200, by: By::Upstream, digest: Digest(7) };
        });
        // Two answers, swapped.
        finds(Fault::WrongAnswer, |h| {
            for (at, digest) in [(1, Digest(5)), (9, Digest(2))] {
                *event(&mut h.agents, at) = Event::Answered { status: 200, by: By::Upstream, digest };
            }
            *event(&mut h.upstream, 7) = Event::Answered { status: 200, by: By::Upstream, digest: Digest(5) };
        });
        finds(Fault::WrongAnswer, |h| {
            *event(&mut h.agents, 1) = Event::Answered { status: 206, by: By::Upstream, digest: Digest(2) };
        });
        // An answer that the upstream never gave.
        finds(Fault::WrongAnswer, |h| drop(h.upstream.remove(2)));
        finds(Fault::WrongBody, |h| *event(&mut h.upstream, 1) = Event::Body { digest: Digest(7) });
        finds(Fault::WrongCredential, |h| {
            *event(&mut h.upstream, 0) = Event::Head { method: "POST".to_owned(), credential: None };
        });
        finds(Fault::WrongCredential, |h| {
            h.replaced.insert(1, 0);
        });
        finds(Fault::NotWrittenDown, |h| drop(h.receipts.remove(0)));
        finds(Fault::NotWrittenDown, |h| drop(h.receipts.remove(2)));
        // Written after it was sent.
        finds(Fault::NotWrittenDown, |h| h.receipts[0].at = 4);
        finds(Fault::WrittenTwice, |h| h.receipts.push(h.receipts[0].clone()));
        finds(Fault::RefusedButSent, |h| h.receipts[0].allowed = false);
        finds(Fault::RefusedButSent, |h| {
            let head = Event::Head { method: "GET".to_owned(), credential: Some(1) };
            h.upstream.push(Line { at: 5, id: "one-limited-4".to_owned(), event: head });
        });
        finds(Fault::RefusedButSent, |h| h.receipts[2].allowed = true);
        finds(Fault::WrongRefusal, |h| {
            let by = By::Injector("no_rule".to_owned());
            *event(&mut h.agents, 3) = Event::Answered { status: 403, by, digest: Digest(9) };
        });
        finds(Fault::Disagreement, |h| h.receipts[0].status = Some(204));
        finds(Fault::Disagreement, |h| h.receipts[1].end = Some("done".to_owned()));
        finds(Fault::NeverEnded, |h| drop(h.agents.remove(1)));
        finds(Fault::FromNobody, |h| drop(h.agents.remove(0)));
        finds(Fault::FromNobody, |h| h.agents.push(h.agents[0].clone()));
    }

    #[test]
    fn what_was_killed_may_be_unknown() {
        let mut histories = good();
        histories.receipts[0].end = Some("unknown".to_owned());
        histories.receipts[0].status = None;
        histories.agents[1].event = Event::Failed { why: "reset".to_owned() };
        let verdict = check(&histories);
        assert!(verdict.good() && verdict.unknown == 1, "{:?}", verdict.faults);
    }
}
