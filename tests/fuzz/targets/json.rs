//! JSON bodies: what is allowed, another reader of JSON finds to be so.
#![no_main]

use std::sync::{Arc, LazyLock};

use enforcer_fuzz::{policy, request, told};
use enforcer_policy::AgentPolicy;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

static POLICY: LazyLock<Arc<AgentPolicy>> = LazyLock::new(|| {
    policy(
        "deny:\n  - { name: no-c, json: { \"c[*].d\": { exists: true } } }\n\
         allow:\n  - { name: r, host: a.test, json: { a: { equals: x }, b.n: { max: 5 }, \"l[*]\": { glob: \"x*\" } } }\n",
    )
});

fuzz_target!(|body: &[u8]| {
    let Some(request) = request(&POLICY, "POST", "https://a.test/", "application/json", body) else { return };
    let told = told(&POLICY, &request);
    if told != "allow r" {
        return;
    }
    let json: Value = match serde_json::from_slice(body) {
        Ok(json) => json,
        // Of a number that no rule asks about.
        Err(error) if error.to_string().contains("out of range") => return,
        Err(error) => panic!("what is allowed is JSON: {error}"),
    };
    assert_eq!(json["a"], "x");
    assert!(json["b"]["n"].as_f64().is_some_and(|n| n <= 5.0), "{}", json["b"]["n"]);
    let starts = |item: &Value| item.as_str().is_some_and(|text| text.starts_with('x'));
    assert!(json["l"].as_array().is_some_and(|items| !items.is_empty() && items.iter().all(starts)));
    assert!(
        json.get("c")
            .is_none_or(|c| c.as_array().is_some_and(|c| c.iter().all(|item| item.get("d").is_none())))
    );
});
