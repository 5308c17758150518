//! What groups promise to those who make, change and leave them.

use core::time::Duration;
use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use corncrake::{
    Added, Adding, Chat, Client, ConversationId, Delivery, Item, ItemKind, LeftOut, Role, Standing,
};

use corncrake_wire::{
    Call, ErrorCode, OpenRequest, Refusal,
    open::{By, Claim, LookUp},
};

use crate::{device::Device, mal::Mal, network::Faults, world::World};

#[test]
fn audit_house_1_a_founding_that_is_refused_leaves_no_chat_behind() {
    let world = World::new(1);
    let (ann, _bob) = (world.sign_up("ann"), world.sign_up("bob"));
    let [mut mal, mut eve] = ["mal", "eve"].map(|name| Mal::sign_up(&world, name));
    mal.share_keys_with(&mut eve);
    let refused = ann.try_create_group("meadow", &["bob", "mal", "eve"]).unwrap_err();
    assert_eq!(refused.code(), "no_key_package");
    assert!(ann.chats().is_empty());
    ann.restart();
    assert!(ann.chats().is_empty());
    let chat = ann.create_group("meadow", &["bob"]);
    world.settle();
    assert_eq!(ann.info(chat).unwrap().members.len(), 2);
}

#[test]
fn audit_srv_b6_a_group_above_the_limit_costs_nobody_a_package() {
    let world = World::new(2);
    let ann = world.sign_up("ann");
    let names: Vec<String> = (0..257).map(|number| format!("mal{number}")).collect();
    names.iter().for_each(|name| drop(Mal::sign_up(&world, name)));
    let held = || {
        let server = world.server();
        let server = server.borrow();
        server.devices.values().map(|device| device.packages.len()).sum::<usize>()
    };
    let before = held();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let refused = ann.try_create_group("everybody", &names).unwrap_err();
    assert_eq!(refused.code(), "too_many_members");
    assert!(ann.chats().is_empty());
    assert_eq!(held(), before);
    let chat = ann.create_group("some", &names[..3]);
    let all: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let refused = ann.call_in(chat, "add everybody", async move |chat: Chat| {
        let names: Vec<&str> = all.iter().map(String::as_str).collect();
        chat.add(&names).await
    });
    // Three of them are in the group, so the others are few enough.
    refused.unwrap();
    assert_eq!(ann.info(chat).unwrap().members.len(), 258);
}

#[test]
fn audit_prog_h8_a_group_is_settled_when_its_people_are_invited() {
    let world = World::new(3);
    let (ann, bob) = (world.sign_up("ann"), world.sign_up("bob"));
    let chat = ann.create_group("meadow", &["bob"]);
    assert_eq!(ann.info(chat).unwrap().standing, Standing::Founding);
    ann.call_in(chat, "settled", async move |chat: Chat| chat.settled().await).unwrap();
    assert_eq!(ann.info(chat).unwrap().standing, Standing::Member);
    // Cut off, what was asked for stays on its way.
    ann.set_cut(true);
    ann.say(chat, "later");
    let waiting = ann.begin_in(chat, "settled", async move |chat: Chat| chat.settled().await);
    world.pass(60_000);
    assert!(!waiting.is_done());
    ann.set_cut(false);
    ann.wait(&waiting, "settled").unwrap();
    world.settle();
    assert_eq!(crate::flows::texts(&bob, chat), ["later"]);
}

#[test]
fn audit_prog_h3_an_add_that_waits_holds_up_nothing_and_says_so() {
    let world = World::new(4);
    let [ann, bob, cem, dee] = ["ann", "bob", "cem", "dee"].map(|name| world.sign_up(name));
    let chat = ann.create_group("meadow", &["bob", "cem"]);
    world.settle();
    // C12: everybody else is offline after a removal.
    bob.crash();
    cem.crash();
    ann.remove(chat, "cem").unwrap();
    let add = async move |chat: Chat| chat.add(&["dee"]).await;
    let added = ann.call_in(chat, "add dee", add).unwrap();
    assert_eq!(added, Added { adding: Adding::Waits, left_out: Vec::new() });
    let began = world.executor().now();
    ann.say(chat, "she will be here soon");
    ann.rename(chat, "the meadow").unwrap();
    ann.say(chat, "a new title");
    let settled = async move |chat: Chat| chat.settled().await;
    ann.call_in(chat, "settled", settled).unwrap();
    ann.call("settle", async move |client: Client| client.settle().await).unwrap();
    assert!(world.executor().now() - began < 10_000);
    let sent =
        |item: &Item| matches!(item.what, ItemKind::Message { delivery: Delivery::Sent, .. });
    assert_eq!(ann.history(chat).iter().filter(|item| sent(item)).count(), 2);
    let dees = dee.call("account", async move |client: Client| client.account().await);
    assert_eq!(ann.info(chat).unwrap().adding, [dees.unwrap().id]);
    ann.restart();
    assert_eq!(ann.info(chat).unwrap().adding.len(), 1);
    bob.start();
    world.settle();
    let info = ann.info(chat).unwrap();
    assert!(info.adding.is_empty());
    assert_eq!(info.members.len(), 3);
    assert_eq!(crate::flows::texts(&bob, chat), ["she will be here soon", "a new title"]);
    assert_eq!(dee.info(chat).unwrap().standing, Standing::Member);
}

