//! A server that lost entries, and devices that were off or came later than the backup: who belongs
//! comes back, and who doesn't hears it.

use corncrake::{Connection, Role, Standing};
use corncrake_core::{
    conversation::OPENING,
    mls::codec::Encode,
    seal::{envelope::Seed, notice::Notice},
};
use corncrake_wire::{PackageId, open::Deposit};

use crate::{
    chance::Chance,
    check::Mood,
    device::Device,
    devices::id,
    flows::texts,
    lost_accounts::connection,
    lost_entries::{backup, meadow, meadow_with_mal, restore},
    mal::Mal,
    server::Server,
    world::World,
};

fn standing(device: &Device, chat: corncrake::ConversationId) -> Standing {
    device.info(chat).unwrap().standing
}

/// People in a world of their own, and the server before they make a group.
fn before_the_meadow<const N: usize>(seed: u64, names: [&str; N]) -> (World, [Device; N], Server) {
    let world = World::new(seed);
    let devices = names.map(|name| world.sign_up(name));
    let before = backup(&world);
    (world, devices, before)
}

/// Two of three people replace their devices by others, which a backup from before doesn't know.
fn replaced(seed: u64) {
    let world = World::new(seed);
    let [ann, bob, eve] = ["ann", "bob", "eve"].map(|name| world.sign_up(name));
    world.settle();
    let before_all = backup(&world);
    let chat = ann.create_group("meadow", &["bob", "eve"]);
    world.settle();
    let old = if seed & 2 == 0 { backup(&world) } else { before_all };
    let replaced = if seed & 1 == 0 { vec![&bob] } else { vec![&ann, &bob] };
    let mut here = vec![eve];
    here.extend((seed & 1 == 0).then(|| ann.clone()));
    for first in replaced {
        let second = world.log_in(first.name());
        world.settle();
        second.remove_device(id(first)).unwrap();
        world.pass(20_000);
        first.lose();
        second.say(chat, "before");
        world.pass(3_000);
        here.push(second);
    }
    let last = here.last().unwrap().clone();
    if seed & 4 == 0 {
        last.crash();
    }
    restore(&world, &old);
    world.pass(20_000);
    if seed & 4 == 0 {
        last.start();
    }
    world.pass(120_000);
    world.settle();
    for device in &here {
        assert_eq!(connection(device), Connection::Online, "seed {seed}, {}", device.label());
        assert_eq!(standing(device, chat), Standing::Member, "seed {seed}, {}", device.label());
        assert_eq!(device.info(chat).unwrap().lost_removals, [], "seed {seed}");
    }
    world.agree(chat, Mood::Honest);
}

#[test]
fn audit_issue_7_gh6_newer_devices_come_back_and_remove_again_whom_they_had_removed() {
    (0..16).for_each(replaced);
}

#[test]
fn audit_issue_7_gh4_an_owner_need_not_wait_for_a_lost_removal_of_a_device() {
    const WORD: &str = "not for a device that was removed";
    for seed in 0..4 {
        let (world, [ann, bob, cem], chat) = meadow(seed, ["ann", "bob", "cem"]);
        let second = world.log_in("cem");
        world.settle();
        let old = backup(&world);
        second.remove_device(id(&cem)).unwrap();
        world.pass(20_000);
        cem.lose();
        second.lose();
        restore(&world, &old);
        world.pass(20_000);
        bob.say(chat, WORD);
        world.pass(60_000);
        assert!(!texts(&ann, chat).contains(&WORD.to_owned()), "seed {seed}");
        ann.remove(chat, "cem").unwrap();
        world.pass(60_000);
        assert!(texts(&ann, chat).contains(&WORD.to_owned()), "seed {seed}");
        assert_eq!(ann.info(chat).unwrap().members.len(), 2, "seed {seed}");
        world.agree(chat, Mood::Honest);
    }
}
#[test]
fn audit_issue_7_gh2_who_was_removed_while_off_hears_it_although_the_group_was_lost() {
    for seed in 0..6 {
        let world = World::new(seed);
        let [ann, bob, cem] = ["ann", "bob", "cem"].map(|name| world.sign_up(name));
        world.settle();
        let old = backup(&world);
        let chat = ann.create_group("meadow", &["bob", "cem"]);
        world.settle();
        let with_two = seed % 3 == 2;
        let other = with_two.then(|| world.log_in("cem"));
        world.settle();
        cem.say(chat, "I am in");
        world.settle();
        cem.crash();
        ann.remove(chat, "cem").unwrap();
        world.pass(10_000);
        bob.say(chat, "without cem");
        world.pass(3_000);
        restore(&world, &old);
        world.pass(6_000);
        cem.start();
        world.pass(120_000);
        world.settle();
        for device in other.iter().chain([&cem]) {
            assert_eq!(
                standing(device, chat),
                Standing::Removed,
                "seed {seed}, {}",
                device.label()
            );
        }
        world.agree(chat, Mood::Honest);
        assert_eq!(ann.info(chat).unwrap().members.len(), 2);
    }
}

