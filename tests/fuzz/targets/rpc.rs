//! JSON-RPC and MCP messages: what is allowed, another reader of JSON finds to be so, message by message.
#![no_main]

use std::sync::{Arc, LazyLock};

use enforcer_fuzz::{policy, request, told};
use enforcer_policy::AgentPolicy;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

static POLICY: LazyLock<Arc<AgentPolicy>> = LazyLock::new(|| {
    policy(
        "allow:\n\
         \x20 - { name: mcp, host: a.test, paths: /mcp, mcp: { tools: [{ name: \"get_*\" }, { name: put, args: { k: { equals: v } } }] } }\n\
         \x20 - { name: rpc, host: a.test, paths: /rpc, jsonrpc: { methods: [\"net_*\"], params: { \"[*]\": { max: 5 } } } }\n",
    )
});
/// What every session needs.
const ALWAYS: &[&str] = &["initialize", "ping", "tools/list", "logging/setLevel"];

fuzz_target!(|body: &[u8]| {
    for path in ["/mcp", "/rpc"] {
        let url = format!("https://a.test{path}");
        let Some(request) = request(&POLICY, "POST", &url, "application/json", body) else { return };
        if !told(&POLICY, &request).starts_with("allow") {
            continue;
        }
        let json: Value = match serde_json::from_slice(body) {
            Ok(json) => json,
            // Of a number that no rule asks about.
            Err(error) if error.to_string().contains("out of range") => continue,
            Err(error) => panic!("what is allowed is JSON: {error}"),
        };
        let messages = json.as_array().cloned().unwrap_or_else(|| vec![json]);
        assert!(!messages.is_empty());
        for message in &messages {
            assert_eq!(message["jsonrpc"], "2.0");
            let params = &message["params"];
            let fine = match (path, message["method"].as_str()) {
                // An answer without anything in it.
                ("/mcp", None) => message["result"].as_object().is_some_and(|result| result.is_empty()),
                ("/mcp", Some("tools/call")) => match params["name"].as_str() {
                    Some("put") => params["arguments"]["k"] == "v",
                    Some(name) => name.starts_with("get_"),
                    None => false,
                },
                ("/mcp", Some(method)) => ALWAYS.contains(&method) || method.starts_with("notifications/"),
                (_, Some(method)) => {
                    let small = |param: &Value| param.as_f64().is_some_and(|n| n <= 5.0);
                    method.starts_with("net_")
                        && params.as_array().is_some_and(|all| !all.is_empty() && all.iter().all(small))
                }
                (_, None) => false,
            };
            assert!(fine, "{message}");
        }
    }
});
