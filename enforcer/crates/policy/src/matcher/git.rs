//! Checks on git over HTTP: fetching, and pushing by ref and by what happens to it.
//!
//! Only the smart protocol is git here (gitprotocol-http): `info/refs?service=…` and the two services.

use super::check::Glob;
use crate::body::{Body, Change, Command, query};
use crate::canon::Request;

/// In an allow rule what is let through, in a deny rule what is blocked.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct GitCheck {
    pub(crate) fetch: bool,
    pub(crate) push: Option<PushCheck>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PushCheck {
    /// `None`: any, in deny rules only
    pub(crate) refs: Option<Vec<Glob>>,
    pub(crate) create: bool,
    /// to a descendant
    pub(crate) update: bool,
    pub(crate) delete: bool,
    pub(crate) force: bool,
}

/// What a request is to a git server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// The list of refs, asked for by a fetch or a push.
    FetchRefs,
    PushRefs,
    Fetch,
    Push,
}

impl Service {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Service::FetchRefs | Service::Fetch => "fetch",
            Service::PushRefs | Service::Push => "push",
        }
    }

    /// What servers take it for. They look at the end of the path, and for the list of refs at the service that
    /// the query names; what else stands in a query they ignore, so it must not hide a push from a rule.
    pub(crate) fn of(request: &Request) -> Option<Self> {
        let path = request.target.decoded_slashes();
        let path = path.as_deref().unwrap_or(request.target.path());
        let path = path.strip_suffix('/').unwrap_or(path);
        match request.method.as_str() {
            "GET" | "HEAD" if path.ends_with("/info/refs") => {
                let mut found = None;
                for pair in
                    query(request.target.query().unwrap_or_default()).filter(|pair| pair.name == "service")
                {
                    match pair.value.as_str() {
                        "git-receive-pack" => return Some(Service::PushRefs),
                        "git-upload-pack" => found = Some(Service::FetchRefs),
                        _ => {}
                    }
                }
                found
            }
            "POST" if path.ends_with("/git-upload-pack") => Some(Service::Fetch),
            "POST" if path.ends_with("/git-receive-pack") => Some(Service::Push),
            _ => None,
        }
    }
}

/// A refusal in git's own words, with its content type, where the request is one of git's.
pub fn git_report(request: &Request, reason: &str) -> Option<(&'static str, Vec<u8>)> {
    let line: String = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).take(4000).collect();
    let refs = |service: &str| {
        [pkt(&format!("# service={service}\n")), b"0000".to_vec(), pkt(&format!("ERR {line}\n"))].concat()
    };
    match Service::of(request)? {
        Service::FetchRefs => Some(("application/x-git-upload-pack-advertisement", refs("git-upload-pack"))),
        Service::PushRefs => Some(("application/x-git-receive-pack-advertisement", refs("git-receive-pack"))),
        Service::Fetch => Some(("application/x-git-upload-pack-result", pkt(&format!("ERR {line}\n")))),
        Service::Push => match &request.body {
            Body::Push(push) => Some(("application/x-git-receive-pack-result", push.report(&line))),
            Body::Unread | Body::Empty | Body::Json(_) | Body::Form(_) => None,
        },
    }
}

fn pkt(text: &str) -> Vec<u8> {
    format!("{:04x}{text}", text.len() + 4).into_bytes()
}

impl GitCheck {
    /// Must the commands of this push be read?
    pub(crate) fn reads(&self, request: &Request) -> bool {
        self.push.is_some() && Service::of(request) == Some(Service::Push)
    }

    /// Does it depend on whether an update is a fast-forward?
    pub(crate) fn proves(&self) -> bool {
        self.push.as_ref().is_some_and(|push| push.update != push.force)
    }

    pub(crate) fn holds(&self, request: &Request, wide: bool) -> bool {
        match (Service::of(request), &self.push) {
            (None, _) => false,
            (Some(Service::FetchRefs | Service::Fetch), _) => self.fetch,
            (Some(Service::PushRefs | Service::Push), None) => false,
            // A deny rule blocks what a push does, not the look at what there is, unless it blocks them all.
            (Some(Service::PushRefs), Some(push)) => !wide || push.is_all(),
            (Some(Service::Push), Some(push)) => match &request.body {
                Body::Push(head) if wide => head.commands.iter().any(|command| push.takes(command)),
                Body::Push(head) => head.commands.iter().all(|command| push.takes(command)),
                Body::Unread | Body::Empty | Body::Json(_) | Body::Form(_) => wide,
            },
        }
    }

    /// What the request lacks, for an allow rule.
    pub(crate) fn lacks(&self, request: &Request) -> String {
        match (Service::of(request), &self.push) {
            (None, _) => "it is no request of git's smart protocol".into(),
            (Some(Service::FetchRefs | Service::Fetch), _) => "git may not fetch here".into(),
            (Some(Service::PushRefs | Service::Push), None) => "git may not push here".into(),
            (Some(Service::PushRefs | Service::Push), Some(push)) => match &request.body {
                Body::Push(head) => {
                    let bad = head.commands.iter().filter(|command| !push.takes(command));
                    bad.map(|command| push.lacks(command)).collect::<Vec<_>>().join("; ")
                }
                _ => "the commands of the push cannot be read".into(),
            },
        }
    }
}

impl PushCheck {
    /// Every push there is.
    pub(crate) fn is_all(&self) -> bool {
        self.refs.is_none() && self.create && self.update && self.delete && self.force
    }

    fn takes(&self, command: &Command) -> bool {
        self.names(command) && self.permits(command.change)
    }

    fn names(&self, command: &Command) -> bool {
        self.refs.as_ref().is_none_or(|refs| refs.iter().any(|glob| glob.is(&command.name) == Some(true)))
    }

    fn permits(&self, change: Change) -> bool {
        match change {
            Change::Create => self.create,
            Change::Delete => self.delete,
            Change::Forward => self.update,
            Change::Force => self.force,
        }
    }

    fn lacks(&self, command: &Command) -> String {
        let name = &command.name;
        if !self.names(command) {
            let refs: Vec<&str> = self.refs.iter().flatten().map(Glob::text).collect();
            return format!("`{name}` is not one of {}", refs.join(", "));
        }
        match command.change {
            Change::Create => format!("`{name}` may not be created"),
            Change::Delete => format!("`{name}` may not be deleted"),
            Change::Forward => format!("`{name}` may not be updated"),
            Change::Force => format!(
                "`{name}` may not be forced, and the commits that are pushed do not show that this is a fast-forward"
            ),
        }
    }
}
