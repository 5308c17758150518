//! A server that loses changes of a group (D3): who remembers them makes them again, or says that
//! somebody else has to.

use corncrake::{Chat, Client, ConversationId, ItemKind, Role, Standing};
use corncrake_core::conversation::Change;

use crate::{
    check::Mood,
    device::Device,
    flows::texts,
    lost_entries::{backup, meadow, meadow_with_mal, restore, tells_of_the_loss},
    world::World,
};

const HOUR: u64 = 3_600_000;

fn tells(device: &Device, chat: ConversationId, of: &ItemKind) -> usize {
    device.history(chat).iter().filter(|item| item.what == *of).count()
}

#[test]
fn audit_srv_a10_d3_members_who_may_not_remove_show_a_lost_removal_and_seal_nothing() {
    for seed in 0..4 {
        let (world, [ann, bob], mut mal, chat) = meadow_with_mal(seed);
        world.settle();
        ann.say(chat, "kept");
        world.settle();
        let mut seat = mal.sit();
        seat.read(&mal);
        let old = backup(&world);
        ann.remove(chat, "mal").unwrap();
        world.settle();
        ann.set_cut(true);
        bob.set_cut(true);
        restore(&world, &old);
        seat.commit(&mut mal, Change::fresh_path());
        bob.set_cut(false);
        bob.say(chat, "a secret of bob");
        world.pass(HOUR);
        // Bob may not remove: he says so once, and seals nothing.
        let lost = ItemKind::RemovalLost { who: vec![mal.account] };
        let needed = ItemKind::NewGroupNeeded { without: vec![mal.account] };
        let info = bob.info(chat).unwrap();
        assert_eq!((info.lost_removals, info.needs_new_group), (vec![mal.account], false));
        if seed % 2 == 0 {
            bob.restart();
        }
        world.pass(22 * HOUR);
        assert_eq!((tells(&bob, chat, &lost), tells(&bob, chat, &needed)), (1, 0), "seed {seed}");
        world.pass(2 * HOUR);
        assert_eq!((tells(&bob, chat, &lost), tells(&bob, chat, &needed)), (1, 1), "seed {seed}");
        assert!(bob.info(chat).unwrap().needs_new_group);
        seat.read(&mal);
        assert_eq!(seat.heard, ["kept"], "seed {seed}: the removed one reads on");
        // Ann, who may, comes back.
        ann.set_cut(false);
        world.settle();
        seat.read(&mal);
        assert_eq!(seat.heard, ["kept"], "seed {seed}: the removed one reads on");
        let info = bob.info(chat).unwrap();
        assert_eq!((info.lost_removals, info.needs_new_group), (Vec::new(), false));
        for device in [&ann, &bob] {
            let members = device.info(chat).unwrap().members;
            assert!(members.iter().all(|member| member.account != mal.account));
            assert!(texts(device, chat).contains(&"a secret of bob".to_owned()), "seed {seed}");
        }
        world.agree(chat, Mood::Attacked);
    }
}

#[test]
fn audit_srv_a10_d3_a_new_device_is_told_of_a_removal_that_was_lost() {
    for seed in 0..6 {
        let (world, [ann, bob], mut mal, chat) = meadow_with_mal(seed);
        world.settle();
        let mut seat = mal.sit();
        seat.read(&mal);
        let old = backup(&world);
        ann.remove(chat, "mal").unwrap();
        world.settle();
        ann.set_cut(true);
        restore(&world, &old);
        world.pass(60_000);
        assert_eq!(bob.info(chat).unwrap().lost_removals, [mal.account]);
        if seed % 2 == 0 {
            // Nobody who remembers it is there any more.
            bob.set_cut(true);
        }
        let second = world.log_in("bob");
        world.pass(60_000);
        second.say(chat, "a secret of the new device");
        world.pass(HOUR);
        seat.read(&mal);
        assert_eq!(seat.heard, Vec::<String>::new(), "seed {seed}: the removed one reads on");
        assert_eq!(second.info(chat).unwrap().lost_removals, [mal.account], "seed {seed}");
        // Once the removal is made again it is over, also for devices to come.
        ann.set_cut(false);
        bob.set_cut(false);
        world.settle();
        let third = world.log_in("bob");
        world.settle();
        ann.add(chat, "mal").unwrap();
        third.say(chat, "to everybody");
        world.settle();
        seat.read(&mal);
        assert_eq!(seat.heard, Vec::<String>::new(), "seed {seed}: the removed one reads on");
        for device in [&ann, &bob, &second, &third] {
            assert!(device.info(chat).unwrap().lost_removals.is_empty(), "seed {seed}");
            let heard = texts(device, chat);
            assert!(heard.contains(&"to everybody".to_owned()), "seed {seed}, {}", device.label());
        }
        for device in [&ann, &bob, &second] {
            let heard = texts(device, chat);
            assert!(heard.contains(&"a secret of the new device".to_owned()), "seed {seed}");
        }
        world.agree(chat, Mood::Attacked);
    }
}

