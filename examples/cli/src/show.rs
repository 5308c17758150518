//! What answers and events look like, for people and as JSON.

use std::collections::BTreeMap;

use corncrake::{
    AccountId, ChatInfo, ChatKind, Client, Connection, Delivery, Event, EventKind, Item, ItemKind,
    Role, Standing, Timestamp,
};
use serde_json::{Value, json};

use crate::{
    failure::{Exit, Failure},
    tame,
};

/// What a command answers.
#[derive(Debug)]
pub(crate) struct Answer {
    /// For programs.
    pub(crate) json: Value,
    /// For people.
    pub(crate) text: String,
    /// How the program ends after it.
    pub(crate) exit: Exit,
}

impl Answer {
    /// An answer after which the program ends well.
    pub(crate) const fn new(json: Value, text: String) -> Self {
        Self { json, text, exit: Exit::Done }
    }
}

/// The usernames of those who appear in items.
#[derive(Debug, Default)]
pub(crate) struct Names(BTreeMap<AccountId, String>);

impl Names {
    /// The names of everybody in these items.
    pub(crate) async fn of(
        client: &Client,
        items: impl IntoIterator<Item = &Item>,
    ) -> Result<Self, Failure> {
        let mut names = BTreeMap::new();
        for account in items.into_iter().flat_map(people) {
            if !names.contains_key(&account)
                && let Some(name) = client.name_of(account).await?
            {
                names.insert(account, name);
            }
        }
        Ok(Self(names))
    }

    fn get(&self, account: &AccountId) -> String {
        let short = || account.to_string().chars().take(8).collect();
        self.0.get(account).cloned().unwrap_or_else(short)
    }

    /// A name as it is shown to people.
    fn shown(&self, account: &AccountId) -> String {
        tame::line(&self.get(account))
    }

    fn all(&self, accounts: &[AccountId]) -> String {
        accounts.iter().map(|account| self.shown(account)).collect::<Vec<_>>().join(", ")
    }
}

/// Whose accounts an item names.
fn people(item: &Item) -> Vec<AccountId> {
    match &item.what {
        ItemKind::Message { sender, .. }
        | ItemKind::UnknownKind { sender, .. }
        | ItemKind::ViewDiffers { sender } => vec![*sender],
        ItemKind::Unreadable { sender, .. } => sender.iter().copied().collect(),
        ItemKind::Added { by, who } | ItemKind::Removed { by, who } => {
            who.iter().chain([by]).copied().collect()
        }
        ItemKind::Rejoined { who } | ItemKind::Left { who } => vec![*who],
        ItemKind::Renamed { by, .. }
        | ItemKind::RolesChanged { by }
        | ItemKind::LockedOut { by } => vec![*by],
        _ => Vec::new(),
    }
}

/// The stable name of a standing.
pub(crate) const fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Founding => "founding",
        Standing::Joining => "joining",
        Standing::Member => "member",
        Standing::LockedOut => "locked_out",
        Standing::Waiting => "waiting",
        Standing::Removed => "removed",
        Standing::Left => "left",
    }
}

const fn role(role: Role) -> &'static str {
    match role {
        Role::Owner => "owner",
        Role::Admin => "admin",
        Role::Member => "member",
    }
}

/// A chat as JSON.
pub(crate) fn chat_json(chat: &ChatInfo) -> Value {
    let members: Vec<_> = chat
        .members
        .iter()
        .map(|member| {
            json!({
                "account": member.account.to_string(),
                "name": member.name,
                "role": role(member.role),
                "devices": member.devices,
                "me": member.is_me,
            })
        })
        .collect();
    json!({
        "chat": chat.id.to_string(),
        "kind": match chat.kind { ChatKind::Direct => "direct", ChatKind::Group => "group" },
        "title": chat.title,
        "members": members,
        "standing": standing(chat.standing),
        "hidden": chat.hidden,
        "confirmed": chat.confirmed,
        "continues_in": chat.continues_in.map(|other| other.to_string()),
        "last_item": chat.last_item,
    })
}

/// A chat as a line.
pub(crate) fn chat_line(chat: &ChatInfo) -> String {
    let id: String = chat.id.to_string().chars().take(8).collect();
    let mark = match chat.kind {
        ChatKind::Direct => "",
        ChatKind::Group => "#",
    };
    let people = chat.members.iter().filter_map(|member| member.name.as_deref());
    let people = people.map(tame::line).collect::<Vec<_>>().join(", ");
    let mut line = format!("{id}  {mark}{}  ({people})", tame::line(&chat.title));
    if chat.standing != Standing::Member {
        line.push_str("  ");
        line.push_str(standing(chat.standing));
    }
    if !chat.confirmed {
        line.push_str("  not confirmed: only who invited you has spoken");
    }
    if let Some(other) = chat.continues_in {
        let other: String = other.to_string().chars().take(8).collect();
        line.push_str("  goes on in ");
        line.push_str(&other);
    }
    line
}