#[test]
fn audit_prog_h3_a_removal_overtakes_an_add_that_waits() {
    let world = World::new(5);
    let [ann, bob, cem, dee] = ["ann", "bob", "cem", "dee"].map(|name| world.sign_up(name));
    let chat = ann.create_group("meadow", &["bob", "cem", "dee"]);
    world.sign_up("eve");
    world.settle();
    [&bob, &cem, &dee].into_iter().for_each(Device::crash);
    ann.remove(chat, "cem").unwrap();
    ann.add(chat, "eve").unwrap();
    let began = world.executor().now();
    ann.remove(chat, "dee").unwrap();
    assert!(world.executor().now() - began < 60_000, "it waits behind the add");
    // Nobody comes: after an hour the add goes on by itself.
    world.pass(3_700_000);
    assert_eq!(ann.info(chat).unwrap().members.len(), 3);
    let names: Vec<_> = ann.info(chat).unwrap().members.into_iter().map(|m| m.name).collect();
    assert!(names.contains(&Some("eve".to_owned())));
}

fn names_in(device: &Device, chat: ConversationId) -> Vec<String> {
    let members = device.info(chat).unwrap().members;
    let mut names: Vec<_> = members.into_iter().filter_map(|member| member.name).collect();
    names.sort();
    names
}

#[test]
fn audit_issue_7_who_is_removed_while_the_add_waits_does_not_come_in() {
    let world = World::new(12);
    let [ann, bob, cem, _dee, _eve] =
        ["ann", "bob", "cem", "dee", "eve"].map(|name| world.sign_up(name));
    let chat = ann.create_group("meadow", &["bob", "cem"]);
    world.settle();
    bob.crash();
    ann.remove(chat, "cem").unwrap();
    // He is to be back, with two others, and then not.
    let add = async move |chat: Chat| chat.add(&["cem", "dee"]).await;
    assert_eq!(ann.call_in(chat, "add two", add).unwrap().adding, Adding::Waits);
    ann.add(chat, "eve").unwrap();
    assert_eq!(ann.info(chat).unwrap().adding.len(), 3);
    ann.set_cut(true);
    let remove = async move |chat: Chat| chat.remove(&["cem", "eve"]).await;
    let removed = ann.begin_in(chat, "remove two", remove);
    world.pass(5_000);
    assert_eq!(ann.info(chat).unwrap().adding.len(), 1);
    ann.restart();
    assert_eq!(ann.info(chat).unwrap().adding.len(), 1);
    drop(removed);
    bob.start();
    world.settle();
    assert_eq!(names_in(&ann, chat), ["ann", "bob", "dee"]);
    assert_eq!(names_in(&bob, chat), ["ann", "bob", "dee"]);
    assert_eq!(cem.info(chat).unwrap().standing, Standing::Removed);
}

