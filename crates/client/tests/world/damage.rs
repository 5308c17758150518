//! Stores with damaged rows, and full disks.

use corncrake::{
    Chat, Client, ConversationId, Delivery, Error, ItemKind, Standing,
    store::{Batch, MemoryStore, Store, StoreError, Table},
};
use futures_util::FutureExt;

use crate::{
    chance::Chance, check::Mood, device::Device, flows::texts, network::Faults, world::World,
};

/// The tables with a chat's own rows: facts, parts, closed logs, flights, own, group, heard, kept,
/// sent.
const OF_CHATS: [u8; 9] = [7, 8, 9, 11, 12, 16, 17, 18, 19];
const INTENTS: u8 = 10;
const TIMELINE: u8 = 13;

/// Whether a timeline tells of damage.
pub(crate) fn is_damaged(device: &Device, chat: ConversationId) -> bool {
    let damage = |what: &ItemKind| matches!(what, ItemKind::Unreadable { code, .. } if code == "store_damaged");
    device.history(chat).iter().any(|item| damage(&item.what))
}

/// Flips a bit of one of the rows of a table; false if it has none.
fn flip(store: &MemoryStore, table: u8, chance: &mut Chance) -> bool {
    let mut rows = store.scan(Table(table)).now_or_never().unwrap().unwrap();
    if rows.is_empty() {
        return false;
    }
    let row = usize::try_from(chance.below(rows.len() as u64)).unwrap();
    let (key, mut value) = rows.swap_remove(row);
    let at = usize::try_from(chance.below(value.len() as u64)).unwrap();
    value[at] ^= 1 << chance.below(8);
    let fence = store.open_fence().now_or_never().unwrap().unwrap();
    let batch = Batch { puts: vec![(key, value)], ..Batch::default() };
    store.commit(batch, fence).now_or_never().unwrap().unwrap();
    true
}

/// Three people, two groups (one of which has been handed over) and a chat of two.
fn people(world: &World) -> (Device, Device, [ConversationId; 3]) {
    let (ann, bob) = (world.sign_up("ann"), world.sign_up("bob"));
    let carl = world.sign_up("carl");
    let first = ann.create_group("first", &["bob", "carl"]);
    let second = bob.create_group("second", &["ann", "carl"]);
    let direct = ann.start_chat(&["bob"]);
    world.settle();
    ann.remove(first, "carl").unwrap();
    world.settle();
    for chat in [first, second, direct] {
        ann.say(chat, "hello");
        bob.say(chat, "hello yourself");
        world.settle();
    }
    drop(carl);
    (ann, bob, [first, second, direct])
}

#[test]
fn audit_srv_b1_a_damaged_row_costs_one_chat_a_rejoin() {
    for table in OF_CHATS {
        for seed in 0..3 {
            let world = World::new(seed);
            let (ann, bob, chats) = people(&world);
            // Something is on its way, so that there is a flight.
            bob.set_cut(true);
            ann.begin_say(chats[0], "on its way");
            world.pass(3);
            ann.crash();
            if !flip(&ann.store(), table, &mut Chance::new(seed, "flip")) {
                assert!([11, 12, 17].contains(&table), "no row in table {table}");
                continue;
            }
            bob.set_cut(false);
            ann.start();
            world.settle();
            // A group that rests is read when something happens in it.
            for chat in chats {
                bob.say(chat, "are you there?");
            }
            world.settle();
            let damaged = chats.iter().filter(|chat| is_damaged(&ann, **chat)).count();
            assert_eq!(damaged, 1, "table {table}: one chat is damaged");
            for chat in chats {
                assert_eq!(ann.info(chat).unwrap().standing, Standing::Member, "table {table}");
                assert!(!is_damaged(&bob, chat));
                world.agree(chat, Mood::Attacked);
            }
        }
    }
}

#[test]
fn audit_srv_b1_a_damaged_line_or_message_damages_nothing_else() {
    for seed in 0..4 {
        let world = World::new(seed);
        let (ann, bob, chats) = people(&world);
        let before = chats.map(|chat| ann.history(chat));
        ann.crash();
        flip(&ann.store(), TIMELINE, &mut Chance::new(seed, "flip"));
        ann.start();
        world.settle();
        let after = chats.map(|chat| ann.history(chat));
        let lines = before.iter().flatten().zip(after.iter().flatten());
        let changed: Vec<_> = lines.filter(|(before, after)| before != after).collect();
        assert_eq!(changed.len(), 1);
        assert_eq!(changed[0].0.number, changed[0].1.number);
        assert!(chats.iter().filter(|chat| is_damaged(&ann, **chat)).count() == 1);
        // A message of the outbox is lost, and its chat says so.
        ann.set_cut(true);
        ann.say(chats[0], "will be damaged");
        ann.say(chats[1], "will be sent");
        ann.crash();
        let waiting = ann.store().scan(Table(INTENTS)).now_or_never().unwrap().unwrap();
        assert_eq!(waiting.len(), 2);
        flip(&ann.store(), INTENTS, &mut Chance::new(seed, "flip"));
        ann.start();
        world.settle();
        let heard = texts(&bob, chats[0]).contains(&"will be damaged".to_owned());
        let other = texts(&bob, chats[1]).contains(&"will be sent".to_owned());
        assert!(heard != other, "one of two messages is lost: {heard} {other}");
        for chat in chats {
            assert_eq!(ann.info(chat).unwrap().standing, Standing::Member);
            ann.say(chat, "still here");
        }
        world.settle();
        assert!(chats.iter().all(|chat| texts(&bob, *chat).contains(&"still here".to_owned())));
    }
}

