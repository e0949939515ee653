//! The index: what can be asked, following, rebuilding.

use enforcer_policy::Durability::Written;

use super::super::*;
use super::stage::*;

async fn ask(log: &AuditLog, query: Query) -> Vec<String> {
    let found = log.query(query).await.unwrap();
    found.into_iter().map(|receipt| receipt.intent.path.unwrap_or_default()).collect()
}

async fn some_receipts(log: &AuditLog) {
    log.begin(intent("/a"), Written).await.unwrap().finish(done());
    log.refused(denied("/b"), refused()).await.unwrap();
    let other = Intent { agent: "other".to_owned(), host: Some("x.example.com".to_owned()), ..intent("/c") };
    log.begin(other, Written).await.unwrap().finish(done());
    let bare = Intent { host: Some("example.com".to_owned()), ..denied("/d") };
    log.refused(bare, refused()).await.unwrap();
}

async fn check_queries(log: &AuditLog) {
    let some = |text: &str| Some(text.to_owned());
    let all = log.query(Query::default()).await.unwrap();
    assert_eq!(all.iter().filter(|r| r.outcome.is_some()).count(), 4);
    assert_eq!(ask(log, Query::default()).await, ["/a", "/b", "/c", "/d"]);
    assert_eq!(ask(log, Query { agent: some("other"), ..Query::default() }).await, ["/c"]);
    assert_eq!(ask(log, Query { denied: true, ..Query::default() }).await, ["/b", "/d"]);
    assert_eq!(ask(log, Query { host: some("example.com"), ..Query::default() }).await, ["/d"]);
    assert_eq!(ask(log, Query { host: some("*.example.com"), ..Query::default() }).await, ["/c"]);
    assert_eq!(ask(log, Query { host: some("*.[a-z]*"), ..Query::default() }).await, [""; 0]);
    assert_eq!(ask(log, Query { limit: Some(2), ..Query::default() }).await, ["/c", "/d"]);
    let after = Query { limit: Some(2), after_seq: Some(all[0].seq), ..Query::default() };
    assert_eq!(ask(log, after).await, ["/b", "/c"]);
    assert_eq!(
        ask(log, Query { since: Some(all[1].time), until: Some(all[3].time), ..Query::default() }).await,
        ["/b", "/c"]
    );
    assert_eq!(log.get(all[2].intent.id.clone()).await.unwrap().as_ref(), Some(&all[2]));
    assert_eq!(log.get(RequestId::random()).await.unwrap(), None);
    for (receipt, query) in [(0, "other"), (2, "github-pr-bot")] {
        assert!(!Query { agent: some(query), ..Query::default() }.matches(&all[receipt]));
    }
    let below = Query { host: some("*.example.com"), denied: false, ..Query::default() };
    assert!(below.matches(&all[2]) && !below.matches(&all[3]));
}

#[tokio::test]
async fn receipts_are_found_by_what_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    some_receipts(&log).await;
    check_queries(&log).await;
}

#[tokio::test]
async fn a_lost_damaged_or_foreign_index_is_filled_from_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = small_segments(dir.path(), 2048);
    some_receipts(&log).await;
    check_queries(&log).await;
    drop(log);
    let index = dir.path().join("index.db");
    let stale = std::fs::read(&index).unwrap();
    for harm in ["lost", "junk", "cut", "other version", "wrong place"] {
        match harm {
            "lost" => std::fs::remove_file(&index).unwrap(),
            "junk" => std::fs::write(&index, [b'x'; 9000]).unwrap(),
            "cut" => std::fs::write(&index, &stale[..stale.len() / 2]).unwrap(),
            "other version" => {
                rusqlite::Connection::open(&index).unwrap().pragma_update(None, "user_version", 99).unwrap()
            }
            _ => drop(
                rusqlite::Connection::open(&index)
                    .unwrap()
                    .execute("UPDATE place SET at = at + 1", [])
                    .unwrap(),
            ),
        }
        let log = open(dir.path());
        check_queries(&log).await;
        drop(log);
    }
}

