//! A server that loses whole logs (D3), or everything that a device knows of one.

use corncrake::{ItemKind, Role, Standing};
use corncrake_core::conversation::STATE_EVERY;

use crate::{
    check::Mood,
    device::Device,
    flows::texts,
    lost_entries::{backup, chat_of_two, meadow, restore, sorted, tells_of_the_loss},
    world::World,
};

#[test]
fn audit_srv_a10_d3_a_group_all_of_whose_logs_are_gone_begins_again() {
    for seed in 0..6 {
        let world = World::new(seed);
        let [ann, bob, cem] = ["ann", "bob", "cem"].map(|name| world.sign_up(name));
        world.settle();
        let old = backup(&world);
        let chat = ann.create_group("meadow", &["bob", "cem"]);
        world.settle();
        ann.say(chat, "lost in the first log");
        world.settle();
        ann.remove(chat, "cem").unwrap();
        world.settle();
        bob.say(chat, "lost in the second");
        world.settle();
        restore(&world, &old);
        ann.say(chat, "new");
        world.settle();
        for device in [&ann, &bob] {
            let texts = sorted(device, chat);
            assert_eq!(texts, ["lost in the first log", "lost in the second", "new"], "{seed}");
            assert!(tells_of_the_loss(device, chat), "seed {seed}, {}", device.label());
        }
        assert_eq!(texts(&cem, chat), ["lost in the first log"]);
        let newcomer = world.log_in("bob");
        world.settle();
        newcomer.say(chat, "from a new device");
        world.agree(chat, Mood::Honest);
    }
}

#[test]
fn audit_srv_a10_d3_a_log_that_nobody_wrote_into_is_lost_with_the_one_before() {
    for seed in 0..6 {
        let (world, [ann, bob, cem, dan], chat) = meadow(seed, ["ann", "bob", "cem", "dan"]);
        let second = world.log_in("ann");
        world.settle();
        bob.crash();
        ann.rename(chat, "heath").unwrap();
        ann.say(chat, "lost");
        world.pass(1_000);
        ann.crash();
        second.remove(chat, "cem").unwrap();
        // The handover is made, and nobody says anything behind it.
        world.pass(10_000);
        let mut left = backup(&world);
        left.logs.clear();
        restore(&world, &left);
        world.pass(10_000);
        ann.start();
        bob.start();
        world.settle();
        bob.say(chat, "new");
        world.settle();
        for device in [&ann, &second, &bob, &dan] {
            let label = device.label();
            assert_eq!(sorted(device, chat), ["lost", "new"], "seed {seed}, {label}");
            assert!(tells_of_the_loss(device, chat), "seed {seed}, {label}");
        }
        assert_eq!(texts(&cem, chat), ["lost"]);
        world.agree(chat, Mood::Honest);
    }
}

#[test]
fn audit_srv_a10_d3_who_was_added_in_the_lost_part_is_not_stuck() {
    for seed in 0..6 {
        let world = World::new(seed);
        let [ann, bob, cem] = ["ann", "bob", "cem"].map(|name| world.sign_up(name));
        let chat = ann.create_group("meadow", &["bob"]);
        ann.say(chat, "kept");
        world.settle();
        let old = backup(&world);
        ann.add(chat, "cem").unwrap();
        world.settle();
        cem.say(chat, "lost by cem");
        world.settle();
        ann.set_cut(true);
        restore(&world, &old);
        // Somebody who knows nothing of it commits first.
        world.log_in("bob");
        world.pass(120_000);
        assert!(tells_of_the_loss(&cem, chat), "seed {seed}");
        assert_eq!(cem.info(chat).unwrap().standing, Standing::Joining, "seed {seed}");
        // Ann, who had added Cem, does so again.
        ann.set_cut(false);
        world.pass(60_000);
        world.settle();
        assert_eq!(cem.info(chat).unwrap().standing, Standing::Member, "seed {seed}");
        for device in [&ann, &bob, &cem] {
            assert!(texts(device, chat).contains(&"lost by cem".to_owned()), "seed {seed}");
        }
        world.agree(chat, Mood::Honest);
    }
}

