//! Lines of a timeline, straight from the store.

use core::ops::Range;

use corncrake_core::id::ConversationId;

use super::{
    events::EventRow,
    tables::{self, Table},
};
use crate::{
    error::{Error, Refusal},
    event::{EventKind, Item, ItemKind},
    host::Host,
    store::{Order, StoreError},
};

impl<H: Host> super::Engine<'_, H> {
    /// A page of a timeline, and behind its end what is on its way.
    pub(super) async fn history(
        &self,
        id: ConversationId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Item>, Error> {
        let chat = self.state.chats.all.get(&id).ok_or(Refusal::UnknownChat)?;
        let end = before.unwrap_or(u64::MAX).min(chat.row.next_item);
        let first = chat.row.first_item.max(end.saturating_sub(limit.into()));
        let mut items = self.items(id, first..end).await?;
        if let (None, Some(me)) = (before, self.state.account.me()) {
            items.extend(chat.queued_items(me.account));
        }
        Ok(items)
    }

    /// The lines with these numbers, all of which have been written and none erased: one that is
    /// damaged or missing says so.
    async fn items(
        &self,
        id: ConversationId,
        numbers: Range<u64>,
    ) -> Result<Vec<Item>, StoreError> {
        let Some(last) = numbers.end.checked_sub(1).filter(|last| *last >= numbers.start) else {
            return Ok(Vec::new());
        };
        let table = (Table::Timeline.into(), id.as_bytes().as_slice());
        let range = numbers.start..=last;
        let rows = self.store.range_each(table, range, Order::Ascending, u32::MAX).await?;
        let mut rows = rows.into_iter().peekable();
        let mut items: Vec<Item> = Vec::new();
        for number in numbers {
            let row = rows.next_if(|(index, _)| *index == number).and_then(|(_, bytes)| bytes);
            let item = row.and_then(|bytes| tables::decode::<Item>(&bytes).ok());
            items.push(item.filter(|item| item.number == number).unwrap_or_else(|| {
                let code = StoreError::Damaged.code().to_owned();
                let at = items.last().map(|before| before.at).unwrap_or_default();
                Item {
                    number,
                    at,
                    wrong_clock: false,
                    what: ItemKind::Unreadable { sender: None, code },
                }
            }));
        }
        Ok(items)
    }

    /// Looks up the events that somebody waits for and that name a line of a timeline. What was
    /// erased since is passed over.
    pub(super) async fn tell(&mut self) -> Result<(), Error> {
        self.state.tell_waiting();
        while let Some((_, row)) = self.state.events.to_look_up() {
            let what = match row {
                EventRow::Item(chat, number) => {
                    let erased = |chat: &super::chats::Chat| number < chat.row.first_item;
                    match self.state.chats.all.get(&chat) {
                        Some(known) if !erased(known) => {
                            let mut items = self.items(chat, number..number + 1).await?;
                            items.pop().map(|item| EventKind::Item { chat, item })
                        }
                        _ => None,
                    }
                }
                EventRow::Queued(chat, id) => {
                    let item = self.state.queued_item(chat, id);
                    item.map(|item| EventKind::Item { chat, item })
                }
                EventRow::Ready
                | EventRow::ChatAdded(_)
                | EventRow::ChatChanged(_)
                | EventRow::Lagged => None,
            };
            self.state.events.looked_up(what);
            self.state.tell_waiting();
        }
        Ok(())
    }
}
