//! What a group refuses, and that a refusal changes nothing. Attackers here are members: they hold
//! the secrets, so these tests sit inside.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use super::*;
use crate::crypto::Digest;
use crate::mls::codec::Decode;
use crate::mls::credential::Credential;
use crate::mls::framing::PublicMessage;
use crate::mls::framing::private::{SenderData, sender_data_key};
use crate::mls::key_package::{KeyPackage, KeyPackageContent, KeyPackageKeys};
use crate::mls::key_schedule::JoinerSecret;
use crate::mls::leaf_node::{Capabilities, LeafContent, Lifetime};
use crate::mls::proposal::Proposal;
use crate::mls::psk;
use crate::mls::public_group::{CommitSender, StagedPublic};

const SUITE: Suite = Suite::X25519ChaCha20Poly1305Sha256Ed25519;

type Member = (SignatureKey, Group);

fn package(name: u8, rng: &mut ChaCha20Rng) -> (SignatureKey, KeyPackage, KeyPackageKeys) {
    let signer = SignatureKey::generate(rng);
    let content = KeyPackageContent {
        leaf: LeafContent {
            credential: Credential::Basic(vec![name]),
            capabilities: Capabilities::basic(SUITE, Vec::new()),
            extensions: Extensions::default(),
        },
        lifetime: Lifetime {
            not_before: 0,
            not_after: u64::MAX,
        },
        extensions: Extensions::default(),
    };
    let (package, keys) = KeyPackage::generate(SUITE, content, &signer, rng);
    (signer, package, keys)
}

/// A group of this many members, whose leaves are their places in the list.
fn party(size: u8, rng: &mut ChaCha20Rng) -> Vec<Member> {
    let (signer, package_of_founder, keys) = package(0, rng);
    let leaf = package_of_founder.leaf_node;
    let mut founder = Group::create(
        SUITE,
        b"group".to_vec(),
        leaf,
        keys.leaf,
        Extensions::default(),
        rng,
    )
    .unwrap();
    let new: Vec<_> = (1..size).map(|name| package(name, rng)).collect();
    let adds = new.iter().map(|(_, package, _)| package.clone()).collect();
    let plan = CommitPlan {
        adds,
        ..CommitPlan::default()
    };
    let pending = founder.commit(plan, &signer, rng).unwrap();
    let info = pending.group_info(Extensions::default(), &signer);
    let welcome = pending.welcome(&info, rng).unwrap();
    founder.merge_pending(pending).unwrap();
    let public = founder.public().clone();
    let joined = new.into_iter().map(|(signer, package, keys)| {
        let opened = OpenedWelcome::open(&welcome, &package, &keys, &psk::none).unwrap();
        (signer, opened.join(public.clone()).unwrap())
    });
    let mut members: Vec<_> = joined.collect();
    members.insert(0, (signer, founder));
    for (_, group) in &mut members {
        group.take_changes();
    }
    members
}

fn private(bytes: &[u8]) -> PrivateMessage {
    match MlsMessage::decode_exact(bytes).unwrap() {
        MlsMessage::Private(message) => message,
        other => panic!("not a private message: {other:?}"),
    }
}

fn public(bytes: &[u8]) -> PublicMessage {
    match MlsMessage::decode_exact(bytes).unwrap() {
        MlsMessage::Public(message) => *message,
        other => panic!("not a public message: {other:?}"),
    }
}

/// Everything that the group would save.
fn image(group: &Group) -> Vec<(PartId, Option<Vec<u8>>)> {
    let mut group = group.clone();
    group.public.touch();
    group.touch_epoch();
    group.take_changes()
}

/// Checks that the group refuses the message and stays as it was.
fn refuses(group: &mut Group, message: &PrivateMessage, error: Error) {
    let before = image(group);
    assert_eq!(group.decrypt(message), Err(error));
    assert_eq!(image(group), before);
    assert!(group.take_changes().is_empty());
}

