//! A server that loses the last hour (D3): a backup is restored, with a new instance or with the
//! old one.

use std::collections::BTreeSet;

use corncrake::{ConversationId, ItemKind, Standing};
use corncrake_core::conversation::Change;

use crate::{
    chance::Chance, check::Mood, device::Device, flows::texts, mal::Mal, server::Server,
    world::World,
};

/// People in a world of their own, in a group that the first of them has made.
pub(crate) fn meadow<const N: usize>(
    seed: u64,
    names: [&str; N],
) -> (World, [Device; N], ConversationId) {
    let world = World::new(seed);
    let devices = names.map(|name| world.sign_up(name));
    let chat = devices[0].create_group("meadow", &names[1..]);
    (world, devices, chat)
}

/// Ann, who may remove, bob and mal.
pub(crate) fn meadow_with_mal(seed: u64) -> (World, [Device; 2], Mal, ConversationId) {
    let world = World::new(seed);
    let devices = ["ann", "bob"].map(|name| world.sign_up(name));
    let mal = Mal::sign_up(&world, "mal");
    let chat = devices[0].create_group("meadow", &["bob", "mal"]);
    (world, devices, mal, chat)
}

/// Ann and bob in a chat that she has begun.
pub(crate) fn chat_of_two(seed: u64) -> (World, [Device; 2], ConversationId) {
    let world = World::new(seed);
    let devices = ["ann", "bob"].map(|name| world.sign_up(name));
    let chat = devices[0].start_chat(&["bob"]);
    (world, devices, chat)
}

/// What the server knows now.
pub(crate) fn backup(world: &World) -> Server {
    world.note("— a backup —");
    world.server().borrow().clone()
}

/// Puts a backup back; with a new instance for every other seed.
pub(crate) fn restore(world: &World, backup: &Server) {
    world.note("— the backup is restored —");
    let server = world.server();
    let mut server = server.borrow_mut();
    let instance = server.instance;
    *server = backup.clone();
    server.has_lost = true;
    server.draw_anew(world.seed());
    if world.seed() % 2 == 1 {
        // Another one each time, as a server draws it.
        let seed = instance
            .iter()
            .fold(world.seed(), |seed, byte| seed.wrapping_mul(31) ^ u64::from(*byte));
        server.instance = Chance::new(seed, "restored").bytes();
    }
    server.forget_used_packages();
    drop(server);
    world.network().crash_server();
}

pub(crate) fn tells_of_the_loss(device: &Device, chat: ConversationId) -> bool {
    device.history(chat).iter().any(|item| item.what == ItemKind::ServerLostEntries)
}

/// Each text once, in whatever order.
pub(crate) fn sorted(device: &Device, chat: ConversationId) -> Vec<String> {
    let mut texts = texts(device, chat);
    texts.sort_unstable();
    texts
}

#[test]
fn audit_srv_a10_d3_messages_are_lost_and_said_again() {
    for seed in 0..6 {
        let (world, [ann, bob], chat) = chat_of_two(seed);
        ann.say(chat, "0 kept");
        world.settle();
        bob.say(chat, "1 kept");
        world.settle();
        let old = backup(&world);
        for number in 2..7 {
            let speaker = if number % 2 == 0 { &ann } else { &bob };
            speaker.say(chat, &format!("{number} lost"));
        }
        world.settle();
        // What one sent and the other never got is lost at the server alone.
        bob.set_cut(true);
        ann.say(chat, "7 unheard");
        world.pass(60_000);
        restore(&world, &old);
        bob.set_cut(false);
        let began = world.executor().now();
        ann.say(chat, "8 new");
        world.until("everybody has everything again", || {
            [&ann, &bob].iter().all(|device| {
                let texts = texts(device, chat);
                let once: BTreeSet<_> = texts.iter().collect();
                assert_eq!(once.len(), texts.len(), "also while it is said again: {texts:?}");
                texts.contains(&"8 new".to_owned())
            })
        });
        assert!(world.executor().now() - began < 60_000, "within a minute");
        world.settle();
        for device in [&ann, &bob] {
            let texts = sorted(device, chat);
            assert_eq!(texts.len(), 9, "seed {seed}, {}: {texts:?}", device.label());
            assert!(tells_of_the_loss(device, chat), "seed {seed}, {}", device.label());
        }
        // The log has everything again.
        let newcomer = world.log_in("ann");
        world.settle();
        newcomer.say(chat, "9 from a new device");
        world.agree(chat, Mood::Honest);
    }
}

