//! Random walks: people with several devices do what people do while everything fails now and
//! then; when it stops failing, they must all agree.
//!
//! `WORLD_SEEDS` says how many seeds to try and `WORLD_START` where to begin.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use corncrake::{Chat, ChatKind, ConversationId, Role, Standing};

use crate::{
    chance::Chance,
    check::Mood,
    device::{Device, Pending},
    network::Faults,
    world::World,
};

const NAMES: [&str; 5] = ["ann", "bob", "cem", "dee", "eve"];

/// Runs `walk` for each seed on all cores; gives the first seed that fails.
pub(crate) fn first_failure(seeds: std::ops::Range<u64>, walk: impl Fn(u64) + Sync) -> Option<u64> {
    let next = AtomicU64::new(seeds.start);
    let (stop, failed) = (AtomicBool::new(false), Mutex::new(None));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    if catch_unwind(AssertUnwindSafe(|| walk(seed))).is_err() {
                        stop.store(true, Ordering::Relaxed);
                        failed.lock().unwrap().get_or_insert(seed);
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap()
}

pub(crate) fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn people_agree_whatever_happens() {
    let start = number("WORLD_START", 0);
    let seeds = number("WORLD_SEEDS", 2000);
    let failed = first_failure(start..start + seeds, |seed| walk(&World::new(seed), seed));
    assert_eq!(failed, None, "replay with WORLD_START=<seed> WORLD_SEEDS=1");
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 0..5 {
        let trace = || {
            let world = World::new(seed);
            walk(&world, seed);
            world.trace()
        };
        let (one, two) = (trace(), trace());
        let differs = one.lines().zip(two.lines()).find(|(one, two)| one != two);
        assert_eq!(differs, None, "seed {seed}");
    }
}

#[test]
fn walks_come_by_everything_that_can_happen() {
    let traces: Vec<String> = (0..60)
        .map(|seed| {
            let world = World::new(seed);
            walk(&world, seed);
            world.trace()
        })
        .collect();
    for (what, sign) in [
        ("a crash before a batch", "✝ before a batch"),
        ("a crash after a batch", "✝ after a batch"),
        ("a crash before a request", "✝ before a request"),
        ("a crash after a request", "✝ after a request"),
        ("a lost request", "(lost on its way)"),
        ("a lost answer", "(answer lost)"),
        ("a dead socket", "socket dies"),
        ("a conflict", "conflict: newest commit"),
        ("a second device", "◀ log in: ok"),
        ("a device that comes in by itself", "Rejoined {"),
        ("an addition", "Added {"),
        ("a removal", "Removed {"),
        ("somebody who leaves", "Left {"),
        ("a new title", "Renamed {"),
        ("new roles", "RolesChanged {"),
        ("a call that is forbidden", "not_allowed"),
    ] {
        assert!(traces.iter().any(|trace| trace.contains(sign)), "no walk comes by {what}");
    }
}

/// One walk, to its end.
pub(crate) fn walk(world: &World, seed: u64) {
    let mut walk = Walk::new(world, seed);
    world.set_faults(Faults::MIXED);
    for _ in 0..walk.chance.between(8, 24) {
        walk.go();
    }
    world.settle();
    let chats: BTreeSet<ConversationId> =
        world.devices().iter().flat_map(|device| device.chats()).map(|info| info.id).collect();
    for chat in chats {
        if !world.members_of(chat).is_empty() {
            world.agree(chat, Mood::Honest);
        }
    }
    world.check_complaints();
}

struct Walk<'a> {
    world: &'a World,
    chance: Chance,
    people: Vec<&'static str>,
    chats: Vec<ConversationId>,
    said: u64,
}

impl<'a> Walk<'a> {
    fn new(world: &'a World, seed: u64) -> Self {
        let mut chance = Chance::new(seed, "walk");
        let count = usize::try_from(chance.between(2, 5)).unwrap();
        let people = NAMES[..count].to_vec();
        people.iter().for_each(|name| drop(world.sign_up(name)));
        let mut walk = Self { world, chance, people, chats: Vec::new(), said: 0 };
        walk.open_chat();
        walk
    }

    fn someone(&mut self) -> Device {
        let devices = self.world.devices();
        self.chance.pick(&devices).clone()
    }

