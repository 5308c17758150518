//! Invitations: what a notice leads to, and the notices that this device owes.

use core::time::Duration;

use corncrake_core::{
    conversation::{CommitReport, Conversation, Kind, Sender, added, invited},
    id::{AccountId, ConversationId, DeviceId, EntryId, InboxId},
    identity::device_id,
    mls::{
        codec::{Decode, Encode},
        key_package::KeyPackage,
    },
    seal::{
        envelope::{Beside, EntryKind, Seed},
        notice::Notice,
    },
};
use corncrake_wire::{
    LogId, OpenReply, PackageId,
    log::{self, LogEntry},
    open::Deposit,
};

use super::{
    Chat, ChatThen,
    closed::{id_of, log_of},
    enter::{EnterThen, TRY_AGAIN},
    rows::{Goal, Invitation, Phase},
};
use crate::{
    engine::{
        State, Step,
        account::{AccountState, Addressee, Me},
    },
    error::{Error, Refusal},
    event::EventKind,
    host::Timestamp,
    transport::TransportError,
};

/// How long a new device may be silent before the first member takes its notice for lost.
const SILENT: Duration = Duration::from_hours(1);
/// The last rank whose turn it is to send a notice again: it comes after 85 days, and after
/// 90 the notice's key package is over.
pub(super) const LAST_RANK: usize = 11;

impl Chat {
    /// The notice of a commit in the current log for one whom it adds.
    pub(super) fn notice(
        &self,
        me: &Me,
        (package, inbox): (&KeyPackage, InboxId),
        (position, entry): (u64, EntryId),
        step: &mut Step<'_>,
    ) -> Option<Deposit> {
        let running = self.row.running.filter(|_| self.row.cursor == position);
        self.notice_in(
            (self.row.seed.clone(), running),
            me,
            (package, inbox),
            (position, entry),
            step,
        )
    }

    /// The notice that points at a place of the log with this seed.
    pub(super) fn notice_in(
        &self,
        (seed, running): (Seed, Option<[u8; 32]>),
        me: &Me,
        (package, inbox): (&KeyPackage, InboxId),
        (position, entry): (u64, EntryId),
        step: &mut Step<'_>,
    ) -> Option<Deposit> {
        let notice = Notice { seed, position, entry, running };
        let to = (&package.reference(), &package.init_key);
        let notice = notice.seal(to, (&me.device_key, &me.certificate), step.rng).ok()?;
        let inbox = corncrake_wire::InboxId(*inbox.as_bytes());
        let package = PackageId::of(&package.to_bytes());
        Some(Deposit { inbox, package, notice, admission: Vec::new() })
    }

    /// The member whose key package it is.
    fn addressee(&self, package: &KeyPackage) -> Option<Addressee> {
        let key = package.leaf_node.signature_key.as_bytes();
        let device = self.conversation.as_ref()?.device_of_key(key)?;
        Some((device.account, device.device))
    }
}

/// How many devices come before `me` among those who read a commit: by leaf order, those whom it
/// adds behind the others. Nothing if it is our own, or adds nobody.
pub(super) fn rank(chat: &Chat, report: &CommitReport, me: DeviceId) -> Option<usize> {
    if report.own || report.added.is_empty() {
        return None;
    }
    let members = chat.conversation.as_ref()?.members();
    let devices = || members.iter().flat_map(|member| &member.devices);
    let turn = |device: &Sender| (report.added.contains(device), device.leaf);
    let own = turn(devices().find(|device| device.device == me)?);
    Some(devices().filter(|other| **other != report.author && turn(other) < own).count())
}

impl AccountState {
    /// Joins a fold by a Welcome for one of this device's key packages: the package's reference.
    pub(super) fn join(&self, fold: &mut Conversation, welcome: &[u8]) -> Option<[u8; 32]> {
        let package = invited(welcome).find_map(|reference| self.package(&reference))?;
        fold.join(welcome, &package.bytes, &package.keys).ok()?;
        Some(package.reference)
    }

