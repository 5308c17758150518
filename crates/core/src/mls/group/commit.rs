//! Commits of our own (RFC 9420 §12.4.1).

use rand_core::CryptoRng;

use super::Group;
use super::finish::StagedCommit;
use super::save::VERSION;
use crate::crypto::Secret;
use crate::crypto::hpke::HpkePublicKey;
use crate::crypto::signature::SignatureKey;
use crate::error::ensure;
use crate::mls::Error;
use crate::mls::codec::{Decode, Encode, codec_struct, pack, unpack};
use crate::mls::extension::Extensions;
use crate::mls::framing::{AuthenticatedContent, MlsMessage, PublicMessage, WireFormat};
use crate::mls::group_info::GroupInfo;
use crate::mls::key_package::KeyPackage;
use crate::mls::key_schedule::{JoinerSecret, MemberSecret};
use crate::mls::leaf_node::{LeafContent, LeafNode};
use crate::mls::proposal::Proposal;
use crate::mls::psk::psk_secret;
use crate::mls::public_group::{CommitSender, PublicGroup, StagedPublic, Unconfirmed};
use crate::mls::tree_math::LeafIndex;
use crate::mls::treekem::{FreshPath, TreeKeys};
use crate::mls::welcome::{GroupSecrets, Welcome};

/// When a commit brings fresh keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PathChoice {
    /// Always: heals the group from a past compromise of the committer.
    #[default]
    Always,
    /// Only where RFC 9420 §12.4 asks for them.
    IfNeeded,
}

/// What a commit shall do. Empty, it is a self-update.
#[derive(Clone, Debug, Default)]
pub struct CommitPlan {
    /// The new extensions of the group context.
    pub extensions: Option<Extensions>,
    /// Leaves that go.
    pub removes: Vec<LeafIndex>,
    /// Clients that come.
    pub adds: Vec<KeyPackage>,
    /// Fresh keys or not.
    pub path: PathChoice,
    /// What our leaf shall say from now on; this takes a path.
    pub leaf: Option<LeafContent>,
    /// Signed with the commit, readable by all.
    pub authenticated_data: Vec<u8>,
}

/// A commit of our own that waits for its place in the log.
///
/// It holds the secrets of the epoch that it starts, and survives a restart by
/// [`PendingCommit::to_bytes`] and [`PendingCommit::load`]. [`Group::merge_pending`] makes it final,
/// or [`PendingCommit::into_group`] if it joins.
#[derive(Clone, Debug)]
pub struct PendingCommit {
    message: Vec<u8>,
    staged: StagedCommit,
    joiner: JoinerSecret,
    member: MemberSecret,
    /// One for each added leaf; none without a path.
    path_secrets: Vec<Option<Secret>>,
}

impl Group {
    /// Makes a commit; the group stays in its epoch until [`Group::merge_pending`].
    ///
    /// # Errors
    /// [`Error::InvalidPlan`] if `signer` is not our leaf's key, else what its receivers would find
    /// wrong with the commit.
    pub fn commit(
        &self,
        plan: CommitPlan,
        signer: &SignatureKey,
        rng: &mut impl CryptoRng,
    ) -> Result<PendingCommit, Error> {
        let own = self.public.leaf(self.own_leaf()).ok_or(Error::Internal)?;
        ensure(own.signature_key == signer.public(), Error::InvalidPlan)?;
        let extensions = plan.extensions.into_iter().map(Proposal::GroupContextExtensions);
        let removes = plan.removes.into_iter().map(Proposal::Remove);
        let adds = plan.adds.into_iter().map(|package| Proposal::Add(Box::new(package)));
        let proposals: Vec<_> = extensions.chain(removes).chain(adds).collect();
        let needs_path = plan.path == PathChoice::Always
            || plan.leaf.is_some()
            || proposals.is_empty()
            || proposals.iter().any(|proposal| proposal.proposal_type().requires_path());

        let draft = self.public.draft(CommitSender::Member(self.own_leaf()), proposals)?;
        let (drafted, fresh) = if needs_path {
            let leaf = match plan.leaf {
                Some(content) => LeafNode::unsigned(content, signer.public()),
                None => own.clone(),
            };
            let (drafted, fresh) = draft.with_path(leaf, signer, rng)?;
            (drafted, Some(fresh))
        } else {
            (draft.without_path()?, None)
        };
        let format = WireFormat::PublicMessage;
        let unconfirmed = drafted.frame(format, plan.authenticated_data, signer)?;
        let commit = unconfirmed.commit();
        let path = match fresh {
            Some(fresh) => PathSecrets::of(fresh, commit.added()),
            None => PathSecrets {
                commit_secret: Secret::zeros(self.public.suite().hash_len()),
                for_added: vec![None; commit.added().len()],
                keys: self.keys.without_path(commit.members_after(&self.public)),
            },
        };
        let (init, membership) = (&self.secrets.init, Some(&self.secrets.membership));
        PendingCommit::confirm(&self.public, unconfirmed, path, init, membership)
    }

    /// Moves to the epoch that our own commit starts.
    ///
    /// # Errors
    /// [`Error::WrongEpoch`] if the group has moved on since the commit was made.
    pub fn merge_pending(&mut self, pending: PendingCommit) -> Result<(), Error> {
        self.merge(pending.staged)
    }
}

/// What the path of a commit gives to whom.
#[derive(Debug)]
pub(super) struct PathSecrets {
    commit_secret: Secret,
    for_added: Vec<Option<Secret>>,
    keys: TreeKeys,
}

impl PathSecrets {
    pub(super) fn of(fresh: FreshPath, added: &[LeafIndex]) -> Self {
        Self {
            commit_secret: fresh.commit_secret().clone(),
            for_added: added.iter().map(|leaf| fresh.secret_for(*leaf).cloned()).collect(),
            keys: fresh.into_keys(),
        }
    }
}