#[test]
fn changed_replayed_and_misplaced_messages_are_refused() {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let mut members = party(3, &mut rng);
    let (signer, ann) = &mut members[0];
    let bytes = ann.encrypt(b"hello", b"data", signer, &mut rng).unwrap();
    let message = private(&bytes);
    let (_, bob) = &mut members[1];

    let mut forged = message.clone();
    forged.group_id.push(1);
    refuses(bob, &forged, Error::WrongGroup);
    for epoch in [0, 2, u64::MAX] {
        let forged = PrivateMessage {
            epoch,
            ..message.clone()
        };
        refuses(bob, &forged, Error::WrongEpoch);
    }
    let forged = PrivateMessage {
        content_type: ContentType::Commit,
        ..message.clone()
    };
    refuses(bob, &forged, Error::Unsupported);
    let fields: [fn(&mut PrivateMessage) -> &mut Vec<u8>; 3] = [
        |message| &mut message.authenticated_data,
        |message| &mut message.encrypted_sender_data,
        |message| &mut message.ciphertext,
    ];
    for field in fields {
        for at in 0..field(&mut message.clone()).len() {
            let mut forged = message.clone();
            field(&mut forged)[at] ^= 1;
            refuses(bob, &forged, Error::Decryption);
        }
        let mut forged = message.clone();
        field(&mut forged).pop();
        refuses(bob, &forged, Error::Decryption);
        let mut forged = message.clone();
        field(&mut forged).push(0);
        refuses(bob, &forged, Error::Decryption);
    }
    for len in 0..bytes.len() {
        assert!(MlsMessage::decode_exact(&bytes[..len]).is_err());
    }

    assert_eq!(bob.decrypt(&message).unwrap().content, b"hello");
    bob.take_changes();
    refuses(bob, &message, Error::Decryption);
    members[0].1.take_changes();
    refuses(&mut members[0].1, &message, Error::OwnMessage);
}

/// A message that one member encrypts in the name of another.
fn in_the_name_of(
    (signer, group): &Member,
    leaf: LeafIndex,
    generation: u32,
    rng: &mut ChaCha20Rng,
) -> PrivateMessage {
    let content = FramedContent {
        group_id: group.public.group_id().to_vec(),
        epoch: group.public.epoch(),
        sender: Sender::Member(leaf),
        authenticated_data: Vec::new(),
        content: Content::Application(b"false".to_vec()),
    };
    let format = WireFormat::PrivateMessage;
    let signature = content.sign(format, group.public.context(), signer);
    let auth = FramedContentAuthData {
        signature,
        confirmation_tag: None,
    };
    let step = group
        .secret_tree
        .key(leaf, RatchetKind::Application, generation)
        .unwrap();
    let secret = &group.secrets.sender_data;
    PrivateMessage::protect(&content, &auth, &step.key, secret, rng).unwrap()
}

#[test]
fn a_forged_generation_moves_no_ratchet() {
    let mut rng = ChaCha20Rng::seed_from_u64(2);
    let mut members = party(3, &mut rng);
    for generation in [0, 1, 1000] {
        let forged = in_the_name_of(&members[2], LeafIndex::new(0), generation, &mut rng);
        refuses(&mut members[1].1, &forged, Error::Decryption);
    }
    let (signer, ann) = &mut members[0];
    let message = private(&ann.encrypt(b"true", b"", signer, &mut rng).unwrap());
    assert_eq!(members[1].1.decrypt(&message).unwrap().generation, 0);
}

#[test]
fn a_sender_outside_the_tree_is_refused() {
    let mut rng = ChaCha20Rng::seed_from_u64(3);
    let mut members = party(3, &mut rng);
    for leaf in [3, 4, 1 << 31, u32::MAX] {
        let mut forged = in_the_name_of(&members[2], LeafIndex::new(0), 0, &mut rng);
        let secret = &members[2].1.secrets.sender_data;
        let (key, nonce) = sender_data_key(secret, &forged.ciphertext).unwrap();
        let leaf_index = LeafIndex::new(leaf);
        let data = SenderData {
            leaf_index,
            generation: 0,
            reuse_guard: [0; 4],
        }
        .to_bytes();
        let mut aad = Vec::new();
        forged.group_id.encode(&mut aad);
        forged.epoch.encode(&mut aad);
        forged.content_type.encode(&mut aad);
        forged.encrypted_sender_data =
            crate::crypto::aead::seal(&key, &nonce, &aad, &data).unwrap();
        refuses(&mut members[1].1, &forged, Error::Decryption);
    }
}

