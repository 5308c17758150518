//! A server that loses what it has again and again (D3), while people come and go and talk: what
//! is left in the end is one group in which everybody hears everybody.

use corncrake::{Connection, Standing};

use crate::{
    chance::Chance,
    check::Mood,
    device::Device,
    devices::id,
    flows::texts,
    lost_accounts::connection,
    lost_entries::{backup, meadow, restore},
    seeds::{first_failure, number},
    world::World,
};

const STEPS: usize = 30;

pub(crate) fn lose_all_logs(world: &World) {
    let mut left = backup(world);
    left.logs.clear();
    restore(world, &left);
}

fn walk(seed: u64) {
    let mut chance = Chance::new(seed, "lost again");
    let names = ["ann", "bob", "cem", "dan"];
    let (world, devices, chat) = meadow(seed, names);
    let mut devices = devices.to_vec();
    world.settle();
    let mut copies = vec![backup(&world)];
    for step in 0..STEPS {
        let device = &devices[usize::try_from(chance.below(devices.len() as u64)).unwrap()];
        let which = chance.below(12);
        let one_of = |names: &[&'static str]| names[usize::try_from(which).unwrap() % names.len()];
        match chance.below(15) {
            0..=3 if device.runs() => drop(device.try_say(chat, &format!("{step}"))),
            4..=5 if device.runs() => device.crash(),
            4..=6 if !device.runs() => device.start(),
            7 => copies.push(backup(&world)),
            8 => {
                let one = chance.below(copies.len() as u64);
                restore(&world, &copies[usize::try_from(one).unwrap()].clone());
            }
            9 => lose_all_logs(&world),
            10 if devices[0].runs() => drop(devices[0].begin_remove(chat, one_of(&names[1..]))),
            11 if devices[0].runs() => drop(devices[0].begin_add(chat, one_of(&names[1..]))),
            12 if devices.len() < 6 => devices.push(world.log_in(one_of(&names))),
            _ => world.pass(chance.below(8_000)),
        }
    }
    devices.iter().filter(|device| !device.runs()).for_each(|device| device.start());
    world.pass(180_000);
    if connection(&devices[0]) == Connection::SignedOut {
        // Nobody else may add.
        return;
    }
    // Whose removal is the last word may not know of it, and comes back all the same.
    for name in &names[1..] {
        let here = devices[0].info(chat).unwrap().members;
        if here.iter().all(|member| member.name.as_deref() != Some(*name)) {
            // Unless they are back meanwhile.
            let added = devices[0].add(chat, name);
            let here = devices[0].info(chat).unwrap().members;
            let is_back = here.iter().any(|member| member.name.as_deref() == Some(*name));
            assert!(added.is_ok() || is_back, "{name}: {added:?}");
        }
    }
    world.settle();
    world.agree(chat, Mood::Attacked);
    for device in &devices {
        if connection(device) == Connection::SignedOut {
            // The account was at another device when this one had to be named again.
            assert_ne!(device.info(chat).map(|info| info.standing), Ok(Standing::Member));
            continue;
        }
        let members = device.info(chat).unwrap().members.len();
        assert_eq!(
            (members, device.info(chat).unwrap().standing),
            (4, Standing::Member),
            "{}",
            device.label()
        );
    }
}

/// Runs `walk` for so many seeds, or for those that the environment names.
fn each_seed(seeds: u64, walk: impl Fn(u64) + Sync) {
    let start = number("WORLD_START", 0);
    let failed = first_failure(start..start + number("WORLD_SEEDS", seeds), walk);
    assert_eq!(failed, None, "replay with WORLD_START=<seed> WORLD_SEEDS=1");
}

#[test]
fn audit_srv_a10_d3_a_server_that_loses_everything_again_and_again_leaves_one_group() {
    each_seed(80, walk);
}

/// Walks in which somebody went on alone: in the log behind a lost one, while others were led into
/// another; in a log that the server had replaced once more before a word of it was read; and in an
/// earlier log, with a group that had been set aside.
#[test]
fn audit_srv_a10_d3_nobody_goes_on_alone_after_losses_in_a_row() {
    [121, 344, 550, 611, 778, 912, 1027, 1145, 1193, 1194].into_iter().for_each(walk);
}

/// Everything is lost after a removal, again and again; then a backup is restored from before it.
#[test]
fn audit_srv_a10_d3_a_removal_that_outlived_a_loss_is_made_again_after_the_next() {
    each_seed(40, |seed| {
        let world = World::new(seed);
        let mut chance = Chance::new(seed, "lost again");
        let [ann, bob, cem] = ["ann", "bob", "cem"].map(|name| world.sign_up(name));
        let chat = ann.create_group("meadow", &["bob", "cem"]);
        world.settle();
        let old = backup(&world);
        ann.remove(chat, "cem").unwrap();
        world.settle();
        for _ in 0..8 {
            match chance.below(6) {
                0 if bob.runs() => bob.crash(),
                0 => bob.start(),
                1 => drop(ann.try_say(chat, "between")),
                2 | 3 => lose_all_logs(&world),
                _ => world.pass(chance.below(8_000)),
            }
        }
        restore(&world, &old);
        world.devices().iter().filter(|device| !device.runs()).for_each(Device::start);
        world.pass(60_000);
        ann.say(chat, "not for cem");
        world.settle();
        for device in [&ann, &bob] {
            assert_eq!(device.info(chat).unwrap().members.len(), 2, "{seed} {}", device.label());
            assert!(texts(device, chat).contains(&"not for cem".to_owned()), "{seed}");
        }
        assert!(!texts(&cem, chat).contains(&"not for cem".to_owned()), "{seed}");
        world.agree(chat, Mood::Attacked);
    });
}

/// Somebody who was removed and added again is out and in once more where the server has lost both,
/// by whatever losses, whoever was there meanwhile.
#[test]
fn audit_srv_a10_d3_who_was_removed_and_added_again_comes_back_after_both_are_lost() {
    each_seed(60, |seed| {
        let world = World::new(seed);
        let mut chance = Chance::new(seed, "lost again");
        let names = ["ann", "bob", "cem", "dan"];
        let [ann, bob, cem, dan] = names.map(|name| world.sign_up(name));
        let chat = ann.create_group("meadow", &names[1..]);
        world.settle();
        let old = backup(&world);
        ann.remove(chat, "cem").unwrap();
        world.pass(10_000);
        let sleeper = [None, Some(&bob), Some(&cem)][usize::try_from(seed % 3).unwrap()];
        sleeper.iter().for_each(|device| device.crash());
        drop(ann.begin_add(chat, "cem"));
        world.pass(10_000);
        for _ in 0..chance.below(4) {
            match chance.below(5) {
                0 if bob.runs() => bob.crash(),
                1 => drop(ann.try_say(chat, "between")),
                2 => lose_all_logs(&world),
                3 => restore(&world, &old),
                _ => world.pass(chance.below(8_000)),
            }
        }
        restore(&world, &old);
        world.devices().iter().filter(|device| !device.runs()).for_each(Device::start);
        world.pass(120_000);
        cem.say(chat, "I am back");
        world.settle();
        for device in [&ann, &bob, &cem, &dan] {
            assert_eq!(device.info(chat).unwrap().members.len(), 4, "{seed} {}", device.label());
            assert!(texts(device, chat).contains(&"I am back".to_owned()), "{seed}");
        }
        world.agree(chat, Mood::Attacked);
    });
}

/// What somebody heard before he was removed is not shown to him again, when he comes back to a
/// program that was started since, and it is said again.
#[test]
fn audit_srv_a10_d3_who_comes_back_is_shown_nothing_twice() {
    for seed in 0..6 {
        let (world, [ann, bob, cem], chat) = meadow(seed, ["ann", "bob", "cem"]);
        world.settle();
        bob.say(chat, "once");
        world.settle();
        bob.crash();
        ann.remove(chat, "cem").unwrap();
        world.pass(10_000);
        cem.crash();
        cem.start();
        lose_all_logs(&world);
        world.pass(10_000);
        ann.add(chat, "cem").unwrap();
        world.pass(10_000);
        bob.start();
        world.settle();
        assert_eq!(texts(&cem, chat), ["once"], "{seed}");
        assert_eq!(texts(&ann, chat), ["once"], "{seed}");
        world.agree(chat, Mood::Attacked);
    }
}

#[test]
fn audit_srv_a10_d3_an_add_that_was_made_again_is_made_again_after_the_same_loss() {
    each_seed(20, |seed| {
        let (world, [ann, bob, cem], chat) = meadow(seed, ["ann", "bob", "cem"]);
        let dan = world.sign_up("dan");
        let devices = [&ann, &bob, &cem, &dan];
        world.settle();
        let old = backup(&world);
        ann.add(chat, "dan").unwrap();
        if seed % 2 == 1 {
            ann.remove(chat, "cem").unwrap();
            ann.add(chat, "cem").unwrap();
        }
        world.settle();
        for round in 0..3 {
            restore(&world, &old);
            for step in 0..10 {
                let device = devices[step % 4];
                drop(device.try_say(chat, &format!("{round}.{step}")));
                world.pass(1000);
            }
            world.pass(40_000);
            for device in devices {
                let info = device.info(chat).unwrap();
                let is = (info.members.len(), info.standing);
                assert_eq!(is, (4, Standing::Member), "round {round}, {}", device.label());
            }
        }
        world.settle();
        world.agree(chat, Mood::Attacked);
    });
}

/// All have left the group for an older epoch and aren't in again when the server loses that as well:
/// the group begins again with what it was before the first loss.
#[test]
fn audit_srv_a10_d3_a_second_loss_while_everybody_is_out_leaves_the_group() {
    each_seed(60, |seed| {
        let (world, devices, chat) = meadow(seed, ["ann", "bob", "cem"]);
        let [ann, bob, _] = &devices;
        world.settle();
        let old = backup(&world);
        ann.rename(chat, "lawn").unwrap();
        bob.say(chat, "on the lawn");
        world.settle();
        restore(&world, &old);
        world.pass(20 + 5 * (seed % 40));
        if seed % 3 == 0 {
            devices.iter().for_each(Device::restart);
        }
        lose_all_logs(&world);
        world.pass(120_000);
        for device in &devices {
            let info = device.info(chat).unwrap();
            let is = (info.members.len(), info.standing);
            assert_eq!(is, (3, Standing::Member), "seed {seed}, {}", device.label());
        }
        assert_eq!(ann.info(chat).unwrap().title, "lawn", "seed {seed}");
        world.agree(chat, Mood::Attacked);
    });
}

/// A chat of two that was founded again and again, by a device that has taken another one's place.
#[test]
fn audit_srv_a10_d3_a_chat_of_two_is_one_chat_after_losses_in_a_row() {
    each_seed(30, |seed| {
        let world = World::new(seed);
        let mut chance = Chance::new(seed, "losses in a row");
        let [cem, dan] = ["cem", "dan"].map(|name| world.sign_up(name));
        world.settle();
        let early = backup(&world);
        let chat = cem.start_chat(&["dan"]);
        cem.say(chat, "first");
        world.pass(2000);
        let other = world.log_in("cem");
        world.pass(3000);
        other.remove_device(id(&cem)).unwrap();
        cem.lose();
        world.pass(3000);
        restore(&world, &early);
        world.pass(chance.below(6000));
        let late = backup(&world);
        for _ in 0..2 {
            restore(&world, &early);
            world.pass(chance.below(8000));
        }
        restore(&world, &late);
        world.pass(120_000);
        let chats = [&other, &dan].map(|device| {
            let peer = if device.label() == dan.label() { "cem" } else { "dan" };
            device.start_chat(&[peer])
        });
        assert_eq!(chats[0], chats[1], "seed {seed}");
        other.say(chats[0], "to dan");
        dan.say(chats[0], "to cem");
        world.pass(60_000);
        for device in [&other, &dan] {
            let heard = texts(device, chats[0]);
            let has = |text: &str| heard.contains(&text.to_owned());
            assert!(has("to dan") && has("to cem"), "seed {seed}, {}: {heard:?}", device.label());
        }
    });
}
