//! Commits that must not count, and some that must: the same verdict for a member, for whoever folds
//! from the beginning, and for whoever folds from the newest state.
//!
//! Each case is kept in `tests/corpus` for ever: a state, an entry, the verdict. A new case is
//! written by running this with `CORPUS=write`.

use std::fmt::Write as _;
use std::path::PathBuf;

use corncrake_core::conversation::{
    AssistantPolicy, Change, Conversation, EntryKind, Error, Kind, LogItem, Reading, Role,
    SkipReason, State, Use,
};
use corncrake_core::crypto::Digest;
use corncrake_core::id::LogId;
use corncrake_core::identity::{AssistantInfo, DeviceClass};
use corncrake_core::mls::credential::Credential;
use corncrake_core::mls::extension::{Extension, ExtensionType, Extensions};
use corncrake_core::mls::leaf_node::LeafContent;
use corncrake_core::mls::proposal::{Proposal, ProposalOrRef, ProposalType, ReInit};
use corncrake_core::mls::psk::{PreSharedKeyId, PskSource};
use corncrake_core::mls::tree_math::LeafIndex;

use crate::lab::{Device, Log, Person};
use crate::life::group_of;
use crate::mal::{Flaw, Forgery, change_context, extensions, forge, forge_raw, public_group};

/// A group of four: Ann owns it, Bob is an admin, Mal and Xia (two devices) are members.
struct Cast {
    ann: Device,
    bob: Device,
    mal: Device,
    xia: Device,
    tablet: Device,
    mals_person: Person,
    xias_person: Person,
    log: Log,
}

fn cast() -> Cast {
    let (mut ann, mut bob) = (Person::new(1).device(), Person::new(2).device());
    let (mut mals_person, mut xias_person) = (Person::new(3), Person::new(4));
    let mut mal = mals_person.device();
    let (mut xia, mut tablet) = (xias_person.device(), xias_person.device());
    let mut log = group_of(Kind::Group, &mut [&mut ann, &mut bob, &mut mal, &mut xia, &mut tablet]);
    ann.make(&mut log, Change::role(bob.account, Role::Admin));
    for device in [&mut ann, &mut bob, &mut mal, &mut xia, &mut tablet] {
        device.read(&log);
    }
    Cast { ann, bob, mal, xia, tablet, mals_person, xias_person, log }
}

fn corpus() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

/// The verdict of one reader on one entry.
fn verdict_of(chat: &mut Conversation, kind: EntryKind, inner: &[u8]) -> String {
    let item = LogItem {
        position: chat.position() + 1,
        id: corncrake_core::seal::envelope::entry_id(inner),
        kind,
        inner: Some(inner),
        own: None,
    };
    match chat.read(item) {
        Reading::Commit(_) => "counts".to_owned(),
        Reading::Closed { .. } => "closes".to_owned(),
        Reading::Skipped(reason) => reason.code().to_owned(),
        reading => panic!("{reading:?}"),
    }
}

/// Asserts the verdict of every kind of reader on an entry after the end of `log`.
fn judge(name: &str, reader: &mut Device, log: &Log, inner: &[u8], expected: &str) {
    reader.read(log);
    let member = verdict_of(reader.fork().chat_mut(), EntryKind::Commit, inner);
    assert_eq!(member, expected, "{name}: member");

    let mut joiner = Person::new(99).device();
    joiner.fold_at(log, 0);
    joiner.read(log);
    let folded = verdict_of(joiner.chat_mut(), EntryKind::Commit, inner);
    assert_eq!(folded, expected, "{name}: joiner");

    let state = reader.chat().state().encode();
    let fresh = State::decode(&state).unwrap();
    let mut fresh = Conversation::fold(
        &fresh,
        log.id,
        (log.head(), corncrake_core::id::EntryId::from_bytes([1; 32])),
    )
    .unwrap();
    let verdict = verdict_of(&mut fresh, EntryKind::Commit, inner);
    assert_eq!(verdict, expected, "{name}: from the newest state");

    let file = corpus().join(format!("{name}.txt"));
    if std::env::var_os("CORPUS").is_some_and(|value| value == "write") && !file.exists() {
        let mut text = String::new();
        writeln!(text, "log {}", log.id).unwrap();
        writeln!(text, "position {}", log.head()).unwrap();
        writeln!(text, "state {}", hex::encode(&state)).unwrap();
        writeln!(text, "entry {}", hex::encode(inner)).unwrap();
        writeln!(text, "verdict {expected}").unwrap();
        std::fs::write(file, text).unwrap();
    }
}

