//! Forms: what is allowed, another reader of forms finds to be so.
#![no_main]

use std::sync::{Arc, LazyLock};

use enforcer_fuzz::{policy, request, told};
use enforcer_policy::AgentPolicy;
use libfuzzer_sys::fuzz_target;

static POLICY: LazyLock<Arc<AgentPolicy>> = LazyLock::new(|| {
    policy(
        "deny:\n  - { name: no-b, form: { b: { exists: true } } }\n\
         allow:\n  - { name: r, host: a.test, form: { a: { in: [x, \"y z\"] }, n: { max: 5 } } }\n",
    )
});

fuzz_target!(|body: &[u8]| {
    let media = "application/x-www-form-urlencoded";
    let Some(request) = request(&POLICY, "POST", "https://a.test/", media, body) else { return };
    if told(&POLICY, &request) != "allow r" {
        return;
    }
    let body = body.strip_suffix(b"\n").map_or(body, |body| body.strip_suffix(b"\r").unwrap_or(body));
    let pairs: Vec<(String, String)> = form_urlencoded::parse(body).into_owned().collect();
    let values =
        |name: &str| pairs.iter().filter(|(own, _)| own == name).map(|(_, v)| v.clone()).collect::<Vec<_>>();
    assert!(!values("a").is_empty() && values("a").iter().all(|a| a == "x" || a == "y z"), "{pairs:?}");
    assert!(
        !values("n").is_empty() && values("n").iter().all(|n| n.parse::<f64>().is_ok_and(|n| n <= 5.0)),
        "{pairs:?}"
    );
    assert!(values("b").is_empty(), "{pairs:?}");
});