    /// Whether this device may come in by itself: its account is there, and its key is not barred.
    fn belongs_in(&self, fold: &Conversation) -> bool {
        self.me().is_some_and(|me| fold.has_account(me.account)) && !self.is_barred(fold)
    }

    /// Whether the key of this device is barred.
    pub(super) fn is_barred(&self, fold: &Conversation) -> bool {
        self.me().is_some_and(|me| {
            let key = me.seat().device_key.public();
            fold.context().revoked.contains(key.as_bytes())
        })
    }

    /// Whether the fold holds a leaf of this device that was added by a key package which it still
    /// keeps: it has never got the Welcome.
    fn was_added(&self, fold: &Conversation) -> bool {
        let mut kept = self.packages().filter_map(|own| KeyPackage::decode_exact(&own.bytes).ok());
        kept.any(|package| fold.holds(&package))
    }
}

impl State {
    /// Owes notices to the devices that an own commit has added.
    pub(super) fn owe_letters(
        &mut self,
        chat: &Chat,
        at: (u64, EntryId),
        letters: Vec<(InboxId, Vec<u8>)>,
        step: &mut Step<'_>,
    ) {
        for (inbox, package) in letters {
            let package = KeyPackage::decode_exact(&package).ok();
            let (Some(me), Some(package)) = (self.account.me(), package) else {
                continue;
            };
            if let Some(letter) = chat.notice(me, (&package, inbox), at, step) {
                self.owe_letter(letter, chat.addressee(&package), step);
            }
        }
    }

    /// Owes notices, should the author of a commit die before he has sent his, to the devices that
    /// it adds: after an hour, doubled with each device whose turn comes before, so that few of many
    /// members send one. Who shows himself before needs none.
    pub(super) fn mind_the_new(
        &mut self,
        chat: &Chat,
        report: &CommitReport,
        entry: &LogEntry,
        step: &mut Step<'_>,
    ) {
        for gone in &report.removed {
            self.forget_letters(chat.row.id, gone.device, step);
        }
        let Some(me) = self.account.me().map(|me| me.device) else {
            return;
        };
        let Some(rank) = rank(chat, report, me).filter(|rank| *rank <= LAST_RANK) else {
            return;
        };
        let Ok(inner) = chat.keys.envelope.open(chat.keys.log, EntryKind::Commit, &entry.bytes)
        else {
            return;
        };
        let since = step.now.after(SILENT.saturating_mul(1 << rank));
        let at = (entry.position, id_of(entry));
        for (package, inbox) in added(&inner) {
            let device = device_id(&package.leaf_node.signature_key);
            if device != me
                && let Some(me) = self.account.me()
                && let Some(letter) = chat.notice(me, (&package, inbox), at, step)
            {
                let letter = (letter, chat.addressee(&package));
                self.keep_letter(letter, (since, Some((chat.row.id, device))), step);
            }
        }
    }

    /// Whether an invitation into a conversation may be taken, if that is known here already; or
    /// whether somebody `vouched` for a log that began again with that epoch may be followed.
    pub(super) fn may_take(
        &self,
        id: ConversationId,
        (goal, begins_with): (&Goal, Option<u64>),
        fold: &Conversation,
        now: Timestamp,
    ) -> Option<bool> {
        let chat = self.chats.all.get(&id)?;
        let Goal::Welcome(invitation) = goal else {
            // A fold of an earlier log of the chain may end after one of a later log.
            let known = chat.conversation.as_ref().map_or(0, Conversation::epoch);
            return Some(match chat.row.phase {
                Phase::Entering(_) => true,
                Phase::Waiting => (fold.epoch(), !fold.closed()) > (known, false),
                Phase::Inside => begins_with.zip(self.account.me()).is_some_and(|(epoch, me)| {
                    chat.yields_to(me.account, (epoch, fold.log()), now)
                }),
                Phase::Removed => {
                    !chat.row.is_dropped && !fold.closed() && self.account.belongs_in(fold)
                }
                Phase::Left => false,
            });
        };
        if let Some(epoch) = begins_with {
            // It says where a group goes on, and brings back nobody who is out, unless the Welcome
            // that has brought him back was lost, or whoever had removed him says it: the server has
            // lost that as well.
            let is_back = || {
                chat.row.removed_by == Some(invitation.inviter)
                    && !chat.row.is_dropped
                    && self.account.belongs_in(fold)
            };
            return Some(match chat.row.phase {
                Phase::Entering(_) => true,
                Phase::Inside => chat.yields_to(invitation.inviter, (epoch, fold.log()), now),
                Phase::Removed => is_back() || self.account.was_added(fold),
                Phase::Left => self.account.was_added(fold),
                Phase::Waiting => false,
            });
        }
        let other_inviter = invitation.row > chat.row.notice
            && chat.row.unconfirmed.is_some_and(|inviter| fold.author().account != inviter);
        Some(match chat.row.phase {
            Phase::Entering(_) | Phase::Removed | Phase::Left => true,
            Phase::Inside if chat.is_founding() => true,
            Phase::Inside | Phase::Waiting => {
                other_inviter || chat.is_left_behind(fold.author().account, fold, now)
            }
        })
    }

