//! Writing: messages, commits, handovers. Nothing changes until it is read back from the log, the
//! sender's ratchet aside.

use rand_core::CryptoRng;

use super::change::Change;
use super::entry::{CommitEntry, Entry, Tail};
use super::handover::{Handover, Place};
use super::join::{self, Claimed};
use super::knock::{Knock, KnockKey};
use super::state::{group_extensions, info_extensions};
use super::verdict::judge;
use super::{Conversation, Error, Me, NEXT_LOG, Standing, State, announce};
use crate::crypto::Secret;
use crate::error::ensure;
use crate::id::DeviceId;
use crate::identity::MAX_DEVICES;
use crate::mls::codec::Encode;
use crate::mls::framing::MlsMessage;
use crate::mls::group::{CommitPlan, ExternalJoin, Group, PathChoice, PendingCommit};
use crate::mls::public_group::PublicGroup;
use crate::mls::tree_math::LeafIndex;

/// A commit of our own, ready to be appended.
#[derive(Clone, Debug)]
pub struct OwnCommit {
    /// The entry's inner bytes.
    pub inner: Vec<u8>,
    /// The secrets of the epoch that it starts; stored before the append and given back to
    /// [`Conversation::read`] when the entry comes from the log.
    pub pending: Secret,
    /// The Welcome to lie beside it, if it adds anybody.
    pub welcome: Option<Vec<u8>>,
    /// Those whom it adds; each is owed a notice.
    pub added: Vec<Claimed>,
    entry: CommitEntry,
}

impl Conversation {
    /// Encrypts a message in the newest epoch: the entry's inner bytes. The changed parts must be
    /// stored before the bytes leave.
    ///
    /// # Errors
    /// [`Error::NotMember`], [`Error::NotAdmitted`] after leaving, [`Error::Closed`], or
    /// [`Error::NeedsPath`] where a commit with a fresh path has to come first.
    pub fn seal_message(
        &mut self,
        content: &[u8],
        me: &Me<'_>,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, Error> {
        self.may_write(me)?;
        let Standing::Member(group) = &mut self.standing else {
            return Err(Error::NotMember);
        };
        ensure(!self.facts.needs_path && self.facts.tail_true == Some(true), Error::NeedsPath)?;
        let said = self.view.say(self.facts.log, self.cursor.position);
        let message = group.encrypt(content, &said, me.device_key, rng)?;
        Ok(Entry::Message(message).encode())
    }

    /// Makes a commit.
    ///
    /// # Errors
    /// [`Error::AlreadySo`] if nothing would change, [`Error::NotAllowed`] and others if the commit
    /// would count for nobody.
    pub fn commit(
        &self,
        change: Change,
        me: &Me<'_>,
        rng: &mut impl CryptoRng,
    ) -> Result<OwnCommit, Error> {
        ensure(!change.leave || !self.context.leaving.contains(&me.account), Error::AlreadySo)?;
        self.may_write(me)?;
        let Standing::Member(group) = &self.standing else {
            return Err(Error::NotMember);
        };
        let context = self.context_after(&change, me)?;
        let removes = self.leaves_to_remove(&change, me)?;
        let standing = |device: &Claimed| {
            let leaf = self.roster.leaf_of_key(&device.device.key);
            leaf.is_some_and(|leaf| !removes.contains(&leaf))
        };
        let added: Vec<_> = change.add.into_iter().filter(|device| !standing(device)).collect();
        let same = context == self.context && removes.is_empty() && added.is_empty();
        ensure(!same || change.fresh_path, Error::AlreadySo)?;
        let own = self.public().leaf(group.own_leaf());
        let own = own.ok_or(Error::NotMember)?;
        let plan = CommitPlan {
            extensions: (context != self.context).then(|| group_extensions(&context)),
            removes: removes.into_iter().map(LeafIndex::new).collect(),
            adds: added.iter().map(|device| device.package.clone()).collect(),
            path: PathChoice::Always,
            leaf: join::renewed_leaf(own, me, self.public().suite()),
            authenticated_data: self.view.say(self.facts.log, self.cursor.position),
        };
        let pending = group.commit(plan, me.device_key, rng)?;
        self.complete(&pending, added, me, rng)
    }