#[test]
fn the_corpus_keeps_its_verdicts() {
    let mut count = 0;
    for file in std::fs::read_dir(corpus()).unwrap() {
        let file = file.unwrap().path();
        let text = std::fs::read_to_string(&file).unwrap();
        let field = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(' '));
            lines.find(|(key, _)| *key == name).unwrap().1.to_owned()
        };
        let log: LogId = field("log").parse().unwrap();
        let position = field("position").parse().unwrap();
        let state = State::decode(&hex::decode(field("state")).unwrap()).unwrap();
        let mut chat = Conversation::fold(
            &state,
            log,
            (position, corncrake_core::id::EntryId::from_bytes([1; 32])),
        )
        .unwrap();
        let entry = hex::decode(field("entry")).unwrap();
        let verdict = verdict_of(&mut chat, EntryKind::Commit, &entry);
        assert_eq!(verdict, field("verdict"), "{}", file.display());
        count += 1;
    }
    assert!(count >= 50, "{count} cases");
}

/// A commit of Mal's with these proposals and nothing else wrong.
fn with(mal: &mut Device, proposals: Vec<Proposal>) -> Vec<u8> {
    let forgery = Forgery { proposals, ..Forgery::default() };
    forge(mal, forgery).inner
}

fn leaf_of(device: &Device, of: &Device) -> LeafIndex {
    let group = public_group(device);
    let key = of.key.public();
    let (index, _) = group.leaves().find(|(_, leaf)| leaf.signature_key == key).unwrap();
    index
}

fn content(certificate: Vec<u8>, device: &Device) -> LeafContent {
    let group = public_group(device);
    let (_, leaf) = group.leaves().next().unwrap();
    LeafContent {
        credential: Credential::Basic(certificate),
        capabilities: leaf.capabilities.clone(),
        extensions: Extensions::default(),
    }
}

fn add(device: &mut Device) -> Proposal {
    let package = device.package(Use::Once).claimed;
    Proposal::Add(Box::new(package.package().clone()))
}

#[test]
fn honest_commits_count() {
    let mut c = cast();
    let inner = with(&mut c.mal, Vec::new());
    judge("update", &mut c.ann, &c.log, &inner, "counts");
    let mut jon = Person::new(5).device();
    let proposals = vec![add(&mut jon)];
    let inner = with(&mut c.bob, proposals);
    judge("add-by-admin", &mut c.ann, &c.log, &inner, "counts");
    let mut second = c.mals_person.device();
    let proposals = vec![add(&mut second)];
    let inner = with(&mut c.mal, proposals);
    judge("add-own-device", &mut c.ann, &c.log, &inner, "counts");
    let mut context = c.bob.chat().context().clone();
    context.title = "Marsh".to_owned();
    let inner = with(&mut c.bob, vec![change_context(&context)]);
    judge("title-by-admin", &mut c.ann, &c.log, &inner, "counts");
    let leaves = [leaf_of(&c.bob, &c.xia), leaf_of(&c.bob, &c.tablet)];
    let inner = with(&mut c.bob, leaves.map(Proposal::Remove).to_vec());
    judge("remove-by-admin", &mut c.ann, &c.log, &inner, "counts");
    let inner = with(&mut c.xia, vec![Proposal::Remove(leaves[1])]);
    judge("remove-own-device", &mut c.ann, &c.log, &inner, "counts");
    let mut context = c.xia.chat().context().clone();
    context.revoked.insert(*c.tablet.key.public().as_bytes());
    let proposals = vec![change_context(&context), Proposal::Remove(leaves[1])];
    let inner = with(&mut c.xia, proposals);
    judge("revoke-own-device", &mut c.ann, &c.log, &inner, "counts");
    for flaw in [Flaw::ExternalPub, Flaw::Next, Flaw::ConfirmationTag, Flaw::MembershipTag] {
        let forgery = Forgery { flaw, garbage: &|_| true, ..Forgery::default() };
        let inner = forge(&mut c.mal, forgery).inner;
        let name = format!("flaw-{flaw:?}").to_lowercase();
        judge(&name, &mut c.ann, &c.log, &inner, "counts");
    }
}

