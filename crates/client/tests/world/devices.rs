//! An account with several devices: which of them are in its chats.

use corncrake::{
    Chat, Client, ConversationId, Delivery, DeviceId, Error, Item, ItemKind, Role, Standing,
    transport::Push,
};
use corncrake_wire::{ErrorCode, OpenRequest, limits::PAGE_ENTRIES};

use crate::{
    check::Mood, device::Device, flows::texts, lost_entries::tells_of_the_loss, world::World,
};

impl World {
    /// One more device of a person, in the place of another.
    pub(crate) fn log_in_for(&self, name: &str, other: DeviceId) -> Device {
        let device = self.device(name);
        let (name, password, other) = (name.to_owned(), device.password(), other.to_string());
        let enter =
            async move |client: Client| client.enter_account_for(&name, &password, &other).await;
        device.call("log in for another device", enter).unwrap();
        device
    }
}

impl Device {
    pub(crate) fn remove_device(&self, device: DeviceId) -> Result<(), Error> {
        let password = self.password();
        self.call("remove a device", async move |client: Client| {
            client.remove_device(device, &password).await
        })
    }
}

pub(crate) fn id(device: &Device) -> DeviceId {
    device.call("account", async move |client: Client| client.account().await).unwrap().device
}

fn devices(of: &Device) -> Vec<DeviceId> {
    let own = of.call("devices", async move |client: Client| client.devices().await).unwrap();
    own.into_iter().map(|device| device.id).collect()
}

/// Checks that just the devices of the record stand in these chats and hear what is said.
fn check(world: &World, (bob, all): (&Device, &[Device]), chats: &[ConversationId]) {
    let word = format!("who hears this, of {}?", all.len());
    for &chat in chats {
        bob.say(chat, &word);
    }
    world.settle();
    let named = devices(all.last().unwrap());
    for device in all {
        for &chat in chats {
            let standing = device.info(chat).unwrap().standing;
            let heard = texts(device, chat).contains(&word);
            match named.contains(&id(device)) {
                true => assert_eq!((standing, heard), (Standing::Member, true)),
                false => assert_eq!((standing, heard), (Standing::Removed, false)),
            }
        }
    }
    let good: Vec<_> = all.iter().filter(|device| named.contains(&id(device))).collect();
    assert_eq!(good.len(), named.len());
    for device in &good {
        for &chat in chats {
            device.say(chat, &format!("and {word}"));
        }
    }
    world.settle();
    for &chat in chats {
        let said = texts(bob, chat).iter().filter(|text| **text == format!("and {word}")).count();
        assert_eq!(said, good.len());
        let members = bob.info(chat).unwrap().members;
        assert_eq!(members.iter().find(|member| !member.is_me).unwrap().devices, good.len());
    }
}

/// C11.
#[test]
fn audit_prog_h1_after_twelve_log_ins_just_the_devices_of_the_record_are_in_every_chat() {
    let world = World::new(6);
    let bob = world.sign_up("bob");
    let mut anns = vec![world.sign_up("ann")];
    let chats = [anns[0].start_chat(&["bob"]), anns[0].create_group("meadow", &["bob"])];
    world.settle();
    for _ in 0..9 {
        anns.push(world.log_in("ann"));
        world.settle();
    }
    let eleventh = world.device("ann");
    let Err(Error::TooManyDevices(list)) = world.try_log_in(&eleventh) else {
        panic!("the eleventh device asks which one goes");
    };
    let ids: Vec<_> = list.iter().map(|device| device.id).collect();
    assert_eq!(ids, anns.iter().map(id).collect::<Vec<_>>(), "oldest first");
    assert!(list.is_sorted_by_key(|device| device.since));
    world.settle();
    check(&world, (&bob, &anns), &chats);
    eleventh.lose();
    for goes in [4, 0] {
        let device = world.log_in_for("ann", id(&anns[goes]));
        // A newcomer and who takes a device out for it may meet: then they wait for each other, by
        // leaf order and at random.
        world.network().disturb();
        world.settle();
        anns.push(device);
        let named = devices(&anns[1]);
        assert_eq!((named.len(), named.contains(&id(&anns[goes]))), (10, false));
        check(&world, (&bob, &anns), &chats);
    }
    let newcomer = anns.last().unwrap();
    for chat in chats {
        let gap = |item: &Item| item.what == ItemKind::Gap;
        assert!(newcomer.history(chat).iter().filter(|item| gap(item)).count() <= 1);
    }
}

