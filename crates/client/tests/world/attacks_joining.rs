//! Attacks and accidents of joining and coming back (C1–C8).

use std::cell::Cell;

use corncrake::{Client, Connection, ConversationId, Item, ItemKind, Role, Standing};
use corncrake_core::{conversation::Change, seal::envelope::Seed};
use corncrake_wire::{ErrorCode, OpenRequest};

use crate::{attacks_groups::Meadow, check::Mood, device::Device, flows::texts, world::World};

#[test]
fn c1_both_start_and_the_winner_dies_before_his_notice_is_out() {
    for seed in 0..20 {
        let world = World::new(seed);
        let [ann, bob] = ["ann", "bob"].map(|name| world.sign_up(name));
        world.settle();
        let starts = [(&ann, "bob"), (&bob, "ann")].map(|(device, other)| {
            let call = async move |client: Client| Ok(client.start_chat(&[other]).await?.id());
            device.begin("start chat", call)
        });
        let server = world.server();
        let logs = server.borrow().logs.len();
        world.until("the log is founded", || server.borrow().logs.len() > logs);
        // Whoever won dies now; the other goes on alone for a day.
        let winner = if seed % 2 == 0 { &ann } else { &bob };
        winner.crash();
        world.pass(24 * 3_600_000);
        winner.start();
        drop(starts);
        for (device, other) in [(&ann, "bob"), (&bob, "ann")] {
            let chat = device.start_chat(&[other]);
            device.say(chat, &format!("I am {}", device.name()));
        }
        world.settle();
        let chats = [ann.chats(), bob.chats()];
        assert_eq!((chats[0].len(), chats[1].len()), (1, 1), "seed {seed}");
        assert_eq!(chats[0][0].id, chats[1][0].id);
        world.agree(chats[0][0].id, Mood::Honest);
    }
}

#[test]
fn c2_a_copy_of_the_group_in_a_log_of_his_own() {
    for seed in 0..4 {
        let mut meadow = Meadow::with_mal_in_charge(seed);
        let jon = meadow.world.sign_up("jon");
        let (ann, bob, cem) = (meadow.ann.clone(), meadow.bob.clone(), meadow.cem.clone());
        let copy = Seed::random(meadow.mal.chance.rng());
        let devices = meadow.mal.claim("jon");
        meadow.seat.commit_in_a_copy(&mut meadow.mal, copy, Change::add(devices));
        meadow.world.pass(if seed % 2 == 0 { 120_000 } else { 0 });
        ann.add(meadow.chat, "jon").unwrap();
        meadow.world.settle();
        meadow.heals(&[&ann, &bob, &cem, &jon]);
    }
}

#[test]
fn c3_a_welcome_from_a_removed_member() {
    let mut meadow = Meadow::with_mal_in_charge(3);
    let (ann, bob, cem) = (meadow.ann.clone(), meadow.bob.clone(), meadow.cem.clone());
    // Once somebody other than the inviter has spoken, no other Welcome replaces the group.
    cem.say(meadow.chat, "hello");
    meadow.world.settle();
    meadow.seat.read(&meadow.mal);
    let devices = meadow.mal.claim("bob");
    // Mal keeps a copy of the group from before he is removed, without Bob in it.
    let copy = Seed::random(meadow.mal.chance.rng());
    let account = meadow.mal.account_of("bob");
    ann.remove(meadow.chat, "mal").unwrap();
    meadow.world.settle();
    let change = Change { add: devices, remove: vec![account], ..Change::default() };
    meadow.seat.commit_in_a_copy(&mut meadow.mal, copy, change);
    meadow.heals(&[&ann, &bob, &cem]);
}

