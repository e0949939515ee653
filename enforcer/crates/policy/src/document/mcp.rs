//! `mcp`, `jsonrpc` and `grpc` in a rule: which methods and tools may be called, with what.

use super::reader::{Fields, Reader};
use super::{checks, fields};
use crate::canon::Method;
use crate::matcher::{Glob, McpCheck, Place, RpcCheck, Stops, Template, Tool};
use crate::yaml::{Entry, Node};

pub(super) fn read(r: &mut Reader<'_>, entry: &Entry) -> Option<McpCheck> {
    let fields = r.section(entry, &fields::MCP)?;
    let mut tools = Vec::new();
    if let Some(entry) = fields.get("tools") {
        for node in r.list(entry) {
            tools.extend(tool(r, node));
        }
    }
    Some(McpCheck { tools, methods: methods(r, fields) })
}

fn tool(r: &mut Reader<'_>, node: &Node) -> Option<Tool> {
    let fields = r.fields(node, &fields::TOOL)?;
    let args = fields.get("args").map(|entry| checks::places(r, entry)).unwrap_or_default();
    let Some(entry) = fields.get("name") else {
        r.missing(node, "a tool needs a name", "write `{ name: TOOL }`");
        return None;
    };
    let name = checks::globs(r, entry, Stops::ListItems)?;
    match <[Glob; 1]>::try_from(name) {
        Ok([name]) => Some(Tool { name, args }),
        Err(_several) => {
            r.error("E001", &entry.value.span, "a tool has one name");
            None
        }
    }
}

pub(super) fn read_rpc(r: &mut Reader<'_>, entry: &Entry) -> Option<RpcCheck> {
    let fields = r.section(entry, &fields::JSONRPC)?;
    if fields.get("methods").is_none() {
        r.missing(&entry.value, "`jsonrpc` needs methods", "write `methods: [NAME, …]`");
    }
    let params: Vec<Place> = fields.get("params").map(|entry| checks::places(r, entry)).unwrap_or_default();
    Some(RpcCheck { methods: methods(r, fields), params })
}

fn methods(r: &mut Reader<'_>, fields: Fields<'_>) -> Vec<Glob> {
    let Some(entry) = fields.get("methods") else { return Vec::new() };
    checks::globs(r, entry, Stops::ListItems).unwrap_or_default()
}

/// `grpc` is another way to write paths: `/package.Service/Method`, always POST.
pub(super) fn read_grpc(
    r: &mut Reader<'_>,
    rule: Fields<'_>,
    entry: &Entry,
) -> Option<(Vec<Method>, Vec<Template>)> {
    for name in ["paths", "methods"] {
        if let Some(entry) = rule.get(name) {
            let hint = "a gRPC call is a POST to `/package.Service/Method`, which `grpc` says";
            r.error_with("E022", &entry.key_span, format!("`{name}` stands beside `grpc`"), hint);
        }
    }
    let fields = r.section(entry, &fields::GRPC)?;
    let Some(services) = fields.get("service") else {
        r.missing(&entry.value, "`grpc` needs a service", "write `service: package.Service`");
        return None;
    };
    let services = names(r, services);
    let methods = fields.get("method").map(|entry| names(r, entry)).unwrap_or_else(|| vec!["*".to_owned()]);
    let mut templates = Vec::new();
    for service in &services {
        for method in &methods {
            templates.extend(Template::parse(&format!("/{service}/{method}")).ok());
        }
    }
    Some((vec![Method::parse("POST").ok()?], templates))
}

/// Names as protocol buffers write them.
fn names(r: &mut Reader<'_>, entry: &Entry) -> Vec<String> {
    let mut names = Vec::new();
    for text in r.one_or_list(entry) {
        let word = |part: &str| {
            part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                && part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        };
        if text.value.split('.').all(word) {
            names.push(text.value);
        } else {
            let message =
                format!("`{}` is not the name of a service or method", crate::canon::shown(&text.value));
            r.error_with(
                "E001",
                &text.span,
                message,
                "write for example `package.v1.Service`; without `method`, every method",
            );
        }
    }
    names
}