#[test]
fn a_used_message_key_is_gone_from_what_is_saved() {
    let mut rng = ChaCha20Rng::seed_from_u64(4);
    let mut members = party(2, &mut rng);
    let (signer, ann) = &mut members[0];
    let message = private(&ann.encrypt(b"secret", b"", signer, &mut rng).unwrap());
    let mut store: std::collections::BTreeMap<_, _> = image(&members[1].1).into_iter().collect();
    members[1].1.decrypt(&message).unwrap();
    store.extend(members[1].1.take_changes());
    let saved = store
        .into_iter()
        .filter_map(|(id, bytes)| Some((id, bytes?)));
    let mut restored = Group::load(saved).unwrap();
    assert_eq!(restored.decrypt(&message), Err(Error::Decryption));
    assert_eq!(image(&restored), image(&members[1].1));
}

#[test]
fn a_message_writes_one_small_part() {
    let mut rng = ChaCha20Rng::seed_from_u64(5);
    let mut members = party(9, &mut rng);
    let (signer, ann) = &mut members[0];
    ann.encrypt(b"first", b"", signer, &mut rng).unwrap();
    // Four levels: the root goes, four siblings come, and the ratchet.
    assert_eq!(ann.take_changes().len(), 6);
    ann.encrypt(b"second", b"", signer, &mut rng).unwrap();
    let changes = ann.take_changes();
    assert_eq!(changes.len(), 1);
    assert!(changes[0].1.as_ref().unwrap().len() < 100);
}

/// How a member spoils its own commit.
#[derive(Clone, Copy, Debug)]
enum Spoil {
    /// The path secrets of these nodes of the path, by bit.
    Path(u32),
    ConfirmationTag,
    MembershipTag,
}

/// A commit that is valid for who sees only the public side, and the external key of its epoch.
fn spoiled(
    author: &Member,
    removes: &[LeafIndex],
    spoil: Spoil,
    rng: &mut ChaCha20Rng,
) -> (PublicMessage, HpkePublicKey) {
    let (signer, group) = author;
    let removes = removes.iter().copied().map(Proposal::Remove).collect();
    let draft = group
        .public
        .draft(CommitSender::Member(group.own_leaf()), removes)
        .unwrap();
    let leaf = group.public.leaf(group.own_leaf()).unwrap().clone();
    let (drafted, fresh) = draft.with_path(leaf, signer, rng).unwrap();
    let drafted = drafted
        .frame(WireFormat::PublicMessage, Vec::new(), signer)
        .unwrap();
    let AuthenticatedContent {
        mut content,
        mut auth,
        ..
    } = drafted.commit().content().clone();
    if let (Spoil::Path(nodes), Content::Commit(commit)) = (spoil, &mut content.content) {
        let path = commit.path.as_mut().unwrap();
        for (bit, node) in path.nodes.iter_mut().enumerate() {
            if nodes >> bit & 1 == 1 {
                node.encrypted_path_secret
                    .iter_mut()
                    .for_each(|sealed| sealed.ciphertext[0] ^= 1);
            }
        }
    }
    let context = group.public.context();
    auth.signature = content.sign(WireFormat::PublicMessage, context, signer);
    auth.confirmation_tag = Some(Digest::default());
    let key = &group.secrets.membership;
    let unconfirmed = PublicMessage::protect(content.clone(), auth.clone(), key, context).unwrap();
    let staged = staged(group, &unconfirmed);
    let encoded = staged.context().to_bytes();
    let joiner =
        JoinerSecret::derive(&group.secrets.init, fresh.commit_secret(), &encoded).unwrap();
    let epoch = joiner.member(&Secret::zeros(32)).epoch(&encoded).unwrap();
    let mut tag = epoch.secrets.confirmation_tag(staged.context());
    if matches!(spoil, Spoil::ConfirmationTag) {
        tag.0[0] ^= 1;
    }
    auth.confirmation_tag = Some(tag);
    let mut message = PublicMessage::protect(content, auth, key, context).unwrap();
    if let (Spoil::MembershipTag, Some(tag)) = (spoil, &mut message.membership_tag) {
        tag.0[31] ^= 1;
    }
    (message, epoch.secrets.external_key().unwrap().public())
}

fn staged(group: &Group, message: &PublicMessage) -> StagedPublic {
    group
        .public
        .stage(group.public.verify_commit(message).unwrap())
        .unwrap()
}

/// Somebody who could not finish a commit and folds on without secrets.
struct LockedOut {
    signer: SignatureKey,
    leaf: LeafIndex,
    public: PublicGroup,
}

