//! A member who breaks the rules: he makes commits out of the public pieces of `mls` and the secrets
//! in his own store.

use corncrake_core::conversation::{CommitEntry, ContextExtension, Entry, NEXT, Tail};
use corncrake_core::crypto::hpke::{HpkePrivateKey, HpkePublicKey};
use corncrake_core::crypto::signature::SignatureKey;
use corncrake_core::crypto::{Digest, Secret, kdf};
use corncrake_core::derive::Key32;
use corncrake_core::mls::PartId;
use corncrake_core::mls::codec::{Decode, Encode, Reader};
use corncrake_core::mls::commit::Commit;
use corncrake_core::mls::credential::CredentialType;
use corncrake_core::mls::extension::{
    Extension, ExtensionType, Extensions, ExternalPub, RequiredCapabilities,
};
use corncrake_core::mls::framing::{
    AuthenticatedContent, Content, FramedContent, FramedContentAuthData, MlsMessage, PublicMessage,
    Sender, WireFormat,
};
use corncrake_core::mls::group_info::GroupInfo;
use corncrake_core::mls::key_schedule::{EpochSecrets, JoinerSecret, external_init};
use corncrake_core::mls::leaf_node::LeafContent;
use corncrake_core::mls::proposal::{Proposal, ProposalOrRef};
use corncrake_core::mls::public_group::{CommitSender, PublicGroup};
use corncrake_core::mls::transcript;
use corncrake_core::mls::tree_math::LeafIndex;
use corncrake_core::mls::treekem::FreshPath;
use corncrake_core::seal::envelope::Seed;

use crate::lab::Device;

/// What is wrong with a commit, besides what its proposals do.
pub(crate) struct Forgery<'a> {
    pub(crate) proposals: Vec<Proposal>,
    /// What the committer's new leaf says, and whose key it has.
    pub(crate) leaf: Option<(LeafContent, &'a SignatureKey)>,
    /// The nodes of the path, counted from below, whose secrets are garbage.
    pub(crate) garbage: &'a dyn Fn(usize) -> bool,
    pub(crate) flaw: Flaw,
    pub(crate) external: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    MembershipTag,
    ConfirmationTag,
    ExternalPub,
    WeakExternalPub,
    Next,
    InfoSignature,
}

impl Default for Forgery<'_> {
    fn default() -> Self {
        Self {
            proposals: Vec::new(),
            leaf: None,
            garbage: &|_| false,
            flaw: Flaw::None,
            external: false,
        }
    }
}

/// A forged commit and what its maker needs to follow it.
pub(crate) struct Forged {
    pub(crate) inner: Vec<u8>,
    pub(crate) pending: Secret,
}

/// The public side of a device's group, from its store.
pub(crate) fn public_group(device: &Device) -> PublicGroup {
    let parts = device.store.iter().map(|(part, bytes)| (*part, bytes.clone()));
    PublicGroup::load(parts.filter(|(part, _)| PublicGroup::holds_part(*part))).unwrap()
}

/// Own leaf and epoch secrets, from a member's store.
fn secrets(device: &Device) -> (LeafIndex, EpochSecrets) {
    let part = PartId { kind: 0x10, index: 0 };
    let mut reader = Reader::new(&device.store[&part][1..]);
    let leaf = LeafIndex::decode(&mut reader).unwrap();
    let _leaf_key = Secret::decode(&mut reader).unwrap();
    let _parents = Vec::<u8>::decode(&mut reader).unwrap();
    let secrets = EpochSecrets::decode(&mut reader).unwrap();
    (leaf, secrets)
}

/// The extensions of a GroupContext as honest members write them.
pub(crate) fn extensions(context: &ContextExtension) -> Extensions {
    let required = RequiredCapabilities {
        extensions: vec![ExtensionType(0xF0C1), ExtensionType(0xF101)],
        proposals: Vec::new(),
        credentials: vec![CredentialType::BASIC],
    };
    let required = Extension::new(ExtensionType::REQUIRED_CAPABILITIES, &required);
    Extensions::new(vec![required, Extension::new(ExtensionType(0xF0C1), context)]).unwrap()
}

