//! The plain flows of architecture §8, with a network that behaves and with one that doesn't.

use corncrake::{ChatKind, Client, Connection, EventKind, ItemKind, Role, Standing};

use crate::{check::Mood, network::Faults, world::World};

/// Runs a flow under a few seeds: the first with a network that behaves.
fn each(flow: impl Fn(&World)) {
    for seed in 0..6 {
        let world = World::new(seed);
        if seed > 0 {
            world.set_faults(Faults::MIXED);
        }
        flow(&world);
    }
}

/// What a device was told by others, in order.
pub(crate) fn texts(
    device: &crate::device::Device,
    chat: corncrake::ConversationId,
) -> Vec<String> {
    let items = device.history(chat).into_iter();
    let texts = items.filter_map(|item| match item.what {
        ItemKind::Message { text, .. } => Some(text),
        _ => None,
    });
    texts.collect()
}

#[test]
fn people_sign_up_and_log_in_on_a_second_device() {
    each(|world| {
        let ann = world.sign_up("ann");
        let again = world.log_in("ann");
        world.settle();
        let account = async move |client: Client| client.account().await;
        let one = ann.call("account", account).unwrap();
        let two = again.call("account", account).unwrap();
        assert_eq!((&one.id, &one.username), (&two.id, &two.username));
        assert_ne!(one.device, two.device);
        for device in [&ann, &again] {
            let devices = device.call("devices", async move |c: Client| c.devices().await).unwrap();
            assert_eq!(devices.len(), 2);
            assert_eq!(devices.iter().filter(|device| device.this_device).count(), 1);
        }
        world.check_complaints();
    });
}

#[test]
fn audit_prog_m7_what_is_settled_is_found_by_a_later_device() {
    each(|world| {
        let (ann, bob) = (world.sign_up("ann"), world.sign_up("bob"));
        let chat = ann.create_group("meadow", &["bob"]);
        world.until("bob is in the group", || bob.told().added.contains_key(&chat));
        for device in [&ann, &bob] {
            device.call("settle", async move |client: Client| client.settle().await).unwrap();
            device.lose();
        }
        for name in ["ann", "bob"] {
            let later = world.device(name);
            world.settle();
            world.try_log_in(&later).unwrap();
            world.settle();
            assert_eq!(later.info(chat).unwrap().standing, Standing::Member);
        }
    });
}

#[test]
fn a_chat_of_two_carries_words_both_ways() {
    each(|world| {
        let (ann, bob) = (world.sign_up("ann"), world.sign_up("bob"));
        let chat = ann.start_chat(&["bob"]);
        ann.say(chat, "hello");
        world.settle();
        bob.say(chat, "hello yourself");
        world.settle();
        assert_eq!(texts(&ann, chat), ["hello", "hello yourself"]);
        assert_eq!(texts(&bob, chat), ["hello", "hello yourself"]);
        let info = bob.info(chat).unwrap();
        assert_eq!((info.kind, info.title.as_str()), (ChatKind::Direct, "ann"));
        assert_eq!(bob.start_chat(&["ann"]), chat);
        world.agree(chat, Mood::Honest);
        let number = |device: &crate::device::Device, other: &'static str| {
            let number = device.call("verify", async move |c: Client| c.safety_number(other).await);
            number.unwrap().to_string()
        };
        assert_eq!(number(&ann, "bob"), number(&bob, "ann"));
    });
}

#[test]
fn a_group_grows_shrinks_and_is_renamed() {
    each(|world| {
        let (ann, bob) = (world.sign_up("ann"), world.sign_up("bob"));
        let (cem, dee) = (world.sign_up("cem"), world.sign_up("dee"));
        let chat = ann.create_group("meadow", &["bob", "cem"]);
        ann.say(chat, "welcome");
        world.settle();
        bob.say(chat, "thanks");
        world.settle();
        ann.add(chat, "dee").unwrap();
        world.settle();
        dee.say(chat, "what did I miss?");
        ann.rename(chat, "the meadow").unwrap();
        world.settle();
        world.agree(chat, Mood::Honest);
        assert_eq!(cem.info(chat).unwrap().title, "the meadow");
        assert_eq!(cem.rename(chat, "no").unwrap_err().code(), "not_allowed");
        ann.remove(chat, "cem").unwrap();
        world.settle();
        bob.say(chat, "cem hears nothing of this");
        world.settle();
        assert_eq!(cem.info(chat).unwrap().standing, Standing::Removed);
        assert!(!texts(&cem, chat).contains(&"cem hears nothing of this".to_owned()));
        assert!(texts(&dee, chat).contains(&"cem hears nothing of this".to_owned()));
        world.agree(chat, Mood::Honest);
    });
}

