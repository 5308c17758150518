//! Another member's commit, as far as it takes secrets (RFC 9420 §12.4.2).

use super::Group;
use crate::crypto::Secret;
use crate::error::ensure;
use crate::mls::Error;
use crate::mls::codec::Encode;
use crate::mls::framing::PublicMessage;
use crate::mls::key_schedule::{JoinerSecret, NewEpoch, open_external_init};
use crate::mls::psk::{self, PskSource};
use crate::mls::public_group::StagedPublic;
use crate::mls::treekem::TreeKeys;

/// A commit that can be merged: public side and secrets of the epoch that it starts.
#[derive(Clone, Debug)]
pub struct StagedCommit {
    pub(super) public: StagedPublic,
    pub(super) keys: TreeKeys,
    pub(super) epoch: NewEpoch,
}

/// A commit that counts but that we cannot finish, handed back to fold on without secrets.
#[derive(Debug)]
pub struct Unfinished {
    /// The public side.
    pub staged: StagedPublic,
    /// Why not.
    pub error: Error,
}

impl Group {
    /// Derives the secrets of the epoch that a commit starts, and checks its membership tag, our
    /// path secret and its confirmation tag.
    ///
    /// `message` is what was verified and staged; `psks` finds pre-shared keys
    /// ([`psk::none`] if there are none).
    ///
    /// # Errors
    /// The public side with one of [`Error::Removed`], [`Error::InvalidMembershipTag`],
    /// [`Error::Decryption`], [`Error::InvalidKey`], [`Error::MissingPsk`],
    /// [`Error::InvalidConfirmationTag`], or [`Error::InvalidPlan`] if `message` is another one.
    pub fn finish(
        &self,
        staged: StagedPublic,
        message: &PublicMessage,
        psks: &dyn Fn(&PskSource) -> Option<Secret>,
    ) -> Result<StagedCommit, Box<Unfinished>> {
        let content = staged.commit().content();
        let checked = if content.content == message.content && content.auth == message.auth {
            message.verify_membership_tag(&self.secrets.membership, self.public.context())
        } else {
            Err(Error::InvalidPlan)
        };
        match checked {
            Ok(()) => self.finish_decrypted(staged, psks),
            Err(error) => Err(Box::new(Unfinished { staged, error })),
        }
    }

    /// Checks the membership tag of a message that is no commit, such as another client's proposal.
    ///
    /// # Errors
    /// [`Error::InvalidMembershipTag`].
    pub fn verify_membership(&self, message: &PublicMessage) -> Result<(), Error> {
        message.verify_membership_tag(&self.secrets.membership, self.public.context())
    }

    /// As [`Group::finish`], for a commit that came encrypted and so has no membership tag.
    ///
    /// # Errors
    /// As [`Group::finish`].
    pub fn finish_decrypted(
        &self,
        staged: StagedPublic,
        psks: &dyn Fn(&PskSource) -> Option<Secret>,
    ) -> Result<StagedCommit, Box<Unfinished>> {
        match self.derive(&staged, psks) {
            Ok((keys, epoch)) => Ok(StagedCommit { public: staged, keys, epoch }),
            Err(error) => Err(Box::new(Unfinished { staged, error })),
        }
    }

    /// Moves to the epoch that a finished commit starts.
    ///
    /// # Errors
    /// [`Error::WrongEpoch`] if the group has moved on since.
    pub fn merge(&mut self, commit: StagedCommit) -> Result<(), Error> {
        self.public.merge(commit.public)?;
        self.enter(commit.keys, commit.epoch);
        Ok(())
    }

    fn derive(
        &self,
        staged: &StagedPublic,
        psks: &dyn Fn(&PskSource) -> Option<Secret>,
    ) -> Result<(TreeKeys, NewEpoch), Error> {
        let commit = staged.commit();
        ensure(!commit.removes().contains(&self.own_leaf()), Error::Removed)?;
        let view = staged.tree(&self.public);
        let (keys, commit_secret) = match commit.path() {
            Some(path) => {
                let context = staged.provisional_context().to_bytes();
                self.keys.open_path(view, commit.author(), &path.nodes, commit.added(), &context)?
            }
            None => (self.keys.without_path(view), Secret::zeros(self.public.suite().hash_len())),
        };
        let leaf = view.leaf(self.own_leaf()).ok_or(Error::Removed)?;
        ensure(keys.leaf().matches(&leaf.encryption_key), Error::InvalidKey)?;
        let init = match commit.external_init() {
            Some(kem_output) => open_external_init(&self.secrets.external_key()?, kem_output)?,
            None => self.secrets.init.clone(),
        };
        let psk_secret = psk::gather(&commit.proposals().psks, psks)?;
        let context = staged.context().to_bytes();
        let joiner = JoinerSecret::derive(&init, &commit_secret, &context)?;
        let epoch = joiner.member(&psk_secret).epoch(&context)?;
        epoch.secrets.verify_confirmation_tag(staged.context(), staged.confirmation_tag())?;
        Ok((keys, epoch))
    }
}
