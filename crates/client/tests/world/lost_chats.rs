//! A server that lost all that it had of a chat (D3): its logs are gone, the backup is from before
//! the chat began, or the chat was silent for too long. Whoever comes back first begins it again.

use corncrake::{ConversationId, ItemKind, Standing};

use crate::{
    check::Mood,
    device::Device,
    flows::texts,
    lost_entries::{backup, restore, tells_of_the_loss},
    world::World,
};

/// Which chat, and what its members knew of it when the server lost it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Two,
    Three,
    /// The founder hasn't heard of the newest commit.
    FounderBehind,
    /// The others haven't.
    OthersBehind,
    /// In a chat of two, the one who didn't found it hasn't heard of the newest commit.
    TwoOtherBehind,
    /// In a chat of two, the one who founded it.
    TwoFounderBehind,
    /// Somebody was removed, and knows it.
    OneRemoved,
    /// Somebody was removed, and somebody else hasn't heard of it.
    RemovalUnheard,
}

/// What the server loses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// All logs of everybody.
    AllLogs,
    /// Everything since before the chat.
    ToBackup,
    /// The logs of the chat.
    Silence,
}

/// Who comes back first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    FounderFirst,
    FounderLast,
    AtOnce,
}

/// How they come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Session,
    /// A command that says something, waits a while and ends; later another one.
    Command,
}

struct Cell {
    seed: u64,
    kind: Kind,
    loss: Loss,
    order: Order,
    manner: Manner,
}

impl Cell {
    fn run(&self) {
        let world = World::new(self.seed);
        let two = matches!(self.kind, Kind::Two | Kind::TwoOtherBehind | Kind::TwoFounderBehind);
        let removed = matches!(self.kind, Kind::OneRemoved | Kind::RemovalUnheard);
        let names: &[&str] = match self.kind {
            _ if two => &["ann", "bob"],
            Kind::RemovalUnheard => &["ann", "bob", "cem", "dan"],
            _ => &["ann", "bob", "cem"],
        };
        let devices: Vec<Device> = names.iter().map(|name| world.sign_up(name)).collect();
        world.settle();
        let old = backup(&world);
        let chat = if two {
            devices[0].start_chat(&["bob"])
        } else {
            devices[0].create_group("meadow", &names[1..])
        };
        world.settle();
        for device in &devices {
            device.say(chat, &format!("old of {}", device.name()));
        }
        world.settle();
        self.let_some_fall_behind(&world, &devices, chat);
        let known: Vec<Vec<String>> = devices.iter().map(|device| texts(device, chat)).collect();
        world.devices().iter().for_each(Device::crash);
        self.lose(&world, &old);
        let mut back = devices.clone();
        match self.order {
            // Whoever was removed comes back before all others, and then who doesn't know of it.
            Order::FounderLast if self.kind == Kind::RemovalUnheard => back.rotate_left(2),
            Order::FounderLast => back.rotate_left(1),
            _ if self.kind == Kind::OneRemoved => back.rotate_right(1),
            _ => {}
        }
        let members = |device: &&Device| !removed || device.name() != "cem";
        let news: Vec<String> =
            back.iter().filter(members).map(|d| format!("new of {}", d.name())).collect();
        self.come_back(&world, &back, chat);
        world.pass(60_000);
        for (device, known) in devices.iter().zip(&known) {
            let label = device.label();
            let texts = texts(device, chat);
            assert!(known.iter().all(|text| texts.contains(text)), "{label}: {known:?} {texts:?}");
            let standing = device.info(chat).unwrap().standing;
            if !members(&device) {
                assert_eq!(standing, Standing::Removed, "{label}");
                assert!(news.iter().all(|text| !texts.contains(text)), "{label}: {texts:?}");
                continue;
            }
            assert_eq!(standing, Standing::Member, "{label}");
            assert!(tells_of_the_loss(device, chat), "{label}");
            // Who knew less than those who went on can't read what they said meanwhile.
            let is_out = device.history(chat).iter().any(|item| item.what == ItemKind::Gap);
            let is_read = news.iter().all(|text| texts.contains(text));
            assert!(is_read || is_out && !two, "{label}: {texts:?}");
            assert_eq!(device.chats().len(), 1, "{label}");
        }
        world.settle();
        world.agree(chat, Mood::Honest);
        let newcomer = world.log_in("bob");
        world.settle();
        newcomer.say(chat, "from a new device");
        world.agree(chat, Mood::Honest);
    }

