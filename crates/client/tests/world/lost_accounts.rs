//! A server that loses the last hour of the account plane (D3): key packages, sign-ups, records.

use corncrake::{Client, Connection, ConversationId, Standing};

use crate::{
    check::Mood,
    device::Device,
    devices::id,
    flows::texts,
    lost_entries::{backup, chat_of_two, meadow, restore, sorted},
    server::Server,
    world::World,
};

pub(crate) fn connection(device: &Device) -> Connection {
    device.call("connection", async move |client: Client| client.connection().await).unwrap()
}

#[test]
fn audit_srv_a10_d3_newcomers_after_a_loss_are_read_by_who_was_offline() {
    for seed in 0..4 {
        let world = World::new(2 * seed + 1);
        let ann = world.sign_up("ann");
        let early = ["bob", "cem"].map(|name| world.sign_up(name));
        let late = ["dan", "eva"].map(|name| world.sign_up(name));
        world.settle();
        let old = backup(&world);
        for other in &early {
            let chat = other.start_chat(&["ann"]);
            other.say(chat, "before the loss");
            world.settle();
            assert_eq!(texts(&ann, chat), ["before the loss"]);
        }
        ann.crash();
        restore(&world, &old);
        let chats = late.each_ref().map(|other| {
            let chat = other.start_chat(&["ann"]);
            other.say(chat, "after the loss");
            chat
        });
        world.pass(60_000);
        for other in &late {
            other.set_cut(true);
        }
        ann.start();
        world.pass(60_000);
        for chat in chats {
            assert_eq!(texts(&ann, chat), ["after the loss"], "seed {seed}");
            world.agree(chat, Mood::Honest);
        }
    }
}

/// Cem, who signs up after a backup and logs in at a second device, and whom he talks to.
struct Newcomer {
    world: World,
    old: Server,
    friends: [Device; 2],
    devices: [Device; 2],
    direct: ConversationId,
    group: ConversationId,
}

fn newcomer(seed: u64) -> Newcomer {
    let world = World::new(seed);
    let friends = ["ann", "bob"].map(|name| world.sign_up(name));
    world.settle();
    let old = backup(&world);
    let cem = world.sign_up("cem");
    let direct = cem.start_chat(&["ann"]);
    let group = friends[1].create_group("meadow", &["ann", "cem"]);
    world.settle();
    let second = world.log_in("cem");
    world.settle();
    Newcomer { world, old, friends, devices: [cem, second], direct, group }
}

#[test]
fn audit_srv_a10_d3_who_signed_up_after_the_backup_signs_up_again() {
    for seed in 0..6 {
        let Newcomer { world, old, friends: [ann, bob], devices: [cem, second], direct, group } =
            newcomer(seed);
        cem.say(direct, "lost");
        cem.say(group, "lost");
        world.settle();
        let offline = seed % 3;
        if offline == 1 {
            cem.crash();
        }
        restore(&world, &old);
        ann.say(direct, "new");
        bob.say(group, "new");
        world.pass(120_000);
        if offline == 1 {
            cem.start();
        }
        world.settle();
        for device in [&cem, &second] {
            assert_eq!(connection(device), Connection::Online, "seed {seed}, {}", device.label());
        }
        for (device, chat) in [(&ann, direct), (&second, direct), (&bob, group), (&second, group)] {
            assert_eq!(sorted(device, chat), ["lost", "new"], "seed {seed}, {}", device.label());
        }
        world.log_in("cem");
        second.say(direct, "from the second");
        world.settle();
        assert!(texts(&ann, direct).contains(&"from the second".to_owned()), "seed {seed}");
        // Others find cem by name again.
        let third = bob.start_chat(&["cem"]);
        bob.say(third, "here you are");
        world.settle();
        assert_eq!(texts(&cem, third), ["here you are"]);
        for chat in [direct, group, third] {
            world.agree(chat, Mood::Honest);
        }
    }
}

#[test]
fn audit_srv_a10_d3_a_name_that_was_lost_and_taken_is_told() {
    for seed in 0..4 {
        let world = World::new(seed);
        world.sign_up("ann");
        world.settle();
        let old = backup(&world);
        let cem = world.sign_up("cem");
        world.settle();
        cem.crash();
        restore(&world, &old);
        let other = world.sign_up("cem");
        cem.start();
        world.pass(120_000);
        assert_eq!(connection(&cem), Connection::NameTaken, "seed {seed}");
        assert_eq!(connection(&other), Connection::Online);
    }
}

