//! The story of one request: read, judged, authorized, sent, answered, recorded.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use enforcer_policy::{AgentPolicy, Host, ResponseRules, Tripwire};
use http::request::Parts;
use http::{HeaderValue, Request, Response, Uri, Version, header};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Empty, Full};

use super::answer::{Record, Reply, Tail};
use super::canonical::{self, Arrived};
use super::inspect::{Inspected, Rest};
use super::watch::InFlight;
use super::{headers, serve, strict, upgrade, websocket};
use crate::credential::{self, Alarm, BodyGuard, CredentialError, Tripwires};
use crate::gate::refusal::is_grpc;
use crate::gate::{self, Admitted, Code, Refusal, Touched};
use crate::proxy::body::{Cut, Outgoing, told};
use crate::proxy::opening::Opening;
use crate::proxy::received::Received;
use crate::proxy::upstream::{Carriage, Sent};
use crate::proxy::{Connection, REQUESTS};
use crate::redact::{self, Needles, ScrubError, Watch};

/// What is read of a refused request's body, so that the agent gets to read the refusal.
const DRAIN: usize = 64 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(1);
/// git does not look for an answer before it has sent its whole pack.
const DRAIN_PACK: usize = 256 * 1024 * 1024;
const DRAIN_PACK_TIME: Duration = Duration::from_secs(30);

/// How long a request waits for one of the agent's others to end.
const CROWDED: Duration = Duration::from_secs(1);

/// What the agent's side lends to one request.
pub struct Lent<'a> {
    /// What carries the request may become something else.
    pub opening: Option<Opening>,
    /// Takes answers that are not the answer yet.
    pub early: &'a (dyn Fn(Response<()>) + Send + Sync),
}

