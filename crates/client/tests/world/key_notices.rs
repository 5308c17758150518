//! Letters with keys that nobody has to take: forged by the server, by strangers and by devices that
//! were removed, sent again, cut off and blown up.

use std::{cell::RefCell, rc::Rc};

use corncrake::{Client, ConversationId};
use corncrake_core::{
    crypto::signature::SignatureKey,
    derive::Key32,
    identity::{AccountRecord, Certificate, DeviceClass, DeviceEntry},
    mls::{codec::Decode, key_package::KeyPackage},
    seal::{notice::KeysNotice, record::StorageKey, vault::Vault},
};
use corncrake_wire::{
    AccountId, DeviceId, InboxId, OpenReply, OpenRequest, open::Deposit, open::SignedRecord,
};

use crate::{
    attacks_vault::Given,
    chance::Chance,
    device::Device,
    devices::id,
    flows::texts,
    mal::Mal,
    network::Touched,
    renewed_keys::{Reader, all_hear_each_other, settle, waits_for_keys},
    world::World,
};

/// Who signs letters: the key and the certificate of a device.
struct Sender {
    key: SignatureKey,
    certificate: Vec<u8>,
}

impl Sender {
    /// A device that the owner of this vault has certified, for the record of this version.
    fn certified(vault: &Vault, since: u64, chance: &mut Chance) -> Self {
        let key = SignatureKey::generate(chance.rng());
        let Vault { identity, chain, .. } = vault;
        let class = DeviceClass::Person;
        let certificate = Certificate::issue(identity, chain, &key.public(), since, &class);
        Self { key, certificate: certificate.unwrap() }
    }

    /// The same certificate and a key that isn't its own.
    fn pretended(&self, chance: &mut Chance) -> Self {
        let key = SignatureKey::generate(chance.rng());
        Self { key, certificate: self.certificate.clone() }
    }

    fn device(&self) -> corncrake::DeviceId {
        Certificate::parse_and_verify(&self.certificate).unwrap().device()
    }

    fn send(&self, world: &World, keys: &KeysNotice, to: &Device, chance: &mut Chance) {
        let package = {
            let server = world.server();
            let server = server.borrow();
            let packages = &server.devices[&wire(to)].packages;
            KeyPackage::decode_exact(&packages.last().unwrap().bytes).unwrap()
        };
        let sealed_to = (&package.reference(), &package.init_key);
        let letter = keys.seal(sealed_to, (&self.key, &self.certificate), chance.rng());
        put(world, inbox(world, to), letter.unwrap());
    }
}

fn wire(device: &Device) -> DeviceId {
    (*id(device).as_bytes()).into()
}

fn inbox(world: &World, device: &Device) -> InboxId {
    world.server().borrow().devices[&wire(device)].inbox
}

/// Puts a letter into an inbox that there is still, as the server may, whatever was there before.
fn put(world: &World, inbox: InboxId, letter: Vec<u8>) {
    let server = world.server();
    if let Some(inbox) = server.borrow_mut().inboxes.get_mut(&inbox) {
        inbox.put(letter);
    }
    world.network().announce(&server, Touched::Inboxes);
}

/// The keys of an account and the version of its record, as the server holds them.
fn held(world: &World, device: &Device) -> (Vault, u64) {
    let server = world.server();
    let server = server.borrow();
    let version = server.accounts[&server.names[device.name()]].record.version;
    drop(server);
    (Given::opened(world, device), version)
}

fn random_keys(list_version: u64, chance: &mut Chance) -> KeysNotice {
    let storage_key = StorageKey::random(chance.rng());
    KeysNotice { storage_key, contact_key: Key32::random(chance.rng()), list_version }
}

/// Has the account's record name one more device, whose keys the test holds.
fn name_device(world: &World, of: &Device, chance: &mut Chance) -> Sender {
    let (vault, version) = held(world, of);
    let sender = Sender::certified(&vault, version + 1, chance);
    let server = world.server();
    {
        let mut server = server.borrow_mut();
        let account: AccountId = server.names[of.name()];
        let account = server.accounts.get_mut(&account).unwrap();
        let mut record = AccountRecord::verify(&account.record.bytes).unwrap().into_record();
        record.list_version += 1;
        record.devices.push(DeviceEntry { key: sender.key.public(), since: version + 1 });
        let bytes = record.issue(&vault.identity).unwrap();
        account.record = SignedRecord { version: version + 1, bytes };
    }
    of.call("devices", async move |client: Client| client.devices().await).unwrap();
    settle(world);
    sender
}