#[test]
fn audit_srv_a10_d3_a_device_that_came_after_the_backup_comes_back() {
    for seed in 0..6 {
        let (world, [ann, bob], chat) = meadow(seed, ["ann", "bob"]);
        world.settle();
        let old = backup(&world);
        // Later than the record of the chat that the new device finds.
        ann.rename(chat, "field").unwrap();
        world.settle();
        let second = world.log_in("bob");
        // The search for a place takes longer than reading the account log again.
        for title in ["stubble", "fallow", "acre"] {
            ann.rename(chat, title).unwrap();
            world.settle();
        }
        restore(&world, &old);
        // A fold that has met a log which was changing is tried again after a minute.
        world.pass(120_000);
        assert_eq!(second.info(chat).unwrap().standing, Standing::Member, "seed {seed}");
        second.say(chat, "from the second");
        world.settle();
        for device in [&ann, &bob, &second] {
            assert_eq!(texts(device, chat), ["from the second"], "seed {seed}");
        }
        world.agree(chat, Mood::Honest);
    }
}

#[test]
fn audit_srv_a10_d3_a_lost_add_is_made_again_although_its_author_is_gone() {
    for seed in 0..6 {
        let (world, [ann, bob, cem], chat) = meadow(seed, ["ann", "bob", "cem"]);
        let dan = world.sign_up("dan");
        world.settle();
        ann.set_role(chat, "bob", Role::Owner).unwrap();
        world.settle();
        let old = backup(&world);
        bob.add(chat, "dan").unwrap();
        world.settle();
        if seed % 2 == 0 {
            ann.remove(chat, "bob").unwrap();
        } else {
            bob.leave(chat).unwrap();
        }
        world.settle();
        bob.set_cut(true);
        restore(&world, &old);
        world.pass(180_000);
        assert_eq!(dan.info(chat).unwrap().standing, Standing::Member, "seed {seed}");
        dan.say(chat, "here I am");
        world.pass(60_000);
        for device in [&ann, &cem] {
            assert!(texts(device, chat).contains(&"here I am".to_owned()), "seed {seed}");
        }
    }
}

#[test]
fn audit_srv_a10_d3_after_a_day_whoever_may_makes_a_lost_add_again() {
    for seed in 0..4 {
        let world = World::new(seed);
        let [ann, bob, cem, dee] = ["ann", "bob", "cem", "dee"].map(|name| world.sign_up(name));
        let chat = ann.create_group("meadow", &["bob", "dee"]);
        world.settle();
        ann.set_role(chat, "bob", Role::Admin).unwrap();
        world.settle();
        let old = backup(&world);
        ann.add(chat, "cem").unwrap();
        world.settle();
        cem.say(chat, "lost by cem");
        world.settle();
        ann.set_cut(true);
        bob.set_cut(true);
        restore(&world, &old);
        world.log_in("dee");
        world.pass(120_000);
        bob.set_cut(false);
        world.pass(23 * 3_600_000);
        let is_in = |device: &Device| {
            device.info(chat).unwrap().members.iter().any(|m| m.name == Some("cem".to_owned()))
        };
        assert!(!is_in(&dee) && !is_in(&bob), "seed {seed}: the adder comes first");
        world.pass(2 * 3_600_000);
        assert!(is_in(&dee) && is_in(&bob), "seed {seed}: a day is over");
        world.settle();
        for device in [&ann, &bob, &cem, &dee] {
            assert_eq!(device.info(chat).unwrap().standing, Standing::Member, "seed {seed}");
            assert!(texts(device, chat).contains(&"lost by cem".to_owned()), "seed {seed}");
        }
        world.agree(chat, Mood::Honest);
    }
}

#[test]
fn audit_srv_a10_d3_a_new_device_tries_the_record_before_the_newest() {
    for seed in 0..4 {
        let (world, [ann, bob, cem], chat) = meadow(seed, ["ann", "bob", "cem"]);
        ann.say(chat, "kept");
        world.settle();
        let before = backup(&world);
        ann.remove(chat, "cem").unwrap();
        world.settle();
        // A state of the account log, which names the group's second log, and that one is gone.
        for _ in 0..52 {
            ann.hide(chat);
            world.pass(1_000);
            ann.say(chat, "back again");
            world.pass(1_000);
        }
        let mut old = backup(&world);
        old.logs.retain(|log, _| before.logs.contains_key(log));
        ann.crash();
        bob.crash();
        restore(&world, &old);
        let second = world.log_in("ann");
        world.pass(10 * 60_000);
        assert_eq!(second.info(chat).unwrap().standing, Standing::Member, "seed {seed}");
        world.settle();
        second.say(chat, "from a new device");
        world.settle();
        for device in [&ann, &bob] {
            assert!(texts(device, chat).contains(&"from a new device".to_owned()), "seed {seed}");
        }
        assert_eq!(cem.info(chat).unwrap().standing, Standing::Removed);
    }
}