#[test]
fn c4_the_same_notice_three_times_and_a_welcome_that_does_not_count() {
    let mut meadow = Meadow::with_mal_in_charge(4);
    let jon = meadow.world.sign_up("jon");
    let (ann, bob, cem) = (meadow.ann.clone(), meadow.bob.clone(), meadow.cem.clone());
    let devices = meadow.mal.claim("jon");
    let commit = meadow.seat.make(&mut meadow.mal, Change::add(devices));
    // Ann commits first, so that Mal's commit does not count; his Welcome lies beside it.
    ann.rename(meadow.chat, "another epoch").unwrap();
    let position = meadow.seat.append_with(
        &mut meadow.mal,
        &commit.inner,
        commit.welcome.as_deref(),
        None,
        None,
    );
    meadow.seat.notify(&mut meadow.mal, &commit, position);
    meadow.seat.notify(&mut meadow.mal, &commit, position);
    meadow.world.pass(60_000);
    assert!(jon.info(meadow.chat).map_or(true, |info| info.standing != Standing::Member));
    // Now one that counts, its notice sent before and after.
    meadow.seat.read(&meadow.mal);
    let devices = meadow.mal.claim("jon");
    let commit = meadow.seat.make(&mut meadow.mal, Change::add(devices));
    let position = meadow.seat.publish(&mut meadow.mal, &commit);
    meadow.seat.notify(&mut meadow.mal, &commit, position);
    meadow.world.pass(60_000);
    meadow.seat.notify(&mut meadow.mal, &commit, position);
    meadow.heals(&[&ann, &bob, &cem, &jon]);
}

/// How many notices have been sent so far.
fn deposits(world: &World) -> usize {
    world.trace().matches("→ deposit at").count()
}

/// Ann's group with Bob and Cem, who have both spoken, and Jon, who is not in it.
fn group_beside_jon(seed: u64) -> (World, [Device; 4], ConversationId) {
    let world = World::new(seed);
    let devices = ["ann", "bob", "cem", "jon"].map(|name| world.sign_up(name));
    let chat = devices[0].create_group("meadow", &["bob", "cem"]);
    world.settle();
    for device in &devices[1..3] {
        device.say(chat, "hello");
    }
    world.settle();
    (world, devices, chat)
}

const HOUR: u64 = 3_600_000;

#[test]
fn c4_the_inviter_dies_before_his_notice_is_out() {
    for seed in 0..4 {
        let (world, [ann, bob, cem, jon], chat) = group_beside_jon(seed);
        let entries = || world.server().borrow().logs.values().map(|log| log.head()).sum::<u64>();
        let (before, sent) = (entries(), deposits(&world));
        drop(ann.begin_add(chat, "jon"));
        world.until("the commit is stored", || entries() > before);
        ann.lose();
        world.pass(HOUR / 2);
        assert_eq!(deposits(&world), sent);
        bob.restart();
        cem.restart();
        // The next in leaf order sends the notice after an hour; without him, another after two.
        if seed % 2 == 1 {
            bob.set_cut(true);
        }
        world.pass(HOUR / 2 + seed % 2 * HOUR + 60_000);
        assert_eq!(deposits(&world), sent + 1);
        assert_eq!(jon.info(chat).unwrap().standing, Standing::Member, "seed {seed}");
        jon.say(chat, "here I am");
        bob.set_cut(false);
        world.pass(24 * HOUR);
        assert!(deposits(&world) <= sent + 1 + usize::from(seed % 2 == 1), "seed {seed}");
        world.settle();
        world.agree(chat, Mood::Honest);
    }
}

#[test]
fn c4_the_founder_dies_when_one_of_his_notices_is_out() {
    for seed in 0..2 {
        let world = World::new(seed);
        let [ann, bob, cem, dee] = ["ann", "bob", "cem", "dee"].map(|name| world.sign_up(name));
        world.settle();
        // The first notice arrives, the others don't.
        let ahead = Cell::new(false);
        world.network().set_lie(Some(Box::new(move |_, _, request| match request {
            OpenRequest::Deposit(_) if ahead.replace(true) => {
                Some(Err(ErrorCode::Unavailable.into()))
            }
            _ => None,
        })));
        let chat = ann.create_group("meadow", &["bob", "cem", "dee"]);
        world.pass(10_000);
        ann.lose();
        world.network().set_lie(None);
        world.pass(HOUR / 2);
        let members = || -> Vec<_> { [&bob, &cem, &dee].map(|device| device.info(chat)).into() };
        assert_eq!(members().iter().flatten().count(), 1);
        world.pass(4 * HOUR);
        assert_eq!(members().iter().flatten().count(), 3, "seed {seed}");
        world.settle();
        world.agree(chat, Mood::Honest);
    }
}

