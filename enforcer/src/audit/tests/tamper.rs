//! Whoever changes the log is found out, with the place.

use std::path::Path;

use enforcer_policy::Durability::Written;

use super::super::chain::Chain;
use super::super::entry::{Body, Encoded};
use super::super::verify::{Report, verify};
use super::super::*;
use super::stage::*;

/// A log of some segments, with signed heads. Gives the head at its end.
async fn written(dir: &Path, key: &[u8], segment: u64) -> Head {
    let options = Options { key: Some(key), ..Options::default() };
    let log = AuditLog::open_on(Box::new(appender::Files), segment, dir, options, true).unwrap();
    for n in 0..4 {
        log.begin(intent(&format!("/{n}")), Written).await.unwrap().finish(done());
        log.refused(denied(&format!("/{n}")), refused()).await.unwrap();
    }
    log.close();
    log.head().unwrap()
}

fn first(report: &Report) -> (&str, u64, u64) {
    let fault = report.faults.first().expect("a fault is found");
    (&fault.file, fault.line, fault.seq)
}

fn segment(dir: &Path, n: u32) -> std::path::PathBuf {
    segment::path(&dir.join("receipts"), n)
}

#[tokio::test]
async fn a_good_log_is_good() {
    let dir = tempfile::tempdir().unwrap();
    let head = written(dir.path(), &head::new_key(), 4096).await;
    let report = check(dir.path(), Some(&head));
    assert_eq!(report.faults, []);
    assert!(
        report.holds_expected && report.stopped && report.heads_checked >= 3 && report.segments > 1,
        "{report:?}"
    );
    assert_eq!(report.head, Some(head.to_string()));
    assert_eq!(head.to_string().parse(), Ok(head));
    assert_eq!(report.last_seq, report.entries);
}

#[tokio::test]
async fn every_flipped_byte_is_found_in_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let key = head::new_key();
    let log = AuditLog::open(dir.path(), Options { key: Some(&key), ..Options::default() }).unwrap();
    log.begin(intent("/a"), Written).await.unwrap().finish(done());
    log.close();
    let file = segment(dir.path(), 1);
    let good = std::fs::read(&file).unwrap();
    let mut line = 1;
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        std::fs::write(&file, &bad).unwrap();
        let report = check(dir.path(), None);
        assert_eq!(first(&report), ("00000001.log", line, line), "byte {at}: {:?}", report.faults);
        line += u64::from(good[at] == b'\n');
    }
}

#[tokio::test]
async fn a_cut_at_any_record_is_found_with_a_head_from_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let head = written(dir.path(), &head::new_key(), u64::MAX).await;
    let file = segment(dir.path(), 1);
    let good = std::fs::read(&file).unwrap();
    let ends: Vec<_> = good.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1).collect();
    // The last entry is the head itself, which names the one before it.
    for (n, end) in ends[..ends.len() - 2].iter().enumerate() {
        std::fs::write(&file, &good[..*end]).unwrap();
        let report = check(dir.path(), Some(&head));
        assert_eq!(first(&report), ("00000001.log", n as u64 + 2, n as u64 + 2));
        assert!(report.faults[0].what.contains("cut off"), "{report:?}");
        assert!(check(dir.path(), None).is_good(), "without a head a cut between entries cannot show");
        // Inside a line it always shows.
        std::fs::write(&file, &good[..*end - 1]).unwrap();
        assert_eq!(first(&check(dir.path(), None)), ("00000001.log", n as u64 + 1, n as u64 + 1));
    }
    std::fs::write(&file, b"").unwrap();
    assert!(!check(dir.path(), Some(&head)).is_good());
    std::fs::remove_file(&file).unwrap();
    assert!(!check(dir.path(), Some(&head)).is_good());
}

#[tokio::test]
async fn a_removed_or_moved_record_is_found() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), &head::new_key(), u64::MAX).await;
    let file = segment(dir.path(), 1);
    let good = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<_> = good.split_inclusive('\n').collect();
    for n in 0..lines.len() - 1 {
        let mut removed = lines.clone();
        removed.remove(n);
        let mut moved = lines.clone();
        moved.swap(n, n + 1);
        let mut doubled = lines.clone();
        doubled.insert(n, lines[n]);
        for (bad, line) in [(removed, n + 1), (moved, n + 1), (doubled, n + 2)] {
            std::fs::write(&file, bad.concat()).unwrap();
            assert_eq!(first(&check(dir.path(), None)), ("00000001.log", line as u64, line as u64));
        }
    }
}