    fn let_some_fall_behind(&self, world: &World, devices: &[Device], chat: ConversationId) {
        let behind = match self.kind {
            Kind::Two | Kind::Three => return,
            Kind::OneRemoved => {
                devices[0].remove(chat, "cem").unwrap();
                return world.settle();
            }
            Kind::RemovalUnheard => {
                devices[3].crash();
                devices[0].remove(chat, "cem").unwrap();
                return world.pass(60_000);
            }
            Kind::FounderBehind | Kind::TwoFounderBehind => &devices[..1],
            Kind::OthersBehind | Kind::TwoOtherBehind => &devices[1..],
        };
        behind.iter().for_each(Device::crash);
        let name = devices.iter().find(|device| device.runs()).unwrap().name().to_owned();
        world.log_in(&name);
        world.pass(60_000);
    }

    fn has_newest_commit(&self) -> bool {
        let others = [Kind::Two, Kind::Three, Kind::OneRemoved, Kind::RemovalUnheard];
        !others.contains(&self.kind)
    }

    fn lose(&self, world: &World, old: &crate::server::Server) {
        let mut left = backup(world);
        match self.loss {
            // Of the new device that made others fall behind a backup of accounts knows nothing.
            Loss::ToBackup if self.has_newest_commit() => left.logs.clone_from(&old.logs),
            Loss::ToBackup => left = old.clone(),
            Loss::AllLogs => left.logs.clear(),
            Loss::Silence => left.logs.retain(|log, _| old.logs.contains_key(log)),
        }
        restore(world, &left);
    }

    fn come_back(&self, world: &World, back: &[Device], chat: ConversationId) {
        let say =
            |device: &Device| drop(device.try_say(chat, &format!("new of {}", device.name())));
        match (self.order, self.manner) {
            (Order::AtOnce, Manner::Session) => {
                back.iter().for_each(Device::start);
                back.iter().for_each(say);
            }
            (_, Manner::Session) => {
                for device in back {
                    device.start();
                    say(device);
                    world.pass(10_000);
                }
            }
            (Order::AtOnce, Manner::Command) => {
                for round in 0..3 {
                    back.iter().for_each(Device::start);
                    if round == 0 {
                        back.iter().for_each(say);
                    }
                    world.pass(5_000);
                    back.iter().for_each(Device::crash);
                }
            }
            (_, Manner::Command) => {
                for round in 0..3 {
                    for device in back {
                        device.start();
                        if round == 0 {
                            say(device);
                        }
                        world.pass(5_000);
                        device.crash();
                    }
                }
            }
        }
        world.devices().iter().filter(|device| !device.runs()).for_each(Device::start);
    }
}

fn table(kind: Kind) {
    let mut seed = 0;
    for loss in [Loss::AllLogs, Loss::ToBackup, Loss::Silence] {
        for order in [Order::FounderFirst, Order::FounderLast, Order::AtOnce] {
            for manner in [Manner::Session, Manner::Command] {
                for _ in 0..2 {
                    eprintln!("{kind:?} {loss:?} {order:?} {manner:?} {seed}");
                    Cell { seed, kind, loss, order, manner }.run();
                    seed += 1;
                }
            }
        }
    }
}

#[test]
fn audit_srv_a10_d3_a_lost_chat_of_two_begins_again() {
    table(Kind::Two);
}

#[test]
fn audit_srv_a10_d3_a_lost_group_begins_again() {
    table(Kind::Three);
}

#[test]
fn audit_srv_a10_d3_a_lost_chat_of_two_begins_again_although_one_is_behind() {
    table(Kind::TwoFounderBehind);
    table(Kind::TwoOtherBehind);
}

#[test]
fn audit_srv_a10_d3_a_lost_group_begins_again_although_some_are_behind() {
    table(Kind::FounderBehind);
    table(Kind::OthersBehind);
}

#[test]
fn audit_srv_a10_d3_a_lost_group_begins_again_without_whom_it_removed() {
    table(Kind::OneRemoved);
}

#[test]
fn audit_srv_a10_d3_a_lost_group_begins_again_although_one_has_not_heard_of_a_removal() {
    table(Kind::RemovalUnheard);
}