#[test]
fn audit_srv_b7_a_device_that_is_removed_leaves_every_chat() {
    let world = World::new(7);
    let bob = world.sign_up("bob");
    let anns = [world.sign_up("ann"), world.log_in("ann"), world.log_in("ann")];
    let chats = [anns[0].start_chat(&["bob"]), anns[0].create_group("meadow", &["bob"])];
    world.settle();
    let [own, gone] = [id(&anns[0]), id(&anns[1])];
    let refused = |device: DeviceId, password: &str| {
        let password = password.to_owned();
        let remove = async move |client: Client| client.remove_device(device, &password).await;
        anns[0].call("remove a device", remove).unwrap_err().code()
    };
    assert_eq!(refused(own, &anns[0].password()), "this_device");
    assert_eq!(refused(id(&bob), &anns[0].password()), "unknown_device");
    assert_eq!(refused(gone, "somebody else's long password"), "wrong_password");
    world.settle();
    assert_eq!(devices(&anns[0]).len(), 3);
    anns[0].remove_device(gone).unwrap();
    world.network().disturb();
    world.settle();
    assert_eq!(devices(&anns[2]), [own, id(&anns[2])]);
    check(&world, (&bob, &anns), &chats);
    assert_eq!(refused(gone, &anns[0].password()), "unknown_device");
}

#[test]
fn audit_srv_b7_a_device_that_is_removed_comes_into_no_later_chat() {
    for seed in 0..6 {
        let world = World::new(seed);
        let [ann, bob] = ["ann", "bob"].map(|name| world.sign_up(name));
        let gone = world.log_in("ann");
        world.settle();
        ann.remove_device(id(&gone)).unwrap();
        world.settle();
        // The owner, who would take it out again, is away as soon as bob is in.
        let chat = ann.create_group("meadow", &["bob"]);
        world.until("bob is in", || bob.info(chat).is_ok());
        ann.set_cut(true);
        bob.say(chat, "for ann");
        world.pass(60_000);
        assert!(gone.info(chat).is_err(), "seed {seed}: {:?}", gone.info(chat));
        assert!(texts(&gone, chat).is_empty(), "seed {seed}");
    }
}

/// Neither the removal of the device that has invited somebody nor another removed device, whose
/// session runs on, keeps out who was invited.
#[test]
fn audit_issue_7_who_was_invited_by_a_device_that_is_removed_comes_in() {
    for seed in 0..6 {
        let world = World::new(seed);
        let [ann, bob, dan] = ["ann", "bob", "dan"].map(|name| world.sign_up(name));
        let gone = world.log_in("ann");
        world.settle();
        ann.remove_device(id(&gone)).unwrap();
        let founder = world.log_in("ann");
        world.settle();
        ann.set_cut(true);
        dan.set_cut(true);
        let chat = founder.create_group("meadow", &["dan", "bob"]);
        founder.say(chat, "by the founder");
        world.until("bob has heard it", || texts(&bob, chat) == ["by the founder"]);
        founder.set_cut(true);
        ann.set_cut(false);
        ann.remove_device(id(&founder)).unwrap();
        world.pass(60_000);
        dan.set_cut(false);
        world.pass(60_000);
        assert_eq!(dan.info(chat).unwrap().standing, Standing::Member, "seed {seed}");
        ann.say(chat, "by ann");
        world.until("dan has heard it", || texts(&dan, chat).contains(&"by ann".to_owned()));
        assert!(gone.info(chat).is_err(), "seed {seed}");
    }
}

#[test]
fn a_leaf_that_the_peers_newest_record_does_not_name_is_marked() {
    let world = World::new(8);
    let [ann, bob] = ["ann", "bob"].map(|name| world.sign_up(name));
    let gone = world.log_in("bob");
    let chat = ann.start_chat(&["bob"]);
    world.settle();
    let unnamed = || {
        let members = ann.info(chat).unwrap().members;
        let bobs = members.into_iter().find(|member| !member.is_me).unwrap();
        (bobs.devices, bobs.unnamed)
    };
    assert_eq!(unnamed(), (2, 0));
    let other = id(&gone);
    // It has no time to take the other one out.
    world.network().set_lie(Some(Box::new(|who, _, request| {
        let takes_out = who == "bob.1" && matches!(request, OpenRequest::Append(_));
        takes_out.then(|| Err(ErrorCode::Unavailable.into()))
    })));
    bob.remove_device(other).unwrap();
    bob.crash();
    let compare = async move |client: Client| client.safety_number("bob").await;
    ann.call("compare", compare).unwrap();
    assert_eq!(unnamed(), (2, 1));
    ann.restart();
    assert_eq!(unnamed(), (2, 1));
    world.network().set_lie(None);
    bob.start();
    world.settle();
    assert_eq!(unnamed(), (1, 0));
}

