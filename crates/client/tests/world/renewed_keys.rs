//! Fresh storage and contact keys at the removal of a device: what was copied from the one that is
//! gone opens neither the account's next log nor its later chats of two, and the others go on.

use std::{cell::RefCell, rc::Rc};

use corncrake::{Client, ConversationId, Standing};
use corncrake_core::{
    conversation::Entry,
    identity::{AccountRecord, contact_agreement},
    seal::{
        envelope::{Beside as BesideOf, EntryKind, Seed},
        record::{AccountLogRecord, AccountMap, Anchor, ConversationRecord, StorageKey},
        vault::Vault,
    },
};
use corncrake_wire::{
    AccessToken, EntryKind as WireKind, ErrorCode, LogId, OpenReply, OpenRequest,
    log::{Append, AppendReply, Beside, NewEntry, Part, Point, Read},
    open::{By, LookUp},
};

use crate::{
    attacks_vault::Given,
    chance::Chance,
    check::Mood,
    device::Device,
    devices::id,
    flows::texts,
    lost_entries::{backup, restore},
    network::Touched,
    world::World,
};

/// Who holds the storage key of an account, whatever became of the device that it was copied from.
pub(crate) struct Reader<'a> {
    pub(crate) world: &'a World,
    pub(crate) key: StorageKey,
}

impl Reader<'_> {
    fn token(&self) -> AccessToken {
        AccessToken::new(*self.key.account_log_seed().log_keys().access_token.expose())
    }

    fn ask(&self, request: impl Into<OpenRequest>) -> Option<OpenReply> {
        self.world.server().borrow_mut().handle_open(request.into()).ok()
    }

    /// What the log's entries and its opening state say, and its newest point.
    fn read(&self) -> (AccountMap, Point) {
        let (keys, records) = (self.key.account_log_seed().log_keys(), self.key.record_key());
        let mut map = AccountMap::new();
        let beside =
            Beside { token: self.token(), position: 0, part: Part::State, admission: Vec::new() };
        if let Some(OpenReply::Beside(sealed)) = self.ask(beside) {
            let open = keys.envelope.open_beside(keys.log, BesideOf::Opening, &sealed.bytes);
            map = records.open_map(keys.log, &open.unwrap()).unwrap();
        }
        let mut newest = Point::START;
        loop {
            let after = newest.position;
            let read = Read { token: self.token(), after, limit: 100, admission: Vec::new() };
            let Some(OpenReply::Read(page)) = self.ask(read) else { break };
            for entry in &page.entries {
                newest = Point { position: entry.position, id: entry.id() };
                let inner = keys.envelope.open(keys.log, EntryKind::Commit, &entry.bytes).unwrap();
                let Ok(Entry::AccountRecord(sealed)) = Entry::decode(&inner) else { panic!() };
                map.apply(records.open_record(keys.log, &sealed).unwrap());
            }
            if newest.position >= page.head {
                break;
            }
        }
        (map, newest)
    }

    pub(crate) fn names(&self, chat: ConversationId) -> bool {
        self.read().0.conversation(chat).is_some()
    }

    /// Writes into the log that a conversation goes on in a log of the writer's.
    fn plant(&self, seed: &Seed, chance: &mut Chance) -> ConversationId {
        let (keys, records) = (self.key.account_log_seed().log_keys(), self.key.record_key());
        let id = seed.conversation_id();
        let record = AccountLogRecord::Conversation(ConversationRecord {
            id,
            seed: seed.clone(),
            anchor: Anchor { epoch: 0, interim: [0; 32] },
            read: (0, [0; 32]),
            hidden: false,
            may_yield: false,
            losses: 0,
            begins_with: 0,
            is_alone: false,
            is_out: false,
        });
        let sealed = records.seal_record(keys.log, &record, chance.rng()).unwrap();
        let inner = Entry::AccountRecord(sealed).encode();
        let bytes = keys.envelope.seal(keys.log, EntryKind::Commit, &inner, chance.rng()).unwrap();
        let append = Append {
            token: self.token(),
            kind: WireKind::Commit,
            after: self.read().1,
            entries: vec![NewEntry::new(bytes)],
            opening: None,
            admission: Vec::new(),
        };
        let reply = self.ask(append);
        assert!(matches!(reply, Some(OpenReply::Append(AppendReply::Stored { .. }))));
        id
    }
}

