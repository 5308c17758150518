//! Changes that a server has lost and that are owed again: removals and revocations before anything
//! is sealed, by whoever remembers them and may make them; titles and roles by their authors, and by
//! others where these are gone.
//!
//! Whoever remembers a lost removal and may not make it seals nothing meanwhile: what is said would
//! be sealed for those who were removed. The timeline says so, and after a day that a new group is
//! needed.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use corncrake_core::{
    conversation::{
        Change, CommitReport, ContextExtension, Conversation, DeviceKey, Duty as Turn, Role,
    },
    id::{AccountId, DeviceId},
    seal::record::{AccountLogRecord, LostRemovalsRecord},
};
use serde::{Deserialize, Serialize};

use crate::{
    engine::{
        State, Step,
        chats::{
            Chat,
            read::accounts,
            rows::{Intent, Purpose, Wish},
        },
    },
    event::{ChatKind, EventKind, ItemKind},
    host::Timestamp,
};

mod adds;
mod given;

/// When the app is told to offer a new group.
const NEW_GROUP: Duration = Duration::from_hours(24);
/// When those who have to make a removal again are told where the group goes on; each wait is twice the
/// last.
const ASK_TO_REMOVE: Duration = Duration::from_secs(10);
/// The longest of these waits.
const LONGEST_ASK_TO_REMOVE: Duration = Duration::from_hours(1);
/// When others do what an author isn't in the group any more to do: it may have to come back first.
const OTHERS_TURN: Duration = Duration::from_mins(1);
/// How long an author waits until a lost change of theirs may be made again.
pub(super) const AUTHORS_WAIT: Duration = Duration::from_hours(7 * 24);

/// What a commit did that is owed again if the server loses it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Done {
    /// Accounts of which it left nothing in the tree, and the device that removed them.
    removed: BTreeMap<AccountId, Option<DeviceId>>,
    /// Those of them whose removal was owed since an earlier loss: where it wasn't, it had been made,
    /// or was out of date.
    again: BTreeSet<AccountId>,
    /// Device keys that it revoked.
    revoked: Vec<DeviceKey>,
    /// Accounts that it brought in.
    added: BTreeMap<AccountId, Author>,
    /// The title that it gave.
    title: Option<(String, Author)>,
    /// The roles that it gave.
    roles: BTreeMap<AccountId, (Role, Author)>,
}

/// What others have decided since a loss.
#[derive(Debug, Default)]
pub(super) struct Decided {
    /// Accounts that they brought in, and removed after that.
    pub(super) removed: BTreeSet<AccountId>,
    /// Accounts to which they gave a role.
    pub(super) roles: BTreeSet<AccountId>,
    /// Whether they gave a title.
    pub(super) title: bool,
}

/// What is owed again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OwedAgain {
    /// When the loss was noticed.
    since: Timestamp,
    /// Accounts to be removed again, and the device that had removed them.
    removed: BTreeMap<AccountId, Option<DeviceId>>,
    /// Accounts that were removed and added again: removed first if the removal is lost as well, as
    /// what the tree then holds of them is what was taken out.
    replaced: BTreeSet<AccountId>,
    revoked: BTreeSet<DeviceKey>,
    title: Option<(String, Author)>,
    roles: BTreeMap<AccountId, (Role, Author)>,
    /// Accounts to be added again; by this device at once if it had added them.
    added: BTreeMap<AccountId, Author>,
    /// Accounts that were added and removed in the lost part, and the device that had removed them:
    /// whoever had added them may not know of the removal, and add them again.
    gone: BTreeMap<AccountId, Option<DeviceId>>,
    /// Who was there when the group was looked at last, although they are to be removed.
    back: Back,
    /// Those of them whom this device remembers, and has named in the account log.
    recorded: Back,
    /// Of whom the app was told that others have to remove them.
    told: Vec<AccountId>,
    /// Whether the app was told to offer a new group.
    needs_new_group: bool,
}

/// Who has made a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Author {
    device: DeviceId,
    /// Whether that is this device.
    own: bool,
}

/// Who is in the group although they, or their device, were removed in a part that the server has
/// lost: this device remembers it, or its account's log says so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Back {
    /// Accounts, and the device that had removed each.
    accounts: BTreeMap<AccountId, Option<DeviceId>>,
    keys: BTreeSet<DeviceKey>,
}

impl Done {
    pub(super) fn brought_in(&self) -> Vec<AccountId> {
        self.added.keys().copied().collect()
    }
}

