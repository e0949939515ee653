//! Values that may be sent to one endpoint, with what was worked out from them.
//!
//! Looking for a value in an answer takes tables that are made of it. They are kept here, beside the
//! values, so that they are made once for a busy endpoint and are gone, zeroed, when the values are.

use std::any::Any;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use super::Fetched;

/// A set of values. No Debug, like the secrets in it.
#[derive(Default)]
pub struct Bound {
    values: Vec<Arc<Fetched>>,
    /// Of a type that a higher layer knows. It zeroes itself.
    made: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl Bound {
    pub fn new(values: Vec<Arc<Fetched>>) -> Self {
        Bound { values, made: OnceLock::new() }
    }

    /// These and others.
    pub fn with(self: Arc<Self>, others: Vec<Arc<Fetched>>) -> Arc<Self> {
        if others.is_empty() {
            return self;
        }
        Arc::new(Bound::new(self.values.iter().cloned().chain(others).collect()))
    }

    /// What `make` makes of the values; made at the first call. A set is asked for one type only: another one is made
    /// anew for each call.
    pub fn once<T: Send + Sync + 'static>(&self, make: impl Fn(&[Arc<Fetched>]) -> T) -> Arc<T> {
        let made = self.made.get_or_init(|| Arc::new(make(&self.values))).clone();
        made.downcast().unwrap_or_else(|_another| Arc::new(make(&self.values)))
    }
}

impl Deref for Bound {
    type Target = [Arc<Fetched>];

    fn deref(&self) -> &[Arc<Fetched>] {
        &self.values
    }
}
