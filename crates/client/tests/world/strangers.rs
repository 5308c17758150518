//! Strangers who burden a device (C10).

use corncrake::Standing;

use crate::{flows::texts, mal::Mal, world::World};

const HOUR: u64 = 3_600_000;

/// How often Ann's device has asked for a log's states.
fn asked(world: &World) -> usize {
    world
        .trace()
        .lines()
        .filter(|line| line.contains("ann") && line.contains("→ list states"))
        .count()
}

#[test]
fn audit_srv_a8_invitations_that_lead_nowhere_cost_little_and_hide_no_friend() {
    let world = World::new(10);
    let [ann, bob] = ["ann", "bob"].map(|name| world.sign_up(name));
    let mut mal = Mal::sign_up(&world, "mal");
    world.settle();
    // Four for each of four packages, and a hundred a day for that of last resort.
    assert_eq!(mal.invite_to_nothing("ann"), 116);
    let chat = bob.start_chat(&["ann"]);
    bob.say(chat, "hello");
    let group = bob.create_group("meadow", &["ann"]);
    world.pass(120_000);
    assert!(texts(&ann, chat).iter().any(|text| text == "hello"));
    assert_eq!(ann.info(group).unwrap().standing, Standing::Member);
    let first = asked(&world);
    assert!(first >= 116, "each was tried: {first}");
    world.pass(HOUR);
    // At most 50 are kept, and each is tried a few times in the hour, not every minute.
    let later = asked(&world) - first;
    assert!(later <= 50 * 7, "{later}");
    ann.crash();
    ann.start();
    world.pass(60_000);
    let again = asked(&world) - first - later;
    assert!(again <= 2 * 50 + 10, "{again}");
    // Behind them a friend still comes through.
    let second = bob.create_group("heath", &["ann"]);
    world.pass(60_000);
    assert_eq!(ann.info(second).unwrap().standing, Standing::Member);
}

#[test]
fn audit_prog_m6_an_inbox_that_a_stranger_crowds_has_room_for_a_friend() {
    let world = World::new(11);
    let [ann, bob] = ["ann", "bob"].map(|name| world.sign_up(name));
    let mut mal = Mal::sign_up(&world, "mal");
    world.settle();
    ann.crash();
    assert_eq!(mal.invite_to_nothing("ann"), 116);
    assert_eq!(mal.invite_to_nothing("ann"), 0, "for today");
    let chat = bob.start_chat(&["ann"]);
    bob.say(chat, "hello");
    world.pass(HOUR);
    ann.start();
    world.pass(25 * HOUR);
    assert!(texts(&ann, chat).iter().any(|text| text == "hello"));
}
