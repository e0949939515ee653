//! The head of a `git push` in pkt-lines: what is allowed names only refs that may be pushed to.
#![no_main]

use std::sync::{Arc, LazyLock};

use enforcer_fuzz::{policy, request, told};
use enforcer_policy::{AgentPolicy, git_report};
use libfuzzer_sys::fuzz_target;

static POLICY: LazyLock<Arc<AgentPolicy>> = LazyLock::new(|| {
    policy(
        "allow:\n  - { name: r, host: a.test, git: { push: { refs: [\"refs/heads/bot/*\"], create: true, force: true } } }\n",
    )
});
const MEDIA: &str = "application/x-git-receive-pack-request";

fuzz_target!(|body: &[u8]| {
    let Some(request) = request(&POLICY, "POST", "https://a.test/r.git/git-receive-pack", MEDIA, body) else {
        return;
    };
    git_report(&request, "no");
    if told(&POLICY, &request) != "allow r" {
        return;
    }
    let mut rest = body;
    while let Some(line) = packet(&mut rest) {
        let text = std::str::from_utf8(line).expect("commands are UTF-8");
        let command = text.split('\0').next().unwrap_or_default().trim_end_matches('\n');
        if command.starts_with("shallow ") {
            continue;
        }
        let words: Vec<&str> = command.splitn(3, ' ').collect();
        let [_, new, name] = words[..] else { panic!("no command: {command:?}") };
        assert!(name.starts_with("refs/heads/bot/"), "{command:?}");
        assert!(new.bytes().any(|digit| digit != b'0'), "deletes: {command:?}");
    }
});

/// Up to the flush packet.
fn packet<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::from_str_radix(std::str::from_utf8(rest.get(..4)?).ok()?, 16).ok()?;
    let line = rest.get(4..length)?;
    *rest = &rest[length..];
    Some(line)
}
