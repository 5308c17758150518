//! What groups promise to those who make, change and leave them.

use corncrake::{Chat, Standing};

use crate::{mal::Mal, world::World};

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