/// Keeps a device from writing into any log.
fn silence(world: &World, device: &'static str) {
    world.network().set_lie(Some(Box::new(move |who, _, request| {
        let writes = who == device && matches!(request, OpenRequest::Append(_));
        writes.then(|| Err(ErrorCode::Unavailable.into()))
    })));
}

/// Bob with a second device, and eve, who is away.
fn bob_twice_and_eve_cut_off() -> (World, [Device; 3]) {
    let world = World::new(9);
    let [bob, eve] = ["bob", "eve"].map(|name| world.sign_up(name));
    let second = world.log_in("bob");
    world.settle();
    eve.set_cut(true);
    (world, [bob, second, eve])
}

#[test]
fn an_invitation_by_a_device_that_was_removed_waits_until_its_owner_has_taken_it_out() {
    let (world, [bob, gone, eve]) = bob_twice_and_eve_cut_off();
    let chat = gone.start_chat(&["eve"]);
    let group = gone.create_group("meadow", &["eve"]);
    gone.say(chat, "still mine");
    world.pass(60_000);
    silence(&world, "bob.1");
    bob.remove_device(id(&gone)).unwrap();
    bob.crash();
    eve.set_cut(false);
    world.pass(10 * 60_000);
    assert!(eve.info(chat).is_err() && eve.info(group).is_err());
    world.network().set_lie(None);
    bob.start();
    world.pass(60 * 60_000);
    assert_eq!(texts(&eve, chat), ["still mine"]);
    for chat in [chat, group] {
        let members = eve.info(chat).unwrap().members;
        assert_eq!(members.iter().find(|member| !member.is_me).unwrap().devices, 1);
        bob.say(chat, "and this is the other one");
        world.pass(60_000);
        assert_eq!(texts(&eve, chat).last().unwrap(), "and this is the other one");
        assert!(!texts(&gone, chat).contains(&"and this is the other one".to_owned()));
    }
}

