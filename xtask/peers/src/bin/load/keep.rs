//! Requests on connections that stay.

use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsConnector;

use crate::Parent;
use crate::client::{Client, connector, request};
use crate::spec::Spec;
use crate::tally::Tally;

/// A connection that broke is made again; a peer that breaks this many is left.
const BROKEN: u64 = 20;
const AT_A_TIME: usize = 8;

/// One after the other on each stream of each connection, or paced.
pub(crate) async fn run(spec: &Spec, parent: &mut Parent) -> Result<()> {
    let mut streams = Vec::new();
    for client in warm(spec, spec.connections).await? {
        for _ in 1..spec.streams {
            streams.push(client.shared().ok_or_else(|| anyhow!("HTTP/1.1 has no streams"))?);
        }
        streams.push(client);
    }
    parent.ready().await?;
    let started = Instant::now();
    let end = started + Duration::from_secs_f64(spec.seconds);
    let mut tasks = JoinSet::new();
    for client in streams {
        tasks.spawn(stream(spec.clone(), client, started, end));
    }
    let (mut tally, mut clients) = (Tally::default(), Vec::new());
    while let Some(done) = tasks.join_next().await {
        let (seen, client) = done?;
        tally.merge(seen);
        clients.push(client);
    }
    tally.took = started.elapsed();
    parent.seen(tally).await
}

/// A request each, then silence.
pub(crate) async fn idle(spec: &Spec, parent: &mut Parent) -> Result<()> {
    parent.ready().await?;
    let started = Instant::now();
    let _clients = warm(spec, spec.connections).await?;
    parent.seen(Tally { took: started.elapsed(), ..Tally::default() }).await
}

/// Connections that have answered once; some are made at a time.
async fn warm(spec: &Spec, connections: usize) -> Result<Vec<Client>> {
    let (connector, mut tasks, mut clients) = (connector(spec), JoinSet::new(), Vec::new());
    for index in 0..connections {
        if tasks.len() == AT_A_TIME
            && let Some(client) = tasks.join_next().await
        {
            clients.push(client??);
        }
        tasks.spawn(one(spec.clone(), connector.clone(), index));
    }
    while let Some(client) = tasks.join_next().await {
        clients.push(client??);
    }
    Ok(clients)
}

async fn one(spec: Spec, connector: TlsConnector, index: usize) -> Result<Client> {
    let name = spec.name(index);
    let mut client = Client::connect(&spec, &connector, &name).await?;
    let (status, _) = client.ask(request(&spec, &name, 0)?).await?;
    ensure!((200..300).contains(&status), "the first answer is {status}");
    Ok(client)
}

async fn stream(spec: Spec, mut client: Client, started: Instant, end: Instant) -> (Tally, Client) {
    let (mut tally, connector, name) = (Tally::default(), connector(&spec), spec.name(0));
    let mut turn = 0_u32;
    while Instant::now() < end && tally.errors < BROKEN {
        if spec.rate > 0.0 {
            sleep_until(started + Duration::from_secs_f64(f64::from(turn) / spec.rate)).await;
            turn += 1;
        }
        let asked = std::time::Instant::now();
        let answer = match request(&spec, &name, 0) {
            Ok(request) => client.ask(request).await,
            Err(error) => Err(error),
        };
        match answer {
            Ok((status, bytes)) => {
                tally.answered(status, asked);
                tally.bytes += bytes;
            }
            Err(error) => {
                tally.error(&error);
                if let Ok(again) = Client::connect(&spec, &connector, &name).await {
                    client = again;
                }
            }
        }
    }
    (tally, client)
}
