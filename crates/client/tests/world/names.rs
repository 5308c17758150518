//! A name that belongs to another account than before: the server has lost the first one, or lies.

use corncrake::{AccountId, Chat, Client, Connection, ConversationId, Error, Item, ItemKind};
use corncrake_core::identity::SafetyNumber;

use crate::{
    check::Mood,
    device::Device,
    flows::texts,
    lost_accounts::connection,
    lost_entries::{backup, restore},
    server::Server,
    world::World,
};

fn account(device: &Device) -> AccountId {
    device.call("account", async move |client: Client| client.account().await).unwrap().id
}

fn verify(device: &Device, who: &str) -> Result<SafetyNumber, Error> {
    let who = who.to_owned();
    device
        .call(format!("verify {who}"), async move |client: Client| client.safety_number(&who).await)
}

/// The title of a chat of two, and the names of its members, as a device shows them.
fn shown(device: &Device, chat: ConversationId) -> (String, Vec<String>) {
    let info = device.info(chat).unwrap();
    let mut names: Vec<_> = info.members.into_iter().filter_map(|member| member.name).collect();
    names.sort_unstable();
    (info.title, names)
}

/// What a timeline tells of names that have changed hands.
fn told(device: &Device, chat: ConversationId) -> Vec<ItemKind> {
    let items = device.history(chat).into_iter();
    let items = items.filter(|Item { what, .. }| matches!(what, ItemKind::NameChangedHands { .. }));
    items.map(|item| item.what).collect()
}

/// A name as it is shown of an account that isn't the first of that name.
fn later(name: &str, account: AccountId) -> String {
    format!("{name}~{}", &account.to_string()[..8])
}

/// What somebody knows who knew one bob and then met another one.
struct Two {
    first: AccountId,
    second: AccountId,
    /// The chats of two with them.
    chats: [ConversationId; 2],
    /// A group in which neither of them is.
    group: ConversationId,
    number: SafetyNumber,
}

impl Two {
    /// Checks that `ann` tells them apart, and that nothing she does means the second one unless she
    /// says so.
    fn are_told_apart_by(&self, ann: &Device) {
        let &Self { first, second, chats: [old, new], group, .. } = self;
        let as_before = vec!["ann".to_owned(), "bob".to_owned()];
        assert_eq!(shown(ann, old), ("bob".to_owned(), as_before), "{}", ann.label());
        let name = later("bob", second);
        assert_eq!(shown(ann, new), (name.clone(), vec!["ann".to_owned(), name.clone()]));
        let both = ItemKind::NameChangedHands { before: first, now: second };
        assert_eq!((told(ann, new), told(ann, old)), (vec![both], Vec::new()), "{}", ann.label());

        let error = ann.try_start_chat(&["bob"]).unwrap_err();
        assert_eq!(error, Error::NameChangedHands { before: first, now: second });
        assert_eq!(error.code(), "name_changed_hands");
        for id in [first, second] {
            assert!(error.to_string().contains(&id.to_string()), "{error}");
        }
        assert_eq!(ann.try_create_group("field", &["bob"]).unwrap_err(), error);
        assert_eq!(ann.add(group, "bob").unwrap_err(), error);
        assert_eq!(ann.remove(group, "bob").unwrap_err(), error);
        assert_eq!(verify(ann, "Bob").unwrap_err(), error);

        assert_eq!(ann.try_start_chat(&[&first.to_string()]).unwrap(), old);
        assert_eq!(verify(ann, &first.to_string()).unwrap(), self.number);
        for second in [second.to_string(), name.to_uppercase()] {
            assert_eq!(ann.try_start_chat(&[&second]).unwrap(), new);
            assert_ne!(verify(ann, &second).unwrap(), self.number);
        }
    }
}

fn lose_account(world: &World, account: AccountId) {
    let account = corncrake_wire::AccountId(*account.as_bytes());
    world.server().borrow_mut().forget_account(account);
    world.network().crash_server();
}