/// Whether there is a log in which two accounts may have their chat by these keys.
fn is_there(world: &World, keys: &Vault, peer: &str) -> bool {
    let look_up = LookUp { by: By::Name(peer.to_owned()), admission: Vec::new() };
    let server = world.server();
    let found = server.borrow_mut().handle_open(look_up.into());
    let Ok(OpenReply::LookUp(found)) = found else { panic!() };
    let record = AccountRecord::verify(&found.record.bytes).unwrap();
    let (own, theirs) = (keys.chain.account_id(), &record.record().contact_key);
    (0..8).any(|n| {
        let seed = contact_agreement(&keys.contact_key, theirs, own, record.account(), n).unwrap();
        server.borrow().logs.contains_key(&LogId(*seed.log_keys().log.as_bytes()))
    })
}

/// Several devices of one account wait for each other where they meet.
pub(crate) fn settle(world: &World) {
    world.network().disturb();
    world.settle();
}

pub(crate) fn waits_for_keys(device: &Device) -> bool {
    let account = device.call("account", async move |client: Client| client.account().await);
    account.unwrap().waits_for_keys
}

/// Each of the devices is in each of the chats and hears the others there.
pub(crate) fn all_hear_each_other(world: &World, devices: &[&Device], chats: &[ConversationId]) {
    settle(world);
    for device in devices {
        assert!(!waits_for_keys(device), "{}", device.label());
        for &chat in chats {
            assert_eq!(device.info(chat).unwrap().standing, Standing::Member, "{}", device.label());
            device.say(chat, &format!("by {}", device.label()));
        }
    }
    settle(world);
    for &chat in chats {
        for device in devices {
            for other in devices {
                let said = format!("by {}", other.label());
                assert!(texts(device, chat).contains(&said), "{said} at {}", device.label());
            }
        }
        world.agree(chat, Mood::Honest);
    }
}

#[test]
fn audit_srv_b7_the_keys_of_a_removed_device_open_no_later_log_and_no_later_chat() {
    for seed in 0..6 {
        let world = World::new(seed);
        let [bob, cem] = ["bob", "cem"].map(|name| world.sign_up(name));
        let anns = [world.sign_up("ann"), world.log_in("ann"), world.log_in("ann")];
        let gone = world.log_in("ann");
        let before = [anns[0].start_chat(&["bob"]), anns[1].create_group("meadow", &["bob"])];
        settle(&world);
        let old = Given::opened(&world, &anns[0]);
        let thief = Reader { world: &world, key: old.storage_key.clone() };
        assert!(before.iter().all(|chat| thief.names(*chat)));
        // One of the others is offline, and what it says of the chats until then is in the old log.
        anns[2].set_cut(true);
        anns[0].remove_device(id(&gone)).unwrap();
        gone.lose();
        world.pass(60_000);
        let (_, end) = thief.read();
        let planted = thief.plant(
            &Seed::random(Chance::new(seed, "planted").rng()),
            &mut Chance::new(seed, "plant"),
        );
        let mut after: Vec<_> = anns[..2]
            .iter()
            .map(|ann| ann.create_group(&format!("field of {}", ann.label()), &["bob"]))
            .collect();
        after.push(anns[1].start_chat(&["cem"]));
        world.pass(60_000);
        anns[2].set_cut(false);
        settle(&world);
        after.push(anns[2].create_group("late", &["cem"]));
        if seed % 2 == 0 {
            anns.iter().for_each(Device::restart);
        }
        settle(&world);
        let new = Given::opened(&world, &anns[0]);
        assert_ne!(new.storage_key, old.storage_key);
        let owner = Reader { world: &world, key: new.storage_key.clone() };
        for chat in before.iter().chain(&after) {
            assert!(owner.names(*chat), "seed {seed}: the next log names every chat");
        }
        for chat in &after {
            assert!(!thief.names(*chat), "seed {seed}: the old one names no later chat");
        }
        assert_eq!(thief.read().1.position, end.position + 1, "seed {seed}: nobody writes there");
        assert!(!owner.names(planted));
        assert!(anns.iter().all(|ann| ann.info(planted).is_err()), "seed {seed}");
        // The chat of two that was founded with the old contact key is the one that goes on.
        assert!(is_there(&world, &old, "bob") && !is_there(&world, &new, "bob"));
        assert!(is_there(&world, &new, "cem") && !is_there(&world, &old, "cem"));
        assert_eq!(bob.start_chat(&["ann"]), before[0]);
        assert_eq!(anns[2].start_chat(&["bob"]), before[0]);
        assert_eq!(cem.start_chat(&["ann"]), after[2]);
        let all = [&anns[0], &anns[1], &anns[2]];
        all_hear_each_other(&world, &all, &[before[0], before[1], after[0], after[2], after[3]]);
        let fresh = world.log_in("ann");
        settle(&world);
        let all = [&anns[0], &anns[2], &fresh];
        all_hear_each_other(&world, &all, &[before[0], before[1], after[1], after[2], after[3]]);
    }
}