#[test]
fn c4_no_notice_for_who_has_shown_himself_or_is_gone() {
    for seed in 0..4 {
        let (world, [ann, _bob, _cem, jon], chat) = group_beside_jon(seed);
        ann.add(chat, "jon").unwrap();
        world.pass(60_000);
        match seed {
            0 => drop(jon.say(chat, "here I am")),
            1 => {
                ann.set_role(chat, "jon", Role::Admin).unwrap();
                world.pass(60_000);
                jon.rename(chat, "here I am").unwrap();
            }
            2 => ann.remove(chat, "jon").unwrap(),
            _ => {}
        }
        world.pass(60_000);
        let sent = deposits(&world);
        world.pass(24 * HOUR);
        // Who only listens gets one from each of the others.
        let expected = if seed == 3 { sent + 2 } else { sent };
        assert_eq!(deposits(&world), expected, "seed {seed}");
    }
}

#[test]
fn c5_log_in_while_the_first_device_is_offline_or_a_removal_is_under_way() {
    for seed in 0..6 {
        let world = World::new(seed);
        let [ann, bob, _cem] = ["ann", "bob", "cem"].map(|name| world.sign_up(name));
        let chat = ann.create_group("meadow", &["bob", "cem"]);
        world.settle();
        if seed % 2 == 0 {
            ann.set_cut(true);
        } else {
            ann.begin_remove(chat, "cem");
            world.pass(seed * 1500);
        }
        let second = world.log_in("ann");
        world.pass(600_000);
        world.settle();
        assert_eq!(second.info(chat).unwrap().standing, Standing::Member);
        assert_eq!(bob.info(chat).unwrap().standing, Standing::Member);
        world.agree(chat, Mood::Honest);
    }
}

#[test]
fn c5_log_in_on_an_account_with_ten_dead_devices() {
    let world = World::new(5);
    let [ann, bob] = ["ann", "bob"].map(|name| world.sign_up(name));
    let chat = ann.start_chat(&["bob"]);
    world.settle();
    let mut dead = Vec::new();
    for _ in 0..9 {
        let device = world.log_in("ann");
        world.settle();
        device.lose();
        dead.push(device);
    }
    let first = crate::devices::id(&ann);
    ann.lose();
    dead.push(ann);
    let last = world.log_in_for("ann", first);
    world.settle();
    assert_eq!(last.info(chat).unwrap().standing, Standing::Member);
    last.say(chat, "I am back");
    world.settle();
    assert!(texts(&bob, chat).contains(&"I am back".to_owned()));
    world.agree(chat, Mood::Honest);
    // Should the dead rise, one of them learns that it had to go.
    dead.iter().for_each(Device::start);
    world.pass(600_000);
    let connection = async move |client: Client| client.connection().await;
    let stand = dead.iter().map(|device| device.call("connection", connection).unwrap());
    assert_eq!(stand.filter(|&stands| stands == Connection::SignedOut).count(), 1);
}

#[test]
fn c6_a_store_from_an_older_backup_sends() {
    for seed in 0..6 {
        let world = World::new(seed);
        let [ann, bob] = ["ann", "bob"].map(|name| world.sign_up(name));
        let chat = ann.start_chat(&["bob"]);
        ann.say(chat, "one");
        world.settle();
        let backup = ann.backup();
        for number in 0..=seed {
            ann.say(chat, &format!("after the backup {number}"));
        }
        world.settle();
        if seed % 3 == 1 {
            bob.say(chat, "an answer");
            world.settle();
        }
        ann.restore(backup);
        ann.say(chat, "from the past");
        world.settle();
        assert!(texts(&bob, chat).contains(&"from the past".to_owned()), "seed {seed}");
        for number in 0..=seed {
            assert!(texts(&bob, chat).contains(&format!("after the backup {number}")));
        }
        world.agree(chat, Mood::Attacked);
    }
}

/// Two people, and their chat in which one thing was said.
fn ann_has_written_to_bob() -> (World, [Device; 2], ConversationId) {
    let world = World::new(6);
    let [ann, bob] = ["ann", "bob"].map(|name| world.sign_up(name));
    let chat = ann.start_chat(&["bob"]);
    ann.say(chat, "one");
    world.settle();
    (world, [ann, bob], chat)
}

#[test]
fn c6_a_store_copied_to_a_second_machine() {
    let (world, [ann, bob], chat) = ann_has_written_to_bob();
    // A copy on a second machine: both speak, and neither is lost.
    let copy = world.device_over("ann", ann.backup());
    world.pass(60_000);
    ann.say(chat, "from the original");
    world.settle();
    copy.say(chat, "from the copy");
    world.pass(24 * 3_600_000);
    world.settle();
    for text in ["from the original", "from the copy"] {
        assert!(texts(&bob, chat).contains(&text.to_owned()), "{text}");
    }
    ann.say(chat, "the original again");
    world.pass(48 * 3_600_000);
    world.settle();
    assert!(texts(&bob, chat).contains(&"the original again".to_owned()));
}