#[test]
fn d3_a_log_is_refilled_before_a_client_returns() {
    for seed in 0..6 {
        let (world, [ann, bob, cem], chat) = meadow(seed, ["ann", "bob", "cem"]);
        world.settle();
        let old = backup(&world);
        for number in 0..3 {
            cem.say(chat, &format!("{number} lost by cem"));
        }
        world.settle();
        cem.crash();
        restore(&world, &old);
        for number in 3..9 {
            ann.say(chat, &format!("{number} refilled"));
        }
        world.pass(120_000);
        cem.start();
        world.settle();
        for device in [&ann, &bob, &cem] {
            let texts = sorted(device, chat);
            assert_eq!(texts.len(), 9, "seed {seed}, {}: {texts:?}", device.label());
        }
        assert!(tells_of_the_loss(&cem, chat));
        world.agree(chat, Mood::Honest);
    }
}

#[test]
fn d3_a_commit_is_lost_and_a_laggard_commits_first() {
    for seed in 0..6 {
        let (world, [ann, bob, cem], chat) = meadow(seed, ["ann", "bob", "cem"]);
        ann.say(chat, "kept");
        world.settle();
        let old = backup(&world);
        cem.set_cut(true);
        ann.rename(chat, "field").unwrap();
        ann.say(chat, "lost with the title");
        bob.say(chat, "lost as well");
        world.pass(120_000);
        restore(&world, &old);
        ann.set_cut(true);
        bob.set_cut(true);
        cem.set_cut(false);
        // Nobody but owners may change the title: Cem makes a commit of his own otherwise.
        let second = world.log_in("cem");
        world.pass(120_000);
        ann.set_cut(false);
        bob.set_cut(false);
        world.settle();
        for device in [&ann, &bob] {
            assert_eq!(device.info(chat).unwrap().standing, Standing::Member, "seed {seed}");
            assert!(tells_of_the_loss(device, chat), "seed {seed}, {}", device.label());
        }
        for device in [&ann, &bob, &cem] {
            let texts = sorted(device, chat);
            assert_eq!(texts, ["kept", "lost as well", "lost with the title"], "seed {seed}");
        }
        assert_eq!(second.info(chat).unwrap().standing, Standing::Member);
        world.agree(chat, Mood::Honest);
    }
}

#[test]
fn d3_a_removal_is_lost_and_mal_commits_first() {
    for seed in 0..6 {
        let (world, [ann, bob], mut mal, chat) = meadow_with_mal(seed);
        world.settle();
        ann.say(chat, "kept");
        world.settle();
        let mut seat = mal.sit();
        seat.read(&mal);
        let old = backup(&world);
        ann.remove(chat, "mal").unwrap();
        world.settle();
        ann.say(chat, "secret of ann");
        bob.say(chat, "secret of bob");
        world.settle();
        ann.set_cut(true);
        bob.set_cut(true);
        restore(&world, &old);
        seat.commit(&mut mal, Change::fresh_path());
        // Bob, who may not remove, comes first.
        bob.set_cut(false);
        bob.say(chat, "another secret of bob");
        world.pass(600_000);
        ann.set_cut(false);
        ann.say(chat, "another secret of ann");
        let began = world.executor().now();
        world.until("everybody reads everything again", || {
            let read = |device: &&Device| {
                let texts = texts(device, chat);
                ["another secret of ann", "another secret of bob"]
                    .iter()
                    .all(|text| texts.contains(&(*text).to_owned()))
            };
            [&ann, &bob].iter().all(read)
        });
        assert!(world.executor().now() - began < 60_000, "within a minute");
        world.settle();
        seat.read(&mal);
        assert_eq!(seat.heard, ["kept"], "seed {seed}: the removed one reads on");
        for device in [&ann, &bob] {
            assert!(tells_of_the_loss(device, chat), "seed {seed}, {}", device.label());
            let members = device.info(chat).unwrap().members;
            assert!(members.iter().all(|member| member.account != mal.account));
            assert_eq!(texts(device, chat).len(), 5, "{}", device.label());
        }
        world.agree(chat, Mood::Attacked);
    }
}

