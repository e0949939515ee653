//! The body of a request as rules see it: read once, strictly, or refused.
//!
//! A decision on the head may say that it needs the body ([`Wanted`]). Whoever has the bytes shows them to
//! a [`Reader`], which answers with a [`Body`] or says why it is [`Unreadable`]; the same bytes then go
//! upstream. Two servers must not read what was judged in two ways, so anything unusual is unreadable:
//! another content type than a rule asks for, a coding, a charset, text that is not UTF-8, keys that
//! come twice.
//!
//! Left out: what rules make of it (`matcher`).

mod form;
mod git;
mod graphql;
mod json;
mod number;
mod pack;
mod rpc;

use std::fmt;

use crate::canon::{Headers, shown};
pub(crate) use form::{Pair, is_named, query};
pub use git::Push;
pub(crate) use git::{Change, Command};
pub(crate) use graphql::{Graphql, Kind as GraphqlKind, Operation as GraphqlOperation};
pub(crate) use json::{Entry, Json};
pub(crate) use number::Number;
pub(crate) use rpc::{Kind as MessageKind, Message, messages};

/// Enough for a request to a model with a few pictures; all of it is held in memory while it is judged.
const MAX_BODY: usize = 8 * 1024 * 1024;

/// What is known of a request's body.
#[derive(Clone, Default)]
pub enum Body {
    /// Not looked at yet.
    #[default]
    Unread,
    /// There is none.
    Empty,
    Json(JsonBody),
    Form(FormBody),
    /// The head of a `git push`; what comes after it is not looked into, but for a proof.
    Push(Push),
}

#[derive(Clone)]
pub struct JsonBody(pub(crate) Json);

#[derive(Clone)]
pub struct FormBody(pub(crate) Vec<Pair>);

/// The kinds of body that the rules in question can look into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub(crate) json: bool,
    pub(crate) form: bool,
    pub(crate) push: bool,
    /// Does it matter whether the push is a fast-forward?
    pub(crate) prove: bool,
}

/// Why a body cannot be judged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Unreadable {
    pub message: String,
    /// it is only too long
    pub too_large: bool,
}

/// Takes in the bytes of one body.
pub struct Reader {
    kind: Result<Kind, Unreadable>,
    limit: usize,
    prove: bool,
    git: git::Reading,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Json,
    Form,
    Push,
}

impl Body {
    /// From a JSON text that a person typed.
    pub fn json(text: &str) -> Result<Body, Unreadable> {
        Json::parse(text.as_bytes())
            .map(|json| Body::Json(JsonBody(json)))
            .map_err(|why| unreadable(format!("the body is not JSON: {why}")))
    }

    /// From a form as it is sent, `a=1&b=2`.
    pub fn form(text: &str) -> Result<Body, Unreadable> {
        form::parse(text.as_bytes())
            .map(|pairs| Body::Form(FormBody(pairs)))
            .map_err(|why| unreadable(format!("the body is not a form: {why}")))
    }

    /// What it is, for people.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Body::Unread => "a body that was not read",
            Body::Empty => "no body",
            Body::Json(_) => "JSON",
            Body::Form(_) => "a form",
            Body::Push(_) => "a push",
        }
    }
}

/// What kind it is, never what stands in it.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

impl Wanted {
    pub(crate) fn and(self, other: Wanted) -> Wanted {
        Wanted {
            json: self.json || other.json,
            form: self.form || other.form,
            push: self.push || other.push,
            prove: self.prove || other.prove,
        }
    }

    /// Can the rules say anything about this body?
    pub(crate) fn fits(self, body: &Body) -> bool {
        match body {
            Body::Unread | Body::Empty => true,
            Body::Json(_) => self.json,
            Body::Form(_) => self.form,
            Body::Push(_) => self.push,
        }
    }

