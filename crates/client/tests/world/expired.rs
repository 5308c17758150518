//! What somebody finds who comes back when the server has let messages go.

use corncrake::{ConversationId, ItemKind};

use crate::{check::Mood, device::Device, flows::texts, world::World};

/// More messages than a ratchet moves at once where nothing is missing.
const MANY: usize = 1100;

fn holes(device: &Device, chat: ConversationId) -> usize {
    let items = device.history(chat);
    items.iter().filter(|item| item.what == ItemKind::Expired).count()
}

#[test]
fn audit_prog_m8_expired_messages_are_one_line_and_those_after_them_are_read() {
    let world = World::new(4);
    let [ann, bob, cem] = ["ann", "bob", "cem"].map(|name| world.sign_up(name));
    let chat = ann.create_group("meadow", &["bob", "cem"]);
    world.settle();
    ann.say(chat, "before");
    world.settle();

    bob.crash();
    for number in 0..MANY {
        ann.say(chat, &format!("missed {number}"));
    }
    cem.say(chat, "missed too");
    world.pass(60_000);
    world.server().borrow_mut().expire_messages();
    for author in [&ann, &cem] {
        author.say(chat, &format!("{} after", author.name()));
        world.pass(1000);
    }
    bob.start();
    world.settle();
    assert_eq!((holes(&bob, chat), holes(&ann, chat), holes(&cem, chat)), (1, 0, 0));
    assert_eq!(texts(&bob, chat), ["before", "ann after", "cem after"]);

    // A commit in between is no reason for a second line, and a restart neither.
    bob.crash();
    ann.say(chat, "missed again");
    ann.rename(chat, "pond").unwrap();
    ann.say(chat, "and again");
    world.pass(60_000);
    world.server().borrow_mut().expire_messages();
    bob.start();
    world.settle();
    bob.restart();
    world.settle();
    let told: Vec<_> = bob.history(chat).into_iter().rev().take(3).map(|item| item.what).collect();
    assert!(matches!(&told[..], [ItemKind::Expired, ItemKind::Renamed { .. }, ItemKind::Expired]));
    world.agree(chat, Mood::Honest);
}