/// A line of a timeline as JSON.
pub(crate) fn item_json(item: &Item, names: &Names) -> Value {
    let list = |who: &[AccountId]| who.iter().map(|one| names.get(one)).collect::<Vec<_>>();
    let what = match &item.what {
        ItemKind::Message { id, sender, text, delivery } => {
            let (state, code) = match delivery {
                Delivery::Received => ("received", None),
                Delivery::Queued => ("queued", None),
                Delivery::Sent => ("sent", None),
                Delivery::Failed(code) => ("failed", Some(code)),
            };
            json!({"kind": "message", "message": id.to_string(), "from": names.get(sender),
                "text": text, "delivery": state, "code": code})
        }
        ItemKind::UnknownKind { id, sender } => {
            json!({"kind": "unknown_kind", "message": id.to_string(), "from": names.get(sender)})
        }
        ItemKind::Unreadable { sender, code } => {
            json!({"kind": "unreadable", "from": sender.map(|one| names.get(&one)), "code": code})
        }
        ItemKind::ServerLostEntries => json!({"kind": "server_lost_entries"}),
        ItemKind::JoinedHere => json!({"kind": "joined_here"}),
        ItemKind::Gap => json!({"kind": "gap"}),
        ItemKind::Added { by, who } => {
            json!({"kind": "added", "by": names.get(by), "who": list(who)})
        }
        ItemKind::Removed { by, who } => {
            json!({"kind": "removed", "by": names.get(by), "who": list(who)})
        }
        ItemKind::Rejoined { who } => json!({"kind": "rejoined", "who": names.get(who)}),
        ItemKind::Left { who } => json!({"kind": "left", "who": names.get(who)}),
        ItemKind::Renamed { by, title } => {
            json!({"kind": "renamed", "by": names.get(by), "title": title})
        }
        ItemKind::RolesChanged { by } => json!({"kind": "roles_changed", "by": names.get(by)}),
        ItemKind::LockedOut { by } => json!({"kind": "locked_out", "by": names.get(by)}),
        ItemKind::ViewDiffers { sender } => {
            json!({"kind": "view_differs", "from": names.get(sender)})
        }
        _ => json!({"kind": "other"}),
    };
    let mut line = json!({"number": item.number, "at": item.at.0});
    if let (Some(line), Value::Object(what)) = (line.as_object_mut(), what) {
        line.extend(what);
    }
    line
}

/// A line of a timeline for people.
pub(crate) fn item_line(item: &Item, names: &Names) -> String {
    let what = match &item.what {
        ItemKind::Message { sender, text, delivery, .. } => {
            let mark = match delivery {
                Delivery::Received | Delivery::Sent => String::new(),
                Delivery::Queued => " (queued)".to_owned(),
                Delivery::Failed(code) => format!(" (not sent: {})", tame::line(code)),
            };
            // The mark comes first: after the text, the text could end in one.
            format!("{}{mark}: {}", names.shown(sender), tame::text(text))
        }
        ItemKind::UnknownKind { sender, .. } => {
            format!("{} sent something that needs a newer version", names.shown(sender))
        }
        ItemKind::Unreadable { code, .. } => {
            format!("* something could not be read ({})", tame::line(code))
        }
        ItemKind::ServerLostEntries => {
            "* the server has lost messages; yours are sent again".to_owned()
        }
        ItemKind::JoinedHere => "* this device joined here".to_owned(),
        ItemKind::Gap => "* this device was out; what was said meanwhile is not here".to_owned(),
        ItemKind::Added { by, who } => format!("* {} added {}", names.shown(by), names.all(who)),
        ItemKind::Removed { by, who } => {
            format!("* {} removed {}", names.shown(by), names.all(who))
        }
        ItemKind::Rejoined { who } => format!("* a device of {} came in", names.shown(who)),
        ItemKind::Left { who } => format!("* {} left", names.shown(who)),
        ItemKind::Renamed { by, title } => {
            format!("* {} named the group {}", names.shown(by), tame::line(title))
        }
        ItemKind::RolesChanged { by } => format!("* {} changed the roles", names.shown(by)),
        ItemKind::LockedOut { by } => {
            let by = names.shown(by);
            format!("* a change by {by} shut this device out; you may want to remove {by}")
        }
        ItemKind::ViewDiffers { sender } => format!(
            "* {} saw another history than you: the server may be lying to one of you",
            names.shown(sender)
        ),
        _ => "* something that needs a newer version".to_owned(),
    };
    format!("{:>5}  {}  {what}", item.number, clock(item.at))
}

