//! The agent: asks, and writes down what it sent and what it was answered.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use enforcer_tests::soak::content::{self, ANSWER_TO, Digest, Digesting, TEXTS, TUNNEL_PORT};
use enforcer_tests::soak::history::{By, Event, Writer};
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::body::Pieces;
use crate::client::{Dialler, Sender};
use crate::frames;
use crate::kinds::{KINDS, Kind, PATIENCE, STREAMS};

/// Nothing that is asked for takes this long.
const LIMIT: Duration = Duration::from_secs(90);

struct Agent {
    name: String,
    history: Writer,
    stop: PathBuf,
    dialler: Dialler,
    asked: AtomicU64,
    rolled: AtomicU64,
}

/// Until there is a file `stop` in `dir`, and everything under way has come to an end.
pub(crate) async fn work(name: &str, dir: &Path, at: &str) -> Result<()> {
    let agent = Arc::new(Agent {
        name: name.to_owned(),
        history: Writer::create(&dir.join(name))?,
        stop: dir.join("stop"),
        dialler: Dialler::new(at)?,
        asked: AtomicU64::new(0),
        rolled: AtomicU64::new(name.bytes().fold(1, |seed, byte| seed * 131 + u64::from(byte))),
    });
    {
        let mut out = io::stdout();
        out.write_all(b"ready\n").and_then(|()| out.flush()).context("tell that it begins")?;
    }
    let mut workers = JoinSet::new();
    for kind in KINDS {
        workers.spawn(agent.clone().ask_on(*kind));
    }
    workers.spawn(agent.clone().websockets());
    // Whoever has no name server of ours cannot have asked it for the address, which a raw rule goes by.
    if at == "-" {
        workers.spawn(agent.clone().tunnels());
    }
    while let Some(ended) = workers.join_next().await {
        ended??;
    }
    Ok(())
}

impl Agent {
    fn goes_on(&self) -> bool {
        !self.stop.exists()
    }

    fn id(&self, kind: &str) -> String {
        format!("{}-{kind}-{}", self.name, self.asked.fetch_add(1, Ordering::Relaxed))
    }

    fn roll(&self, bound: u64) -> u64 {
        content::mix(self.rolled.fetch_add(1, Ordering::Relaxed)) % bound.max(1)
    }

    /// One kind of work, on one connection after another.
    async fn ask_on(self: Arc<Self>, kind: Kind) -> Result<()> {
        while self.goes_on() {
            let Ok(mut client) = self.dialler.open(kind.http2).await else {
                tokio::time::sleep(PATIENCE).await;
                continue;
            };
            for _ in 0..kind.on_one {
                if !self.goes_on() || !client.sender.ready().await {
                    break;
                }
                let whole = match client.sender.another() {
                    None => self.ask(&kind, &mut client.sender).await?,
                    Some(sender) => self.ask_at_once(&kind, &sender).await?,
                };
                tokio::time::sleep(kind.pause).await;
                if !whole {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn ask_at_once(self: &Arc<Self>, kind: &Kind, sender: &Sender) -> io::Result<bool> {
        let mut streams = JoinSet::new();
        for _ in 0..kind.at_once {
            let (agent, kind, own) = (self.clone(), *kind, sender.another());
            streams.spawn(async move {
                match own {
                    Some(mut own) => agent.ask(&kind, &mut own).await,
                    None => Ok(false),
                }
            });
        }
        let mut whole = true;
        while let Some(ended) = streams.join_next().await {
            whole &= ended.map_err(io::Error::other)??;
        }
        // A stream that is broken off leaves the connection to the others.
        Ok(whole || kind.broken)
    }

    /// One request. `false`: the connection is not to be used again.
    async fn ask(&self, kind: &Kind, sender: &mut Sender) -> io::Result<bool> {
        let id = self.id(kind.name);
        let size = usize::try_from(self.roll(kind.most as u64)).unwrap_or_default();
        let body = if kind.post { content::bytes(&format!("of-{id}"), size) } else { Vec::new() };
        let method = if kind.post { "POST" } else { "GET" };
        let digest = Digest::of(&body);
        let mut pieces = Pieces::new(body).unsized_if(kind.post && self.roll(2) == 0);
        let broken = kind.broken.then(|| Duration::from_millis(self.roll(150)));
        if broken.is_some() && kind.post {
            // Nobody has to hear of it: the time runs out.
            pieces = pieces.stops_midway(Arc::new(Notify::new()));
        }
        self.history.write(&id, Event::Sent { method: method.to_owned(), digest })?;
        let path = content::path(kind.name, &id, size);
        let asking = async {
            let response = sender.send(Request::builder().method(method), &path, pieces).await?;
            read(response).await
        };
        let end = match tokio::time::timeout(broken.unwrap_or(LIMIT), asking).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(error)) => Event::Failed { why: why(&error) },
            Err(_elapsed) if broken.is_some() => Event::Aborted,
            Err(_elapsed) => Event::Failed { why: format!("no answer in {LIMIT:?}") },
        };
        let whole = matches!(end, Event::Answered { .. });
        self.history.write(&id, end)?;
        Ok(whole)
    }

    async fn websockets(self: Arc<Self>) -> Result<()> {
        while self.goes_on() {
            if let Ok(mut client) = self.dialler.open(false).await {
                let id = self.id("websocket");
                self.stream(&id, "GET", texts(&id), self.talk(&id, &mut client.sender)).await?;
            }
            tokio::time::sleep(STREAMS).await;
        }
        Ok(())
    }

    async fn tunnels(self: Arc<Self>) -> Result<()> {
        while self.goes_on() {
            let id = self.id("tunnel");
            let size = usize::try_from(self.roll(200_000)).unwrap_or_default();
            let body = content::bytes(&format!("of-{id}"), size);
            self.stream(&id, "TUNNEL", Digest::of(&body), self.relay(&id, &body)).await?;
            tokio::time::sleep(STREAMS).await;
        }
        Ok(())
    }

    /// Writes down how one of them begins and ends.
    async fn stream(
        &self,
        id: &str,
        method: &str,
        digest: Digest,
        talking: impl Future<Output = Result<Event>>,
    ) -> io::Result<()> {
        self.history.write(id, Event::Sent { method: method.to_owned(), digest })?;
        let end = match tokio::time::timeout(LIMIT, talking).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(error)) => Event::Failed { why: why(&error) },
            Err(_elapsed) => Event::Failed { why: format!("no end in {LIMIT:?}") },
        };
        self.history.write(id, end)
    }