#[test]
fn a_member_keeps_account_and_device_key() {
    let mut c = cast();
    // A4: Ann's certificate on Mal's leaf.
    let leaf = content(c.ann.certificate.clone(), &c.mal);
    let key = c.mal.key.clone();
    let forgery = Forgery { leaf: Some((leaf, &key)), ..Forgery::default() };
    let inner = forge(&mut c.mal, forgery).inner;
    judge("leaf-of-another-account", &mut c.ann, &c.log, &inner, "bad_certificate");
    // A4: another device of Mal's, in the place of this one.
    let other = c.mals_person.device();
    let forgery = Forgery {
        leaf: Some((content(other.certificate.clone(), &c.mal), &other.key)),
        ..Forgery::default()
    };
    let inner = forge(&mut c.mal, forgery).inner;
    judge("leaf-of-another-device", &mut c.ann, &c.log, &inner, "changed_identity");
    // The same key under another account's certificate.
    let stranger = Person::new(77).device_with_key(c.mal.key.clone(), &DeviceClass::Person);
    let forgery =
        Forgery { leaf: Some((content(stranger.certificate, &c.mal), &key)), ..Forgery::default() };
    let inner = forge(&mut c.mal, forgery).inner;
    judge("key-under-another-account", &mut c.ann, &c.log, &inner, "changed_identity");
    let forgery = Forgery {
        leaf: Some((content(b"no certificate".to_vec(), &c.mal), &key)),
        ..Forgery::default()
    };
    let inner = forge(&mut c.mal, forgery).inner;
    judge("leaf-without-certificate", &mut c.ann, &c.log, &inner, "bad_certificate");
    let mut heavy = content(c.mal.certificate.clone(), &c.mal);
    heavy.capabilities.proposals = vec![ProposalType(0xF0AA); 5_000];
    let forgery = Forgery { leaf: Some((heavy, &key)), ..Forgery::default() };
    let inner = forge(&mut c.mal, forgery).inner;
    judge("heavy-leaf", &mut c.ann, &c.log, &inner, "too_many");
    let inner = forge_raw(&c.mal, Vec::new());
    judge("empty-without-path", &mut c.ann, &c.log, &inner, "mls_invalid_commit");
}