#[test]
fn audit_srv_a10_d3_a_new_device_tells_that_its_account_had_read_more() {
    for seed in 0..4 {
        let (world, [ann, bob], chat) = meadow(seed, ["ann", "bob"]);
        world.settle();
        let old = backup(&world);
        bob.say(chat, "lost");
        world.settle();
        // A record that was written after this is in the account log, and the text is not.
        ann.hide(chat);
        world.pass(10_000);
        let log = world.server().borrow().logs.clone();
        ann.crash();
        bob.crash();
        let mut mixed = old.clone();
        mixed.logs.extend(log.into_iter().filter(|(id, new)| {
            let is_record = |(kind, _): &_| *kind == corncrake_wire::EntryKind::Commit;
            old.logs.contains_key(id) && new.entries.iter().all(is_record)
        }));
        restore(&world, &mixed);
        let second = world.log_in("ann");
        world.pass(60_000);
        assert!(tells_of_the_loss(&second, chat), "seed {seed}");
        world.settle();
        assert_eq!(texts(&second, chat), ["lost"], "seed {seed}: said again");
    }
}

#[test]
fn audit_srv_a10_d3_a_log_that_began_again_takes_in_who_comes_back_later() {
    for seed in 0..6 {
        let world = World::new(seed);
        let [ann, bob, cem] = ["ann", "bob", "cem"].map(|name| world.sign_up(name));
        world.settle();
        let old = backup(&world);
        let chat = ann.create_group("meadow", &["bob", "cem"]);
        world.settle();
        for (device, text) in [(&ann, "lost by ann"), (&bob, "lost by bob"), (&cem, "lost by cem")]
        {
            device.say(chat, text);
        }
        world.settle();
        cem.crash();
        restore(&world, &old);
        ann.say(chat, "new");
        bob.say(chat, "new as well");
        world.pass(120_000);
        // Cem came in by a Welcome, and nothing of what it read is there.
        cem.start();
        world.settle();
        assert!(tells_of_the_loss(&cem, chat), "seed {seed}");
        assert_eq!(cem.info(chat).unwrap().standing, Standing::Member, "seed {seed}");
        for device in [&ann, &bob] {
            assert_eq!(texts(device, chat).len(), 5, "seed {seed}, {}", device.label());
        }
        world.agree(chat, Mood::Honest);
    }
}

#[test]
fn audit_srv_a10_d3_a_lost_commit_that_is_appended_again_leads_on() {
    for seed in 0..6 {
        let (world, [ann, bob, cem], chat) = meadow(seed, ["ann", "bob", "cem"]);
        world.settle();
        let old = backup(&world);
        bob.set_cut(true);
        let removes = ann.begin_remove(chat, "cem");
        world.pass(60_000);
        let removed = backup(&world);
        restore(&world, &old);
        // Ann gives up her secrets of the lost epoch, and then it is there again.
        world.until("ann has noticed", || {
            ann.told().events.values().any(|event| {
                matches!(&event.what, corncrake::EventKind::Item { item, .. }
                    if item.what == ItemKind::ServerLostEntries)
            })
        });
        ann.set_cut(true);
        restore(&world, &removed);
        bob.set_cut(false);
        world.pass(60_000);
        // Nobody is there to answer a knock.
        bob.set_cut(true);
        ann.set_cut(false);
        world.pass(60_000);
        assert_eq!(ann.info(chat).unwrap().standing, Standing::Member, "seed {seed}");
        ann.wait(&removes, "remove cem").ok();
        bob.set_cut(false);
        ann.say(chat, "new");
        world.settle();
        assert!(texts(&bob, chat).contains(&"new".to_owned()), "seed {seed}");
        assert_eq!(cem.info(chat).unwrap().standing, Standing::Removed, "seed {seed}");
        world.agree(chat, Mood::Honest);
    }
}

