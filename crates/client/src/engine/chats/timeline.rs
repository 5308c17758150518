//! What the app sees of a chat.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use corncrake_core::id::{AccountId, ConversationId, DeviceId};

use super::{
    Chat,
    rows::{Intent, Phase, Wish},
};
use crate::{
    engine::{State, Step, tables::Table},
    event::{ChatInfo, ChatKind, Delivery, EventKind, Item, ItemKind, Member, Standing},
    host::Timestamp,
};

/// How long a message may have been on its way; its log keeps it for a day less.
const LONGEST_WAY: Duration = Duration::from_hours(31 * 24);
/// How far a sender's clock may be ahead of this device's.
const LONGEST_AHEAD: Duration = Duration::from_mins(5);

/// Puts a line at the end of a chat's timeline.
pub(super) fn append(chat: &mut Chat, what: ItemKind, step: &mut Step<'_>) {
    append_at(chat, (step.now, false), what, step);
}

/// Puts a message that was meant to be sent at `time`, in seconds, at the end of a chat's timeline.
pub(super) fn append_said(chat: &mut Chat, time: u64, what: ItemKind, step: &mut Step<'_>) {
    append_at(chat, shown_time(time, step.now), what, step);
}

/// The time that is shown of a message, and whether its sender's can't be true.
fn shown_time(time: u64, now: Timestamp) -> (Timestamp, bool) {
    let said = Timestamp(time.saturating_mul(1000));
    let plausible = now.before(LONGEST_WAY)..=now.after(LONGEST_AHEAD);
    if plausible.contains(&said) { (said, false) } else { (now, true) }
}

/// Tells that messages have expired, with one line for all that came one after the other.
pub(super) fn append_expired(chat: &mut Chat, step: &mut Step<'_>) {
    if chat.row.expired_item.is_none_or(|item| item + 1 != chat.row.next_item) {
        chat.row.expired_item = Some(chat.row.next_item);
        append(chat, ItemKind::Expired, step);
    }
}

fn append_at(
    chat: &mut Chat,
    (at, wrong_clock): (Timestamp, bool),
    what: ItemKind,
    step: &mut Step<'_>,
) {
    if chat.leaves_again() {
        return;
    }
    let item = Item { number: chat.row.next_item, at, wrong_clock, what };
    chat.row.next_item += 1;
    chat.row.last_at = Some(at);
    step.put(Table::Timeline, chat.row.id.as_bytes(), item.number, &item);
    step.event(EventKind::Item { chat: chat.row.id, item });
}

impl State {
    /// Tells once that the other one in a chat of two is not who was known by the same name before.
    pub(super) fn tell_namesake(&self, chat: &mut Chat, step: &mut Step<'_>) {
        if let (false, Some(now)) = (chat.row.namesake_told, chat.row.peer)
            && let Some(before) = self.namesake(&now)
        {
            chat.row.namesake_told = true;
            append(chat, ItemKind::NameChangedHands { before, now }, step);
            chat.save(step);
        }
    }

    /// What lists show of all chats.
    pub(crate) fn chat_infos(&self) -> Vec<ChatInfo> {
        let mut with_peer = BTreeMap::<AccountId, usize>::new();
        for peer in self.chats.all.values().filter_map(|chat| chat.row.peer) {
            *with_peer.entry(peer).or_default() += 1;
        }
        let infos = self.chats.all.values().map(|chat| {
            let is_alone = chat.row.peer.is_none_or(|peer| with_peer.get(&peer) == Some(&1));
            let goes_on = if is_alone { None } else { self.direct_chat(chat.row.peer) };
            self.info_of(chat, goes_on)
        });
        infos.collect()
    }

    pub(crate) fn chat_info(&self, chat: &Chat) -> ChatInfo {
        self.info_of(chat, self.direct_chat(chat.row.peer))
    }

    /// What lists show of a chat; `goes_on` is where things are said to its peer.
    fn info_of(&self, chat: &Chat, goes_on: Option<ConversationId>) -> ChatInfo {
        let me = self.account.me().map(|me| me.account);
        let group = chat.group.iter().filter(|_| !chat.leaves_again());
        let members = group.flat_map(|group| &group.members);
        let member = |&(account, role, devices): &_| Member {
            account,
            name: self.name_of(&account),
            role,
            devices,
            unnamed: self.unnamed(chat, account).len(),
            is_me: Some(account) == me,
        };
        let peer = chat.row.peer.and_then(|peer| self.name_of(&peer));
        let title = match chat.row.kind {
            ChatKind::Direct => peer.unwrap_or_default(),
            ChatKind::Group => {
                chat.group.as_ref().map_or(&chat.row.title, |group| &group.title).clone()
            }
        };
        let on_its_way = me.and_then(|me| chat.queued_items(me).pop());
        let there = chat.row.last_at.filter(|_| chat.row.first_item < chat.row.next_item);
        ChatInfo {
            id: chat.row.id,
            kind: chat.row.kind,
            peer: chat.row.peer,
            title,
            members: members.map(member).collect(),
            adding: chat.adding(),
            standing: chat.standing(),
            hidden: chat.row.hidden,
            confirmed: chat.row.unconfirmed.is_none(),
            continues_in: goes_on.filter(|other| *other != chat.row.id),
            lost_removals: chat.row.owed_again.shown(),
            needs_new_group: chat.row.owed_again.needs_new_group(),
            last_item: chat.row.next_item.checked_sub(1),
            last_at: on_its_way.map(|item| item.at).or(there),
        }
    }

    /// The devices of an account in a chat of two that its newest record doesn't name.
    pub(super) fn unnamed(&self, chat: &Chat, account: AccountId) -> BTreeSet<DeviceId> {
        let Some(contact) = self.account.contact(&account) else {
            return BTreeSet::new();
        };
        let devices = chat.group.iter().flat_map(|group| &group.devices);
        let devices = devices.filter(|(of, _)| *of == account).map(|(_, device)| *device);
        devices.filter(|device| !contact.devices.contains(device)).collect()
    }
}