/// From now on the letters of this person's devices are kept here in place of their inboxes.
fn hold_letters(world: &World, name: &'static str) -> Rc<RefCell<Vec<Deposit>>> {
    let held = Rc::new(RefCell::new(Vec::new()));
    let letters = held.clone();
    world.network().set_lie(Some(Box::new(move |who, _, request| match request {
        OpenRequest::Deposit(deposit) if who.starts_with(name) => {
            letters.borrow_mut().push(deposit.clone());
            Some(Ok(OpenReply::Deposit(())))
        }
        _ => None,
    })));
    held
}

/// Each of the devices founds a group that the account log of the newest keys names, and those of
/// other keys don't.
fn go_on_with_the_newest(world: &World, anns: &[&Device], olds: &[&StorageKey]) {
    let chats: Vec<ConversationId> =
        anns.iter().map(|ann| ann.create_group("later", &["bob"])).collect();
    settle(world);
    let owner = Reader { world, key: held(world, anns[0]).0.storage_key };
    assert!(chats.iter().all(|chat| owner.names(*chat)), "the newest log names every chat");
    for old in olds {
        let reader = Reader { world, key: (*old).clone() };
        assert!(chats.iter().all(|chat| !reader.names(*chat)), "the others name none");
    }
    all_hear_each_other(world, anns, &chats);
}

#[test]
fn audit_srv_b7_forged_keys_are_not_taken() {
    for seed in 0..3 {
        let world = World::new(seed);
        let mut chance = Chance::new(seed, "forger");
        let mal = Mal::sign_up(&world, "mal");
        let bob = world.sign_up("bob");
        let anns = [world.sign_up("ann"), world.log_in("ann"), world.log_in("ann")];
        settle(&world);
        let removed = name_device(&world, &anns[0], &mut chance);
        let (old, _) = held(&world, &anns[0]);
        let letters = hold_letters(&world, "ann");
        anns[2].set_cut(true);
        anns[0].remove_device(removed.device()).unwrap();
        world.pass(60_000);
        let (new, version) = held(&world, &anns[0]);
        let senders = [
            removed.pretended(&mut chance),
            Sender { key: mal.device_key.clone(), certificate: mal.certificate.clone() },
            // Who certifies devices for an account of their own may name any version.
            Sender::certified(&held(&world, &bob).0, u64::MAX, &mut chance),
            removed,
        ];
        let mut wrong = Vec::new();
        for (sender, list_version) in senders
            .iter()
            .flat_map(|sender| [1, version, u64::MAX].map(|version| (sender, version)))
        {
            let random = random_keys(list_version, &mut chance);
            let contact_key = old.contact_key.expose();
            let old =
                KeysNotice { storage_key: old.storage_key.clone(), contact_key, list_version };
            let contact_key = new.contact_key.expose();
            let half = KeysNotice { contact_key, ..random_keys(list_version, &mut chance) };
            for ann in &anns {
                for keys in [&random, &old, &half] {
                    sender.send(&world, keys, ann, &mut chance);
                }
            }
            wrong.extend([random.storage_key, half.storage_key]);
        }
        anns[2].set_cut(false);
        world.pass(60_000);
        assert_eq!([&anns[0], &anns[1], &anns[2]].map(waits_for_keys), [false, true, true]);
        // None of it is waited for either.
        anns.iter().for_each(|ann| drop(world.network().take_asked(ann.label())));
        world.pass(3_600_000);
        for ann in &anns {
            let asked = world.network().take_asked(ann.label());
            assert!(asked.values().sum::<u64>() < 10, "seed {seed}, {}: {asked:?}", ann.label());
        }
        world.network().set_lie(None);
        let true_ones = letters.borrow().clone();
        assert_eq!(true_ones.len(), 2);
        true_ones.into_iter().for_each(|letter| put(&world, letter.inbox, letter.notice));
        let olds: Vec<_> = wrong.iter().chain([&old.storage_key]).collect();
        go_on_with_the_newest(&world, &[&anns[0], &anns[1], &anns[2]], &olds);
    }
}

