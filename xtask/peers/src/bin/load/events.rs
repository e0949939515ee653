//! Server-sent events, each of which says when it was written.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use http_body_util::BodyExt;

use crate::Parent;
use crate::client::{Client, connector, request};
use crate::spec::Spec;
use crate::tally::Tally;

/// Reads the stream to its end. Latencies are of events, from their writing on.
pub(crate) async fn run(spec: &Spec, parent: &mut Parent) -> Result<()> {
    let mut client = Client::connect(spec, &connector(spec), &spec.name).await?;
    parent.ready().await?;
    let (mut tally, started) = (Tally::default(), Instant::now());
    let mut response = client.send(request(spec, &spec.name, 0)?).await?;
    if !response.status().is_success() {
        tally.answered(response.status().as_u16(), started);
    }
    let mut text = String::new();
    while let Some(frame) = response.body_mut().frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        tally.bytes += data.len() as u64;
        text.push_str(std::str::from_utf8(&data)?);
        while let Some((event, rest)) = text.split_once("\n\n") {
            tally.first.get_or_insert_with(|| started.elapsed());
            tally.latencies.push(delay(event)?);
            text = rest.to_owned();
        }
    }
    tally.took = started.elapsed();
    parent.seen(tally).await
}

/// `data: NANOSECONDS since 1970`, on the same machine.
fn delay(event: &str) -> Result<Duration> {
    let written = event
        .strip_prefix("data: ")
        .and_then(|nanos| nanos.parse().ok())
        .context("an event without a time")?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(now.saturating_sub(Duration::from_nanos(written)))
}
