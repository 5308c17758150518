//! Chats of two: what only calls itself one (C9), and what happens where there are two of them.

use corncrake::{ChatKind, ConversationId, Standing};
use corncrake_core::seal::envelope::Seed;
use corncrake_wire::{ErrorCode, LogId, OpenReply, OpenRequest, log::StatesReply};

use crate::{
    check::Mood,
    device::Device,
    flows::texts,
    mal::{Mal, Seat},
    world::World,
};

/// Mal founds a chat of two from a seed of his own.
fn strike(mal: &mut Mal) -> Seat {
    let seed = Seed::random(mal.chance.rng());
    Seat::found_direct(mal, seed, "ann")
}

/// Ann and Bob with two chats: Ann founded one while Bob was away, and Bob another because the
/// server showed him nothing in the first. Both have spoken in the one that they knew.
fn two_chats(seed: u64) -> (World, [Device; 2], [ConversationId; 2]) {
    let world = World::new(seed);
    let [ann, bob] = ["ann", "bob"].map(|name| world.sign_up(name));
    world.settle();
    let logs = || -> Vec<LogId> { world.server().borrow().logs.keys().copied().collect() };
    let before = logs();
    bob.set_cut(true);
    let first = ann.start_chat(&["bob"]);
    ann.say(first, "in the first");
    world.pass(60_000);
    ann.set_cut(true);
    let mut hidden = logs();
    hidden.retain(|log| !before.contains(log));
    world.network().set_lie(Some(Box::new(move |who, _, request| match request {
        OpenRequest::States(states)
            if who == "bob.1" && hidden.contains(&states.token.log_id()) =>
        {
            Some(Ok(OpenReply::States(StatesReply { positions: Vec::new(), start: None })))
        }
        _ => None,
    })));
    bob.set_cut(false);
    let second = bob.start_chat(&["ann"]);
    bob.say(second, "in the second");
    world.pass(60_000);
    assert_ne!(first, second);
    world.settle();
    (world, [ann, bob], [first, second])
}

#[test]
fn two_chats_of_the_same_two_go_on_in_one() {
    for seed in 0..6 {
        let (world, [ann, bob], [first, second]) = two_chats(seed);
        let lower = first.min(second);
        for device in [&ann, &bob] {
            assert_eq!(texts(device, first), ["in the first"]);
            assert_eq!(texts(device, second), ["in the second"]);
            let mut chats = device.chats();
            chats.sort_by_key(|chat| chat.id);
            let goes_on: Vec<_> = chats.iter().map(|chat| chat.continues_in).collect();
            assert_eq!(goes_on, [None, Some(lower)], "{}", device.label());
            if seed % 2 == 0 {
                device.restart();
            }
        }
        assert_eq!(ann.start_chat(&["bob"]), lower);
        assert_eq!(bob.start_chat(&["ann"]), lower);
        ann.hide(lower);
        world.settle();
        ann.try_say(first, "by the first").unwrap();
        world.settle();
        bob.try_say(second, "by the second").unwrap();
        world.settle();
        for device in [&ann, &bob] {
            assert!(
                texts(device, lower).ends_with(&["by the first".into(), "by the second".into()])
            );
            assert_eq!(texts(device, first.max(second)).len(), 1);
            assert!(!device.info(lower).unwrap().hidden);
        }
    }
}

#[test]
fn a_chat_under_a_changed_contact_key_is_found_beside_the_old_one_and_goes_on() {
    (0..4).for_each(chats_of_two_keys);
}

fn chats_of_two_keys(seed: u64) {
    let world = World::new(seed);
    let (ann, mut mal) = (world.sign_up("ann"), Mal::sign_up(&world, "mal"));
    let mut seats = Vec::new();
    for is_first in [true, false] {
        let agreed = mal.direct_seed("ann", 0);
        seats.push(Seat::found_direct(&mut mal, agreed, "ann"));
        world.settle();
        if is_first {
            mal.change_contact_key();
        }
    }
    assert_eq!(ann.chats().len(), 2);
    let newer = seats[1].conversation.id();
    assert_eq!(ann.info(seats[0].conversation.id()).unwrap().continues_in, Some(newer));
    assert_eq!(ann.info(newer).unwrap().continues_in, None);
    for (number, seat) in seats.iter_mut().enumerate() {
        seat.say(&mut mal, &format!("in {number}"));
        world.settle();
        let chat = seat.conversation.id();
        assert!(texts(&ann, chat).contains(&format!("in {number}")));
        ann.say(chat, "in the newer one");
    }
    world.settle();
    let heard = seats.iter_mut().map(|seat| {
        seat.read(&mal);
        seat.heard.len()
    });
    assert_eq!(heard.collect::<Vec<_>>(), [0, 2]);
}

fn is_alone_with_mal(ann: &Device, chat: ConversationId) {
    let chats = ann.chats();
    assert_eq!(chats.len(), 1);
    assert_eq!((chats[0].id, chats[0].kind), (chat, ChatKind::Direct));
    assert_eq!((chats[0].title.as_str(), chats[0].standing), ("mal", Standing::Member));
}

#[test]
fn a_welcome_into_a_chat_that_only_calls_itself_direct() {
    for seed in 0..4 {
        let world = World::new(seed);
        let ann = world.sign_up("ann");
        let mut mal = Mal::sign_up(&world, "mal");
        world.settle();
        strike(&mut mal);
        world.pass(if seed % 2 == 0 { 600_000 } else { 0 });
        if seed >= 2 {
            ann.restart();
        }
        world.settle();
        assert!(ann.chats().is_empty());
        // A true one comes through, at any of the places where Ann would look.
        let agreed = mal.direct_seed("ann", seed);
        let mut seat = Seat::found_direct(&mut mal, agreed, "ann");
        let chat = seat.conversation.id();
        world.settle();
        is_alone_with_mal(&ann, chat);
        // Now Ann knows him, and can tell without asking.
        strike(&mut mal);
        world.settle();
        is_alone_with_mal(&ann, chat);
        seat.say(&mut mal, "hello");
        ann.say(chat, "hello yourself");
        world.settle();
        seat.read(&mal);
        assert_eq!(texts(&ann, chat), ["hello", "hello yourself"]);
        assert_eq!(seat.heard, ["hello yourself"]);
        world.agree(chat, Mood::Attacked);
    }
}

#[test]
fn a_true_welcome_while_the_directory_is_out_of_reach() {
    for seed in 0..4 {
        let world = World::new(seed);
        let (ann, mut mal) = (world.sign_up("ann"), Mal::sign_up(&world, "mal"));
        world.settle();
        let code = if seed % 2 == 0 { ErrorCode::Unavailable } else { ErrorCode::Internal };
        world.network().set_lie(Some(Box::new(move |_, _, request| match request {
            OpenRequest::LookUp(_) => Some(Err(code.into())),
            _ => None,
        })));
        strike(&mut mal);
        let agreed = mal.direct_seed("ann", 0);
        let chat = Seat::found_direct(&mut mal, agreed, "ann").conversation.id();
        world.pass(3_600_000);
        assert!(ann.chats().is_empty());
        if seed >= 2 {
            ann.restart();
            world.pass(600_000);
        }
        world.network().set_lie(None);
        world.settle();
        is_alone_with_mal(&ann, chat);
    }
}
