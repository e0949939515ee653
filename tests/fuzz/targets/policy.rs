//! Policy files: reading, checking, laying out. What loads still loads, and says the same, once laid out.
#![no_main]

use enforcer_policy::{PolicySet, Source, audit, format};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let source = Source { name: "p.yaml".into(), text: text.to_owned() };
    let compiled = PolicySet::compile(std::slice::from_ref(&source));
    let laid_out = format(&source);
    match (compiled, laid_out) {
        (Ok(compiled), Ok(text)) => {
            let again = Source { name: source.name.clone(), text };
            let second = PolicySet::compile(std::slice::from_ref(&again)).expect("a policy laid out loads");
            let names = |set: &PolicySet| {
                set.agents()
                    .flat_map(|agent| {
                        agent.rules().iter().map(|rule| rule.name.to_string()).collect::<Vec<_>>()
                    })
                    .collect::<Vec<_>>()
            };
            assert_eq!(names(&compiled.set), names(&second.set));
            assert_eq!(format(&again).expect("twice is once"), again.text);
            assert!(audit(&[source], &Default::default()).is_ok());
        }
        (Ok(_), Err(report)) => panic!("it loads and cannot be laid out: {report}"),
        // Drawing an error must not fail either.
        (Err(report), _) => assert!(!report.render(true).is_empty()),
    }
});
