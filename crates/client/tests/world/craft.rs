//! Commits that no honest member makes, put together from the pieces of `mls`.

use corncrake_core::{
    conversation::{CommitEntry, ContextExtension, Entry, NEXT, Tail},
    crypto::{Digest, Secret, kdf, signature::SignatureKey},
    derive::Key32,
    mls::{
        PartId,
        codec::{Decode, Encode, Reader, put_bytes},
        commit::Commit,
        credential::Credential,
        extension::{Extension, ExtensionType, Extensions, ExternalPub},
        framing::{AuthenticatedContent, Content, MlsMessage, PublicMessage, WireFormat},
        key_schedule::{EpochSecrets, JoinerSecret, NewEpoch},
        leaf_node::LeafNode,
        proposal::{Proposal, ProposalOrRef},
        psk::psk_secret,
        public_group::{CommitSender, PublicGroup, StagedPublic},
        tree_math::LeafIndex,
        treekem::TreeKeys,
    },
    seal::envelope::Seed,
};

use crate::mal::{Mal, Seat};

/// What is wrong with a commit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Craft {
    pub(crate) proposals: Vec<Proposal>,
    /// Proposals that no list may hold, put in after the path was made.
    pub(crate) smuggled: Vec<Proposal>,
    /// For which nodes of the path the secrets are garbage, from the bottom up; `None`: all.
    pub(crate) spoil: Spoil,
    pub(crate) false_external_pub: bool,
    pub(crate) false_next: bool,
    pub(crate) bad_confirmation_tag: bool,
    pub(crate) bad_membership_tag: bool,
    /// Another certificate in the leaf.
    pub(crate) certificate: Option<Vec<u8>>,
    /// Another device key in the leaf.
    pub(crate) device_key: Option<SignatureKey>,
}

/// Whose path secrets are garbage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Spoil {
    #[default]
    Nobody,
    /// Everybody's.
    All,
    /// Those below this node of the path, counted from the bottom.
    Node(usize),
    /// All but those below this node.
    AllBut(usize),
}

impl Spoil {
    fn hits(self, node: usize) -> bool {
        match self {
            Self::Nobody => false,
            Self::All => true,
            Self::Node(spoilt) => node == spoilt,
            Self::AllBut(spared) => node != spared,
        }
    }
}

/// A crafted commit.
pub(crate) struct Crafted {
    pub(crate) inner: Vec<u8>,
    /// The secrets with which Mal himself can go on, as core saves those of an own commit.
    pub(crate) pending: Vec<u8>,
}

/// The secrets of the epoch that a seat is in.
fn epoch_secrets(seat: &Seat) -> EpochSecrets {
    let bytes = &seat.parts[&PartId { kind: 0x10, index: 0 }];
    let mut reader = Reader::new(bytes);
    u8::decode(&mut reader).unwrap();
    // Private keys of the tree: leaf index, leaf key, keys of parents.
    u32::decode(&mut reader).unwrap();
    Secret::decode(&mut reader).unwrap();
    reader.bytes().unwrap();
    EpochSecrets::decode(&mut reader).unwrap()
}

/// The public state of a seat's group.
pub(crate) fn public_group(seat: &Seat) -> PublicGroup {
    let parts = seat.parts.iter().filter(|(part, _)| PublicGroup::holds_part(**part));
    PublicGroup::load(parts.map(|(part, bytes)| (*part, bytes.clone()))).unwrap()
}

/// The proposal that changes the conversation's context.
pub(crate) fn set_context(seat: &Seat, context: &ContextExtension) -> Proposal {
    let extensions = public_group(seat).extensions().clone();
    let changed = extensions.iter().map(|extension| {
        if extension.extension_type == ExtensionType(corncrake_core::conversation::CONTEXT) {
            Extension::new(extension.extension_type, context)
        } else {
            extension.clone()
        }
    });
    Proposal::GroupContextExtensions(Extensions::new(changed.collect()).unwrap())
}

/// The leaf of a device key.
pub(crate) fn leaf_of(seat: &Seat, key: &SignatureKey) -> LeafIndex {
    let public = public_group(seat);
    let mut leaves = public.leaves();
    leaves.find(|(_, leaf)| leaf.signature_key == key.public()).map(|(index, _)| index).unwrap()
}

/// The leaves of an account.
pub(crate) fn leaves_of(seat: &Seat, account: corncrake_core::id::AccountId) -> Vec<LeafIndex> {
    let members = seat.conversation.members();
    let member = members.iter().find(|member| member.account == account).unwrap();
    member.devices.iter().map(|sender| LeafIndex::new(sender.leaf)).collect()
}

