//! Strangers who burden a device (C10).

use corncrake::{Client, Standing};
use corncrake_core::{conversation::Change, seal::envelope::Seed};
use corncrake_wire::{ErrorCode, LogId, OpenRequest, Refusal};

use crate::{
    flows::texts,
    mal::{Mal, Seat},
    world::World,
};

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

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
    // Her device has put out packages that he has not used up.
    world.pass(1_000);
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
fn audit_srv_a8_four_invitations_are_folded_at_once() {
    let world = World::new(15);
    let ann = world.sign_up("ann");
    let mut mal = Mal::sign_up(&world, "mal");
    world.settle();
    ann.crash();
    let invited = mal.invite_to_nothing("ann");
    ann.start();
    world.pass(120_000);
    let trace = world.trace();
    let asks = trace.lines().filter(|line| line.contains("ann") && line.contains("→ list states"));
    // The first was for the account's own log.
    let asks = asks.skip(1);
    let times = asks.map(|line| line.trim_start().split(' ').next().unwrap().parse::<u64>());
    let times: Vec<u64> = times.map(Result::unwrap).take(invited).collect();
    assert_eq!(times.len(), invited, "each was tried");
    // There and back takes two milliseconds at least.
    let took = times[invited - 1] - times[0];
    assert!(took >= 2 * (invited as u64 / 4), "{took} ms for {invited}");
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

#[test]
fn audit_issue_7_bf1_behind_many_invitations_somebody_new_is_heard_when_one_comes_online() {
    let world = World::new(16);
    let [ann, bob, cem] = ["ann", "bob", "cem"].map(|name| world.sign_up(name));
    let mut mal = Mal::sign_up(&world, "mal");
    world.settle();
    ann.crash();
    assert_eq!(mal.invite_to_nothing("ann"), 116);
    // Bob stays; Cem's program ends at once, and comes again for a moment later.
    let from_bob = bob.start_chat(&["ann"]);
    bob.say(from_bob, "hello");
    let from_cem = cem.start_chat(&["ann"]);
    cem.say(from_cem, "hello");
    world.pass(5_000);
    cem.crash();
    world.pass(HOUR / 3);
    ann.start();
    world.pass(3_000);
    cem.start();
    world.pass(5_000);
    assert!(texts(&ann, from_cem).iter().any(|text| text == "hello"));
    world.pass(10 * 60_000);
    assert!(texts(&ann, from_bob).iter().any(|text| text == "hello"));
}

#[test]
fn audit_srv_a8_an_invitation_is_given_up_after_a_week_whatever_restarts() {
    let world = World::new(12);
    let ann = world.sign_up("ann");
    let mut mal = Mal::sign_up(&world, "mal");
    world.settle();
    mal.invite_to_nothing("ann");
    world.pass(HOUR);
    let mut before = asked(&world);
    for day in 0..21 {
        ann.crash();
        ann.start();
        world.pass(DAY);
        let now = asked(&world);
        // On the first days tries are an hour or a few apart, then a day.
        assert!(now - before <= if day < 2 { 50 * 6 } else { 51 }, "day {day}: {}", now - before);
        assert!(day < 14 || now == before, "day {day}: {}", now - before);
        before = now;
    }
}

#[test]
fn audit_srv_a8_among_many_invitations_those_of_a_friend_are_kept() {
    let world = World::new(13);
    let [ann, bob] = ["ann", "bob"].map(|name| world.sign_up(name));
    let mut mal = Mal::sign_up(&world, "mal");
    world.settle();
    let chat = bob.start_chat(&["ann"]);
    bob.say(chat, "hello");
    world.settle();
    // The log of the friend's group can't be found for a while.
    let known: Vec<LogId> = world.server().borrow().logs.keys().copied().collect();
    world.network().set_lie(Some(Box::new(move |who, _, request| match request {
        OpenRequest::States(states)
            if who.starts_with("ann") && !known.contains(&states.token.log_id()) =>
        {
            Some(Err(ErrorCode::LogNotFound.into()))
        }
        _ => None,
    })));
    let group = bob.create_group("meadow", &["ann"]);
    world.pass(10 * 60_000);
    assert!(mal.invite_to_nothing("ann") > 100);
    world.pass(2 * HOUR);
    assert!(ann.info(group).is_err());
    world.network().set_lie(None);
    world.pass(DAY);
    assert_eq!(ann.info(group).unwrap().standing, Standing::Member);
}

#[test]
fn audit_prog_m6_a_joiner_finds_its_welcome_wherever_the_notice_points() {
    for late in [false, true] {
        let world = World::new(14);
        let [ann, bob] = ["ann", "bob"].map(|name| world.sign_up(name));
        let mut mal = Mal::sign_up(&world, "mal");
        world.settle();
        let seed = Seed::random(mal.chance.rng());
        let mut seat = Seat::found(&mut mal, seed, "meadow", &["ann"]);
        let group = seat.conversation.id();
        world.settle();
        mal.misleads = true;
        bob.set_cut(late);
        let claimed = mal.claim("bob");
        seat.commit(&mut mal, Change::add(claimed));
        for number in 0..if late { 3 } else { 0 } {
            ann.say(group, &format!("line {number}"));
        }
        world.pass(60_000);
        bob.set_cut(false);
        world.pass(5 * 60_000);
        assert_eq!(bob.info(group).unwrap().standing, Standing::Member, "{late}");
    }
}

#[test]
fn who_begins_a_chat_while_the_servers_disk_is_full_hears_it_at_once() {
    let world = World::new(15);
    let [ann, _bob] = ["ann", "bob"].map(|name| world.sign_up(name));
    world.settle();
    world.network().set_lie(Some(Box::new(|_, _, request| {
        let full = Refusal { code: ErrorCode::StorageFull, retry_after: Some(5) };
        matches!(request, OpenRequest::Claim(_)).then_some(Err(full))
    })));
    let began = world.executor().now();
    let start = async move |client: Client| client.start_chat(&["bob"]).await.map(drop);
    assert_eq!(ann.call("start a chat", start).unwrap_err().code(), "storage_full");
    let group = async move |client: Client| client.create_group("x", &["bob"]).await.map(drop);
    assert_eq!(ann.call("found a group", group).unwrap_err().code(), "storage_full");
    assert!(world.executor().now() - began < 3_000);
    // A server that is merely busy is asked again, but not for minutes.
    world.network().set_lie(Some(Box::new(|_, _, request| {
        let busy = Refusal { code: ErrorCode::RateLimited, retry_after: Some(5) };
        matches!(request, OpenRequest::Claim(_)).then_some(Err(busy))
    })));
    let began = world.executor().now();
    let start = async move |client: Client| client.start_chat(&["bob"]).await.map(drop);
    assert_eq!(ann.call("start a chat", start).unwrap_err().code(), "rate_limited");
    assert!((5_000..30_000).contains(&(world.executor().now() - began)));
}
