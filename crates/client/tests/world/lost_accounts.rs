//! A server that loses the last hour of the account plane (D3): key packages, sign-ups, records.

use crate::{
    check::Mood,
    flows::texts,
    lost_entries::{backup, restore},
    world::World,
};

#[test]
fn audit_srv_a10_d3_newcomers_after_a_loss_are_read_by_who_was_offline() {
    for seed in 0..4 {
        let world = World::new(2 * seed + 1);
        let ann = world.sign_up("ann");
        let early = ["bob", "cem"].map(|name| world.sign_up(name));
        let late = ["dan", "eva"].map(|name| world.sign_up(name));
        world.settle();
        let old = backup(&world);
        for other in &early {
            let chat = other.start_chat(&["ann"]);
            other.say(chat, "before the loss");
            world.settle();
            assert_eq!(texts(&ann, chat), ["before the loss"]);
        }
        ann.crash();
        restore(&world, &old);
        let chats = late.each_ref().map(|other| {
            let chat = other.start_chat(&["ann"]);
            other.say(chat, "after the loss");
            chat
        });
        world.pass(60_000);
        for other in &late {
            other.set_cut(true);
        }
        ann.start();
        world.pass(60_000);
        for chat in chats {
            assert_eq!(texts(&ann, chat), ["after the loss"], "seed {seed}");
            world.agree(chat, Mood::Honest);
        }
    }
}