#[test]
fn d3_who_waits_for_a_removal_can_leave() {
    for seed in 0..2 {
        let (world, [ann, bob], mut mal, chat) = meadow_with_mal(seed);
        world.settle();
        let mut seat = mal.sit();
        seat.read(&mal);
        let old = backup(&world);
        ann.remove(chat, "mal").unwrap();
        world.settle();
        ann.set_cut(true);
        bob.set_cut(true);
        restore(&world, &old);
        seat.commit(&mut mal, Change::fresh_path());
        bob.set_cut(false);
        world.pass(HOUR);
        assert_eq!(bob.info(chat).unwrap().lost_removals, [mal.account]);
        bob.leave(chat).unwrap();
        assert_eq!(bob.info(chat).unwrap().standing, Standing::Left);
    }
}

#[test]
fn audit_srv_a10_d3_authors_restore_titles_and_roles_that_were_lost() {
    for seed in 0..6 {
        let (world, [ann, bob, cem], chat) = meadow(seed, ["ann", "bob", "cem"]);
        world.settle();
        let old = backup(&world);
        cem.set_cut(true);
        ann.rename(chat, "a passing name").unwrap();
        ann.set_role(chat, "bob", Role::Admin).unwrap();
        world.settle();
        // The newest title is Bob's: Ann doesn't restore her own.
        bob.rename(chat, "field").unwrap();
        world.settle();
        ann.set_cut(true);
        bob.set_cut(true);
        restore(&world, &old);
        cem.set_cut(false);
        world.log_in("cem");
        world.pass(120_000);
        // Bob may rename as soon as he is an admin again, whoever comes first.
        for device in if seed % 2 == 0 { [&bob, &ann] } else { [&ann, &bob] } {
            device.set_cut(false);
            world.pass(120_000);
        }
        world.settle();
        for device in [&ann, &bob, &cem] {
            let info = device.info(chat).unwrap();
            let role = device.role_of(chat, "bob");
            assert_eq!(role, Some(Role::Admin), "seed {seed}, {}", device.label());
            assert_eq!(info.title, "field", "seed {seed}, {}", device.label());
        }
        let named = |title: &str| ItemKind::Renamed {
            by: ann.call("account", async move |client: Client| client.account().await).unwrap().id,
            title: title.to_owned(),
        };
        assert_eq!(tells(&ann, chat, &named("a passing name")), 1, "seed {seed}: made once");
        assert!(tells_of_the_loss(&bob, chat));
        world.agree(chat, Mood::Honest);
    }
}

/// Others give a title and a role again whose author was removed in the lost part as well.
#[test]
fn audit_srv_a10_f4_what_was_given_by_who_is_gone_is_given_again() {
    for seed in 0..4 {
        let (world, [ann, bob, cem, eve], chat) = meadow(seed, ["ann", "bob", "cem", "eve"]);
        world.settle();
        ann.set_role(chat, "bob", Role::Owner).unwrap();
        ann.set_role(chat, "cem", Role::Admin).unwrap();
        world.settle();
        let old = backup(&world);
        bob.rename(chat, "field").unwrap();
        bob.set_role(chat, "cem", Role::Member).unwrap();
        bob.set_role(chat, "eve", Role::Admin).unwrap();
        world.settle();
        ann.remove(chat, "bob").unwrap();
        world.settle();
        bob.crash();
        restore(&world, &old);
        world.pass(120_000);
        if seed & 2 == 0 {
            bob.start();
        }
        world.pass(60_000);
        for device in [&ann, &cem, &eve] {
            let info = device.info(chat).unwrap();
            let roles = ["bob", "cem", "eve"].map(|name| device.role_of(chat, name));
            assert_eq!(
                (info.title.as_str(), roles),
                ("field", [None, Some(Role::Member), Some(Role::Admin)]),
                "seed {seed}, {}",
                device.label()
            );
        }
        world.agree(chat, Mood::Honest);
    }
}

