//! Members who come, go, come back and change their keys.

use super::super::super::framing::{
    AuthenticatedContent, Content, FramedContent, FramedContentAuthData, Sender,
};
use super::super::super::leaf_node::{LeafNode, LeafNodeSource};
use super::super::super::proposal::ProposalOrRef;
use super::super::ProposalCache;
use super::forged::{forge, inline, requiring, sign};
use super::*;

#[test]
fn senders_groups_and_epochs_are_told_apart() {
    let mut members = Members::full(5, 7);
    let gone = LeafIndex::new(2);
    let rng = &mut members.rng.clone();
    let (staged, _) = members.at(2).commit(Vec::new(), Path::With, rng).unwrap();
    let message = transmit(&staged);
    let former = members.at(2).signer.clone();
    members.change(LeafIndex::new(0), &[gone], 0, Path::With);
    assert_eq!(members.at(0).stage(&message).unwrap_err(), Error::WrongEpoch);

    // A former member speaks in the new epoch, from an empty place and then from a taken one.
    let mut late = message;
    late.content.epoch += 1;
    sign(&mut late, &members.at(0).group, &former);
    assert_eq!(members.at(0).stage(&late).unwrap_err(), Error::InvalidSender);
    members.change(LeafIndex::new(0), &[], 1, Path::With);
    assert!(members.list.contains_key(&gone), "the place is taken again");
    late.content.epoch += 1;
    sign(&mut late, &members.at(0).group, &former);
    assert_eq!(members.at(0).stage(&late).unwrap_err(), Error::InvalidSignature);

    for sender in [
        Sender::External(0),
        Sender::NewMemberProposal,
        Sender::Member(LeafIndex::new(9)),
        Sender::Member(LeafIndex::new(u32::MAX)),
    ] {
        let mut forged = late.clone();
        forged.content.sender = sender;
        assert_eq!(members.at(0).stage(&forged).unwrap_err(), Error::InvalidSender);
    }
    let mut elsewhere = late;
    elsewhere.content.group_id = b"other".to_vec();
    assert_eq!(members.at(0).stage(&elsewhere).unwrap_err(), Error::WrongGroup);
}

#[test]
fn what_a_removal_cuts_off_stays_gone_when_the_tree_grows_again() {
    // Leaves 0 to 5; the right half holds 4 and 5.
    let mut members = Members::full(6, 8);
    let by = LeafIndex::new(0);
    members.change(by, &[LeafIndex::new(4), LeafIndex::new(5)], 1, Path::With);
    assert!(members.list.contains_key(&LeafIndex::new(4)));
    let tree = members.at(0).group.tree().clone();
    assert_eq!(tree.size().leaves(), 8);
    assert_eq!(tree.leaf(LeafIndex::new(5)), None);
    // The newcomer's place in the right half comes back, nothing beside it.
    let place = members.join_external(Some(LeafIndex::new(4)));
    assert_eq!(place, LeafIndex::new(4));
    let tree = members.at(0).group.tree();
    assert_eq!(tree.leaves().count(), 5);
    for node in [9, 11, 13] {
        assert_eq!(tree.parent(NodeIndex::new(node)), None);
    }
}

#[test]
fn a_member_may_come_back_in_the_commit_that_removes_it() {
    let mut members = Members::full(3, 9);
    let Joiner { mut package, keys, .. } = joiner(&mut members.rng);
    let back = members.at(2).signer.clone();
    package.leaf_node.signature_key = back.public();
    package.leaf_node.sign(&[], LeafIndex::default(), &back);
    package.sign(&back);
    let again = Joiner { signer: back, package, keys };
    let by = LeafIndex::new(0);
    let alone = members.at(0).commit(vec![add(&again)], Path::With, &mut members.rng.clone());
    assert_eq!(alone.unwrap_err(), Error::InvalidLeafNode);
    let proposals = vec![add(&again), Proposal::Remove(LeafIndex::new(2))];
    let (staged, fresh) =
        members.list[&by].commit(proposals, Path::With, &mut members.rng).unwrap();
    members.list.remove(&LeafIndex::new(2)).unwrap();
    members.deliver(by, staged, fresh, vec![again]);
}

#[test]
fn a_member_who_changes_its_signature_key_signs_the_new_epoch_with_the_new_one() {
    let members = Members::full(2, 10);
    let rng = &mut members.rng.clone();
    let member = members.at(0);
    let fresh_signer = SignatureKey::generate(rng);
    let own = CommitSender::Member(LeafIndex::new(0));
    let leaf = member.group.leaf(LeafIndex::new(0)).unwrap().clone();
    let draft = member.group.draft(own, Vec::new()).unwrap();
    let (drafted, _) = draft.with_path(leaf, &fresh_signer, rng).unwrap();
    let framed = drafted.frame(WireFormat::PublicMessage, Vec::new(), &member.signer).unwrap();
    let staged = members.at(1).stage(&transmit(&confirm(framed))).unwrap();
    let mut info = staged.group_info(Extensions::default(), Vec::new());
    let mut group = members.at(1).group.clone();
    group.merge(staged).unwrap();
    let tree = || RatchetTree::decode_exact(&group.tree().to_bytes()).unwrap();
    info.sign(&member.signer);
    assert_eq!(PublicGroup::from_info(&info, tree()).unwrap_err(), Error::InvalidSignature);
    info.sign(&fresh_signer);
    assert_eq!(PublicGroup::from_info(&info, tree()).unwrap().context(), group.context());
}

