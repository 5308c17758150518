//! What people wait for when nothing is wrong: the network, and nothing else (D7).
//!
//! The answer to an append comes before its push or after it, and what is appended while a page
//! is being read is in that page or not, as the seed has it. Every call and every word is held to
//! [`PROMPT`](crate::network::PROMPT) by the world's own checks.

use std::time::Duration;

use corncrake::{Chat, Client, ConversationId, Delivery, Error, Item, ItemKind, MessageId, Role};

use crate::{
    chance::Chance,
    check::Mood,
    device::Device,
    flows::texts,
    network::{Faults, PROMPT},
    world::World,
};

impl World {
    /// Runs until all of them have seen a message in the log.
    fn until_seen(&self, chat: ConversationId, id: MessageId, by: &[&Device]) {
        let begun = self.executor().now();
        self.until("everybody has seen what was said", || {
            by.iter().all(|device| device.told().seen.contains_key(&(chat, id)))
        });
        self.network().check_wait("everybody", "hear what was said", begun);
    }
}

/// People meet, talk to and fro and several at once, restart their apps and change the group.
pub(crate) fn talk(world: &World, seed: u64) {
    let mut chance = Chance::new(seed, "talk");
    let [ann, bob, cem] = ["ann", "bob", "cem"].map(|name| world.sign_up(name));
    let chat = ann.start_chat(&["bob"]);
    let first = ann.say(chat, "the first word");
    ann.call_in(chat, "settled", async move |chat: Chat| chat.settled().await).unwrap();
    let sent = |item: &Item| match item.what {
        ItemKind::Message { id, ref delivery, .. } => id == first && *delivery == Delivery::Sent,
        _ => false,
    };
    assert!(ann.history(chat).iter().any(sent), "settled before it is sent");
    world.until_seen(chat, first, &[&ann, &bob]);
    for round in 0..16 {
        let (one, other) = if round % 2 == 0 { (&bob, &ann) } else { (&ann, &bob) };
        let mut newest = one.say(chat, &format!("ping {round}"));
        if chance.hit(300) {
            world.pass(chance.between(1, 30));
            other.restart();
            world.pass(chance.between(1, 60));
            newest = one.say(chat, &format!("are you back? {round}"));
        }
        if chance.hit(300) {
            world.pass(chance.between(1, 30));
            newest = one.say(chat, &format!("and more {round}"));
        }
        world.until_seen(chat, newest, &[one, other]);
        world.pass(*chance.pick(&[0, 7, 250]));
    }
    let group = ann.create_group("meadow", &["bob"]);
    for line in 0..6 {
        ann.say(group, &format!("line {line}"));
        world.pass(chance.between(1, 25));
    }
    ann.add(group, "cem").unwrap();
    for line in 0..6 {
        let word = ann.say(group, &format!("line {line} for cem"));
        world.pass(chance.between(1, 25));
        if line == 5 {
            world.until_seen(group, word, &[&ann, &bob, &cem]);
        }
    }
    let words = [&ann, &bob, &cem].map(|device| device.say(group, "all at once"));
    ann.rename(group, "the meadow").unwrap();
    for word in words {
        world.until_seen(group, word, &[&ann, &bob, &cem]);
    }
    ann.remove(group, "bob").unwrap();
    let word = cem.say(group, "the first word after a removal");
    world.until_seen(group, word, &[&ann, &cem]);
    world.settle();
    for chat in [chat, group] {
        world.agree(chat, Mood::Honest);
    }
}

#[test]
fn d7_audit_srv_a1_nobody_waits_whatever_comes_first_of_answer_push_and_page() {
    for seed in 0..12 {
        talk(&World::new(seed), seed);
    }
}

#[test]
fn issue_7_a_message_waits_for_the_disk_once_at_its_sender_and_never_at_its_reader() {
    let world = World::new(1);
    let [ann, bob] = ["ann", "bob"].map(|name| world.sign_up(name));
    let chat = ann.start_chat(&["bob"]);
    let word = ann.say(chat, "hello");
    world.until_seen(chat, word, &[&ann, &bob]);
    world.settle();
    for round in 0..10 {
        let (one, other) = if round % 2 == 0 { (&ann, &bob) } else { (&bob, &ann) };
        let before = [one, other].map(Device::waited_for_disk);
        let word = one.say(chat, &format!("hop {round}"));
        world.until_seen(chat, word, &[one, other]);
        let after = [one, other].map(Device::waited_for_disk);
        assert_eq!(after, [before[0] + 1, before[1]], "round {round}");
    }
}

