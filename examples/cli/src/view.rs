//! What answers and events say: the JSON that programs read, from which the lines for people are
//! made too, in this program or in another one that has the store.

use std::collections::BTreeMap;

use corncrake::{
    AccountId, ChatInfo, ChatKind, Client, ConversationId, Delivery, EventKind, ItemKind, LeftOut,
    Role, Standing,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::failure::Failure;

/// A chat in a list.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Chat {
    pub(crate) chat: String,
    pub(crate) kind: String,
    pub(crate) title: String,
    pub(crate) members: Vec<Member>,
    pub(crate) standing: String,
    pub(crate) hidden: bool,
    pub(crate) confirmed: bool,
    pub(crate) continues_in: Option<String>,
    /// Who is added once a removal is confirmed.
    pub(crate) adding: Vec<String>,
    /// Accounts whose removal the server has lost, and that others have to remove again.
    pub(crate) lost_removals: Vec<String>,
    /// Whether nobody has done so for a day.
    pub(crate) needs_new_group: bool,
    pub(crate) last_item: Option<u64>,
    /// When the last item came to be.
    pub(crate) last_at: Option<u64>,
}

/// A device of one's own.
pub(crate) fn device(device: &corncrake::Device) -> Value {
    json!({
        "device": device.id.to_string(),
        "name": device.name,
        "since": device.since,
        "this": device.this_device,
    })
}

/// People who could not be added, and why.
pub(crate) fn left_out(left_out: &[LeftOut]) -> Value {
    let one = |one: &LeftOut| {
        let mut json = json!({"name": one.who, "code": one.why.code()});
        if let (Some((before, now)), Some(json)) = (accounts(&one.why), json.as_object_mut()) {
            json.insert("before".to_owned(), json!(before));
            json.insert("now".to_owned(), json!(now));
        }
        json
    };
    left_out.iter().map(one).collect()
}

/// The accounts of a name that has changed hands: the one that it means here, and the new one.
pub(crate) fn accounts(error: &corncrake::Error) -> Option<(String, String)> {
    match error {
        corncrake::Error::NameChangedHands { before, now } => {
            Some((before.to_string(), now.to_string()))
        }
        _ => None,
    }
}

/// Somebody in a chat.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) account: String,
    pub(crate) name: Option<String>,
    pub(crate) role: String,
    pub(crate) devices: usize,
    /// How many of them the account's newest record doesn't name.
    #[serde(default)]
    pub(crate) unnamed: usize,
    pub(crate) me: bool,
}

/// A line of a timeline.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Item {
    pub(crate) number: u64,
    pub(crate) at: u64,
    /// Whether the sender's own time can't be true, so that the time of reading stands instead.
    #[serde(default)]
    pub(crate) wrong_clock: bool,
    #[serde(flatten)]
    pub(crate) what: What,
}

/// What a line of a timeline tells; people are the names that are shown of them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum What {
    Message {
        message: String,
        from: String,
        text: String,
        delivery: String,
        code: Option<String>,
    },
    UnknownKind {
        message: String,
        from: String,
    },
    Unreadable {
        from: Option<String>,
        code: String,
    },
    ServerLostEntries,
    NotRepeated {
        message: String,
        from: String,
    },
    RemovalLost {
        who: Vec<String>,
    },
    NewGroupNeeded {
        without: Vec<String>,
    },
    JoinedHere,
    Expired,
    Gap,
    Added {
        by: String,
        who: Vec<String>,
    },
    Removed {
        by: String,
        who: Vec<String>,
    },
    Rejoined {
        who: String,
    },
    Left {
        who: String,
    },
    Renamed {
        by: String,
        title: String,
    },
    RolesChanged {
        by: String,
    },
    LockedOut {
        by: String,
    },
    Copied {
        until: u64,
    },
    ViewDiffers {
        from: String,
    },
    NameChangedHands {
        before: String,
        now: String,
    },
    #[serde(other)]
    Other,
}

/// Something that happened.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Event {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sequence: Option<u64>,
    #[serde(flatten)]
    pub(crate) what: Happened,
}

/// What happened; `name` is what commands call the chat.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Happened {
    Ready,
    Connection {
        connection: String,
    },
    ChatAdded {
        chat: String,
        name: String,
    },
    ChatChanged {
        chat: String,
    },
    Item {
        chat: String,
        name: String,
        item: Item,
    },
    /// Events were left out, as this reader did not keep up, or nobody for very long.
    Lagged,
    #[serde(other)]
    Other,
}

