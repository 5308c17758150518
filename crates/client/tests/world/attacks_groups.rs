//! Attacks on groups (A1–A8).

use corncrake::{AccountId, Chat, ConversationId, ItemKind, Role, Standing};
use corncrake_core::{
    conversation::{
        Change, Lifetime, Me, Reading, Role as CoreRole, SkipReason, Use, check_claimed,
        new_key_package,
    },
    crypto::signature::SignatureKey,
    id::InboxId,
    identity::{Certificate, DeviceClass},
    mls::{credential::Credential, proposal::Proposal},
};

use crate::{
    check::Mood,
    craft::{Craft, Spoil, craft, leaf_of, leaves_of, public_group, set_context},
    device::Device,
    mal::{Mal, Seat},
    world::World,
};

/// Ann's group with Bob, Cem and Mal.
pub(crate) struct Meadow {
    pub(crate) world: World,
    pub(crate) ann: Device,
    pub(crate) bob: Device,
    pub(crate) cem: Device,
    pub(crate) mal: Mal,
    pub(crate) seat: Seat,
    pub(crate) chat: ConversationId,
}

impl Meadow {
    pub(crate) fn new(seed: u64) -> Self {
        let world = World::new(seed);
        let [ann, bob, cem] = ["ann", "bob", "cem"].map(|name| world.sign_up(name));
        let mut mal = Mal::sign_up(&world, "mal");
        let chat = ann.create_group("meadow", &["bob", "cem", "mal"]);
        world.settle();
        let seat = mal.sit();
        Self { world, ann, bob, cem, mal, seat, chat }
    }

    /// The same, with Mal as an admin.
    pub(crate) fn with_mal_in_charge(seed: u64) -> Self {
        let mut meadow = Self::new(seed);
        meadow.promote("mal");
        meadow
    }

    pub(crate) fn promote(&mut self, name: &'static str) {
        self.ann.set_role(self.chat, name, Role::Admin).unwrap();
        self.world.settle();
        self.seat.read(&self.mal);
    }

    /// Appends a crafted commit at the head of the log.
    pub(crate) fn strike(&mut self, bad: Craft) {
        self.mal.note(format!("crafts {bad:?}"));
        let crafted = craft(&mut self.mal, &mut self.seat, bad);
        self.seat.strike(&mut self.mal, &crafted);
    }

    /// What Mal's last entry was to a reader of the log.
    fn last_reading(&self) -> &Reading {
        &self.seat.readings.last().unwrap().1
    }

    /// Settles; all of `devices` must be members of one group that can talk.
    pub(crate) fn heals(&mut self, devices: &[&Device]) {
        self.world.settle();
        for device in devices {
            let standing = device.info(self.chat).unwrap().standing;
            assert_eq!(standing, Standing::Member, "{}", device.label());
        }
        assert_eq!(self.world.members_of(self.chat).len(), devices.len());
        self.world.agree(self.chat, Mood::Attacked);
        self.seat.read(&self.mal);
    }

    /// Whom garbage at this node of Mal's path hits. There are four leaves: at the bottom of the
    /// path is Mal's neighbour, above it the other two.
    pub(crate) fn victims(&self, node: u64) -> Vec<Device> {
        let own = leaf_of(&self.seat, &self.mal.device_key).get();
        let devices = [&self.ann, &self.bob, &self.cem].into_iter();
        let victims = devices.filter(|device| {
            let account = self.mal.account_of(device.name());
            let leaf = leaves_of(&self.seat, account)[0].get();
            (leaf / 2 == own / 2) == (node == 0)
        });
        victims.cloned().collect()
    }

    fn blames_mal(&self, device: &Device) -> bool {
        let mal = AccountId::from_bytes(*self.mal.account.as_bytes());
        device.history(self.chat).iter().any(|item| item.what == ItemKind::LockedOut { by: mal })
    }

    pub(crate) fn context(&self) -> corncrake_core::conversation::ContextExtension {
        self.seat.conversation.context().clone()
    }
}

#[test]
fn a1_garbage_path_for_one_subtree() {
    for node in 0..2 {
        let mut meadow = Meadow::new(node);
        let (ann, bob, cem) = (meadow.ann.clone(), meadow.bob.clone(), meadow.cem.clone());
        let victims = meadow.victims(node);
        let spoil = Spoil::Node(usize::try_from(node).unwrap());
        meadow.strike(Craft { spoil, ..Craft::default() });
        meadow.heals(&[&ann, &bob, &cem]);
        for device in [&ann, &bob, &cem] {
            let is_victim = victims.iter().any(|victim| victim.label() == device.label());
            assert_eq!(meadow.blames_mal(device), is_victim, "{}", device.label());
        }
    }
}

