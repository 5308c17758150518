//! Signed commits that are random nonsense: whatever a member accepts, a joiner accepts too.

use super::super::super::commit::Commit;
use super::super::super::framing::Content;
use super::super::super::leaf_node::LeafNodeSource;
use super::super::super::proposal::ProposalOrRef;
use super::*;
use crate::golden::{assert_golden, feed_garbage};

/// The message of leaf 1 with this commit instead of its own, signed inside and out.
fn message(members: &Members, original: &PublicMessage, mut commit: Commit) -> PublicMessage {
    let forger = members.at(1);
    if let Some(path) = &mut commit.path {
        path.leaf_node.signature_key = forger.signer.public();
        path.leaf_node.sign(forger.group.group_id(), LeafIndex::new(1), &forger.signer);
    }
    let mut message = original.clone();
    message.content.content = Content::Commit(Box::new(commit));
    let format = WireFormat::PublicMessage;
    message.auth.signature = message.content.sign(format, forger.group.context(), &forger.signer);
    message
}

/// Gives the commit its true parent hash, as a forger who knows the rules would.
fn chain(group: &PublicGroup, commit: &mut Commit) {
    let Some(path) = &mut commit.path else { return };
    let mut diff = group.tree().diff();
    for proposal in &commit.proposals {
        match proposal {
            ProposalOrRef::Proposal(Proposal::Remove(index)) if group.leaf(*index).is_some() => {
                diff.remove(*index);
            }
            _ => {}
        }
    }
    for proposal in &commit.proposals {
        if let ProposalOrRef::Proposal(Proposal::Add(package)) = proposal {
            diff.add(package.leaf_node.clone()).unwrap();
        }
    }
    let keys: Vec<_> = path.nodes.iter().map(|node| node.encryption_key.clone()).collect();
    if let Some(parent_hash) = diff.set_path(LeafIndex::new(1), &keys) {
        path.leaf_node.source = LeafNodeSource::Commit { parent_hash };
    }
}

/// Whether a member accepts the message; if so, a joiner has to accept what comes of it.
fn is_accepted(members: &Members, message: &PublicMessage) -> bool {
    let reader = members.at(0);
    let Ok(staged) = reader.stage(message) else {
        return false;
    };
    let mut group = reader.group.clone();
    let removed = staged.commit().removes().contains(&LeafIndex::new(0));
    group.merge(staged).unwrap();
    let tree = RatchetTree::decode_exact(&group.tree().to_bytes()).unwrap();
    assert_eq!(tree.root_hash(), group.tree().root_hash());
    if !removed {
        let own = LeafIndex::new(0);
        let mut info = group.group_info(Extensions::default(), own, Vec::new());
        info.sign(&reader.signer);
        let joined = PublicGroup::from_info(&info, tree).unwrap();
        assert_eq!(joined.interim_transcript_hash(), group.interim_transcript_hash());
    }
    true
}

/// One random change that keeps the commit well-formed.
fn mutate(commit: &mut Commit, members: &Members, rng: &mut ChaCha20Rng) {
    let index = LeafIndex::new(rng.next_u32() % 9);
    let at = rng.next_u32() as usize;
    let count = commit.proposals.len();
    let known: Vec<_> = members.at(0).group.leaves().map(|(_, leaf)| leaf).collect();
    let known = known[at % known.len()];
    match (rng.next_u32() % 12, &mut commit.path) {
        (0, _) => commit.proposals.push(ProposalOrRef::Proposal(Proposal::Remove(index))),
        (1, _) => commit.proposals.push(ProposalOrRef::Proposal(add(&joiner(rng)))),
        (2, _) if count > 0 => drop(commit.proposals.remove(at % count)),
        (3, _) if count > 1 => commit.proposals.swap(0, at % count),
        (4, _) if count > 0 => commit.proposals.push(commit.proposals[at % count].clone()),
        (5, path) if at.is_multiple_of(8) => *path = None,
        (6, Some(path)) => drop(path.nodes.pop()),
        (7, Some(path)) if !path.nodes.is_empty() => {
            let node = path.nodes[at % path.nodes.len()].clone();
            path.nodes.push(node);
        }
        (8, Some(path)) => path.leaf_node.encryption_key = known.encryption_key.clone(),
        (9, Some(path)) => {
            if let Some(node) = path.nodes.first_mut() {
                node.encryption_key = HpkePrivateKey::generate(rng).public();
            }
        }
        (10, Some(path)) => {
            if let Some(node) = path.nodes.last_mut() {
                let again = node.encrypted_path_secret.last().cloned();
                node.encrypted_path_secret.extend(again);
            }
        }
        (11, Some(path)) => path.leaf_node.credential = Credential::Basic(vec![7; at % 90]),
        _ => {}
    }
}

#[test]
fn what_a_member_accepts_a_joiner_accepts() {
    let mut members = Members::full(7, 31);
    members.change(LeafIndex::new(0), &[LeafIndex::new(3)], 0, Path::With);
    members.change(LeafIndex::new(2), &[], 1, Path::Without);
    let mut rng = members.rng.clone();
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..600 {
        let mut proposals = Vec::new();
        if round % 3 == 0 {
            proposals.push(Proposal::Remove(LeafIndex::new(6)));
        }
        if round % 2 == 0 {
            proposals.push(add(&joiner(&mut rng)));
        }
        let (staged, _) = members.at(1).commit(proposals, Path::With, &mut rng).unwrap();
        let original = transmit(&staged);
        let Content::Commit(commit) = &original.content.content else { panic!("a commit") };
        let mut commit = Commit::clone(commit);
        for _ in 0..rng.next_u32() % 3 {
            mutate(&mut commit, &members, &mut rng);
        }
        if round % 4 > 0 {
            chain(&members.at(0).group, &mut commit);
        }
        if is_accepted(&members, &message(&members, &original, commit)) {
            accepted += 1;
        } else {
            refused += 1;
        }
    }
    assert!(accepted > 100 && refused > 100, "{accepted} accepted, {refused} refused");
}

#[test]
fn commits_of_random_bytes_are_refused_or_harmless() {
    let members = Members::full(5, 32);
    let proposals =
        vec![Proposal::Remove(LeafIndex::new(3)), add(&joiner(&mut members.rng.clone()))];
    let rng = &mut ChaCha20Rng::seed_from_u64(33);
    let (staged, _) = members.at(1).commit(proposals, Path::With, rng).unwrap();
    let original = transmit(&staged);
    let Content::Commit(commit) = &original.content.content else { panic!("a commit") };
    feed_garbage(2000, &commit.to_bytes(), |bytes| {
        if let Ok(mut commit) = Commit::decode_exact(bytes) {
            is_accepted(&members, &message(&members, &original, commit.clone()));
            chain(&members.at(0).group, &mut commit);
            is_accepted(&members, &message(&members, &original, commit));
        }
    });
}

#[test]
fn saved_parts_are_golden() {
    let mut members = Members::full(6, 34);
    members.change(LeafIndex::new(0), &[LeafIndex::new(2), LeafIndex::new(3)], 0, Path::With);
    members.change(LeafIndex::new(1), &[], 1, Path::Without);
    let mut lines = String::new();
    for (part, bytes) in &members.at(0).saved {
        lines += &format!("{:02x} {} {}\n", part.kind, part.index, hex::encode(bytes));
    }
    assert_golden("public_group_parts.txt", lines.as_bytes());
}