/// Counts of requests, by the last part of their paths.
fn asked(world: &World, device: &Device) -> Vec<(&'static str, u64)> {
    world.network().take_asked(device.label()).into_iter().collect()
}

#[test]
fn issue_7_nobody_asks_more_than_a_first_message_needs() {
    for seed in 0..4 {
        let world = World::new(seed);
        let [ann, bob] = ["ann", "bob"].map(|name| world.sign_up(name));
        world.settle();
        for device in [&ann, &bob] {
            asked(&world, device);
        }
        let disks = [&ann, &bob].map(Device::waited_for_disk);
        let chat = ann.start_chat(&["bob"]);
        let word = ann.say(chat, "nice to meet you");
        world.until_seen(chat, word, &[&bob]);
        let after = [&ann, &bob].map(Device::waited_for_disk);
        assert!(after[0] - disks[0] <= 4, "{} waits at the sender", after[0] - disks[0]);
        // Later the sender looks now and then whether somebody so silent has another device.
        world.pass(9_000);
        let most = |count: &[(&str, u64)], most: &[(&str, u64)]| {
            let allowed = |path| most.iter().find(|(of, _)| *of == path).map_or(0, |(_, n)| *n);
            count.iter().all(|(path, times)| *times <= allowed(*path))
        };
        let sender = asked(&world, &ann);
        // The founding and the message, and what the account's own log is told.
        let needed = [("append", 4), ("claim", 1), ("deposit", 1), ("look-up", 1), ("states", 1)];
        assert!(most(&sender, &needed), "{sender:?}");
        let reader = asked(&world, &bob);
        let for_the_package = [("list-packages", 2), ("upload-packages", 1), ("delete-notices", 1)];
        let needed = [("append", 1), ("look-up", 1), ("states", 1)];
        assert!(most(&reader, &[&needed[..], &for_the_package[..]].concat()), "{reader:?}");
    }
}

#[test]
fn audit_srv_b7_a_new_device_begins_at_the_newest_state_not_past_its_record() {
    let world = World::new(2);
    let [ann, _bob] = ["ann", "bob"].map(|name| world.sign_up(name));
    let chat = ann.create_group("meadow", &["bob"]);
    for number in 0..120 {
        ann.rename(chat, &format!("meadow {number}")).unwrap();
    }
    world.settle();
    let laptop = world.log_in("ann");
    world.network().disturb();
    world.settle();
    assert_eq!(laptop.info(chat).unwrap().title, "meadow 119");
    let asked = asked(&world, &laptop);
    let times = |path| asked.iter().find(|(it, _)| *it == path).map_or(0, |(_, times)| *times);
    assert_eq!(times("beside"), 0, "no state is fetched in vain: {asked:?}");
    assert!(times("read") <= 5, "what came after the newest state: {asked:?}");
}

#[test]
fn audit_srv_b7_states_that_are_past_its_record_cost_a_new_device_nothing() {
    let world = World::new(3);
    let [ann, bob] = ["ann", "bob"].map(|name| world.sign_up(name));
    let chat = ann.create_group("meadow", &["bob"]);
    world.settle();
    ann.set_role(chat, "bob", Role::Admin).unwrap();
    world.settle();
    // Nobody renews the record of Ann's account.
    ann.lose();
    for number in 0..160 {
        bob.rename(chat, &format!("meadow {number}")).unwrap();
    }
    world.network().disturb();
    world.settle();
    let laptop = world.log_in("ann");
    world.network().disturb();
    world.settle();
    assert_eq!(laptop.info(chat).unwrap().title, "meadow 159");
    let asked = asked(&world, &laptop);
    let times = |path| asked.iter().find(|(it, _)| *it == path).map_or(0, |(_, times)| *times);
    assert_eq!((times("states"), times("beside")), (2, 0), "{asked:?}");
}

#[test]
fn issue_7_a_new_device_asks_three_times_for_each_chat() {
    let world = World::new(1);
    let [ann, _bob] = ["ann", "bob"].map(|name| world.sign_up(name));
    for chat in 0..20 {
        ann.create_group(&format!("chat {chat}"), &["bob"]);
    }
    // Twenty chats may take longer than one.
    world.network().disturb();
    world.settle();
    let laptop = world.log_in("ann");
    world.network().disturb();
    world.settle();
    assert_eq!(laptop.chats().len(), 20);
    let asked = asked(&world, &laptop);
    let open = ["append", "read", "beside", "states", "look-up", "claim", "deposit"];
    let count: u64 = asked.iter().filter(|(path, _)| open.contains(path)).map(|(_, n)| n).sum();
    assert!(count <= 3 * 20 + 10, "{asked:?}");
}