/// Lets a member process a commit that counts.
fn process((signer, mut group): Member, message: &PublicMessage) -> Result<Member, LockedOut> {
    let before = image(&group);
    match group.finish(staged(&group, message), message, &psk::none) {
        Ok(finished) => {
            group.merge(finished).unwrap();
            Ok((signer, group))
        }
        Err(unfinished) => {
            assert_eq!(image(&group), before);
            let leaf = group.own_leaf();
            let mut public = group.into_public();
            public.merge(unfinished.staged).unwrap();
            Err(LockedOut {
                signer,
                leaf,
                public,
            })
        }
    }
}

/// Brings somebody back by external commit, which all others process.
fn rejoin(
    lost: LockedOut,
    external_pub: &HpkePublicKey,
    honest: &mut [Member],
    locked_out: &mut [LockedOut],
    rng: &mut ChaCha20Rng,
) -> Member {
    let own = lost.public.leaf(lost.leaf).unwrap();
    let leaf = LeafContent {
        credential: own.credential.clone(),
        capabilities: own.capabilities.clone(),
        extensions: own.extensions.clone(),
    };
    let join = ExternalJoin {
        leaf,
        remove: Some(lost.leaf),
        authenticated_data: Vec::new(),
    };
    let pending =
        Group::join_external(&lost.public, external_pub, join, &lost.signer, rng).unwrap();
    let message = public(pending.message());
    for (_, group) in honest {
        let finished = group
            .finish(staged(group, &message), &message, &psk::none)
            .unwrap();
        group.merge(finished).unwrap();
    }
    for LockedOut { public, .. } in locked_out {
        let staged = public
            .stage(public.verify_commit(&message).unwrap())
            .unwrap();
        public.merge(staged).unwrap();
    }
    (lost.signer, pending.into_group(lost.public).unwrap())
}

/// A commit of member 0 spoiled like this: all honest members stay in one group, can talk, and can
/// remove the author. Returns how many had to come back.
fn survive(
    mut members: Vec<Member>,
    removes: &[usize],
    spoil: Spoil,
    rng: &mut ChaCha20Rng,
) -> usize {
    let removed: Vec<_> = removes
        .iter()
        .map(|index| members[*index].1.own_leaf())
        .collect();
    let (message, mut external_pub) = spoiled(&members[0], &removed, spoil, rng);
    let author = members.remove(0).1.own_leaf();
    members.retain(|(_, group)| !removed.contains(&group.own_leaf()));
    let mut honest = Vec::new();
    let mut locked_out = Vec::new();
    for member in members {
        match process(member, &message) {
            Ok(member) => honest.push(member),
            Err(lost) => locked_out.push(lost),
        }
    }
    let lost = locked_out.len();
    while let Some(next) = locked_out.pop() {
        let back = rejoin(next, &external_pub, &mut honest, &mut locked_out, rng);
        external_pub = back.1.external_pub().unwrap();
        honest.push(back);
    }
    let Some(((signer, first), others)) = honest.split_first_mut() else {
        return lost;
    };
    let plan = CommitPlan {
        removes: vec![author],
        ..CommitPlan::default()
    };
    let pending = first.commit(plan, signer, rng).unwrap();
    let message = public(pending.message());
    first.merge_pending(pending).unwrap();
    let said = private(&first.encrypt(b"gone", b"", signer, rng).unwrap());
    for (_, group) in others {
        let finished = group
            .finish(staged(group, &message), &message, &psk::none)
            .unwrap();
        group.merge(finished).unwrap();
        assert_eq!(group.decrypt(&said).unwrap().content, b"gone");
    }
    lost
}

#[test]
fn garbage_path_secrets_cannot_split_a_group() {
    let mut rng = ChaCha20Rng::seed_from_u64(6);
    for size in 2..=9 {
        let members = party(size, &mut rng);
        let steps = members[0].1.public.tree().size().levels();
        for subset in 0..1 << steps {
            let lost = survive(members.clone(), &[], Spoil::Path(subset), &mut rng);
            assert_eq!(lost == 0, subset == 0);
            if size > 2 {
                survive(
                    members.clone(),
                    &[usize::from(size) - 1],
                    Spoil::Path(subset),
                    &mut rng,
                );
            }
        }
    }
}

