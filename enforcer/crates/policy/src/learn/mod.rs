//! Policies out of receipts: what was seen becomes rules, and rules nobody needed become visible.
//!
//! Pure, like the rest of the crate: callers bring the receipts as [`Seen`] and write the files.
//!
//! - `suggest`: the tightest policy people still like to read that allows everything seen
//! - `actions`: what of it is actions of catalogues
//! - `unused`: what a policy grants and nobody used, and the file without it
//! - `paths`, `rates`: how many values become one template, and many moments one rate

mod actions;
mod paths;
mod rates;
mod suggest;
#[cfg(test)]
mod tests;
mod unused;

pub(crate) use suggest::shown;
pub use suggest::{Suggestion, suggest};
pub use unused::{Unused, unused};

use std::time::{Duration, SystemTime};

use crate::canon::{Host, Method, Request, RequestError, Scheme, Target};
use crate::window::Moment;

/// A request as its receipt tells it. Query values, headers and bodies are not in receipts.
#[derive(Clone, Debug)]
pub struct Seen {
    /// of the receipt, for people to look it up
    pub id: String,
    /// microseconds since 1970
    pub at: u64,
    pub request: Request,
    /// the rule that decided then
    pub rule: Option<String>,
    /// the credential it brought
    pub credential: Option<String>,
    /// did it go out? In `mode: observe` also what no rule allowed
    pub passed: bool,
    /// bytes of its body
    pub sent: u64,
    /// how many equal requests the receipt stands for
    pub count: u64,
}

impl Seen {
    /// When it was asked, for rules with a window.
    pub(crate) fn moment(&self) -> Moment {
        (SystemTime::UNIX_EPOCH + Duration::from_micros(self.at)).into()
    }
}

/// The request of a receipt. `Err`: it was refused before it was one, or is of another protocol.
pub fn recorded(
    scheme: &str,
    host: &str,
    port: u16,
    method: &str,
    path: &str,
) -> Result<Request, RequestError> {
    let scheme = match scheme {
        "https" => Scheme::Https,
        "http" => Scheme::Http,
        other => return Err(RequestError::new("url_scheme", format!("`{other}` is not HTTP"))),
    };
    Ok(Request::new(scheme, Host::parse(host)?, port, Method::parse(method)?, Target::parse(path)?))
}
