//! A server that lost entries, and devices that were off or came later than the backup: who belongs
//! comes back, and who doesn't hears it.

use corncrake::{Connection, Standing};

use crate::{
    check::Mood,
    device::Device,
    devices::id,
    flows::texts,
    lost_accounts::connection,
    lost_entries::{backup, meadow, restore},
    world::World,
};

fn standing(device: &Device, chat: corncrake::ConversationId) -> Standing {
    device.info(chat).unwrap().standing
}

/// Two of three people replace their devices by others, which a backup from before doesn't know.
fn replaced(seed: u64) {
    let world = World::new(seed);
    let [ann, bob, eve] = ["ann", "bob", "eve"].map(|name| world.sign_up(name));
    world.settle();
    let before_all = backup(&world);
    let chat = ann.create_group("meadow", &["bob", "eve"]);
    world.settle();
    let old = if seed & 2 == 0 { backup(&world) } else { before_all };
    let replaced = if seed & 1 == 0 { vec![&bob] } else { vec![&ann, &bob] };
    let mut here = vec![eve.clone()];
    here.extend((seed & 1 == 0).then(|| ann.clone()));
    for first in replaced {
        let second = world.log_in(first.name());
        world.settle();
        second.remove_device(id(first)).unwrap();
        world.pass(20_000);
        first.lose();
        second.say(chat, "before");
        world.pass(3_000);
        here.push(second);
    }
    let last = here.last().unwrap().clone();
    if seed & 4 == 0 {
        last.crash();
    }
    restore(&world, &old);
    world.pass(20_000);
    if seed & 4 == 0 {
        last.start();
    }
    world.pass(120_000);
    world.settle();
    for device in &here {
        assert_eq!(connection(device), Connection::Online, "seed {seed}, {}", device.label());
        assert_eq!(standing(device, chat), Standing::Member, "seed {seed}, {}", device.label());
        assert_eq!(device.info(chat).unwrap().lost_removals, [], "seed {seed}");
    }
    world.agree(chat, Mood::Honest);
}

#[test]
fn audit_issue_7_gh6_newer_devices_come_back_and_remove_again_whom_they_had_removed() {
    (0..16).for_each(replaced);
}

#[test]
fn audit_issue_7_gh4_an_owner_need_not_wait_for_a_lost_removal_of_a_device() {
    const WORD: &str = "not for a device that was removed";
    for seed in 0..4 {
        let (world, [ann, bob, cem], chat) = meadow(seed, ["ann", "bob", "cem"]);
        let second = world.log_in("cem");
        world.settle();
        let old = backup(&world);
        second.remove_device(id(&cem)).unwrap();
        world.pass(20_000);
        cem.lose();
        second.lose();
        restore(&world, &old);
        world.pass(20_000);
        bob.say(chat, WORD);
        world.pass(60_000);
        assert!(!texts(&ann, chat).contains(&WORD.to_owned()), "seed {seed}");
        ann.remove(chat, "cem").unwrap();
        world.pass(60_000);
        assert!(texts(&ann, chat).contains(&WORD.to_owned()), "seed {seed}");
        assert_eq!(ann.info(chat).unwrap().members.len(), 2, "seed {seed}");
        world.agree(chat, Mood::Honest);
    }
}