#[test]
fn removed_then_added_again_is_the_same_chat_with_a_gap() {
    each(|world| {
        let ann = world.sign_up("ann");
        let (bob, cem) = (world.sign_up("bob"), world.sign_up("cem"));
        let chat = ann.create_group("meadow", &["bob", "cem"]);
        world.settle();
        cem.say(chat, "here");
        ann.remove(chat, "cem").unwrap();
        world.settle();
        assert_eq!(cem.try_say(chat, "still here?").unwrap_err().code(), "not_a_member");
        bob.say(chat, "between us");
        world.settle();
        ann.add(chat, "cem").unwrap();
        world.settle();
        cem.say(chat, "back");
        world.settle();
        assert!(!texts(&cem, chat).contains(&"between us".to_owned()));
        assert!(cem.history(chat).iter().any(|item| item.what == ItemKind::Gap));
        world.agree(chat, Mood::Honest);
    });
}

#[test]
fn who_leaves_is_gone_and_the_others_go_on() {
    each(|world| {
        let ann = world.sign_up("ann");
        let (bob, cem) = (world.sign_up("bob"), world.sign_up("cem"));
        let chat = ann.create_group("meadow", &["bob", "cem"]);
        world.settle();
        bob.leave(chat).unwrap();
        world.settle();
        cem.say(chat, "he is gone");
        world.settle();
        assert_ne!(bob.info(chat).map(|info| info.standing).ok(), Some(Standing::Member));
        assert_eq!(ann.info(chat).unwrap().members.len(), 2);
        world.agree(chat, Mood::Honest);
    });
}

#[test]
fn roles_decide_who_may_add() {
    each(|world| {
        let ann = world.sign_up("ann");
        let (bob, _cem) = (world.sign_up("bob"), world.sign_up("cem"));
        let chat = ann.create_group("meadow", &["bob"]);
        world.settle();
        assert_eq!(bob.rename(chat, "mine").unwrap_err().code(), "not_allowed");
        ann.set_role(chat, "bob", Role::Admin).unwrap();
        world.settle();
        bob.rename(chat, "ours").unwrap();
        bob.add(chat, "cem").unwrap();
        world.settle();
        assert_eq!(ann.info(chat).unwrap().title, "ours");
        world.agree(chat, Mood::Honest);
    });
}

#[test]
fn a_second_device_joins_all_chats_by_itself() {
    each(|world| {
        let (ann, _bob) = (world.sign_up("ann"), world.sign_up("bob"));
        world.sign_up("cem");
        let direct = ann.start_chat(&["bob"]);
        let group = ann.create_group("meadow", &["bob", "cem"]);
        ann.say(direct, "before");
        world.settle();
        let second = world.log_in("ann");
        world.settle();
        for chat in [direct, group] {
            assert_eq!(second.info(chat).unwrap().standing, Standing::Member);
            second.say(chat, "from my other device");
        }
        world.settle();
        assert!(!texts(&second, direct).contains(&"before".to_owned()));
        world.agree(direct, Mood::Honest);
        world.agree(group, Mood::Honest);
    });
}

#[test]
fn everything_goes_on_after_all_devices_restart() {
    each(|world| {
        let (ann, bob) = (world.sign_up("ann"), world.sign_up("bob"));
        let chat = ann.start_chat(&["bob"]);
        ann.say(chat, "one");
        bob.restart();
        world.settle();
        ann.restart();
        bob.restart();
        ann.say(chat, "two");
        world.settle();
        assert_eq!(texts(&bob, chat), ["one", "two"]);
        world.agree(chat, Mood::Honest);
    });
}

#[test]
fn what_is_said_offline_arrives_later_in_order() {
    each(|world| {
        let (ann, bob) = (world.sign_up("ann"), world.sign_up("bob"));
        let chat = ann.start_chat(&["bob"]);
        world.settle();
        ann.set_cut(true);
        let said: Vec<String> = (0..5).map(|number| format!("word {number}")).collect();
        for text in &said {
            ann.say(chat, text);
        }
        world.pass(600_000);
        assert!(texts(&bob, chat).is_empty());
        ann.set_cut(false);
        world.settle();
        assert_eq!(texts(&bob, chat), said);
        world.agree(chat, Mood::Honest);
    });
}

#[test]
fn audit_issue_7_what_is_long_leaves_in_appends_that_a_slow_line_brings_to_their_end() {
    let world = World::new(60);
    let (ann, bob) = (world.sign_up("ann"), world.sign_up("bob"));
    let chat = ann.start_chat(&["bob"]);
    world.settle();
    ann.set_cut(true);
    for number in 0..6 {
        ann.say(chat, &format!("{number}{}", "x".repeat(12_000)));
    }
    let before = world.trace().len();
    ann.set_cut(false);
    world.settle();
    assert_eq!(texts(&bob, chat).len(), 6);
    let trace = world.trace();
    let appends = trace[before..]
        .lines()
        .filter(|line| line.contains("ann.1") && line.contains("→ append message"));
    let entries: Vec<usize> = appends.map(|line| line.matches(',').count() + 1).collect();
    assert!(entries.iter().all(|entries| *entries <= 4), "{entries:?}");
    assert!(entries.len() >= 3, "{entries:?}");
}

