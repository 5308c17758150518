//! Damage stays small: a chat of which a row can't be opened is given up as it is stored and
//! entered anew, from the account log or the seed that two people share. The others go on.

use corncrake_core::id::ConversationId;

use super::{
    Chat,
    rows::{Goal, Phase},
};
use crate::{
    engine::{Effect, State, Step, tables::Table},
    event::{ChatKind, EventKind, ItemKind},
    store::StoreError,
};

impl State {
    /// Takes up the chats that were found damaged since the last step.
    pub(crate) fn mend_damaged(&mut self, step: &mut Step<'_>) {
        for id in core::mem::take(&mut self.chats.damaged) {
            self.with_chat(id, step, |state, chat, step| state.mend(chat, step));
        }
    }

    fn mend(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        let id = *chat.row.id.as_bytes();
        chat.drop_group(step);
        chat.drop_aside(step);
        chat.drop_flight(step);
        chat.kept.clear();
        chat.sent.clear();
        chat.audiences.clear();
        chat.absent.clear();
        chat.read.clear();
        let others = [
            Table::Flights,
            Table::Intents,
            Table::ClosedLogs,
            Table::Kept,
            Table::Sent,
            Table::Audiences,
            Table::Absent,
            Table::Read,
        ];
        for table in others {
            step.delete_all(table, &id);
        }
        // What could be read of these is still wanted.
        for (number, intent) in &chat.intents {
            step.put(Table::Intents, &id, *number, &(chat.row.id, intent));
        }
        for (number, closed) in &chat.closed {
            closed.save(chat.row.id, *number, step);
        }
        chat.session.duties.clear();
        chat.session.invitation = None;
        chat.session.search = None;
        chat.row.recovering = false;
        step.effects.push(Effect::Unwatch(chat.log()));
        let code = StoreError::Damaged.code().to_owned();
        self.tell_item(chat, ItemKind::Unreadable { sender: None, code }, step);
        if matches!(chat.row.phase, Phase::Inside | Phase::Waiting) {
            self.enter_anew(chat, step);
        }
        chat.save(step);
        step.event(EventKind::ChatChanged(chat.row.id));
    }

    fn enter_anew(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        let recorded = self.account.recorded(chat.row.id);
        let n = chat.row.n;
        let direct = chat.row.peer.filter(|_| chat.row.kind == ChatKind::Direct);
        let seed = direct.and_then(|peer| self.direct_seed_of(chat.row.id, peer));
        let (seed, goal) = match (recorded, seed) {
            (Some(record), _) => (record.seed, Goal::Recorded(record.anchor, record.read)),
            (None, Some(seed)) => (seed, Goal::Direct { n }),
            _ => {
                // Nothing says where the true group is: somebody has to add this device again.
                self.all_intents_failed(chat, step);
                chat.row.phase = Phase::Removed;
                return;
            }
        };
        if chat.row.seed != seed {
            // The log that is named may have been closed since, by a handover to this one.
            chat.row.seeds_ahead = vec![chat.row.seed.clone()];
        }
        chat.move_to(&seed);
        chat.row.phase = Phase::Entering(goal.clone());
        self.enter(Some(chat.row.id), seed, goal, step);
    }
}

impl super::Chats {
    /// Notes that a row of a chat can't be opened.
    pub(crate) fn found_damaged(&mut self, id: ConversationId) {
        if !self.damaged.contains(&id) {
            self.damaged.push(id);
        }
    }
}
