//! Somebody is off while the server loses a commit of their group (D3) and the others go on.

use std::collections::BTreeSet;

use corncrake::{Client, ConversationId, ItemKind, Standing};

use crate::{
    check::Mood,
    device::Device,
    flows::texts,
    lost_again::lose_all_logs,
    lost_entries::{backup, meadow, restore, sorted},
    world::World,
};

#[test]
fn audit_issue_7_c1_who_was_off_when_a_commit_was_lost_reads_what_was_said_meanwhile() {
    for seed in 0..6 {
        let (world, [ann, bob, cem], chat) = meadow(seed, ["ann", "bob", "cem"]);
        let second = world.log_in("bob");
        world.settle();
        bob.say(chat, "early");
        world.settle();
        let old = backup(&world);
        ann.rename(chat, "lawn").unwrap();
        cem.say(chat, "lost");
        world.settle();
        bob.crash();
        second.crash();
        restore(&world, &old);
        world.pass(30_000);
        ann.say(chat, "after");
        world.pass(1_000);
        cem.say(chat, "after that");
        world.pass(10_000);
        if seed % 3 == 0 {
            [&ann, &cem].iter().for_each(|device| device.restart());
        }
        bob.start();
        world.pass(30_000);
        bob.say(chat, "back");
        world.pass(10_000);
        // One of the same account that comes much later.
        second.start();
        world.settle();
        for device in [&ann, &bob, &cem, &second] {
            let expected = ["after", "after that", "back", "early", "lost"];
            assert_eq!(sorted(device, chat), expected, "seed {seed}, {}", device.label());
        }
        assert_eq!(bob.info(chat).unwrap().title, "lawn", "seed {seed}");
        world.agree(chat, Mood::Honest);
    }
}

/// Ann, bob and cem, of whom cem is off while the server loses a commit and the others go on.
fn with_cem_off(seed: u64, then: impl FnOnce(&World, [&Device; 4], ConversationId)) {
    let (world, [ann, bob, cem], chat) = meadow(seed, ["ann", "bob", "cem"]);
    let dan = world.sign_up("dan");
    world.settle();
    let old = backup(&world);
    ann.rename(chat, "lawn").unwrap();
    world.settle();
    cem.crash();
    restore(&world, &old);
    world.pass(30_000);
    ann.say(chat, "while cem is in");
    world.pass(10_000);
    then(&world, [&ann, &bob, &cem, &dan], chat);
    world.agree(chat, Mood::Honest);
}

#[test]
fn audit_issue_7_c1_who_was_removed_and_added_again_reads_nothing_of_what_was_said_meanwhile() {
    for seed in 0..6 {
        with_cem_off(seed, |world, [ann, bob, cem, _], chat| {
            ann.remove(chat, "cem").unwrap();
            world.pass(30_000);
            bob.say(chat, "while cem is out");
            world.pass(30_000);
            ann.add(chat, "cem").unwrap();
            world.pass(30_000);
            cem.start();
            world.settle();
            assert_eq!(cem.info(chat).unwrap().standing, Standing::Member, "seed {seed}");
            bob.say(chat, "now");
            world.settle();
            assert_eq!(texts(cem, chat), ["now"], "seed {seed}");
            assert_eq!(
                texts(bob, chat),
                ["while cem is in", "while cem is out", "now"],
                "seed {seed}"
            );
        });
    }
}

#[test]
fn audit_issue_7_c1_nothing_is_said_again_where_somebody_has_come_in_since() {
    for seed in 0..6 {
        with_cem_off(seed, |world, [ann, _, cem, dan], chat| {
            ann.add(chat, "dan").unwrap();
            world.pass(30_000);
            ann.say(chat, "to all four");
            world.pass(30_000);
            cem.start();
            world.settle();
            assert_eq!(texts(dan, chat), ["to all four"], "seed {seed}");
            assert_eq!(texts(cem, chat), ["to all four"], "seed {seed}");
            let history = cem.history(chat);
            assert!(history.iter().any(|item| item.what == ItemKind::Gap), "seed {seed}");
        });
    }
}

#[test]
fn audit_issue_7_c1_a_new_device_hears_nothing_of_what_was_said_before() {
    for seed in 0..6 {
        with_cem_off(seed, |world, [ann, bob, ..], chat| {
            let second = world.log_in("bob");
            world.pass(30_000);
            second.restart();
            world.pass(30_000);
            assert_eq!(texts(&second, chat), [""; 0], "seed {seed}");
            assert_eq!(texts(bob, chat), texts(ann, chat), "seed {seed}");
        });
    }
}

/// Ann's commit, the first in the log behind a removal, has reached the others when she crashes, and
/// everything is lost before she has read it back: the log begins again with the epoch behind it.
#[test]
fn audit_issue_7_c1_who_has_not_read_its_own_lost_commit_back_is_told_of_a_gap() {
    // From 74 on the log that began again is what Ann finds first.
    for seed in [0, 1, 2, 3, 74, 81, 86, 89] {
        let (world, [ann, bob, cem, _], chat) = meadow(seed, ["ann", "bob", "cem", "dan"]);
        world.settle();
        let before = world.server().borrow().logs.len();
        ann.remove(chat, "dan").unwrap();
        world.until("the next log is there", || world.server().borrow().logs.len() > before);
        ann.crash();
        world.pass(10_000);
        lose_all_logs(&world);
        world.pass(30_000);
        bob.say(chat, "behind the loss");
        world.pass(10_000);
        // Nobody says it again.
        [&bob, &cem].iter().for_each(|device| device.crash());
        ann.start();
        world.pass(60_000);
        assert!(ann.history(chat).iter().any(|item| item.what == ItemKind::Gap), "seed {seed}");
        world.settle();
        for device in [&ann, &bob, &cem] {
            let label = device.label();
            assert_eq!(texts(device, chat), ["behind the loss"], "seed {seed}, {label}");
        }
        world.agree(chat, Mood::Honest);
    }
}

/// A device logs in when the log of its account's group is lost, while nobody who could begin it again
/// is there.
#[test]
fn audit_issue_7_c1_who_finds_no_log_has_nothing_to_do() {
    let world = World::new(0);
    let [ann, bob] = ["ann", "bob"].map(|name| world.sign_up(name));
    world.settle();
    let known: BTreeSet<_> = world.server().borrow().logs.keys().copied().collect();
    ann.create_group("meadow", &["bob"]);
    world.settle();
    [&ann, &bob].iter().for_each(|device| device.crash());
    world.server().borrow_mut().logs.retain(|log, _| known.contains(log));
    let second = world.log_in("ann");
    world.pass(10_000);
    let standings: Vec<_> = second.chats().iter().map(|chat| chat.standing).collect();
    assert_eq!(standings, [Standing::Joining]);
    let settling = second.begin("settle", async move |client: Client| client.settle().await);
    world.pass(60_000);
    assert!(settling.is_done(), "it waits for somebody else");
}
