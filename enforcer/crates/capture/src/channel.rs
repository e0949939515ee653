//! One unix stream as a channel of messages: length-prefixed JSON, descriptors beside it.
//!
//! Blocking. A worker that lives in tokio reads it from a thread of its own and sends from anywhere.
//! Knows nothing of what the messages mean.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::forward::MOST;
use crate::message::Received;
use crate::sys;

/// An environment and a CA bundle fit many times over; more than this is an error of the other side.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;
/// No message of ours carries more: `ToWorker::Govern` has six and those of the forwards. The kernel takes 253
/// (`SCM_MAX_FD` of net/scm.h).
const MAX_DESCRIPTORS: usize = 6 + 2 * MOST + MOST;

/// Both directions of one connection. Sending is for any thread; receiving is for one at a time.
#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
    sending: Mutex<()>,
    receiving: Mutex<()>,
}

impl Channel {
    pub fn new(stream: UnixStream) -> Self {
        Channel { stream, sending: Mutex::new(()), receiving: Mutex::new(()) }
    }

    /// The end that the keeper gave this process as descriptor 3. Once, first thing.
    pub fn passed() -> io::Result<Self> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        if TAKEN.swap(true, Ordering::SeqCst) {
            return Err(io::Error::other("the passed channel is taken already"));
        }
        Ok(Channel::new(sys::passed_channel()?.into()))
    }

    /// Two connected ends.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = UnixStream::pair()?;
        Ok((Channel::new(a), Channel::new(b)))
    }

    /// The bare socket, to be passed to another process.
    pub fn into_fd(self) -> OwnedFd {
        self.stream.into()
    }

    /// The socket, for polling and peer credentials.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// How long a `receive` may wait; `None` is for ever.
    pub fn set_receive_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.stream.set_read_timeout(timeout)
    }

    /// Sends one message whole, the descriptors with its first byte.
    pub fn send<M: Serialize>(&self, message: &M, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let body = serde_json::to_vec(message)?;
        if body.len() > MAX_MESSAGE || descriptors.len() > MAX_DESCRIPTORS {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a message of {} bytes is over the limit of {MAX_MESSAGE}", body.len()),
            ));
        }
        let length = u32::try_from(body.len()).map_err(io::Error::other)?.to_le_bytes();

        let _one_at_a_time = self.sending.lock().unwrap_or_else(|e| e.into_inner());
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::other("descriptors do not fit beside the message"));
        }
        // The length goes out alone, so that the descriptors arrive with a read of known size.
        let sent = loop {
            match rustix::net::sendmsg(
                &self.stream,
                &[IoSlice::new(&length)],
                &mut beside,
                SendFlags::NOSIGNAL,
            ) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other?,
            }
        };
        let mut stream = &self.stream;
        if let Some(rest) = length.get(sent..)
            && !rest.is_empty()
        {
            stream.write_all(rest)?;
        }
        stream.write_all(&body)
    }

    /// Waits for the next message; `None` when the other side has closed.
    pub fn receive<M: DeserializeOwned>(&self) -> io::Result<Option<Received<M>>> {
        let _one_at_a_time = self.receiving.lock().unwrap_or_else(|e| e.into_inner());
        let mut descriptors = Vec::new();
        let mut length = [0u8; 4];
        let mut filled = 0;
        while let Some(rest) = length.get_mut(filled..)
            && !rest.is_empty()
        {
            match self.read_with_descriptors(rest, &mut descriptors)? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => filled += n,
            }
        }
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_MESSAGE {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a message of {length} bytes is over the limit of {MAX_MESSAGE}"),
            ));
        }
        let mut body = vec![0; length];
        (&self.stream).read_exact(&mut body)?;
        let message = serde_json::from_slice(&body)?;
        Ok(Some(Received { message, descriptors }))
    }

    /// Ends our side and throws away, unread, what the other still sends: closing at once would take our last
    /// message from it. Bounded in bytes; the receive timeout bounds it in time.
    pub(crate) fn discard(&self) {
        let mut rest = (&self.stream).take(2 * MAX_MESSAGE as u64);
        let ended = self.stream.shutdown(std::net::Shutdown::Write);
        if let Err(error) = ended.and_then(|()| io::copy(&mut rest, &mut io::sink())) {
            tracing::debug!("the other side is gone already: {error}");
        }
    }

    fn read_with_descriptors(&self, into: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            match rustix::net::recvmsg(
                &self.stream,
                &mut [IoSliceMut::new(into)],
                &mut beside,
                RecvFlags::CMSG_CLOEXEC,
            ) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other?,
            }
        };
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                descriptors.extend(fds);
            }
        }
        // Some descriptors were cut off: the rest would be taken for others than they are.
        if received.flags.contains(ReturnFlags::CTRUNC) || descriptors.len() > MAX_DESCRIPTORS {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too many descriptors beside a message"));
        }
        Ok(received.bytes)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Seek, SeekFrom, Write};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn messages_arrive_in_order_with_their_descriptors() {
        let (a, b) = Channel::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"behind the descriptor").unwrap();
        a.send(&"first", &[file.as_fd(), file.as_fd()]).unwrap();
        a.send(&"second", &[]).unwrap();

        let first: Received<String> = b.receive().unwrap().unwrap();
        assert_eq!((first.message.as_str(), first.descriptors.len()), ("first", 2));
        let flags = rustix::io::fcntl_getfd(&first.descriptors[0]).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        let mut copy = File::from(first.descriptors.into_iter().next().unwrap());
        copy.seek(SeekFrom::Start(0)).unwrap();
        let mut text = String::new();
        copy.read_to_string(&mut text).unwrap();
        assert_eq!(text, "behind the descriptor");

        let second: Received<String> = b.receive().unwrap().unwrap();
        assert_eq!((second.message.as_str(), second.descriptors.len()), ("second", 0));
        drop(a);
        assert!(b.receive::<String>().unwrap().is_none());
    }

    #[test]
    fn large_messages_pass_and_too_large_ones_do_not() {
        let (a, b) = Channel::pair().unwrap();
        let text = "x".repeat(3 * 1024 * 1024);
        let sender = std::thread::spawn({
            let text = text.clone();
            move || {
                a.send(&text, &[]).unwrap();
                assert!(a.send(&"x".repeat(MAX_MESSAGE), &[]).is_err());
                (&a.stream).write_all(&u32::MAX.to_le_bytes()).unwrap();
                a
            }
        });
        assert_eq!(b.receive::<String>().unwrap().unwrap().message, text);
        assert_eq!(b.receive::<String>().unwrap_err().kind(), io::ErrorKind::InvalidData);
        drop(sender.join().unwrap());
    }

    #[test]
    fn a_message_cut_short_is_an_error_not_an_end() {
        let (a, b) = Channel::pair().unwrap();
        (&a.stream).write_all(&[8, 0]).unwrap();
        drop(a);
        assert_eq!(b.receive::<String>().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
