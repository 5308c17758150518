//! Random lives of a group: devices that lag behind, commit at once, lose their stores, are spoilt by
//! garbage, leave, are removed and come back. Whoever belongs ends in one epoch, and no honest
//! reader ever raises an alarm.

use corncrake_core::conversation::{Change, EntryKind, Error, Kind, Outcome, Reading, Role, Use};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};

use crate::lab::{Device, Log, Person};
use crate::life::group_of;
use crate::mal::{Forgery, forge};

/// A chain of logs and everybody who ever had a device in it.
struct Life {
    rng: ChaCha20Rng,
    people: Vec<Person>,
    devices: Vec<Device>,
    chain: Vec<Log>,
    said: u32,
    /// How often something of each kind came to pass.
    handovers: u32,
    locked_out: u32,
    skipped: u32,
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut people: Vec<_> = (0..5).map(|n| Person::new(1000 * seed + n)).collect();
        let mut devices: Vec<_> = people.iter_mut().map(Person::device).collect();
        let mut all: Vec<_> = devices.iter_mut().collect();
        let log = group_of(Kind::Group, &mut all);
        Self {
            rng: ChaCha20Rng::seed_from_u64(seed),
            people,
            devices,
            chain: vec![log],
            said: 0,
            handovers: 0,
            locked_out: 0,
            skipped: 0,
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.rng.next_u32()).unwrap() % bound
    }

    /// Reads to the end of the chain; a log's successor is entered by whoever knows its seed, here
    /// everybody whose account the closed log names.
    fn catch_up(&mut self, index: usize) {
        let device = &mut self.devices[index];
        loop {
            let at = self.chain.iter().position(|log| log.id == device.chat().log());
            let at = at.unwrap();
            let mut entered = false;
            for reading in device.read(&self.chain[at]) {
                match reading {
                    Reading::Message { view_alarm, .. } => assert!(!view_alarm),
                    Reading::Commit(report) => {
                        assert!(!report.view_alarm);
                        self.locked_out +=
                            u32::from(matches!(report.outcome, Outcome::LockedOut(_)));
                    }
                    Reading::Closed { closed, next_seed, .. } => {
                        let next = &self.chain[at + 1];
                        if let Some(seed) = next_seed {
                            assert_eq!(seed.log_keys().log, next.id);
                        }
                        entered = closed.accounts.contains(&device.account);
                    }
                    Reading::Skipped(_) => self.skipped += 1,
                    _ => {}
                }
            }
            if !entered {
                return;
            }
            device.chat_mut().continue_in(self.chain[at + 1].id);
            device.save();
        }
    }

    /// Reads to the end and comes back in if that is needed and possible.
    fn come_back(&mut self, index: usize) -> bool {
        self.catch_up(index);
        let device = &mut self.devices[index];
        if device.chat().closed() {
            return false;
        }
        if !device.chat().is_member() {
            let mut rng = device.rng.clone();
            match device.chat().rejoin(&device.me(), None, &mut rng) {
                Err(Error::NotAdmitted | Error::Revoked) => return false,
                Err(error) => panic!("{error:?}"),
                Ok(_) => device.come_in(self.chain.last_mut().unwrap()),
            }
        }
        let device = &mut self.devices[index];
        let log = self.chain.last_mut().unwrap();
        if device.chat().tail_is_true() == Some(false) || device.chat().needs_path() {
            match device.try_commit(Change::fresh_path()) {
                Ok(commit) => drop(log.append_commit(&commit, None)),
                Err(error) => assert_eq!(error, Error::NotAdmitted),
            }
            self.catch_up(index);
        }
        true
    }

    fn hand_over(&mut self, index: usize) {
        let device = &mut self.devices[index];
        let Some(handover) = device.chat().handover(&device.me()) else {
            return;
        };
        let seed = device.chat().successor_seed().unwrap();
        let state = device.chat().state().encode();
        let log = self.chain.last_mut().unwrap();
        log.append(EntryKind::Commit, handover);
        let next = Log::new(log.conversation, seed.log_keys().log, state);
        self.chain.push(next);
        self.handovers += 1;
        self.catch_up(index);
    }

    fn change(&mut self) -> Change {
        let someone = self.below(self.devices.len());
        let account = self.devices[someone].account;
        match self.below(8) {
            0 => Change::remove(account),
            1 => Change::role(account, Role::Owner),
            2 => Change::role(account, Role::Member),
            3 => Change::title(format!("title {}", self.said)),
            4 if self.below(3) == 0 => Change::leave(),
            5 => {
                let package = self.devices[someone].package(Use::Once);
                Change::add(vec![package.claimed])
            }
            6 => Change { remove_devices: vec![self.devices[someone].id()], ..Change::default() },
            _ => Change::fresh_path(),
        }
    }

    fn step(&mut self) {
        let index = self.below(self.devices.len());
        match self.below(12) {
            0..5 => {
                if self.come_back(index) {
                    let log = self.chain.last_mut().unwrap();
                    let text = format!("message {}", self.said);
                    self.said += u32::from(self.devices[index].try_say(log, &text));
                }
            }
            5..9 => {
                if self.come_back(index) {
                    let change = self.change();
                    if let Ok(commit) = self.devices[index].try_commit(change) {
                        let log = self.chain.last_mut().unwrap();
                        log.append_commit(&commit, None);
                    }
                }
            }
            9 => {
                if self.come_back(index) {
                    self.hand_over(index);
                }
            }
            10 => self.spoil(index),
            _ => self.another_device(index),
        }
    }

    /// A commit with garbage for some subtrees.
    fn spoil(&mut self, index: usize) {
        if !self.come_back(index) || self.below(2) == 0 {
            return;
        }
        let mask = self.below(16);
        let forgery = Forgery { garbage: &|node| mask >> node & 1 == 1, ..Forgery::default() };
        let device = &mut self.devices[index];
        device.save();
        let forged = forge(device, forgery);
        device.expect_commit(&forged.inner, &forged.pending);
        let log = self.chain.last_mut().unwrap();
        log.append(EntryKind::Commit, forged.inner);
    }

    /// A new device of somebody, or one whose store was lost, starts at the newest log's beginning.
    fn another_device(&mut self, index: usize) {
        let is_new = self.devices.len() < 12 && self.below(2) == 0;
        let person = self.below(self.people.len());
        let log = self.chain.last().unwrap();
        if is_new {
            let mut device = self.people[person].device();
            device.fold_at(log, 0);
            self.devices.push(device);
        } else {
            self.devices[index].fold_at(log, 0);
        }
    }

    /// Everybody reads, whoever belongs comes in, and all of them hear one more message.
    fn end(&mut self) {
        for round in 0..2 {
            for index in 0..self.devices.len() {
                if self.come_back(index) && round == 0 {
                    self.hand_over(index);
                }
            }
        }
        let mut inside = Vec::new();
        for index in 0..self.devices.len() {
            self.catch_up(index);
            let device = &self.devices[index];
            if device.chat().is_member() && !device.chat().closed() {
                inside.push(index);
            } else if !device.chat().closed() {
                let refused = device.chat().rejoin(&device.me(), None, &mut device.rng.clone());
                assert!(refused.is_err(), "whoever belongs is in");
            }
        }
        let anchor = self.devices[inside[0]].chat().anchor();
        for index in &inside {
            assert_eq!(self.devices[*index].chat().anchor(), anchor);
        }
        let log = self.chain.last_mut().unwrap();
        let mut speakers = inside.iter();
        let speaker = speakers.find(|index| self.devices[**index].try_say(log, "the end"));
        let Some(speaker) = speaker.copied() else {
            return;
        };
        for index in inside {
            self.catch_up(index);
            let heard = self.devices[index].heard.last();
            assert!(index == speaker || heard.unwrap() == "the end");
        }
    }
}

#[test]
fn random_lives_end_in_one_group() {
    let seeds = std::env::var("CONVERSATION_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    let (mut handovers, mut locked_out, mut skipped) = (0, 0, 0);
    for seed in 1..=seeds.unwrap_or(12) {
        let mut life = Life::new(seed);
        for _ in 0..60 {
            life.step();
        }
        life.end();
        handovers += life.handovers;
        locked_out += life.locked_out;
        skipped += life.skipped;
    }
    // The lives were worth living.
    assert!(handovers > 5 && locked_out > 5, "{handovers} {locked_out} {skipped}");
}
