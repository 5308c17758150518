//! Who was removed, and was off until the server had lost the log that says so: whoever may remove
//! them tells them.
//!
//! The word is a notice at position 0 of a log that its reader knows, where no commit lies: the group
//! goes on without that account. Only after a loss is it believed.

use core::time::Duration;
use std::collections::BTreeSet;

use corncrake_core::{
    conversation::OPENING,
    id::{AccountId, LogId},
    mls::{codec::Decode, key_package::KeyPackage},
    seal::{envelope::Seed, record::ConversationRecord},
};

use corncrake_wire::LogId as WireLogId;

use crate::{
    engine::{
        State, Step,
        account::ClaimedPackage,
        chats::{
            Chat, closed,
            rows::{Intent, Invitation, Phase, Wish},
        },
    },
    event::{ChatKind, ItemKind},
    host::Timestamp,
};

/// When a word is looked at again while it isn't known whether the server has lost entries.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Invitation {
    /// Whether it says that the reader's account is out.
    pub(in crate::engine::chats) fn says_out(&self) -> bool {
        (self.position, self.entry) == OPENING
    }
}

impl Chat {
    /// Whether this account was removed behind what one of its devices says of the group: that device
    /// was off, and has begun a log again that the server has lost together with the removal.
    pub(in crate::engine::chats) fn was_removed_after(&self, record: &ConversationRecord) -> bool {
        let is_before = |at| record.begins_with < at && record.anchor.epoch <= at;
        record.is_alone && self.row.removed_at.is_some_and(is_before)
    }

    /// Whether an account that isn't in the group is about to be added.
    fn is_to_come(&self, who: AccountId) -> bool {
        let adds = |(_, intent): &(u64, Intent)| match intent {
            Intent::Change(Wish::Add(packages)) => packages.iter().any(|(one, _)| *one == who),
            _ => false,
        };
        self.row.owed_again.adds().any(|one| one == who) || self.intents.iter().any(adds)
    }

    /// Owes an account that isn't in the group the word that it is out, at a log that it knows.
    fn tell_out(&mut self, who: AccountId, seed: Seed, step: &mut Step<'_>) {
        self.row.begin.tell_out(who, seed);
        self.save(step);
        self.wake_by(step.moment);
    }

    /// Whether the word of `by` that the account `me` is out is to be believed; nothing while that
    /// can't be said.
    fn believes_out(&self, by: AccountId, me: AccountId, now: Timestamp) -> Option<bool> {
        if self.row.kind != ChatKind::Group {
            return Some(false);
        }
        let is_lossy = match self.row.phase {
            Phase::Removed | Phase::Left => false,
            Phase::Inside if !self.caught_up() || self.session.search.is_some() => return None,
            // Others who act in this log may have gone to another one since.
            Phase::Entering(_) | Phase::Waiting | Phase::Inside => self.may_yield(now),
        };
        let here = self.conversation.as_ref().or(self.aside.as_deref());
        let may_remove =
            here.is_some_and(|here| here.has_account(by) && here.context().may_remove(by, me));
        Some(is_lossy && may_remove)
    }
}

impl State {
    /// Somebody who isn't in the group says that it goes on in a log that it has left: they may not
    /// know that they were removed.
    pub(super) fn tell_removed(
        &mut self,
        chat: &mut Chat,
        (who, log): (AccountId, LogId),
        step: &mut Step<'_>,
    ) {
        let may_remove = self.account.me().zip(chat.conversation.as_ref());
        let may_remove =
            may_remove.is_some_and(|(me, here)| here.context().may_remove(me.account, who));
        let seeds = chat.closed.values().map(|closed| &closed.seed);
        let seed =
            seeds.into_iter().find(|seed| closed::log_of(&seed.log_keys()).0 == *log.as_bytes());
        if let Some(seed) = seed.filter(|_| may_remove && !chat.is_to_come(who)).cloned() {
            chat.tell_out(who, seed, step);
        }
    }

    /// Those who came and went in a lost part, removed by this device, may have been off: once for each
    /// loss.
    pub(super) fn tell_gone(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        let Some(me) = self.account.me().map(|me| me.device) else { return };
        let since = chat.row.owed_again.since();
        if chat.session.told_gone == Some(since) {
            return;
        }
        chat.session.told_gone = Some(since);
        let gone: BTreeSet<AccountId> = chat.row.owed_again.gone_by(me).collect();
        let seed = chat.row.seed.clone();
        for who in gone {
            chat.tell_out(who, seed.clone(), step);
        }
    }

    /// The key packages of those who are out have come, and maybe others.
    pub(super) fn say_out(
        &mut self,
        chat: &mut Chat,
        packages: &[ClaimedPackage],
        step: &mut Step<'_>,
    ) {
        for package in packages {
            let is_in = chat.conversation.as_ref().is_none_or(|it| it.has_account(package.account));
            let is_out = !is_in && !chat.is_to_come(package.account);
            let (Some(seed), Some(me), Ok(key_package)) = (
                chat.row.begin.out(&package.account).filter(|_| is_out).cloned(),
                self.account.me(),
                KeyPackage::decode_exact(&package.bytes),
            ) else {
                continue;
            };
            let to = (&key_package, package.inbox);
            if let Some(letter) = chat.notice_in((seed, None), me, to, OPENING, step) {
                let letter = (letter, Some((package.account, package.device)));
                self.keep_letter(letter, (step.now, None), step);
            }
        }
        let told: Vec<AccountId> = packages.iter().map(|package| package.account).collect();
        chat.row.begin.told_out(&told);
    }

    /// A word says that this account is out of the group that this log carried.
    pub(in crate::engine::chats) fn out_word_came(
        &mut self,
        word: Invitation,
        log: WireLogId,
        step: &mut Step<'_>,
    ) {
        let is_of = |chat: &&Chat| {
            let mut closed = chat.closed.values().map(|closed| closed::log_of(&closed.keys()));
            chat.log() == log || closed.any(|closed| closed == log)
        };
        let Some(id) = self.chats.all.values().find(is_of).map(|chat| chat.row.id) else {
            return self.notice_done(word.row, step);
        };
        self.with_chat(id, step, |state, chat, step| {
            chat.session.out_word = Some(word);
            state.mind_out_word(chat, step);
        });
    }

    /// Believes a word that this account is out, or drops it, as soon as that can be said.
    pub(in crate::engine::chats) fn mind_out_word(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        let (Some(word), Some(me)) = (&chat.session.out_word, self.account.me()) else {
            return;
        };
        let (by, me) = (word.inviter, me.account);
        let Some(believes) = chat.believes_out(by, me, step.now) else {
            return chat.wake_by(step.moment.after(LOOK_AGAIN));
        };
        let Some(word) = chat.session.out_word.take() else { return };
        self.notice_done(word.row, step);
        if believes {
            self.package_done(&word.package, step);
            let id = chat.row.id;
            self.chats.entering.retain(|_, enter| enter.id() != Some(id));
            self.tell_item(chat, ItemKind::Removed { by, who: vec![me] }, step);
            self.removed_by(chat, by, step);
        }
    }
}