#[test]
fn audit_srv_b7_old_keys_that_are_sent_again_bring_nobody_back() {
    for seed in 0..4 {
        let world = World::new(seed);
        let bobs = [world.sign_up("bob"), world.log_in("bob"), world.log_in("bob")];
        let anns = [world.sign_up("ann"), world.log_in("ann"), world.log_in("ann")];
        let gone = [world.log_in("ann"), world.log_in("ann")];
        settle(&world);
        let (first, _) = held(&world, &anns[0]);
        if seed % 2 == 0 {
            anns[2].set_cut(true);
        }
        let letters = hold_letters(&world, "ann");
        anns[0].remove_device(id(&gone[0])).unwrap();
        world.pass(60_000);
        let earlier = letters.take();
        let (second, _) = held(&world, &anns[0]);
        anns[0].remove_device(id(&gone[1])).unwrap();
        world.pass(60_000);
        let later = letters.take();
        let of_others = hold_letters(&world, "bob");
        bobs[0].remove_device(id(&bobs[2])).unwrap();
        world.pass(60_000);
        world.network().set_lie(None);
        gone.iter().chain([&bobs[2]]).for_each(Device::lose);
        let of_others = of_others.take();
        assert!(!earlier.is_empty() && !later.is_empty() && of_others.len() == 1);
        // The old ones come first, last and in between, the new ones twice, and those of another
        // account to everybody.
        for letter in earlier.iter().chain(&later).chain(&later).chain(&earlier) {
            put(&world, letter.inbox, letter.notice.clone());
        }
        for device in anns.iter().chain(&bobs[..2]) {
            put(&world, inbox(&world, device), of_others[0].notice.clone());
        }
        anns[2].set_cut(false);
        world.pass(60_000);
        assert!(!anns.iter().any(waits_for_keys), "seed {seed}");
        for letter in earlier.iter().chain(&later).chain(&earlier) {
            put(&world, letter.inbox, letter.notice.clone());
        }
        let all = [&anns[0], &anns[1], &anns[2]];
        go_on_with_the_newest(&world, &all, &[&first.storage_key, &second.storage_key]);
        anns.iter().for_each(Device::restart);
        let chat = bobs[1].create_group("meadow", &["ann"]);
        all_hear_each_other(&world, &[&bobs[0], &bobs[1], all[0], all[1], all[2]], &[chat]);
    }
}

#[test]
fn audit_srv_b7_keys_that_are_cut_off_or_blown_up_are_left_out() {
    let world = World::new(1);
    let bob = world.sign_up("bob");
    let anns = [world.sign_up("ann"), world.log_in("ann")];
    let gone = world.log_in("ann");
    settle(&world);
    let (old, _) = held(&world, &anns[0]);
    let letters = hold_letters(&world, "ann");
    anns[0].remove_device(id(&gone)).unwrap();
    gone.lose();
    world.pass(60_000);
    world.network().set_lie(None);
    let letter = letters.take().remove(0);
    let whole = &letter.notice;
    for length in [0, 1, 32, 33, 64, 65, 100, whole.len() - 16, whole.len() - 1] {
        put(&world, letter.inbox, whole[..length].to_vec());
    }
    for more in [1, 16, 4096, 1 << 20] {
        put(&world, letter.inbox, [whole.as_slice(), &vec![0; more]].concat());
    }
    for at in [0, 1, 40, whole.len() - 1] {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        put(&world, letter.inbox, changed);
    }
    world.pass(60_000);
    assert!(waits_for_keys(&anns[1]));
    put(&world, letter.inbox, whole.clone());
    go_on_with_the_newest(&world, &[&anns[0], &anns[1]], &[&old.storage_key]);
    let chat = bob.start_chat(&["ann"]);
    all_hear_each_other(&world, &[&bob, &anns[0], &anns[1]], &[chat]);
}

/// A device that is still in the account speaks of a record that isn't there: the others ask for it
/// more and more rarely, and hear of a true one at once all the same.
#[test]
fn audit_srv_b7_a_version_that_is_made_up_hides_no_removal() {
    for seed in 0..4 {
        let world = World::new(seed);
        let mut chance = Chance::new(seed, "liar");
        let bob = world.sign_up("bob");
        let anns = [world.sign_up("ann"), world.log_in("ann"), world.log_in("ann")];
        let gone = world.log_in("ann");
        // Where there is no chat that the removed one is taken out of, the account log alone tells,
        // or the letters do.
        let chat = (seed < 2).then(|| anns[0].create_group("meadow", &["bob"]));
        settle(&world);
        let (old, _) = held(&world, &anns[0]);
        let liar = name_device(&world, &anns[0], &mut chance);
        for ann in &anns {
            liar.send(&world, &random_keys(u64::MAX, &mut chance), ann, &mut chance);
        }
        world.pass(24 * 3_600_000);
        if seed % 2 == 0 {
            anns[2].set_cut(true);
        }
        anns[0].remove_device(id(&gone)).unwrap();
        world.pass(30_000);
        anns[2].set_cut(false);
        world.pass(30_000);
        assert!(anns.iter().all(|ann| !waits_for_keys(ann)), "seed {seed}");
        if let Some(chat) = chat {
            bob.say(chat, "is it gone?");
            world.pass(60_000);
            assert!(!texts(&gone, chat).contains(&"is it gone?".to_owned()), "seed {seed}");
        }
        gone.lose();
        go_on_with_the_newest(&world, &[&anns[0], &anns[1], &anns[2]], &[&old.storage_key]);
    }
}