#[test]
fn added_devices_are_certified_once_and_few() {
    let mut c = cast();
    // A5: a certificate that another identity signed.
    let mut jon = Person::new(5).device();
    let mut forged = jon.certificate.clone();
    let end = forged.len() - 1;
    forged[end] ^= 1;
    jon.certificate = forged;
    let package = jon.unchecked_package();
    let inner = with(&mut c.bob, vec![Proposal::Add(Box::new(package))]);
    judge("add-with-forged-certificate", &mut c.ann, &c.log, &inner, "bad_certificate");
    // A5: a device twice, here under two accounts.
    let mut twin = Person::new(6).device_with_key(c.mal.key.clone(), &DeviceClass::Person);
    let package = twin.unchecked_package();
    let inner = forge_raw(&c.bob, inline(vec![Proposal::Add(Box::new(package))]));
    judge("device-twice", &mut c.ann, &c.log, &inner, "mls_invalid_leaf_node");
    // A5: an eleventh device.
    let devices: Vec<_> = (0..10).map(|_| c.mals_person.device()).collect();
    let mut proposals = Vec::new();
    for mut device in devices {
        proposals.push(add(&mut device));
    }
    let inner = with(&mut c.mal, proposals);
    judge("eleventh-device", &mut c.ann, &c.log, &inner, "too_many");
    // 257 adds at once.
    let mut jon = Person::new(5).device();
    let inner = forge_raw(&c.bob, inline(vec![add(&mut jon); 257]));
    judge("too-many-adds", &mut c.ann, &c.log, &inner, "too_many");
    // A6: whoever may not add.
    let proposals = vec![add(&mut jon)];
    let inner = with(&mut c.mal, proposals);
    judge("add-by-member", &mut c.ann, &c.log, &inner, "not_allowed");
    // An assistant where none is admitted.
    let info = AssistantInfo { operator: "o".into(), model_class: "m".into(), policy: "p".into() };
    let mut assistant = Person::new(8).device_of_class(&DeviceClass::Assistant(info));
    let proposals = vec![add(&mut assistant)];
    let inner = with(&mut c.bob, proposals);
    judge("assistant-not-admitted", &mut c.ann, &c.log, &inner, "assistant_not_admitted");
    let mut context = c.bob.chat().context().clone();
    context.assistant = AssistantPolicy::ALL;
    let proposals = vec![change_context(&context), add(&mut assistant)];
    let inner = with(&mut c.bob, proposals);
    judge("assistant-admitted", &mut c.ann, &c.log, &inner, "counts");
    // A5: a revoked key.
    let change = Change { revoke_devices: vec![c.tablet.id()], ..Change::default() };
    c.xia.make(&mut c.log, change);
    c.bob.read(&c.log);
    let proposals = vec![add(&mut c.tablet)];
    let inner = with(&mut c.bob, proposals);
    judge("add-revoked-key", &mut c.ann, &c.log, &inner, "revoked_key");
}

fn inline(proposals: Vec<Proposal>) -> Vec<ProposalOrRef> {
    proposals.into_iter().map(ProposalOrRef::Proposal).collect()
}

#[test]
fn only_roles_change_what_roles_govern() {
    let mut c = cast();
    let context = c.mal.chat().context().clone();
    let mut cases = Vec::new();
    // A6
    let mut title = context.clone();
    title.title = "Mine".into();
    cases.push(("title-by-member", title, "not_allowed"));
    let mut roles = context.clone();
    roles.roles.insert(c.mal.account, Role::Owner);
    cases.push(("roles-by-member", roles, "not_allowed"));
    let mut leaving = context.clone();
    leaving.leaving.insert(c.xia.account);
    cases.push(("leaving-of-another", leaving, "not_allowed"));
    let mut leaving = context.clone();
    leaving.leaving.insert(c.mal.account);
    cases.push(("leaving-oneself", leaving, "counts"));
    let mut revoked = context.clone();
    revoked.revoked.insert(*c.xia.key.public().as_bytes());
    cases.push(("revoked-of-another", revoked, "not_allowed"));
    let mut revoked = context.clone();
    revoked.revoked.insert([9; 32]);
    cases.push(("revoked-of-nobody", revoked, "not_allowed"));
    let mut revoked = context.clone();
    revoked.revoked.insert(*c.mal.key.public().as_bytes());
    cases.push(("revoked-oneself", revoked, "revoked_key"));
    let mut policy = context.clone();
    policy.assistant = AssistantPolicy::ALL;
    cases.push(("policy-by-member", policy, "not_allowed"));
    let mut kind = context.clone();
    kind.kind = Kind::Direct;
    cases.push(("kind-changed", kind, "not_allowed"));
    let mut permissions = context.clone();
    permissions.permissions.add = Role::Member;
    cases.push(("permissions-by-member", permissions, "not_allowed"));
    for (name, context, expected) in cases {
        let inner = with(&mut c.mal, vec![change_context(&context)]);
        judge(name, &mut c.ann, &c.log, &inner, expected);
    }
    let mut roles = context.clone();
    roles.roles.insert(c.mal.account, Role::Admin);
    let inner = with(&mut c.bob, vec![change_context(&roles)]);
    judge("roles-by-admin", &mut c.ann, &c.log, &inner, "not_allowed");
    let inner = with(&mut c.ann, vec![change_context(&roles)]);
    judge("roles-by-owner", &mut c.bob, &c.log, &inner, "counts");
    let mut roles = context.clone();
    roles.roles.insert(Person::new(9).device().account, Role::Admin);
    let inner = with(&mut c.ann, vec![change_context(&roles)]);
    judge("role-of-a-stranger", &mut c.bob, &c.log, &inner, "bad_context");
    let mut rules = context;
    rules.rules = 2;
    let inner = forge_raw(&c.ann, inline(vec![change_context(&rules)]));
    judge("unknown-rules", &mut c.bob, &c.log, &inner, "mls_invalid_commit");

    // A6: Bob loses his role while he adds Jon; the log's order decides.
    let mut jon = Person::new(5).device();
    let proposals = vec![add(&mut jon)];
    let late = with(&mut c.bob, proposals.clone());
    c.ann.make(&mut c.log, Change::role(c.bob.account, Role::Member));
    judge("role-lost-before", &mut c.ann, &c.log, &late, "mls_wrong_epoch");
    c.bob.read(&c.log);
    let inner = with(&mut c.bob, proposals);
    judge("role-lost", &mut c.ann, &c.log, &inner, "not_allowed");
}