#[test]
fn a2_garbage_for_everybody_three_times_then_removal() {
    for seed in 0..3 {
        let mut meadow = Meadow::new(seed);
        let (ann, bob, cem) = (meadow.ann.clone(), meadow.bob.clone(), meadow.cem.clone());
        for _ in 0..3 {
            meadow.strike(Craft { spoil: Spoil::All, ..Craft::default() });
            meadow.world.pass(seed * 3000);
        }
        meadow.heals(&[&ann, &bob, &cem]);
        ann.remove(meadow.chat, "mal").unwrap();
        meadow.heals(&[&ann, &bob, &cem]);
        bob.say(meadow.chat, "without him");
        meadow.world.settle();
        meadow.seat.read(&meadow.mal);
        assert!(!meadow.seat.heard.contains(&"without him".to_owned()));
        assert!(meadow.blames_mal(&ann));
    }
}

#[test]
fn a3_false_announcements_and_bad_tags() {
    let lies = [
        Craft { false_external_pub: true, ..Craft::default() },
        Craft { false_next: true, ..Craft::default() },
        Craft { bad_confirmation_tag: true, ..Craft::default() },
        Craft { bad_membership_tag: true, ..Craft::default() },
    ];
    for (lie, seed) in lies.into_iter().zip(0..) {
        let mut meadow = Meadow::new(seed);
        let (ann, bob, cem) = (meadow.ann.clone(), meadow.bob.clone(), meadow.cem.clone());
        ann.begin_say(meadow.chat, "meanwhile");
        meadow.strike(lie);
        meadow.heals(&[&ann, &bob, &cem]);
        ann.remove(meadow.chat, "mal").unwrap();
        meadow.heals(&[&ann, &bob, &cem]);
    }
}

#[test]
fn a4_a_self_update_under_anothers_name_or_key() {
    for case in 0..2 {
        let mut meadow = Meadow::new(case);
        let (ann, bob, cem) = (meadow.ann.clone(), meadow.bob.clone(), meadow.cem.clone());
        let bad = if case == 0 {
            let members = meadow.seat.conversation.members();
            let ann_account = meadow.mal.account_of("ann");
            let leaf = members.iter().find(|m| m.account == ann_account).unwrap().devices[0].leaf;
            let group = public_group(&meadow.seat);
            let (_, leaf) = group.leaves().find(|(index, _)| index.get() == leaf).unwrap();
            let Credential::Basic(certificate) = leaf.credential.clone() else { panic!() };
            Craft { certificate: Some(certificate), ..Craft::default() }
        } else {
            let key = SignatureKey::generate(meadow.mal.chance.rng());
            let (identity, chain) = (&meadow.mal.identity, &meadow.mal.chain);
            let certificate =
                Certificate::issue(identity, chain, &key.public(), 1, &DeviceClass::Person);
            Craft {
                certificate: Some(certificate.unwrap()),
                device_key: Some(key),
                ..Craft::default()
            }
        };
        meadow.strike(bad);
        assert!(matches!(meadow.last_reading(), Reading::Skipped(_)));
        meadow.heals(&[&ann, &bob, &cem]);
    }
}

/// A package of a new device: `certificate` vouches for `key`.
fn package_of(mal: &mut Mal, key: &SignatureKey, certificate: &[u8]) -> Proposal {
    let account = mal.account;
    let me = Me { account, device_key: key, certificate };
    let lifetime = Lifetime { not_before: 0, not_after: u64::MAX };
    let inbox = InboxId::from_bytes(mal.chance.bytes());
    let package = new_key_package(&me, inbox, lifetime, Use::Once, mal.chance.rng());
    let package = corncrake_core::mls::codec::Decode::decode_exact(&package.bytes).unwrap();
    Proposal::Add(Box::new(package))
}

fn own_device(mal: &mut Mal) -> (SignatureKey, Vec<u8>) {
    let key = SignatureKey::generate(mal.chance.rng());
    let class = DeviceClass::Person;
    let certificate = Certificate::issue(&mal.identity, &mal.chain, &key.public(), 1, &class);
    (key, certificate.unwrap())
}