/// Answers one request. Never fails: what goes wrong is an answer too.
pub async fn exchange(
    request: Request<Received>,
    connection: Arc<Connection>,
    mut in_flight: InFlight,
    lent: Lent<'_>,
) -> Response<Reply> {
    let start = Instant::now();
    let shared = &connection.shared;
    let (mut parts, body) = request.into_parts();
    let manner = Manner::of(&parts);
    let arrived = Arrived::of(&connection);

    let place = connection.slot.cap.requests.clone().acquire_owned();
    match tokio::time::timeout(CROWDED, place).await {
        Ok(place) => in_flight.place = place.ok(),
        Err(_elapsed) => {
            let asked = canonical::asked(&parts, arrived);
            let reason = format!("{REQUESTS} requests of this agent are under way; wait for one to end");
            let refusal = shared.gate.turn_away(&connection.caller, &asked, Code::RateLimited, reason).await;
            manner.drain(Some(body)).await;
            return manner.refuse(&refusal, in_flight, true);
        }
    }
    if let Some(fault) = in_flight.fault().filter(|_| strict::is_stand_in(&parts.method)) {
        let asked = serve::unread(&connection);
        let reason = fault.reason.to_owned();
        let refusal = shared.gate.turn_away(&connection.caller, &asked, fault.code(), reason).await;
        return manner.refuse(&refusal, in_flight, true);
    }
    let wanted = upgrade::wanted(&mut parts, lent.opening);
    let mut asked = match canonical::read(&parts, arrived) {
        Ok(asked) => asked,
        Err(unclear) => {
            let asked = canonical::asked(&parts, arrived);
            let refusal =
                shared.gate.turn_away(&connection.caller, &asked, unclear.code, unclear.reason).await;
            manner.drain(Some(body)).await;
            // What was misread once is not read on.
            return manner.refuse(&refusal, in_flight, true);
        }
    };
    let line = gate::line(&asked);
    let watched = Watched::of(&connection, &asked.host);
    let touched = watched.as_ref().and_then(|watched| watched.wires.head(&parts).cloned());
    // Rules see the headers that are sent, so they are cleaned first.
    headers::clean_request(&mut parts.headers);
    for (name, value) in &parts.headers {
        asked.headers.push(name.as_str(), value.as_bytes());
    }
    let mut inspected = Inspected::new(body, connection.slot.cap.bodies.clone());
    let admitted = shared.gate.admit(asked, &connection.caller, &mut inspected).await;
    let Rest { before, body, taken } = inspected.into_rest();
    in_flight.body = taken;
    let admitted = match admitted {
        Ok(admitted) => admitted,
        Err(refusal) => {
            manner.drain(body).await;
            let answer = manner.refuse(&refusal, in_flight, false);
            trip(&connection, watched.as_ref(), touched.as_ref());
            return answer;
        }
    };
    let Admitted { permit, guard, policy, lifeline, place, upload, download } = admitted;
    let told = Told { agent: policy.name.to_string(), line, rule: permit.rule().name.to_string(), manner };
    let mut record = Record::new(guard, lifeline, place, download, start);
    let cutoff = record.cutoff();

    if let Some(decoy @ Touched::Decoy { name }) = &touched {
        manner.drain(body).await;
        let why = CredentialError::Decoy { name: name.clone() };
        let answer = told.refuse(record, in_flight, Code::DecoyUsed, credential_text(&why));
        trip(&connection, watched.as_ref(), Some(decoy));
        return answer;
    }
    let limit = [permit.rule().max_body, policy.max_body()].into_iter().flatten().min();
    let announced = before.len() as u64 + body.as_ref().map_or(0, |body| body.size_hint().lower());
    if let Some(limit) = limit.filter(|limit| announced > *limit) {
        manner.drain(body).await;
        return told.refuse(record, in_flight, Code::TooLarge, Cut::TooLarge(limit).to_string());
    }
    // What is announced is refused before anything is sent; what is not is cut when it comes.
    let announced = head_len(&parts) + announced;
    if let Err(not) = upload.has(announced).and_then(|()| upload.take(head_len(&parts))) {
        manner.drain(body).await;
        return told.cut(record, in_flight, not.into());
    }
    if wanted.is_some() && !permit.rule().websocket {
        let why = format!("rule `{}` does not say `websocket: true`", permit.rule().name);
        return told.refuse(record, in_flight, Code::NoRule, why);
    }
    parts.extensions.clear();
    match Uri::try_from(permit.request().target.as_str()) {
        Ok(uri) => parts.uri = uri,
        Err(error) => return told.refuse(record, in_flight, Code::BadRequest, error.to_string()),
    }
    if wanted.is_some() {
        record.lifeline().opens_websocket();
    }
    let host = permit.request().host.clone();
    let response_rules = permit.rule().response.clone();
    let brought = permit.credential().map(|credential| credential.name.clone());

    let authorizing = credential::authorize(permit, parts, &policy, &shared.placeholders, &shared.secrets);
    let authorized = match cutoff.unless(authorizing).await {
        Ok(Ok(authorized)) => authorized,
        Err(cause) => return told.refuse(record, in_flight, Code::Withdrawn, cause.told()),
        Ok(Err(error)) => {
            tracing::warn!(%error, agent = %told.agent, id = %record.id(), "a credential was not attached");
            manner.drain(body).await;
            let answer = told.refuse(record, in_flight, unauthorized(&error), credential_text(&error));
            // A stray placeholder is among what is refused there.
            trip(&connection, watched.as_ref(), touched.as_ref());
            return answer;
        }
    };
    let mut authorized = authorized;
    if let (Some(credential), Some(value)) = (brought, authorized.injected.first()) {
        record.attached(format!("{credential}@{}", value.version));
    }
    record.lifeline().uses(authorized.injected.iter().map(|value| value.name.clone()).collect());
    if !authorized.guarded.is_empty() || response_rules.as_ref().is_some_and(|rules| rules.redacts_bodies()) {
        headers::clean_for_search(&mut authorized.parts.headers);
    }
    let needles = Needles::of(&authorized.guarded);

    // By the policy that the request was admitted by.
    let tripwires = || {
        Tripwires::new(&policy, &shared.placeholders, &host).with_alarm(alarm(&connection, &policy, &host))
    };
    let (outgoing, carriage) = match &wanted {
        Some(wanted) => {
            wanted.write(&mut authorized.parts.headers);
            (Outgoing::none(), wanted.carriage())
        }
        None => {
            let carriage = if manner.http2 { Carriage::Multiplexed } else { Carriage::Single };
            let guard = BodyGuard::new(tripwires(), "the body");
            (Outgoing::new(before, body, guard, limit, Some(upload.clone())), carriage)
        }
    };
    let (outgoing, progress) = outgoing;
    record.sending(progress.clone());
    let private = policy.private_addresses();
    let mut early = |head| {
        if let Some(head) = hint(head, &needles, response_rules.as_ref()).filter(|_| !manner.old) {
            (lent.early)(head);
        }
    };
    let sending = shared.upstreams.send(authorized, outgoing, &progress, private, carriage, &mut early);
    let sent = match cutoff.unless(sending).await {
        Ok(Ok(sent)) => sent,
        Err(cause) => return told.refuse(record, in_flight, Code::Withdrawn, cause.told()),
        Ok(Err(error)) => {
            // A body that was cut explains the failure better than the connection it broke.
            return match progress.cut() {
                Some(cut) => told.cut(record, in_flight, cut),
                None => told.refuse(record, in_flight, error.code(), error.to_string()),
            };
        }
    };
    let Sent { response, opening, address, lease } = sent;
    record.answered(response.status().as_u16(), address.to_string());
    if let Some(wanted) = wanted {
        if let Some(opening) = opening {
            let up = websocket::Limits { meter: upload, max_message: limit };
            let max_message = response_rules.as_ref().and_then(|rules| rules.max_body);
            let down = websocket::Limits { meter: record.download(), max_message };
            let guard = || BodyGuard::new(tripwires(), "a WebSocket message");
            let watch = || Watch::new(needles.clone());
            let watches = (!needles.is_empty()).then(|| [watch(), watch()]);
            let relay = websocket::Relay::new(up, [guard(), guard()], down, watches);
            let open = upgrade::Open { connection: connection.clone(), relay };
            return match upgrade::accept(wanted, &response, opening, needles, open, record, in_flight) {
                Ok(answer) => answer,
                Err((record, in_flight, why)) => told.refuse(record, in_flight, Code::UpstreamFailed, why),
            };
        }
    } else if response.status() == http::StatusCode::SWITCHING_PROTOCOLS {
        let why = "the server switched protocols without being asked".to_owned();
        return told.refuse(record, in_flight, Code::UpstreamFailed, why);
    }

    let (mut head, body) = response.into_parts();
    if !headers::plainly_framed(&head.headers) {
        let why = "the end of the server's answer is not clear: it is coded for transfer, or framed twice"
            .to_owned();
        return told.refuse(record, in_flight, Code::UpstreamFailed, why);
    }
    head.version = Version::HTTP_11;
    head.extensions.clear();
    let trailer = headers::announced(&head.headers).filter(|_| !manner.http2);
    headers::clean_response(&mut head.headers);
    match redact::scrub(&mut head, body, needles, response_rules.as_ref()) {
        Ok(body) => {
            if let Some(trailer) = trailer {
                head.headers.insert(header::TRAILER, trailer);
            }
            let tail = Tail::new(body, lease, record, in_flight);
            Response::from_parts(head, Reply::Stream(Box::new(tail)))
        }
        Err(error) => told.refuse(record, in_flight, unpassed(&error), error.to_string()),
    }
}

