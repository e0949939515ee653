//! Hosts and authorities: what is taken prints as it is read, in lower case, and never as two things.
#![no_main]

use enforcer_policy::{Host, Scheme, authority};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(host) = Host::parse(text) {
        let printed = host.to_string();
        assert_eq!(Host::parse(&printed).expect("a printed host is one"), host);
        assert!(!printed.bytes().any(|b| b.is_ascii_uppercase() || b <= b' ' || b"/@?#\\%".contains(&b)));
        assert!(host.name().is_some() != host.ip().is_some());
        let (again, port) = authority(&host.authority(Scheme::Https, 8443)).expect("an authority is one");
        assert_eq!((again, port), (host, Some(8443)));
    }
    if let Ok((host, port)) = authority(text) {
        assert_ne!(port, Some(0));
        let printed = host.authority(Scheme::Http, port.unwrap_or(80));
        assert_eq!(authority(&printed).expect("an authority is one").0, host);
    }
});
