//! Reads an engine's state from the store.

use std::collections::BTreeMap;

use corncrake_core::{
    conversation::Conversation,
    id::{ConversationId, EntryId},
    seal::record::ConversationRecord,
};
use serde::{Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use super::{
    State,
    account::{self, AccountState},
    chats::{
        Chat, Chats,
        rows::{ChatRow, ClosedLog, Flight, GroupRow, Intent, Phase},
    },
    events::EventQueue,
    tables::{Table, decode, part_of},
};
use crate::{
    event::{ChatKind, Item, ItemKind},
    host::{Clock, Settings},
    store::{Order, SealedStore, Store, StoreError},
};

/// How many items at the end of a timeline are read to remember their messages: what is said again
/// to others after a loss was said not longer ago than that.
const REMEMBERED_ITEMS: u32 = 1024;

/// The whole state, as it was after the last batch.
pub(super) async fn state<S: Store>(
    store: &SealedStore<'_, S>,
    (settings, origin): (&Settings, &str),
    clock: Clock,
) -> Result<State, StoreError> {
    let account = account::load(store, origin, clock).await?;
    let chats = chats(store, &account).await?;
    let mut state = State::new(settings.clone(), origin.to_owned(), account, chats);
    state.events = events(store).await?;
    if let Some(bytes) = store.get(Table::Instance.into(), &[], 0).await? {
        state.online.instance = Some(decode(&bytes)?);
    }
    Ok(state)
}

/// Where the events stand; they themselves are read when somebody asks for them.
async fn events<S: Store>(store: &SealedStore<'_, S>) -> Result<EventQueue, StoreError> {
    let counters = match store.get(Table::Events.into(), EventQueue::COUNTERS, 0).await {
        Ok(None) => None,
        Ok(Some(bytes)) => Some(decode(&bytes)),
        Err(StoreError::Damaged) => Some(Err(StoreError::Damaged)),
        Err(error) => return Err(error),
    };
    Ok(EventQueue::stored(counters))
}

/// The events that the app has not taken.
pub(super) async fn waiting_events<S: Store>(
    store: &SealedStore<'_, S>,
    queue: &mut EventQueue,
) -> Result<(), StoreError> {
    let (table, all) = ((Table::Events.into(), [].as_slice()), 0..=u64::MAX);
    let rows = store.range_each(table, all, Order::Ascending, u32::MAX).await?;
    let rows = rows.into_iter();
    queue.load(rows.map(|(number, bytes)| (number, bytes.and_then(|bytes| decode(&bytes).ok()))));
    Ok(())
}

/// All chats; of those that rest, only what they need for that. A chat of which a row can't be
/// opened is noted as damaged.
async fn chats<S: Store>(
    store: &SealedStore<'_, S>,
    account: &AccountState,
) -> Result<Chats, StoreError> {
    let mut chats = Chats::default();
    let (rows, bad) = rows_of::<ChatRow, S>(store, Table::Chats).await?;
    for (_, row) in rows {
        chats.all.insert(row.id, Chat { is_loaded: false, ..Chat::new(row) });
    }
    for record in account.all_recorded() {
        let is_lost =
            !bad.is_empty() && bad.contains(&store.name(Table::Chats.into(), record.id.as_bytes()));
        if is_lost && !chats.all.contains_key(&record.id) {
            let row = lost_row(store, &record).await?;
            chats.found_damaged(record.id);
            chats.all.insert(record.id, Chat { is_loaded: false, ..Chat::new(row) });
        }
    }
    let mut damaged = Vec::new();
    let (rows, bad) = rows_of::<(ConversationId, GroupRow), S>(store, Table::Groups).await?;
    damaged.push((Table::Groups, bad));
    for (_, (id, group)) in rows {
        chats.all.entry(id).and_modify(|chat| chat.group = Some(group));
    }
    let (rows, bad) = rows_of::<(ConversationId, Intent), S>(store, Table::Intents).await?;
    damaged.push((Table::Intents, bad));
    let intents: BTreeMap<_, _> =
        rows.into_iter().map(|(number, (id, intent))| ((id, number), intent)).collect();
    for ((id, number), intent) in intents {
        chats.all.entry(id).and_modify(|chat| {
            chat.row.next_intent = chat.row.next_intent.max(number + 1);
            chat.intents.push_back((number, intent));
        });
    }
    let (rows, bad) = rows_of::<(ConversationId, Flight), S>(store, Table::Flights).await?;
    damaged.push((Table::Flights, bad));
    for (_, (id, flight)) in rows {
        chats.all.entry(id).and_modify(|chat| chat.flight = Some(flight));
    }
    let (rows, bad) = rows_of::<(ConversationId, ClosedLog), S>(store, Table::ClosedLogs).await?;
    damaged.push((Table::ClosedLogs, bad));
    for (number, (id, log)) in rows {
        chats.all.entry(id).and_modify(|chat| {
            chat.row.next_closed = chat.row.next_closed.max(number + 1);
            chat.closed.insert(number, log);
        });
    }
    note_damage(store, &mut chats, &damaged);
    let busy: Vec<_> = chats.all.values().filter(|chat| !chat.rests()).map(|c| c.row.id).collect();
    for id in busy {
        group(store, &mut chats, id).await?;
    }
    Ok(chats)
}

/// The records of a table that open, and the names of those that don't.
async fn rows_of<T: Serialize + DeserializeOwned, S: Store>(
    store: &SealedStore<'_, S>,
    table: Table,
) -> Result<(Vec<(u64, T)>, Vec<[u8; 16]>), StoreError> {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for (name, index, bytes) in store.scan_each(table.into()).await? {
        match bytes.and_then(|bytes| decode(&bytes).ok()) {
            Some(record) => good.push((index, record)),
            None => bad.push(name),
        }
    }
    Ok((good, bad))
}

/// Notes the chats to which rows belong that don't open, and those that lack a row.
fn note_damage<S: Store>(
    store: &SealedStore<'_, S>,
    chats: &mut Chats,
    damaged: &[(Table, Vec<[u8; 16]>)],
) {
    let lacks_group = |chat: &&Chat| {
        chat.group.is_none() && matches!(chat.row.phase, Phase::Inside | Phase::Waiting)
    };
    let mut found: Vec<_> = chats.all.values().filter(lacks_group).map(|c| c.row.id).collect();
    for (table, names) in damaged.iter().filter(|(_, names)| !names.is_empty()) {
        let is_hit =
            |id: &&ConversationId| names.contains(&store.name((*table).into(), id.as_bytes()));
        found.extend(chats.all.keys().filter(is_hit));
    }
    found.into_iter().for_each(|id| chats.found_damaged(id));
}

/// The row of a chat that the account log knows and whose own row doesn't open.
async fn lost_row<S: Store>(
    store: &SealedStore<'_, S>,
    record: &ConversationRecord,
) -> Result<ChatRow, StoreError> {
    let mut row = ChatRow::new(record.id, ChatKind::Group, record.seed.clone());
    row.hidden = record.hidden;
    let timeline = (Table::Timeline.into(), record.id.as_bytes().as_slice());
    let all = || 0..=u64::MAX;
    let first = store.range_each(timeline, all(), Order::Ascending, 1).await?;
    let last = store.range_each(timeline, all(), Order::Descending, 1).await?;
    row.first_item = first.first().map_or(0, |(number, _)| *number);
    row.next_item = last.first().map_or(0, |(number, _)| number.saturating_add(1));
    let newest = last.first().and_then(|(_, bytes)| decode::<Item>(bytes.as_ref()?).ok());
    row.last_at = newest.map(|item| item.at);
    Ok(row)
}

/// What is needed of a chat to read its log and to write to it. If a row of it doesn't open, it
/// is noted as damaged.
pub(super) async fn group<S: Store>(
    store: &SealedStore<'_, S>,
    chats: &mut Chats,
    id: ConversationId,
) -> Result<(), StoreError> {
    let Some(mut chat) = chats.take(id) else {
        return Ok(());
    };
    let loaded = rows_of_group(store, &mut chat).await;
    chats.put(chat);
    match loaded {
        Err(StoreError::Damaged) => {
            chats.found_damaged(id);
            Ok(())
        }
        other => other,
    }
}

/// A conversation, put together from the rows of its parts.
fn conversation(rows: Vec<(u64, Zeroizing<Vec<u8>>)>) -> Result<Conversation, StoreError> {
    let part = |(index, bytes): (u64, Zeroizing<Vec<u8>>)| {
        part_of(index).map(|part| (part, bytes.to_vec())).ok_or(StoreError::Damaged)
    };
    let parts = rows.into_iter().map(part).collect::<Result<Vec<_>, _>>()?;
    Conversation::load(parts).map_err(|_| StoreError::Damaged)
}

async fn rows_of_group<S: Store>(
    store: &SealedStore<'_, S>,
    chat: &mut Chat,
) -> Result<(), StoreError> {
    let id = *chat.row.id.as_bytes();
    let rows = async |table: Table| {
        store.range((table.into(), &id), 0..=u64::MAX, Order::Ascending, u32::MAX).await
    };
    if chat.conversation.is_none() && chat.group.is_some() {
        chat.conversation = Some(conversation(rows(chat.row.parts.table()).await?)?);
    }
    if chat.aside.is_none() && chat.row.aside.is_some() {
        chat.aside = Some(Box::new(conversation(rows(chat.row.parts.other().table()).await?)?));
    }
    for (row, bytes) in rows(Table::Own).await? {
        let hash: EntryId = decode(&bytes)?;
        chat.own.insert(hash, row);
    }
    for (row, bytes) in rows(Table::Read).await? {
        chat.read.insert(row, decode(&bytes)?);
    }
    let timeline = (Table::Timeline.into(), id.as_slice());
    let all = 0..=u64::MAX;
    let items = store.range_each(timeline, all, Order::Descending, REMEMBERED_ITEMS).await?;
    // A line that doesn't open damages itself alone, and says so where it is shown.
    let items = items.into_iter().rev().filter_map(|(_, bytes)| decode::<Item>(&bytes?).ok());
    for item in items {
        if let ItemKind::Message { id, sender, .. } = item.what {
            chat.remember(sender, id);
        }
    }
    for (number, bytes) in rows(Table::Kept).await? {
        chat.kept.insert(number, decode(&bytes)?);
    }
    for (number, bytes) in rows(Table::Sent).await? {
        chat.sent.insert(number, decode(&bytes)?);
    }
    for (number, bytes) in rows(Table::Audiences).await? {
        chat.audiences.load(number, decode(&bytes)?);
    }
    for (_, bytes) in rows(Table::Absent).await? {
        chat.absent = decode(&bytes)?;
    }
    chat.is_loaded = true;
    Ok(())
}