/// An event as JSON.
pub(crate) fn event_json(event: &Event, names: &Names) -> Value {
    let what = match &event.what {
        EventKind::Ready => json!({"event": "ready"}),
        EventKind::Connection(state) => {
            json!({"event": "connection", "connection": state.as_str()})
        }
        EventKind::ChatAdded(chat) => json!({"event": "chat_added", "chat": chat.to_string()}),
        EventKind::ChatChanged(chat) => json!({"event": "chat_changed", "chat": chat.to_string()}),
        EventKind::Item { chat, item } => {
            json!({"event": "item", "chat": chat.to_string(), "item": item_json(item, names)})
        }
        _ => json!({"event": "other"}),
    };
    let mut line = match event.sequence {
        Some(sequence) => json!({"sequence": sequence}),
        None => json!({}),
    };
    if let (Some(line), Value::Object(what)) = (line.as_object_mut(), what) {
        line.extend(what);
    }
    line
}

/// An event for people; some are of no interest to them.
pub(crate) fn event_line(event: &Event, title: Option<&str>, names: &Names) -> Option<String> {
    // The first closing bracket ends the title, whatever the title is.
    let chat = || tame::line(title.unwrap_or("a chat")).replace('[', "(").replace(']', ")");
    match &event.what {
        EventKind::Connection(Connection::SignedOut) => Some(
            "* the server no longer knows this device: log in with a new home folder".to_owned(),
        ),
        EventKind::Connection(state) => Some(format!("* {}", state.as_str())),
        EventKind::ChatAdded(_) => Some(format!("[{}] * new", chat())),
        EventKind::Item { item, .. } => Some(format!("[{}] {}", chat(), item_line(item, names))),
        _ => None,
    }
}

/// A moment in UTC, to the minute (Howard Hinnant's days-to-civil).
fn clock(at: Timestamp) -> String {
    let minutes = at.0 / 60_000;
    let (days, minute) = (minutes / 1_440, minutes % 1_440);
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", minute / 60, minute % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORGED: &str = "X  (ann, bob)\ndeadbeef  bank  (bank, bob)";

    fn item(what: ItemKind) -> Item {
        Item { number: 1, at: Timestamp(0), what }
    }

    fn account(byte: u8) -> AccountId {
        AccountId::from_bytes([byte; 32])
    }

    fn names() -> Names {
        Names([(account(1), "mal\n    2  1970-01-01 00:00  bob".to_owned())].into())
    }

    #[test]
    fn audit_prog_h7_titles_and_names_cannot_forge_rows() {
        let chat = ChatInfo {
            id: corncrake::ConversationId::from_bytes([0; 32]),
            kind: ChatKind::Group,
            title: FORGED.to_owned(),
            members: Vec::new(),
            standing: Standing::Member,
            hidden: false,
            confirmed: true,
            continues_in: None,
            last_item: None,
            adding: Vec::new(),
        };
        let row = chat_line(&chat);
        assert_eq!(row, "00000000  #X (ann, bob)\u{fffd}deadbeef bank (bank, bob)  ()");
        let renamed = ItemKind::Renamed { by: account(1), title: FORGED.to_owned() };
        let said = |delivery| ItemKind::Message {
            id: corncrake::MessageId::from_bytes([0; 16]),
            sender: account(1),
            text: "hi\n    2  1970-01-01 00:00  bob: mine  (queued)".to_owned(),
            delivery,
        };
        let failed = Delivery::Failed("not\nso".to_owned());
        let unreadable = ItemKind::Unreadable { sender: None, code: "a\nb".to_owned() };
        for what in [renamed, said(Delivery::Received), said(failed), unreadable] {
            let what = item(what);
            let line = item_line(&what, &names());
            assert!(line.starts_with("    1  1970-01-01 00:00  "), "{line}");
            assert!(line.lines().skip(1).all(|line| line.starts_with(tame::CONTINUED)), "{line}");
            let chat = corncrake::ConversationId::from_bytes([0; 32]);
            let event = Event { sequence: None, what: EventKind::Item { chat, item: what } };
            let title = "a]     1  1970-01-01 00:00  bob: yes";
            let line = event_line(&event, Some(title), &names()).unwrap();
            assert!(line.starts_with("[a) 1 1970-01-01 00:00 bob: yes]     1  "), "{line}");
        }
    }

    #[test]
    fn moments_are_written_in_utc() {
        assert_eq!(clock(Timestamp(0)), "1970-01-01 00:00");
        assert_eq!(clock(Timestamp(951_782_400_000)), "2000-02-29 00:00");
        assert_eq!(clock(Timestamp(1_767_225_599_000)), "2025-12-31 23:59");
    }
}