    /// The kinds of body, for people.
    pub(crate) fn kinds(self) -> String {
        let kinds = [(self.json, "JSON"), (self.form, "a form"), (self.push, "a push")];
        let named: Vec<&str> = kinds.iter().filter(|(wanted, _)| *wanted).map(|(_, name)| *name).collect();
        named.join(" or ")
    }

    /// A reader for a body with these headers, which holds at most `limit` bytes (if there is a limit).
    pub fn reader(self, headers: &Headers, limit: Option<u64>) -> Reader {
        let limit =
            limit.and_then(|limit| usize::try_from(limit).ok()).map_or(MAX_BODY, |limit| limit.min(MAX_BODY));
        Reader { kind: self.kind(headers), limit, prove: self.prove, git: git::Reading::default() }
    }

    fn kind(self, headers: &Headers) -> Result<Kind, Unreadable> {
        if headers.values("content-encoding").any(|coding| !coding.eq_ignore_ascii_case(b"identity")) {
            return Err(unreadable("the body is compressed; send it without a content-encoding"));
        }
        let expected = || {
            let mut types = Vec::new();
            if self.json {
                types.push("application/json");
            }
            if self.form {
                types.push("application/x-www-form-urlencoded");
            }
            if self.push {
                types.push(git::CONTENT_TYPE);
            }
            types.join(" or ")
        };
        let mut values = headers.values("content-type");
        let value = match (values.next(), values.next()) {
            (Some(value), None) => value,
            (None, _) => {
                return Err(unreadable(format!("the body has no content-type; send it as {}", expected())));
            }
            (Some(_), Some(_)) => return Err(unreadable("there is more than one content-type")),
        };
        let text = std::str::from_utf8(value).unwrap_or_default().to_ascii_lowercase();
        let mut parts = text.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let plain = |part: &str| part.is_empty() || matches!(part, "charset=utf-8" | "charset=\"utf-8\"");
        if !parts.all(plain) {
            return Err(unreadable(format!(
                "content-type `{}` has a parameter other than `charset=utf-8`",
                shown(&text)
            )));
        }
        let json =
            media == "application/json" || (media.starts_with("application/") && media.ends_with("+json"));
        match media {
            _ if json && self.json => Ok(Kind::Json),
            "application/x-www-form-urlencoded" if self.form => Ok(Kind::Form),
            git::CONTENT_TYPE if self.push => Ok(Kind::Push),
            _ => Err(unreadable(format!(
                "content-type `{}` cannot be looked into; send {}",
                shown(media),
                expected()
            ))),
        }
    }
}

impl Reader {
    /// Shows all bytes so far. `None`: more are needed; there is always an answer once it has `ended`.
    pub fn look(&mut self, so_far: &[u8], ended: bool) -> Result<Option<Body>, Unreadable> {
        if so_far.is_empty() {
            return Ok(ended.then_some(Body::Empty));
        }
        let kind = self.kind.clone()?;
        if kind == Kind::Push {
            return match self.git.look(so_far, ended, self.prove) {
                Ok(push) => Ok(push.map(Body::Push)),
                Err(why) => Err(unreadable(format!("the push cannot be looked into: {why}"))),
            };
        }
        if so_far.len() > self.limit {
            let message = format!("the body is larger than the {} bytes that can be looked into", self.limit);
            return Err(Unreadable { message, too_large: true });
        }
        if !ended {
            return Ok(None);
        }
        match kind {
            Kind::Json => Json::parse(so_far).map(|json| Some(Body::Json(JsonBody(json)))).map_err(|why| {
                unreadable(format!("the body is not JSON that all servers read alike: {why}"))
            }),
            // Answered above.
            Kind::Push => Ok(None),
            Kind::Form => form::parse(so_far).map(|pairs| Some(Body::Form(FormBody(pairs)))).map_err(|why| {
                unreadable(format!("the body is not a form that all servers read alike: {why}"))
            }),
        }
    }
}

fn unreadable(message: impl Into<String>) -> Unreadable {
    Unreadable { message: message.into(), too_large: false }
}