impl PendingCommit {
    /// Derives the new epoch and completes the message with its tags.
    pub(super) fn confirm(
        group: &PublicGroup,
        unconfirmed: Unconfirmed,
        path: PathSecrets,
        init: &Secret,
        membership: Option<&Secret>,
    ) -> Result<Self, Error> {
        let context = unconfirmed.context().to_bytes();
        let joiner = JoinerSecret::derive(init, &path.commit_secret, &context)?;
        let member = joiner.member(&psk_secret(&[])?);
        let epoch = member.epoch(&context)?;
        let tag = epoch.secrets.confirmation_tag(unconfirmed.context());
        let public = unconfirmed.confirm(tag);
        let AuthenticatedContent { content, auth, .. } = public.commit().content().clone();
        let message = match membership {
            Some(key) => PublicMessage::protect(content, auth, key, group.context())?,
            None => PublicMessage { content, auth, membership_tag: None },
        };
        let message = MlsMessage::Public(Box::new(message)).to_bytes();
        let PathSecrets { for_added, keys, .. } = path;
        let staged = StagedCommit { public, keys, epoch };
        Ok(Self { message, staged, joiner, member, path_secrets: for_added })
    }

    /// The commit as an encoded MLSMessage; these bytes and no others are what to send.
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// The public side.
    pub fn public(&self) -> &StagedPublic {
        &self.staged.public
    }

    /// `MLS-Exporter` of the epoch that the commit starts.
    ///
    /// # Errors
    /// [`Error::Exhausted`] for more than 8,160 bytes.
    pub fn export(&self, label: &str, context: &[u8], len: usize) -> Result<Secret, Error> {
        self.staged.epoch.secrets.export(label, context, len)
    }

    /// The external key of the epoch that the commit starts.
    ///
    /// # Errors
    /// [`Error::Internal`] only.
    pub fn external_pub(&self) -> Result<HpkePublicKey, Error> {
        Ok(self.staged.epoch.secrets.external_key()?.public())
    }

    /// Our GroupInfo of the new epoch, signed.
    pub fn group_info(&self, extensions: Extensions, signer: &SignatureKey) -> GroupInfo {
        let mut info = self.staged.public.group_info(extensions, Vec::new());
        info.sign(signer);
        info
    }

    /// The Welcome for all whom the commit adds, with this GroupInfo.
    ///
    /// # Errors
    /// [`Error::InvalidGroupInfo`] if `info` is of another epoch, [`Error::InvalidKey`] if an init
    /// key is none.
    pub fn welcome(&self, info: &GroupInfo, rng: &mut impl CryptoRng) -> Result<Welcome, Error> {
        ensure(info.context == *self.staged.public.context(), Error::InvalidGroupInfo)?;
        let joiner_secret = &self.joiner.0;
        let secrets = self.staged.public.commit().adds().iter().zip(&self.path_secrets);
        let secrets = secrets.map(|(package, path_secret)| {
            let (joiner_secret, path_secret) = (joiner_secret.clone(), path_secret.clone());
            (package, GroupSecrets { joiner_secret, path_secret, psks: Vec::new() })
        });
        Welcome::seal(info, &self.member, secrets, rng)
    }

    /// Joins by the commit: `public` is the state that it was made on.
    ///
    /// # Errors
    /// [`Error::WrongEpoch`] if it is another one.
    pub fn into_group(self, mut public: PublicGroup) -> Result<Group, Error> {
        public.merge(self.staged.public)?;
        Ok(Group::new(public, self.staged.keys, self.staged.epoch))
    }

    /// Everything that [`PendingCommit::load`] needs, secrets included.
    pub fn to_bytes(&self) -> Vec<u8> {
        let saved = SavedCommit {
            message: self.message.clone(),
            joiner: self.joiner.0.clone(),
            member: self.member.0.clone(),
            keys: self.staged.keys.clone(),
            path_secrets: self.path_secrets.clone(),
        };
        pack(VERSION, &saved)
    }

    /// Takes up a saved commit; `public` is the state that it was made on.
    ///
    /// # Errors
    /// [`Error::CorruptState`] if the bytes are strange or belong to another state.
    pub fn load(public: &PublicGroup, bytes: &[u8]) -> Result<Self, Error> {
        unpack(VERSION, bytes)
            .map_err(Error::from)
            .and_then(|saved| Self::load_saved(public, saved))
            .map_err(|_| Error::CorruptState)
    }

    fn load_saved(group: &PublicGroup, saved: SavedCommit) -> Result<Self, Error> {
        let MlsMessage::Public(message) = MlsMessage::decode_exact(&saved.message)? else {
            return Err(Error::CorruptState);
        };
        let public = group.stage(group.verify_commit(&message)?)?;
        let member = MemberSecret(saved.member);
        let epoch = member.epoch(&public.context().to_bytes())?;
        epoch.secrets.verify_confirmation_tag(public.context(), public.confirmation_tag())?;
        let keys = saved.keys;
        ensure(keys.belong_to(public.tree(group)), Error::CorruptState)?;
        Ok(Self {
            message: saved.message,
            staged: StagedCommit { public, keys, epoch },
            joiner: JoinerSecret(saved.joiner),
            member,
            path_secrets: saved.path_secrets,
        })
    }
}

#[derive(Debug)]
struct SavedCommit {
    message: Vec<u8>,
    joiner: Secret,
    member: Secret,
    keys: TreeKeys,
    path_secrets: Vec<Option<Secret>>,
}

codec_struct!(SavedCommit { message, joiner, member, keys, path_secrets });