    /// Comes in, or back in, by an external commit to the folded epoch. A leaf of this device goes
    /// with it; where the account has ten other devices, `spare` goes. The order of leaves says
    /// nothing about devices, a newcomer takes the first blank one: so the caller has to choose.
    ///
    /// # Errors
    /// [`Error::NotAdmitted`] if the own account is not in the tree or is leaving,
    /// [`Error::Revoked`] if this device's key was revoked, [`Error::Closed`],
    /// [`Error::Refused`] if the account has ten other devices and `spare` is none of them.
    pub fn rejoin(
        &self,
        me: &Me<'_>,
        spare: Option<DeviceId>,
        rng: &mut impl CryptoRng,
    ) -> Result<OwnCommit, Error> {
        self.may_write(me)?;
        let key = *me.device_key.public().as_bytes();
        ensure(!self.context.revoked.contains(&key), Error::Revoked)?;
        ensure(self.roster.has_account(me.account), Error::NotAdmitted)?;
        let own: Vec<_> = self.roster.devices(me.account).map(|device| device.sender).collect();
        let spare = own.iter().find(|own| Some(own.device) == spare).map(|own| own.leaf);
        let spare = spare.filter(|_| own.len() >= MAX_DEVICES);
        let remove = self.roster.leaf_of_key(&key).or(spare);
        let join = ExternalJoin {
            leaf: join::leaf_content(me, self.public().suite()),
            remove: remove.map(LeafIndex::new),
            authenticated_data: self.view.say(self.facts.log, self.cursor.position),
        };
        let external_pub = &self.facts.tail.external_pub;
        let pending = Group::join_external(self.public(), external_pub, join, me.device_key, rng)?;
        self.complete(&pending, Vec::new(), me, rng)
    }

    /// Tree and GroupInfo after an own commit, to lie beside it.
    ///
    /// # Errors
    /// [`Error::Refused`] if the conversation has moved on since the commit was made.
    pub fn state_after(&self, commit: &OwnCommit) -> Result<State, Error> {
        let judged = judge(self.public(), &self.roster, &self.context, &commit.entry)?;
        let mut public = self.public().clone();
        public.merge(judged.staged)?;
        let author = LeafIndex::new(judged.author.leaf);
        Ok(state_of(&public, author, &commit.entry.tail))
    }

    /// Tree and GroupInfo of the newest epoch, to open the next log with.
    pub fn state(&self) -> State {
        let author = LeafIndex::new(self.facts.author.leaf);
        state_of(self.public(), author, &self.facts.tail)
    }

    /// Compares a state that lies beside the newest commit, or opens this log, with the truth;
    /// nothing if it lies elsewhere or the epoch has passed.
    pub fn check_state(&mut self, position: u64, state: &[u8]) -> Option<bool> {
        if position != self.facts.counted {
            return None;
        }
        let is_true = self.state().encode() == state;
        if is_true && self.facts.state_at != Some(position) {
            self.facts.state_at = Some(position);
            self.facts.commits_since_state = 0;
            self.unsaved.facts = true;
        }
        Some(is_true)
    }

    /// The handover of the newest commit, if one is due and we may: its entry's inner bytes.
    pub fn handover(&self, me: &Me<'_>) -> Option<Vec<u8>> {
        let Standing::Member(group) = &self.standing else {
            return None;
        };
        let own = self.roster.device(group.own_leaf().get())?;
        let due = self.facts.handover_due && !self.facts.closed && self.facts.counted > 0;
        if !due || self.facts.tail_true != Some(true) || !self.may_hand_over(own) {
            return None;
        }
        let anchor = self.anchor();
        let place = Place {
            group: self.id(),
            log: self.facts.log,
            epoch: anchor.epoch,
            transcript: anchor.transcript,
            leaf: group.own_leaf(),
        };
        Some(Entry::Handover(Handover::sign(place, me.device_key)).encode())
    }

    /// A knock at this log: the entry's inner bytes, and the key to its answers.
    pub fn knock(&self, me: &Me<'_>, rng: &mut impl CryptoRng) -> (Vec<u8>, KnockKey) {
        Knock::make(self.id(), self.facts.log, me, rng)
    }

    fn may_write(&self, me: &Me<'_>) -> Result<(), Error> {
        ensure(!self.facts.closed, Error::Closed)?;
        ensure(!self.context.leaving.contains(&me.account), Error::NotAdmitted)
    }

    /// Announces the new epoch's keys, signs its GroupInfo, and refuses what the verdict would.
    fn complete(
        &self,
        pending: &PendingCommit,
        added: Vec<Claimed>,
        me: &Me<'_>,
        rng: &mut impl CryptoRng,
    ) -> Result<OwnCommit, Error> {
        let id = self.id();
        let exported = pending.export(NEXT_LOG, id.as_bytes(), 32)?;
        let (tail, info) = announce(id, &exported, pending.external_pub()?, me, |extensions| {
            pending.public().group_info(extensions, Vec::new())
        })?;
        let entry = CommitEntry { message: pending.message().to_vec(), tail };
        judge(self.public(), &self.roster, &self.context, &entry)?;
        let welcome = if added.is_empty() {
            None
        } else {
            Some(MlsMessage::Welcome(pending.welcome(&info, rng)?).to_bytes())
        };
        Ok(OwnCommit {
            inner: Entry::Commit(entry.clone()).encode(),
            pending: Secret::from(pending.to_bytes()),
            welcome,
            added,
            entry,
        })
    }
}

fn state_of(public: &PublicGroup, author: LeafIndex, tail: &Tail) -> State {
    State {
        info: public.group_info(info_extensions(tail), author, tail.signature.clone()),
        tree: public.tree().clone(),
    }
}