impl OwedAgain {
    pub(crate) fn is_nothing(&self) -> bool {
        let restores = self.title.is_some() || !self.roles.is_empty() || !self.added.is_empty();
        !self.takes_out() && !restores && self.replaced.is_empty() && self.back == Back::default()
    }

    /// Whether only others can make what is owed.
    pub(crate) const fn is_up_to_others(&self) -> bool {
        !self.told.is_empty()
    }

    pub(crate) fn shown(&self) -> Vec<AccountId> {
        self.told.clone()
    }

    /// Who was added in a lost part, and is to be added again.
    pub(crate) fn adds(&self) -> impl Iterator<Item = AccountId> {
        self.added.keys().copied()
    }

    /// Who is there again is not to be brought back if they go after this.
    pub(super) fn are_there(&mut self, there: &Done) {
        self.added.retain(|who, _| !there.added.contains_key(who));
    }

    /// Somebody is not to be added again, says `device`; whether they were. Another one that had
    /// added them may do it all the same, not knowing of that: then they are to be removed.
    pub(crate) fn adds_no_more(&mut self, who: &AccountId, device: DeviceId) -> bool {
        let Some(adder) = self.added.remove(who) else {
            return false;
        };
        if !adder.own {
            self.gone.insert(*who, Some(device));
        }
        true
    }

    pub(crate) const fn needs_new_group(&self) -> bool {
        self.needs_new_group
    }

    pub(super) const fn since(&self) -> Timestamp {
        self.since
    }

    /// Who was added and removed in a lost part, removed by this device.
    pub(super) fn gone_by(&self, device: DeviceId) -> impl Iterator<Item = AccountId> {
        let by = move |(_, by): &(&AccountId, &Option<DeviceId>)| **by == Some(device);
        self.gone.iter().filter(by).map(|(who, _)| *who)
    }

    /// Who is to be removed, or is so where the tree holds what was taken out.
    pub(super) fn takes(&self) -> BTreeSet<AccountId> {
        self.removed.keys().chain(&self.replaced).copied().collect()
    }

    fn takes_out(&self) -> bool {
        !self.removed.is_empty() || !self.revoked.is_empty()
    }
}

impl Chat {
    /// What a commit has done that would be owed again.
    pub(in crate::engine::chats) fn done_by(&self, report: &CommitReport) -> Done {
        let mut done = Done::default();
        let Some(conversation) = &self.conversation else {
            return done;
        };
        let gone = taken_out(conversation, report).into_iter();
        done.removed = gone.map(|who| (who, Some(report.author.device))).collect();
        let was_owed = |who: &&AccountId| self.row.owed_again.removed.contains_key(who);
        done.again = done.removed.keys().filter(was_owed).copied().collect();
        let added = brought_in(conversation, report).into_iter();
        let by = Author { device: report.author.device, own: report.own };
        done.added = added.map(|who| (who, by)).collect();
        let Some((old, new)) = report.context_change.as_deref() else {
            return done;
        };
        done.revoked = new.revoked.difference(&old.revoked).copied().collect();
        done.title = (old.title != new.title).then(|| (new.title.clone(), by));
        let changed = changed_roles(old, new).into_iter();
        let changed = changed.filter(|who| conversation.has_account(*who));
        done.roles = changed.map(|who| (who, (given(&new.roles, who), by))).collect();
        done
    }

