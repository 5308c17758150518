//! Devices whose clocks are wrong, and are set while they run and between two runs.

use corncrake::{ConversationId, Standing};

use crate::{check::Mood, device::Device, flows::texts, network::Faults, world::World};

/// Within this, in virtual milliseconds, somebody hears what was said.
const HEARD_WITHIN: u64 = 15_000;

/// Says something, and sees to it that the other one hears it soon.
fn says(world: &World, from: &Device, to: &Device, chat: ConversationId, text: &str) {
    from.say(chat, text);
    let limit = world.executor().now() + HEARD_WITHIN;
    while world.executor().now() < limit && !texts(to, chat).contains(&text.to_owned()) {
        world.pass(250);
    }
    let heard = texts(to, chat);
    assert!(heard.iter().any(|heard| heard == text), "{} waits with “{text}”", from.label());
}

const JUMPS: [i64; 8] = [100, 0, -100, 0, 100, -100, 1, 0];

#[test]
fn audit_prog_h4_a_clock_that_is_set_while_it_runs_delays_nothing() {
    for seed in 0..3 {
        let world = World::new(seed);
        let (ann, bob) = (world.sign_up("ann"), world.sign_up("bob"));
        let carl = world.sign_up("carl");
        let chat = ann.start_chat(&["bob"]);
        let group = ann.create_group("meadow", &["bob", "carl"]);
        world.settle();
        for (turn, days) in JUMPS.into_iter().enumerate() {
            says(&world, &ann, &bob, chat, &format!("before {turn}"));
            ann.set_clock(days);
            says(&world, &ann, &bob, chat, &format!("after {turn}"));
            says(&world, &bob, &ann, chat, &format!("to you too {turn}"));
            says(&world, &ann, &carl, group, &format!("to all {turn}"));
        }
        ann.set_clock(-100);
        carl.remove(group, "ann").unwrap_err();
        ann.remove(group, "carl").unwrap();
        says(&world, &ann, &bob, group, "carl is gone");
        ann.set_clock(0);
        ann.add(group, "carl").unwrap();
        world.until("carl is back", || carl.info(group).is_ok_and(|info| info.members.len() == 3));
        world.settle();
        world.agree(chat, Mood::Honest);
        world.agree(group, Mood::Honest);
    }
}

#[test]
fn c13_a_clock_that_is_set_between_two_runs_delays_nothing() {
    let world = World::new(1);
    let (ann, bob) = (world.sign_up("ann"), world.sign_up("bob"));
    let chat = ann.start_chat(&["bob"]);
    world.settle();
    for (turn, days) in JUMPS.into_iter().enumerate() {
        ann.crash();
        bob.say(chat, &format!("while you are away {turn}"));
        ann.set_clock(days);
        ann.start();
        says(&world, &ann, &bob, chat, &format!("back {turn}"));
        says(&world, &bob, &ann, chat, &format!("welcome {turn}"));
        // An owed change, a wait and a crash in the middle of it.
        ann.begin_say(chat, &format!("half said {turn}"));
        world.pass(7);
        ann.crash();
        ann.set_clock(-days);
        ann.start();
        says(&world, &ann, &bob, chat, &format!("said {turn}"));
    }
    world.settle();
    world.agree(chat, Mood::Honest);
}

#[test]
fn audit_srv_b10_a_pause_after_a_failure_ends_whatever_the_clock_shows() {
    for seed in 0..4 {
        let world = World::new(seed);
        let (ann, bob) = (world.sign_up("ann"), world.sign_up("bob"));
        let chat = ann.start_chat(&["bob"]);
        world.settle();
        world.set_faults(Faults::MIXED);
        for (turn, days) in JUMPS.into_iter().enumerate() {
            ann.set_clock(100);
            ann.say(chat, &format!("one {turn}"));
            world.pass(900);
            ann.set_clock(days);
            ann.say(chat, &format!("two {turn}"));
            world.pass(900);
        }
        ann.set_clock(-100);
        world.network().heal();
        world.pass(240_000);
        assert_eq!(texts(&bob, chat).len(), 2 * JUMPS.len(), "something still waits");
    }
}