/// The names of those who appear in items.
#[derive(Debug, Default)]
pub(crate) struct Names(BTreeMap<AccountId, String>);

impl Names {
    /// The names of everybody in these items.
    pub(crate) async fn of(
        client: &Client,
        items: impl IntoIterator<Item = &corncrake::Item>,
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

    /// The names of these people, in their order.
    pub(crate) async fn list(
        client: &Client,
        people: &[AccountId],
    ) -> Result<Vec<String>, Failure> {
        let mut names = Self::default();
        for account in people {
            if let Some(name) = client.name_of(*account).await? {
                names.0.insert(*account, name);
            }
        }
        Ok(names.all(people))
    }

    fn get(&self, account: &AccountId) -> String {
        let short = || account.to_string().chars().take(8).collect();
        self.0.get(account).cloned().unwrap_or_else(short)
    }

    fn all(&self, accounts: &[AccountId]) -> Vec<String> {
        accounts.iter().map(|account| self.get(account)).collect()
    }
}

/// Whose accounts an item names.
fn people(item: &corncrake::Item) -> Vec<AccountId> {
    match &item.what {
        ItemKind::Message { sender, .. }
        | ItemKind::UnknownKind { sender, .. }
        | ItemKind::NotRepeated { sender, .. }
        | ItemKind::ViewDiffers { sender } => vec![*sender],
        ItemKind::Unreadable { sender, .. } => sender.iter().copied().collect(),
        ItemKind::Added { by, who } | ItemKind::Removed { by, who } => {
            who.iter().chain([by]).copied().collect()
        }
        ItemKind::RemovalLost { who } | ItemKind::NewGroupNeeded { without: who } => who.clone(),
        ItemKind::Rejoined { who } | ItemKind::Left { who } => vec![*who],
        ItemKind::NameChangedHands { before, now } => vec![*before, *now],
        ItemKind::Renamed { by, .. }
        | ItemKind::RolesChanged { by }
        | ItemKind::LockedOut { by } => vec![*by],
        _ => Vec::new(),
    }
}

/// The stable name of a standing.
const fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Founding => "founding",
        Standing::Joining => "joining",
        Standing::Member => "member",
        Standing::LockedOut => "locked_out",
        Standing::Copied => "copied",
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

impl Chat {
    /// A chat, with the names of those who are being added.
    pub(crate) fn of(chat: &ChatInfo, adding: Vec<String>) -> Self {
        let member = |member: &corncrake::Member| Member {
            account: member.account.to_string(),
            name: member.name.clone(),
            role: role(member.role).to_owned(),
            devices: member.devices,
            unnamed: member.unnamed,
            me: member.is_me,
        };
        Self {
            chat: chat.id.to_string(),
            kind: match chat.kind {
                ChatKind::Direct => "direct",
                ChatKind::Group => "group",
            }
            .to_owned(),
            title: chat.title.clone(),
            members: chat.members.iter().map(member).collect(),
            standing: standing(chat.standing).to_owned(),
            hidden: chat.hidden,
            confirmed: chat.confirmed,
            continues_in: chat.continues_in.map(|other| other.to_string()),
            adding,
            lost_removals: chat.lost_removals.iter().map(ToString::to_string).collect(),
            needs_new_group: chat.needs_new_group,
            last_item: chat.last_item,
            last_at: chat.last_at.map(|at| at.0),
        }
    }
}

impl Item {
    /// A line of a timeline with the names of people.
    pub(crate) fn of(item: &corncrake::Item, names: &Names) -> Self {
        let what = match &item.what {
            ItemKind::Message { id, sender, text, delivery } => {
                let (delivery, code) = match delivery {
                    Delivery::Received => ("received", None),
                    Delivery::Queued => ("queued", None),
                    Delivery::Sent => ("sent", None),
                    Delivery::Failed(code) => ("failed", Some(code.clone())),
                };
                What::Message {
                    message: id.to_string(),
                    from: names.get(sender),
                    text: text.clone(),
                    delivery: delivery.to_owned(),
                    code,
                }
            }
            ItemKind::UnknownKind { id, sender } => {
                What::UnknownKind { message: id.to_string(), from: names.get(sender) }
            }
            ItemKind::Unreadable { sender, code } => What::Unreadable {
                from: sender.as_ref().map(|one| names.get(one)),
                code: code.clone(),
            },
            ItemKind::ServerLostEntries => What::ServerLostEntries,
            ItemKind::NotRepeated { id, sender } => {
                What::NotRepeated { message: id.to_string(), from: names.get(sender) }
            }
            ItemKind::RemovalLost { who } => What::RemovalLost { who: names.all(who) },
            ItemKind::NewGroupNeeded { without } => {
                What::NewGroupNeeded { without: names.all(without) }
            }
            ItemKind::JoinedHere => What::JoinedHere,
            ItemKind::Expired => What::Expired,
            ItemKind::Gap => What::Gap,
            ItemKind::Added { by, who } => What::Added { by: names.get(by), who: names.all(who) },
            ItemKind::Removed { by, who } => {
                What::Removed { by: names.get(by), who: names.all(who) }
            }
            ItemKind::Rejoined { who } => What::Rejoined { who: names.get(who) },
            ItemKind::Left { who } => What::Left { who: names.get(who) },
            ItemKind::Renamed { by, title } => {
                What::Renamed { by: names.get(by), title: title.clone() }
            }
            ItemKind::RolesChanged { by } => What::RolesChanged { by: names.get(by) },
            ItemKind::LockedOut { by } => What::LockedOut { by: names.get(by) },
            ItemKind::Copied { until } => What::Copied { until: until.0 },
            ItemKind::ViewDiffers { sender } => What::ViewDiffers { from: names.get(sender) },
            ItemKind::NameChangedHands { before, now } => {
                What::NameChangedHands { before: names.get(before), now: names.get(now) }
            }
            _ => What::Other,
        };
        Self { number: item.number, at: item.at.0, wrong_clock: item.wrong_clock, what }
    }
}

/// Names that were asked for, so that a message is shown without asking again.
#[derive(Debug, Default)]
pub(crate) struct Known {
    people: Names,
    chats: BTreeMap<ConversationId, String>,
}

impl Known {
    /// What commands call a chat.
    async fn chat(&mut self, client: &Client, id: ConversationId) -> String {
        if let Some(name) = self.chats.get(&id) {
            return name.clone();
        }
        let name = name_of(client, id).await;
        self.chats.insert(id, name.clone());
        name
    }