    /// Takes an invitation that led to a fold, if it may be believed. That is for the newest record
    /// of whoever invites to say: a device that its owner has removed, a thief's perhaps, still has
    /// all that it takes to invite people in its owner's name.
    ///
    /// A 1:1 chat has to be where its two people look for it, too: anybody can call a chat direct,
    /// and only these two can compute such an id.
    pub(super) fn take_invited(&mut self, number: u64, step: &mut Step<'_>) {
        let enter = self.chats.entering.get(&number);
        let Some((enter, fold)) = enter.and_then(|enter| Some((enter, enter.fold.as_ref()?)))
        else {
            return;
        };
        let author = fold.author();
        let direct = fold.context().kind == Kind::Direct;
        let who = if direct { self.peer_in(fold) } else { Some(author.account) };
        let Some(who) = who else {
            return self.drop_invitation(number, step);
        };
        let agreed = !direct || self.agree_on(fold.id(), who);
        let is_own = self.account.me().is_some_and(|me| me.account == author.account);
        let is_sure = is_own || enter.vouched || enter.inviter_left;
        if !(is_sure && agreed) && enter.looked_up != Some(who) {
            return self.enter_ask(number, EnterThen::Peer(who), step);
        }
        if !agreed {
            return self.drop_invitation(number, step);
        }
        let contact = self.account.contact(&author.account);
        let is_named = contact.is_some_and(|contact| contact.devices.contains(&author.device));
        if is_sure || is_named {
            return self.entered(number, step);
        }
        self.invited_by_unnamed(number, author.device, step);
    }

    /// The newest record of the other one in a 1:1 chat, or of who invited, has come, or there is
    /// none.
    pub(crate) fn peer_looked_up(
        &mut self,
        (number, peer): (u64, AccountId),
        error: Option<Error>,
        step: &mut Step<'_>,
    ) {
        let is_known = self.account.contact(&peer).is_some();
        let Some(enter) = self.chats.entering.get_mut(&number) else {
            return;
        };
        enter.looks_up.take_if(|asked| *asked == peer);
        let waits = enter.asking == Some(EnterThen::Peer(peer));
        match error {
            // A server that has lost the record, or has an older one, leaves the one that is known.
            Some(Error::Offline) if waits => return self.enter_rest(number, TRY_AGAIN, step),
            Some(Error::Offline) => return,
            _ if error.is_none() || is_known => enter.looked_up = Some(peer),
            Some(Error::Refused(Refusal::UnknownAccount)) if waits => {
                return self.drop_invitation(number, step);
            }
            // The directory is out of reach, which says nothing about the invitation.
            _ if waits => return self.enter_rest(number, TRY_AGAIN, step),
            _ => return,
        }
        if waits {
            self.take_invited(number, step);
        }
    }

    /// The other account in a 1:1 chat, if just this one and another stand in it.
    pub(super) fn peer_in(&self, fold: &Conversation) -> Option<AccountId> {
        let me = self.account.me()?.account;
        let members = fold.members();
        let peer = members.iter().map(|member| member.account).find(|account| *account != me)?;
        let pair = members.len() == 2 && fold.has_account(me);
        (pair && fold.context().kind == Kind::Direct).then_some(peer)
    }

