//! The loads: what is asked of each peer, in rows of the table.

use enforcer_tests::world::plan;
use serde_json::{Map, Value, json};

/// How a row is played and what its cells are of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Job {
    /// Cost per request.
    Requests,
    /// One body; cost per GiB.
    Bulk,
    /// A stream of events.
    Events,
    /// Connections that are held; the peer starts anew before.
    Idle,
    /// From nothing to the first answer.
    Start,
}

/// Who can play a row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    All,
    /// Speaks HTTP/2.
    H2,
    /// Has certificates for any name.
    Names,
    /// Ours alone.
    Ours,
    /// Ours with policies of several sizes as well.
    Policies,
}

pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) job: Job,
    pub(super) who: Who,
    /// What the generator is told beside where the peer is.
    pub(super) load: fn(round: usize) -> Value,
}

const SECONDS: f64 = 1.0;
/// Hosts in the rows of many names.
pub(super) const NAMES: usize = 1000;
/// The large bodies, in MiB.
pub(super) const BODIES: [u64; 2] = [100, 1024];
/// Bodies of this many bytes are at `/kib/64`.
pub(super) const MIDDLE: u64 = 64 << 10;
/// Connections of the idle rows, of each of two clients.
pub(super) const IDLE_HALF: u64 = 500;

pub(super) const ROWS: &[Row] = &[
    Row { name: "h1, 1 at a time", job: Job::Requests, who: Who::Policies, load: |_| keep(false, 1, 1) },
    Row { name: "h1, 32 at a time", job: Job::Requests, who: Who::Policies, load: |_| keep(false, 32, 1) },
    Row { name: "h1, 256 at a time", job: Job::Requests, who: Who::All, load: |_| keep(false, 256, 1) },
    Row { name: "h2, 1 at a time", job: Job::Requests, who: Who::H2, load: |_| keep(true, 1, 1) },
    Row { name: "h2, 32 at a time", job: Job::Requests, who: Who::H2, load: |_| keep(true, 4, 8) },
    Row { name: "h2, 256 at a time", job: Job::Requests, who: Who::H2, load: |_| keep(true, 8, 32) },
    Row {
        name: "h1, paced, 200 a second",
        job: Job::Requests,
        who: Who::All,
        load: |_| with(keep(false, 1, 1), json!({ "rate": 200.0 })),
    },
    Row {
        name: "h1, 64 KiB bodies, 8 at a time",
        job: Job::Requests,
        who: Who::All,
        load: |_| with(keep(false, 8, 1), json!({ "path": "/kib/64" })),
    },
    Row { name: "new connections, 8 at a time", job: Job::Requests, who: Who::All, load: |_| fresh(false) },
    Row { name: "new connections, resumed", job: Job::Requests, who: Who::All, load: |_| fresh(true) },
    Row {
        name: "new connections, 1,000 names, first sight",
        job: Job::Requests,
        who: Who::Names,
        load: |round| names(round, NAMES),
    },
    Row {
        name: "new connections, 1,000 names, seen before",
        job: Job::Requests,
        who: Who::Names,
        load: |round| names(round, NAMES),
    },
    Row { name: "1 GiB down, h1", job: Job::Bulk, who: Who::All, load: |_| bulk("down", false, BODIES[1]) },
    Row { name: "100 MiB down, h2", job: Job::Bulk, who: Who::H2, load: |_| bulk("down", true, BODIES[0]) },
    Row { name: "1 GiB up, h1", job: Job::Bulk, who: Who::All, load: |_| bulk("up", false, BODIES[1]) },
    Row { name: "100 MiB up, h2", job: Job::Bulk, who: Who::H2, load: |_| bulk("up", true, BODIES[0]) },
    Row {
        name: "1 GiB down, passed through",
        job: Job::Bulk,
        who: Who::Ours,
        load: |_| with(bulk("down", false, BODIES[1]), json!({ "name": plan::OTHER })),
    },
    Row {
        name: "server-sent events",
        job: Job::Events,
        who: Who::All,
        load: |_| json!({ "kind": "events", "path": "/events" }),
    },
    Row { name: "start", job: Job::Start, who: Who::All, load: |_| json!({ "kind": "first", "path": "/" }) },
    Row { name: "1,000 idle, h1", job: Job::Idle, who: Who::All, load: |_| idle(false) },
    Row { name: "1,000 idle, h2", job: Job::Idle, who: Who::H2, load: |_| idle(true) },
];

fn keep(h2: bool, connections: usize, streams: usize) -> Value {
    json!({ "kind": "keep", "path": "/v1/item", "h2": h2, "connections": connections, "streams": streams, "seconds": SECONDS })
}

fn fresh(resume: bool) -> Value {
    json!({ "kind": "fresh", "path": "/v1/item", "connections": 8, "seconds": SECONDS, "resume": resume })
}

/// Each round has names of its own, so that it sees them for the first time.
fn names(round: usize, count: usize) -> Value {
    let more = json!({ "name": plan::MANY_ZONE, "names": count, "first": round * count, "requests": count, "seconds": 0.0 });
    with(fresh(false), more)
}

fn bulk(way: &str, h2: bool, mib: u64) -> Value {
    let path = if way == "up" { "/take".to_owned() } else { format!("/mib/{mib}") };
    json!({ "kind": way, "path": path, "h2": h2, "bytes": mib << 20 })
}

fn idle(h2: bool) -> Value {
    json!({ "kind": "idle", "path": "/v1/item", "h2": h2, "connections": IDLE_HALF })
}

/// The first with what the second says otherwise.
pub(super) fn with(first: Value, second: Value) -> Value {
    let fields = |value: Value| match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    fields(first).into_iter().chain(fields(second)).collect()
}
