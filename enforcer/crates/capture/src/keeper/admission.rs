//! Launches are let in one by one, so that they can be made to wait while the daemon replaces itself.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Admission {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    under_way: usize,
}

/// A launch under way, until dropped.
#[derive(Debug)]
pub(super) struct Admitted(Arc<Admission>);

impl Admission {
    /// Waits while closed.
    pub(super) fn enter(self: &Arc<Self>) -> Admitted {
        let open = self.changed.wait_while(self.state(), |state| state.closed);
        open.unwrap_or_else(|e| e.into_inner()).under_way += 1;
        Admitted(Arc::clone(self))
    }

    /// Lets nobody in from now on and waits for those under way; when they take too long, all is open again.
    pub(super) fn close(&self, patience: Duration) -> bool {
        let mut state = self.state();
        state.closed = true;
        let waited = self.changed.wait_timeout_while(state, patience, |state| state.under_way > 0);
        let (state, waited) = waited.unwrap_or_else(|e| e.into_inner());
        drop(state);
        if waited.timed_out() {
            self.open();
        }
        !waited.timed_out()
    }

    pub(super) fn open(&self) {
        self.state().closed = false;
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Changed in single steps.
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.state().under_way -= 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_waits_for_who_is_inside_and_holds_the_others() {
        let admission = Arc::new(Admission::default());
        let inside = admission.enter();
        assert!(!admission.close(Duration::from_millis(1)), "one is inside");
        drop(inside);
        assert!(admission.close(Duration::from_secs(5)));
        let waiting = std::thread::spawn({
            let admission = Arc::clone(&admission);
            move || drop(admission.enter())
        });
        std::thread::sleep(Duration::from_millis(20));
        assert!(!waiting.is_finished());
        admission.open();
        waiting.join().unwrap();
    }
}
