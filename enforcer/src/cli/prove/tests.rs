use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use enforcer_capture::prove::{Guard, Outcome};

use super::*;

#[test]
fn a_changed_proof_is_found_out() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("proofs");
    let file = seal::write(&folder, "bot-1.json", "{\"holds\":true}").unwrap();
    let signed = seal::read(&file, None, &folder).unwrap();
    assert_eq!(signed.body, "{\"holds\":true}");
    let private = std::fs::metadata(folder.join("key.pk8")).unwrap();
    assert_eq!(private.permissions().mode() & 0o777, 0o600);
    // Kept elsewhere, the public key is enough.
    assert_eq!(seal::read(&file, Some(&signed.key), dir.path()).unwrap(), signed);

    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("true", "false")).unwrap();
    assert!(seal::read(&file, None, &folder).unwrap_err().contains("signature is wrong"));
    std::fs::write(&file, format!("{text}{text}")).unwrap();
    assert!(seal::read(&file, None, &folder).unwrap_err().contains("two lines"));

    // Signed, but by somebody else.
    let other = seal::write(&dir.path().join("other"), "bot-1.json", "{\"holds\":true}").unwrap();
    assert!(seal::read(&other, None, &folder).unwrap_err().contains("another key"));
    // The same key signs the next one.
    let next = seal::write(&folder, "bot-2.json", "{}").unwrap();
    assert_eq!(seal::read(&next, None, &folder).unwrap().key, signed.key);
}

#[test]
fn files_of_an_agent_are_told_from_those_of_its_namesakes() {
    assert_eq!(number(Path::new("/x/bot-17.json"), "bot"), Some(17));
    for other in ["/x/bot-2-17.json", "/x/bo-17.json", "/x/bot-17.json.bak", "/x/key.pub"] {
        assert_eq!(number(Path::new(other), "bot"), None, "{other}");
    }
}

#[test]
fn a_proof_holds_only_if_everything_was_seen_and_nothing_left() {
    let outcome = |fate| Outcome { fate, packets: 0, said: String::new() };
    let mut proof = Proof {
        agent: "bot".into(),
        kernel: "6".into(),
        lost: 0,
        nftables: true,
        routes: vec![Tried {
            route: "tcp4".into(),
            what: String::new(),
            outcomes: BTreeMap::from([
                (Guard::None, outcome(Fate::Out)),
                (Guard::Agent, outcome(Fate::Held)),
            ]),
            skipped: None,
        }],
    };
    assert!(proof.holds());
    proof.lost = 1;
    assert!(!proof.holds());
    proof.lost = 0;
    for bad in [Fate::Out, Fate::Failed] {
        proof.routes[0].outcomes.insert(Guard::Agent, outcome(bad));
        assert!(!proof.holds(), "{bad:?}");
    }
    // Nothing tried at all is no proof.
    proof.routes[0].outcomes.remove(&Guard::Agent);
    assert!(!proof.holds());
}