pub(crate) fn change_context(context: &ContextExtension) -> Proposal {
    Proposal::GroupContextExtensions(extensions(context))
}

/// Makes a commit on the newest epoch of `mal`'s store.
pub(crate) fn forge(mal: &mut Device, forgery: Forgery<'_>) -> Forged {
    let group = public_group(mal);
    let (sender, proposals, init, membership) = if forgery.external {
        let (kem_output, init) = external_init(&external_pub(mal), &mut mal.rng).unwrap();
        let proposals = [Proposal::ExternalInit { kem_output }].into_iter();
        let proposals = proposals.chain(forgery.proposals).collect();
        (CommitSender::External, proposals, init, Secret::zeros(32))
    } else {
        let (leaf, secrets) = secrets(mal);
        let EpochSecrets { init, membership, .. } = secrets;
        (CommitSender::Member(leaf), forgery.proposals, init, membership)
    };
    let draft = group.draft(sender, proposals).unwrap();
    let author = draft.author();
    let own = group.leaves().find(|(_, leaf)| leaf.signature_key == mal.key.public());
    let (_, leaf) = own.or_else(|| group.leaves().next()).unwrap();
    let (mut leaf, mut leaf_key) = (leaf.clone(), &mal.key);
    if let Some((content, key)) = &forgery.leaf {
        leaf.credential = content.credential.clone();
        leaf.capabilities = content.capabilities.clone();
        leaf_key = key;
    }
    let (drafted, fresh) = draft.with_path(leaf, leaf_key, &mut mal.rng).unwrap();
    let signer = if forgery.external { leaf_key } else { &mal.key };
    let unconfirmed = drafted.frame(WireFormat::PublicMessage, Vec::new(), signer).unwrap();
    let mut context = unconfirmed.context().clone();
    let mut content = unconfirmed.commit().content().clone();
    spoil(&mut content, forgery.garbage);
    content.auth.signature =
        content.content.sign(WireFormat::PublicMessage, group.context(), signer);
    let interim = group.interim_transcript_hash().as_ref();
    let (format, signature) = (WireFormat::PublicMessage, &content.auth.signature);
    let transcript = transcript::confirmed(interim, format, &content.content, signature);
    context.confirmed_transcript_hash = transcript.as_ref().to_vec();

    let joiner = JoinerSecret::derive(&init, fresh.commit_secret(), &context.to_bytes()).unwrap();
    let epoch = joiner.member(&Secret::zeros(32)).epoch(&context.to_bytes()).unwrap();
    let mut tag = epoch.secrets.confirmation_tag(&context);
    tag.0[0] ^= u8::from(forgery.flaw == Flaw::ConfirmationTag);
    content.auth.confirmation_tag = Some(tag);
    let mut message =
        PublicMessage::protect(content.content, content.auth, &membership, group.context())
            .unwrap();
    if let Some(tag) = &mut message.membership_tag {
        tag.0[0] ^= u8::from(forgery.flaw == Flaw::MembershipTag);
    }
    let message = MlsMessage::Public(Box::new(message)).to_bytes();
    let mut info = GroupInfo {
        context,
        extensions: Extensions::default(),
        confirmation_tag: tag,
        signer: author,
        signature: Vec::new(),
    };
    let tail = tail(&mut info, &epoch.secrets, forgery.flaw, leaf_key);
    let pending = pending(&message, &joiner, author, fresh);
    let inner = Entry::Commit(CommitEntry { message, tail }).encode();
    Forged { inner, pending }
}

