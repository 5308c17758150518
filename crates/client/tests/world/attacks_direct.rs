//! Chats of two: what only calls itself one (C9), and what happens where there are two of them.

use corncrake::{ChatKind, ConversationId, Standing};
use corncrake_core::seal::envelope::Seed;
use corncrake_wire::{ErrorCode, OpenRequest};

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

fn is_alone_with_mal(ann: &Device, chat: ConversationId) {
    let chats = ann.chats();
    assert_eq!(chats.len(), 1);
    assert_eq!((chats[0].id, chats[0].kind), (chat, ChatKind::Direct));
    assert_eq!((chats[0].title.as_str(), chats[0].standing), ("mal", Standing::Member));
}

#[test]
fn c9_a_welcome_into_a_chat_that_only_calls_itself_direct() {
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
fn c9_a_true_welcome_while_the_directory_is_out_of_reach() {
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