#[test]
fn audit_srv_a10_d3_who_logs_in_after_a_loss_is_not_taken_for_a_stranger() {
    for seed in 0..6 {
        let (world, [ann, bob], chat) = meadow(seed, ["ann", "bob"]);
        world.settle();
        let old = backup(&world);
        let gone = world.log_in("ann");
        world.settle();
        bob.start_chat(&["ann"]);
        world.settle();
        gone.lose();
        restore(&world, &old);
        // Its record has the version of the one that the server lost, which Ann and Bob have seen.
        let new = world.log_in("ann");
        world.pass(60_000);
        assert_eq!(new.info(chat).unwrap().standing, Standing::Member, "seed {seed}");
        new.say(chat, "from the new one");
        let other = bob.create_group("field", &["ann"]);
        world.settle();
        for device in [&ann, &bob] {
            assert!(texts(device, chat).contains(&"from the new one".to_owned()), "seed {seed}");
        }
        assert_eq!(new.info(other).unwrap().standing, Standing::Member, "seed {seed}");
        assert_eq!(connection(&new), Connection::Online, "seed {seed}");
    }
}

#[test]
fn audit_srv_a10_d3_a_device_gives_back_what_another_one_had_signed() {
    for seed in 0..6 {
        let (world, [ann, bob], chat) = meadow(seed, ["ann", "bob"]);
        world.settle();
        let old = backup(&world);
        let second = world.log_in("ann");
        world.settle();
        let is_gone = seed % 2 == 0;
        if is_gone {
            ann.remove_device(id(&second)).unwrap();
            world.settle();
            second.lose();
        } else {
            second.crash();
        }
        // Ann's first device has signed none of the records but the last, if any.
        restore(&world, &old);
        world.pass(5_000);
        let devices = async move |client: Client| client.devices().await.map(|list| list.len());
        let expected = if is_gone { 1 } else { 2 };
        assert_eq!(ann.call("devices", devices).unwrap(), expected, "seed {seed}");
        let third = world.log_in("ann");
        if !is_gone {
            second.start();
        }
        world.settle();
        third.say(chat, "from the third one");
        bob.say(chat, "to all three");
        world.settle();
        let others = (!is_gone).then_some(&second);
        for device in [&ann, &third].into_iter().chain(others) {
            assert_eq!(connection(device), Connection::Online, "seed {seed}, {}", device.label());
            let heard = sorted(device, chat);
            assert_eq!(heard, ["from the third one", "to all three"], "seed {seed}");
        }
        assert_eq!(ann.call("devices", devices).unwrap(), expected + 1, "seed {seed}");
        world.agree(chat, Mood::Honest);
    }
}

#[test]
fn audit_srv_a10_d3_a_removal_outlives_a_log_in_after_the_loss() {
    for seed in 0..6 {
        let (world, [ann, bob], chat) = meadow(seed, ["ann", "bob"]);
        world.settle();
        let gone = world.log_in("ann");
        world.settle();
        let old = backup(&world);
        ann.remove_device(id(&gone)).unwrap();
        world.settle();
        gone.lose();
        // Nobody who knows of the removal is there when somebody logs in.
        ann.set_cut(true);
        restore(&world, &old);
        let new = world.log_in("ann");
        world.pass(60_000);
        bob.start_chat(&["ann"]);
        world.pass(60_000);
        ann.set_cut(false);
        world.pass(120_000);
        let devices = async move |client: Client| client.devices().await.map(|list| list.len());
        assert_eq!(ann.call("devices", devices).unwrap(), 1, "seed {seed}");
        // That log-in has to be made again, and the device says so.
        assert_eq!(connection(&new), Connection::SignedOut, "seed {seed}");
        let again = world.log_in("ann");
        world.settle();
        again.say(chat, "from the new one");
        bob.say(chat, "to both");
        world.settle();
        for device in [&ann, &again, &bob] {
            let heard = sorted(device, chat);
            assert_eq!(heard, ["from the new one", "to both"], "seed {seed}, {}", device.label());
        }
        assert_eq!(ann.call("devices", devices).unwrap(), 2, "seed {seed}");
    }
}

#[test]
fn audit_srv_a10_d3_a_sign_up_is_kept_for_thirty_days() {
    for (days, expected) in [(29, Connection::Online), (31, Connection::SignedOut)] {
        let world = World::new(1);
        let old = backup(&world);
        let cem = world.sign_up("cem");
        world.settle();
        cem.crash();
        world.pass(days * 24 * 3_600_000);
        restore(&world, &old);
        cem.start();
        world.pass(120_000);
        assert_eq!(connection(&cem), expected, "after {days} days");
    }
}

