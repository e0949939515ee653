//! One large body, and the first answer of who has just been started.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::Parent;
use crate::client::{Client, connector, request};
use crate::spec::{Kind, Spec};
use crate::tally::Tally;

/// How long to wait for a listener, a policy, an upstream.
const STARTING: Duration = Duration::from_secs(30);

pub(crate) async fn body(spec: &Spec, parent: &mut Parent) -> Result<()> {
    let mut client = Client::connect(spec, &connector(spec), &spec.name).await?;
    parent.ready().await?;
    let (mut tally, started) = (Tally::default(), Instant::now());
    let upload = if spec.kind == Kind::Up { spec.bytes } else { 0 };
    match client.ask(request(spec, &spec.name, upload)?).await {
        Ok((status, bytes)) => {
            tally.answered(status, started);
            tally.bytes = bytes.max(upload);
            if tally.bytes != spec.bytes {
                tally.error(&anyhow::anyhow!("{} of {} bytes", tally.bytes, spec.bytes));
            }
        }
        Err(error) => tally.error(&error),
    }
    tally.took = started.elapsed();
    parent.seen(tally).await
}

/// Refused connections and other answers than 2xx belong to a start and are no errors here.
pub(crate) async fn first(spec: &Spec, parent: &mut Parent) -> Result<()> {
    parent.ready().await?;
    let started = Instant::now();
    while !attempt(spec).await.unwrap_or(false) {
        ensure!(started.elapsed() < STARTING, "no answer after {STARTING:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let took = started.elapsed();
    parent.seen(Tally { first: Some(took), took, ..Tally::default() }).await
}

async fn attempt(spec: &Spec) -> Result<bool> {
    let mut client = Client::connect(spec, &connector(spec), &spec.name).await?;
    let (status, _) = client.ask(request(spec, &spec.name, 0)?).await?;
    Ok((200..300).contains(&status))
}
