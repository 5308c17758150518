//! Chats of two: where they are, and who founds them.

use core::time::Duration;
use std::collections::BTreeSet;

use corncrake_core::{
    conversation::ContextExtension,
    id::{AccountId, ConversationId, DeviceId},
    identity::contact_agreement,
    seal::envelope::Seed,
};
use corncrake_wire::log::LogEntry;

use super::{
    Chat,
    create::{ClaimThen, GatherThen, LAST_DIRECT, Packages, Starter, fail},
    rows::{ChatRow, Goal, Opening, Phase},
};
use crate::{
    engine::{
        State, Step,
        account::{By, ClaimedPackage},
        tables::Table,
    },
    error::{Error, Refusal},
    event::ChatKind,
    host::Moment,
};

/// The first wait until a record is looked at again that didn't name a device; each is four times the
/// last.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// The longest of these waits.
const LONGEST: Duration = Duration::from_hours(24);

/// Devices of the peer that the newest record known doesn't name.
#[derive(Debug, Default)]
pub(crate) struct Unnamed {
    devices: BTreeSet<DeviceId>,
    /// How often the record was looked at for them.
    looks: u32,
    /// When it is looked at next.
    look_at: Moment,
}

impl State {
    /// Finds the chat with one person, or makes it.
    pub(super) fn start_direct(&mut self, peer: AccountId, starter: Starter, step: &mut Step<'_>) {
        let Some(id) = self.direct_chat(Some(peer)) else {
            return self.search_direct(peer, 0, Some(starter), step);
        };
        self.with_chat(id, step, |state, chat, step| {
            if chat.session.starter.is_none() && matches!(chat.row.phase, Phase::Entering(_)) {
                chat.session.starter = Some(starter);
                return;
            }
            state.unhide(chat, step);
            state.advance(chat, step);
            starter.answer(Ok(id), step);
        });
    }

    /// The chat in which things are said to somebody. Where there are two, it is the one that the
    /// contact keys of both newest records lead to, else the one with the lower id: who has an old
    /// contact key can found a chat too.
    pub(crate) fn direct_chat(&self, peer: Option<AccountId>) -> Option<ConversationId> {
        let peer = peer?;
        let with_peer =
            |chat: &&Chat| chat.row.peer == Some(peer) && chat.row.phase != Phase::Removed;
        let chats: Vec<_> = self.chats.all.values().filter(with_peer).collect();
        let only = chats.first()?.row.id;
        if chats.len() == 1 {
            return Some(only);
        }
        let seeds = (0..=LAST_DIRECT).filter_map(|n| self.direct_seed(peer, n).ok());
        let newest: Vec<_> = seeds.map(|seed| seed.conversation_id()).collect();
        let newest = chats.iter().find(|chat| newest.contains(&chat.row.id));
        Some(newest.map_or(only, |chat| chat.row.id))
    }

    /// Fetches the peer's record anew while the one that is known doesn't name one of the devices in
    /// a chat of two: at once, and after waits that grow, as a server may have lost the newest one.
    pub(super) fn mind_unnamed(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        let Some(peer) = chat.row.peer else { return };
        let unnamed = self.unnamed(chat, peer);
        let before = &mut chat.session.unnamed;
        if unnamed.is_empty() {
            *before = Unnamed::default();
            return;
        }
        if !unnamed.is_subset(&before.devices) {
            *before = Unnamed::default();
        }
        before.devices = unnamed;
        if before.look_at <= step.moment {
            let wait = LOOK_AGAIN.saturating_mul(1 << (2 * before.looks).min(16)).min(LONGEST);
            before.looks = before.looks.saturating_add(1);
            before.look_at = step.moment.after(wait);
            if !self.is_learning(&peer) {
                self.look_up(vec![By::Id(peer)], GatherThen::Names(chat.row.id), step);
            }
        }
        chat.wake_by(chat.session.unnamed.look_at);
    }

    /// The first seed of the `n`th possible chat with somebody.
    pub(super) fn direct_seed(&self, peer: AccountId, n: u64) -> Result<Seed, Error> {
        let (Some(me), Some(contact)) = (self.account.me(), self.account.contact(&peer)) else {
            return Err(Refusal::UnknownAccount.into());
        };
        contact_agreement(&me.contact_key, &contact.contact_key, me.account, peer, n)
            .map_err(|_| Error::Untrue("the contact key is not a usable key"))
    }

    /// The first seed of the chat with somebody that has this id, whichever of the contact keys that
    /// both have had it comes from.
    pub(super) fn direct_seed_of(&self, id: ConversationId, peer: AccountId) -> Option<Seed> {
        let (me, contact) = (self.account.me()?, self.account.contact(&peer)?);
        let ours = core::iter::once(me.contact_key.clone());
        ours.chain(self.account.earlier_contact_keys()).find_map(|ours| {
            contact.contact_keys().find_map(|theirs| {
                (0..=LAST_DIRECT).find_map(|n| {
                    let seed = contact_agreement(&ours, theirs, me.account, peer, n).ok()?;
                    (seed.conversation_id() == id).then_some(seed)
                })
            })
        })
    }

