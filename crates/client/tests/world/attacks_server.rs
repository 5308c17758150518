//! A server that lies (D1, D2, D4).

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use corncrake::{Client, ConversationId, ItemKind, Standing, transport::Push};
use corncrake_wire::{
    LogId, OpenReply, OpenRequest,
    log::{AppendReply, LogEntry, Part, ReadReply},
    open::By,
};

use crate::{check::Mood, device::Device, flows::texts, server::Server, world::World};

/// Ann's chat with Bob, the log that it is in, and that log's head.
fn pair(seed: u64) -> (World, Device, Device, ConversationId, LogId) {
    let world = World::new(seed);
    let [ann, bob] = ["ann", "bob"].map(|name| world.sign_up(name));
    world.settle();
    let before: Vec<LogId> = world.server().borrow().logs.keys().copied().collect();
    let chat = ann.start_chat(&["bob"]);
    ann.say(chat, "one");
    world.settle();
    let server = world.server();
    let server = server.borrow();
    let log = *server.logs.keys().find(|log| !before.contains(log)).unwrap();
    (world, ann, bob, chat, log)
}

/// The server shows `who` the log through `show`.
fn shows(
    world: &World,
    who: &str,
    log: LogId,
    show: impl Fn(Vec<LogEntry>, u64) -> (Vec<LogEntry>, u64) + 'static,
) {
    let (show, who) = (Rc::new(show), who.to_owned());
    let (show_read, who_read) = (show.clone(), who.clone());
    world.network().set_lie(Some(Box::new(move |asks, server, request| {
        let OpenRequest::Read(read) = request else {
            return None;
        };
        if asks != who_read || read.token.log_id() != log {
            return None;
        }
        let Ok(OpenReply::Read(reply)) = server.handle_open(request.clone()) else {
            return None;
        };
        let (entries, head) = show_read(reply.entries, reply.head);
        Some(Ok(OpenReply::Read(ReadReply { entries, head })))
    })));
    world.network().set_push_lie(Some(Box::new(move |asks, push| match push {
        Push::Entries { log: of, entries, head } if asks == who && of == log => {
            let (entries, head) = show(entries, head);
            Some(Push::Entries { log: of, entries, head })
        }
        push => Some(push),
    })));
}

#[test]
fn d1_withholds_the_tail() {
    for seed in 0..4 {
        let (world, ann, bob, chat, log) = pair(seed);
        let end = world.server().borrow().logs[&log].head();
        shows(&world, "bob.1", log, move |mut entries, head| {
            entries.retain(|entry| entry.position <= end);
            (entries, head.min(end))
        });
        ann.say(chat, "two");
        bob.say(chat, "three");
        world.pass(3_600_000);
        assert!(!texts(&bob, chat).contains(&"two".to_owned()));
        world.settle();
        assert!(texts(&bob, chat).contains(&"two".to_owned()));
        world.agree(chat, Mood::Honest);
    }
}

