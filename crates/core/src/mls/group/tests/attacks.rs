//! Commits that count but that not everybody can finish (RFC 9420 §16.12).

use super::*;
use crate::crypto::Digest;
use crate::mls::key_schedule::JoinerSecret;
use crate::mls::proposal::Proposal;
use crate::mls::public_group::CommitSender;

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
    let draft = group.public.draft(CommitSender::Member(group.own_leaf()), removes).unwrap();
    let leaf = group.public.leaf(group.own_leaf()).unwrap().clone();
    let (drafted, fresh) = draft.with_path(leaf, signer, rng).unwrap();
    let drafted = drafted.frame(WireFormat::PublicMessage, Vec::new(), signer).unwrap();
    let AuthenticatedContent { mut content, mut auth, .. } = drafted.commit().content().clone();
    if let (Spoil::Path(nodes), Content::Commit(commit)) = (spoil, &mut content.content) {
        let path = commit.path.as_mut().unwrap();
        for (bit, node) in path.nodes.iter_mut().enumerate() {
            if nodes >> bit & 1 == 1 {
                node.encrypted_path_secret.iter_mut().for_each(|sealed| sealed.ciphertext[0] ^= 1);
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

/// Somebody who could not finish a commit and folds on without secrets.
struct LockedOut {
    signer: SignatureKey,
    leaf: LeafIndex,
    public: PublicGroup,
}

/// Lets a member process a commit that counts.
#[expect(clippy::result_large_err, reason = "both outcomes are as large, and this is a test")]
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
            let mut public = group.public().clone();
            public.merge(unfinished.staged).unwrap();
            Err(LockedOut { signer, leaf, public })
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
    let join = ExternalJoin { leaf, remove: Some(lost.leaf), authenticated_data: Vec::new() };
    let pending =
        Group::join_external(&lost.public, external_pub, join, &lost.signer, rng).unwrap();
    let message = public(pending.message());
    for (_, group) in honest {
        let finished = group.finish(staged(group, &message), &message, &psk::none).unwrap();
        group.merge(finished).unwrap();
    }
    for LockedOut { public, .. } in locked_out {
        let staged = public.stage(public.verify_commit(&message).unwrap()).unwrap();
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
    let removed: Vec<_> = removes.iter().map(|index| members[*index].1.own_leaf()).collect();
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
    let plan = CommitPlan { removes: vec![author], ..CommitPlan::default() };
    let pending = first.commit(plan, signer, rng).unwrap();
    let message = public(pending.message());
    first.merge_pending(pending).unwrap();
    let said = private(&first.encrypt(b"gone", b"", signer, rng).unwrap());
    for (_, group) in others {
        let finished = group.finish(staged(group, &message), &message, &psk::none).unwrap();
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
                survive(members.clone(), &[usize::from(size) - 1], Spoil::Path(subset), &mut rng);
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
        let unfinished = bob.finish(staged(bob, &message), &message, &psk::none).unwrap_err();
        assert_eq!(unfinished.error, error);
    }
    let (message, _) = spoiled(&members[0], &[], Spoil::Path(0), &mut rng);
    let (other, _) = spoiled(&members[0], &[], Spoil::Path(0), &mut rng);
    let unfinished = bob.finish(staged(bob, &message), &other, &psk::none).unwrap_err();
    assert_eq!(unfinished.error, Error::InvalidPlan);
}