/// However long the server was away, and whatever was begun meanwhile: a few seconds after it is
/// back everybody has heard everything.
#[test]
fn audit_issue_7_everybody_hears_soon_after_an_outage() {
    for (seed, outage) in (0..12).zip([3_000, 45_000, 600_000, 7_200_000].into_iter().cycle()) {
        let world = World::new(seed);
        let people = ["ann", "bob", "cem"].map(|name| world.sign_up(name));
        let chat = people[0].create_group("meadow", &["bob", "cem"]);
        world.settle();
        people.iter().for_each(|device| device.set_cut(true));
        let rename = async move |chat: Chat| chat.rename("heath").await;
        let _renamed = people[0].begin_in(chat, "rename", rename);
        let mut said: Vec<_> = people.iter().map(|one| one.say(chat, "in the dark")).collect();
        world.pass(outage);
        said.push(people[1].say(chat, "still dark"));
        people.iter().for_each(|device| device.set_cut(false));
        world.pass(5000);
        for device in &people {
            let has_seen = |id: &MessageId| device.told().seen.contains_key(&(chat, *id));
            assert!(said.iter().all(has_seen), "seed {seed} after {outage} ms");
            assert_eq!(device.info(chat).unwrap().title, "heath", "seed {seed} after {outage} ms");
        }
    }
}

/// Requests reach the server, and no answer comes back.
#[test]
fn audit_issue_7_nobody_is_looked_for_longer_than_anybody_waits() {
    for seed in 0..4 {
        let world = World::new(seed);
        let [ann, bob] = ["ann", "bob"].map(|name| world.sign_up(name));
        world.settle();
        world.set_faults(Faults { lose_reply: 1000, ..Faults::NONE });
        let asked = |seconds: u64, call: Box<dyn Fn(Client) -> Asked>| {
            let begun = world.executor().now();
            assert_eq!(ann.call("ask", call), Err(Error::Offline), "seed {seed}");
            let taken = world.executor().now() - begun;
            assert!(taken <= seconds * 1000 + PROMPT, "seed {seed}: {taken} ms");
        };
        let patience = Duration::from_secs(5);
        let start = move |client: Client| -> Asked {
            Box::pin(async move { client.start_chat_within(&["bob"], patience).await.map(drop) })
        };
        asked(5, Box::new(start));
        let verify = |client: Client| -> Asked {
            Box::pin(async move { client.safety_number("bob").await.map(drop) })
        };
        asked(20, Box::new(verify));
        let devices =
            |client: Client| -> Asked { Box::pin(async move { client.devices().await.map(drop) }) };
        asked(20, Box::new(devices));
        // What comes later than anybody waits for it begins nothing.
        world.set_faults(Faults::NONE);
        world.pass(120_000);
        assert!(ann.chats().is_empty() && bob.chats().is_empty(), "seed {seed}");
        let chat = ann.start_chat(&["bob"]);
        ann.say(chat, "at last");
        world.settle();
        assert_eq!(texts(&bob, chat), ["at last"], "seed {seed}");
    }
}

type Asked = std::pin::Pin<Box<dyn Future<Output = Result<(), Error>>>>;

/// Over a path that has died without a word nothing new comes, and over one that is well nothing
/// new is there: only a sign of life tells them apart.
#[test]
fn audit_issue_7_d4_who_hears_nothing_is_not_told_that_there_is_nothing() {
    for seed in 0..8 {
        let world = World::new(seed);
        let [ann, bob] = ["ann", "bob"].map(|name| world.sign_up(name));
        let chat = ann.start_chat(&["bob"]);
        ann.say(chat, "hello");
        world.settle();
        // Where all is well, that is a round trip: the world's checks see to it.
        bob.call("read", async move |client: Client| client.caught_up().await).unwrap();
        bob.lose_path();
        ann.say(chat, "are you there?");
        let read = bob.begin("read", async move |client: Client| client.caught_up().await);
        let settled = bob.begin("settle", async move |client: Client| client.settle().await);
        bob.wait(&read, "read").unwrap();
        assert_eq!(texts(&bob, chat), ["hello", "are you there?"], "seed {seed}");
        bob.wait(&settled, "settle").unwrap();
    }
}
