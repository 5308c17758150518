//! Events that nobody takes.

use corncrake::{
    EventKind, ItemKind,
    store::{SealedStore, Store, Table},
};
use futures_util::FutureExt;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use crate::{device::Device, world::World};

/// The table with the events that were not taken.
const EVENTS: Table = Table(14);

/// What a stopped device's store holds in this table, in the clear.
fn rows(device: &Device, table: Table) -> Vec<Vec<u8>> {
    let store = device.store();
    let mut rng = ChaCha8Rng::from_seed([1; 32]);
    let sealed = SealedStore::open(&store, &mut rng).now_or_never().unwrap().unwrap();
    let rows = sealed.scan(table).now_or_never().unwrap().unwrap();
    rows.into_iter().map(|(_, value)| value.to_vec()).collect()
}

fn holds(rows: &[Vec<u8>], what: &[u8]) -> bool {
    rows.iter().any(|row| row.windows(what.len()).any(|window| window == what))
}

#[test]
fn audit_srv_a9_events_hold_no_content_and_go_with_their_chat() {
    let world = World::new(1);
    let (ann, bob) = (world.sign_up("ann"), world.sign_up("bob"));
    let (chat, other) = (ann.start_chat(&["bob"]), ann.create_group("meadow", &["bob"]));
    world.settle();
    ann.set_listening(false);
    ann.restart();
    for word in 0..20 {
        bob.say(chat, &format!("MARKER {word}"));
    }
    bob.say(other, "MARKER elsewhere");
    world.settle();
    ann.crash();
    let before = rows(&ann, EVENTS);
    assert!(before.len() > 20, "there is something to take");
    assert!(!holds(&before, b"MARKER"), "an event holds what was said");
    assert!(before.iter().all(|row| row.len() < 64), "an event is small");
    assert_eq!(ann.store().scan(Table(13)).now_or_never().unwrap().unwrap().len(), {
        let items = rows(&ann, Table(13));
        assert!(holds(&items, b"MARKER 19"), "the timeline holds it");
        items.len()
    });
    // Hidden: nothing of the chat is left but the news that it is hidden.
    ann.start();
    ann.hide(chat);
    ann.crash();
    let after = rows(&ann, EVENTS);
    let of_chat = after.iter().filter(|row| holds(&[row.to_vec()], chat.as_bytes())).count();
    assert_eq!(of_chat, 1, "events of an erased chat stay");
    assert!(!holds(&rows(&ann, Table(13)), b"MARKER 1"), "the timeline is erased");
    // Who listens then is told what is left, with its content.
    ann.told_nothing();
    ann.set_listening(true);
    ann.start();
    world.pass(60_000);
    let told = ann.told();
    let texts: Vec<_> = told
        .events
        .values()
        .filter_map(|event| match &event.what {
            EventKind::Item { item, .. } => match &item.what {
                ItemKind::Message { text, .. } => Some(text.as_str()),
                _ => None,
            },
            _ => None,
        })
        .collect();
    assert_eq!(texts, ["MARKER elsewhere"]);
}
