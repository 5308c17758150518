use super::*;
use crate::mls::framing::private::{SenderData, sender_data_key};

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
        let forged = PrivateMessage { epoch, ..message.clone() };
        refuses(bob, &forged, Error::WrongEpoch);
    }
    let forged = PrivateMessage { content_type: ContentType::Commit, ..message.clone() };
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
    let auth = FramedContentAuthData { signature, confirmation_tag: None };
    let step = group.secret_tree.key(leaf, RatchetKind::Application, generation).unwrap();
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
fn an_older_copy_of_a_store_notices_what_the_newer_one_sent() {
    let mut rng = ChaCha20Rng::seed_from_u64(17);
    let mut members = party(2, &mut rng);
    let mut copy = members[0].1.clone();
    let (signer, ann) = &mut members[0];
    let message = private(&ann.encrypt(b"hello", b"", signer, &mut rng).unwrap());
    refuses(&mut copy, &message, Error::CopiedState);
    // Another member cannot make it believe that.
    let forged = in_the_name_of(&members[1], LeafIndex::new(0), 0, &mut rng);
    refuses(&mut copy, &forged, Error::Decryption);
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
        let data = SenderData { leaf_index, generation: 0, reuse_guard: [0; 4] }.to_bytes();
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
fn a_commit_merges_only_where_it_was_made() {
    let mut rng = ChaCha20Rng::seed_from_u64(9);
    let mut members = party(3, &mut rng);
    let (signer, ann) = &members[0];
    let ours = ann.commit(CommitPlan::default(), signer, &mut rng).unwrap();
    let (signer, bob) = &members[1];
    let theirs = bob.commit(CommitPlan::default(), signer, &mut rng).unwrap();
    let message = public(theirs.message());
    let ann = &mut members[0].1;
    let finished = ann.finish(staged(ann, &message), &message, &psk::none).unwrap();
    ann.merge(finished.clone()).unwrap();
    let before = image(ann);
    assert_eq!(ann.merge_pending(ours.clone()), Err(Error::WrongEpoch));
    assert_eq!(ann.merge(finished), Err(Error::WrongEpoch));
    let late = PendingCommit::load(&ann.public, &ours.to_bytes());
    assert_eq!(late.err(), Some(Error::CorruptState));
    assert_eq!(ann.public.verify_commit(&public(ours.message())).err(), Some(Error::WrongEpoch));
    assert_eq!(image(ann), before);
}

#[test]
fn a_refused_plan_changes_nothing() {
    let mut rng = ChaCha20Rng::seed_from_u64(10);
    let members = party(3, &mut rng);
    let (signer, ann) = &members[0];
    let before = image(ann);
    let remove = |leaf| CommitPlan { removes: vec![LeafIndex::new(leaf)], ..CommitPlan::default() };
    for plan in [remove(0), remove(3), remove(u32::MAX)] {
        let refused = ann.commit(plan, signer, &mut rng);
        assert_eq!(refused.err(), Some(Error::InvalidProposalList));
    }
    let refused = ann.commit(CommitPlan::default(), &members[1].0, &mut rng);
    assert_eq!(refused.err(), Some(Error::InvalidPlan));
    let (_, package, _) = package(9, &mut rng);
    let twice = CommitPlan { adds: vec![package.clone(), package], ..CommitPlan::default() };
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
    let plan = CommitPlan { adds: vec![invited.clone()], ..CommitPlan::default() };
    let pending = ann.commit(plan, signer, &mut rng).unwrap();
    let info = pending.group_info(Extensions::default(), signer);
    let welcome = pending.welcome(&info, &mut rng).unwrap();

    let open = |welcome: &_, package, keys| OpenedWelcome::open(welcome, package, keys, &psk::none);
    let refused = open(&welcome, &stranger, &stranger_keys).err();
    assert_eq!(refused, Some(Error::NotForUs));
    assert_eq!(open(&welcome, &invited, &stranger_keys).err(), Some(Error::Decryption));
    let mut forged = welcome.clone();
    forged.encrypted_group_info[0] ^= 1;
    assert_eq!(open(&forged, &invited, &keys).err(), Some(Error::Decryption));

    // The state before the commit is not the state that the Welcome leads to.
    let opened = open(&welcome, &invited, &keys).unwrap();
    assert_eq!(opened.join(ann.public.clone()).err(), Some(Error::InvalidGroupInfo));
    let mut after = ann.clone();
    after.merge_pending(pending.clone()).unwrap();
    let opened = open(&welcome, &invited, &keys).unwrap();
    let joined = opened.join(after.public.clone()).unwrap();
    assert_eq!(joined.epoch_authenticator(), after.epoch_authenticator());

    // A GroupInfo that somebody else signed in the committer's name.
    let forged = pending.group_info(Extensions::default(), &members[1].0);
    let welcome = pending.welcome(&forged, &mut rng).unwrap();
    let opened = open(&welcome, &invited, &keys).unwrap();
    assert_eq!(opened.join(after.public).err(), Some(Error::InvalidSignature));
}

/// What a member does with the bytes of a commit, up to where it would merge.
fn finishes(group: &Group, bytes: &[u8]) -> Result<(), Error> {
    let MlsMessage::Public(message) = MlsMessage::decode_exact(bytes)? else {
        return Err(Error::Unsupported);
    };
    let staged = group.public.stage(group.public.verify_commit(&message)?)?;
    let finished = group.finish(staged, &message, &psk::none);
    finished.map(drop).map_err(|unfinished| unfinished.error)
}

#[test]
fn whatever_is_changed_in_a_commit_is_refused() {
    let mut rng = ChaCha20Rng::seed_from_u64(16);
    let members = party(3, &mut rng);
    let (signer, ann) = &members[0];
    let (_, bob) = &members[1];
    let (_, added, _) = package(7, &mut rng);
    let plan = CommitPlan { adds: vec![added], ..CommitPlan::default() };
    let inside = ann.commit(plan, signer, &mut rng).unwrap();
    let leaf = LeafContent {
        credential: Credential::Basic(vec![8]),
        capabilities: Capabilities::basic(SUITE, Vec::new()),
        extensions: Extensions::default(),
    };
    let join = ExternalJoin { leaf, remove: None, authenticated_data: Vec::new() };
    let external_pub = ann.external_pub().unwrap();
    let signer = SignatureKey::generate(&mut rng);
    let outside =
        Group::join_external(&ann.public, &external_pub, join, &signer, &mut rng).unwrap();
    let before = image(bob);
    for message in [inside.message(), outside.message()] {
        assert_eq!(finishes(bob, message), Ok(()));
        for at in 0..message.len() {
            let mut changed = message.to_vec();
            changed[at] ^= 1 << (at % 8);
            assert!(finishes(bob, &changed).is_err(), "byte {at}");
            assert!(finishes(bob, &message[..at]).is_err(), "cut at {at}");
        }
        assert!(finishes(bob, &[message, &[0]].concat()).is_err());
    }
    assert_eq!(image(bob), before);
}
