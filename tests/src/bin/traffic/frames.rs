//! As much of WebSocket frames (RFC 6455) as an echo takes: whole messages of up to 64 KiB.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

pub(crate) const TEXT: u8 = 1;
pub(crate) const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
/// Close for a good reason.
pub(crate) const NORMAL: [u8; 2] = 1000u16.to_be_bytes();
/// Any key does: masks are for old proxies.
const KEY: [u8; 4] = [1, 2, 3, 4];
const LONG: u8 = 126;

/// The next message's kind and payload. Pings are answered meanwhile.
pub(crate) async fn read<S>(stream: &mut S, client: bool) -> io::Result<(u8, Vec<u8>)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let (first, second) = (stream.read_u8().await?, stream.read_u8().await?);
        let length = match second & 127 {
            LONG => usize::from(stream.read_u16().await?),
            short if short < LONG => usize::from(short),
            _ => return Err(io::Error::other("a message of more than 64 KiB")),
        };
        if first & 0xf0 != 0x80 || (second & 0x80 == 0) != client {
            return Err(io::Error::other("a frame in parts, with extensions, or masked by the wrong side"));
        }
        let mut key = [0; 4];
        if !client {
            stream.read_exact(&mut key).await?;
        }
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await?;
        payload.iter_mut().zip(key.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
        match first & 15 {
            PING => write(stream, PONG, &payload, client).await?,
            kind => return Ok((kind, payload)),
        }
    }
}

pub(crate) async fn write<S>(stream: &mut S, kind: u8, payload: &[u8], client: bool) -> io::Result<()>
where
    S: AsyncWrite + Unpin,
{
    let masked = if client { 0x80 } else { 0 };
    let mut frame = vec![0x80 | kind];
    match u16::try_from(payload.len()).map_err(io::Error::other)? {
        short if short < u16::from(LONG) => {
            frame.push(masked | u8::try_from(short).map_err(io::Error::other)?)
        }
        long => {
            frame.push(masked | LONG);
            frame.extend(long.to_be_bytes());
        }
    }
    if client {
        frame.extend(KEY);
        frame.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    } else {
        frame.extend(payload);
    }
    stream.write_all(&frame).await?;
    stream.flush().await
}