#[test]
fn audit_srv_a10_d3_a_device_whose_revocation_is_lost_is_revoked_again() {
    for seed in 0..4 {
        let (world, [ann, bob], chat) = meadow(seed, ["ann", "bob"]);
        world.settle();
        let second = world.log_in("ann");
        world.settle();
        let account = second.call("account", async move |client: Client| client.account().await);
        let account = account.unwrap();
        let old = backup(&world);
        let device = account.device;
        let revoke = async move |chat: Chat| chat.revoke_device(device).await;
        ann.call_in(chat, "revoke the second device", revoke).unwrap();
        world.settle();
        second.lose();
        ann.set_cut(true);
        bob.set_cut(true);
        restore(&world, &old);
        // Somebody who knows nothing of it commits first.
        let third = world.log_in("bob");
        world.pass(120_000);
        bob.set_cut(false);
        bob.say(chat, "a secret of bob");
        world.pass(HOUR);
        assert_eq!(bob.info(chat).unwrap().lost_removals, [account.id], "seed {seed}");
        assert!(!texts(&third, chat).contains(&"a secret of bob".to_owned()), "seed {seed}");
        ann.set_cut(false);
        world.settle();
        for device in [&ann, &bob, &third] {
            assert!(texts(device, chat).contains(&"a secret of bob".to_owned()), "seed {seed}");
            let members = device.info(chat).unwrap().members;
            let hers = members.iter().find(|member| member.account == account.id).unwrap();
            assert_eq!(hers.devices, 1, "seed {seed}, {}", device.label());
        }
        assert!(bob.info(chat).unwrap().lost_removals.is_empty());
        world.agree(chat, Mood::Honest);
    }
}

#[test]
fn audit_srv_a10_d3_what_was_lost_is_not_said_again_to_who_came_in_since() {
    for seed in 0..8 {
        let (world, [ann, bob, cem], chat) = meadow(seed, ["ann", "bob", "cem"]);
        let dan = world.sign_up("dan");
        ann.set_role(chat, "cem", Role::Admin).unwrap();
        world.settle();
        let old = backup(&world);
        let was_in = seed % 2 == 0;
        if was_in {
            ann.add(chat, "dan").unwrap();
            world.settle();
            ann.remove(chat, "dan").unwrap();
            world.settle();
        }
        cem.set_cut(true);
        ann.say(chat, "a secret of the three");
        world.pass(60_000);
        assert!(texts(&bob, chat).contains(&"a secret of the three".to_owned()));
        ann.set_cut(true);
        restore(&world, &old);
        if seed >= 4 {
            // Nobody comes in: it is said again.
            ann.set_cut(false);
            cem.set_cut(false);
            world.settle();
            assert!(texts(&cem, chat).contains(&"a secret of the three".to_owned()), "{seed}");
            continue;
        }
        cem.set_cut(false);
        world.pass(60_000);
        cem.add(chat, "dan").unwrap();
        world.pass(60_000);
        assert_eq!(dan.info(chat).unwrap().standing, Standing::Member);
        ann.set_cut(false);
        world.settle();
        assert!(!texts(&dan, chat).contains(&"a secret of the three".to_owned()), "seed {seed}");
        let is_told = |item: &corncrake::Item| matches!(item.what, ItemKind::NotRepeated { .. });
        for device in [&ann, &cem] {
            let told = device.history(chat).iter().filter(|item| is_told(item)).count();
            // Whoever was removed before is removed again first, and then it is said again.
            let heard = texts(device, chat).contains(&"a secret of the three".to_owned());
            assert_eq!(
                (told, heard),
                if was_in { (0, true) } else { (1, device.label() == ann.label()) }
            );
        }
        assert!(!bob.history(chat).iter().any(is_told), "seed {seed}: bob has read it");
        world.agree(chat, Mood::Attacked);
    }
}

