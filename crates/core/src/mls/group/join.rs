//! Coming into a group by Welcome (RFC 9420 §12.4.3.1) or by external commit (§12.4.3.2).

use rand_core::CryptoRng;

use super::Group;
use super::commit::{PathSecrets, PendingCommit};
use crate::crypto::hpke::{HpkePrivateKey, HpkePublicKey};
use crate::crypto::signature::SignatureKey;
use crate::crypto::{Secret, Suite};
use crate::error::ensure;
use crate::mls::Error;
use crate::mls::codec::Encode;
use crate::mls::framing::WireFormat;
use crate::mls::group_info::GroupInfo;
use crate::mls::key_package::{KeyPackage, KeyPackageKeys};
use crate::mls::key_schedule::{JoinerSecret, MemberSecret, external_init};
use crate::mls::leaf_node::{LeafContent, LeafNode};
use crate::mls::proposal::Proposal;
use crate::mls::psk::{self, PskSource};
use crate::mls::public_group::{CommitSender, PublicGroup};
use crate::mls::tree_math::LeafIndex;
use crate::mls::treekem::TreeKeys;
use crate::mls::welcome::Welcome;

/// A Welcome that has been opened: it says which group and epoch it leads into, and waits for the
/// public state of that epoch.
#[derive(Debug)]
pub struct OpenedWelcome {
    info: GroupInfo,
    member: MemberSecret,
    path_secret: Option<Secret>,
    leaf: LeafNode,
    leaf_key: HpkePrivateKey,
}

impl OpenedWelcome {
    /// Opens a Welcome with the keys of one of our key packages; `psks` finds pre-shared keys
    /// ([`psk::none`] if there are none).
    ///
    /// # Errors
    /// [`Error::NotForUs`], [`Error::Unsupported`], [`Error::MissingPsk`], [`Error::Malformed`] or
    /// [`Error::Decryption`].
    pub fn open(
        welcome: &Welcome,
        package: &KeyPackage,
        keys: &KeyPackageKeys,
        psks: &dyn Fn(&PskSource) -> Option<Secret>,
    ) -> Result<Self, Error> {
        let secrets = welcome.open_secrets(package, &keys.init)?;
        let psk_secret = psk::gather(&secrets.psks, psks)?;
        let member = JoinerSecret(secrets.joiner_secret).member(&psk_secret);
        let info = welcome.open_info(&member)?;
        ensure(Suite::try_from_id(info.context.cipher_suite).is_some(), Error::Unsupported)?;
        ensure(info.context.cipher_suite == package.cipher_suite, Error::Unsupported)?;
        Ok(Self {
            info,
            member,
            path_secret: secrets.path_secret,
            leaf: package.leaf_node.clone(),
            leaf_key: keys.leaf.clone(),
        })
    }

    /// The GroupInfo; its signature has not been verified yet.
    pub fn group_info(&self) -> &GroupInfo {
        &self.info
    }

    /// Joins: `public` is the epoch's public state, folded or taken from the GroupInfo.
    ///
    /// # Errors
    /// [`Error::InvalidGroupInfo`] if the GroupInfo is not what `public` says, or our leaf is not
    /// there; [`Error::InvalidSignature`], [`Error::InvalidKey`] or
    /// [`Error::InvalidConfirmationTag`].
    pub fn join(self, public: PublicGroup) -> Result<Group, Error> {
        let Self { info, member, path_secret, leaf, leaf_key } = self;
        ensure(info.context == *public.context(), Error::InvalidGroupInfo)?;
        ensure(info.confirmation_tag == *public.confirmation_tag(), Error::InvalidGroupInfo)?;
        let signer = public.leaf(info.signer).ok_or(Error::InvalidGroupInfo)?;
        info.verify(&signer.signature_key)?;
        let own = public.leaves().find(|(_, candidate)| **candidate == leaf);
        let (own, _) = own.ok_or(Error::InvalidGroupInfo)?;
        ensure(leaf_key.matches(&leaf.encryption_key), Error::InvalidKey)?;
        let epoch = member.epoch(&info.context.to_bytes())?;
        epoch.secrets.verify_confirmation_tag(&info.context, &info.confirmation_tag)?;
        let keys = match path_secret {
            Some(secret) => {
                TreeKeys::join(public.tree().view(), own, leaf_key, info.signer, &secret)?
            }
            None => TreeKeys::new(own, leaf_key),
        };
        Ok(Group::new(public, keys, epoch))
    }
}

/// How to join by external commit.
#[derive(Clone, Debug)]
pub struct ExternalJoin {
    /// What our leaf shall say.
    pub leaf: LeafContent,
    /// A leaf that goes, as a rule our own old one.
    pub remove: Option<LeafIndex>,
    /// Signed with the commit, readable by all.
    pub authenticated_data: Vec<u8>,
}

impl Group {
    /// Makes a commit that joins the group from outside; [`PendingCommit::into_group`] makes it
    /// final.
    ///
    /// `external_pub` stands in the epoch's GroupInfo. Nobody can tell from outside whether it is
    /// true; if it is false, no member can finish the commit.
    ///
    /// # Errors
    /// [`Error::InvalidKey`], or what the commit's receivers would find wrong with it.
    pub fn join_external(
        public: &PublicGroup,
        external_pub: &HpkePublicKey,
        join: ExternalJoin,
        signer: &SignatureKey,
        rng: &mut impl CryptoRng,
    ) -> Result<PendingCommit, Error> {
        let (kem_output, init) = external_init(external_pub, rng)?;
        let external = Proposal::ExternalInit { kem_output };
        let remove = join.remove.map(Proposal::Remove);
        let proposals = [external].into_iter().chain(remove).collect();
        let draft = public.draft(CommitSender::External, proposals)?;
        let leaf = LeafNode::unsigned(join.leaf, signer.public());
        let (drafted, fresh) = draft.with_path(leaf, signer, rng)?;
        let format = WireFormat::PublicMessage;
        let unconfirmed = drafted.frame(format, join.authenticated_data, signer)?;
        let path = PathSecrets::of(fresh, &[]);
        PendingCommit::confirm(public, unconfirmed, path, &init, None)
    }
}
