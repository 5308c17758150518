//! What a client reads when it starts, and what later.

use futures_util::FutureExt;

use corncrake::{
    Client,
    store::{Batch, Store, Table},
};

use crate::{check::Mood, damage::is_damaged, device::Device, world::World};

/// The table with the groups' secrets and trees.
const PARTS: Table = Table(8);

/// Takes the groups out of a device's store. An engine that reads one afterwards finds it damaged.
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
    assert!(!is_damaged(&ann, first) && !is_damaged(&ann, second));
    bob.say(second, "is anybody here?");
    world.pass(60_000);
    assert!(!is_damaged(&ann, first) && is_damaged(&ann, second));
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
    assert!(!is_damaged(&ann, first) && !is_damaged(&ann, second));
    bob.say(first, "hello again");
    world.pass(60_000);
    assert!(is_damaged(&ann, first) && !is_damaged(&ann, second));
}