#[test]
fn audit_srv_a10_d3_who_was_added_and_removed_in_the_lost_part_stays_out() {
    for seed in 0..8 {
        let (world, [ann, bob, cem], chat) = meadow(seed, ["ann", "bob", "cem"]);
        let dan = world.sign_up("dan");
        ann.set_role(chat, "bob", Role::Owner).unwrap();
        world.settle();
        let old = backup(&world);
        ann.add(chat, "dan").unwrap();
        world.settle();
        ann.set_cut(true);
        if seed % 2 == 0 {
            bob.remove(chat, "dan").unwrap();
        } else {
            dan.leave(chat).unwrap();
        }
        world.pass(60_000);
        assert_ne!(dan.info(chat).unwrap().standing, Standing::Member);
        restore(&world, &old);
        world.pass(60_000);
        // Ann, who had added Dan, hasn't heard that he is out.
        ann.set_cut(false);
        world.pass(60_000);
        bob.say(chat, "without dan");
        cem.say(chat, "without him");
        world.settle();
        let heard = texts(&dan, chat);
        assert!(!heard.iter().any(|text| text.starts_with("without")), "seed {seed}: {heard:?}");
        for device in [&ann, &bob, &cem] {
            let heard = texts(device, chat);
            assert!(heard.contains(&"without him".to_owned()), "seed {seed}, {}", device.label());
            assert_eq!(device.info(chat).unwrap().members.len(), 3, "seed {seed}");
        }
        // Whoever knows of it may bring him back.
        ann.add(chat, "dan").unwrap();
        world.settle();
        bob.say(chat, "with dan");
        world.settle();
        assert!(texts(&dan, chat).contains(&"with dan".to_owned()), "seed {seed}");
    }
}

/// Who had been removed and added again by somebody else is removed by hand, as the first of the two
/// was made again after a loss: the second one counts no more.
#[test]
fn audit_srv_a10_d3_who_is_removed_after_a_loss_is_not_added_again_by_somebody_else() {
    for seed in 0..12 {
        let (world, [ann, bob, cem], chat) = meadow(seed, ["ann", "bob", "cem"]);
        world.settle();
        ann.set_role(chat, "bob", Role::Owner).unwrap();
        world.settle();
        let old = backup(&world);
        ann.remove(chat, "cem").unwrap();
        world.settle();
        bob.add(chat, "cem").unwrap();
        world.settle();
        restore(&world, &old);
        world.pass(500 * seed);
        ann.remove(chat, "cem").unwrap();
        for round in 0..3 {
            ann.say(chat, &format!("secret {round}"));
            world.pass(10_000);
        }
        world.settle();
        let heard = texts(&cem, chat);
        assert!(heard.iter().all(|text| !text.starts_with("secret")), "seed {seed}: {heard:?}");
        for device in [&ann, &bob] {
            assert_eq!(device.info(chat).unwrap().members.len(), 2, "seed {seed}");
        }
        world.agree(chat, Mood::Attacked);
    }
}

/// A removal that others had made again is none of the log any more in which its add came after it.
#[test]
fn audit_srv_a10_d3_a_removal_that_was_made_again_ends_with_the_log_that_lacked_it() {
    for seed in 0..24 {
        let (world, [ann, bob, cem], chat) = meadow(seed, ["ann", "bob", "cem"]);
        world.settle();
        ann.set_role(chat, "bob", Role::Owner).unwrap();
        world.settle();
        let before = backup(&world);
        ann.remove(chat, "cem").unwrap();
        world.pass(5000);
        ann.add(chat, "cem").unwrap();
        world.settle();
        let after = backup(&world);
        let is_away = seed % 4 < 3;
        ann.set_cut(is_away);
        restore(&world, &before);
        world.pass(10_000);
        if seed % 4 == 1 {
            restore(&world, &before);
            world.pass(5000);
        }
        ann.set_cut(false);
        world.pass(if is_away { 1000 * seed } else { 12_000 });
        restore(&world, &after);
        world.pass(60_000);
        for device in [&ann, &bob, &cem] {
            let info = device.info(chat).unwrap();
            let is = (info.members.len(), info.standing);
            assert_eq!(is, (3, Standing::Member), "seed {seed}, {}", device.label());
        }
        cem.say(chat, "still here");
        world.settle();
        assert!(texts(&bob, chat).contains(&"still here".to_owned()), "seed {seed}");
        world.agree(chat, Mood::Attacked);
    }
}
/// Who reaches the server first after the restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    Leaver,
    Others,
    /// The others take the leaver out meanwhile.
    Remover,
    /// Another device of the leaver, which has heard of the leave.
    Second,
}