#[test]
fn context_extensions_are_exactly_ours() {
    let mut c = cast();
    let context = c.ann.chat().context().clone();
    let ours = extensions(&context);
    let list: Vec<_> = ours.iter().cloned().collect();
    let without = Extensions::new(vec![list[1].clone()]).unwrap();
    let swapped = Extensions::new(vec![list[1].clone(), list[0].clone()]).unwrap();
    let mut more = list.clone();
    more.push(Extension { extension_type: ExtensionType::EXTERNAL_SENDERS, data: vec![0] });
    let more = Extensions::new(more).unwrap();
    let mut bytes = list[1].clone();
    bytes.data.push(0);
    let trailing = Extensions::new(vec![list[0].clone(), bytes]).unwrap();
    let none = Extensions::default();
    for (name, extensions) in [
        ("no-required-capabilities", without),
        ("extensions-swapped", swapped),
        ("one-extension-more", more),
        ("context-with-trailing-bytes", trailing),
        ("no-extensions", none),
    ] {
        let proposals = vec![Proposal::GroupContextExtensions(extensions)];
        let inner = with(&mut c.ann, proposals);
        judge(name, &mut c.bob, &c.log, &inner, "bad_context");
    }
}

#[test]
fn removals_are_whole_and_by_whom_the_roles_let() {
    let mut c = cast();
    let xia = [leaf_of(&c.mal, &c.xia), leaf_of(&c.mal, &c.tablet)];
    let (ann, bob) = (leaf_of(&c.mal, &c.ann), leaf_of(&c.mal, &c.bob));
    let inner = with(&mut c.mal, xia.map(Proposal::Remove).to_vec());
    judge("remove-by-member", &mut c.ann, &c.log, &inner, "not_allowed");
    let inner = with(&mut c.bob, vec![Proposal::Remove(xia[0])]);
    judge("remove-one-of-two", &mut c.ann, &c.log, &inner, "incomplete_removal");
    let inner = with(&mut c.bob, vec![Proposal::Remove(ann)]);
    judge("remove-an-owner", &mut c.ann, &c.log, &inner, "not_allowed");
    let inner = with(&mut c.ann, vec![Proposal::Remove(bob)]);
    judge("remove-but-keep-role", &mut c.mal, &c.log, &inner, "incomplete_removal");
    let mut context = c.ann.chat().context().clone();
    context.roles.remove(&c.bob.account);
    let proposals = vec![change_context(&context), Proposal::Remove(bob)];
    let inner = with(&mut c.ann, proposals);
    judge("remove-with-role", &mut c.mal, &c.log, &inner, "counts");

    c.xia.make(&mut c.log, Change::leave());
    for device in [&mut c.ann, &mut c.bob, &mut c.mal] {
        device.read(&c.log);
    }
    let inner = with(&mut c.xia, Vec::new());
    judge("commit-while-leaving", &mut c.ann, &c.log, &inner, "not_allowed");
    let inner = with(&mut c.mal, xia.map(Proposal::Remove).to_vec());
    judge("leaving-kept-after-removal", &mut c.ann, &c.log, &inner, "incomplete_removal");
    let mut context = c.mal.chat().context().clone();
    context.leaving.clear();
    let inner = with(&mut c.mal, vec![change_context(&context)]);
    judge("leaving-taken-back", &mut c.ann, &c.log, &inner, "not_allowed");
    let mut proposals = vec![change_context(&context)];
    proposals.extend(xia.map(Proposal::Remove));
    let inner = with(&mut c.mal, proposals);
    judge("remove-the-leaving", &mut c.ann, &c.log, &inner, "counts");
}

