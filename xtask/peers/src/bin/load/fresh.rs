//! A connection for each request, by the same name or by many.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::Parent;
use crate::client::{Client, connector, request};
use crate::spec::Spec;
use crate::tally::Tally;

/// `connections` at a time. Where tickets are offered, one comes from a connection before the load.
pub(crate) async fn run(spec: &Spec, parent: &mut Parent) -> Result<()> {
    let connector = connector(spec);
    if spec.resume {
        one(spec, &connector, 0, &mut Tally::default()).await?;
    }
    parent.ready().await?;
    let (started, next) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
    let end = started + Duration::from_secs_f64(spec.seconds);
    let mut tasks = JoinSet::new();
    for _ in 0..spec.connections {
        let (spec, connector, next) = (spec.clone(), connector.clone(), next.clone());
        tasks.spawn(async move {
            let mut tally = Tally::default();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let over = if spec.requests > 0 { index >= spec.requests } else { Instant::now() >= end };
                if over {
                    return tally;
                }
                if let Err(error) = one(&spec, &connector, index, &mut tally).await {
                    tally.error(&error);
                }
            }
        });
    }
    let mut tally = Tally::default();
    while let Some(seen) = tasks.join_next().await {
        tally.merge(seen?);
    }
    tally.took = started.elapsed();
    parent.seen(tally).await
}

async fn one(spec: &Spec, connector: &TlsConnector, index: usize, tally: &mut Tally) -> Result<()> {
    let (name, started) = (spec.name(index), std::time::Instant::now());
    let mut client = Client::connect(spec, connector, &name).await?;
    tally.handshakes.push(started.elapsed());
    let (status, bytes) = client.ask(request(spec, &name, 0)?).await?;
    tally.answered(status, started);
    tally.bytes += bytes;
    // Tickets come behind the handshake: with the answer they have been read.
    tally.resumed += u64::from(client.resumed);
    Ok(())
}