#[test]
fn audit_srv_a10_d3_devices_that_came_or_went_after_the_backup_come_and_go_again() {
    for seed in 0..6 {
        let (world, [ann, bob], chat) = chat_of_two(seed);
        let lost = world.log_in("ann");
        world.settle();
        let old = backup(&world);
        let new = world.log_in("ann");
        world.settle();
        ann.remove_device(id(&lost)).unwrap();
        world.settle();
        lost.crash();
        restore(&world, &old);
        world.pass(60_000);
        lost.start();
        world.pass(600_000);
        bob.say(chat, "who hears this?");
        new.say(chat, "I do");
        world.settle();
        assert_eq!(connection(&lost), Connection::SignedOut, "seed {seed}");
        assert_eq!(lost.info(chat).unwrap().standing, Standing::Removed, "seed {seed}");
        for device in [&ann, &new] {
            assert_eq!(connection(device), Connection::Online, "seed {seed}, {}", device.label());
            assert_eq!(sorted(device, chat), ["I do", "who hears this?"], "seed {seed}");
        }
        world.agree(chat, Mood::Honest);
    }
}

/// A server whose files were put back as they were has forgotten which packages it had handed out,
/// and a device that has lost nothing else doesn't notice.
#[test]
fn audit_issue_7_who_is_added_by_a_package_that_the_server_forgot_hears_of_it() {
    for ends in [false, true] {
        let (world, [ann, bob, cem], chat) = meadow(2, ["ann", "bob", "cem"]);
        world.settle();
        cem.crash();
        ann.remove(chat, "bob").unwrap();
        world.pass(10_000);
        let old = backup(&world);
        // Somebody claims all that bob has there, and he brings more.
        let key = corncrake_wire::DeviceId(*id(&bob).as_bytes());
        world.server().borrow_mut().devices.get_mut(&key).unwrap().packages.clear();
        bob.restart();
        world.pass(10_000);
        ann.add(chat, "bob").unwrap();
        restore(&world, &old);
        world.pass(30_000);
        assert_eq!(ann.info(chat).unwrap().adding.len(), 1);
        cem.start();
        world.until("bob is added", || ann.info(chat).unwrap().members.len() == 3);
        if ends {
            ann.restart();
        }
        world.pass(30_000);
        assert_eq!(bob.info(chat).unwrap().standing, Standing::Member, "{ends}");
        ann.say(chat, "welcome back");
        world.settle();
        assert_eq!(texts(&bob, chat), ["welcome back"], "{ends}");
    }
}

/// An add that is made again claims the packages of a device that is removed in the same moment.
#[test]
fn audit_issue_7_d3_whose_device_is_removed_while_a_lost_add_is_made_again_comes_in() {
    for seed in 0..12 {
        let (world, [ann, bob, cem, old], chat) = meadow(seed, ["ann", "bob", "cem", "dan"]);
        world.settle();
        ann.set_role(chat, "bob", corncrake::Role::Owner).unwrap();
        world.settle();
        let (inside, old_id) = (backup(&world), id(&old));
        bob.remove(chat, "dan").unwrap();
        world.settle();
        let outside = backup(&world);
        ann.crash();
        bob.add(chat, "dan").unwrap();
        world.pass(1_000 + 200 * seed);
        restore(&world, &inside);
        world.pass(if seed % 2 == 0 { 4_000 } else { 10_000 });
        let dan = world.log_in("dan");
        if seed % 3 == 0 {
            world.pass(3_000);
        }
        restore(&world, &outside);
        world.pass(300 * (seed % 5));
        // Until the server has this device again it refuses.
        world.until("the device is removed", || dan.remove_device(old_id).is_ok());
        old.lose();
        ann.start();
        world.pass(120_000);
        world.settle();
        assert_eq!(dan.info(chat).unwrap().standing, Standing::Member, "seed {seed}");
        for device in [&ann, &bob, &cem, &dan] {
            let members = device.info(chat).unwrap().members;
            assert!(members.iter().all(|member| member.devices == 1), "seed {seed}: {members:?}");
            device.say(chat, device.label());
        }
        world.settle();
        for device in [&ann, &bob, &cem, &dan] {
            let heard = sorted(device, chat);
            assert_eq!(heard, ["ann.1", "bob.1", "cem.1", "dan.2"], "seed {seed}");
        }
    }
}

/// A peer folds a chat anew that the server has lost a part of, and meets a device that it hasn't
/// heard of.
#[test]
fn audit_issue_7_d3_a_device_that_is_met_after_a_loss_is_named() {
    for seed in 0..8 {
        let (world, [ann, bob], chat) = chat_of_two(seed);
        world.settle();
        let old = backup(&world);
        let first = world.log_in("ann");
        world.settle();
        bob.set_cut(true);
        restore(&world, &old);
        // The record that names the first one is back before the next is signed.
        world.pass(1_000);
        let second = world.log_in("ann");
        world.pass(60_000);
        let has_left = seed % 4 > 1;
        if has_left {
            // It comes back when the peer has looked for its record in vain.
            restore(&world, &old);
            [&ann, &first, &second].into_iter().for_each(Device::crash);
        }
        bob.set_cut(false);
        world.pass(30_000);
        if has_left {
            bob.crash();
            [&second, &first, &ann].into_iter().for_each(Device::start);
            world.pass(60_000);
            bob.start();
        }
        world.pass(10 * 60_000);
        world.settle();
        for device in [&ann, &first, &second] {
            assert_eq!(connection(device), Connection::Online, "seed {seed}, {}", device.label());
        }
        let members = bob.info(chat).unwrap().members;
        let anns = members.iter().find(|member| !member.is_me).unwrap();
        assert_eq!((anns.devices, anns.unnamed), (3, 0), "seed {seed}");
        world.agree(chat, Mood::Honest);
    }
}

