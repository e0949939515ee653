//! Checks on JSON-RPC messages, and on MCP, which is made of them.

use super::check::Glob;
use super::json::Place;
use crate::body::{Body, Entry, Json, Message, MessageKind, messages};
use crate::canon::Request;

/// What every MCP session needs, and what moves no data by itself.
const ALWAYS: &[&str] = &[
    "initialize",
    "ping",
    "tools/list",
    "logging/setLevel",
    "notifications/initialized",
    "notifications/cancelled",
    "notifications/progress",
    "notifications/roots/list_changed",
];

/// In an allow rule every message of a batch has to be one of these, in a deny rule one is enough.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct McpCheck {
    pub(crate) tools: Vec<Tool>,
    /// other methods than `tools/call`
    pub(crate) methods: Vec<Glob>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tool {
    pub(crate) name: Glob,
    pub(crate) args: Vec<Place>,
}

/// Any other JSON-RPC.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RpcCheck {
    pub(crate) methods: Vec<Glob>,
    pub(crate) params: Vec<Place>,
}

impl McpCheck {
    pub(crate) fn holds(&self, request: &Request, wide: bool) -> bool {
        // A session's stream is opened with GET and ended with DELETE, without a body.
        let bare = matches!(request.method.as_str(), "GET" | "DELETE");
        match &request.body {
            Body::Empty => bare && !wide,
            body => each(body, wide, |message| self.takes(message, wide)),
        }
    }

    fn takes(&self, message: &Message<'_>, wide: bool) -> bool {
        match message.kind {
            MessageKind::Call("tools/call") => {
                let Some((name, arguments)) = call(message.params) else { return wide };
                let takes = |tool: &Tool| {
                    tool.name.likes(name, wide)
                        && tool.args.iter().all(|place| match arguments {
                            Some(arguments) => place.in_value(arguments, wide),
                            None => place.check.holds(&[], wide),
                        })
                };
                self.tools.iter().any(takes)
            }
            MessageKind::Call(method) => {
                (!wide && ALWAYS.contains(&method))
                    || self.methods.iter().any(|glob| glob.likes(method, wide))
            }
            // Of an answer that says something the rule would have to speak.
            MessageKind::Answer { empty } => !wide && empty,
        }
    }

    /// What an allow rule wants.
    pub(crate) fn wants(&self) -> String {
        let tools: Vec<&str> = self.tools.iter().map(|tool| tool.name.text()).collect();
        let methods: Vec<&str> = self.methods.iter().map(Glob::text).collect();
        match (tools.is_empty(), methods.is_empty()) {
            (false, true) => {
                format!("mcp: only these tools may be called, with arguments that pass: {}", tools.join(", "))
            }
            (true, _) => format!("mcp: no tool may be called; only these methods: {}", methods.join(", ")),
            (false, false) => format!(
                "mcp: only these tools may be called, with arguments that pass: {}; and these methods: {}",
                tools.join(", "),
                methods.join(", ")
            ),
        }
    }
}

impl RpcCheck {
    pub(crate) fn holds(&self, request: &Request, wide: bool) -> bool {
        let takes = |message: &Message<'_>| match message.kind {
            MessageKind::Call(method) => {
                let params = |place: &Place| match message.params {
                    Some(params) => place.in_value(params, wide),
                    None => place.check.holds(&[], wide),
                };
                self.methods.iter().any(|glob| glob.likes(method, wide)) && self.params.iter().all(params)
            }
            MessageKind::Answer { .. } => false,
        };
        match &request.body {
            Body::Empty => false,
            body => each(body, wide, takes),
        }
    }

    pub(crate) fn wants(&self) -> String {
        let methods: Vec<&str> = self.methods.iter().map(Glob::text).collect();
        let params: Vec<String> =
            self.params.iter().map(|place| format!("`{}` must {}", place.path, place.check)).collect();
        let params = if params.is_empty() { String::new() } else { format!(", whose {}", params.join(", ")) };
        format!("jsonrpc: only these methods: {}{params}", methods.join(", "))
    }
}

/// The methods and tools of a body, for receipts.
pub(crate) fn summary(body: &Json) -> Option<String> {
    const SHOWN: usize = 8;
    let named: Vec<String> = messages(body)?
        .iter()
        .take(SHOWN)
        .filter_map(|message| match message.kind {
            MessageKind::Call("tools/call") => {
                Some(format!("tools/call {}", call(message.params).map_or("?", |(name, _)| name)))
            }
            MessageKind::Call(method) => Some(method.to_owned()),
            MessageKind::Answer { .. } => None,
        })
        .collect();
    (!named.is_empty()).then(|| named.join(", "))
}

fn each(body: &Body, wide: bool, takes: impl Fn(&Message<'_>) -> bool) -> bool {
    let Body::Json(json) = body else { return wide };
    match messages(&json.0) {
        Some(messages) if wide => messages.iter().any(takes),
        Some(messages) => messages.iter().all(takes),
        None => wide,
    }
}

/// The tool that is called, and its arguments.
fn call(params: Option<&Json>) -> Option<(&str, Option<&Json>)> {
    let params = params?;
    let Entry::One(Json::Text(name)) = params.get("name") else { return None };
    match params.get("arguments") {
        Entry::One(arguments) => Some((name, Some(arguments))),
        Entry::Missing => Some((name, None)),
        Entry::Unclear => None,
    }
}
