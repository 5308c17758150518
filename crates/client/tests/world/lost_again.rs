//! A server that loses what it has again and again (D3), while people come and go and talk: what
//! is left in the end is one group in which everybody hears everybody.

use crate::{
    chance::Chance,
    check::Mood,
    device::Device,
    flows::texts,
    lost_entries::{backup, restore},
    world::World,
};

const STEPS: usize = 30;

fn lose_all_logs(world: &World) {
    let mut left = backup(world);
    left.logs.clear();
    restore(world, &left);
}

fn walk(seed: u64) {
    let world = World::new(seed);
    let mut chance = Chance::new(seed, "lost again");
    let names = ["ann", "bob", "cem", "dan"];
    let devices = names.map(|name| world.sign_up(name));
    let chat = devices[0].create_group("meadow", &names[1..]);
    world.settle();
    let mut copies = vec![backup(&world)];
    for step in 0..STEPS {
        let device = &devices[usize::try_from(chance.below(4)).unwrap()];
        match chance.below(12) {
            0..=3 if device.runs() => drop(device.try_say(chat, &format!("{step}"))),
            4..=5 if device.runs() => device.crash(),
            4..=6 if !device.runs() => device.start(),
            7 => copies.push(backup(&world)),
            8 => {
                let one = chance.below(copies.len() as u64);
                restore(&world, &copies[usize::try_from(one).unwrap()].clone());
            }
            9 => lose_all_logs(&world),
            _ => world.pass(chance.below(8_000)),
        }
    }
    devices.iter().filter(|device| !device.runs()).for_each(|device| device.start());
    world.pass(180_000);
    world.settle();
    world.agree(chat, Mood::Attacked);
}

#[test]
fn audit_srv_a10_d3_a_server_that_loses_everything_again_and_again_leaves_one_group() {
    for seed in 0..40 {
        walk(seed);
    }
}

/// Everything is lost after a removal, again and again; then a backup is restored from before it.
#[test]
fn audit_srv_a10_d3_a_removal_that_outlived_a_loss_is_made_again_after_the_next() {
    for seed in 0..40 {
        let world = World::new(seed);
        let mut chance = Chance::new(seed, "lost again");
        let [ann, bob, cem] = ["ann", "bob", "cem"].map(|name| world.sign_up(name));
        let chat = ann.create_group("meadow", &["bob", "cem"]);
        world.settle();
        let old = backup(&world);
        ann.remove(chat, "cem").unwrap();
        world.settle();
        for _ in 0..8 {
            match chance.below(6) {
                0 if bob.runs() => bob.crash(),
                0 => bob.start(),
                1 => drop(ann.try_say(chat, "between")),
                2 | 3 => lose_all_logs(&world),
                _ => world.pass(chance.below(8_000)),
            }
        }
        restore(&world, &old);
        world.devices().iter().filter(|device| !device.runs()).for_each(Device::start);
        world.pass(60_000);
        ann.say(chat, "not for cem");
        world.settle();
        for device in [&ann, &bob] {
            assert_eq!(device.info(chat).unwrap().members.len(), 2, "{seed} {}", device.label());
            assert!(texts(device, chat).contains(&"not for cem".to_owned()), "{seed}");
        }
        assert!(!texts(&cem, chat).contains(&"not for cem".to_owned()), "{seed}");
        world.agree(chat, Mood::Attacked);
    }
}
