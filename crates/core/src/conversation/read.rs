//! Reading a log: each entry in its turn, the same verdict for every reader.

use super::entry::{Entry, EntryKind, Tail};
use super::handover::Handover;
use super::knock::ClosedLog;
use super::reading::{Cause, CommitReport, Outcome, OwnEntry, Reading, SkipReason};
use super::verdict::{Judged, judge};
use super::{Conversation, Standing};
use crate::id::EntryId;
use crate::mls;
use crate::mls::codec::Decode;
use crate::mls::framing::{ContentType, MlsMessage, PublicMessage};
use crate::mls::group::PendingCommit;
use crate::mls::psk;
use crate::mls::public_group::{CommitSender, StagedPublic};

/// One entry as it came from the log.
#[derive(Clone, Copy, Debug)]
pub struct LogItem<'a> {
    /// Its position.
    pub position: u64,
    /// The hash of its sealed bytes.
    pub id: EntryId,
    /// The kind of append that carried it.
    pub kind: EntryKind,
    /// What was in its envelope, if that opened.
    pub inner: Option<&'a [u8]>,
    /// What we know of it if the inner bytes are our own.
    pub own: Option<OwnEntry<'a>>,
}

impl Conversation {
    /// Takes in the next entry of the log. Entries come in the order of their positions; one that
    /// was read before is ignored.
    pub fn read(&mut self, item: LogItem<'_>) -> Reading {
        if item.position <= self.cursor.position {
            return Reading::Ignored;
        }
        self.cursor.position = item.position;
        self.unsaved.cursor = true;
        if item.kind == EntryKind::Commit {
            self.cursor.newest_commit = (item.position, item.id);
        }
        let was_closed = self.facts.closed;
        let entry = match item.inner.map(Entry::decode) {
            None => Err(SkipReason::Envelope),
            Some(Err(_)) => Err(SkipReason::Malformed),
            Some(Ok(entry)) if entry.kind() != item.kind => Err(SkipReason::WrongKind),
            Some(Ok(entry)) => Ok(entry),
        };
        let judged = match &entry {
            Ok(Entry::Commit(commit)) if !was_closed => {
                Some(judge(self.public(), &self.roster, &self.context, commit))
            }
            _ => None,
        };
        if let Some(Ok(judged)) = judged {
            return Reading::Commit(Box::new(self.turn(&item, judged)));
        }
        let reading = match (entry, judged) {
            (_, Some(Err(reason))) | (Err(reason), _) => Reading::Skipped(reason),
            (Ok(Entry::Knock(knock)), _) => Reading::Knock(Box::new(knock)),
            (Ok(Entry::Answer(answer)), _) => Reading::Answer(Box::new(answer)),
            (Ok(_), _) if was_closed => Reading::Ignored,
            (Ok(Entry::Message(message)), _) => self.read_message(&item, &message),
            (Ok(Entry::Handover(handover)), _) => self.read_handover(&handover),
            (Ok(Entry::Commit(_) | Entry::AccountRecord(_)), _) => {
                Reading::Skipped(SkipReason::Misplaced)
            }
        };
        // Those who hold the next log's seed leave at the handover: what comes after it is in
        // nobody's view.
        if !was_closed {
            self.view.advance(self.facts.log, item.position, item.id);
        }
        reading
    }

    fn read_message(&mut self, item: &LogItem<'_>, message: &[u8]) -> Reading {
        if let Some(OwnEntry::Message) = item.own {
            return Reading::Own;
        }
        let Ok(MlsMessage::Private(message)) = MlsMessage::decode_exact(message) else {
            return Reading::Skipped(SkipReason::Malformed);
        };
        let public = self.standing.public();
        if message.group_id != public.group_id() {
            return Reading::Skipped(SkipReason::Mls(mls::Error::WrongGroup));
        }
        if message.epoch != public.epoch() {
            return Reading::Skipped(SkipReason::Mls(mls::Error::WrongEpoch));
        }
        if message.content_type != ContentType::Application {
            return Reading::Skipped(SkipReason::WrongKind);
        }
        let Standing::Member(group) = &mut self.standing else {
            return Reading::Unreadable { sender: None, cause: Cause::NotMember };
        };
        let received = match group.decrypt(&message) {
            Ok(received) => received,
            Err(error) => {
                let cause = match error {
                    mls::Error::CopiedState => Cause::UnknownOwn,
                    _ => Cause::Undecryptable,
                };
                return Reading::Unreadable { sender: None, cause };
            }
        };
        let Some(device) = self.roster.device(received.sender.get()) else {
            return Reading::Skipped(SkipReason::Mls(mls::Error::InvalidSender));
        };
        let said = &received.authenticated_data;
        let place = (self.facts.log, item.position);
        Reading::Message {
            sender: device.sender,
            view_alarm: self.view.alarms(said, place, device.sender.account),
            content: received.content,
        }
    }

    fn read_handover(&mut self, handover: &Handover) -> Reading {
        let place = &handover.place;
        let anchor = self.anchor();
        let names_newest = place.group == self.id()
            && place.log == self.facts.log
            && place.epoch == anchor.epoch
            && place.transcript == anchor.transcript;
        // A reader who comes in at a state can't tell whether a handover was due, so whether it was
        // is no part of this.
        let lies_here = self.facts.counted > 0;
        let signer = self.roster.device(place.leaf.get());
        let signer = signer.filter(|device| self.may_hand_over(device));
        let key = self.public().leaf(place.leaf).map(|leaf| &leaf.signature_key);
        let (Some(signer), Some(key), true, true) = (signer, key, names_newest, lies_here) else {
            return Reading::Skipped(SkipReason::Handover);
        };
        if !handover.is_signed_by(key) {
            return Reading::Skipped(SkipReason::Handover);
        }
        let by = signer.sender;
        self.facts.closed = true;
        self.unsaved.facts = true;
        Reading::Closed {
            by,
            next_seed: self.successor_seed(),
            closed: Box::new(self.closed_log()),
        }
    }

