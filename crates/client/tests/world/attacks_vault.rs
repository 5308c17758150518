//! A server that answers a log-in with old vaults and records (D4).

use corncrake::Client;
use corncrake_core::{
    identity::{AccountRecord, ContactKey},
    seal::vault::{SlotKey, Vault as CoreVault},
};
use corncrake_wire::{
    AccountReply,
    account::{LogInStart, Vault},
    opaque::{self, ExportKey, Stretch},
    open::SignedRecord,
};

use crate::{
    chance::Chance, device::Device, flows::texts, host::cheap_stretch, server::ORIGIN, world::World,
};

/// What a log-in gives.
#[derive(Clone)]
pub(crate) struct Given {
    vault: Vault,
    record: SignedRecord,
}

impl Given {
    /// What the vault holds, as a device of the account knows it.
    pub(crate) fn opened(world: &World, device: &Device) -> CoreVault {
        let given = Self::by(world, device.name());
        let export = export_key(world, device, &mut Chance::new(world.seed(), "a look"));
        let account = AccountRecord::verify(&given.record.bytes).unwrap().account();
        let Vault { version, bytes } = given.vault;
        CoreVault::open_with_password(&bytes, account, version, export.expose_bytes()).unwrap()
    }

    fn by(world: &World, name: &str) -> Self {
        let server = world.server();
        let server = server.borrow();
        let account = &server.accounts[&server.names[name]];
        Self { vault: account.vault.clone(), record: account.record.clone() }
    }

    fn give(&self, world: &World, name: &str) {
        let server = world.server();
        let mut server = server.borrow_mut();
        let id = server.names[name];
        let account = server.accounts.get_mut(&id).unwrap();
        account.vault.clone_from(&self.vault);
        account.record.clone_from(&self.record);
    }

    /// Seals the vault again, under the next version, as who changes secrets does. With another
    /// contact key, there is a new record too.
    fn renewed(&self, world: &World, device: &Device, contact: Contact) -> Self {
        let mut chance = Chance::new(world.seed(), "renewal");
        let export = export_key(world, device, &mut chance);
        let record = AccountRecord::verify(&self.record.bytes).unwrap();
        let (account, version) = (record.account(), self.vault.version + 1);
        let old = &self.vault;
        let mut vault =
            CoreVault::open_with_password(&old.bytes, account, old.version, export.expose_bytes())
                .unwrap();
        let mut renewed = self.clone();
        if contact == Contact::New {
            vault.contact_key = ContactKey::generate(chance.rng());
            let mut record = record.into_record();
            record.contact_key = vault.contact_key.public();
            record.list_version += 1;
            let bytes = record.issue(&vault.identity).unwrap();
            renewed.record = SignedRecord { version: record.list_version, bytes };
        }
        let slot = SlotKey::password(export.expose_bytes());
        let bytes = vault.seal(account, version, &[slot], chance.rng()).unwrap();
        renewed.vault = Vault { version, bytes };
        renewed
    }
}

/// Whether a change of secrets changes the contact key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Contact {
    Same,
    New,
}

/// The key that a device's password gives.
fn export_key(world: &World, device: &Device, chance: &mut Chance) -> ExportKey {
    let (state, request) = opaque::log_in(device.password().as_bytes(), chance.rng()).unwrap();
    let start =
        LogInStart { name: device.name().to_owned(), origin: ORIGIN.to_owned(), opaque: request };
    let started = world.server().borrow_mut().handle_account(0, None, start.into());
    let Ok(AccountReply::LogInStart(started)) = started else { panic!() };
    let stretch = Stretch::with(cheap_stretch);
    state.finish(&started.opaque, stretch, chance.rng()).unwrap().1
}

/// Who has seen the newest vault refuses an older one; a device that has seen nothing can't tell
/// the newest from what belonged together before, and contacts refuse what it signs.
#[test]
fn d4_hands_out_an_old_vault() {
    for contact in [Contact::Same, Contact::New] {
        let mut codes = Vec::new();
        for point in 0.. {
            let world = World::new(4);
            let [ann, bob] = ["ann", "bob"].map(|name| world.sign_up(name));
            world.settle();
            let old = Given::by(&world, "ann");
            let new = old.renewed(&world, &ann, contact);
            new.give(&world, "ann");
            bob.start_chat(&["ann"]);
            // The device dies at a point of its log-in, and meets the old vault when it comes back.
            let second = world.device("ann");
            second.crasher().count(Some(point));
            if world.try_log_in(&second).is_ok() {
                break;
            }
            second.crasher().count(None);
            if Given::by(&world, "ann").record == new.record {
                old.give(&world, "ann");
                second.start();
                let outcome = world.try_log_in(&second).map_err(|error| error.code());
                codes.push(outcome.err().unwrap_or("ok"));
            }
        }
        let refused = codes.iter().position(|code| *code == "untrue_answer").unwrap();
        assert!(codes[..refused].iter().all(|code| *code == "ok"), "{codes:?}");
        assert!(codes[refused..].iter().all(|code| *code == "untrue_answer"), "{codes:?}");
    }
}

/// Vault and record that do not belong together are refused by everybody, and what is signed by a
/// device that was let in with old ones is refused by who has seen newer.
#[test]
fn d4_an_old_vault_with_a_new_record_and_what_comes_of_both_old() {
    let world = World::new(4);
    let [ann, bob] = ["ann", "bob"].map(|name| world.sign_up(name));
    let chat = bob.start_chat(&["ann"]);
    world.settle();
    let old = Given::by(&world, "ann");
    let new = old.renewed(&world, &ann, Contact::New);
    let number = async move |client: Client| client.safety_number("ann").await;
    new.give(&world, "ann");
    bob.call("verify ann", number).unwrap();
    for (vault, record) in [(&old.vault, &new.record), (&new.vault, &old.record)] {
        Given { vault: vault.clone(), record: record.clone() }.give(&world, "ann");
        let fresh = world.device("ann");
        assert_eq!(world.try_log_in(&fresh).unwrap_err().code(), "untrue_answer");
        fresh.lose();
    }
    old.give(&world, "ann");
    let fooled = world.log_in("ann");
    // Bob does not take the record that the fooled device signed, and goes on with what he knows.
    assert_eq!(bob.call("verify ann", number).unwrap_err().code(), "untrue_answer");
    assert_eq!(bob.try_create_group("meadow", &["ann"]).unwrap_err().code(), "untrue_answer");
    bob.say(chat, "still here");
    world.pass(600_000);
    assert!(texts(&ann, chat).contains(&"still here".to_owned()));
    fooled.lose();
}