/// Whoever comes first of an account that is newer than the backup signs it up again.
#[test]
fn audit_issue_7_d3_any_device_brings_back_an_account_that_was_lost() {
    for seed in 0..8 {
        let Newcomer { world, old, friends: [ann, bob], devices: [cem, second], direct, group } =
            newcomer(seed);
        let (mut here, mut comes) = (second, None);
        match seed % 4 {
            0 => {
                here.remove_device(id(&cem)).unwrap();
                world.pass(10_000);
                cem.lose();
            }
            1 => {
                cem.crash();
                comes = Some(cem);
            }
            2 => cem.lose(),
            // Neither the one that signed up nor the one that removed it is there.
            _ => {
                let third = world.log_in("cem");
                world.settle();
                here.remove_device(id(&cem)).unwrap();
                world.pass(10_000);
                cem.lose();
                here.lose();
                here = third;
            }
        }
        restore(&world, &old);
        ann.say(direct, "new");
        bob.say(group, "new");
        world.pass(120_000);
        assert_eq!(connection(&here), Connection::Online, "seed {seed}");
        let named = async move |client: Client| client.devices().await.map(|list| list.len());
        let expected = if seed % 4 == 0 { 1 } else { 2 };
        assert_eq!(here.call("devices", named).unwrap(), expected, "seed {seed}");
        let last = world.log_in("cem");
        world.settle();
        if let Some(cem) = &comes {
            if !cem.runs() {
                cem.start();
            }
            world.settle();
        }
        last.say(direct, "from the last");
        here.say(group, "from the one that was there");
        world.settle();
        for device in [&here, &last].into_iter().chain(&comes) {
            let label = device.label();
            assert_eq!(connection(device), Connection::Online, "seed {seed}, {label}");
            assert_eq!(texts(device, direct), ["new", "from the last"], "seed {seed}, {label}");
            let heard = sorted(device, group);
            assert_eq!(heard, ["from the one that was there", "new"], "seed {seed}, {label}");
        }
        for chat in [direct, group] {
            world.agree(chat, Mood::Honest);
        }
    }
}

/// The first device was removed, and comes before those that know of it.
#[test]
fn audit_issue_7_d3_a_removed_device_that_signs_its_account_up_again_is_out_all_the_same() {
    for seed in 0..6 {
        let world = World::new(seed);
        let ann = world.sign_up("ann");
        world.settle();
        let old = backup(&world);
        let cem = world.sign_up("cem");
        let chat = cem.start_chat(&["ann"]);
        world.settle();
        let second = world.log_in("cem");
        world.settle();
        cem.set_cut(true);
        second.remove_device(id(&cem)).unwrap();
        world.pass(10_000);
        second.set_cut(true);
        restore(&world, &old);
        cem.set_cut(false);
        world.pass(60_000);
        second.set_cut(false);
        world.pass(120_000);
        // Who is told by nobody hears it from the server.
        cem.set_cut(true);
        cem.set_cut(false);
        world.pass(60_000);
        assert_eq!(connection(&cem), Connection::SignedOut, "seed {seed}");
        assert_eq!(connection(&second), Connection::Online, "seed {seed}");
        let third = world.log_in("cem");
        world.settle();
        ann.say(chat, "to both");
        third.say(chat, "from the third");
        world.settle();
        for device in [&ann, &second, &third] {
            let heard = sorted(device, chat);
            assert_eq!(heard, ["from the third", "to both"], "seed {seed}, {}", device.label());
        }
        assert!(texts(&cem, chat).is_empty(), "seed {seed}");
        world.agree(chat, Mood::Honest);
    }
}

#[test]
fn audit_issue_7_d3_every_device_of_an_account_whose_name_is_taken_is_told() {
    for seed in 0..4 {
        let world = World::new(seed);
        world.sign_up("ann");
        world.settle();
        let old = backup(&world);
        let cem = world.sign_up("cem");
        world.settle();
        let second = world.log_in("cem");
        world.settle();
        cem.lose();
        second.crash();
        restore(&world, &old);
        let other = world.sign_up("cem");
        second.start();
        world.pass(120_000);
        assert_eq!(connection(&second), Connection::NameTaken, "seed {seed}");
        assert_eq!(connection(&other), Connection::Online, "seed {seed}");
    }
}