#[test]
fn other_proposals_and_bad_tails_do_not_count() {
    let mut c = cast();
    let psk = Proposal::PreSharedKey(PreSharedKeyId {
        source: PskSource::External { psk_id: vec![1] },
        nonce: vec![2; 32],
    });
    let inner = forge_raw(&c.mal, inline(vec![psk]));
    judge("psk", &mut c.ann, &c.log, &inner, "forbidden_proposal");
    let reinit = Proposal::ReInit(ReInit {
        group_id: vec![1],
        version: 1,
        cipher_suite: 3,
        extensions: Extensions::default(),
    });
    let inner = forge_raw(&c.mal, inline(vec![reinit]));
    judge("reinit", &mut c.ann, &c.log, &inner, "forbidden_proposal");
    let inner = forge_raw(&c.mal, vec![ProposalOrRef::Reference(Digest([1; 32]))]);
    judge("by-reference", &mut c.ann, &c.log, &inner, "forbidden_proposal");
    for (flaw, name) in
        [(Flaw::InfoSignature, "bad-info-signature"), (Flaw::WeakExternalPub, "weak-external-pub")]
    {
        let forgery = Forgery { flaw, ..Forgery::default() };
        let inner = forge(&mut c.mal, forgery).inner;
        judge(name, &mut c.ann, &c.log, &inner, "bad_group_info");
    }
    let mut inner = with(&mut c.mal, Vec::new());
    inner.push(0);
    judge("trailing-byte", &mut c.ann, &c.log, &inner, "malformed_entry");
    judge("empty", &mut c.ann, &c.log, &[], "malformed_entry");
    judge("unknown-type", &mut c.ann, &c.log, &[200, 1], "malformed_entry");
    judge("message-as-commit", &mut c.ann, &c.log, &[2, 1], "wrong_kind");
    judge("account-record", &mut c.ann, &c.log, &[6, 1], "misplaced_record");
}

#[test]
fn nobody_comes_in_uninvited() {
    let mut c = cast();
    let enter = |device: &mut Device, log: &Log, proposals: Vec<Proposal>| {
        device.fold_at(log, 0);
        device.read(log);
        device.save();
        let leaf = content(device.certificate.clone(), device);
        let key = device.key.clone();
        let forgery =
            Forgery { external: true, leaf: Some((leaf, &key)), proposals, ..Forgery::default() };
        forge(device, forgery).inner
    };
    let mut jon = Person::new(5).device();
    let inner = enter(&mut jon, &c.log, Vec::new());
    judge("external-by-stranger", &mut c.ann, &c.log, &inner, "not_allowed");
    let mut phone = c.xias_person.device();
    let inner = enter(&mut phone, &c.log, Vec::new());
    judge("external-second-device", &mut c.ann, &c.log, &inner, "counts");
    let tablet = leaf_of(&c.ann, &c.tablet);
    let inner = enter(&mut phone, &c.log, vec![Proposal::Remove(tablet)]);
    judge("external-removes-own-other", &mut c.ann, &c.log, &inner, "counts");
    let bob = leaf_of(&c.ann, &c.bob);
    let inner = enter(&mut phone, &c.log, vec![Proposal::Remove(bob)]);
    judge("external-removes-another", &mut c.ann, &c.log, &inner, "not_allowed");

    let change = Change { revoke_devices: vec![c.tablet.id()], ..Change::default() };
    c.xia.make(&mut c.log, change);
    c.ann.read(&c.log);
    let inner = enter(&mut c.tablet, &c.log, Vec::new());
    judge("external-revoked", &mut c.ann, &c.log, &inner, "revoked_key");
    c.xia.make(&mut c.log, Change::leave());
    c.ann.read(&c.log);
    let inner = enter(&mut phone, &c.log, Vec::new());
    judge("external-while-leaving", &mut c.ann, &c.log, &inner, "not_allowed");
}