    /// Owes again what was done behind a kept place and still held when the loss was noticed, also
    /// where the commit that did it was lost before and the group stayed as it was.
    pub(super) fn owe_again(&mut self, number: u64, step: &Step<'_>) {
        self.owe_as_at(number);
        let Some(conversation) = &self.conversation else {
            return;
        };
        let context = conversation.context();
        // Whoever was asked for after an earlier loss may be asked for at once.
        self.session.adds_again = None;
        self.session.added_again = 0;
        let owed = &mut self.row.owed_again;
        owed.since = step.now;
        let there = self.kept.get(&number).map(|kept| &kept.owes);
        let is_owed_there = |who: &AccountId| there.is_none_or(|owes| owes.contains(who));
        let (mut removed, mut added) = (BTreeSet::new(), BTreeSet::new());
        for kept in self.kept.range(number + 1..).map(|(_, kept)| &kept.done) {
            let still = |who: &AccountId| !kept.again.contains(who) || is_owed_there(who);
            for (who, by) in kept.removed.iter().filter(|(who, _)| still(who)) {
                owed.replaced.remove(who);
                if !conversation.has_account(*who) {
                    owed.removed.insert(*who, *by);
                    if added.contains(who) {
                        owed.gone.insert(*who, *by);
                    }
                }
                removed.insert(*who);
            }
            added.extend(kept.added.keys().copied());
            owed.gone.retain(|who, _| !kept.added.contains_key(who));
            let back = kept.added.keys().filter(|who| removed.contains(who));
            owed.replaced.extend(back.filter(|who| conversation.has_account(**who)));
            let barred = kept.revoked.iter();
            owed.revoked.extend(barred.filter(|key| conversation.device_of_key(key).is_none()));
            let leaving: Vec<_> = conversation.leaving_accounts().collect();
            // Whose removal is still owed is here for want of it alone, unless they came in behind it.
            let is_back =
                |who: &AccountId| owed.removed.contains_key(who) && !removed.contains(who);
            let stays = |who: &AccountId| {
                conversation.has_account(*who) && !leaving.contains(who) && !is_back(who)
            };
            for (who, by) in kept.added.iter().filter(|(who, _)| stays(who)) {
                let was_own = owed.added.get(who).is_some_and(|before| before.own);
                owed.added.insert(*who, Author { own: by.own || was_own, ..*by });
            }
            if let Some(title) = kept.title.as_ref().filter(|(title, _)| *title == context.title) {
                owed.title = Some(title.clone());
            }
            let holds = |(who, (role, _)): &(&AccountId, &(Role, Author))| {
                conversation.has_account(**who) && given(&context.roles, **who) == *role
            };
            let roles = kept.roles.iter().filter(holds);
            owed.roles.extend(roles.map(|(who, role)| (*who, *role)));
        }
    }

    /// The group is where this device knew it as the kept place `number`: what wasn't owed there, and
    /// was not done behind it, is owed no more. A removal that was made again may have been one of a
    /// log in which somebody was still to be added again.
    fn owe_as_at(&mut self, number: u64) {
        let Some(there) = self.kept.get(&number).map(|kept| &kept.owes) else {
            return;
        };
        let behind = self.kept.range(number + 1..).map(|(_, kept)| &kept.done);
        let behind = behind.flat_map(|done| done.removed.keys().map(|who| (who, &done.again)));
        let behind: BTreeSet<&AccountId> =
            behind.filter(|(who, again)| !again.contains(who)).map(|(who, _)| who).collect();
        let is_owed = |who: &AccountId| there.contains(who) || behind.contains(who);
        let owed = &mut self.row.owed_again;
        owed.removed.retain(|who, _| is_owed(who));
        owed.replaced.retain(is_owed);
    }

    /// The group is in an epoch that this device knew as the kept place `number`: who was removed
    /// behind it and added again is to be removed again if the tree holds what was taken out.
    pub(super) fn owe_replaced(&mut self, number: u64) {
        self.owe_as_at(number);
        let Some(conversation) = &self.conversation else {
            return;
        };
        let owed = &mut self.row.owed_again;
        owed.removed.retain(|who, _| !owed.replaced.contains(who));
        for done in self.kept.range(number + 1..).map(|(_, kept)| &kept.done) {
            let lost = done.removed.iter().filter(|(who, _)| owed.replaced.contains(who));
            owed.removed.extend(lost.filter(|(who, _)| conversation.has_account(**who)));
        }
    }

    /// The group was in no epoch that this device knew: it takes out whom it can add again at once.
    pub(super) fn owe_own_replaced(&mut self) {
        let owed = &mut self.row.owed_again;
        let is_own = |who: &AccountId| owed.added.get(who).is_some_and(|by| by.own);
        let own = owed.replaced.iter().filter(|who| is_own(who));
        owed.removed.extend(own.map(|who| (*who, None)));
    }

    /// The group is in an epoch that this device doesn't know: accounts that came in since the last
    /// one that it knew are not to be taken out for an earlier removal's sake.
    pub(super) fn are_back(&mut self, added: &[AccountId]) {
        let owed = &mut self.row.owed_again;
        owed.replaced.clear();
        owed.removed.retain(|who, _| !added.contains(who));
    }

    /// Others have done something else since the loss: that is the newer word.
    pub(super) fn others_decided(&mut self, decided: &Decided) {
        let owed = &mut self.row.owed_again;
        owed.added.retain(|who, _| !decided.removed.contains(who));
        owed.roles.retain(|who, _| !decided.roles.contains(who));
        owed.title.take_if(|_| decided.title);
    }

