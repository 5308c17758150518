//! The store under `kill -9`: what was acknowledged is there afterwards, and whole.
#![cfg(not(target_arch = "wasm32"))]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use corncrake::store::{SealedStore, SqliteStore, Store, StoreError, Table, Writes};
use corncrake_core::derive::Key32;
use corncrake_core::seal::local::StoreKey;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};

const STORE: &str = "CORNCRAKE_TEST_STORE";
const ROWS: Table = Table(1);
const COUNTER: Table = Table(2);
const ROWS_PER_BATCH: u64 = 5;

fn key() -> StoreKey {
    StoreKey::new(&Key32::from_bytes([1; 32]))
}

/// How many batches the store says it holds.
#[expect(clippy::unwrap_used, reason = "a failure here is a failed test")]
async fn counter<S: Store>(store: &SealedStore<'_, S>) -> u64 {
    let value = store.get(COUNTER, b"", 0).await.unwrap();
    value.map_or(0, |value| u64::from_be_bytes(value.as_slice().try_into().unwrap()))
}

/// Writes batches for ever and says each number when its batch is committed.
#[tokio::test]
#[ignore = "the child of the tests below, which they kill"]
async fn child_that_commits() {
    let store = SqliteStore::open(std::env::var(STORE).unwrap(), key()).await.unwrap();
    let mut rng = ChaCha20Rng::from_seed([2; 32]);
    let sealed = SealedStore::open(&store, &mut rng).await.unwrap();
    let mut batch = counter(&sealed).await;
    loop {
        let mut writes = Writes::new();
        for row in 0..ROWS_PER_BATCH {
            writes.put(ROWS, b"rows", batch * ROWS_PER_BATCH + row, vec![7; 2_000]);
        }
        batch += 1;
        writes.put(COUNTER, b"", 0, batch.to_be_bytes());
        sealed.commit(writes, &mut rng).await.unwrap();
        let mut out = std::io::stdout();
        writeln!(out, "committed {batch}").unwrap();
        out.flush().unwrap();
    }
}

#[expect(clippy::unwrap_used, reason = "a failure here is a failed test")]
fn spawn_child(path: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_commits", "--ignored", "--nocapture"])
        .env(STORE, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The batch numbers that a child says, until its output ends.
#[expect(clippy::unwrap_used, reason = "a failure here is a failed test")]
fn acknowledged(child: &mut Child) -> impl Iterator<Item = u64> + use<> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.map_while(Result::ok).filter_map(|line| {
        let (_, number) = line.split_once("committed ")?;
        number.parse().ok()
    })
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let mut rng = ChaCha20Rng::from_seed([3; 32]);
    let mut last = 0;
    for _ in 0..10 {
        let mut child = spawn_child(&path);
        let mut said = acknowledged(&mut child);
        let first = said.next().unwrap();
        std::thread::sleep(Duration::from_millis(u64::from(rng.next_u32() % 60)));
        child.kill().unwrap();
        child.wait().unwrap();
        last = said.last().unwrap_or(first);
        let store = SqliteStore::open(&path, key()).await.unwrap();
        let sealed = SealedStore::open(&store, &mut rng).await.unwrap();
        let held = counter(&sealed).await;
        assert!(held == last || held == last + 1, "acknowledged {last}, held {held}");
        let rows = sealed.scan(ROWS).await.unwrap();
        assert_eq!(rows.len() as u64, held * ROWS_PER_BATCH, "a batch holds as a whole");
        store.close().await.unwrap();
    }
    assert!(last >= 10);
}

#[tokio::test]
async fn another_process_finds_it_in_use_until_killed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let mut child = spawn_child(&path);
    acknowledged(&mut child).next().unwrap();
    let refused = SqliteStore::open(&path, key()).await;
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(refused.err(), Some(StoreError::InUse));
    assert!(SqliteStore::open(&path, key()).await.is_ok());
}