#[test]
fn audit_issue_7_a_remove_ends_the_add_that_has_not_begun_and_follows_one_that_has() {
    for has_begun in [false, true] {
        let world = World::new(13);
        let [ann, bob, _dee] = ["ann", "bob", "dee"].map(|name| world.sign_up(name));
        let chat = ann.create_group("meadow", &["bob"]);
        world.settle();
        // The server has no time for appends.
        world.network().set_lie(Some(Box::new(|who, _, request| match request {
            OpenRequest::Append(_) if who == "ann.1" => {
                Some(Err(Refusal { code: ErrorCode::RateLimited, retry_after: Some(5) }))
            }
            _ => None,
        })));
        let renamed = (!has_begun).then(|| {
            ann.begin_in(chat, "rename", async move |chat: Chat| chat.rename("the meadow").await)
        });
        let added = ann.begin_add(chat, "dee");
        world.pass(2_000);
        assert!(!added.is_done());
        let removed = ann.begin_remove(chat, "dee");
        world.pass(2_000);
        assert_eq!(ann.info(chat).unwrap().adding.len(), usize::from(has_begun));
        world.network().set_lie(None);
        world.settle();
        ann.wait(&removed, "remove").unwrap();
        let outcome = ann.wait(&added, "add").map_err(|error| error.code().to_owned());
        assert_eq!(outcome, if has_begun { Ok(()) } else { Err("taken_back".to_owned()) });
        renamed.into_iter().for_each(|renamed| ann.wait(&renamed, "rename").unwrap());
        assert_eq!(names_in(&bob, chat), ["ann", "bob"]);
    }
}

#[test]
fn audit_issue_7_bf6_who_goes_while_they_add_somebody_is_told_at_once() {
    for leaves in [false, true] {
        let world = World::new(17);
        let [ann, bob, _dee] = ["ann", "bob", "dee"].map(|name| world.sign_up(name));
        let chat = ann.create_group("meadow", &["bob"]);
        ann.set_role(chat, "bob", Role::Admin).unwrap();
        world.settle();
        world.network().set_lie(Some(Box::new(|_, _, request| {
            let busy = Refusal { code: ErrorCode::RateLimited, retry_after: Some(2) };
            matches!(request, OpenRequest::Claim(_)).then_some(Err(busy))
        })));
        let added = bob.begin_add(chat, "dee");
        world.pass(1_000);
        world.network().set_lie(None);
        if leaves { bob.leave(chat) } else { ann.remove(chat, "bob") }.unwrap();
        assert!(!added.is_done(), "the claim is still under way");
        world.pass(4_000);
        assert_eq!(added.take().expect("an answer").unwrap_err().code(), "not_a_member");
        world.settle();
        assert!(bob.info(chat).unwrap().adding.is_empty());
    }
}

#[test]
fn audit_prog_h1_a_wish_that_comes_to_nothing_leaves_no_log_unbegun() {
    let world = World::new(7);
    let (ann, bob) = (world.sign_up("ann"), world.sign_up("bob"));
    let chat = ann.create_group("meadow", &["bob"]);
    world.settle();
    ann.set_cut(true);
    let [one, two] = [(); 2].map(|()| ann.begin_remove(chat, "bob"));
    ann.set_cut(false);
    world.settle();
    ann.wait(&one, "remove bob").unwrap();
    ann.wait(&two, "remove bob").unwrap();
    ann.add(chat, "bob").unwrap();
    ann.say(chat, "and back again");
    world.settle();
    assert_eq!(crate::flows::texts(&bob, chat), ["and back again"]);
}

/// The time of a message, and whether it is the time of reading.
fn time_of(device: &Device, chat: ConversationId, said: &str) -> (u64, bool) {
    let is_it = |item: &Item| matches!(&item.what, ItemKind::Message { text, .. } if text == said);
    let item = device.history(chat).into_iter().find(is_it).unwrap();
    (item.at.0, item.wrong_clock)
}

const DAY: u64 = 24 * 3600 * 1000;

#[test]
fn audit_prog_m2_a_message_bears_the_time_when_it_was_meant_to_be_sent() {
    let world = World::new(8);
    world.pass(200 * DAY);
    let (ann, bob) = (world.sign_up("ann"), world.sign_up("bob"));
    let again = world.log_in("bob");
    let chat = ann.start_chat(&["bob"]);
    world.settle();
    // Written without a network, and read five days later.
    ann.set_cut(true);
    bob.crash();
    let meant = world.executor().now() / 1000 * 1000;
    ann.say(chat, "on the train");
    assert_eq!(time_of(&ann, chat, "on the train"), (meant, false));
    world.pass(2 * DAY);
    ann.set_cut(false);
    world.pass(3 * DAY);
    bob.start();
    world.settle();
    for device in [&ann, &bob, &again] {
        assert_eq!(time_of(device, chat, "on the train"), (meant, false), "{}", device.label());
    }
    // A clock that is wrong by days is not believed, whichever way.
    for days in [1, -40] {
        ann.set_clock(days);
        let text = format!("set by {days} days");
        ann.say(chat, &text);
        world.settle();
        let now = world.executor().now();
        for device in [&bob, &again] {
            let (at, wrong) = time_of(device, chat, &text);
            assert!(wrong && at <= now && now - at < DAY, "{} {text}", device.label());
        }
        ann.set_clock(0);
    }
}