#[test]
fn d1_shows_two_members_different_orders() {
    let world = World::new(1);
    let [ann, bob, cem] = ["ann", "bob", "cem"].map(|name| world.sign_up(name));
    let chat = ann.create_group("meadow", &["bob", "cem"]);
    world.settle();
    for device in [&ann, &bob, &cem] {
        device.say(chat, "hello");
    }
    world.settle();
    let honest = world.server();
    let other = Rc::new(RefCell::new(honest.borrow().clone()));
    let heads = |server: &Rc<RefCell<Server>>| -> Vec<(LogId, u64)> {
        server.borrow().logs.iter().map(|(log, held)| (*log, held.head())).collect()
    };
    let before = heads(&honest);
    cem.set_server(other.clone());
    ann.say(chat, "first");
    world.pass(5000);
    bob.say(chat, "second");
    world.pass(60_000);
    // Cem gets the same two entries the other way round.
    let (log, head) = *before
        .iter()
        .find(|(log, head)| honest.borrow().logs[log].head() == head + 2)
        .expect("the group's log");
    let mut new = honest.borrow().logs[&log].entries[usize::try_from(head).unwrap()..].to_vec();
    new.reverse();
    carry(&other, log, new);
    world.announce(&other, log);
    world.pass(60_000);
    assert!(texts(&cem, chat).ends_with(&["second".to_owned(), "first".to_owned()]));
    cem.say(chat, "I heard you");
    world.pass(60_000);
    let said = other.borrow().logs[&log].entries[usize::try_from(head + 2).unwrap()..].to_vec();
    assert_eq!(said.len(), 1);
    carry(&honest, log, said);
    world.announce(&honest, log);
    world.pass(60_000);
    for device in [&ann, &bob] {
        let alarm = |item: &corncrake::Item| matches!(item.what, ItemKind::ViewDiffers { .. });
        assert!(device.history(chat).iter().any(alarm), "{}", device.label());
    }
}

/// Puts entries at the end of a log, as a lying server does.
fn carry(
    server: &Rc<RefCell<Server>>,
    log: LogId,
    entries: Vec<(corncrake_wire::log::EntryKind, corncrake_wire::log::NewEntry)>,
) {
    let mut server = server.borrow_mut();
    let held = server.logs.get_mut(&log).unwrap();
    for (kind, entry) in entries {
        held.ids.insert(entry.id(), held.entries.len() as u64 + 1);
        held.entries.push((kind, entry));
    }
}

#[test]
fn d1_swaps_what_lies_beside_entries() {
    for seed in 0..4 {
        let world = World::new(seed);
        let ann = world.sign_up("ann");
        world.sign_up("bob");
        let chat = ann.create_group("meadow", &["bob"]);
        for number in 0..3 {
            ann.rename(chat, &format!("meadow {number}")).unwrap();
        }
        world.settle();
        // Whoever asks for a state gets the one of another log.
        world.network().set_lie(Some(Box::new(move |_, server, request| {
            let OpenRequest::Beside(beside) = request else {
                return None;
            };
            if beside.part != Part::State {
                return None;
            }
            let asked = beside.token.log_id();
            let other = server.logs.iter().find(|(log, _)| **log != asked)?.1;
            Some(Ok(OpenReply::Beside(corncrake_wire::log::Sealed {
                bytes: other.opening.clone(),
            })))
        })));
        let second = world.device("ann");
        let entered = world.try_log_in(&second);
        assert!(entered.is_ok(), "{entered:?}");
        world.pass(600_000);
        world.settle();
        assert_eq!(second.info(chat).unwrap().standing, Standing::Member);
        world.agree(chat, Mood::Honest);
    }
}

#[test]
fn d1_swaps_bytes_and_answers_with_another_logs_entries() {
    for seed in 0..4 {
        let (world, ann, bob, chat, log) = pair(seed);
        let other = ann.create_group("other", &["bob"]);
        ann.say(other, "elsewhere");
        world.settle();
        let end = world.server().borrow().logs[&log].head();
        let foreign = world.server();
        shows(&world, "bob.1", log, move |mut entries, head| {
            let server = foreign.borrow();
            let elsewhere = server.logs.iter().find(|(of, _)| **of != log).unwrap().1;
            for entry in entries.iter_mut().filter(|entry| entry.position > end) {
                entry.bytes.clone_from(&elsewhere.entries[0].1.bytes);
            }
            (entries, head)
        });
        ann.say(chat, "swapped");
        world.pass(60_000);
        world.network().set_lie(None);
        world.network().set_push_lie(None);
        ann.say(chat, "not swapped");
        world.settle();
        assert!(texts(&bob, chat).contains(&"not swapped".to_owned()));
        assert!(!texts(&bob, chat).contains(&"elsewhere".to_owned()));
        let silent = texts(&bob, chat) == ["one", "not swapped"]
            && bob.history(chat).iter().all(|item| matches!(item.what, ItemKind::Message { .. }));
        assert!(!silent, "a word was lost silently");
    }
}