/// Makes the commit.
pub(crate) fn craft(mal: &mut Mal, seat: &mut Seat, craft: Craft) -> Crafted {
    seat.read(mal);
    let group = public_group(seat);
    let secrets = epoch_secrets(seat);
    let own = leaf_of(seat, &mal.device_key);
    let mut chance = mal.chance.clone();
    let signer = craft.device_key.as_ref().unwrap_or(&mal.device_key);
    let mut leaf: LeafNode = group.leaf(own).unwrap().clone();
    if let Some(certificate) = &craft.certificate {
        leaf.credential = Credential::Basic(certificate.clone());
    }
    let draft = group.draft(CommitSender::Member(own), craft.proposals.clone()).unwrap();
    let (drafted, fresh) = draft.with_path(leaf, signer, chance.rng()).unwrap();
    let framed = drafted.frame(WireFormat::PublicMessage, Vec::new(), &mal.device_key).unwrap();
    let AuthenticatedContent { mut content, mut auth, .. } = framed.commit().content().clone();
    if let Content::Commit(commit) = &mut content.content {
        worsen(commit, &craft);
    }
    auth.signature = content.sign(WireFormat::PublicMessage, group.context(), &mal.device_key);
    auth.confirmation_tag = Some(Digest([0; 32]));
    if !craft.smuggled.is_empty() {
        // Nobody gets as far as the tag and the tail.
        let message =
            PublicMessage::protect(content, auth, &secrets.membership, group.context()).unwrap();
        let tail =
            Tail { external_pub: fresh.leaf().public(), next: [0; 32], signature: vec![0; 64] };
        let message = MlsMessage::Public(Box::new(message)).to_bytes();
        let inner = Entry::Commit(CommitEntry { message, tail }).encode();
        mal.chance = chance;
        return Crafted { inner, pending: Vec::new() };
    }
    let unconfirmed =
        PublicMessage { content: content.clone(), auth: auth.clone(), membership_tag: None };
    let staged = stage(&group, &unconfirmed);
    let context = staged.context().to_bytes();
    let psk = psk_secret(&[]).unwrap();
    let joiner = JoinerSecret::derive(&secrets.init, fresh.commit_secret(), &context).unwrap();
    let epoch = joiner.member(&psk).epoch(&context).unwrap();
    let mut tag = epoch.secrets.confirmation_tag(staged.context());
    if craft.bad_confirmation_tag {
        tag.0[0] ^= 1;
    }
    auth.confirmation_tag = Some(tag);
    let mut message =
        PublicMessage::protect(content, auth, &secrets.membership, group.context()).unwrap();
    if craft.bad_membership_tag
        && let Some(tag) = &mut message.membership_tag
    {
        tag.0[0] ^= 1;
    }
    let staged = stage(&group, &message);
    let inner = finish(mal, &group, &staged, &epoch, &craft, &message);
    let encoded = MlsMessage::Public(Box::new(message)).to_bytes();
    let member = kdf::extract(joiner.0.expose(), psk.expose());
    let pending = pending(&encoded, &joiner.0, &member, &fresh.into_keys());
    mal.chance = chance;
    Crafted { inner, pending }
}

/// Smuggles proposals in and spoils path secrets.
fn worsen(commit: &mut Commit, craft: &Craft) {
    let smuggled = craft.smuggled.iter().cloned().map(ProposalOrRef::Proposal);
    commit.proposals.extend(smuggled);
    let nodes = commit.path.iter_mut().flat_map(|path| &mut path.nodes);
    for (number, node) in nodes.enumerate() {
        if craft.spoil.hits(number) {
            let sealed = node.encrypted_path_secret.iter_mut();
            sealed.for_each(|sealed| sealed.ciphertext.iter_mut().for_each(|byte| *byte ^= 0x55));
        }
    }
}

/// What `PendingCommit::to_bytes` would give for the crafted commit.
fn pending(message: &[u8], joiner: &Secret, member: &Secret, keys: &TreeKeys) -> Vec<u8> {
    let mut out = vec![1];
    put_bytes(&mut out, message);
    joiner.encode(&mut out);
    member.encode(&mut out);
    keys.leaf_index().encode(&mut out);
    keys.leaf().expose().encode(&mut out);
    let mut parents = Vec::new();
    for (node, key) in keys.parents() {
        node.get().encode(&mut parents);
        key.expose().encode(&mut parents);
    }
    put_bytes(&mut out, &parents);
    // No secrets for those whom it adds: they get no Welcome.
    put_bytes(&mut out, &[]);
    out
}

fn stage(group: &PublicGroup, message: &PublicMessage) -> StagedPublic {
    let verified = group.verify_commit(message).unwrap();
    group.stage(verified).unwrap()
}

/// Adds the tail.
fn finish(
    mal: &Mal,
    group: &PublicGroup,
    staged: &StagedPublic,
    epoch: &NewEpoch,
    craft: &Craft,
    message: &PublicMessage,
) -> Vec<u8> {
    let seed = epoch.secrets.export("corncrake next log", group.group_id(), 32).unwrap();
    let seed = Seed::from_key(Key32::from_bytes(*seed.expose_array().unwrap()));
    let mut tail = Tail {
        external_pub: epoch.secrets.external_key().unwrap().public(),
        next: seed.next_check(group.group_id()),
        signature: Vec::new(),
    };
    if craft.false_external_pub {
        let mut chance = mal.chance.clone();
        tail.external_pub =
            corncrake_core::crypto::hpke::HpkePrivateKey::generate(chance.rng()).public();
    }
    if craft.false_next {
        tail.next[0] ^= 1;
    }
    let extensions = Extensions::new(vec![
        Extension::new(ExtensionType::EXTERNAL_PUB, &ExternalPub(tail.external_pub.clone())),
        Extension::new(ExtensionType(NEXT), &tail.next),
    ]);
    let mut info = staged.group_info(extensions.unwrap(), Vec::new());
    info.sign(craft.device_key.as_ref().unwrap_or(&mal.device_key));
    tail.signature = info.signature;
    let message = MlsMessage::Public(Box::new(message.clone())).to_bytes();
    Entry::Commit(CommitEntry { message, tail }).encode()
}