    async fn talk(&self, id: &str, sender: &mut Sender) -> Result<Event> {
        let request = Request::builder()
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==");
        let mut response =
            sender.send(request, &content::path("websocket", id, 0), Pieces::default()).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return read(response).await;
        }
        let upgraded = hyper::upgrade::on(&mut response).await?;
        let (mut stream, mut digesting) = (TokioIo::new(upgraded), Digesting::default());
        for number in 0..TEXTS {
            frames::write(&mut stream, frames::TEXT, content::text(id, number).as_bytes(), true).await?;
            match frames::read(&mut stream, true).await? {
                (frames::TEXT, text) => digesting.add(&text),
                (kind, payload) => bail!(
                    "frame {kind} {:?}",
                    payload.first_chunk::<2>().map(|code| u16::from_be_bytes(*code))
                ),
            }
        }
        frames::write(&mut stream, frames::CLOSE, &frames::NORMAL, true).await?;
        match frames::read(&mut stream, true).await? {
            (frames::CLOSE, code) if code == frames::NORMAL => {}
            (kind, _) => bail!("frame {kind} after the last"),
        }
        Ok(Event::Answered { status: 101, by: By::Upstream, digest: digesting.end() })
    }

    async fn relay(&self, id: &str, body: &[u8]) -> Result<Event> {
        let mut stream = self.dialler.tcp(TUNNEL_PORT).await?;
        stream.write_all(format!("{id} {}\n", body.len()).as_bytes()).await?;
        stream.write_all(body).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        // Nothing but the end of the connection tells the end of it.
        if answer.len() < body.len() {
            bail!("short");
        }
        Ok(Event::Answered { status: 200, by: By::Upstream, digest: Digest::of(&answer) })
    }
}

fn texts(id: &str) -> Digest {
    let mut digesting = Digesting::default();
    (0..TEXTS).for_each(|number| digesting.add(content::text(id, number).as_bytes()));
    digesting.end()
}

/// The whole answer, or an error.
async fn read(response: Response<Incoming>) -> Result<Event> {
    let status = response.status().as_u16();
    let from_upstream = response.headers().contains_key(ANSWER_TO);
    let (mut body, mut digesting, mut begin) = (response.into_body(), Digesting::default(), Vec::new());
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            digesting.add(data);
            if !from_upstream {
                begin.extend_from_slice(data);
            }
        }
    }
    let by = if from_upstream { By::Upstream } else { By::Injector(code(&begin)) };
    Ok(Event::Answered { status, by, digest: digesting.end() })
}

/// Of a refusal.
fn code(body: &[u8]) -> String {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    value["code"].as_str().unwrap_or("unreadable").to_owned()
}

/// The innermost cause, without what differs each time.
fn why(error: &anyhow::Error) -> String {
    let text = error.root_cause().to_string();
    text.split([':', '(']).next().unwrap_or_default().trim().to_owned()
}