    /// The group has gone on from where this device knew it: what was done here and doesn't hold any
    /// more was undone since.
    pub(super) fn others_went_on(&mut self) {
        let owed = &mut self.row.owed_again;
        owed.added.clear();
        owed.roles.clear();
        owed.title = None;
    }

    /// A fold tells that somebody came in who was added and removed in the lost part: nobody knows
    /// by whom.
    pub(super) fn are_found_again(&mut self, added: &[AccountId]) {
        let owed = &mut self.row.owed_again;
        owed.removed.extend(owed.gone.extract_if(.., |who, _| added.contains(who)));
    }

    /// A commit has added somebody who was added and removed in the lost part: unless the one who
    /// had removed them does it, that is the lost add, made again without the removal. Once: whoever
    /// adds them after that knows of it.
    pub(super) fn are_added_again(&mut self, done: &Done, now: Timestamp) {
        let owed = &mut self.row.owed_again;
        if owed.gone.is_empty() {
            return;
        }
        let is_late = now > owed.since.after(AUTHORS_WAIT);
        for (who, adder) in &done.added {
            let Some(by) = owed.gone.remove(who) else { continue };
            if !adder.own && by != Some(adder.device) && !is_late {
                owed.removed.insert(*who, by);
            }
        }
    }

    /// What of all that is owed is there, so that it is owed again if this epoch is lost as well.
    pub(super) fn owed_and_there(&self) -> Done {
        let (Some(conversation), owed) = (&self.conversation, &self.row.owed_again) else {
            return Done::default();
        };
        let is_in = |who: &AccountId| conversation.has_account(*who);
        let is_out = |(who, _): &(&AccountId, &Option<DeviceId>)| !is_in(who);
        let is_back =
            |(who, _): &(&AccountId, &Author)| is_in(who) && !owed.removed.contains_key(who);
        let is_barred = |key: &&DeviceKey| conversation.device_of_key(key).is_none();
        let removed = owed.removed.iter().filter(is_out).map(|(who, by)| (*who, *by));
        let removed: BTreeMap<_, _> = removed.collect();
        Done {
            again: removed.keys().copied().collect(),
            removed,
            added: owed.added.iter().filter(is_back).map(|(who, by)| (*who, *by)).collect(),
            revoked: owed.revoked.iter().filter(is_barred).copied().collect(),
            ..Done::default()
        }
    }
}

/// What was asked for that may be done while the removal of a device of `who` is awaited, with its number:
/// to leave, or to remove those accounts.
fn ends_wait((number, intent): &(u64, Intent), who: &[AccountId]) -> Option<(u64, Wish)> {
    let Intent::Change(wish) = intent else { return None };
    let ends = match wish {
        Wish::Leave => true,
        Wish::Remove(accounts) => accounts.iter().all(|account| who.contains(account)),
        _ => false,
    };
    ends.then(|| (*number, wish.clone()))
}

impl State {
    /// Who is in the group although they are to be removed.
    fn back(&self, chat: &Chat, recorded: Option<&LostRemovalsRecord>) -> Back {
        let (Some(conversation), Some(me)) = (&chat.conversation, self.account.me()) else {
            return Back::default();
        };
        let owed = &chat.row.owed_again;
        let accounts = recorded.iter().flat_map(|record| &record.accounts).chain(&owed.removed);
        let keys = recorded.iter().flat_map(|record| &record.keys).chain(&owed.revoked);
        let is_back = |who: &AccountId| *who != me.account && conversation.has_account(*who);
        let is_there = |key: &DeviceKey| {
            conversation.device_of_key(key).is_some_and(|found| found.device != me.device)
        };
        Back {
            accounts: accounts.filter(|(who, _)| is_back(who)).map(|(a, by)| (*a, *by)).collect(),
            keys: keys.filter(|key| is_there(key)).copied().collect(),
        }
    }

    /// Whether somebody is in the group whose removal, or whose device's, the server has lost.
    pub(in crate::engine::chats) fn has_removed_back(&self, chat: &Chat) -> bool {
        self.back(chat, self.account.lost_removals(chat.row.id)) != Back::default()
    }