/// An informational answer as it goes to the agent: cleaned like the answer itself. `None`: it cannot be.
fn hint(
    head: Response<()>,
    needles: &Arc<Needles>,
    rules: Option<&Arc<ResponseRules>>,
) -> Option<Response<()>> {
    let (mut head, ()) = head.into_parts();
    headers::clean_response(&mut head.headers);
    // It has no body (RFC 9110, 8.6).
    head.headers.remove(header::CONTENT_LENGTH);
    let scrubbed = redact::scrub(&mut head, Empty::<Bytes>::new(), needles.clone(), rules);
    scrubbed.ok().map(|_no_body| Response::from_parts(head, ()))
}

/// What a request is watched for before anything is decided about it.
struct Watched {
    wires: Tripwires,
    tripwire: Tripwire,
    host: String,
}

impl Watched {
    /// `None`: an agent without a policy has neither decoys nor placeholders.
    fn of(connection: &Connection, host: &Host) -> Option<Self> {
        let policy = connection.shared.gate.policy(&connection.caller)?;
        let wires = Tripwires::new(&policy, &connection.shared.placeholders, host);
        Some(Watched { wires, tripwire: policy.tripwire(), host: host.to_string() })
    }
}

/// After the answer is made: what it sets off may cut this very connection.
fn trip(connection: &Connection, watched: Option<&Watched>, touched: Option<&Touched>) {
    if let (Some(watched), Some(touched)) = (watched, touched) {
        connection.shared.gate.trip(&connection.caller, watched.tripwire, touched, &watched.host);
    }
}

fn alarm(connection: &Arc<Connection>, policy: &AgentPolicy, host: &Host) -> Alarm {
    let (connection, tripwire, host) = (connection.clone(), policy.tripwire(), host.to_string());
    Arc::new(move |touched| connection.shared.gate.trip(&connection.caller, tripwire, touched, &host))
}

/// How the agent speaks, kept after the head has gone upstream.
#[derive(Clone, Copy)]
struct Manner {
    http2: bool,
    /// HTTP/1.0, which knows no informational answers (RFC 9110, 15.2).
    old: bool,
    grpc: bool,
    /// It waits for a `100 Continue`, so there is no body to read yet.
    expects: bool,
    /// A `git push`.
    pushes: bool,
}