#[test]
fn bad_tags_lock_everybody_out_and_split_nothing() {
    let mut rng = ChaCha20Rng::seed_from_u64(7);
    for spoil in [Spoil::ConfirmationTag, Spoil::MembershipTag] {
        for size in [2, 5] {
            let lost = survive(party(size, &mut rng), &[], spoil, &mut rng);
            assert_eq!(lost, usize::from(size) - 1);
        }
    }
}

#[test]
fn each_reason_not_to_finish_has_its_error() {
    let mut rng = ChaCha20Rng::seed_from_u64(8);
    let members = party(3, &mut rng);
    let (_, bob) = &members[1];
    let own = bob.own_leaf();
    let cases: [(&[LeafIndex], Spoil, Error); 4] = [
        (&[], Spoil::Path(u32::MAX), Error::Decryption),
        (&[], Spoil::ConfirmationTag, Error::InvalidConfirmationTag),
        (&[], Spoil::MembershipTag, Error::InvalidMembershipTag),
        (&[own], Spoil::Path(0), Error::Removed),
    ];
    for (removes, spoil, error) in cases {
        let (message, _) = spoiled(&members[0], removes, spoil, &mut rng);
        let unfinished = bob
            .finish(staged(bob, &message), &message, &psk::none)
            .unwrap_err();
        assert_eq!(unfinished.error, error);
    }
    let (message, _) = spoiled(&members[0], &[], Spoil::Path(0), &mut rng);
    let (other, _) = spoiled(&members[0], &[], Spoil::Path(0), &mut rng);
    let unfinished = bob
        .finish(staged(bob, &message), &other, &psk::none)
        .unwrap_err();
    assert_eq!(unfinished.error, Error::InvalidPlan);
}

#[test]
fn a_commit_merges_only_where_it_was_made() {
    let mut rng = ChaCha20Rng::seed_from_u64(9);
    let mut members = party(3, &mut rng);
    let (signer, ann) = &members[0];
    let ours = ann.commit(CommitPlan::default(), signer, &mut rng).unwrap();
    let (signer, bob) = &members[1];
    let theirs = bob.commit(CommitPlan::default(), signer, &mut rng).unwrap();
    let message = public(theirs.message());
    let ann = &mut members[0].1;
    let finished = ann
        .finish(staged(ann, &message), &message, &psk::none)
        .unwrap();
    ann.merge(finished.clone()).unwrap();
    let before = image(ann);
    assert_eq!(ann.merge_pending(ours.clone()), Err(Error::WrongEpoch));
    assert_eq!(ann.merge(finished), Err(Error::WrongEpoch));
    let late = PendingCommit::load(&ann.public, &ours.to_bytes());
    assert_eq!(late.err(), Some(Error::CorruptState));
    assert_eq!(
        ann.public.verify_commit(&public(ours.message())).err(),
        Some(Error::WrongEpoch)
    );
    assert_eq!(image(ann), before);
}

#[test]
fn a_refused_plan_changes_nothing() {
    let mut rng = ChaCha20Rng::seed_from_u64(10);
    let members = party(3, &mut rng);
    let (signer, ann) = &members[0];
    let before = image(ann);
    let remove = |leaf| CommitPlan {
        removes: vec![LeafIndex::new(leaf)],
        ..CommitPlan::default()
    };
    for plan in [remove(0), remove(3), remove(u32::MAX)] {
        let refused = ann.commit(plan, signer, &mut rng);
        assert_eq!(refused.err(), Some(Error::InvalidProposalList));
    }
    let refused = ann.commit(CommitPlan::default(), &members[1].0, &mut rng);
    assert_eq!(refused.err(), Some(Error::InvalidPlan));
    let (_, package, _) = package(9, &mut rng);
    let twice = CommitPlan {
        adds: vec![package.clone(), package],
        ..CommitPlan::default()
    };
    assert!(ann.commit(twice, signer, &mut rng).is_err());
    assert_eq!(image(ann), before);
}

