//! The handle: order of changes, the cache's life, errors.

use std::sync::Arc;
use std::time::Instant;

use enforcer_vault::{Binding, Dangers, Secret, VaultError, VaultKey};

use super::{Fetched, Secrets, cache};

fn key() -> VaultKey {
    VaultKey::read([3; 32].as_slice()).unwrap()
}

fn hosts() -> Vec<Binding> {
    vec![Binding::parse("api.example.com", Dangers::default()).unwrap()]
}

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec()).unwrap()
}

async fn fetch(secrets: &Secrets, host: &str) -> Result<Arc<Fetched>, VaultError> {
    secrets.fetch("bot", "token", "https", host, 443).await
}

#[tokio::test]
async fn a_change_is_in_force_for_the_next_fetch() {
    let place = tempfile::tempdir().unwrap();
    let secrets = Secrets::open(&place.path().join("vault.db"), key()).unwrap();
    assert_eq!(secrets.set("token".into(), hosts(), secret("first-value")).await.unwrap(), 1);
    let first = fetch(&secrets, "api.example.com").await.unwrap();
    assert_eq!((first.secret.expose(), first.version), (b"first-value".as_slice(), 1));
    let again = fetch(&secrets, "api.example.com").await.unwrap();
    assert!(Arc::ptr_eq(&first, &again), "the second comes from the cache");

    secrets.set("token".into(), hosts(), secret("second-value")).await.unwrap();
    let second = fetch(&secrets, "api.example.com").await.unwrap();
    assert_eq!((second.secret.expose(), second.version), (b"second-value".as_slice(), 2));

    secrets.remove("token".into()).await.unwrap();
    assert!(matches!(fetch(&secrets, "api.example.com").await, Err(VaultError::NotFound(_))));
    assert!(secrets.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_was_fetched_for_one_host_is_not_found_for_another() {
    let place = tempfile::tempdir().unwrap();
    let secrets = Secrets::open(&place.path().join("vault.db"), key()).unwrap();
    secrets.set("token".into(), hosts(), secret("first-value")).await.unwrap();
    fetch(&secrets, "api.example.com").await.unwrap();
    assert!(matches!(fetch(&secrets, "evil.example.com").await, Err(VaultError::NotBound { .. })));
    let other_port = secrets.fetch("bot", "token", "https", "api.example.com", 8443).await;
    assert!(matches!(other_port, Err(VaultError::NotBound { .. })));
}

#[tokio::test]
async fn what_is_bound_to_an_endpoint_follows_every_change() {
    let place = tempfile::tempdir().unwrap();
    let secrets = Secrets::open(&place.path().join("vault.db"), key()).unwrap();
    let bound = async |host: &str| -> Vec<(String, u32)> {
        let names = vec!["token".to_owned(), "other".to_owned(), "nobody".to_owned()];
        let found = secrets.bound(names, "https", host, 443).await.unwrap();
        found.iter().map(|f| (f.name.clone(), f.version)).collect()
    };
    assert_eq!(bound("api.example.com").await, []);
    secrets.set("token".into(), hosts(), secret("first-value")).await.unwrap();
    secrets.set("stranger".into(), hosts(), secret("not-asked-for")).await.unwrap();
    assert_eq!(bound("api.example.com").await, [("token".to_owned(), 1)]);
    assert_eq!(bound("evil.example.com").await, []);
    secrets.set("token".into(), hosts(), secret("second-value")).await.unwrap();
    secrets.set("other".into(), hosts(), secret("other-value")).await.unwrap();
    assert_eq!(bound("api.example.com").await, [("token".to_owned(), 2), ("other".to_owned(), 1)]);
    secrets.remove("token".into()).await.unwrap();
    assert_eq!(bound("api.example.com").await, [("other".to_owned(), 1)]);
    assert_eq!(secrets.entry("other".into()).await.unwrap().last_used, None, "asking is not a use");
}

#[tokio::test]
async fn own_keys_and_a_second_opening() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("vault.db");
    let secrets = Secrets::open(&path, key()).unwrap();
    assert!(secrets.open_own("ca-root").await.unwrap().is_none());
    secrets.seal_own("ca-root", zeroize::Zeroizing::new(b"pem".to_vec())).await.unwrap();
    drop(secrets);
    // The thread lets go of the file a moment after the last handle; opening waits for it.
    let secrets = Secrets::open(&path, key()).unwrap();
    assert_eq!(secrets.open_own("ca-root").await.unwrap().unwrap().as_slice(), b"pem");
}

#[tokio::test]
async fn many_at_once_are_served() {
    let place = tempfile::tempdir().unwrap();
    let secrets = Secrets::open(&place.path().join("vault.db"), key()).unwrap();
    let mut tasks = Vec::new();
    for i in 0..300 {
        let secrets = secrets.clone();
        tasks.push(tokio::spawn(async move { secrets.entry(format!("none-{i}")).await }));
    }
    for task in tasks {
        assert!(matches!(task.await.unwrap(), Err(VaultError::NotFound(_))));
    }
}

#[test]
fn the_cache_forgets() {
    let mut cache = cache::Cache::default();
    let start = Instant::now();
    let value =
        |name: &str| Arc::new(Fetched { secret: secret("some-value"), name: name.to_owned(), version: 1 });
    cache.put("a".into(), value("one"), start);
    cache.put("b".into(), value("two"), start);
    assert!(cache.get("a", start).is_some());
    assert!(cache.get("a", start + cache::KEEP).is_none());
    cache.forget("one");
    assert!(cache.get("a", start).is_none() && cache.get("b", start).is_some());
    cache.expire(start + cache::KEEP);
    assert_eq!(cache.len(), 0);
    for i in 0..10_000 {
        cache.put(i.to_string().into(), value("many"), start);
    }
    assert!(cache.len() <= 256);
}