#[test]
fn audit_prog_h5_a_short_start_with_a_clock_far_ahead_costs_no_invitation() {
    for days in [100, -100] {
        let world = World::new(2);
        let [ann, bob, cem] = ["ann", "bob", "cem"].map(|name| world.sign_up(name));
        world.settle();
        ann.crash();
        ann.set_clock(days);
        ann.start();
        world.pass(5_000);
        ann.crash();
        // Invited while ann is away, by packages that lie at the server.
        let chat = bob.start_chat(&["ann"]);
        bob.say(chat, "hello");
        world.pass(60_000);
        ann.set_clock(0);
        ann.start();
        let group = cem.create_group("meadow", &["ann"]);
        world.pass(60_000);
        assert_eq!(texts(&ann, chat), ["hello"], "{days}");
        assert_eq!(ann.info(group).unwrap().standing, Standing::Member, "{days}");
        world.settle();
    }
}

#[test]
fn audit_prog_h5_who_signs_up_with_a_wrong_clock_can_be_invited() {
    for days in [100, -100] {
        let world = World::new(3);
        let bob = world.sign_up("bob");
        let ann = world.device("ann");
        ann.set_clock(days);
        world.try_sign_up(&ann).unwrap();
        world.settle();
        let chat = bob.start_chat(&["ann"]);
        bob.say(chat, "hello");
        world.pass(60_000);
        assert_eq!(texts(&ann, chat), ["hello"], "{days}");
    }
}

#[test]
fn a_device_whose_clock_is_wrong_starts_chats_and_adds_people() {
    for days in [-100, -2, 100, 3000] {
        let world = World::new(4);
        let [ann, bob, cem, dan] = ["ann", "bob", "cem", "dan"].map(|name| world.sign_up(name));
        world.settle();
        bob.set_clock(days);
        let chat = bob.start_chat(&["ann"]);
        let group = bob.create_group("meadow", &["ann", "cem"]);
        bob.add(group, "dan").unwrap();
        says(&world, &bob, &ann, chat, "hello");
        says(&world, &bob, &cem, group, "hello");
        says(&world, &bob, &dan, group, "hello again");
        world.settle();
        // As it starts again, it adds people before it has heard of the server's clock.
        bob.crash();
        bob.start();
        let group = bob.create_group("heath", &["ann"]);
        says(&world, &bob, &ann, group, "hello");
    }
}

/// The server's clock is wrong for a moment, and people who are online then make new key packages
/// by it.
#[test]
fn who_was_online_while_the_servers_clock_was_wrong_can_be_added_once_it_is_right() {
    for days in [400, 3000] {
        let world = World::new(5);
        let (ann, bob) = (world.sign_up("ann"), world.sign_up("bob"));
        world.settle();
        world.server().borrow_mut().ahead = days * 24 * 3600;
        ann.crash();
        ann.start();
        world.pass(60_000);
        world.server().borrow_mut().ahead = 0;
        // The server starts again, and its clock is right.
        for device in [&ann, &bob] {
            device.set_cut(true);
            world.pass(5_000);
            device.set_cut(false);
        }
        world.pass(60_000);
        let chat = bob.start_chat(&["ann"]);
        says(&world, &bob, &ann, chat, "hello");
        world.settle();
    }
}

#[test]
fn packages_made_by_a_wrong_clock_of_the_server_are_replaced_although_it_is_set_while_it_runs() {
    let world = World::new(6);
    let (ann, bob) = (world.sign_up("ann"), world.sign_up("bob"));
    world.settle();
    world.server().borrow_mut().ahead = 400 * 24 * 3600;
    ann.crash();
    ann.start();
    world.pass(60_000);
    world.server().borrow_mut().ahead = 0;
    world.pass(2 * 3_600_000);
    let chat = bob.start_chat(&["ann"]);
    says(&world, &bob, &ann, chat, "hello");
}

#[test]
fn audit_issue_7_bf5_a_minute_after_the_servers_clock_is_right_again_everybody_can_be_added() {
    for days in [400, 3000] {
        let world = World::new(7);
        let [ann, bob, cem] = ["ann", "bob", "cem"].map(|name| world.sign_up(name));
        world.settle();
        world.server().borrow_mut().ahead = days * 24 * 3600;
        // A first message makes ann, who is online, look at what the server holds.
        let chat = bob.start_chat(&["ann"]);
        bob.say(chat, "hello");
        world.pass(15_000);
        world.server().borrow_mut().ahead = 0;
        world.pass(45_000);
        assert_eq!(texts(&ann, chat), ["hello"], "{days}");
        let chat = cem.start_chat(&["ann"]);
        says(&world, &cem, &ann, chat, "and to you");
        world.settle();
    }
}