/// The commit that takes it out lies further behind the Welcome than one page.
#[test]
fn an_invitation_by_a_device_that_left_after_it_had_said_much_is_taken() {
    let (world, [bob, gone, eve]) = bob_twice_and_eve_cut_off();
    let group = gone.create_group("meadow", &["eve"]);
    for number in 0..2 * PAGE_ENTRIES {
        gone.say(group, &format!("line {number}"));
    }
    world.pass(60_000);
    bob.remove_device(id(&gone)).unwrap();
    world.pass(60_000);
    assert_eq!(gone.info(group).unwrap().standing, Standing::Removed);
    eve.set_cut(false);
    world.pass(10_000);
    let members = eve.info(group).unwrap().members;
    assert_eq!(members.iter().map(|member| member.devices).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(texts(&eve, group).len(), 2 * PAGE_ENTRIES as usize);
    bob.say(group, "and this is the other one");
    world.settle();
    assert_eq!(texts(&eve, group).last().unwrap(), "and this is the other one");
}

#[test]
fn a_device_that_was_removed_starts_nothing_in_its_accounts_name() {
    let world = World::new(10);
    let [bob, eve] = ["bob", "eve"].map(|name| world.sign_up(name));
    let chat = bob.create_group("meadow", &[]);
    world.settle();
    let gone = world.log_in("bob");
    world.settle();
    bob.remove_device(id(&gone)).unwrap();
    bob.crash();
    world.pass(60_000);
    let start = async move |client: Client| client.start_chat(&["eve"]).await.map(drop);
    assert_eq!(gone.call("start a chat", start).unwrap_err().code(), "signed_out");
    assert_eq!(gone.try_create_group("heath", &["eve"]).unwrap_err().code(), "signed_out");
    assert_eq!(gone.add(chat, "eve").unwrap_err().code(), "signed_out");
    world.pass(60_000);
    let chats = async move |client: Client| client.chats().await;
    assert!(eve.call("chats", chats).unwrap().is_empty());
}

/// A device that is removed and that nobody takes out of its group.
fn removed(world: &World, before: impl FnOnce(&Device)) -> (Device, ConversationId) {
    let [bob, eve] = ["bob", "eve"].map(|name| world.sign_up(name));
    let chat = bob.create_group("meadow", &["eve"]);
    world.settle();
    let gone = world.log_in("bob");
    world.settle();
    before(&gone);
    bob.remove_device(id(&gone)).unwrap();
    bob.crash();
    eve.set_cut(true);
    (gone, chat)
}

/// What is refused is not stored, so that it doesn't leave later.
#[test]
fn audit_issue_7_a_removed_device_queues_nothing() {
    for seed in 0..4 {
        let world = World::new(seed);
        let (gone, chat) = removed(&world, |_| {});
        world.pass(60_000);
        let before = gone.history(chat).len();
        assert_eq!(gone.try_say(chat, "boo").unwrap_err().code(), "signed_out");
        let rename = async move |chat: Chat| chat.rename("heath").await;
        assert_eq!(gone.call_in(chat, "rename", rename).unwrap_err().code(), "signed_out");
        assert_eq!(gone.set_role(chat, "eve", Role::Owner).unwrap_err().code(), "signed_out");
        let remove = async move |chat: Chat| chat.remove(&["eve"]).await;
        assert_eq!(gone.call_in(chat, "remove", remove).unwrap_err().code(), "signed_out");
        let leave = async move |chat: Chat| chat.leave().await;
        assert_eq!(gone.call_in(chat, "leave", leave).unwrap_err().code(), "signed_out");
        assert_eq!(gone.history(chat).len(), before, "seed {seed}");
    }
}

/// A device without a network doesn't know that it was removed; once it does, nothing waits to be
/// sent that never will be.
#[test]
fn audit_issue_7_what_a_removed_device_had_queued_fails() {
    for seed in 0..4 {
        let world = World::new(seed);
        let (gone, chat) = removed(&world, |gone| gone.set_cut(true));
        gone.try_say(chat, "boo").unwrap();
        let queued = |item: &Item| {
            matches!(&item.what, ItemKind::Message { delivery: Delivery::Queued, .. })
        };
        assert!(gone.history(chat).iter().any(queued));
        // It can't read the chat, so that it can't send before it hears of its removal.
        world.network().set_push_lie(Some(Box::new(|who, push| {
            Some(push).filter(|push| who != "bob.2" || !matches!(push, Push::Entries { .. }))
        })));
        gone.set_cut(false);
        world.pass(60_000);
        assert!(!gone.history(chat).iter().any(queued), "seed {seed}");
    }
}

/// Whoever looks for somebody finds no chat in which only a removed device of his would hear it.
#[test]
fn nobody_is_sent_into_a_chat_where_only_a_removed_device_is() {
    let world = World::new(11);
    let [gone, eve] = ["bob", "eve"].map(|name| world.sign_up(name));
    eve.set_cut(true);
    let chat = gone.start_chat(&["eve"]);
    world.pass(60_000);
    silence(&world, "bob.2");
    let bob = world.log_in("bob");
    bob.remove_device(id(&gone)).unwrap();
    eve.set_cut(false);
    let other = eve.start_chat(&["bob"]);
    assert_ne!(other, chat);
    eve.say(other, "for bob only");
    world.pass(60_000);
    assert!(!texts(&gone, other).contains(&"for bob only".to_owned()));
    world.network().set_lie(None);
    world.settle();
    assert_eq!(texts(&bob, other), ["for bob only"]);
}

/// A device that never came into the chat can't tell the account's other devices of it, be it
/// removed or only lost.
#[test]
fn audit_issue_7_whose_invited_device_never_comes_in_comes_in_with_another() {
    for seed in 0..8 {
        let world = World::new(seed);
        let [ann, bob, lost] = ["ann", "bob", "dan"].map(|name| world.sign_up(name));
        world.settle();
        let lost_id = id(&lost);
        lost.set_cut(true);
        let group = ann.create_group("meadow", &["bob"]);
        ann.add(group, "dan").unwrap();
        let chat = ann.start_chat(&["dan"]);
        ann.say(chat, "where are you?");
        world.pass(1_000);
        lost.crash();
        let dan = world.log_in("dan");
        let is_removed = seed % 2 == 0;
        if is_removed {
            dan.remove_device(lost_id).unwrap();
        }
        let author_is_away = seed % 4 > 1;
        if author_is_away {
            ann.set_cut(true);
        }
        world.pass(5 * 60_000);
        ann.set_cut(false);
        world.pass(5 * 60_000);
        for (other, chat) in [(&ann, group), (&bob, group), (&ann, chat)] {
            let info = dan.info(chat);
            assert_eq!(info.unwrap().standing, Standing::Member, "seed {seed}");
            let members = other.info(chat).unwrap().members;
            let dans = members.iter().find(|member| member.name.as_deref() == Some("dan"));
            let expected = if is_removed { 1 } else { 2 };
            assert_eq!(dans.unwrap().devices, expected, "seed {seed}");
            other.say(chat, &format!("{} to dan", other.label()));
            dan.say(chat, &format!("dan to {}", other.label()));
            world.settle();
            let heard = texts(&dan, chat);
            assert!(heard.contains(&format!("{} to dan", other.label())), "seed {seed}");
            let heard = texts(other, chat);
            assert!(heard.contains(&format!("dan to {}", other.label())), "seed {seed}");
        }
        if !is_removed {
            lost.start();
            lost.set_cut(false);
            world.settle();
            for chat in [group, chat] {
                world.agree(chat, Mood::Honest);
            }
        }
    }
}

/// A peer that reads at once that a device came and that the log was closed behind it asks who that
/// device is.
#[test]
fn audit_issue_7_a_device_that_came_before_a_handover_is_named() {
    for seed in 0..6 {
        let world = World::new(seed);
        let [ann, bob] = ["ann", "bob"].map(|name| world.sign_up(name));
        let [gone, _online] = ["ann", "bob"].map(|name| world.log_in(name));
        let chat = ann.start_chat(&["bob"]);
        world.settle();
        let gone = id(&gone);
        bob.set_cut(true);
        let new = world.log_in("ann");
        world.pass(10_000);
        ann.remove_device(gone).unwrap();
        world.pass(30_000);
        bob.set_cut(false);
        world.settle();
        new.say(chat, "who am I?");
        world.settle();
        let members = bob.info(chat).unwrap().members;
        let anns = members.iter().find(|member| !member.is_me).unwrap();
        assert_eq!((anns.devices, anns.unnamed), (2, 0), "seed {seed}");
        world.agree(chat, Mood::Honest);
    }
}

#[test]
fn audit_issue_7_gf6_a_device_that_was_off_accuses_no_honest_server() {
    for seed in 0..4 {
        let world = World::new(seed);
        let [_, bob] = ["ann", "bob"].map(|name| world.sign_up(name));
        let other = world.log_in("ann");
        world.settle();
        other.crash();
        let chats = [0, 1, 2].map(|number| {
            let chat = bob.create_group(&format!("group {number}"), &["ann"]);
            bob.say(chat, "hi");
            chat
        });
        world.pass(10_000);
        other.start();
        world.settle();
        for chat in chats {
            assert_eq!(texts(&other, chat), ["hi"]);
            assert!(!tells_of_the_loss(&other, chat), "seed {seed}");
            world.agree(chat, Mood::Honest);
        }
    }
}

/// Who was removed behind a handover that its account's log doesn't tell of yet looks for the chat
/// where that log says that it goes on, and finds the same handover again.
#[test]
fn audit_issue_7_f2_who_was_removed_behind_a_handover_finds_it_out_once() {
    for (seed, off) in [(401, &[0][..]), (402, &[1]), (403, &[0, 1])] {
        let world = World::new(seed);
        let [ann, bob, cem] = ["ann", "bob", "cem"].map(|name| world.sign_up(name));
        let bobs = [bob.clone(), world.log_in("bob")];
        let second = world.log_in("cem");
        world.settle();
        // Only packages of last resort are left, which open the same Welcome twice.
        for device in world.server().borrow_mut().devices.values_mut() {
            device.packages.retain(|package| package.last_resort);
        }
        let chat = ann.create_group("meadow", &["bob", "cem"]);
        world.settle();
        for &bob in off {
            bobs[bob].crash();
        }
        second.remove_device(id(&cem)).unwrap();
        let on = [&ann, &second]
            .into_iter()
            .chain((0..2).filter(|n| !off.contains(n)).map(|n| &bobs[n]));
        let is_over = |device: &Device| {
            let members = device.info(chat).unwrap().members;
            members.iter().map(|member| member.devices).sum::<usize>() == 4
        };
        world.until("the handover", || on.clone().all(is_over));
        world.pass(2_000);
        ann.remove(chat, "bob").unwrap();
        world.pass(2_000);
        for &bob in off {
            bobs[bob].start();
        }
        world.settle();
        for bob in &bobs {
            assert_eq!(bob.info(chat).unwrap().standing, Standing::Removed, "seed {seed}");
            let history = bob.history(chat);
            let removed = |item: &&Item| matches!(item.what, ItemKind::Removed { .. });
            assert_eq!(history.iter().filter(removed).count(), 2, "seed {seed}: {history:#?}");
        }
    }
}