#[test]
fn audit_srv_a10_d3_a_leave_that_nobody_heard_is_made_again() {
    // Only a server under a new name is asked: every other seed.
    let ways = [First::Leaver, First::Others, First::Remover, First::Second];
    for (seed, first) in (0..8).map(|run| 2 * run + 1).zip(ways.into_iter().cycle()) {
        let (world, [ann, bob, dan], chat) = meadow(seed, ["ann", "bob", "dan"]);
        world.settle();
        let second = (first == First::Second).then(|| world.log_in("dan"));
        world.settle();
        ann.say(chat, "kept");
        world.settle();
        let old = backup(&world);
        ann.set_cut(true);
        bob.set_cut(true);
        dan.leave(chat).unwrap();
        world.pass(60_000);
        let own: Vec<&Device> = [&dan].into_iter().chain(&second).collect();
        let lines = |device: &Device| device.history(chat).len();
        let before: Vec<usize> = own.iter().map(|device| lines(device)).collect();
        if seed > 8 {
            own.iter().for_each(|device| device.restart());
        }
        dan.set_cut(first != First::Leaver);
        restore(&world, &old);
        world.pass(60_000);
        ann.set_cut(false);
        bob.set_cut(false);
        if first == First::Others {
            ann.say(chat, "while he is away");
        }
        world.pass(60_000);
        if first == First::Remover {
            ann.remove(chat, "dan").unwrap();
        }
        dan.set_cut(false);
        world.settle();
        for device in [&ann, &bob] {
            let members = device.info(chat).unwrap().members;
            assert_eq!(members.len(), 2, "{first:?}, {seed}, {}", device.label());
        }
        ann.say(chat, "without dan");
        world.settle();
        for (device, before) in own.iter().zip(before) {
            let info = device.info(chat).unwrap();
            assert_eq!((info.standing, info.members.len()), (Standing::Left, 0), "{first:?}");
            assert_eq!(lines(device), before, "{first:?}, {seed}: {:?}", device.history(chat));
        }
        // He may be asked back.
        ann.add(chat, "dan").unwrap();
        bob.say(chat, "with dan");
        world.settle();
        assert!(texts(&dan, chat).contains(&"with dan".to_owned()), "{first:?}, {seed}");
        world.agree(chat, Mood::Attacked);
    }
}

#[test]
fn audit_srv_a10_d3_an_owners_leave_that_nobody_heard_is_made_again() {
    for seed in [1, 3] {
        let (world, [ann, bob], chat) = meadow(seed, ["ann", "bob"]);
        world.settle();
        let old = backup(&world);
        bob.set_cut(true);
        ann.leave(chat).unwrap();
        world.pass(60_000);
        restore(&world, &old);
        world.pass(60_000);
        bob.set_cut(false);
        world.settle();
        let members = bob.info(chat).unwrap().members;
        assert!(members.iter().all(|member| member.is_me), "{seed}: {members:?}");
        assert_eq!(ann.info(chat).unwrap().standing, Standing::Left, "{seed}");
    }
}

/// These people and nobody else are in the group, and the last one hears the first.
fn all_are_in(world: &World, chat: ConversationId, devices: &[&Device]) {
    for device in devices {
        let info = device.info(chat).unwrap();
        let is = (info.members.len(), info.standing);
        let seed = world.seed();
        assert_eq!(is, (devices.len(), Standing::Member), "seed {seed}, {}", device.label());
    }
    devices[0].say(chat, "and now");
    world.settle();
    let heard = texts(devices[devices.len() - 1], chat);
    assert!(heard.contains(&"and now".to_owned()), "seed {}", world.seed());
    world.agree(chat, Mood::Attacked);
}

/// Somebody who was added and is off while the add is made again, with a key package that their
/// device has used, comes in all the same.
#[test]
fn audit_srv_a10_d3_who_is_off_while_they_are_added_again_comes_in() {
    for seed in 0..16 {
        let world = World::new(seed);
        let [ann, bob, cem] = ["ann", "bob", "cem"].map(|name| world.sign_up(name));
        let chat = ann.create_group("meadow", &["bob"]);
        world.settle();
        let old = backup(&world);
        ann.add(chat, "cem").unwrap();
        world.settle();
        cem.say(chat, "here I am");
        ann.say(chat, "so you are");
        world.settle();
        cem.crash();
        restore(&world, &old);
        world.pass(15_000 + 5_000 * (seed % 8));
        cem.start();
        world.pass(60_000);
        all_are_in(&world, chat, &[&ann, &bob, &cem]);
    }
}