#[tokio::test]
async fn swapped_missing_and_foreign_segments_are_found() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let key = head::new_key();
    written(dir.path(), &key, 2048).await;
    written(other.path(), &key, 2048).await;
    let (two, three) = (segment(dir.path(), 2), segment(dir.path(), 3));
    let (second, third) = (std::fs::read(&two).unwrap(), std::fs::read(&three).unwrap());

    std::fs::write(&two, &third).unwrap();
    std::fs::write(&three, &second).unwrap();
    assert_eq!((first(&check(dir.path(), None)).0, first(&check(dir.path(), None)).1), ("00000002.log", 1));

    std::fs::write(&three, &third).unwrap();
    std::fs::remove_file(&two).unwrap();
    assert_eq!((first(&check(dir.path(), None)).0, first(&check(dir.path(), None)).1), ("00000002.log", 0));

    std::fs::copy(segment(other.path(), 2), &two).unwrap();
    assert_eq!((first(&check(dir.path(), None)).0, first(&check(dir.path(), None)).1), ("00000002.log", 1));

    std::fs::write(&two, &second).unwrap();
    assert!(check(dir.path(), None).is_good());
    std::fs::remove_file(segment(dir.path(), 1)).unwrap();
    assert_eq!(first(&check(dir.path(), None)), ("00000001.log", 0, 1));
}

/// Someone with the disk but not the key writes the whole log anew, with every hash right.
fn forge(dir: &Path, sign: Option<&[u8]>) {
    let signer = head::Signer::new(sign).unwrap();
    let mut chain = Chain::START;
    let mut lines = Vec::new();
    for entry in entries(dir) {
        let body = match entry.body {
            Body::Intent(mut intent) => {
                intent.path = Some("/innocent".to_owned());
                Body::Intent(intent)
            }
            Body::Head(mark) => Body::Head(signer.mark(&chain, mark.open).1),
            other => other,
        };
        chain.seal(&mut lines, clock::Stamp::now(), None, &Encoded::new(&body));
    }
    std::fs::write(segment(dir, 1), lines).unwrap();
}

#[tokio::test]
async fn a_log_written_anew_is_found_by_its_heads() {
    let dir = tempfile::tempdir().unwrap();
    let head = written(dir.path(), &head::new_key(), u64::MAX).await;
    for key in [None, Some(head::new_key())] {
        forge(dir.path(), key.as_deref().map(Vec::as_slice));
        let report = check(dir.path(), None);
        assert_eq!(first(&report), ("00000001.log", 1, 1));
        assert!(report.faults[0].what.contains("not signed with the key"), "{report:?}");
    }
    // Even for someone who checks without the key, a head from elsewhere shows it.
    let report = verify(&dir.path().join("receipts"), &[], Some(&head), None).unwrap();
    assert!(report.faults[0].what.contains("written anew"), "{report:?}");
    // And a head nobody signed is no proof.
    let made_up = Head { sig: Some([7; 64]), ..head };
    assert_eq!(first(&check(dir.path(), Some(&made_up))).0, "--head");
}

#[tokio::test]
async fn an_old_copy_put_back_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let key = head::new_key();
    written(dir.path(), &key, u64::MAX).await;
    let old = std::fs::read(segment(dir.path(), 1)).unwrap();
    let head = written(dir.path(), &key, u64::MAX).await;
    assert!(check(dir.path(), Some(&head)).is_good());
    std::fs::write(segment(dir.path(), 1), old).unwrap();
    assert!(check(dir.path(), Some(&head)).faults[0].what.contains("cut off"));
    // The index remembers too, and the next start says so in the log.
    written(dir.path(), &key, u64::MAX).await;
    let ahead = entries(dir.path()).into_iter().filter_map(|e| match e.body {
        Body::Start(start) => start.index_ahead,
        _ => None,
    });
    assert_eq!(ahead.last(), Some(head.seq + 1));
}

#[test]
fn a_signed_log_does_not_open_without_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let key = head::new_key();
    drop(AuditLog::open(dir.path(), Options { key: Some(&key), ..Options::default() }).unwrap());
    let Err(error) = AuditLog::open(dir.path(), Options::default()) else { panic!("opened") };
    assert!(error.to_string().contains("no signing key was given"), "{error}");
    // A new key is added; heads of both are good.
    drop(AuditLog::open(dir.path(), Options { key: Some(&head::new_key()), ..Options::default() }).unwrap());
    assert!(check(dir.path(), None).is_good());
    assert!(AuditLog::open(dir.path(), Options { key: Some(b"junk"), ..Options::default() }).is_err());
}

#[test]
fn heads_and_keys_have_one_spelling() {
    for text in ["", "00", "zz", &"A".repeat(208), &"0".repeat(81), &"0".repeat(209)] {
        assert!(text.parse::<Head>().is_err(), "{text}");
        assert!(text.parse::<PublicKey>().is_err(), "{text}");
    }
    assert!(crate::text::unhex::<1>(b"0A").is_none());
}