#[test]
fn d3_a_handover_and_the_next_log_are_lost() {
    for seed in 0..6 {
        let (world, [ann, bob, cem], chat) = meadow(seed, ["ann", "bob", "cem"]);
        ann.say(chat, "kept");
        world.settle();
        // The removal is in the log, and nobody has confirmed it yet.
        bob.set_cut(true);
        let removes = ann.begin_remove(chat, "cem");
        world.pass(60_000);
        let old = backup(&world);
        bob.set_cut(false);
        ann.wait(&removes, "remove cem").unwrap();
        world.settle();
        let logs = world.server().borrow().logs.len();
        assert!(logs > old.logs.len(), "the group has moved on");
        ann.say(chat, "lost with the log");
        bob.say(chat, "likewise");
        world.settle();
        restore(&world, &old);
        ann.say(chat, "new");
        world.settle();
        for device in [&ann, &bob] {
            assert!(tells_of_the_loss(device, chat), "seed {seed}, {}", device.label());
            let texts = sorted(device, chat);
            assert_eq!(texts, ["kept", "likewise", "lost with the log", "new"], "seed {seed}");
        }
        assert_eq!(cem.info(chat).unwrap().standing, Standing::Removed);
        assert_eq!(texts(&cem, chat), ["kept"]);
        world.agree(chat, Mood::Honest);
    }
}

#[test]
fn d3_the_next_log_is_lost_and_the_handover_is_not() {
    for seed in 0..6 {
        let (world, [ann, bob, cem], chat) = meadow(seed, ["ann", "bob", "cem"]);
        ann.say(chat, "kept");
        world.settle();
        let before = backup(&world);
        ann.remove(chat, "cem").unwrap();
        world.settle();
        ann.say(chat, "lost with the log");
        world.settle();
        // The newest log goes, the one before it stays whole.
        let mut old = backup(&world);
        old.logs.retain(|log, _| before.logs.contains_key(log));
        restore(&world, &old);
        bob.say(chat, "new");
        world.settle();
        for device in [&ann, &bob] {
            assert!(tells_of_the_loss(device, chat), "seed {seed}, {}", device.label());
            assert_eq!(sorted(device, chat), ["kept", "lost with the log", "new"], "seed {seed}");
        }
        assert_eq!(texts(&cem, chat), ["kept"]);
        world.agree(chat, Mood::Honest);
    }
}

#[test]
fn d3_key_packages_whose_keys_are_gone_are_replaced() {
    for seed in 0..4 {
        let world = World::new(seed);
        let [ann, bob, cem] = ["ann", "bob", "cem"].map(|name| world.sign_up(name));
        world.settle();
        let old = backup(&world);
        // Bob's first packages are used up, and so their keys.
        for title in ["one", "two"] {
            cem.create_group(title, &["bob"]);
            world.settle();
        }
        restore(&world, &old);
        world.pass(60_000);
        let chat = ann.create_group("three", &["bob"]);
        world.pass(60_000);
        assert_eq!(bob.info(chat).unwrap().standing, Standing::Member, "seed {seed}");
        bob.say(chat, "here I am");
        world.settle();
        assert_eq!(texts(&ann, chat), ["here I am"]);
        world.agree(chat, Mood::Honest);
    }
}