#[test]
fn audit_prog_m10_the_last_owner_stays_one_while_others_are_there() {
    let world = World::new(8);
    let [ann, bob, cem] = ["ann", "bob", "cem"].map(|name| world.sign_up(name));
    let chat = ann.create_group("meadow", &["bob", "cem"]);
    world.settle();
    assert_eq!(ann.set_role(chat, "ann", Role::Member).unwrap_err().code(), "last_owner");
    assert_eq!(ann.set_role(chat, "ann", Role::Admin).unwrap_err().code(), "last_owner");
    ann.set_role(chat, "bob", Role::Owner).unwrap();
    ann.set_role(chat, "ann", Role::Member).unwrap();
    world.settle();
    let roles = ["ann", "bob"].map(|name| cem.role_of(chat, name));
    assert_eq!(roles, [Some(Role::Member), Some(Role::Owner)]);
    // Who leaves can't be kept: the others are told that they act as owners now.
    bob.leave(chat).unwrap();
    world.settle();
    let roles = ["ann", "cem"].map(|name| cem.role_of(chat, name));
    assert_eq!(roles, [Some(Role::Owner); 2]);
    for device in [&ann, &cem] {
        let told = device.history(chat);
        let last = told.iter().rposition(|item| matches!(item.what, ItemKind::Left { .. }));
        let mut after = told[last.unwrap()..].iter();
        assert!(after.any(|item| matches!(item.what, ItemKind::RolesChanged { .. })));
    }
}

#[test]
fn audit_prog_low_removing_somebody_who_is_not_there_says_so() {
    let world = World::new(9);
    let ann = world.sign_up("ann");
    ["bob", "cem"].into_iter().for_each(|name| drop(world.sign_up(name)));
    let chat = ann.create_group("meadow", &["bob"]);
    world.settle();
    assert_eq!(ann.remove(chat, "cem").unwrap_err().code(), "unknown_member");
    assert_eq!(ann.info(chat).unwrap().members.len(), 2);
    ann.remove(chat, "bob").unwrap();
    assert_eq!(ann.remove(chat, "bob").unwrap_err().code(), "unknown_member");
}

#[test]
fn audit_srv_b5_names_that_are_not_found_are_looked_up_again() {
    for restarts in [false, true] {
        let world = World::new(11);
        let [ann, bob, _cem, _dee] = ["ann", "bob", "cem", "dee"].map(|name| world.sign_up(name));
        world.settle();
        // The server has no time for one of them.
        let cem = bob.call("account", async move |client: Client| client.account().await);
        let first = cem.unwrap().id;
        world.network().set_lie(Some(Box::new(move |who, _, request| match request {
            OpenRequest::LookUp(LookUp { by: By::Id(id), .. })
                if who == "ann.1" && id.0 != *first.as_bytes() =>
            {
                Some(Err(Refusal { code: ErrorCode::RateLimited, retry_after: Some(600) }))
            }
            _ => None,
        })));
        let chat = bob.create_group("meadow", &["ann", "cem", "dee"]);
        world.pass(60_000);
        let unknown = || {
            let members = ann.info(chat).unwrap().members;
            members.iter().filter(|member| member.name.is_none()).count()
        };
        assert_eq!(unknown(), 2);
        ann.call("settle", async move |client: Client| client.settle().await).unwrap();
        if restarts {
            ann.restart();
        }
        world.network().set_lie(None);
        world.pass(if restarts { 60_000 } else { 21 * 60_000 });
        assert_eq!(unknown(), 0, "restarts: {restarts}");
    }
}