/// The one device that was off when its account was removed begins the group again, in a log before
/// a handover. The others, who know of the removal, don't follow it there.
#[test]
fn audit_issue_7_j5_who_was_removed_does_not_follow_a_device_that_was_off() {
    for seed in 0..6 {
        let world = World::new(seed);
        let [ann, bob, dia] = ["ann", "bob", "dia"].map(|name| world.sign_up(name));
        let [second, third, fourth] = [(); 3].map(|()| world.log_in("dia"));
        world.settle();
        let old = backup(&world);
        let chat = bob.create_group("meadow", &["ann", "dia"]);
        world.settle();
        fourth.say(chat, "I am in");
        world.settle();
        fourth.crash();
        third.remove_device(id(&second)).unwrap();
        world.pass(5_000);
        bob.remove(chat, "dia").unwrap();
        world.pass(5_000);
        restore(&world, &old);
        world.pass(1_000 + 1_000 * seed);
        fourth.start();
        world.pass(120_000);
        second.lose();
        world.settle();
        for device in [&dia, &third, &fourth] {
            let label = device.label();
            assert_eq!(standing(device, chat), Standing::Removed, "seed {seed}, {label}");
        }
        ann.say(chat, "without dia");
        world.settle();
        world.agree(chat, Mood::Honest);
        assert_eq!(ann.info(chat).unwrap().members.len(), 2, "seed {seed}");
    }
}

/// A device was off while a group came and went for its account, and nothing is left that says so but
/// what the account's other devices know.
#[test]
fn audit_issue_7_j4_who_was_off_all_the_time_looks_for_no_group_that_its_account_is_out_of() {
    for seed in 0..6 {
        let world = World::new(seed);
        let [ann, _bob, cem] = ["ann", "bob", "cem"].map(|name| world.sign_up(name));
        let second = world.log_in("cem");
        world.settle();
        let old = backup(&world);
        second.crash();
        let chat = ann.create_group("meadow", &["bob", "cem"]);
        world.pass(10_000);
        cem.say(chat, "I am in");
        world.pass(10_000);
        ann.remove(chat, "cem").unwrap();
        world.pass(10_000);
        restore(&world, &old);
        world.pass(10_000);
        second.start();
        world.pass(120_000);
        let standings: Vec<_> = second.chats().iter().map(|chat| chat.standing).collect();
        assert!(standings.iter().all(|it| *it == Standing::Removed), "seed {seed}: {standings:?}");
        world.settle();
        world.agree(chat, Mood::Honest);
    }
}

/// A device that logs in after the server has lost a group finds its account's record of it alone.
#[test]
fn audit_issue_7_ql2_a_new_device_looks_for_no_group_that_its_account_has_left() {
    for seed in 0..8 {
        let (world, [ann, _bob, cem], before) = before_the_meadow(seed, ["ann", "bob", "cem"]);
        let chat = ann.create_group("meadow", &["bob", "cem"]);
        world.settle();
        let with_group = backup(&world);
        cem.leave(chat).unwrap();
        world.pass(10_000);
        restore(&world, if seed & 2 == 0 { &before } else { &with_group });
        if seed & 4 == 0 {
            world.pass(10_000);
        }
        let new = world.log_in("cem");
        world.pass(120_000);
        let standings: Vec<_> = new.chats().iter().map(|chat| chat.standing).collect();
        let is_out = |it: &Standing| matches!(it, Standing::Left | Standing::Removed);
        assert!(standings.iter().all(is_out), "seed {seed}: {standings:?}");
        world.settle();
        world.agree(chat, Mood::Honest);
    }
}