    fn closed_log(&self) -> ClosedLog {
        let own = match &self.standing {
            Standing::Member(group) => Some(group.own_leaf().get()),
            Standing::Outside(_) => None,
        };
        let before = self.roster.all().map(|device| device.sender.leaf);
        let before = before.take_while(|leaf| Some(*leaf) != own).count();
        ClosedLog {
            group: self.id(),
            log: self.facts.log,
            next: self.facts.tail.next,
            accounts: self.roster.accounts().map(|(account, _)| account).collect(),
            revoked: self.context.revoked.clone(),
            rank: u32::try_from(before).unwrap_or(u32::MAX),
        }
    }

    /// Moves to the epoch of a commit that counts, with its secrets or without.
    fn turn(&mut self, item: &LogItem<'_>, judged: Judged) -> CommitReport {
        let log = self.facts.log;
        let said = &judged.message.content.authenticated_data;
        let author = judged.author.account;
        let view_alarm = self.view.alarms(said, (log, item.position), author);
        let pending = match item.own {
            Some(OwnEntry::Commit(bytes)) => Some(bytes),
            _ => None,
        };
        let gone: Vec<_> = judged.removed.iter().map(|sender| sender.leaf).collect();
        let outcome =
            self.enter_epoch(judged.staged, &judged.message, pending, &gone, &judged.tail);

        self.view.turn(log, item.position, item.id);
        let changed = self.context != judged.context;
        let old = changed.then(|| core::mem::replace(&mut self.context, judged.context));
        self.roster.apply(judged.turn);
        self.facts.counted = item.position;
        self.facts.author = judged.author;
        self.facts.tail = judged.tail;
        self.facts.tail_true = match outcome {
            Outcome::Finished { tail_true } => Some(tail_true),
            _ => None,
        };
        self.facts.handover_due |= judged.removes_others;
        // Every commit of our own but one of adds alone brings a path, and that one too.
        self.facts.needs_path &= pending.is_none();
        self.facts.commits_since_state = self.facts.commits_since_state.saturating_add(1);
        self.unsaved.facts = true;
        CommitReport {
            author: judged.author,
            own: pending.is_some(),
            external: judged.external,
            added: judged.added,
            removed: judged.removed,
            context_change: old.map(|old| Box::new((old, self.context.clone()))),
            outcome,
            handover_due: self.facts.handover_due,
            view_alarm,
        }
    }

    fn enter_epoch(
        &mut self,
        staged: StagedPublic,
        message: &PublicMessage,
        pending: Option<&[u8]>,
        gone: &[u32],
        tail: &Tail,
    ) -> Outcome {
        let own = pending.and_then(|bytes| {
            let own = PendingCommit::load(self.standing.public(), bytes).ok()?;
            let here = staged.interim_transcript_hash();
            (own.public().interim_transcript_hash() == here).then_some(own)
        });
        let is_external = staged.commit().sender() == CommitSender::External;
        match (&mut self.standing, own) {
            (Standing::Member(group), Some(pending)) if !is_external => {
                match group.merge_pending(pending) {
                    Ok(()) => self.finished(tail),
                    Err(error) => self.fold_on(staged, Outcome::LockedOut(error)),
                }
            }
            (standing, Some(pending)) => match pending.into_group(standing.public().clone()) {
                Ok(group) => {
                    self.unsaved.drop_secrets();
                    self.standing = Standing::Member(Box::new(group));
                    self.finished(tail)
                }
                Err(error) => self.fold_on(staged, Outcome::LockedOut(error)),
            },
            (Standing::Outside(public), _) => {
                // The verdict staged it on this very state.
                let _ = public.merge(staged);
                Outcome::Outside
            }
            (Standing::Member(group), _) => {
                if gone.contains(&group.own_leaf().get()) {
                    return self.fold_on(staged, Outcome::RemovedMe);
                }
                match group.finish(staged, message, &psk::none) {
                    Ok(finished) => {
                        // It was staged on this very state.
                        let _ = group.merge(finished);
                        self.finished(tail)
                    }
                    Err(unfinished) => {
                        let outcome = Outcome::LockedOut(unfinished.error);
                        self.fold_on(unfinished.staged, outcome)
                    }
                }
            }
        }
    }

    /// Gives up the own leaf's secrets, as one does whose store turns out to be a copy: from now on
    /// this device folds, and comes back by [`rejoin`](Self::rejoin).
    pub fn step_out(&mut self) {
        if self.is_member() {
            let public = self.public().clone();
            self.unsaved.drop_secrets();
            self.facts.tail_true = None;
            self.unsaved.facts = true;
            self.standing = Standing::Outside(Box::new(public));
        }
    }

    /// Goes on without secrets; they are gone from memory and, with the next save, from the store.
    fn fold_on(&mut self, staged: StagedPublic, outcome: Outcome) -> Outcome {
        let mut public = self.public().clone();
        // The verdict staged it on this very state.
        let _ = public.merge(staged);
        self.unsaved.drop_secrets();
        self.standing = Standing::Outside(Box::new(public));
        outcome
    }

    /// Compares what a commit announced with what its epoch's secrets give.
    pub(super) fn finished(&self, tail: &Tail) -> Outcome {
        let Standing::Member(group) = &self.standing else {
            return Outcome::Outside;
        };
        let next = self.successor_seed().map(|seed| seed.next_check(self.id().as_bytes()));
        let tail_true =
            next == Some(tail.next) && group.external_pub().as_ref() == Ok(&tail.external_pub);
        Outcome::Finished { tail_true }
    }
}