    /// Looks whether the `n`th possible chat of two people exists.
    pub(super) fn search_direct(
        &mut self,
        peer: AccountId,
        n: u64,
        starter: Option<Starter>,
        step: &mut Step<'_>,
    ) {
        let seed = match self.direct_seed(peer, n) {
            Ok(seed) => seed,
            Err(error) => return fail(starter, error, step),
        };
        let id = seed.conversation_id();
        let mut row = ChatRow::new(id, ChatKind::Direct, seed.clone());
        row.peer = Some(peer);
        row.n = n;
        row.phase = Phase::Entering(Goal::Direct { n });
        let mut chat = Chat::new(row);
        chat.session.starter = starter;
        self.chats.put(chat);
        self.enter(Some(id), seed, Goal::Direct { n }, step);
        if n == 0 {
            // Most who look for each other have no chat yet: the packages are there when the log
            // is known to be missing.
            self.claim_for_direct(id, step);
        }
    }

    pub(super) fn claim_for_direct(&mut self, id: ConversationId, step: &mut Step<'_>) {
        let (Some(me), Some(chat)) = (self.account.me(), self.chats.all.get_mut(&id)) else {
            return;
        };
        if let Some(peer) = chat.row.peer {
            chat.session.packages = Packages::Asked;
            let accounts = vec![peer, me.account];
            self.claim(accounts, ClaimThen::Direct(id), step);
        }
    }

    /// The log of a 1:1 chat does not exist yet: found it.
    pub(super) fn direct_log_missing(&mut self, number: u64, step: &mut Step<'_>) {
        let Some(id) = self.chats.entering.remove(&number).and_then(|enter| enter.id) else {
            return;
        };
        let Some(chat) = self.chats.all.get_mut(&id) else {
            return;
        };
        chat.session.is_missing = true;
        match core::mem::take(&mut chat.session.packages) {
            Packages::None => self.claim_for_direct(id, step),
            Packages::Asked => chat.session.packages = Packages::Asked,
            Packages::Here(packages) => self.found_direct(id, &packages, step),
        }
    }

    /// What lies in the log of a 1:1 chat is no chat of the two: look at the next one.
    pub(super) fn direct_fold_failed(&mut self, number: u64, step: &mut Step<'_>) {
        let Some(id) = self.chats.entering.remove(&number).and_then(|enter| enter.id) else {
            return;
        };
        let Some(mut old) = self.chats.take(id) else {
            return;
        };
        if old.row.n == LAST_DIRECT {
            let starter = old.session.starter.take();
            fail(starter, Error::Untrue("what lies in the log is no chat of the two"), step);
            let seed = old.row.seed.clone();
            self.chats.put(old);
            return self.enter_later(id, seed, Goal::Direct { n: LAST_DIRECT }, step);
        }
        step.delete(Table::Chats, id.as_bytes(), 0);
        step.delete_all(Table::Intents, id.as_bytes());
        let Some(peer) = old.row.peer else { return };
        self.search_direct(peer, old.row.n + 1, old.session.starter.take(), step);
        let next = self
            .chats
            .all
            .values()
            .find(|chat| chat.row.peer == Some(peer) && chat.row.n == old.row.n + 1);
        let Some(next) = next.map(|chat| chat.row.id) else {
            return;
        };
        self.with_chat(next, step, |_, chat, step| {
            for (number, intent) in core::mem::take(&mut old.intents) {
                step.put(Table::Intents, next.as_bytes(), number, &(next, &intent));
                chat.intents.push_back((number, intent));
            }
            chat.row.next_intent = old.row.next_intent;
            chat.save(step);
        });
    }

    pub(super) fn found_direct(
        &mut self,
        id: ConversationId,
        packages: &[ClaimedPackage],
        step: &mut Step<'_>,
    ) {
        // Unless an invitation was quicker.
        let enters = |chat: &&Chat| matches!(chat.row.phase, Phase::Entering(_));
        let Some(chat) = self.chats.all.get(&id).filter(enters) else {
            return;
        };
        match self.make_founding(chat, ContextExtension::direct(), packages, step) {
            Ok(founding) => {
                self.with_chat(id, step, |state, chat, step| state.found(chat, founding, step));
            }
            Err(refusal) => self.claim_failed(ClaimThen::Direct(id), refusal.into(), step),
        }
    }

    /// Whether the first entry of a log that this device wanted to found is somebody else's.
    pub(super) fn lost_the_founding(&self, chat: &Chat, first: &LogEntry) -> bool {
        chat.row.kind == ChatKind::Direct
            && chat.is_founding()
            && first.position == 1
            && chat.flown(chat.inner_hash(first)).is_none()
    }

    /// The other side founded first: join what is there; queued messages stay.
    pub(super) fn join_what_is_there(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        chat.drop_flight(step);
        chat.drop_group(step);
        let goal = Goal::Direct { n: chat.row.n };
        chat.row.phase = Phase::Entering(goal.clone());
        chat.row.opening = Opening::False;
        chat.save(step);
        self.enter(Some(chat.row.id), chat.row.seed.clone(), goal, step);
    }
}