#[test]
fn d3_a_chat_that_began_after_the_backup_begins_again() {
    for seed in 0..6 {
        let world = World::new(seed);
        let [ann, bob, cem] = ["ann", "bob", "cem"].map(|name| world.sign_up(name));
        world.settle();
        let old = backup(&world);
        let group = ann.create_group("meadow", &["bob", "cem"]);
        let direct = bob.start_chat(&["cem"]);
        world.settle();
        for (device, chat) in [(&ann, group), (&bob, group), (&bob, direct), (&cem, direct)] {
            device.say(chat, "lost");
        }
        world.settle();
        restore(&world, &old);
        ann.say(group, "new");
        cem.say(direct, "new");
        world.settle();
        for device in [&ann, &bob, &cem] {
            assert_eq!(sorted(device, group), ["lost", "lost", "new"], "seed {seed}");
            assert!(tells_of_the_loss(device, group), "seed {seed}, {}", device.label());
        }
        for device in [&bob, &cem] {
            assert_eq!(sorted(device, direct), ["lost", "lost", "new"], "seed {seed}");
        }
        world.agree(group, Mood::Honest);
        world.agree(direct, Mood::Honest);
    }
}

/// The server and somebody's store are from the same moment: what they say next is read, although as
/// much was said after it before.
#[test]
fn audit_srv_a10_c9_who_is_as_old_as_the_restored_server_is_read() {
    for seed in [1, 3, 5, 7] {
        let (world, [ann, bob], _) = meadow(seed, ["ann", "bob"]);
        let chats = [ann.start_chat(&["bob"]), ann.create_group("lawn", &["bob"])];
        world.settle();
        for chat in &chats {
            bob.say(*chat, "early");
        }
        world.settle();
        let (old, store) = (backup(&world), bob.backup());
        for number in 0..5 {
            for chat in &chats {
                bob.say(*chat, &format!("lost {number}"));
            }
        }
        world.settle();
        bob.crash();
        restore(&world, &old);
        bob.start_over(store);
        world.pass(10_000);
        for chat in chats {
            for number in 0..7 {
                bob.say(chat, &format!("new {number}"));
            }
            world.settle();
            let heard = texts(&ann, chat);
            for number in 0..7 {
                assert!(heard.contains(&format!("new {number}")), "seed {seed}: {heard:?}");
            }
        }
    }
}

#[test]
fn audit_issue_7_am1_who_was_out_at_a_loss_says_again_what_it_took() {
    // Whether it was said after the backup, and whether its author is off until they are in again.
    for (run, (is_lost, is_off)) in
        [(true, false), (true, true), (false, false)].into_iter().enumerate()
    {
        // Only a server under a new name is asked: every other seed.
        let seed = 2 * run as u64 + 1;
        let (world, [ann, bob, cem], chat) = meadow(seed, ["ann", "bob", "cem"]);
        world.settle();
        cem.say(chat, "kept");
        world.settle();
        let before = backup(&world);
        bob.set_cut(is_lost);
        cem.say(chat, "said before he was removed");
        world.pass(5_000);
        let old = if is_lost { before } else { backup(&world) };
        ann.remove(chat, "cem").unwrap();
        world.pass(60_000);
        assert_eq!(cem.info(chat).unwrap().standing, Standing::Removed);
        cem.set_cut(is_off);
        restore(&world, &old);
        world.pass(60_000);
        ann.add(chat, "cem").unwrap();
        bob.set_cut(false);
        world.pass(60_000);
        cem.set_cut(false);
        world.settle();
        for device in [&ann, &bob] {
            let heard = texts(device, chat);
            let times = heard.iter().filter(|text| *text == "said before he was removed").count();
            assert_eq!(times, 1, "{is_lost}, {is_off}, {}: {heard:?}", device.label());
        }
        assert_eq!(tells_of_the_loss(&cem, chat), is_lost, "{is_off}");
        world.agree(chat, Mood::Attacked);
    }
}