#[test]
fn a5_devices_that_may_not_be_added() {
    // Ann's name on a key that she never certified.
    let mut meadow = Meadow::with_mal_in_charge(0);
    let (ann, bob, cem) = (meadow.ann.clone(), meadow.bob.clone(), meadow.cem.clone());
    let key = SignatureKey::generate(meadow.mal.chance.rng());
    let group = public_group(&meadow.seat);
    let (_, leaf) = group.leaves().next().unwrap();
    let Credential::Basic(certificate) = leaf.credential.clone() else { panic!() };
    let old = *leaf.signature_key.as_bytes();
    let at = certificate.windows(32).position(|window| window == old).unwrap();
    let mut forged = certificate;
    forged[at..at + 32].copy_from_slice(key.public().as_bytes());
    let forged = package_of(&mut meadow.mal, &key, &forged);
    meadow.strike(Craft { proposals: vec![forged], ..Craft::default() });
    assert!(matches!(meadow.last_reading(), Reading::Skipped(SkipReason::Certificate)));
    meadow.heals(&[&ann, &bob, &cem]);

    // Ann's device once more.
    let again = meadow.mal.claim("ann").remove(0);
    let smuggled = vec![Proposal::Add(Box::new(again.package().clone()))];
    meadow.strike(Craft { smuggled, ..Craft::default() });
    assert!(matches!(meadow.last_reading(), Reading::Skipped(_)));
    meadow.heals(&[&ann, &bob, &cem]);

    // An eleventh device of his own.
    let proposals = (0..10)
        .map(|_| {
            let (key, certificate) = own_device(&mut meadow.mal);
            package_of(&mut meadow.mal, &key, &certificate)
        })
        .collect();
    meadow.strike(Craft { proposals, ..Craft::default() });
    assert!(matches!(meadow.last_reading(), Reading::Skipped(SkipReason::TooMany)));
    meadow.heals(&[&ann, &bob, &cem]);

    // A key that was revoked.
    let (key, certificate) = own_device(&mut meadow.mal);
    let Proposal::Add(package) = package_of(&mut meadow.mal, &key, &certificate) else { panic!() };
    let bytes = corncrake_core::mls::codec::Encode::to_bytes(&*package);
    let device = check_claimed(&bytes, meadow.mal.account, 1).unwrap();
    let id = device.device();
    meadow.seat.commit(&mut meadow.mal, Change::add(vec![device]));
    let revoke = Change { revoke_devices: vec![id], ..Change::default() };
    meadow.seat.commit(&mut meadow.mal, revoke);
    meadow.heals(&[&ann, &bob, &cem]);
    let again = package_of(&mut meadow.mal, &key, &certificate);
    meadow.strike(Craft { proposals: vec![again], ..Craft::default() });
    assert!(matches!(meadow.last_reading(), Reading::Skipped(SkipReason::Revoked)));
    meadow.heals(&[&ann, &bob, &cem]);
}

#[test]
fn a6_what_a_role_does_not_allow() {
    let mut meadow = Meadow::new(0);
    let (ann, bob, cem) = (meadow.ann.clone(), meadow.bob.clone(), meadow.cem.clone());
    let mal = meadow.mal.account;
    let bob_account = meadow.mal.account_of("bob");
    let mut changes = Vec::new();
    let mut context = meadow.context();
    context.title = "mine".to_owned();
    changes.push(context);
    let mut context = meadow.context();
    context.roles.insert(mal, CoreRole::Owner);
    changes.push(context);
    let mut context = meadow.context();
    context.leaving.insert(bob_account);
    changes.push(context);
    for context in changes {
        let proposals = vec![set_context(&meadow.seat, &context)];
        meadow.strike(Craft { proposals, ..Craft::default() });
        assert!(matches!(meadow.last_reading(), Reading::Skipped(SkipReason::NotAllowed)));
    }
    meadow.heals(&[&ann, &bob, &cem]);
    assert_eq!(ann.info(meadow.chat).unwrap().title, "meadow");
}