#[test]
fn a_capability_listed_twice_counts_for_one_member() {
    let mut members = Members::full(2, 11);
    let rng = &mut members.rng;
    let Joiner { signer, mut package, keys } = joiner(rng);
    let listed = &mut package.leaf_node.capabilities.extensions;
    listed.extend([ExtensionType(0xF0C2); 3]);
    package.leaf_node.sign(&[], LeafIndex::default(), &signer);
    package.sign(&signer);
    let newcomer = Joiner { signer, package, keys };
    let by = LeafIndex::new(0);
    let (staged, fresh) = members.list[&by].commit(vec![add(&newcomer)], Path::With, rng).unwrap();
    members.deliver(by, staged, fresh, vec![newcomer]);
    let forged = forge(&members, |commit| commit.proposals.push(inline(requiring(0xF0C2))));
    assert_eq!(forged.unwrap_err(), Error::MissingCapability);
}

/// A message in which `member` proposes to replace its leaf.
fn propose_update(member: &Member, key: HpkePrivateKey) -> AuthenticatedContent {
    let own = member.keys.leaf_index();
    let mut leaf = member.group.leaf(own).unwrap().clone();
    leaf.encryption_key = key.public();
    leaf.source = LeafNodeSource::Update;
    leaf.sign(member.group.group_id(), own, &member.signer);
    let content = FramedContent {
        group_id: member.group.group_id().to_vec(),
        epoch: member.group.epoch(),
        sender: Sender::Member(own),
        authenticated_data: Vec::new(),
        content: Content::Proposal(Proposal::Update(Box::new(leaf))),
    };
    let wire_format = WireFormat::PublicMessage;
    let signature = content.sign(wire_format, member.group.context(), &member.signer);
    let auth = FramedContentAuthData { signature, confirmation_tag: None };
    AuthenticatedContent { wire_format, content, auth }
}

/// What leaf 0 says to a commit of leaf 1 that names this proposal.
fn commit_reference(members: &Members, proposal: &AuthenticatedContent) -> Result<(), Error> {
    let reader = members.at(0);
    let mut cache = ProposalCache::default();
    reader.group.cache_proposal(proposal, &mut cache)?;
    let forger = members.at(1);
    let (staged, _) = forger.commit(Vec::new(), Path::With, &mut members.rng.clone()).unwrap();
    let mut message = transmit(&staged);
    let Content::Commit(commit) = &mut message.content.content else { panic!("a commit") };
    let reference = proposal.proposal_reference();
    commit.proposals.push(ProposalOrRef::Reference(reference));
    // Leaf 2's update blanks the parent that it shares with leaf 3: the root's secret goes to both.
    let root = commit.path.as_mut().unwrap().nodes.last_mut().unwrap();
    let again = root.encrypted_path_secret.last().cloned();
    root.encrypted_path_secret.extend(again);
    let keys: Vec<_> = commit
        .path
        .iter()
        .flat_map(|path| &path.nodes)
        .map(|node| node.encryption_key.clone())
        .collect();
    if let (Content::Proposal(Proposal::Update(leaf)), Sender::Member(index)) =
        (&proposal.content.content, proposal.content.sender)
    {
        let mut diff = forger.group.tree().diff();
        diff.update(index, LeafNode::clone(leaf));
        let parent_hash = diff.set_path(LeafIndex::new(1), &keys).unwrap();
        let leaf = &mut commit.path.as_mut().unwrap().leaf_node;
        leaf.source = LeafNodeSource::Commit { parent_hash };
        leaf.sign(forger.group.group_id(), LeafIndex::new(1), &forger.signer);
    }
    sign(&mut message, &forger.group, &forger.signer);
    let verified = reader.group.verify_commit_with(message.authenticated(), &cache)?;
    assert!(verified.proposals().by_reference);
    assert_eq!(reader.stage(&message).unwrap_err(), Error::UnknownProposal);
    reader.group.stage(verified).map(drop)
}

#[test]
fn updates_come_by_reference_and_from_others() {
    let members = Members::full(4, 12);
    let rng = &mut ChaCha20Rng::seed_from_u64(13);
    let good = propose_update(members.at(2), HpkePrivateKey::generate(rng));
    assert_eq!(commit_reference(&members, &good), Ok(()));
    let own = propose_update(members.at(1), HpkePrivateKey::generate(rng));
    assert_eq!(commit_reference(&members, &own), Err(Error::InvalidProposalList));
    let unchanged = propose_update(members.at(2), members.at(2).keys.leaf().clone());
    assert_eq!(commit_reference(&members, &unchanged), Err(Error::InvalidLeafNode));
    let mut forged = good.clone();
    forged.auth.signature[9] ^= 1;
    assert_eq!(commit_reference(&members, &forged), Err(Error::InvalidSignature));
    let mut late = good.clone();
    late.content.epoch += 1;
    assert_eq!(commit_reference(&members, &late), Err(Error::WrongEpoch));
    let mut outside = good;
    outside.content.sender = Sender::External(0);
    assert_eq!(commit_reference(&members, &outside), Err(Error::InvalidSender));
}