#[test]
fn audit_issue_7_f6_who_takes_the_name_of_a_lost_account_is_somebody_else() {
    for seed in 0..6 {
        let world = World::new(seed);
        let [ann, dan] = ["ann", "dan"].map(|name| world.sign_up(name));
        let second = world.log_in("ann");
        world.settle();
        let before = backup(&world);
        let bob = world.sign_up("bob");
        let group = ann.create_group("meadow", &["dan"]);
        let old = bob.start_chat(&["ann"]);
        bob.say(old, "from the first bob");
        world.settle();
        let (first, number) = (account(&bob), verify(&ann, "bob").unwrap());
        bob.crash();
        let is_restored = seed % 2 == 0;
        match is_restored {
            true => restore(&world, &before),
            false => lose_account(&world, first),
        }
        let other = world.sign_up("bob");
        let new = other.start_chat(&["ann"]);
        other.say(new, "from the second bob");
        world.pass(120_000);
        let two = Two { first, second: account(&other), chats: [old, new], group, number };
        assert_ne!((new, two.second), (old, first));
        for device in [&ann, &second] {
            assert_eq!(texts(device, new), ["from the second bob"], "seed {seed}");
            assert_eq!(texts(device, old), ["from the first bob"], "seed {seed}");
            two.are_told_apart_by(device);
            device.restart();
            world.pass(120_000);
            two.are_told_apart_by(device);
        }
        // Who comes back under the name of another one is told, and reads on.
        bob.start();
        world.pass(120_000);
        assert_eq!(connection(&bob), Connection::NameTaken, "seed {seed}");
        if !is_restored {
            ann.say(old, "are you there?");
            world.pass(120_000);
            assert_eq!(texts(&bob, old), ["from the first bob", "are you there?"], "seed {seed}");
            world.agree(new, Mood::Honest);
        }
        // Others knew nobody of that name.
        assert_eq!(dan.start_chat(&["bob"]), other.start_chat(&["dan"]), "seed {seed}");
    }
}

#[test]
fn audit_issue_7_f6_two_of_one_name_in_a_group_are_told_apart() {
    let world = World::new(1);
    let [ann, bob, dan] = ["ann", "bob", "dan"].map(|name| world.sign_up(name));
    let chat = ann.create_group("meadow", &["bob", "dan"]);
    world.settle();
    let first = account(&bob);
    bob.crash();
    lose_account(&world, first);
    let other = world.sign_up("bob");
    let second = account(&other);
    ann.add(chat, &second.to_string()).unwrap();
    bob.start();
    world.pass(120_000);
    let name = later("bob", second);
    for device in [&ann, &bob, &dan] {
        let (_, names) = shown(device, chat);
        assert_eq!(names, ["ann", "bob", name.as_str(), "dan"], "{}", device.label());
    }
    // Who is called bob himself isn't told of another one of whom nobody knows.
    let (_, names) = shown(&other, chat);
    assert_eq!(names, ["ann", "bob", "dan"]);
    let error = bob.try_start_chat(&["bob"]).unwrap_err();
    assert_eq!(error, Error::NameChangedHands { before: first, now: second });
    // By the name alone the one is meant who was there before.
    let role = |who: &str| {
        let who = who.to_owned();
        ann.call_in(chat, format!("admin {who}"), async move |chat: Chat| {
            chat.set_role(&who, corncrake::Role::Admin).await
        })
    };
    role("bob").unwrap();
    ann.remove(chat, &name).unwrap();
    world.pass(60_000);
    let info = ann.info(chat).unwrap();
    let admins = info.members.iter().filter(|member| member.role == corncrake::Role::Admin);
    assert_eq!(admins.map(|member| member.account).collect::<Vec<_>>(), [first]);
    assert!(info.members.iter().all(|member| member.account != second));
    // Neither of them is in it now: the server is asked whom the name means.
    ann.remove(chat, "bob").unwrap();
    assert_eq!(ann.remove(chat, "bob").unwrap_err().code(), "name_changed_hands");
}