#[test]
fn a_hidden_chat_comes_back_with_the_next_word() {
    each(|world| {
        let (ann, bob) = (world.sign_up("ann"), world.sign_up("bob"));
        let chat = ann.start_chat(&["bob"]);
        ann.say(chat, "one");
        world.settle();
        bob.hide(chat);
        assert!(texts(&bob, chat).is_empty());
        assert!(bob.chats().iter().all(|info| info.hidden));
        ann.say(chat, "two");
        world.settle();
        assert_eq!(texts(&bob, chat), ["two"]);
        assert!(!bob.info(chat).unwrap().hidden);
    });
}

#[test]
fn a_session_that_has_ended_is_renewed_by_the_device() {
    each(|world| {
        let (ann, bob) = (world.sign_up("ann"), world.sign_up("bob"));
        let chat = ann.start_chat(&["bob"]);
        world.settle();
        ann.crash();
        bob.crash();
        world.pass(70 * 24 * 3_600_000);
        ann.start();
        bob.start();
        world.pass(600_000);
        let group = ann.create_group("after all this time", &["bob"]);
        ann.say(chat, "still here");
        world.settle();
        assert_eq!(texts(&bob, chat), ["still here"]);
        world.agree(chat, Mood::Honest);
        world.agree(group, Mood::Honest);
    });
}

#[test]
fn a_client_tells_how_its_connection_stands_and_can_be_closed() {
    each(|world| {
        let ann = world.sign_up("ann");
        world.settle();
        let connection = async move |client: Client| client.connection().await;
        assert_eq!(ann.call("connection", connection), Ok(Connection::Online));
        ann.set_cut(true);
        world.pass(120_000);
        assert_eq!(ann.call("connection", connection), Ok(Connection::Offline));
        ann.set_cut(false);
        world.settle();
        assert_eq!(ann.call("connection", connection), Ok(Connection::Online));
        // Who begins to listen learns it at once, beside somebody who waits already.
        let first = async move |client: Client| Ok(client.events().next().await.unwrap());
        let first = ann.call("listen", first).unwrap();
        let online = EventKind::Connection(Connection::Online);
        assert_eq!((first.sequence, first.what), (None, online));
        let told = &ann.told().connections;
        let away = told.iter().position(|&connection| connection == Connection::Offline);
        assert!(told.iter().skip(away.unwrap()).any(|&c| c == Connection::Online));
        assert_eq!(ann.call("close", async move |client: Client| client.close().await), Ok(()));
        let closed = ann.call("connection", connection);
        assert_eq!(closed, Err(corncrake::Error::Closed));
    });
}

#[test]
fn bad_input_is_an_error_with_a_code() {
    let world = World::new(1);
    let ann = world.sign_up("ann");
    world.sign_up("bob");
    let code = |names: &[&str]| ann.try_start_chat(names).unwrap_err().code();
    assert_eq!(code(&["nobody"]), "unknown_account");
    assert_eq!(code(&["ann"]), "chat_with_oneself");
    let chat = ann.start_chat(&["bob"]);
    assert_eq!(ann.try_say(chat, "").unwrap_err().code(), "message_empty");
    let long = "x".repeat(49 * 1024);
    assert_eq!(ann.try_say(chat, &long).unwrap_err().code(), "message_too_long");
    assert_eq!(ann.rename(chat, "title").unwrap_err().code(), "not_in_direct_chat");
    assert_eq!(ann.add(chat, "cem").unwrap_err().code(), "not_in_direct_chat");
    let group = ann.create_group("meadow", &["bob"]);
    assert_eq!(ann.rename(group, &"x".repeat(129)).unwrap_err().code(), "title_too_long");
    assert_eq!(ann.add(group, "bob").unwrap_err().code(), "already_so");
    assert_eq!(ann.add(group, "nobody").unwrap_err().code(), "unknown_account");
    assert_eq!(ann.remove(group, "nobody").unwrap_err().code(), "unknown_account");
    let stranger = world.device("ann");
    let sign_up = world.try_sign_up(&stranger);
    assert_eq!(sign_up.unwrap_err().code(), "username_taken");
    let enter = async move |client: Client| client.enter_account("ann", "not her password").await;
    assert_eq!(stranger.call("log in", enter).unwrap_err().code(), "wrong_password");
    let nobody = async move |client: Client| client.enter_account("nobody", "any password").await;
    assert_eq!(stranger.call("log in", nobody).unwrap_err().code(), "wrong_password");
    for (name, password, expected) in [
        ("x", "seven corncrakes in the meadow", "bad_username"),
        ("dee", "password1", "weak_password"),
    ] {
        let sign_up = async move |client: Client| client.create_account(name, password).await;
        assert_eq!(stranger.call("sign up", sign_up).unwrap_err().code(), expected);
    }
    let chats = async move |client: Client| client.start_chat(&["bob"]).await.map(|_| ());
    assert_eq!(stranger.call("start chat", chats).unwrap_err().code(), "no_account");
    world.settle();
    world.agree(group, Mood::Honest);
}