#[test]
fn audit_srv_b7_whoever_logs_in_for_another_device_renews_the_keys_too() {
    for seed in 0..4 {
        let world = World::new(seed);
        let bob = world.sign_up("bob");
        let anns = [world.sign_up("ann"), world.log_in("ann"), world.log_in("ann")];
        let before = anns[0].create_group("meadow", &["bob"]);
        settle(&world);
        let old = Given::opened(&world, &anns[0]);
        if seed % 2 == 0 {
            anns[1].set_cut(true);
        }
        let new = world.log_in_for("ann", id(&anns[2]));
        world.pass(60_000);
        anns[1].set_cut(false);
        settle(&world);
        let after = [&anns[0], &anns[1], &new].map(|ann| ann.create_group("field", &["bob"]));
        settle(&world);
        let thief = Reader { world: &world, key: old.storage_key };
        assert!(thief.names(before) && after.iter().all(|chat| !thief.names(*chat)));
        let chats = [before, after[0], after[1], after[2]];
        all_hear_each_other(&world, &[&anns[0], &anns[1], &new, &bob], &chats);
    }
}

#[test]
fn audit_srv_b7_two_removals_in_a_row_reach_who_is_offline() {
    for seed in 0..6 {
        let world = World::new(seed);
        let bob = world.sign_up("bob");
        let anns = [world.sign_up("ann"), world.log_in("ann"), world.log_in("ann")];
        let gone = [world.log_in("ann"), world.log_in("ann")];
        let before = anns[0].create_group("meadow", &["bob"]);
        settle(&world);
        anns[2].set_cut(true);
        anns[0].remove_device(id(&gone[0])).unwrap();
        let between = anns[0].create_group("between", &["bob"]);
        if seed % 2 == 0 {
            world.pass(60_000);
        }
        // The second one may not have the keys of the first removal yet.
        anns[1].remove_device(id(&gone[1])).unwrap();
        gone.iter().for_each(Device::lose);
        let after = anns[1].create_group("after", &["bob"]);
        if seed % 3 == 0 {
            world.pass(60_000);
        }
        anns[2].set_cut(false);
        settle(&world);
        let all = [&anns[0], &anns[1], &anns[2], &bob];
        all_hear_each_other(&world, &all, &[before, between, after]);
    }
}