#[test]
fn audit_srv_b5_many_people_are_looked_up_and_claimed_at_once() {
    let world = World::new(12);
    let ann = world.sign_up("ann");
    let names: Vec<String> = (0..20).map(|number| format!("guest{number}")).collect();
    names.iter().for_each(|name| drop(world.sign_up(name)));
    world.settle();
    for (guests, rounds) in [(1, 1), (16, 1), (20, 2)] {
        // Each way takes a millisecond, so that two of them are a round.
        world.set_faults(Faults { delay: 1, ..Faults::NONE });
        // What was asked, and at which moment.
        let asked: Rc<RefCell<BTreeMap<(&str, u64), usize>>> = Rc::default();
        let (executor, seen) = (world.executor().clone(), Rc::clone(&asked));
        world.network().set_lie(Some(Box::new(move |who, _, request| {
            if let ("ann.1", OpenRequest::LookUp(_) | OpenRequest::Claim(_)) = (who, request) {
                *seen.borrow_mut().entry((request.path(), executor.now())).or_default() += 1;
            }
            None
        })));
        let begun = world.executor().now();
        let names: Vec<&str> = names.iter().take(guests).map(String::as_str).collect();
        let chat = ann.create_group("meadow", &names);
        let took = world.executor().now() - begun;
        let asked = asked.borrow();
        for path in [LookUp::PATH, Claim::PATH] {
            let asked = || asked.iter().filter(|((of, _), _)| *of == path).map(|(_, times)| *times);
            assert_eq!((asked().sum::<usize>(), asked().count()), (guests, rounds), "{path}");
            assert!(asked().all(|times| times <= 16), "more than 16 at once");
        }
        // Looked up, claimed, and founded.
        assert!(took <= 2 * (2 * rounds + 1) as u64, "{guests} guests: {took} ms");
        world.settle();
        assert_eq!(ann.info(chat).unwrap().members.len(), guests + 1);
    }
}

/// What is refused together is one failure: however few requests a server takes at once, all get
/// through in the end.
#[test]
fn audit_srv_b5_a_server_that_takes_three_requests_a_second_gets_the_others_later() {
    for seed in 0..4 {
        let world = World::new(seed);
        let ann = world.sign_up("ann");
        let names: Vec<String> = (0..20).map(|number| format!("guest{number}")).collect();
        names.iter().for_each(|name| drop(world.sign_up(name)));
        world.settle();
        world.network().disturb();
        let executor = world.executor().clone();
        let mut taken = (0, 0);
        world.network().set_lie(Some(Box::new(move |who, _, request| {
            if !matches!((who, request), ("ann.1", OpenRequest::LookUp(_) | OpenRequest::Claim(_)))
            {
                return None;
            }
            let second = executor.now() / 1000;
            taken = if taken.0 == second { (second, taken.1 + 1) } else { (second, 1) };
            let refusal = Refusal { code: ErrorCode::RateLimited, retry_after: Some(1) };
            (taken.1 > 3).then_some(Err(refusal))
        })));
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let chat = ann.create_group("meadow", &names);
        world.settle();
        assert_eq!(ann.info(chat).unwrap().members.len(), 21, "seed {seed}");
    }
}

/// Whom the server does not know, it has answered for: nobody has to wait for that.
#[test]
fn audit_issue_7_unknown_names_make_no_pause() {
    let world = World::new(5);
    let [ann, _bob] = ["ann", "bob"].map(|name| world.sign_up(name));
    world.settle();
    // 25 round trips, and nothing beside them.
    world.network().disturb();
    let names: Vec<String> = (0..400).map(|number| format!("nobody{number}")).collect();
    let begun = world.executor().now();
    let made = ann.call("create group", async move |client: Client| {
        let names: Vec<&str> = names.iter().map(String::as_str).chain(["bob"]).collect();
        client.create_group("meadow", &names).await
    });
    assert_eq!(made.unwrap().left_out.len(), 400);
    assert!(world.executor().now() - begun < 3000);
}

