//! The epochs that a fold went through: what it has in common with what this device knew, and what
//! of the lost changes it holds after all.

use std::collections::{BTreeSet, VecDeque};

use corncrake_core::{
    conversation::{CommitReport, Conversation},
    id::AccountId,
    seal::record::Anchor,
};

use super::again::{Decided, Done, brought_in, changed_roles, taken_out};
use crate::{engine::chats::Chat, host::Timestamp};

/// How many of the newest epochs are remembered.
const EPOCHS: usize = 4096;

/// The epochs of a fold, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Trail(VecDeque<Epoch>);

/// An epoch, and what the commit with which it began has done.
#[derive(Debug)]
struct Epoch {
    anchor: Anchor,
    /// Accounts that it brought in.
    added: Vec<AccountId>,
    /// Accounts of which it left nothing.
    removed: Vec<AccountId>,
    /// Accounts to which it gave a role.
    roles: BTreeSet<AccountId>,
    /// Whether it gave a title.
    title: bool,
}

impl Epoch {
    fn new(fold: &Conversation) -> Self {
        let (added, removed, roles) = (Vec::new(), Vec::new(), BTreeSet::new());
        Self { anchor: anchor_of(fold), added, removed, roles, title: false }
    }

    fn of_commit(fold: &Conversation, report: &CommitReport) -> Self {
        let mut epoch = Self::new(fold);
        epoch.added = brought_in(fold, report);
        epoch.removed = taken_out(fold, report);
        if let Some((old, new)) = report.context_change.as_deref() {
            epoch.roles = changed_roles(old, new);
            epoch.title = old.title != new.title;
        }
        epoch
    }
}

impl Trail {
    /// The epoch with which a fold begins.
    pub(in crate::engine::chats) fn begin(fold: &Conversation) -> Self {
        Self([Epoch::new(fold)].into())
    }

    /// The epoch with which the fold began.
    pub(in crate::engine::chats) fn first(&self) -> u64 {
        self.0.front().map_or(0, |epoch| epoch.anchor.epoch)
    }

    /// The fold has read a commit that counts.
    pub(in crate::engine::chats) fn note(&mut self, fold: &Conversation, report: &CommitReport) {
        if self.0.len() == EPOCHS {
            self.0.pop_front();
        }
        self.0.push_back(Epoch::of_commit(fold, report));
    }
}

impl Chat {
    /// A fold has become the chat's: of what is owed again, what was done before the newest epoch
    /// that both know, or since by others, is owed no more. Gives what of it the fold holds.
    pub(in crate::engine::chats) fn settle_owed(&mut self, trail: &Trail) -> Done {
        let epochs = trail.0.iter().enumerate().rev();
        let newest_known =
            epochs.filter_map(|(at, epoch)| Some((at, self.place_of(&epoch.anchor)?)));
        let since = match newest_known.into_iter().next() {
            Some((at, number)) => {
                self.owe_replaced(number);
                at + 1
            }
            None => {
                self.owe_own_replaced();
                0
            }
        };
        let since: Vec<_> = trail.0.iter().skip(since).collect();
        if !since.is_empty() {
            let back: Vec<_> = since.iter().flat_map(|epoch| &epoch.added).copied().collect();
            self.are_back(&back);
            self.are_found_again(&back);
            self.others_decided(&decided(&since));
        }
        let there = self.owed_and_there();
        self.row.owed_again.are_there(&there);
        there
    }

    /// The same for a commit that was read and has done this.
    pub(in crate::engine::chats) fn settle_owed_after(&mut self, done: &Done, now: Timestamp) {
        if !self.row.owed_again.is_nothing() {
            self.settle_epoch(done);
            self.is_given_anew(done);
        }
        self.are_added_again(done, now);
    }

    fn settle_epoch(&mut self, done: &Done) {
        let known = self.conversation.as_ref().and_then(|at| self.place_of(&anchor_of(at)));
        match known {
            Some(number) => self.owe_replaced(number),
            None => self.are_back(&done.brought_in()),
        }
    }

    /// The newest kept place in an epoch.
    fn place_of(&self, epoch: &Anchor) -> Option<u64> {
        let mut kept = self.kept.iter().rev();
        Some(*kept.find(|(_, kept)| kept.anchor == *epoch)?.0)
    }
}

fn decided(epochs: &[&Epoch]) -> Decided {
    let mut decided = Decided::default();
    let mut added = BTreeSet::new();
    for epoch in epochs {
        // Who was in before may have been removed again because the server had lost that.
        decided.removed.extend(epoch.removed.iter().filter(|who| added.contains(*who)));
        added.extend(epoch.added.iter().copied());
        decided.roles.extend(&epoch.roles);
        decided.title |= epoch.title;
    }
    decided
}

/// The epoch that a conversation is in.
pub(in crate::engine::chats) fn anchor_of(conversation: &Conversation) -> Anchor {
    let at = conversation.anchor();
    Anchor { epoch: at.epoch, interim: at.transcript }
}
