//! A template and a path, through a whole policy: the decision ends, and agrees with its explanation.
#![no_main]

use enforcer_policy::{Decision, Moment, PolicySet, Request, Source};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Some((template, path)) = text.split_once('\n') else { return };
    if template.chars().any(|c| c.is_control() || matches!(c, '"' | '\\')) {
        return;
    }
    let Ok(request) = Request::parse("GET", &format!("https://a.example{path}")) else { return };
    let text =
        format!("version: 1\nagent: bot\nallow: [{{ name: r, host: a.example, paths: \"{template}\" }}]\n");
    let Ok(compiled) = PolicySet::compile(&[Source { name: "p.yaml".into(), text }]) else { return };
    let policy = compiled.set.agent("bot").expect("it was compiled");
    let allowed = matches!(policy.decide(&request, Moment::ANY), Decision::Allow { .. });
    assert_eq!(policy.explain(&request, Moment::ANY).allowed, allowed);
});
