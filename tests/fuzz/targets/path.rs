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
    let upper = path.to_ascii_uppercase();
    assert!(["%5C", "%3B", "%00", "%2E"].iter().all(|escape| !upper.contains(escape)));
    assert_eq!(upper.contains("%2F"), target.has_encoded_slash());
    // As a server reads it that decodes before it splits.
    let decoded = upper.replace("%2F", "/");
    assert!(!decoded.contains("//") && decoded.split('/').all(|segment| segment != "." && segment != ".."));
});