#[tokio::test]
async fn an_index_that_fell_behind_catches_up() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    some_receipts(&log).await;
    check_queries(&log).await;
    drop(log);
    let old: Vec<_> = ["index.db", "index.db-wal", "index.db-shm"]
        .iter()
        .map(|f| (dir.path().join(f), std::fs::read(dir.path().join(f)).ok()))
        .collect();
    let log = small_segments(dir.path(), 16 * 1024);
    for n in 0..5000 {
        log.begin(intent(&format!("/more/{n}")), Written).await.unwrap().finish(done());
    }
    drop(log);
    for (path, bytes) in old {
        match bytes {
            Some(bytes) => std::fs::write(path, bytes).unwrap(),
            None => drop(std::fs::remove_file(path)),
        }
    }
    let log = open(dir.path());
    // A question waits two seconds for the index; a busy machine may need more for so many.
    let since = std::time::Instant::now();
    let found = loop {
        let found = log.query(Query { limit: Some(10_000), ..Query::default() }).await.unwrap();
        if found.len() == 5004 || since.elapsed().as_secs() > 60 {
            break found;
        }
    };
    assert_eq!(found.len(), 5004);
    while log.query(Query::default()).await.unwrap().iter().any(|receipt| receipt.outcome.is_none()) {
        assert!(since.elapsed().as_secs() < 60);
    }
}

#[tokio::test]
async fn followers_get_each_finished_receipt_once() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    log.begin(intent("/before"), Written).await.unwrap().finish(done());
    let pending = log.begin(intent("/pending"), Written).await.unwrap();
    let mut follow = log
        .follow(Query { after_seq: Some(0), agent: Some("github-pr-bot".to_owned()), ..Query::default() })
        .await
        .unwrap();
    let mut denials = log.follow(Query { denied: true, ..Query::default() }).await.unwrap();
    let other = Intent { agent: "other".to_owned(), ..intent("/not-asked-for") };
    log.begin(other, Written).await.unwrap().finish(done());
    log.refused(denied("/refused"), refused()).await.unwrap();
    pending.finish(done());
    log.close();
    let mut seen = Vec::new();
    while let Some(Event::Receipt(receipt)) = follow.next().await {
        seen.push((receipt.intent.path.unwrap(), receipt.outcome.unwrap().end));
    }
    let expect = [("/before", "done"), ("/refused", "refused"), ("/pending", "done")];
    assert_eq!(seen, expect.map(|(path, end)| (path.to_owned(), end.to_owned())));
    let Some(Event::Receipt(receipt)) = denials.next().await else { panic!("no receipt") };
    assert_eq!(receipt.intent.path.as_deref(), Some("/refused"));
    assert!(denials.next().await.is_none());
}

#[tokio::test]
async fn a_running_log_can_be_verified() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let writing = {
        let log = log.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                for n in 0..2000 {
                    log.begin(intent(&format!("/{n}")), Written).await.unwrap().finish(done());
                }
            });
        })
    };
    while !writing.is_finished() {
        let head = log.head().unwrap();
        let report = log.verify(Some(&head)).unwrap();
        assert!(report.is_good() && report.holds_expected && !report.stopped, "{report:?}");
    }
    writing.join().unwrap();
}

#[tokio::test]
async fn receipts_read_back_from_json_and_export_as_csv() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let odd = Intent {
        path: Some("/a,\"b\"\u{202e}\n".to_owned()),
        comm: "=cmd|' /C'!A0".to_owned(),
        ..intent("/")
    };
    log.begin(odd, Written).await.unwrap().finish(done());
    log.refused(denied("/b"), refused()).await.unwrap();
    let receipts = log.query(Query::default()).await.unwrap();

    let mut out = Vec::new();
    export::jsonl(&mut out, &receipts).unwrap();
    let text = String::from_utf8(out).unwrap();
    let back: Vec<Receipt> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(back, receipts);
    assert!(text.chars().all(|c| c == '\n' || !crate::text::hidden(c)));
    let event: Event = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert!(matches!(event, Event::Receipt(receipt) if *receipt == receipts[0]));
    assert!(matches!(serde_json::from_str("{\"missed\":3}").unwrap(), Event::Missed { missed: 3 }));

    let mut out = Vec::new();
    export::csv_header(&mut out).unwrap();
    export::csv(&mut out, &receipts).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains(",'=cmd|' /C'!A0,") && text.contains(",\"/a,\"\"b\"\"\\u{202e}\\n\","), "{text}");
    assert_eq!(text.split("\r\n").count(), 4);
    assert!(text.starts_with("seq,time,id,agent,"));
}

#[test]
fn a_query_goes_into_a_url() {
    let query = Query { agent: Some("a b&c".to_owned()), denied: true, limit: Some(5), ..Query::default() };
    assert_eq!(query.to_url(), "agent=a%20b%26c&denied=true&limit=5");
    assert_eq!(Query::default().to_url(), "");
}
