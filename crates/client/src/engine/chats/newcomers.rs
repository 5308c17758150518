//! People who were added and have not shown themselves since.
//!
//! A device that was added tells the account's other devices of the chat, by the account's log. One
//! that is lost, or removed from its account, before it has come in tells nobody: the account is
//! then in the group with no device that reads it, and its other devices know nothing of the chat.
//! So whoever has added somebody looks at their record until one of their devices has acted, and so
//! do others, later. Devices that the record names and that are missing in the group are added; in a
//! chat of two, where nobody adds the other one's devices, they are told where it is.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use corncrake_core::{
    conversation::{CommitReport, Kind},
    id::{AccountId, ConversationId, DeviceId},
};
use serde::{Deserialize, Serialize};

use super::{
    Chat,
    create::{ClaimThen, GatherThen},
    invite::{LAST_RANK, rank},
    lost::again::brought_in,
    rows::{Intent, Wish},
};
use crate::{
    engine::{
        State, Step,
        account::{By, ClaimedPackage},
    },
    event::ChatKind,
    host::{Moment, Timestamp},
};

/// When whoever has added somebody looks at their record first; each wait is four times the last.
const FIRST_LOOK: Duration = Duration::from_secs(10);
/// When the first of the others does, doubled with each device whose turn comes before.
const OTHERS_LOOK: Duration = Duration::from_mins(1);
/// The longest wait between two looks.
const LONGEST: Duration = Duration::from_hours(24);
/// The longest wait until the first look.
const LONGEST_FIRST: Duration = OTHERS_LOOK.saturating_mul(1 << LAST_RANK);
/// Whoever has not shown themselves for so long is looked at no more.
const GIVEN_UP_AFTER: Duration = Duration::from_hours(90 * 24);

/// Somebody of whom no device has acted in the group since they were added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Newcomer {
    since: Timestamp,
    /// When their record is looked at next.
    look_at: Timestamp,
    /// How long after that it is looked at once more.
    wait: Duration,
}

impl Chat {
    /// The next moment at which a newcomer's record is to be looked at, and whether one has come.
    fn next_look(&self, step: &Step<'_>) -> (Option<Moment>, bool) {
        let clock = step.clock();
        let looks = self.row.newcomers.values();
        let looks = looks.map(|newcomer| clock.until(newcomer.look_at, LONGEST_FIRST));
        let (later, due): (Vec<_>, Vec<_>) = looks.partition(Option::is_some);
        (later.into_iter().flatten().min(), !due.is_empty())
    }

    /// Sets the alarm for the next look at a newcomer's record. A chat whose group is in the store
    /// alone is loaded for it.
    pub(super) fn mind_looks(&mut self, step: &Step<'_>) {
        let (next, is_due) = self.next_look(step);
        if let Some(at) = next {
            self.wake_by(at);
        }
        if is_due && !self.is_loaded {
            self.look_at_members(step);
        }
    }
}

impl State {
    /// Keeps in mind whom a commit has brought in.
    pub(super) fn mind_newcomers(&self, chat: &mut Chat, report: &CommitReport, step: &Step<'_>) {
        let (Some(me), Some(conversation)) = (self.account.me(), &chat.conversation) else {
            return;
        };
        let newcomers = brought_in(conversation, report).into_iter();
        let newcomers: Vec<_> = newcomers.filter(|who| *who != me.account).collect();
        let wait = match rank(chat, report, me.device) {
            _ if newcomers.is_empty() => return,
            _ if report.own => FIRST_LOOK,
            Some(rank) if rank <= LAST_RANK => OTHERS_LOOK.saturating_mul(1 << rank),
            _ => return,
        };
        let look_at = step.now.after(wait);
        let newcomer = Newcomer { since: step.now, look_at, wait };
        chat.row.newcomers.extend(newcomers.into_iter().map(|who| (who, newcomer)));
    }