#[test]
fn audit_prog_m4_random_damage_is_told_and_never_shows_wrong_content() {
    for seed in 0..30 {
        let world = World::new(seed % 3);
        let mut chance = Chance::new(seed, "damage");
        let (ann, bob, chats) = people(&world);
        let before = chats.map(|chat| ann.history(chat));
        ann.crash();
        let table = u8::try_from(1 + chance.below(19)).unwrap();
        if !flip(&ann.store(), table, &mut chance) {
            continue;
        }
        ann.start();
        world.pass(120_000);
        match ann.call("chats", async move |client: Client| client.chats().await) {
            Err(error) => {
                assert_eq!(error, Error::Store(StoreError::Damaged), "table {table}");
                assert!(table < 7 || table == 15, "table {table} is of chats");
            }
            Ok(_) => {
                for (chat, before) in chats.into_iter().zip(before) {
                    let after = ann.history(chat);
                    for (before, after) in before.iter().zip(&after) {
                        let is_damage = matches!(after.what, ItemKind::Unreadable { .. });
                        assert!(
                            before == after || is_damage,
                            "table {table}: {before:?} {after:?}"
                        );
                    }
                    bob.say(chat, "this may find the damage");
                }
                world.pass(120_000);
                for chat in chats {
                    ann.say(chat, "do you hear me?");
                    bob.say(chat, "do you hear me too?");
                }
                world.pass(120_000);
                for chat in chats {
                    let heard = |by, text: &str| texts(by, chat).contains(&text.to_owned());
                    assert!(heard(&bob, "do you hear me?"), "table {table}");
                    assert!(heard(&ann, "do you hear me too?"), "table {table}");
                }
            }
        }
    }
}

#[test]
fn audit_prog_m4_a_full_disk_refuses_calls_and_loses_nothing() {
    for seed in 0..6 {
        let world = World::new(seed);
        let (ann, bob, chats) = people(&world);
        if seed > 2 {
            world.set_faults(Faults::MIXED);
        }
        let [group, _, direct] = chats;
        ann.say(group, "in time");
        ann.set_full(true);
        let refused = ann.try_say(direct, "never said").unwrap_err();
        assert_eq!(refused.code(), "store_full");
        bob.say(direct, "while it is full");
        bob.say(group, "in the group too");
        world.pass(50_000);
        assert_eq!(ann.chats().len(), 3, "what is there can be read");
        assert!(texts(&ann, group).contains(&"hello".to_owned()));
        assert_eq!(ann.try_say(group, "nor this").unwrap_err().code(), "store_full");
        assert_eq!(ann.rename(group, "nor so").unwrap_err().code(), "store_full");
        ann.set_full(false);
        ann.say(direct, "room again");
        world.network().heal();
        world.pass(90_000);
        let heard = texts(&ann, direct);
        assert!(heard.contains(&"while it is full".to_owned()), "{heard:?}");
        world.settle();
        for chat in chats {
            world.agree(chat, Mood::Honest);
            let texts = texts(&bob, chat);
            assert!(!texts.iter().any(|text| text.starts_with("n")), "{texts:?} was refused");
        }
        assert_eq!(bob.info(group).unwrap().title, "first");
        assert!(texts(&bob, direct).contains(&"room again".to_owned()));
    }
}

#[test]
fn audit_issue_7_bf9_a_full_disk_is_told_to_those_who_wait() {
    let world = World::new(1);
    let (ann, bob, [_, _, direct]) = people(&world);
    let full = async move |client: Client| client.store_full().await;
    let before = ann.begin("wait for a full disk", full);
    world.pass(5_000);
    assert!(!before.is_done());
    ann.set_full(true);
    bob.say(direct, "there is no room for this");
    assert_eq!(ann.wait(&before, "wait for a full disk"), Ok(()));
    assert_eq!(ann.call("wait for a full disk", full), Ok(()), "it still is");
    ann.set_full(false);
    world.pass(30_000);
    let after = ann.begin("wait for a full disk", full);
    world.pass(5_000);
    assert!(!after.is_done(), "there is room again");
    assert!(texts(&ann, direct).contains(&"there is no room for this".to_owned()));
}

#[test]
fn the_fate_of_a_message_is_told_without_asking_again() {
    let world = World::new(1);
    let (ann, _, [group, _, direct]) = people(&world);
    ann.set_cut(true);
    let fate = ann.begin_in(direct, "send", async move |chat: Chat| {
        chat.send("into the dark").await?.fate().await
    });
    world.pass(5_000);
    assert!(!fate.is_done());
    ann.set_full(true);
    ann.try_say(direct, "no room").unwrap_err();
    ann.set_full(false);
    ann.set_cut(false);
    assert_eq!(ann.wait(&fate, "send"), Ok(Delivery::Sent));
    ann.set_cut(true);
    let fate = ann
        .begin_in(group, "send", async move |chat: Chat| chat.send("too late").await?.fate().await);
    world.pass(1_000);
    let bob = world.devices().into_iter().find(|device| device.name() == "bob").unwrap();
    bob.remove(group, "ann").unwrap_err();
    ann.set_cut(false);
    assert_eq!(ann.wait(&fate, "send"), Ok(Delivery::Sent));
}