    /// Whether this is the id of a chat that this account and another can have, as far as is known
    /// here: one that this device has already, or one from their contact keys.
    fn agree_on(&self, id: ConversationId, peer: AccountId) -> bool {
        let known = self.chats.all.get(&id).is_some_and(|chat| chat.row.peer == Some(peer));
        known || self.direct_seed_of(id, peer).is_some()
    }

    /// Gives up a fold that an invitation led to.
    pub(super) fn drop_invitation(&mut self, number: u64, step: &mut Step<'_>) {
        if let Some(enter) = self.chats.entering.remove(&number) {
            self.leave_invitation(&enter.goal, step);
        }
    }

    /// An invitation into a chat that goes on without it: void if this device is a member.
    pub(super) fn leave_invitation(&mut self, goal: &Goal, step: &mut Step<'_>) {
        if let Goal::Welcome(invitation) = goal {
            self.notice_done(invitation.row, step);
        }
    }

    /// A notice came, or lies here since before.
    pub(crate) fn chats_noticed(
        &mut self,
        invitation: Invitation,
        seed: Seed,
        step: &mut Step<'_>,
    ) {
        let row = invitation.row;
        let log = log_of(&seed.log_keys());
        let known = self.chats.of_log(&log).map(|(id, _)| id);
        if invitation.says_out() {
            return self.out_word_came(invitation, log, step);
        }
        let Some(id) = known else {
            return self.enter(None, seed, Goal::Welcome(invitation), step);
        };
        // We follow this log already: the Welcome may spare an external commit.
        let used = self.with_chat(id, step, |state, chat, step| {
            let phase = &chat.row.phase;
            // Until the log is read it may turn out that the server has lost it, and then this says
            // where it goes on.
            let is_elsewhere = chat.log() != log && chat.may_yield(step.now);
            if matches!(phase, Phase::Removed | Phase::Left | Phase::Entering(_))
                || chat.is_member() && (!chat.caught_up() || is_elsewhere)
            {
                return false;
            }
            if chat.is_member() {
                state.tell_astray(chat, (invitation.inviter, seed.log_keys().log), step);
            } else {
                chat.session.invitation = Some(invitation.clone());
            }
            state.advance(chat, step);
            true
        });
        if used == Some(true) {
            self.notice_done(row, step);
        } else {
            self.enter(Some(id), seed, Goal::Welcome(invitation), step);
        }
    }

    /// Fetches a Welcome that may bring a folding device in at once; true while it is under way.
    pub(super) fn try_invitation(&mut self, chat: &mut Chat, step: &mut Step<'_>) -> bool {
        let Some(invitation) = &chat.session.invitation else {
            return false;
        };
        let at = (invitation.position, log::Part::Welcome);
        if !chat.session.welcome_asked {
            chat.session.welcome_asked = true;
            let then = ChatThen::Welcome(chat.log());
            self.ask_beside(chat, at, then, step);
        }
        true
    }

    pub(super) fn welcome_came(
        &mut self,
        chat: &mut Chat,
        log: LogId,
        result: Result<OpenReply, TransportError>,
        step: &mut Step<'_>,
    ) {
        chat.session.welcome_asked = false;
        let Some(invitation) = chat.session.invitation.take() else {
            return;
        };
        if chat.log() != log || chat.flight.is_some() || chat.is_member() {
            return;
        }
        let Ok(OpenReply::Beside(sealed)) = result else {
            return;
        };
        let keys = &chat.keys;
        let beside = Beside::Welcome(invitation.entry);
        let opened = keys.envelope.open_beside(keys.log, beside, &sealed.bytes);
        let joined = match (&mut chat.conversation, opened) {
            (Some(fold), Ok(welcome)) => self.account.join(fold, &welcome),
            _ => None,
        };
        if let Some(package) = joined {
            chat.session.duties.clear();
            chat.session.tries = 0;
            chat.save(step);
            self.package_done(&package, step);
            step.event(EventKind::ChatChanged(chat.row.id));
        }
    }
}
