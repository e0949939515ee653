//! A server of server-sent events, for nginx to stand before: `events LISTEN COUNT MILLISECONDS`. Each event says when it was written.
#![forbid(unsafe_code)]

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [listen, count, pause] = words.try_into().ok().context("events LISTEN COUNT MILLISECONDS")?;
    let (count, pause) = (count.parse()?, Duration::from_millis(pause.parse()?));
    let listener = TcpListener::bind(&listen).await?;
    loop {
        let (socket, _) = listener.accept().await?;
        // Who goes away in the middle has had enough.
        tokio::spawn(async move { stream(socket, count, pause).await.ok() });
    }
}

async fn stream(mut socket: TcpStream, count: u32, pause: Duration) -> Result<()> {
    socket.set_nodelay(true)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await?);
    }
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-store\r\nconnection: close\r\n\r\n";
    socket.write_all(head.as_bytes()).await?;
    for _ in 0..count {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos();
        socket.write_all(format!("data: {now}\n\n").as_bytes()).await?;
        tokio::time::sleep(pause).await;
    }
    Ok(socket.shutdown().await?)
}