#[test]
fn audit_srv_a10_d3_what_was_read_before_a_loss_is_no_gap() {
    for seed in 0..4 {
        let (world, [ann, bob], chat) = meadow(seed, ["ann", "bob"]);
        world.settle();
        for number in 0..5 {
            bob.say(chat, &format!("{number} kept"));
        }
        world.settle();
        let old = backup(&world);
        ann.rename(chat, "field").unwrap();
        world.settle();
        ann.set_cut(true);
        bob.set_cut(true);
        restore(&world, &old);
        // Somebody who knows nothing of it commits first.
        let second = world.log_in("bob");
        world.pass(10_000);
        if seed % 2 == 0 {
            second.say(chat, "said meanwhile");
        }
        world.pass(120_000);
        bob.set_cut(false);
        world.settle();
        let gaps = bob.history(chat).into_iter().filter(|item| item.what == ItemKind::Gap);
        assert_eq!(gaps.count(), usize::from(seed % 2 == 0), "seed {seed}");
        assert!(tells_of_the_loss(&bob, chat));
        world.agree(chat, Mood::Honest);
    }
}

/// A state lies beside the commit that adds cem, so that its device begins there without reading a
/// hash of the log, and its life ends before the server has told one.
#[test]
fn audit_srv_a10_d3_a_new_instance_is_noticed_where_no_running_hash_is_known() {
    for seed in [1, 3, 5] {
        let world = World::new(seed);
        let [ann, bob, cem] = ["ann", "bob", "cem"].map(|name| world.sign_up(name));
        let chat = ann.create_group("meadow", &["bob"]);
        for number in 2..STATE_EVERY {
            ann.rename(chat, &format!("meadow {number}")).unwrap();
        }
        // A life that doesn't end with the power.
        cem.restart();
        world.settle();
        let old = backup(&world);
        ann.add(chat, "cem").unwrap();
        world.until("cem has come in", || {
            cem.told().events.values().any(|event| {
                matches!(&event.what, corncrake::EventKind::Item { item, .. }
                    if item.what == ItemKind::JoinedHere)
            })
        });
        cem.crash();
        restore(&world, &old);
        ann.set_cut(true);
        for number in 0..6 {
            bob.say(chat, &format!("{number} in place of it"));
        }
        world.pass(60_000);
        cem.start();
        world.pass(60_000);
        // Nobody says anything more, and nobody adds it again.
        assert!(tells_of_the_loss(&cem, chat), "it believed a log that it has never read");
        assert_ne!(cem.info(chat).unwrap().standing, Standing::Member);
        ann.set_cut(false);
        world.settle();
        assert_eq!(cem.info(chat).unwrap().standing, Standing::Member);
        world.agree(chat, Mood::Honest);
    }
}

#[test]
fn audit_srv_a10_d3_much_that_is_said_again_comes_behind_a_fresh_path() {
    let (world, [ann, bob], chat) = chat_of_two(0);
    world.settle();
    let old = backup(&world);
    for number in 0..1001 {
        ann.say(chat, &format!("{number} lost"));
    }
    world.settle();
    restore(&world, &old);
    world.settle();
    assert_eq!(texts(&bob, chat).len(), 1001);
    let server = world.server();
    let server = server.borrow();
    let log = server.logs.values().max_by_key(|log| log.entries.len()).unwrap();
    let kinds: Vec<_> = log.entries.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds[..2], [corncrake_wire::EntryKind::Commit; 2], "the founding and the path");
    assert!(kinds[2..].iter().all(|kind| *kind == corncrake_wire::EntryKind::Message));
    assert_eq!(kinds.len(), 2 + 1001);
}

#[test]
fn audit_srv_a10_d3_a_knock_at_a_log_that_was_closed_long_ago_in_the_chain_is_answered() {
    let world = World::new(1);
    let names = ["ann", "bob", "dan", "eva", "fay", "gus", "hal", "ina"];
    let [ann, bob, dan, others @ ..] = names.map(|name| world.sign_up(name));
    let chat = ann.create_group("meadow", &names[1..]);
    world.settle();
    dan.crash();
    for name in &names[3..] {
        ann.remove(chat, name).unwrap();
        world.pass(120_000);
    }
    // Who runs on follows all logs anyway, and whoever was removed last answers too.
    others.iter().for_each(|device| device.lose());
    [&ann, &bob].iter().for_each(|device| device.restart());
    world.pass(10_000);
    // Only another device's record leads it in, and that names the first log.
    let second = world.log_in("dan");
    world.pass(120_000);
    assert_eq!(second.info(chat).unwrap().standing, Standing::Member);
    bob.say(chat, "welcome");
    world.settle();
    assert!(texts(&second, chat).contains(&"welcome".to_owned()));
}