    /// The names of everybody in an item.
    async fn people(&mut self, client: &Client, item: &corncrake::Item) -> &Names {
        if people(item).iter().any(|account| !self.people.0.contains_key(account)) {
            let names = Names::of(client, [item]).await.unwrap_or_default();
            self.people.0.extend(names.0);
        }
        &self.people
    }
}

impl Event {
    /// An event with the names that it needs.
    pub(crate) async fn of(client: &Client, known: &mut Known, event: &corncrake::Event) -> Self {
        let what = match &event.what {
            EventKind::Ready => Happened::Ready,
            EventKind::Lagged => Happened::Lagged,
            EventKind::Connection(state) => {
                Happened::Connection { connection: state.as_str().to_owned() }
            }
            EventKind::ChatAdded(chat) => {
                known.chats.remove(chat);
                let name = known.chat(client, *chat).await;
                Happened::ChatAdded { chat: chat.to_string(), name }
            }
            EventKind::ChatChanged(chat) => {
                known.chats.remove(chat);
                Happened::ChatChanged { chat: chat.to_string() }
            }
            EventKind::Item { chat, item } => {
                if !matches!(item.what, ItemKind::Message { .. } | ItemKind::JoinedHere) {
                    known.chats.remove(chat);
                }
                let item = Item::of(item, known.people(client, item).await);
                Happened::Item {
                    chat: chat.to_string(),
                    name: known.chat(client, *chat).await,
                    item,
                }
            }
            _ => Happened::Other,
        };
        Self { sequence: event.sequence, what }
    }
}

/// What commands call a chat.
async fn name_of(client: &Client, id: ConversationId) -> String {
    match client.chat_info(id).await {
        Ok(info) if !info.title.is_empty() => match info.kind {
            ChatKind::Direct => info.title,
            ChatKind::Group => format!("#{}", info.title),
        },
        _ => id.to_string().chars().take(8).collect(),
    }
}