impl Manner {
    fn of(parts: &Parts) -> Self {
        Manner {
            http2: parts.version == Version::HTTP_2,
            old: parts.version == Version::HTTP_10,
            grpc: is_grpc(&parts.headers),
            expects: parts.headers.contains_key(header::EXPECT),
            pushes: parts.uri.path().ends_with("/git-receive-pack"),
        }
    }

    /// Reads a little of a body nobody wants: a socket closed over unread bytes is reset, and the
    /// agent would see that instead of the refusal. Longer bodies end the connection.
    async fn drain(self, body: Option<Received>) {
        let Some(mut body) = body.filter(|_| self.pushes || (!self.http2 && !self.expects)) else { return };
        let (most, time) = if self.pushes { (DRAIN_PACK, DRAIN_PACK_TIME) } else { (DRAIN, DRAIN_TIME) };
        let mut read = 0;
        let reading = async {
            while let Some(Ok(frame)) = body.frame().await {
                read += frame.data_ref().map_or(0, Bytes::len);
                if read > most {
                    break;
                }
            }
        };
        if tokio::time::timeout(time, reading).await.is_err() {
            tracing::debug!("the body of a refused request was slow");
        }
    }

    fn refuse(self, refusal: &Refusal, in_flight: InFlight, close: bool) -> Response<Reply> {
        let mut response =
            refusal.respond(self.grpc).map(|text| Reply::Text(Full::new(text), Some(in_flight)));
        if close && !self.http2 {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// What refusals after the gate's yes have to say about the request.
struct Told {
    agent: String,
    line: String,
    rule: String,
    manner: Manner,
}

impl Told {
    fn refuse(self, record: Record, in_flight: InFlight, code: Code, reason: String) -> Response<Reply> {
        self.refuse_for(record, in_flight, code, reason, None)
    }

    fn cut(self, record: Record, in_flight: InFlight, cut: Cut) -> Response<Reply> {
        let reason = cut.to_string();
        let (code, wait) = match cut {
            Cut::TooLarge(_) => (Code::TooLarge, None),
            Cut::Placeholder(_) => (Code::PlaceholderMisplaced, None),
            Cut::Decoy(_) => (Code::DecoyUsed, None),
            Cut::Idle | Cut::BrokenOff => (Code::BadRequest, None),
            Cut::Withdrawn => (Code::Withdrawn, None),
            Cut::Metered { code, wait, .. } => (code, wait),
        };
        self.refuse_for(record, in_flight, code, reason, wait)
    }

    fn refuse_for(
        self,
        mut record: Record,
        in_flight: InFlight,
        code: Code,
        reason: String,
        retry_after: Option<Duration>,
    ) -> Response<Reply> {
        // What went wrong once it was cut went wrong because of that.
        let (code, reason) = match record.cause() {
            Some(cause) => (Code::Withdrawn, cause.told()),
            None => (code, reason),
        };
        let refusal = Refusal {
            report: None,
            code,
            id: record.id().clone(),
            agent: self.agent,
            request: Some(self.line),
            rule: Some(self.rule),
            reason,
            retry_after,
        };
        tracing::info!(agent = %refusal.agent, id = %refusal.id, code = code.as_str(), reason = %refusal.reason, "not sent or not answered");
        record.refused(code.status().as_u16());
        record.finish(code.end(), Some(format!("{}: {}", code.as_str(), refusal.reason)));
        self.manner.refuse(&refusal, in_flight, false)
    }
}

fn unauthorized(error: &CredentialError) -> Code {
    match error {
        CredentialError::Misplaced { .. } => Code::PlaceholderMisplaced,
        CredentialError::Decoy { .. } => Code::DecoyUsed,
        CredentialError::Required { .. } => Code::PlaceholderRequired,
        CredentialError::Secret { .. } => Code::CredentialUnavailable,
        CredentialError::Unfit { .. } => Code::CredentialUnfit,
    }
}

/// Why an answer is not passed on.
fn unpassed(error: &ScrubError) -> Code {
    match error {
        ScrubError::Type(_) => Code::ResponseType,
        ScrubError::TooLarge(_) => Code::ResponseTooLarge,
        ScrubError::Coding(_) | ScrubError::Decode(_) | ScrubError::Bomb(_) => Code::ResponseUnsearchable,
        ScrubError::Unreadable(_) | ScrubError::Json { .. } => Code::ResponseUnreadable,
    }
}

fn credential_text(error: &CredentialError) -> String {
    told(error)
}

/// What the head counts for: a secret fits into a path or a header as well as into a body.
fn head_len(parts: &Parts) -> u64 {
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    let fields = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
    (target + fields.sum::<usize>()) as u64
}