    /// A device speaks in an epoch that came after the loss: whom it had removed itself, and says
    /// that to, it has added again since.
    pub(in crate::engine::chats) fn speaks(
        &mut self,
        chat: &mut Chat,
        device: DeviceId,
        step: &mut Step<'_>,
    ) {
        let by_others = |by: &Option<DeviceId>| *by != Some(device);
        let owed = &mut chat.row.owed_again;
        owed.removed.retain(|_, by| by_others(by));
        if owed.back.accounts.values().all(by_others) {
            return;
        }
        if let Some(mut record) = self.account.lost_removals(chat.row.id).cloned() {
            record.accounts.retain(|_, by| by_others(by));
            self.put_record(AccountLogRecord::LostRemovals(record), step);
        }
    }

    /// Tells the account's other devices, those to come as well, who is back, and who is no more.
    pub(in crate::engine::chats) fn record_lost_removals(
        &mut self,
        chat: &mut Chat,
        step: &mut Step<'_>,
    ) {
        if !chat.is_member() {
            return;
        }
        let known = self.account.lost_removals(chat.row.id);
        let owed = &chat.row.owed_again;
        if known.is_none() && !owed.takes_out() && owed.back == Back::default() {
            return;
        }
        let mut record = known.cloned().unwrap_or_else(|| LostRemovalsRecord {
            conversation: chat.row.id,
            accounts: BTreeMap::new(),
            keys: BTreeSet::new(),
        });
        let forgotten = |who: &AccountId| {
            owed.recorded.accounts.contains_key(who) && !owed.removed.contains_key(who)
        };
        record.accounts.retain(|who, _| !forgotten(who));
        record.keys.retain(|key| !owed.recorded.keys.contains(key) || owed.revoked.contains(key));
        let back = self.back(chat, Some(&record));
        // Who was never seen here is not said to be gone: this device may be behind.
        let gone = |who: &AccountId| {
            owed.back.accounts.contains_key(who) && !back.accounts.contains_key(who)
        };
        record.accounts.retain(|who, _| !gone(who));
        record.keys.retain(|key| !owed.back.keys.contains(key) || back.keys.contains(key));
        record.accounts.extend(&back.accounts);
        record.keys.extend(&back.keys);
        let is_news = match known {
            Some(known) => *known != record,
            None => back != Back::default(),
        };
        let mut recorded = back.clone();
        recorded.accounts.retain(|who, _| owed.removed.contains_key(who));
        recorded.keys.retain(|key| owed.revoked.contains(key));
        if (&back, &recorded) != (&owed.back, &owed.recorded) {
            (chat.row.owed_again.back, chat.row.owed_again.recorded) = (back, recorded);
            chat.save(step);
        }
        if is_news {
            self.put_record(AccountLogRecord::LostRemovals(record), step);
        }
    }

    /// Makes lost removals and revocations again before anything else is sealed; tells whether the
    /// chat has to wait for that.
    pub(in crate::engine::chats) fn remove_again(
        &mut self,
        chat: &mut Chat,
        step: &mut Step<'_>,
    ) -> bool {
        let is_member = |conversation: &&Conversation| conversation.is_member();
        let Some(conversation) = chat.conversation.as_ref().filter(is_member) else {
            return false;
        };
        let Some(me) = self.account.me() else { return false };
        let owed = &mut chat.row.owed_again;
        if !owed.takes_out() && !owed.is_up_to_others() && owed.back == Back::default() {
            return false;
        }
        let Back { accounts: removed, keys } = owed.back.clone();
        let devices: Vec<_> =
            keys.iter().filter_map(|key| conversation.device_of_key(key)).collect();
        let own = devices.iter().filter(|device| device.account == me.account);
        let allowed = |who: &&AccountId| conversation.context().may_remove(me.account, **who);
        let change = Change {
            remove: removed.keys().filter(allowed).copied().collect(),
            revoke_devices: own.map(|device| device.device).collect(),
            ..Change::default()
        };
        let mut who: Vec<_> = removed.keys().copied().collect();
        who.extend(devices.iter().map(|device| device.account));
        who.sort_unstable();
        who.dedup();
        let before = owed.removed.len() + owed.revoked.len();
        owed.removed.retain(|who, _| removed.contains_key(who));
        owed.revoked.retain(|key| keys.contains(key));
        let is_over = who.is_empty() && owed.is_up_to_others();
        if is_over || owed.removed.len() + owed.revoked.len() != before {
            if who.is_empty() {
                owed.told.clear();
                owed.needs_new_group = false;
                chat.session.removal_asked = (0, None);
                step.event(EventKind::ChatChanged(chat.row.id));
            }
            chat.save(step);
        }
        if who.is_empty() {
            return false;
        }
        if !change.remove.is_empty() || !change.revoke_devices.is_empty() {
            let _ = self.commit(chat, Purpose::Change, change, None, step);
        }
        if chat.flight.is_none() {
            self.wait_for_removals(chat, &who, step);
        }
        true
    }