/// Announces an epoch's keys, or others, and signs that.
fn tail(info: &mut GroupInfo, secrets: &EpochSecrets, flaw: Flaw, key: &SignatureKey) -> Tail {
    let group_id = &info.context.group_id;
    let seed = secrets.export("corncrake next log", group_id, 32).unwrap();
    let seed = Seed::from_key(Key32::from_bytes(*seed.expose_array::<32>().unwrap()));
    let mut next = seed.next_check(group_id);
    next[0] ^= u8::from(flaw == Flaw::Next);
    let external_pub = match flaw {
        Flaw::ExternalPub => HpkePrivateKey::derive(&Secret::zeros(32)).unwrap().public(),
        Flaw::WeakExternalPub => HpkePublicKey::from_bytes(vec![0; 32]),
        _ => secrets.external_key().unwrap().public(),
    };
    let mut tail = Tail { external_pub, next, signature: Vec::new() };
    info.extensions = info_extensions(&tail);
    info.sign(key);
    tail.signature.clone_from(&info.signature);
    tail.signature[5] ^= u8::from(flaw == Flaw::InfoSignature);
    tail
}

/// A commit without a path, whose tags and tail are nonsense: for rules that come before those.
pub(crate) fn forge_raw(mal: &Device, proposals: Vec<ProposalOrRef>) -> Vec<u8> {
    let group = public_group(mal);
    let (leaf, secrets) = secrets(mal);
    let commit = Commit { proposals, path: None };
    let content = FramedContent {
        group_id: group.group_id().to_vec(),
        epoch: group.epoch(),
        sender: Sender::Member(leaf),
        authenticated_data: Vec::new(),
        content: Content::Commit(Box::new(commit)),
    };
    let signature = content.sign(WireFormat::PublicMessage, group.context(), &mal.key);
    let auth = FramedContentAuthData { signature, confirmation_tag: Some(Digest([1; 32])) };
    let message =
        PublicMessage::protect(content, auth, &secrets.membership, group.context()).unwrap();
    let tail = Tail { external_pub: external_pub(mal), next: [1; 32], signature: vec![1; 64] };
    let message = MlsMessage::Public(Box::new(message)).to_bytes();
    Entry::Commit(CommitEntry { message, tail }).encode()
}

fn external_pub(device: &Device) -> HpkePublicKey {
    let info = device.chat().state();
    let bytes = info.encode();
    let mut reader = Reader::new(&bytes[1..]);
    let info = GroupInfo::decode(&mut reader).unwrap();
    let ExternalPub(key) = info.extensions.parsed(ExtensionType::EXTERNAL_PUB).unwrap().unwrap();
    key
}

fn info_extensions(tail: &Tail) -> Extensions {
    let external_pub = ExternalPub(tail.external_pub.clone());
    Extensions::new(vec![
        Extension::new(ExtensionType::EXTERNAL_PUB, &external_pub),
        Extension::new(ExtensionType(NEXT), &tail.next),
    ])
    .unwrap()
}

fn spoil(content: &mut AuthenticatedContent, garbage: &dyn Fn(usize) -> bool) {
    let Content::Commit(commit) = &mut content.content.content else {
        panic!("not a commit");
    };
    let nodes = commit.path.iter_mut().flat_map(|path| &mut path.nodes);
    for (_, node) in nodes.enumerate().filter(|(index, _)| garbage(*index)) {
        for sealed in &mut node.encrypted_path_secret {
            sealed.ciphertext[3] ^= 1;
        }
    }
}

/// The secrets of a forged commit in the form in which honest ones are saved.
fn pending(message: &[u8], joiner: &JoinerSecret, author: LeafIndex, fresh: FreshPath) -> Secret {
    let keys = fresh.into_keys();
    let mut out = vec![1];
    message.to_vec().encode(&mut out);
    joiner.0.encode(&mut out);
    kdf::extract(joiner.0.expose(), &[0; 32]).encode(&mut out);
    author.encode(&mut out);
    keys.leaf().expose().encode(&mut out);
    let mut parents = Vec::new();
    for (node, key) in keys.parents() {
        node.get().encode(&mut parents);
        key.expose().encode(&mut parents);
    }
    parents.encode(&mut out);
    Vec::<u8>::new().encode(&mut out);
    Secret::from(out)
}
