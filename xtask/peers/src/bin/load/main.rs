//! The generator of `cargo xtask bench proxy`: one for every peer and load.
//!
//! Each line of its input asks for one load, as JSON ([`spec::Spec`]). It says `ready` once connections are there and warm, begins at a
//! line `go`, answers with what it saw ([`tally::Tally`]), and lets connections go at the next line, so that only the load falls between
//! `go` and the answer. It trusts any certificate: what it would check is the same for all.
#![forbid(unsafe_code)]

mod client;
mod events;
mod fresh;
mod keep;
mod single;
mod spec;
mod tally;

use std::io::{BufRead, Write};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use self::spec::{Kind, Spec};
use self::tally::Tally;

/// Beyond the seconds that a load lasts; bodies and thousands of connections have none of their own.
const PATIENCE: Duration = Duration::from_secs(60);

/// The other end of its input and output.
struct Parent {
    lines: UnboundedReceiver<String>,
}

impl Parent {
    fn say(text: &str) -> Result<()> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{text}")?;
        Ok(out.flush()?)
    }

    /// Connections are there: now it counts.
    async fn ready(&mut self) -> Result<()> {
        Parent::say("ready")?;
        let line = self.lines.recv().await.context("nobody says go")?;
        ensure!(line == "go", "`{line}` where `go` is due");
        Ok(())
    }

    /// What was seen; returns when connections may go.
    async fn seen(&mut self, tally: Tally) -> Result<()> {
        Parent::say(&serde_json::to_string(&tally.report())?)?;
        // A word, or the end of the words.
        let _either = self.lines.recv().await;
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let (sender, lines) = unbounded_channel();
    std::thread::spawn(move || {
        std::io::stdin().lock().lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    let mut parent = Parent { lines };
    while let Some(line) = parent.lines.recv().await {
        let spec: Spec = serde_json::from_str(&line).with_context(|| format!("read `{line}`"))?;
        let limit = PATIENCE + Duration::from_secs_f64(spec.seconds);
        match tokio::time::timeout(limit, run(&spec, &mut parent)).await {
            Ok(done) => done?,
            Err(_) => bail!("no end after {limit:?} of `{line}`"),
        }
    }
    Ok(())
}

async fn run(spec: &Spec, parent: &mut Parent) -> Result<()> {
    match spec.kind {
        Kind::Keep => keep::run(spec, parent).await,
        Kind::Idle => keep::idle(spec, parent).await,
        Kind::Fresh => fresh::run(spec, parent).await,
        Kind::Down | Kind::Up => single::body(spec, parent).await,
        Kind::First => single::first(spec, parent).await,
        Kind::Events => events::run(spec, parent).await,
    }
}
