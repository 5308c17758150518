//! What a client reads when it starts and what later, and how long that takes.

use std::time::{Duration, Instant};

use futures_util::FutureExt;

use corncrake::{
    Client,
    store::{Batch, SqliteStore, Store, Table},
};

use crate::{check::Mood, device::Device, world::World};

/// The table with the groups' secrets and trees.
const PARTS: Table = Table(8);

/// Chats that the client has.
const CHATS: usize = 500;
/// The tables of a store are numbered below this.
const TABLES: u8 = 32;

/// Takes the groups out of a device's store. An engine that reads one afterwards fails.
fn take_groups(device: &Device, fence: u64) {
    let store = device.store();
    let rows = store.scan(PARTS).now_or_never().unwrap().unwrap();
    let deletes = rows.into_iter().map(|(key, _)| key).collect();
    store.commit(Batch { deletes, ..Batch::default() }, fence).now_or_never().unwrap().unwrap();
}

#[test]
fn groups_are_read_when_something_happens_in_them() {
    let world = World::new(1);
    let (ann, bob) = (world.sign_up("ann"), world.sign_up("bob"));
    let [first, second] = ["first", "second"].map(|title| ann.create_group(title, &["bob"]));
    world.settle();
    world.agree(first, Mood::Honest);
    world.agree(second, Mood::Honest);
    let before = ann.chats();
    // The device's second start.
    ann.crash();
    let fence = ann.store().open_fence().now_or_never().unwrap().unwrap();
    take_groups(&ann, fence);
    ann.start();
    world.pass(24 * 3_600_000);
    world.check_complaints();
    assert_eq!(ann.chats(), before, "lists need no groups");
    ann.call("settle", async move |client: Client| client.settle().await).unwrap();
    bob.say(second, "is anybody here?");
    world.pass(60_000);
    assert!(ann.told().complaints.iter().any(|complaint| complaint.contains("store")));
}

#[test]
fn groups_that_were_not_used_for_long_are_left_to_the_store() {
    let world = World::new(1);
    let (ann, bob) = (world.sign_up("ann"), world.sign_up("bob"));
    let [first, second] = ["first", "second"].map(|title| ann.create_group(title, &["bob"]));
    world.settle();
    for chat in [first, second] {
        bob.say(chat, "hello");
        world.settle();
    }
    // This world keeps one group in memory.
    take_groups(&ann, 1);
    bob.say(second, "hello again");
    world.pass(60_000);
    world.check_complaints();
    bob.say(first, "hello again");
    world.pass(60_000);
    assert!(ann.told().complaints.iter().any(|complaint| complaint.contains("store")));
}

#[test]
#[ignore = "measures: run alone with --ignored --nocapture"]
fn a_client_with_500_chats_starts() {
    let world = World::new(1);
    let ann = world.sign_up("ann");
    world.sign_up("bob");
    for number in 0..CHATS {
        let chat = ann.create_group(&format!("meadow {number}"), &["bob"]);
        for line in 0..5 {
            ann.say(chat, &format!("line {line}"));
        }
    }
    world.settle();
    let memory = ann.backup();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let sqlite = SqliteStore::open(&path, memory.key().clone()).await.unwrap();
        let fence = sqlite.open_fence().await.unwrap();
        for table in 0..TABLES {
            let puts = memory.scan(Table(table)).await.unwrap();
            sqlite.commit(Batch { puts, ..Batch::default() }, fence).await.unwrap();
        }
        sqlite.close().await.unwrap();
        for _ in 0..3 {
            let begin = Instant::now();
            let store = SqliteStore::open(&path, memory.key().clone()).await.unwrap();
            let client = Client::open("http://127.0.0.1:9", store).await.unwrap();
            let started = begin.elapsed();
            assert_eq!(client.chats().await.unwrap().len(), CHATS);
            eprintln!("started in {started:?}, listed after {:?}", begin.elapsed());
            client.close().await.unwrap();
            // Its thread still has the file open for a moment.
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
}