    /// Only others may make what is owed: says so, and after a day that a new group is needed.
    /// Leaving, and to remove them wholly, is all that can be done meanwhile.
    fn wait_for_removals(&mut self, chat: &mut Chat, who: &[AccountId], step: &mut Step<'_>) {
        let is_news = who.iter().any(|one| !chat.row.owed_again.told.contains(one));
        chat.row.owed_again.told = who.to_vec();
        if is_news {
            self.tell_item(chat, ItemKind::RemovalLost { who: who.to_vec() }, step);
            step.event(EventKind::ChatChanged(chat.row.id));
            chat.save(step);
        }
        let by = chat.row.owed_again.since.after(NEW_GROUP);
        if chat.row.kind == ChatKind::Group && !chat.row.owed_again.needs_new_group {
            if let Some(at) = step.clock().until(by, NEW_GROUP) {
                chat.wake_by(at);
            } else {
                chat.row.owed_again.needs_new_group = true;
                self.tell_item(chat, ItemKind::NewGroupNeeded { without: who.to_vec() }, step);
                step.event(EventKind::ChatChanged(chat.row.id));
                chat.save(step);
            }
        }
        self.tell_where_to_remove(chat, who, step);
        if let Some((number, wish)) = chat.intents.iter().find_map(|it| ends_wait(it, who))
            && let Err(refusal) = self.seal_change(chat, number, &wish, step)
        {
            self.end_intent(chat, number, Err(refusal), step);
        }
    }

    /// Tells those who have to make a removal again where the group goes on, now and then: a device that
    /// came after the backup may know none of the logs that the server still has.
    fn tell_where_to_remove(&mut self, chat: &mut Chat, who: &[AccountId], step: &mut Step<'_>) {
        if step.now > chat.row.owed_again.since.after(AUTHORS_WAIT) {
            return;
        }
        let (tries, at) = chat.session.removal_asked;
        // Who remembers the removal may be about to come back, and a commit is in the way of that.
        let is_due = at.is_some_and(|at| at <= step.moment);
        if at.is_none() || is_due {
            let wait = ASK_TO_REMOVE.saturating_mul(1 << tries.min(10)).min(LONGEST_ASK_TO_REMOVE);
            let wait = wait + self.rank_wait(chat, Turn::CleanUp);
            chat.session.removal_asked = (tries.saturating_add(1), Some(step.moment.after(wait)));
            let me = self.account.me().map(|me| me.account);
            let others = who.iter().filter(|who| is_due && Some(**who) != me);
            others.for_each(|who| chat.tell_of_log(*who, step));
        }
        chat.session.removal_asked.1.into_iter().for_each(|at| chat.wake_by(at));
    }
}

/// The accounts of which all devices came with a commit.
pub(in crate::engine::chats) fn brought_in(
    conversation: &Conversation,
    report: &CommitReport,
) -> Vec<AccountId> {
    let mut added = accounts(&report.added);
    added.retain(|who| {
        let members = conversation.members();
        let member = members.into_iter().find(|member| member.account == *who);
        member.is_some_and(|member| member.devices.iter().all(|d| report.added.contains(d)))
    });
    added
}

/// The devices in a group.
fn devices_of(conversation: &Conversation) -> BTreeSet<DeviceId> {
    let members = conversation.members();
    members.iter().flat_map(|member| &member.devices).map(|sender| sender.device).collect()
}

/// The accounts of which a commit has left nothing.
pub(super) fn taken_out(conversation: &Conversation, report: &CommitReport) -> Vec<AccountId> {
    let mut removed = accounts(&report.removed);
    removed.retain(|who| !conversation.has_account(*who));
    removed
}

/// The accounts to which two contexts give different roles.
pub(super) fn changed_roles(old: &ContextExtension, new: &ContextExtension) -> BTreeSet<AccountId> {
    let named = old.roles.keys().chain(new.roles.keys());
    named.filter(|who| old.roles.get(who) != new.roles.get(who)).copied().collect()
}

/// The role that the context gives somebody.
fn given(roles: &BTreeMap<AccountId, Role>, who: AccountId) -> Role {
    roles.get(&who).copied().unwrap_or(Role::Member)
}