#[test]
fn ten_devices_let_an_eleventh_in_only_for_one_of_them() {
    let mut person = Person::new(1);
    let mut ann = person.device();
    let mut bob = Person::new(2).device();
    let mut log = group_of(Kind::Direct, &mut [&mut ann, &mut bob]);
    for _ in 0..9 {
        let mut device = person.device();
        device.fold_at(&log, 0);
        device.come_in(&mut log);
    }
    ann.read(&log);
    assert_eq!(ann.chat().members().iter().map(|m| m.devices.len()).max(), Some(10));
    let mut eleventh = person.device();
    eleventh.fold_at(&log, 0);
    eleventh.read(&log);
    eleventh.save();
    let leaf = content(eleventh.certificate.clone(), &eleventh);
    let key = eleventh.key.clone();
    let forgery = Forgery { external: true, leaf: Some((leaf, &key)), ..Forgery::default() };
    let inner = forge(&mut eleventh, forgery).inner;
    judge("external-eleventh", &mut bob, &log, &inner, "too_many");
    let refused = eleventh.chat().rejoin(&eleventh.me(), None, &mut eleventh.rng.clone());
    assert_eq!(refused.unwrap_err(), Error::Refused(SkipReason::TooMany));
    let spare = ann.chat().devices(ann.account).map(|(device, _)| device).nth(4).unwrap();
    eleventh.come_in_for(&mut log, Some(spare));
    ann.read(&log);
    assert!(ann.chat().is_member(), "the one that was named went");
    assert!(ann.chat().devices(ann.account).all(|(device, _)| device != spare));
}

#[test]
fn each_side_of_a_direct_conversation_governs_itself_only() {
    let mut bobs = Person::new(2);
    let (mut ann, mut bob) = (Person::new(1).device(), bobs.device());
    let log = group_of(Kind::Direct, &mut [&mut ann, &mut bob]);
    let mut jon = Person::new(5).device();
    let proposals = vec![add(&mut jon)];
    let inner = with(&mut ann, proposals);
    judge("direct-third-account", &mut bob, &log, &inner, "not_allowed");
    let mut phone = bobs.device();
    let proposals = vec![add(&mut phone)];
    let inner = with(&mut ann, proposals.clone());
    judge("direct-other-side", &mut bob, &log, &inner, "not_allowed");
    let inner = with(&mut bob, proposals);
    judge("direct-own-side", &mut ann, &log, &inner, "counts");
    let mut context = ann.chat().context().clone();
    context.title = "Us".into();
    let inner = with(&mut ann, vec![change_context(&context)]);
    judge("direct-title", &mut bob, &log, &inner, "not_allowed");
    let leaf = leaf_of(&ann, &bob);
    let inner = with(&mut ann, vec![Proposal::Remove(leaf)]);
    judge("direct-remove-other", &mut bob, &log, &inner, "not_allowed");

    let mut founder = Person::new(7).device();
    let log = founder.found(Kind::Direct);
    founder.save();
    let proposals = vec![add(&mut jon), add(&mut bob)];
    let inner = with(&mut founder, proposals);
    let mut reader = Person::new(8).device();
    reader.fold_at(&log, 0);
    judge("direct-founded-with-two", &mut reader, &log, &inner, "not_allowed");
}