#[test]
fn audit_srv_b7_who_gets_no_keys_says_so_and_gets_them_later() {
    for seed in 0..4 {
        let world = World::new(seed);
        let bob = world.sign_up("bob");
        let anns = [world.sign_up("ann"), world.log_in("ann"), world.log_in("ann")];
        let before = anns[0].create_group("meadow", &["bob"]);
        settle(&world);
        let gone = world.log_in("ann");
        settle(&world);
        // The letters are lost, of one seed only those to the third device.
        let third = world.server().borrow().devices[&(*id(&anns[2]).as_bytes()).into()].inbox;
        world.network().set_lie(Some(Box::new(move |who, _, request| match request {
            OpenRequest::Deposit(deposit)
                if who.starts_with("ann") && (seed < 3 || deposit.inbox == third) =>
            {
                Some(Ok(OpenReply::Deposit(())))
            }
            _ => None,
        })));
        anns[0].remove_device(id(&gone)).unwrap();
        gone.lose();
        world.pass(120_000);
        let waits = [&anns[0], &anns[1], &anns[2]].map(waits_for_keys);
        assert_eq!(waits, [false, seed < 3, true]);
        let after = anns[1].create_group("field", &["bob"]);
        if seed == 2 {
            // So has who removes a device.
            anns[1].remove_device(id(&anns[2])).unwrap();
            anns[2].lose();
            assert!(!waits_for_keys(&anns[1]));
            world.network().set_lie(None);
            world.pass(25 * 3_600_000);
            all_hear_each_other(&world, &[&anns[0], &anns[1], &bob], &[before, after]);
        } else if seed == 3 {
            // The remover is gone, and whom it has told tells the other one.
            anns[0].lose();
            world.network().set_lie(None);
            world.pass(2 * 3_600_000);
            all_hear_each_other(&world, &[&anns[1], &anns[2], &bob], &[before, after]);
        } else if seed == 1 {
            // The remover is gone as well; whoever comes in by the password has the keys.
            anns[0].lose();
            world.network().set_lie(None);
            let fresh = world.log_in("ann");
            world.pass(2 * 3_600_000);
            all_hear_each_other(&world, &[&anns[1], &anns[2], &fresh, &bob], &[before, after]);
        } else {
            world.network().set_lie(None);
            anns[1].restart();
            world.pass(25 * 3_600_000);
            all_hear_each_other(&world, &[&anns[0], &anns[1], &anns[2], &bob], &[before, after]);
        }
    }
}

#[test]
fn audit_srv_b7_a_restored_server_gets_the_renewed_vault_again() {
    for seed in 0..4 {
        let world = World::new(seed);
        let bob = world.sign_up("bob");
        let anns = [world.sign_up("ann"), world.log_in("ann")];
        let gone = world.log_in("ann");
        let before = anns[0].create_group("meadow", &["bob"]);
        settle(&world);
        let old = backup(&world);
        let direct = anns[0].start_chat(&["bob"]);
        settle(&world);
        anns[0].remove_device(id(&gone)).unwrap();
        gone.lose();
        settle(&world);
        let after = anns[1].create_group("field", &["bob"]);
        settle(&world);
        let renewed = Given::opened(&world, &anns[0]);
        restore(&world, &old);
        world.pass(600_000);
        let again = Given::opened(&world, &anns[0]);
        assert_eq!(again.storage_key, renewed.storage_key, "seed {seed}");
        let owner = Reader { world: &world, key: renewed.storage_key };
        assert!(owner.names(before) && owner.names(after), "seed {seed}: nor is its log lost");
        let fresh = world.log_in("ann");
        world.pass(600_000);
        assert!([&anns[0], &anns[1], &fresh].iter().all(|ann| !waits_for_keys(ann)));
        let next = fresh.create_group("next", &["bob"]);
        world.pass(600_000);
        bob.say(next, "who hears this?");
        // The chat of two that the backup lacks begins again where the keys before led to.
        bob.say(direct, "who hears this?");
        world.pass(60_000);
        for device in [&anns[0], &anns[1], &fresh, &bob] {
            for chat in [next, direct] {
                let heard = texts(device, chat).contains(&"who hears this?".to_owned());
                assert!(heard, "seed {seed}: {}", device.label());
            }
        }
    }
}