/// Who was off begins the group again, from before somebody was removed, and leaves it before those
/// come who know of that.
#[test]
fn audit_issue_7_ql3_a_leave_while_a_lost_group_is_built_again_reaches_all() {
    for seed in (0..24).chain([37, 47, 70, 95, 159]) {
        let (world, [dia, bob, cem], before) = before_the_meadow(seed, ["dia", "bob", "cem"]);
        let chat = dia.create_group("meadow", &["bob", "cem"]);
        world.settle();
        let second = world.log_in("cem");
        world.settle();
        let other = world.log_in("bob");
        world.settle();
        cem.say(chat, "hello");
        world.settle();
        bob.crash();
        cem.crash();
        dia.remove(chat, "bob").unwrap();
        world.pass(3_000);
        cem.start();
        world.pass(3_000);
        let all = [&bob, &cem, &second, &dia, &other];
        all.iter().skip(1).for_each(|device| device.crash());
        restore(&world, &before);
        for device in all {
            device.start();
            world.pass(300 + 100 * (seed % 8));
        }
        let left = cem.leave(chat);
        world.pass(90_000);
        world.settle();
        let standings = all.map(|device| standing(device, chat));
        assert_eq!(dia.info(chat).unwrap().members.len(), 1, "seed {seed}: {left:?} {standings:?}");
    }
}

/// Who was off when he was removed begins the group again, and somebody comes in there before those
/// come who know where it goes on.
#[test]
fn audit_issue_7_ql1_who_is_no_longer_alone_in_a_log_that_is_given_up_hears_of_the_removal() {
    for seed in (0..8).chain([25, 57, 58]) {
        let (world, [dia, bob, cem], before) = before_the_meadow(seed, ["dia", "bob", "cem"]);
        let second = world.log_in("cem");
        world.settle();
        let chat = dia.create_group("meadow", &["bob", "cem"]);
        world.settle();
        cem.say(chat, "hello");
        world.settle();
        bob.crash();
        dia.remove(chat, "bob").unwrap();
        world.pass(5000);
        [&dia, &cem, &second].iter().for_each(|device| device.crash());
        restore(&world, &before);
        bob.start();
        world.pass(1000 + 200 * (seed % 8));
        cem.start();
        world.pass(300 + 200 * (seed / 8 % 4));
        second.start();
        world.pass(1500 + 250 * (seed % 3));
        dia.start();
        world.pass(120_000);
        assert_eq!(standing(&bob, chat), Standing::Removed, "seed {seed}");
        world.settle();
        world.agree(chat, Mood::Honest);
    }
}

#[test]
fn audit_issue_7_gh3_who_came_and_went_in_the_lost_part_waits_for_nothing() {
    for seed in 0..6 {
        let world = World::new(seed);
        let [ann, bob, cem] = ["ann", "bob", "cem"].map(|name| world.sign_up(name));
        let chat = ann.create_group("meadow", &["bob"]);
        world.settle();
        let old = backup(&world);
        ann.add(chat, "cem").unwrap();
        world.settle();
        cem.say(chat, "I am in");
        world.settle();
        cem.crash();
        ann.remove(chat, "cem").unwrap();
        world.pass(10_000);
        restore(&world, &old);
        world.pass(6_000);
        cem.start();
        world.pass(120_000);
        world.settle();
        bob.say(chat, "without cem");
        world.settle();
        assert_eq!(standing(&cem, chat), Standing::Removed, "seed {seed}");
        world.agree(chat, Mood::Honest);
    }
}

/// Says to a person's devices that they are out of the group that the log of this seed carried.
fn say_out(mal: &Mal, name: &str, seed: &Seed) {
    let mut chance = Chance::new(1, name);
    for device in mal.claim(name) {
        let package = device.package();
        let (position, entry) = OPENING;
        let notice = Notice { seed: seed.clone(), position, entry, running: None };
        let to = (&package.reference(), &package.init_key);
        let notice = notice.seal(to, (&mal.device_key, &mal.certificate), chance.rng()).unwrap();
        mal.open(Deposit {
            inbox: (*device.inbox().as_bytes()).into(),
            package: PackageId::of(&package.to_bytes()),
            notice,
            admission: Vec::new(),
        });
    }
}

#[test]
fn audit_issue_7_gh2_only_who_may_remove_is_believed_and_only_after_a_loss() {
    for seed in 0..6 {
        let (world, [ann, bob], mut mal, chat) = meadow_with_mal(seed);
        world.pass(5_000);
        let seat = mal.sit();
        if seed % 3 != 0 {
            ann.set_role(chat, "mal", Role::Admin).unwrap();
            world.pass(5_000);
        }
        if seed % 3 != 1 {
            let mut gone = backup(&world);
            gone.logs.clear();
            ann.set_cut(true);
            restore(&world, &gone);
            world.pass(10_000);
        }
        say_out(&mal, "bob", &seat.seed);
        bob.restart();
        world.pass(60_000);
        let expected = if seed % 3 == 2 { Standing::Removed } else { Standing::Member };
        assert_eq!(standing(&bob, chat), expected, "seed {seed}");
    }
}
