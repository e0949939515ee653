//! Request targets: what is taken is canonical, so reading it again changes nothing, and none of the
//! refused shapes is left in it.
#![no_main]

use enforcer_policy::Target;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(target) = Target::parse(text) else { return };
    let canonical = target.to_string();
    assert_eq!(Target::parse(&canonical).expect("canonical text is taken").to_string(), canonical);
    let path = target.path();
    assert!(path.starts_with('/') && !path.contains("//") && !path.contains(['\\', ';', '?', '#']));
    assert!(path.split('/').all(|segment| segment != "." && segment != ".."));
    let upper = path.to_ascii_uppercase();
    assert!(["%2F", "%5C", "%3B", "%00", "%2E"].iter().all(|escape| !upper.contains(escape)));
});
