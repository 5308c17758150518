//! Two who do something at the same moment.

use crate::{check::Mood, network::Faults, world::World};

#[test]
fn two_members_commit_at_once_a_hundred_times_over() {
    for seed in 0..10 {
        let world = World::new(seed);
        let (ann, bob) = (world.sign_up("ann"), world.sign_up("bob"));
        let cem = world.sign_up("cem");
        let chat = ann.create_group("meadow", &["bob", "cem"]);
        world.settle();
        ann.set_role(chat, "bob", corncrake::Role::Admin).unwrap();
        world.settle();
        if seed % 2 == 1 {
            world.set_faults(Faults::MIXED);
        }
        for round in 0..10 {
            let duel = [&ann, &bob].map(|device| {
                let title = format!("{} {round}", device.label());
                let what = format!("rename to {title}");
                let call = async move |chat: corncrake::Chat| chat.rename(&title).await;
                (device.clone(), device.begin_in(chat, what, call))
            });
            cem.say(chat, &format!("round {round}"));
            for (device, pending) in duel {
                device.wait(&pending, "rename").unwrap();
            }
        }
        world.settle();
        world.agree(chat, Mood::Honest);
    }
}

#[test]
fn both_sides_of_a_new_pair_start_at_once_fifty_times() {
    for seed in 0..50 {
        let world = World::new(seed);
        let (ann, bob) = (world.sign_up("ann"), world.sign_up("bob"));
        world.settle();
        if seed % 2 == 1 {
            world.set_faults(Faults::MIXED);
        }
        let starts = [(&ann, "bob"), (&bob, "ann")].map(|(device, other)| {
            let begun = device.clone();
            let call = async move |client: corncrake::Client| {
                let chat = loop {
                    match client.start_chat(&[other]).await {
                        Err(corncrake::Error::Offline) => {}
                        outcome => break outcome?,
                    }
                };
                for number in 0..3 {
                    begun.say_in(&chat, &format!("{} {number}", begun.label())).await?;
                }
                Ok(chat.id())
            };
            (device, device.begin(format!("start chat with {other}"), call))
        });
        let chats = starts.map(|(device, pending)| device.wait(&pending, "start chat").unwrap());
        assert_eq!(chats[0], chats[1], "seed {seed}");
        world.settle();
        for device in [&ann, &bob] {
            assert_eq!(device.chats().len(), 1, "seed {seed}");
            let texts = crate::flows::texts(device, chats[0]);
            assert_eq!(texts.len(), 6, "seed {seed}: {texts:?}");
        }
        world.agree(chats[0], Mood::Honest);
    }
}

#[test]
fn one_adds_while_the_other_removes() {
    for seed in 0..12 {
        let world = World::new(seed);
        let (ann, bob) = (world.sign_up("ann"), world.sign_up("bob"));
        world.sign_up("cem");
        world.sign_up("dee");
        let chat = ann.create_group("meadow", &["bob", "cem"]);
        world.settle();
        ann.set_role(chat, "bob", corncrake::Role::Admin).unwrap();
        world.settle();
        world.set_faults(if seed % 2 == 1 { Faults::MIXED } else { Faults::NONE });
        let removes = ann.begin_remove(chat, "cem");
        let adds = bob.begin_add(chat, "dee");
        ann.wait(&removes, "remove").unwrap();
        bob.wait(&adds, "add").unwrap();
        world.settle();
        world.agree(chat, Mood::Honest);
        let names = ann.info(chat).unwrap().members;
        assert_eq!(names.len(), 3, "seed {seed}: {names:?}");
    }
}