    fn open_chat(&mut self) {
        let device = self.someone();
        let others: Vec<&str> =
            self.people.iter().copied().filter(|name| *name != device.name()).collect();
        let chat = if self.chance.hit(400) {
            let other = *self.chance.pick(&others);
            device.try_start_chat(&[other])
        } else {
            let some: Vec<&str> = others.into_iter().filter(|_| self.chance.hit(700)).collect();
            device.try_create_group("meadow", &some)
        };
        // With the network as it is, a call may fail; it must then have done nothing.
        if let Ok(chat) = chat
            && !self.chats.contains(&chat)
        {
            self.chats.push(chat);
        }
    }

    /// One step, by chance.
    fn go(&mut self) {
        let device = self.someone();
        match self.chance.below(100) {
            0..45 => self.say(&device),
            45..50 => self.open_chat(),
            50..58 => self.change(&device, Change::Add),
            58..65 => self.change(&device, Change::Remove),
            65..69 => self.change(&device, Change::Rename),
            69..72 => self.change(&device, Change::Promote),
            72..74 => self.change(&device, Change::Leave),
            74..82 => {
                // Dies at one of its next points.
                device.crasher().count(Some(self.chance.below(12)));
            }
            82..88 => self.world.devices().iter().filter(|d| !d.runs()).for_each(Device::start),
            88..92 => {
                let cut = self.chance.hit(600);
                device.set_cut(cut);
            }
            92..95 if self.world.devices().len() < 8 => {
                let name = *self.chance.pick(&self.people);
                let second = self.world.device(name);
                if self.world.try_log_in(&second).is_err() {
                    second.lose();
                }
            }
            _ => {}
        }
        // Now and then hours pass, or so many weeks that sessions end; nobody is cut off so long.
        let pause = match self.chance.below(1000) {
            0..15 => 2 * 3_600_000,
            15..18 => 45 * 24 * 3_600_000,
            _ => *self.chance.pick(&[5, 200, 3000, 40_000]),
        };
        if pause > 40_000 {
            self.world.devices().iter().for_each(|device| device.set_cut(false));
        }
        self.world.pass(pause);
    }

    /// A chat that `device` knows.
    fn chat_of(&mut self, device: &Device) -> Option<ConversationId> {
        let known: Vec<ConversationId> = self
            .chats
            .iter()
            .copied()
            .filter(|&chat| device.info(chat).is_ok_and(|i| i.standing == Standing::Member))
            .collect();
        (!known.is_empty()).then(|| *self.chance.pick(&known))
    }

    fn say(&mut self, device: &Device) {
        if !device.runs() {
            return;
        }
        let Some(chat) = self.chat_of(device) else {
            return;
        };
        for _ in 0..self.chance.between(1, 4) {
            self.said += 1;
            let text = format!("{} says {}", device.label(), self.said);
            device.begin_say(chat, &text);
        }
    }

    fn change(&mut self, device: &Device, change: Change) {
        if !device.runs() {
            return;
        }
        let Some(chat) = self.chat_of(device) else {
            return;
        };
        let Ok(info) = device.info(chat) else { return };
        let alone = info.members.len() == 1 && matches!(change, Change::Leave);
        if info.kind == ChatKind::Direct || alone {
            return;
        }
        let name = (*self.chance.pick(&self.people)).to_owned();
        // Nobody waits for the answer: the next step may come at any point of this one.
        let _: Pending<()> = match change {
            Change::Add => device.begin_add(chat, &name),
            Change::Remove => device.begin_remove(chat, &name),
            Change::Rename => {
                self.said += 1;
                let title = format!("meadow {}", self.said);
                device.begin_in(chat, format!("rename to {title}"), async move |chat: Chat| {
                    chat.rename(&title).await
                })
            }
            Change::Promote => {
                device.begin_in(chat, format!("make {name} an admin"), async move |chat: Chat| {
                    chat.set_role(&name, Role::Admin).await
                })
            }
            Change::Leave => {
                device.begin_in(chat, "leave", async move |chat: Chat| chat.leave().await)
            }
        };
    }
}

enum Change {
    Add,
    Remove,
    Rename,
    Promote,
    Leave,
}
