//! What an agent has no honest reason to send: its decoys anywhere, a placeholder to a host that it is not for.
//!
//! Only finds them. That such a request is refused is for the others here, and what follows for the agent is the gate's. Whoever
//! encodes what he steals is not found: a tripwire catches the careless, the way out is closed by other means.

use std::sync::Arc;

use enforcer_policy::{AgentPolicy, Host};
use http::request::Parts;
use memchr::memmem;

use super::{CredentialError, Placeholders, check};
use crate::gate::Touched;
use crate::secret::encode;

/// The tripwires of one agent for one host.
pub struct Tripwires {
    wires: Vec<Wire>,
    alarm: Option<Alarm>,
}

struct Wire {
    /// What stands in no other text: random, and without anything that an encoding for the web would change.
    text: String,
    touched: Touched,
}

/// Called with what a body touched, since a body is read long after its request was judged.
pub type Alarm = Arc<dyn Fn(&Touched) + Send + Sync>;

impl Tripwires {
    pub fn new(policy: &AgentPolicy, placeholders: &Placeholders, host: &Host) -> Self {
        let agent = policy.name.as_str();
        let decoys = policy.decoys().iter().map(|decoy| Wire {
            text: placeholders.decoy_core(agent, decoy.name.as_str()),
            touched: Touched::Decoy { name: decoy.name.to_string() },
        });
        let strays =
            policy.credentials().iter().filter(|spec| !policy.brings(spec.name.as_str(), host)).map(|spec| {
                Wire {
                    text: placeholders.of(agent, spec.name.as_str()),
                    touched: Touched::Stray { credential: spec.name.to_string() },
                }
            });
        Tripwires { wires: decoys.chain(strays).collect(), alarm: None }
    }

    pub fn with_alarm(mut self, alarm: Alarm) -> Self {
        self.alarm = Some(alarm);
        self
    }

    /// In a request's head, as sent and as a server might read it.
    pub fn head(&self, parts: &Parts) -> Option<&Touched> {
        if self.wires.is_empty() {
            return None;
        }
        let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
        let values = parts.headers.values().map(http::HeaderValue::as_bytes);
        std::iter::once(target.as_bytes()).chain(values).find_map(|text| {
            let coded = check::basic(text).map(encode::base64_decode);
            let plain = text.contains(&b'%').then(|| encode::percent_decode(text));
            self.find(text)
                .or_else(|| coded.and_then(|text| self.find(&text)))
                .or_else(|| plain.and_then(|text| self.find(&text)))
        })
    }

    fn find(&self, text: &[u8]) -> Option<&Touched> {
        self.wires.iter().find(|wire| memmem::find(text, wire.text.as_bytes()).is_some()).map(|w| &w.touched)
    }

    /// The longest text that is looked for.
    fn longest(&self) -> usize {
        self.wires.iter().map(|wire| wire.text.len()).max().unwrap_or_default()
    }
}

/// Looks for them in a body, also across its chunks.
pub(super) struct Watch {
    wires: Tripwires,
    tail: Vec<u8>,
}

impl Watch {
    pub(super) fn new(wires: Tripwires) -> Self {
        Watch { wires, tail: Vec::new() }
    }

    /// A decoy ends the body, as a placeholder does; either raises the alarm.
    pub(super) fn check(&mut self, chunk: &[u8]) -> Result<(), CredentialError> {
        let Some(keep) = self.wires.longest().checked_sub(1) else { return Ok(()) };
        let seam = [self.tail.as_slice(), &chunk[..chunk.len().min(keep)]].concat();
        if let Some(touched) = self.wires.find(&seam).or_else(|| self.wires.find(chunk)) {
            if let Some(alarm) = &self.wires.alarm {
                alarm(touched);
            }
            return match touched {
                Touched::Decoy { name } => Err(CredentialError::Decoy { name: name.clone() }),
                // Refused by its shape, in one wording for all.
                Touched::Stray { .. } => Ok(()),
            };
        }
        let rest = keep.saturating_sub(chunk.len()).min(self.tail.len());
        self.tail.drain(..self.tail.len() - rest);
        self.tail.extend_from_slice(&chunk[chunk.len() - keep.min(chunk.len())..]);
        Ok(())
    }
}