#[test]
fn c6_a_store_that_is_used_in_two_places_says_so_and_comes_back_after_a_day() {
    let (world, [ann, bob], chat) = ann_has_written_to_bob();
    let copy = world.device_over("ann", ann.backup());
    for word in ["first", "second", "third"] {
        drop(ann.try_say(chat, word));
        world.pass(10_000);
        drop(copy.try_say(chat, &format!("{word} of the copy")));
        world.pass(10_000);
    }
    world.pass(10_000);
    let is_out = |device: &&Device| device.info(chat).unwrap().standing == Standing::Copied;
    let (out, other): (Vec<_>, Vec<_>) = [&ann, &copy].into_iter().partition(is_out);
    let [out] = out[..] else { panic!("{} of the two are out", out.len()) };
    let says_so = |item: &&Item| matches!(item.what, ItemKind::Copied { .. });
    assert_eq!(out.history(chat).iter().filter(says_so).count(), 1);
    other.iter().for_each(|device| device.crash());
    world.pass(25 * 3_600_000);
    assert_eq!(out.info(chat).unwrap().standing, Standing::Member);
    bob.say(chat, "welcome back");
    world.pass(10_000);
    assert!(texts(out, chat).contains(&"welcome back".to_owned()));
}

#[test]
fn c6_a_second_opener_of_the_same_store() {
    let (world, [ann, bob], chat) = ann_has_written_to_bob();
    // The first one is shut out, whoever came later goes on.
    let other = world.device_over("ann", ann.store());
    world.pass(1000);
    other.say(chat, "from the second opener");
    let shut_out = ann.try_say(chat, "from the first opener");
    assert!(matches!(shut_out.unwrap_err().code(), "store_fenced" | "closed"));
    ann.lose();
    world.settle();
    assert!(texts(&bob, chat).contains(&"from the second opener".to_owned()));
}

#[test]
fn c7_an_old_message_sealed_again() {
    let mut meadow = Meadow::new(7);
    let (ann, bob, cem) = (meadow.ann.clone(), meadow.bob.clone(), meadow.cem.clone());
    ann.say(meadow.chat, "once");
    meadow.world.settle();
    meadow.seat.read(&meadow.mal);
    bob.restart();
    meadow.seat.repeat(&mut meadow.mal);
    meadow.seat.repeat(&mut meadow.mal);
    meadow.world.settle();
    ann.restart();
    ann.say(meadow.chat, "twice");
    meadow.heals(&[&ann, &bob, &cem]);
    for device in [&ann, &bob, &cem] {
        let once = texts(device, meadow.chat).into_iter().filter(|text| text == "once").count();
        assert_eq!(once, 1, "{}", device.label());
    }
    for device in [&ann, &bob, &cem] {
        let unreadable = |item: &Item| matches!(item.what, ItemKind::Unreadable { .. });
        assert!(!device.history(meadow.chat).iter().any(unreadable), "{}", device.label());
    }
    let rejoined = |item: &Item| matches!(item.what, ItemKind::Rejoined { .. });
    assert!(!bob.history(meadow.chat).iter().any(rejoined), "Ann took her store for a copy");
}

#[test]
fn c8_the_package_of_last_resort_serves_twice() {
    let world = World::new(8);
    let [ann, bob, cem] = ["ann", "bob", "cem"].map(|name| world.sign_up(name));
    world.settle();
    cem.set_cut(true);
    let claimer = crate::mal::Mal::sign_up(&world, "mal");
    for _ in 0..6 {
        claimer.claim("cem");
    }
    let one = ann.create_group("one", &["bob", "cem"]);
    let two = bob.create_group("two", &["ann", "cem"]);
    ann.say(one, "into one");
    bob.say(two, "into two");
    world.pass(60_000);
    cem.set_cut(false);
    world.settle();
    for chat in [one, two] {
        cem.say(chat, "by last resort");
        world.settle();
        assert!(texts(&ann, chat).contains(&"by last resort".to_owned()));
        world.agree(chat, Mood::Honest);
    }
}