#[test]
fn audit_srv_b9_a_title_that_breaks_its_line_counts_for_nobody() {
    let mut meadow = Meadow::with_mal_in_charge(3);
    let lines = ["meadow\nann: send me the key", "\u{202e}wodaem", "a\u{2028}b", "a\u{1b}[2Jb"];
    let blanks = ["meadow ", " meadow", "meadow\u{a0}", "meadow\u{200b}", "a  b", " "];
    for forged in lines.into_iter().chain(blanks) {
        let mut context = meadow.seat.conversation.context().clone();
        context.title = forged.to_owned();
        let proposals = vec![set_context(&meadow.seat, &context)];
        meadow.strike(Craft { proposals, ..Craft::default() });
        assert!(matches!(meadow.last_reading(), Reading::Skipped(_)), "{forged:?}");
        let title = forged.to_owned();
        let rename = async move |chat: Chat| chat.rename(&title).await;
        let refused = meadow.ann.call_in(meadow.chat, "rename", rename).unwrap_err();
        assert_eq!(refused.code(), "bad_title", "{forged:?}");
        let refused = meadow.ann.try_create_group(forged, &["bob"]).unwrap_err();
        assert_eq!(refused.code(), "bad_title", "{forged:?}");
    }
    let (ann, bob, cem) = (meadow.ann.clone(), meadow.bob.clone(), meadow.cem.clone());
    meadow.heals(&[&ann, &bob, &cem]);
    assert_eq!(bob.info(meadow.chat).unwrap().title, "meadow");
}

#[test]
fn a6_a_role_that_is_lost_while_it_is_used() {
    for seed in 0..8 {
        let mut meadow = Meadow::new(seed);
        meadow.world.sign_up("jon");
        meadow.promote("bob");
        let (ann, bob) = (meadow.ann.clone(), meadow.bob.clone());
        let demote = async move |chat: Chat| chat.set_role("bob", Role::Member).await;
        let demoted = ann.begin_in(meadow.chat, "demote bob", demote);
        let added = bob.begin_add(meadow.chat, "jon");
        ann.wait(&demoted, "demote").unwrap();
        let added = bob.wait(&added, "add");
        meadow.world.settle();
        let members = ann.info(meadow.chat).unwrap().members;
        let jon_is_in = members.iter().any(|member| member.name.as_deref() == Some("jon"));
        assert_eq!(
            added.map_err(|error| error.code()),
            match jon_is_in {
                true => Ok(()),
                false => Err("not_allowed"),
            }
        );
        meadow.world.agree(meadow.chat, Mood::Honest);
    }
}

#[test]
fn a7_two_remove_each_other_or_the_same() {
    for seed in 0..12 {
        let world = World::new(seed);
        let [ann, bob, cem] = ["ann", "bob", "cem"].map(|name| world.sign_up(name));
        world.sign_up("dee");
        let chat = cem.create_group("meadow", &["ann", "bob", "dee"]);
        world.settle();
        for name in ["ann", "bob"] {
            cem.set_role(chat, name, Role::Admin).unwrap();
        }
        world.settle();
        let (from_ann, from_bob) = if seed % 2 == 0 { ("bob", "ann") } else { ("dee", "dee") };
        let one = ann.begin_remove(chat, from_ann);
        let two = bob.begin_remove(chat, from_bob);
        let codes = [(&ann, one), (&bob, two)]
            .map(|(device, pending)| device.wait(&pending, "remove").map_err(|error| error.code()));
        world.settle();
        world.agree(chat, Mood::Honest);
        let members = cem.info(chat).unwrap().members.len();
        assert_eq!(members, 3, "seed {seed}");
        let won = codes.iter().filter(|code| code.is_ok()).count();
        assert!(won == 1 || (won == 2 && seed % 2 == 1), "seed {seed}: {codes:?}");
    }
}

#[test]
fn a8_one_verdict_for_every_kind_of_reader() {
    for (bad, seed) in [
        Craft { bad_membership_tag: true, ..Craft::default() },
        Craft { bad_confirmation_tag: true, ..Craft::default() },
        Craft { spoil: Spoil::AllBut(0), ..Craft::default() },
    ]
    .into_iter()
    .zip(0..)
    {
        let mut meadow = Meadow::new(seed);
        let (ann, bob, cem) = (meadow.ann.clone(), meadow.bob.clone(), meadow.cem.clone());
        // Cem is offline for weeks; Ann's second device folds.
        cem.set_cut(true);
        meadow.strike(bad);
        let second = meadow.world.log_in("ann");
        meadow.world.pass(21 * 24 * 3_600_000);
        let own = leaf_of(&meadow.seat, &meadow.mal.device_key);
        assert!(own.get() < 8);
        meadow.heals(&[&ann, &bob, &cem, &second]);
    }
}
