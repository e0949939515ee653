//! The pack behind a push: whatever stands in it, no chain of commits begins at an object nobody can make.
#![no_main]

use std::sync::{Arc, LazyLock};

use enforcer_fuzz::{policy, request, told};
use enforcer_policy::AgentPolicy;
use libfuzzer_sys::fuzz_target;

static POLICY: LazyLock<Arc<AgentPolicy>> = LazyLock::new(|| {
    policy("allow:\n  - { name: r, host: a.test, git: { push: { refs: [\"refs/heads/bot/*\"] } } }\n")
});
const MEDIA: &str = "application/x-git-receive-pack-request";
/// The second is no commit's id: that would take a preimage of SHA-1.
const COMMAND: &str =
    "1111111111111111111111111111111111111111 2222222222222222222222222222222222222222 refs/heads/bot/x";

fuzz_target!(|pack: &[u8]| {
    let mut body = format!("{:04x}{COMMAND}0000", COMMAND.len() + 4).into_bytes();
    body.extend(pack);
    let url = "https://a.test/r.git/git-receive-pack";
    let request = request(&POLICY, "POST", url, MEDIA, &body).expect("its commands can be read");
    assert_eq!(told(&POLICY, &request), "deny");
});