#[test]
fn d1_repeats_an_entry() {
    for seed in 0..4 {
        let (world, ann, bob, chat, log) = pair(seed);
        // The newest entry once more, at the next position, under the same bytes.
        let newest = world.server().borrow().logs[&log].entries.last().unwrap().clone();
        carry(&world.server(), log, vec![newest.clone(), newest]);
        world.announce(&world.server(), log);
        world.pass(60_000);
        bob.restart();
        ann.restart();
        bob.say(chat, "two");
        world.settle();
        for device in [&ann, &bob] {
            assert_eq!(texts(device, chat), ["one", "two"], "{}", device.label());
        }
        world.agree(chat, Mood::Honest);
    }
}

#[test]
fn d2_lies_about_appends() {
    for seed in 0..6 {
        let (world, ann, bob, chat, _) = pair(seed);
        // The first three appends: accepted and not stored (even seeds), or refused and stored.
        let lies = Cell::new(3);
        world.network().set_lie(Some(Box::new(move |who, server, request| {
            let OpenRequest::Append(append) = request else {
                return None;
            };
            if lies.get() == 0 || who != "ann.1" {
                return None;
            }
            lies.set(lies.get() - 1);
            let head = server.logs.get(&append.token.log_id()).map_or(0, |log| log.head());
            if seed % 2 == 0 {
                let positions = (head + 1..).take(append.entries.len()).collect();
                Some(Ok(OpenReply::Append(AppendReply::Stored { positions, head: head + 1 })))
            } else {
                let _ = server.handle_open(request.clone());
                Some(Err(corncrake_wire::ErrorCode::Unavailable.into()))
            }
        })));
        ann.say(chat, "two");
        world.pass(600_000);
        ann.say(chat, "three");
        world.pass(600_000);
        world.settle();
        assert_eq!(texts(&bob, chat), ["one", "two", "three"], "seed {seed}");
        world.agree(chat, Mood::Honest);
    }
}

#[test]
fn d4_hands_out_an_old_record_and_another_persons() {
    let world = World::new(4);
    let [ann, bob, _cem] = ["ann", "bob", "cem"].map(|name| world.sign_up(name));
    let old = record_of(&world, "ann");
    let cems = record_of(&world, "cem");
    world.log_in("ann");
    world.settle();
    let number = |device: &Device| {
        device.call("verify ann", async move |client: Client| client.safety_number("ann").await)
    };
    let known = number(&bob).unwrap().to_string();
    for record in [old, cems] {
        world.network().set_lie(Some(Box::new(move |_, _, request| match request {
            OpenRequest::LookUp(_) => Some(Ok(OpenReply::LookUp(record.clone()))),
            _ => None,
        })));
        match number(&bob) {
            // What it knows already is as good as what it isn't told.
            Ok(number) => assert_eq!(number.to_string(), known),
            Err(error) => assert_eq!(error.code(), "untrue_answer"),
        }
        let _ = bob.try_start_chat(&["ann"]);
    }
    world.network().set_lie(None);
    let chat = bob.start_chat(&["ann"]);
    world.settle();
    assert_eq!(number(&bob).unwrap().to_string(), known);
    assert_eq!(bob.info(chat).unwrap().title, "ann");
    world.agree(chat, Mood::Honest);
    assert_eq!(ann.chats().len(), 1);
}

fn record_of(world: &World, name: &str) -> corncrake_wire::open::Found {
    let look_up =
        corncrake_wire::open::LookUp { by: By::Name(name.to_owned()), admission: Vec::new() };
    let server = world.server();
    let reply = server.borrow_mut().handle_open(look_up.into());
    let Ok(OpenReply::LookUp(record)) = reply else { panic!() };
    record
}
