//! Informational answers (1xx) on their way to an HTTP/1 agent. The library writes none, so they go out between what it writes:
//! `Watched` asks for them where all that the library wrote has gone, which is where no answer has been begun.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use http::Response;

/// Those of the request that is served.
#[derive(Default)]
pub(super) struct Hints {
    /// Nothing but a way not to take the lock.
    some: AtomicBool,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// Its answer is there: what has not gone out before it will not any more.
    answered: bool,
}

impl Hints {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub(super) fn add(&self, head: &Response<()>) {
        let status = head.status();
        let phrase = status.canonical_reason().unwrap_or_default();
        let mut waiting = self.waiting();
        waiting.bytes.extend_from_slice(format!("HTTP/1.1 {} {phrase}\r\n", status.as_str()).as_bytes());
        for (name, value) in head.headers() {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                waiting.bytes.extend_from_slice(part);
            }
        }
        waiting.bytes.extend_from_slice(b"\r\n");
        waiting.answered = false;
        self.some.store(true, Ordering::Release);
    }

    /// The answer is the next that the library writes.
    pub(super) fn answered(&self) {
        if self.some.load(Ordering::Acquire) {
            self.waiting().answered = true;
        }
    }

    /// What goes out before the next bytes of the library's. `begins`: none of them have come since the last had all gone out.
    pub(super) fn before_write(&self, begins: bool) -> Vec<u8> {
        if !self.some.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut waiting = self.waiting();
        match (begins, waiting.answered) {
            (true, _) => self.take(&mut waiting),
            // Behind another answer stands the one that they came before.
            (false, true) => {
                self.take(&mut waiting);
                Vec::new()
            }
            (false, false) => Vec::new(),
        }
    }

    /// What goes out now that all of the library's bytes have.
    pub(super) fn after_all(&self) -> Vec<u8> {
        if !self.some.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut waiting = self.waiting();
        let late = waiting.answered;
        let bytes = self.take(&mut waiting);
        if late { Vec::new() } else { bytes }
    }

    fn take(&self, waiting: &mut Waiting) -> Vec<u8> {
        self.some.store(false, Ordering::Release);
        waiting.answered = false;
        std::mem::take(&mut waiting.bytes)
    }
}