/// A server takes ten requests a second and knows few of very many names: whoever names them hears
/// in time who is in, who is unknown, and who was not asked for.
#[test]
fn audit_issue_7_very_many_unknown_names_hold_nobody_up() {
    const PATIENCE: u64 = 20;
    for seed in 0..4 {
        let world = World::new(seed);
        let [ann, _bob, _cem] = ["ann", "bob", "cem"].map(|name| world.sign_up(name));
        world.settle();
        world.network().disturb();
        let executor = world.executor().clone();
        let mut taken = (0, 0);
        let taking = executor.clone();
        world.network().set_lie(Some(Box::new(move |who, _, request| {
            if !matches!((who, request), ("ann.1", OpenRequest::LookUp(_) | OpenRequest::Claim(_)))
            {
                return None;
            }
            let second = taking.now() / 1000;
            taken = if taken.0 == second { (second, taken.1 + 1) } else { (second, 1) };
            let refusal = Refusal { code: ErrorCode::RateLimited, retry_after: Some(1) };
            (taken.1 > 10).then_some(Err(refusal))
        })));
        let names = |first: &str| {
            let nobody = (0..3000).map(|number| format!("nobody{number}"));
            [first.to_owned()].into_iter().chain(nobody).collect::<Vec<_>>()
        };
        let begun = executor.now();
        let named = names("bob");
        let made = ann.call("create group", async move |client: Client| {
            let named: Vec<&str> = named.iter().map(String::as_str).collect();
            client.create_group_within("meadow", &named, Duration::from_secs(PATIENCE)).await
        });
        let made = made.unwrap();
        let left_out = |left_out: &[LeftOut], code: &str| {
            left_out.iter().filter(|one| one.why.code() == code).count()
        };
        let check = |all: &[LeftOut], begun: u64| {
            assert!(executor.now() - begun <= PATIENCE * 1000, "seed {seed}");
            let (unknown, late) = (left_out(all, "unknown_account"), left_out(all, "rate_limited"));
            assert!(unknown >= 50 && unknown + late == 3000, "seed {seed}: {unknown} and {late}");
        };
        check(&made.left_out, begun);
        let chat = made.chat.id();
        world.settle();
        assert_eq!(ann.info(chat).unwrap().members.len(), 2, "seed {seed}");
        world.network().disturb();
        let (begun, named) = (executor.now(), names("cem"));
        let added = ann.call_in(chat, "add", async move |chat: Chat| {
            let named: Vec<&str> = named.iter().map(String::as_str).collect();
            chat.begin_add(&named, Duration::from_secs(PATIENCE)).await
        });
        check(added.unwrap().left_out(), begun);
        world.settle();
        assert_eq!(ann.info(chat).unwrap().members.len(), 3, "seed {seed}");
    }
}

#[test]
fn audit_srv_b5_one_refused_name_keeps_nobody_else_out() {
    let world = World::new(10);
    let [ann, _bob, cem, dee] = ["ann", "bob", "cem", "dee"].map(|name| world.sign_up(name));
    // Eve has nothing to be added by.
    let eve = world.sign_up("eve");
    world.settle();
    let account = |device: &Device| {
        device.call("account", async move |client: Client| client.account().await).unwrap().id
    };
    let key = corncrake_wire::DeviceId(*crate::devices::id(&eve).as_bytes());
    eve.lose();
    world.server().borrow_mut().devices.get_mut(&key).unwrap().packages.clear();
    let made = ann.call("create group", async move |client: Client| {
        client.create_group("meadow", &["bob", "nobody", "no name!", "eve"]).await
    });
    let made = made.unwrap();
    let chat = made.chat.id();
    let whys = |left_out: &[LeftOut]| {
        let why = |one: &LeftOut| (one.who.clone(), one.why.code().to_owned());
        left_out.iter().map(why).collect::<Vec<_>>()
    };
    let unknown = |name: &str| (name.to_owned(), "unknown_account".to_owned());
    let no_package = ("eve".to_owned(), "no_key_package".to_owned());
    assert_eq!(whys(&made.left_out), [unknown("nobody"), unknown("no name!"), no_package]);
    world.settle();
    assert_eq!(ann.info(chat).unwrap().members.len(), 2);
    // Ids do where names do.
    let (cems, dees) = (account(&cem).to_string(), account(&dee));
    let add = async move |chat: Chat| chat.add(&[&cems, "nobody", "dee"]).await;
    let added = ann.call_in(chat, "add by id", add).unwrap();
    assert_eq!((added.adding, whys(&added.left_out)), (Adding::Done, vec![unknown("nobody")]));
    world.settle();
    assert_eq!(ann.info(chat).unwrap().members.len(), 4);
    let remove = async move |chat: Chat| chat.remove(&[&dees.to_string()]).await;
    ann.call_in(chat, "remove by id", remove).unwrap();
    world.settle();
    assert_eq!(dee.info(chat).unwrap().standing, Standing::Removed);
    // Where nobody is left, nothing is done.
    assert_eq!(ann.add(chat, "nobody").unwrap_err().code(), "unknown_account");
    assert_eq!(ann.add(chat, "eve").unwrap_err().code(), "no_key_package");
    assert_eq!(ann.try_create_group("x", &["eve", "no one"]).unwrap_err().code(), "no_key_package");
    assert_eq!(ann.try_start_chat(&["bob", "nobody"]).unwrap_err().code(), "unknown_account");
    assert_eq!(ann.chats().len(), 1);
}