    /// Looks at the records of newcomers whose time has come.
    pub(super) fn look_at_newcomers(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        self.bring_in_missing(chat, step);
        let (Some(me), Some(conversation)) = (self.account.me(), &chat.conversation) else {
            return;
        };
        let context = conversation.context();
        let may_add =
            context.kind == Kind::Direct || context.role(me.account) >= context.permissions.add;
        let (clock, before) = (step.clock(), chat.row.newcomers.len());
        chat.row.newcomers.retain(|who, newcomer| {
            conversation.has_account(*who) && step.now.since(newcomer.since) < GIVEN_UP_AFTER
        });
        let mut due = Vec::new();
        for (who, newcomer) in &mut chat.row.newcomers {
            if clock.until(newcomer.look_at, LONGEST_FIRST).is_none() {
                due.push(By::Id(*who));
                newcomer.look_at = step.now.after(newcomer.wait);
                newcomer.wait = newcomer.wait.saturating_mul(4).min(LONGEST);
            }
        }
        if !due.is_empty() || chat.row.newcomers.len() < before {
            chat.save(step);
        }
        chat.mind_looks(step);
        if !due.is_empty() && may_add {
            self.look_up(due, GatherThen::Newcomers(chat.row.id), step);
        }
    }

    /// The newest records of newcomers have come: the group is needed to see what they lack.
    pub(super) fn newcomers_looked_up(
        &mut self,
        id: ConversationId,
        accounts: Vec<AccountId>,
        step: &mut Step<'_>,
    ) {
        self.with_chat(id, step, |_, chat, step| {
            chat.session.looked_up.extend(accounts);
            chat.look_at_members(step);
        });
    }

    /// Brings in, or tells, the devices of newcomers that are missing by records that have come.
    fn bring_in_missing(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        let mut accounts = core::mem::take(&mut chat.session.looked_up);
        let mut devices = BTreeSet::new();
        accounts.retain(|who| {
            let missing = self.missing(chat, who);
            devices.extend(&missing);
            !missing.is_empty()
        });
        if accounts.is_empty() {
            return;
        }
        if chat.row.kind == ChatKind::Group {
            let then = ClaimThen::Newcomers(chat.row.id, devices);
            return self.claim(accounts.into_iter().collect(), then, step);
        }
        for who in accounts {
            chat.tell_of_log(who, step);
        }
    }

    /// The devices of a newcomer that their newest record names and that are not in the group.
    fn missing(&self, chat: &Chat, who: &AccountId) -> BTreeSet<DeviceId> {
        let is_new = chat.row.newcomers.contains_key(who);
        let here = chat.conversation.as_ref().filter(|here| is_new && here.has_account(*who));
        let (Some(here), Some(contact)) = (here, self.account.contact(who)) else {
            return BTreeSet::new();
        };
        let here: BTreeSet<_> = here.devices(*who).map(|(device, _)| device).collect();
        contact.devices.iter().copied().filter(|device| !here.contains(device)).collect()
    }

    /// The key packages of newcomers' missing `devices` have come.
    pub(super) fn newcomers_claimed(
        &mut self,
        (id, devices): (ConversationId, &BTreeSet<DeviceId>),
        packages: Vec<ClaimedPackage>,
        step: &mut Step<'_>,
    ) {
        self.with_chat(id, step, |state, chat, step| {
            if chat.is_out() {
                return;
            }
            let mut wanted = BTreeMap::<AccountId, Vec<_>>::new();
            let known = (&chat.row.newcomers, chat.adding());
            for ClaimedPackage { account, device, bytes, .. } in packages {
                let is_awaited = known.0.contains_key(&account) && !known.1.contains(&account);
                if is_awaited && devices.contains(&device) {
                    wanted.entry(account).or_default().push((account, bytes));
                }
            }
            // One by one: what is refused of one of them keeps nobody else out.
            for packages in wanted.into_values() {
                chat.queue(Intent::Change(Wish::Add(packages)), step);
            }
            chat.save(step);
            state.advance(chat, step);
        });
    }
}