impl Chat {
    /// Those whom queued intents add.
    pub(super) fn adding(&self) -> Vec<AccountId> {
        let adds = self.intents.iter().filter_map(|(_, intent)| match intent {
            Intent::Change(Wish::Add(packages)) => Some(packages),
            _ => None,
        });
        let mut accounts: Vec<AccountId> = adds.flatten().map(|(account, _)| *account).collect();
        accounts.sort_unstable();
        accounts.dedup();
        accounts
    }

    /// How this device stands to the chat.
    pub(crate) fn standing(&self) -> Standing {
        match self.row.phase {
            _ if self.leaves_again() => Standing::Left,
            Phase::Entering(_) => Standing::Joining,
            Phase::Waiting => Standing::Waiting,
            Phase::Removed => Standing::Removed,
            Phase::Left => Standing::Left,
            Phase::Inside if self.is_member() => {
                if self.is_founding() {
                    Standing::Founding
                } else {
                    Standing::Member
                }
            }
            Phase::Inside if self.session.waits_for_add => Standing::Waiting,
            Phase::Inside if self.row.stays_out_until.is_some() => Standing::Copied,
            Phase::Inside => Standing::LockedOut,
        }
    }

    /// Messages that are on their way, as they will stand at the end of the timeline. Their numbers
    /// are those that they will have if nobody else says anything before. What is said again because
    /// the server lost it has its line already.
    pub(crate) fn queued_items(&self, sender: AccountId) -> Vec<Item> {
        let sends = self.intents.iter().filter_map(|(_, intent)| match intent {
            Intent::Send { id, .. } if self.recent.contains(&(sender, *id)) => None,
            Intent::Send { id, text, time, .. } => Some((*id, text.clone(), *time)),
            Intent::Change(_) => None,
        });
        let item = |(number, (id, text, time)): (u64, (_, _, u64))| Item {
            number,
            at: Timestamp(time.saturating_mul(1000)),
            wrong_clock: false,
            what: ItemKind::Message { id, sender, text, delivery: Delivery::Queued },
        };
        (self.row.next_item..).zip(sends).map(item).collect()
    }
}

impl State {
    /// Tells what this device can't read of a chat that it has entered, whether that was `known` here
    /// before, whether its log `differs` from the one of which it was told, and whether it `misses` what
    /// was said while the chat came back from a loss.
    pub(super) fn tell_entered(
        &mut self,
        chat: &mut Chat,
        (known, differs, misses): (bool, bool, bool),
        step: &mut Step<'_>,
    ) {
        if chat.row.recovering {
            // What was read before is not missed, although it can't be read again.
            chat.row.missed = misses;
            if chat.is_member() && core::mem::take(&mut chat.row.missed) {
                self.tell_item(chat, ItemKind::Gap, step);
            }
            return;
        }
        let what = if known { ItemKind::Gap } else { ItemKind::JoinedHere };
        self.tell_item(chat, what, step);
        if differs {
            // The group may go on in another log than this one.
            chat.row.lost_at = Some(step.now);
            self.tell_item(chat, ItemKind::ServerLostEntries, step);
        }
    }
}

#[cfg(test)]
mod tests {
    use corncrake_core::{derive::Key32, seal::envelope::Seed};

    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;
    use crate::{
        engine::{
            account::AccountState,
            chats::{Chats, all::looks, rows::ChatRow},
        },
        host::{Clock, Moment, Settings},
    };

    #[test]
    fn audit_issue_7_a_list_says_when_something_came_last_without_a_look_into_the_store() {
        let seed = Seed::from_key(Key32::from_bytes([1; 32]));
        let id = ConversationId::from_bytes([1; 32]);
        let mut chat = Chat::new(ChatRow::new(id, ChatKind::Group, seed));
        let (mut rng, account) = (ChaCha20Rng::from_seed([0; 32]), AccountState::default());
        let state = State::new(Settings::default(), String::new(), account, Chats::default());
        assert_eq!(state.chat_info(&chat).last_at, None);
        for now in [7, 9] {
            let clock = Clock { now: Timestamp(now), moment: Moment(now) };
            append(&mut chat, ItemKind::Expired, &mut Step::new(clock, &mut rng));
            assert_eq!(state.chat_info(&chat).last_at, Some(Timestamp(now)));
        }
        // As after the history was erased.
        chat.row.first_item = chat.row.next_item;
        assert_eq!(state.chat_info(&chat).last_at, None);
    }

    #[test]
    fn audit_srv_b8_a_list_looks_at_each_chat_a_few_times_however_many_there_are() {
        const CHATS: usize = 250;
        let mut chats = Chats::default();
        let numbers = 0..u8::try_from(CHATS).unwrap();
        for number in numbers {
            let seed = Seed::from_key(Key32::from_bytes([number; 32]));
            let id = ConversationId::from_bytes([number; 32]);
            let mut row = ChatRow::new(id, ChatKind::Direct, seed);
            // With the last two of them one has two chats.
            row.peer = Some(AccountId::from_bytes([number.min(248); 32]));
            chats.put(Chat::new(row));
        }
        let account = AccountState::default();
        let state = State::new(Settings::default(), String::new(), account, chats);
        looks::take();
        let infos = state.chat_infos();
        let looked = looks::take();
        let goes_on = infos.iter().filter(|info| info.continues_in.is_some()).count();
        assert_eq!((infos.len(), goes_on), (CHATS, 1));
        assert!((CHATS..=5 * CHATS).contains(&looked), "looked {looked} times at {CHATS} chats");
    }
}