/// A world whose server knows two accounts that both signed up as bob, and finds the first.
fn two_bobs(seed: u64) -> (World, [Device; 3]) {
    let world = World::new(seed);
    let ann = world.sign_up("ann");
    world.settle();
    let mut before = backup(&world);
    before.draw_anew(seed);
    let bob = world.sign_up("bob");
    world.settle();
    let honest = backup(&world);
    [&ann, &bob].into_iter().for_each(Device::crash);
    put(&world, before);
    let mal = world.sign_up("bob");
    world.pass(60_000);
    let mut both = backup(&world);
    both.accounts.extend(honest.accounts);
    both.devices.extend(honest.devices);
    both.inboxes.extend(honest.inboxes);
    both.logs.extend(honest.logs);
    both.names = honest.names;
    put(&world, both);
    [&ann, &bob].into_iter().for_each(Device::start);
    world.settle();
    (world, [ann, bob, mal])
}

fn put(world: &World, server: Server) {
    *world.server().borrow_mut() = server;
    world.network().crash_server();
}

/// Whom the server finds by the name.
fn find(world: &World, name: &str, account: AccountId) {
    let account = corncrake_wire::AccountId(*account.as_bytes());
    world.server().borrow_mut().names.insert(name.to_owned(), account);
}

#[test]
fn audit_issue_7_f6_a_server_that_finds_somebody_else_by_a_name_is_noticed() {
    for seed in 0..4 {
        let (world, [ann, bob, mal]) = two_bobs(seed);
        let dan = world.sign_up("dan");
        let [first, second] = [&bob, &mal].map(account);
        let old = ann.start_chat(&["bob"]);
        let group = ann.create_group("meadow", &["dan"]);
        world.settle();
        bob.say(old, "from bob");
        world.settle();
        let number = verify(&ann, "bob").unwrap();
        assert_eq!(number, verify(&bob, "ann").unwrap());
        find(&world, "bob", second);
        let error = ann.try_start_chat(&["bob"]).unwrap_err();
        assert_eq!(error, Error::NameChangedHands { before: first, now: second }, "seed {seed}");
        let new = mal.start_chat(&["ann"]);
        mal.say(new, "from mal");
        world.settle();
        assert_eq!(texts(&ann, old), ["from bob"], "seed {seed}");
        assert_eq!(texts(&ann, new), ["from mal"], "seed {seed}");
        let two = Two { first, second, chats: [old, new], group, number };
        two.are_told_apart_by(&ann);
        // Who hears of the name for the first time believes it, and is told once it changes.
        let believed = dan.start_chat(&["bob"]);
        world.settle();
        assert_eq!(dan.info(believed).unwrap().peer, Some(second), "seed {seed}");
        find(&world, "bob", first);
        let error = dan.try_start_chat(&["bob"]).unwrap_err();
        assert_eq!(error, Error::NameChangedHands { before: second, now: first }, "seed {seed}");
        assert_eq!(ann.try_start_chat(&["bob"]).unwrap(), old, "seed {seed}");
    }
}

/// Somebody signs a name into a record that is not the one of the account.
#[test]
fn audit_issue_7_f6_a_name_that_an_account_did_not_sign_up_with_is_not_believed() {
    for seed in 0..4 {
        let (world, [ann, bob, mal]) = two_bobs(seed);
        let [first, second] = [&bob, &mal].map(account);
        let id = corncrake_wire::AccountId(*second.as_bytes());
        world.server().borrow_mut().accounts.get_mut(&id).unwrap().name = "mal".to_owned();
        let new = mal.start_chat(&["ann"]);
        mal.say(new, "from mal");
        world.pass(60_000);
        assert_eq!(texts(&ann, new), Vec::<String>::new(), "seed {seed}");
        let error = ann.try_start_chat(&[&second.to_string()]).unwrap_err();
        assert_eq!(error.code(), "untrue_answer", "seed {seed}");
        let chat = ann.start_chat(&["bob"]);
        world.settle();
        bob.say(chat, "from bob");
        world.settle();
        assert_eq!(ann.info(chat).unwrap().peer, Some(first), "seed {seed}");
        assert_eq!(texts(&ann, chat), ["from bob"], "seed {seed}");
    }
}