/// The last word in the old log is lost, and who hasn't got the keys goes on writing there.
#[test]
fn audit_srv_b7_a_chat_that_began_before_the_keys_came_is_in_the_next_log() {
    for seed in 0..4 {
        let world = World::new(seed);
        let bob = world.sign_up("bob");
        let anns = [world.sign_up("ann"), world.log_in("ann")];
        let gone = world.log_in("ann");
        settle(&world);
        let old = Given::opened(&world, &anns[0]);
        let old = Reader { world: &world, key: old.storage_key };
        let (log, letters) = (old.token().log_id(), Rc::new(RefCell::new(Vec::new())));
        let held = letters.clone();
        world.network().set_lie(Some(Box::new(move |who, _, request| match request {
            OpenRequest::Append(append) if who == "ann.1" && append.token.log_id() == log => {
                Some(Err(ErrorCode::RateLimited.into()))
            }
            OpenRequest::Deposit(deposit) if who == "ann.1" => {
                held.borrow_mut().push(deposit.clone());
                Some(Ok(OpenReply::Deposit(())))
            }
            _ => None,
        })));
        anns[0].remove_device(id(&gone)).unwrap();
        gone.lose();
        world.pass(60_000);
        // Nor does the one that knows of the removal hear of the chat.
        anns[0].set_cut(true);
        let chat = anns[1].create_group("between", &["bob"]);
        world.pass(60_000);
        world.network().set_lie(None);
        let new = Reader { world: &world, key: Given::opened(&world, &anns[0]).storage_key };
        assert!(old.names(chat) && !new.names(chat), "seed {seed}");
        if seed % 2 == 0 {
            anns[1].restart();
        }
        for letter in letters.take() {
            world.server().borrow_mut().handle_open(letter.into()).unwrap();
        }
        world.network().announce(&world.server(), Touched::Inboxes);
        world.pass(60_000);
        assert!(new.names(chat), "seed {seed}");
        anns[0].set_cut(false);
        all_hear_each_other(&world, &[&anns[0], &anns[1], &bob], &[chat]);
    }
}

#[test]
fn audit_srv_a10_d3_who_was_offline_at_a_lost_removal_and_who_logs_in_later_come_together() {
    for seed in 0..8 {
        let world = World::new(seed);
        let [bob, dan] = ["bob", "dan"].map(|name| world.sign_up(name));
        let anns = [world.sign_up("ann"), world.log_in("ann")];
        let gone = [world.log_in("ann"), world.log_in("ann")];
        let before = [anns[0].start_chat(&["bob"]), anns[0].create_group("meadow", &["bob"])];
        settle(&world);
        anns[1].crash();
        let old = backup(&world);
        anns[0].remove_device(id(&gone[0])).unwrap();
        world.pass(5000);
        if seed % 4 < 2 {
            anns[0].remove_device(id(&gone[1])).unwrap();
            world.pass(5000);
        }
        // The remover is gone for good. Those who were removed give the record back that says so.
        anns[0].lose();
        restore(&world, &old);
        world.pass(6000);
        anns[1].start();
        world.pass(6000);
        let fresh = world.log_in("ann");
        world.pass(6000);
        let after = [fresh.start_chat(&["dan"]), anns[1].create_group("field", &["dan"])];
        world.pass(60_000);
        let chats = [before[0], before[1]];
        let all_are_in = |device: &Device| chats.map(|chat| device.info(chat).is_ok());
        assert_eq!([&anns[1], &fresh].map(all_are_in), [[true; 2]; 2], "seed {seed}");
        if seed % 4 < 2 {
            // The peer, who knows of the second removal, waits until the account makes it again.
            fresh.remove_device(id(&gone[1])).unwrap();
        }
        for (peer, chats) in [(&bob, chats), (&dan, after)] {
            all_hear_each_other(&world, &[&anns[1], &fresh, peer], &chats);
        }
        assert_eq!(bob.start_chat(&["ann"]), before[0], "seed {seed}");
    }
}

/// A server that has lost the accounts has no key packages of a device that is off, and so nothing
/// to seal the keys to.
#[test]
fn audit_issue_7_h7_who_comes_back_to_an_empty_server_behind_a_removal_gets_the_keys() {
    for seed in 0..4 {
        let world = World::new(seed);
        let empty = backup(&world);
        let [ann, bob] = ["ann", "bob"].map(|name| world.sign_up(name));
        let [second, third] = [world.log_in("ann"), world.log_in("ann")];
        world.settle();
        let chat = bob.create_group("meadow", &["ann"]);
        world.settle();
        ann.crash();
        restore(&world, &empty);
        world.pass(60_000);
        second.remove_device(id(&third)).unwrap();
        world.pass(10_000 + 20_000 * seed);
        ann.start();
        world.pass(120_000);
        assert!(!waits_for_keys(&ann), "seed {seed}");
        third.lose();
        all_hear_each_other(&world, &[&ann, &second, &bob], &[chat]);
    }
}
