//! A place, a test and a JSON body, a line each: what meets the test in an allow rule meets it in a deny rule.
#![no_main]

use enforcer_fuzz::{request, told, try_policy};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut lines = text.splitn(3, '\n');
    let (Some(place), Some(test), Some(body)) = (lines.next(), lines.next(), lines.next()) else { return };
    let check = format!("json: {{ \"{place}\": {test} }}");
    let allow = format!("allow:\n  - {{ name: r, host: a.test, {check} }}\n");
    let Ok(allows) = try_policy(&allow) else { return };
    // What reads as one rule there may read as something else here, but then it does not load.
    let Ok(denies) = try_policy(&format!("deny:\n  - {{ name: d, {check} }}\n{allow}")) else { return };
    let read = |policy| request(policy, "POST", "https://a.test/", "application/json", body.as_bytes());
    let (Some(one), Some(other)) = (read(&allows), read(&denies)) else { return };
    if told(&allows, &one).starts_with("allow") {
        assert!(told(&denies, &other).starts_with("deny d"), "{check} on {body}");
    }
});
