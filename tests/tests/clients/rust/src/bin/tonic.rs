//! tonic: unary, a stream both ways, and large streams each way, in bytes without a schema.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use futures_util::stream;
use http::uri::PathAndQuery;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, ClientTlsConfig};
use tonic::{Request, Status};

const PIECE: usize = 1 << 18;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match jobs().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:?}");
            ExitCode::FAILURE
        }
    }
}

async fn jobs() -> Result<(), Box<dyn Error>> {
    let tls = ClientTlsConfig::new().with_native_roots();
    let channel = Channel::from_shared(std::env::var("SHOP")?)?.tls_config(tls)?.connect().await?;
    let mut grpc = Grpc::new(channel);
    let path = PathAndQuery::from_static;

    grpc.ready().await?;
    let one = Request::new(Bytes::from_static(b"one"));
    let unary = text(grpc.unary(one, path("/shop.Echo/Unary"), Raw).await?.into_inner());

    // Each question is asked when the one before was answered. Before the last one nothing is said for a while.
    grpc.ready().await?;
    let idle = Duration::from_secs(std::env::var("IDLE")?.parse()?);
    let (asks, mut questions) = mpsc::channel(1);
    let questions = stream::poll_fn(move |context| questions.poll_recv(context));
    asks.send(Bytes::from_static(b"0")).await?;
    let both = grpc.streaming(Request::new(questions), path("/shop.Echo/Stream"), Raw).await?;
    let (mut both, mut asks, mut answers) = (both.into_inner(), Some(asks), Vec::new());
    while let Some(answer) = both.message().await? {
        answers.push(text(answer));
        match answers.len() {
            3 => drop(asks.take()),
            next => {
                if next == 2 {
                    tokio::time::sleep(idle).await;
                }
                let asks = asks.as_ref().ok_or("the server answered more than it was asked")?;
                asks.send(Bytes::from(next.to_string())).await?;
            }
        }
    }

    let bulk = Bytes::from(std::fs::read(std::env::var("BULK")?)?);
    let pieces: Vec<Bytes> =
        (0..bulk.len()).step_by(PIECE).map(|at| bulk.slice(at..bulk.len().min(at + PIECE))).collect();
    grpc.ready().await?;
    let upload = Request::new(stream::iter(pieces));
    grpc.client_streaming(upload, path("/shop.Echo/Upload"), Raw).await?;
    grpc.ready().await?;
    let download = Request::new(Bytes::new());
    let mut download = grpc.server_streaming(download, path("/shop.Echo/Download"), Raw).await?.into_inner();
    let mut sha = Sha256::new();
    while let Some(piece) = download.message().await? {
        sha.update(&piece);
    }
    println!("download {:x}", sha.finalize());
    println!("own {unary}, {}", answers.join(" "));
    Ok(())
}

fn text(bytes: Bytes) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Messages as they are.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
