//! What groups promise to those who make, change and leave them.

use corncrake::{Adding, Chat, Client, Delivery, Item, ItemKind, Standing};

use crate::{device::Device, mal::Mal, world::World};

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
    assert_eq!(ann.call_in(chat, "add dee", add).unwrap(), Adding::Waits);
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
    ann.remove(chat, "dee").unwrap();
    // Nobody comes: after an hour the add goes on by itself.
    world.pass(3_700_000);
    assert_eq!(ann.info(chat).unwrap().members.len(), 3);
    let names: Vec<_> = ann.info(chat).unwrap().members.into_iter().map(|m| m.name).collect();
    assert!(names.contains(&Some("eve".to_owned())));
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
    assert_eq!(ann.wait(&two, "remove bob").unwrap_err().code(), "already_so");
    ann.add(chat, "bob").unwrap();
    ann.say(chat, "and back again");
    world.settle();
    assert_eq!(crate::flows::texts(&bob, chat), ["and back again"]);
}
