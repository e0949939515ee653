//! The end of the worker: a word to stop, time to finish, and then an end.
//!
//! Tasks started with [`Shutdown::spawn`] are waited for; this file knows
//! neither signals nor what the tasks do.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Requests under way get this long; systemd kills after 90 s by default.
pub const DRAIN: Duration = Duration::from_secs(20);

/// A clonable word that everything is to end, and a count of what has not ended yet.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    soft: CancellationToken,
    hard: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when nothing new is to be started.
    pub fn token(&self) -> CancellationToken {
        self.soft.clone()
    }

    /// Starts a task that [`Shutdown::drain`] waits for, and cuts at the deadline.
    pub fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let cut = self.hard.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = task => {}
                () = cut.cancelled() => {}
            }
        });
    }

    /// Nothing new from now on.
    pub fn begin(&self) {
        self.soft.cancel();
    }

    /// Begins, waits for the tasks, and cuts them at the deadline. Returns how many were cut.
    pub async fn drain(&self, deadline: Duration) -> usize {
        self.begin();
        self.tasks.close();
        if tokio::time::timeout(deadline, self.tasks.wait()).await.is_ok() {
            return 0;
        }
        let left = self.tasks.len();
        self.hard.cancel();
        self.tasks.wait().await;
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tasks_finish_or_are_cut() {
        let shutdown = Shutdown::new();
        let token = shutdown.token();
        shutdown.spawn(async move { token.cancelled().await });
        assert_eq!(shutdown.drain(Duration::from_secs(5)).await, 0);

        let shutdown = Shutdown::new();
        shutdown.spawn(std::future::pending());
        assert_eq!(shutdown.drain(Duration::from_millis(10)).await, 1);
    }
}