#[test]
fn a_welcome_lets_in_only_whom_it_names_and_only_where_it_leads() {
    let mut rng = ChaCha20Rng::seed_from_u64(11);
    let members = party(2, &mut rng);
    let (signer, ann) = &members[0];
    let (_, invited, keys) = package(7, &mut rng);
    let (_, stranger, stranger_keys) = package(8, &mut rng);
    let plan = CommitPlan {
        adds: vec![invited.clone()],
        ..CommitPlan::default()
    };
    let pending = ann.commit(plan, signer, &mut rng).unwrap();
    let info = pending.group_info(Extensions::default(), signer);
    let welcome = pending.welcome(&info, &mut rng).unwrap();

    let open = |welcome: &_, package, keys| OpenedWelcome::open(welcome, package, keys, &psk::none);
    let refused = open(&welcome, &stranger, &stranger_keys).err();
    assert_eq!(refused, Some(Error::NotForUs));
    assert_eq!(
        open(&welcome, &invited, &stranger_keys).err(),
        Some(Error::Decryption)
    );
    let mut forged = welcome.clone();
    forged.encrypted_group_info[0] ^= 1;
    assert_eq!(
        open(&forged, &invited, &keys).err(),
        Some(Error::Decryption)
    );

    // The state before the commit is not the state that the Welcome leads to.
    let opened = open(&welcome, &invited, &keys).unwrap();
    assert_eq!(
        opened.join(ann.public.clone()).err(),
        Some(Error::InvalidGroupInfo)
    );
    let mut after = ann.clone();
    after.merge_pending(pending.clone()).unwrap();
    let opened = open(&welcome, &invited, &keys).unwrap();
    let joined = opened.join(after.public.clone()).unwrap();
    assert_eq!(joined.epoch_authenticator(), after.epoch_authenticator());

    // A GroupInfo that somebody else signed in the committer's name.
    let forged = pending.group_info(Extensions::default(), &members[1].0);
    let welcome = pending.welcome(&forged, &mut rng).unwrap();
    let opened = open(&welcome, &invited, &keys).unwrap();
    assert_eq!(
        opened.join(after.public).err(),
        Some(Error::InvalidSignature)
    );
}

#[test]
fn saved_parts_that_do_not_fit_are_refused() {
    let mut rng = ChaCha20Rng::seed_from_u64(12);
    let members = party(3, &mut rng);
    let parts = |group: &Group| -> Vec<_> {
        image(group)
            .into_iter()
            .filter_map(|(id, bytes)| Some((id, bytes?)))
            .collect()
    };
    let (ann, bob) = (parts(&members[0].1), parts(&members[1].1));
    assert!(Group::load(ann.clone()).is_ok());
    for left_out in 0..ann.len() {
        let some = ann.iter().enumerate().filter(|(at, _)| *at != left_out);
        let loaded = Group::load(some.map(|(_, part)| part.clone()));
        // Without a secret of the secret tree there is a group that can't hear everybody.
        assert!(loaded.is_ok() == (ann[left_out].0.kind == 0x11));
    }
    for at in 0..ann.len() {
        let mut parts = ann.clone();
        parts[at].1[0] ^= 1;
        assert_eq!(
            Group::load(parts).err(),
            Some(Error::CorruptState),
            "version"
        );
        let mut parts = ann.clone();
        parts[at].1.push(0);
        assert_eq!(
            Group::load(parts).err(),
            Some(Error::CorruptState),
            "length"
        );
    }
    // Another member's keys fit the same tree; those of another group don't.
    let other = parts_of_another_group(&mut rng);
    assert!(Group::load(bob).is_ok());
    let mixed = ann.iter().map(|(id, bytes)| {
        let epoch = id.kind == 0x10;
        (*id, if epoch { other.clone() } else { bytes.clone() })
    });
    assert_eq!(Group::load(mixed).err(), Some(Error::CorruptState));
}

fn parts_of_another_group(rng: &mut ChaCha20Rng) -> Vec<u8> {
    let parts = image(&party(3, rng)[0].1);
    parts
        .into_iter()
        .find(|(id, _)| id.kind == 0x10)
        .unwrap()
        .1
        .unwrap()
}

#[test]
fn debug_output_shows_no_secret() {
    let mut rng = ChaCha20Rng::seed_from_u64(13);
    let mut members = party(2, &mut rng);
    let (signer, ann) = &mut members[0];
    let message = private(&ann.encrypt(b"hello", b"", signer, &mut rng).unwrap());
    let received = members[1].1.decrypt(&message).unwrap();
    let shown = format!("{received:?}");
    assert_eq!(shown, "Received { sender: leaf 0, generation: 0, .. }");
    assert!(format!("{:?}", members[0].1.secrets).contains("init: Secret(..)"));
    let key = format!("{:?}", members[0].1.keys.leaf());
    assert!(key.starts_with("HpkePrivateKey(HpkePublicKey("));
}