/// A backup is restored, and then a newer one, in which somebody was invited while they were off: they
/// have come into the group of the older one meanwhile, and come into this one too.
#[test]
fn audit_srv_a10_d3_who_was_in_the_group_of_an_older_backup_comes_into_that_of_the_newer_one() {
    for seed in 0..16 {
        let world = World::new(seed);
        let [ann, cem] = ["ann", "cem"].map(|name| world.sign_up(name));
        world.settle();
        let old = backup(&world);
        cem.crash();
        let chat = ann.create_group("meadow", &["cem"]);
        world.settle();
        let new = backup(&world);
        restore(&world, &old);
        world.pass(10_000);
        cem.start();
        world.pass(60_000);
        ann.say(chat, "again");
        world.settle();
        restore(&world, &new);
        world.pass(120_000);
        all_are_in(&world, chat, &[&ann, &cem]);
    }
}

/// Somebody was added and has left, and the server has lost both: the add is made again by whom has
/// not heard of the leave, or has, and the leave holds.
#[test]
fn audit_srv_a10_d3_who_has_left_is_not_brought_back_by_a_lost_add() {
    for seed in [1, 3, 5, 7] {
        let has_heard = seed > 4;
        let world = World::new(seed);
        let [ann, bob, cem] = ["ann", "bob", "cem"].map(|name| world.sign_up(name));
        let chat = ann.create_group("meadow", &["bob"]);
        world.settle();
        let old = backup(&world);
        ann.add(chat, "cem").unwrap();
        world.settle();
        cem.say(chat, "here I am");
        world.settle();
        ann.set_cut(!has_heard);
        // Nobody has taken the leaver out yet.
        cem.leave(chat).unwrap();
        world.pass(500);
        restore(&world, &old);
        world.pass(10_000);
        ann.set_cut(false);
        world.pass(120_000);
        ann.say(chat, "without cem");
        world.settle();
        assert!(!texts(&cem, chat).contains(&"without cem".to_owned()), "{seed}");
        assert_eq!(cem.info(chat).unwrap().standing, Standing::Left, "{seed}");
        for device in [&ann, &bob] {
            assert_eq!(device.info(chat).unwrap().members.len(), 2, "{seed}, {}", device.label());
        }
        // He may be asked back; the first add after the loss may be the lost one, as far as he knows.
        if has_heard {
            ann.add(chat, "cem").unwrap();
            world.settle();
            assert_eq!(cem.info(chat).unwrap().standing, Standing::Left, "{seed}");
        }
        ann.add(chat, "cem").unwrap();
        bob.say(chat, "with cem");
        world.settle();
        assert!(texts(&cem, chat).contains(&"with cem".to_owned()), "{seed}");
        world.agree(chat, Mood::Attacked);
    }
}

/// What others have decided since a loss holds against what is made again late.
#[test]
fn audit_srv_a10_d3_a_late_author_undoes_nothing_that_was_decided_since_the_loss() {
    for seed in 0..6 {
        let (world, [ann, bob, dan], chat) = meadow(seed, ["ann", "bob", "dan"]);
        let cem = world.sign_up("cem");
        world.settle();
        ann.set_role(chat, "bob", Role::Owner).unwrap();
        world.settle();
        let old = backup(&world);
        match seed % 3 {
            0 => bob.add(chat, "cem").unwrap(),
            1 => bob.set_role(chat, "dan", Role::Admin).unwrap(),
            _ => bob.rename(chat, "lawn").unwrap(),
        }
        world.settle();
        bob.crash();
        restore(&world, &old);
        world.pass(20_000);
        match seed % 3 {
            0 => {
                ann.add(chat, "cem").unwrap();
                world.pass(20_000);
                ann.remove(chat, "cem").unwrap();
            }
            1 => {
                ann.set_role(chat, "dan", Role::Admin).unwrap();
                world.pass(20_000);
                ann.set_role(chat, "dan", Role::Member).unwrap();
            }
            _ => ann.rename(chat, "field").unwrap(),
        }
        world.pass(20_000);
        bob.start();
        world.pass(120_000);
        ann.say(chat, "and now");
        world.settle();
        let info = ann.info(chat).unwrap();
        let role = info.members.iter().find(|member| member.name.as_deref() == Some("dan"));
        assert_eq!(role.unwrap().role, Role::Member, "{seed}");
        assert_eq!(info.members.len(), 3, "{seed}");
        assert_eq!(info.title, if seed % 3 == 2 { "field" } else { "meadow" }, "{seed}");
        if seed % 3 == 0 {
            assert!(!texts(&cem, chat).contains(&"and now".to_owned()), "{seed}");
        }
        for device in [&bob, &dan] {
            assert!(texts(device, chat).contains(&"and now".to_owned()), "{seed}");
        }
        world.agree(chat, Mood::Attacked);
    }
}
