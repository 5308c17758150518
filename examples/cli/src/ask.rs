//! What can be asked of an account, on the command line and in a session alike.

use std::{fmt, future::ready, pin::pin};

use corncrake::{
    Adding, Chat, Client, Delivery, Device, Error, LeftOut, NewGroup, Refusal, Role,
    store::StoreError,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::timeout_at;
use zeroize::Zeroizing;

use crate::{
    failure::Failure,
    options::RoleName,
    patience::{Patience, Wait},
    reach::{self, Reach},
    turns::Turn,
    view::{self, Names},
};

/// A password in a command.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Secret(Zeroizing<String>);

impl From<Zeroizing<String>> for Secret {
    fn from(password: Zeroizing<String>) -> Self {
        Self(password)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(_) = self;
        f.write_str("Secret(..)")
    }
}

/// A question or an order; the field `do` names it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Ask {
    Account {},
    Devices {},
    RemoveDevice {
        /// Its id, or the first digits of it.
        device: String,
        password: Secret,
        /// Seconds to wait until it is out of the chats.
        #[serde(default)]
        wait: Wait,
    },
    Chats {
        /// Seconds to wait until everything new is read.
        #[serde(default)]
        wait: Wait,
    },
    Send {
        chat: String,
        text: String,
        /// Seconds to wait until the message is in the log.
        #[serde(default)]
        wait: Wait,
    },
    History {
        chat: String,
        #[serde(default)]
        before: Option<u64>,
        #[serde(default = "page")]
        limit: u32,
        #[serde(default)]
        wait: Wait,
    },
    CreateGroup {
        title: String,
        names: Vec<String>,
        #[serde(default = "a_minute")]
        wait: Wait,
    },
    Add {
        chat: String,
        names: Vec<String>,
        #[serde(default = "a_minute")]
        wait: Wait,
    },
    Remove {
        chat: String,
        names: Vec<String>,
        #[serde(default = "a_minute")]
        wait: Wait,
    },
    Leave {
        chat: String,
        #[serde(default = "a_minute")]
        wait: Wait,
    },
    Rename {
        chat: String,
        title: String,
        #[serde(default = "a_minute")]
        wait: Wait,
    },
    Role {
        chat: String,
        name: String,
        role: RoleName,
        #[serde(default = "a_minute")]
        wait: Wait,
    },
    Hide {
        chat: String,
    },
    Verify {
        name: String,
    },
    /// Waits until everything is read and sent.
    Settle {
        /// Seconds to wait at most.
        wait: Wait,
    },
}

const fn page() -> u32 {
    50
}

const fn a_minute() -> Wait {
    Wait::Usual { usual: 60 }
}

impl Ask {
    /// How long the answer may wait for the network.
    pub(crate) const fn wait(&self) -> Option<Wait> {
        match self {
            Self::Chats { wait }
            | Self::Send { wait, .. }
            | Self::History { wait, .. }
            | Self::CreateGroup { wait, .. }
            | Self::Add { wait, .. }
            | Self::Remove { wait, .. }
            | Self::Leave { wait, .. }
            | Self::Rename { wait, .. }
            | Self::Role { wait, .. }
            | Self::RemoveDevice { wait, .. }
            | Self::Settle { wait } => Some(*wait),
            _ => None,
        }
    }

    /// Whether it may be asked again when no answer came: it changes nothing, or nothing more.
    pub(crate) const fn is_repeatable(&self) -> bool {
        matches!(
            self,
            Self::Account {}
                | Self::Devices {}
                | Self::Chats { .. }
                | Self::History { .. }
                | Self::Hide { .. }
                | Self::Verify { .. }
                | Self::Settle { .. }
        )
    }

    /// The chat that it is about, in the words that were used.
    pub(crate) fn chat(&self) -> Option<String> {
        match self {
            Self::Send { chat, .. }
            | Self::History { chat, .. }
            | Self::Add { chat, .. }
            | Self::Remove { chat, .. }
            | Self::Leave { chat, .. }
            | Self::Rename { chat, .. }
            | Self::Role { chat, .. }
            | Self::Hide { chat } => Some(chat.clone()),
            Self::CreateGroup { title, .. } => Some(format!("#{title}")),
            _ => None,
        }
    }

    /// Asks when its turn has come, and waits for the answer.
    pub(crate) async fn carry_out(self, client: &Client, mut turn: Turn) -> Result<Value, Failure> {
        let patience = Patience::of(self.wait());
        // What `settle` waits for the others is a part of its time.
        if !matches!(self, Self::Settle { .. }) {
            turn.come().await;
        }
        let answer = self.begin(client, turn, patience).await;
        if answer.as_ref().is_err_and(Failure::may_be_signed_out) {
            reach::connect(client, patience.to_look().hasty()).await?;
        }
        answer
    }

    /// Whether it is of no use to a device that the server no longer knows.
    const fn needs_the_account(&self) -> bool {
        matches!(
            self,
            Self::Devices {}
                | Self::RemoveDevice { .. }
                | Self::Verify { .. }
                | Self::CreateGroup { .. }
                | Self::Add { .. }
                | Self::Remove { .. }
                | Self::Leave { .. }
                | Self::Rename { .. }
                | Self::Role { .. }
        )
    }

    async fn begin(
        self,
        client: &Client,
        turn: Turn,
        patience: Patience,
    ) -> Result<Value, Failure> {
        if self.needs_the_account() {
            reach::connect(client, patience.to_look().hasty()).await?;
        }
        match self {
            Self::Account {} => account(client).await,
            Self::Devices {} => devices(client, patience).await,
            Self::RemoveDevice { device, password, wait } => {
                remove_device(client, &device, &password, (wait, patience)).await
            }
            Self::Chats { wait } => chats(client, (wait, patience)).await,
            Self::Send { chat, text, wait } => {
                send(client, (&chat, &text), (wait, patience), turn).await
            }
            Self::History { chat, before, limit, wait } => {
                let read = catch_up(client, (wait, patience)).await?;
                history(client, &chat, (before, limit), (read, patience)).await
            }
            Self::CreateGroup { title, names, .. } => {
                let (title, names) = (title.as_str(), &*strs(&names));
                let make = || client.create_group_within(title, names, patience.for_people());
                let made = reach::patiently(client, patience, make).await??;
                let NewGroup { chat, left_out } = made;
                let answer = change(client, &chat, patience, turn, chat.settled()).await;
                tell_them(client, patience).await?;
                Ok(named(answer?, &left_out))
            }
            Self::Add { chat, names, .. } => {
                let chat = reach::find(client, &chat, patience.to_look()).await?;
                let (chat, names) = (&chat, &*strs(&names));
                let add = || chat.begin_add(names, patience.for_people());
                let begun = in_turn(turn, reach::patiently(client, patience, add)).await??;
                let left_out = begun.left_out().to_vec();
                let answer = follow(client, chat, patience, begun.fate()).await;
                tell_them(client, patience).await?;
                Ok(named(answer?, &left_out))
            }
            Self::Remove { chat, names, .. } => {
                let chat = reach::find(client, &chat, patience.to_look()).await?;
                change(client, &chat, patience, turn, chat.remove(&strs(&names))).await
            }
            Self::Leave { chat, .. } => {
                let chat = reach::find(client, &chat, patience.to_look()).await?;
                change(client, &chat, patience, turn, chat.leave()).await
            }
            Self::Rename { chat, title, .. } => {
                let chat = reach::find(client, &chat, patience.to_look()).await?;
                change(client, &chat, patience, turn, chat.rename(&title)).await
            }
            Self::Role { chat, name, role, .. } => {
                let role = match role {
                    RoleName::Owner => Role::Owner,
                    RoleName::Admin => Role::Admin,
                    RoleName::Member => Role::Member,
                };
                let chat = reach::find(client, &chat, patience.to_look()).await?;
                change(client, &chat, patience, turn, chat.set_role(&name, role)).await
            }
            Self::Hide { chat } => {
                reach::find(client, &chat, patience.to_look()).await?.hide().await?;
                Ok(json!({}))
            }
            Self::Verify { name } => verify(client, &name, patience).await,
            Self::Settle { .. } => settle(client, turn, patience).await,
        }
    }
}

fn strs(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

async fn account(client: &Client) -> Result<Value, Failure> {
    let me = client.account().await?;
    Ok(json!({
        "account": me.id.to_string(),
        "name": me.username,
        "device": me.device.to_string(),
        "waits_for_keys": me.waits_for_keys,
    }))
}

async fn devices(client: &Client, patience: Patience) -> Result<Value, Failure> {
    let devices = reach::ask_until(patience.end(), client.devices()).await?;
    let devices: Vec<_> = devices.iter().map(view::device).collect();
    let waits = client.account().await?.waits_for_keys;
    Ok(json!({"devices": devices, "waits_for_keys": waits}))
}

async fn remove_device(
    client: &Client,
    typed: &str,
    password: &Secret,
    (wait, patience): (Wait, Patience),
) -> Result<Value, Failure> {
    let removing = if wait.is_none() { patience.to_look() } else { patience.for_removal() };
    let look = reach::patiently(client, removing, || client.devices());
    let devices = timeout_at(removing.end(), look).await.unwrap_or(Ok(Err(Error::Offline)))??;
    let device = Device::find(&devices, typed).map_err(Error::from)?.id;
    let remove = || client.remove_device(device, &password.0);
    let removal = reach::patiently(client, removing, remove);
    if wait.is_none() {
        removal.await??;
    } else {
        let late = timeout_at(removing.end(), removal).await.map_err(|_| {
            let message = "the removal may still happen: look at the devices later";
            Failure::refused("not_settled", message)
        });
        late???;
    }
    let settled = reach::settle(client, patience).await?;
    Ok(json!({"device": device.to_string(), "settled": settled == Reach::Head}))
}

/// Reads what is new if there is time for it.
async fn catch_up(
    client: &Client,
    (wait, patience): (Wait, Patience),
) -> Result<Option<Reach>, Failure> {
    match wait.is_none() {
        true => Ok(None),
        false => reach::catch_up(client, patience).await.map(Some),
    }
}

async fn chats(client: &Client, asked: (Wait, Patience)) -> Result<Value, Failure> {
    let read = catch_up(client, asked).await?;
    let mut list = Vec::new();
    for info in client.chats().await? {
        let adding = Names::list(client, &info.adding).await?;
        list.push(view::Chat::of(&info, adding));
    }
    let waits = client.account().await?.waits_for_keys;
    let mut answer = json!({"chats": list, "waits_for_keys": waits});
    tell(&mut answer, read);
    Ok(answer)
}

/// Says how far what the answer shows is read.
fn tell(answer: &mut Value, read: Option<Reach>) {
    if let (Some(answer), Some(read)) = (answer.as_object_mut(), read) {
        answer.insert("read".to_owned(), json!(read.as_str()));
    }
}

async fn history(
    client: &Client,
    chat: &str,
    (before, limit): (Option<u64>, u32),
    (read, patience): (Option<Reach>, Patience),
) -> Result<Value, Failure> {
    let chat = reach::find(client, chat, patience.to_look()).await?;
    let items = chat.history(before, limit).await?;
    let names = Names::of(client, &items).await?;
    let list: Vec<_> = items.iter().map(|item| view::Item::of(item, &names)).collect();
    let mut answer = json!({"chat": chat.id().to_string(), "items": list});
    tell(&mut answer, read);
    Ok(answer)
}

async fn send(
    client: &Client,
    (to, text): (&str, &str),
    (wait, patience): (Wait, Patience),
    turn: Turn,
) -> Result<Value, Failure> {
    reach::refuse_if_over(client).await?;
    let (chat, new) = reach::find_or_start(client, to, patience.to_look()).await?;
    let sending = chat.send(text).await?;
    let message = sending.id();
    drop(turn);
    let (delivery, reach) = if wait.is_none() {
        (Delivery::Queued, Reach::Head)
    } else {
        reach::wait_sent(client, sending, patience).await?
    };
    if new && delivery == Delivery::Sent {
        tell_them(client, patience).await?;
    }
    let mut answer = match delivery {
        Delivery::Failed(code) => {
            let message = "the message is in the history and will not be sent";
            return Err(Failure::refused(&code, message));
        }
        Delivery::Queued if wait.is_none() => answer_of(&chat, None),
        Delivery::Queued => queued(&chat, reach),
        Delivery::Sent | Delivery::Received => answer_of(&chat, Some("sent")),
    };
    if let Some(answer) = answer.as_object_mut() {
        answer.insert("message".to_owned(), json!(message.to_string()));
    }
    Ok(answer)
}

/// Asks for something, and lets the next command of the chat follow as soon as it is asked for.
async fn in_turn<T>(turn: Turn, asked: impl Future<Output = T>) -> T {
    let mut asked = pin!(asked);
    // The first look asks for it.
    let done = tokio::select! {
        biased;
        done = &mut asked => Some(done),
        () = ready(()) => None,
    };
    drop(turn);
    match done {
        Some(done) => done,
        None => asked.await,
    }
}

/// Asks for a change and waits until it is in the log.
async fn change(
    client: &Client,
    chat: &Chat,
    patience: Patience,
    turn: Turn,
    change: impl Future<Output = Result<(), Error>>,
) -> Result<Value, Failure> {
    let change = async { change.await.map(|()| Adding::Done) };
    in_turn(turn, follow(client, chat, patience, change)).await
}

/// Waits until a change is in the log.
async fn follow(
    client: &Client,
    chat: &Chat,
    patience: Patience,
    fate: impl Future<Output = Result<Adding, Error>>,
) -> Result<Value, Failure> {
    match reach::within(client, patience, fate).await? {
        Ok(Adding::Done) => Ok(answer_of(chat, Some("sent"))),
        Ok(Adding::Waits) => {
            let mut answer = queued(chat, Reach::NotYet);
            if let Some(answer) = answer.as_object_mut() {
                answer.insert("waits_for".to_owned(), json!("removal"));
            }
            Ok(answer)
        }
        Err(reach) => Ok(queued(chat, reach)),
    }
}

/// The answer, with those who were left out.
fn named(mut answer: Value, left_out: &[LeftOut]) -> Value {
    if let (false, Some(answer)) = (left_out.is_empty(), answer.as_object_mut()) {
        answer.insert("left_out".to_owned(), view::left_out(left_out));
    }
    answer
}

/// Waits until those who are new in a chat have been told, as this program may be about to end. What
/// was asked for is done: that the disk is full now changes nothing about it.
async fn tell_them(client: &Client, patience: Patience) -> Result<(), Failure> {
    let telling = patience.for_telling();
    let told = timeout_at(telling.end(), reach::catch_up(client, telling)).await;
    match told {
        Ok(Err(failure)) if !failure.is_store_full() => Err(failure),
        _ => Ok(()),
    }
}

fn answer_of(chat: &Chat, delivery: Option<&str>) -> Value {
    json!({"chat": chat.id().to_string(), "delivery": delivery.unwrap_or("queued")})
}

/// The answer about something that is stored and waits.
fn queued(chat: &Chat, reach: Reach) -> Value {
    let connection = match reach {
        Reach::SignedOut | Reach::NameTaken | Reach::Offline => reach.as_str(),
        Reach::Head | Reach::NotYet | Reach::Full => "online",
    };
    let mut answer = answer_of(chat, None);
    if let Some(answer) = answer.as_object_mut() {
        answer.insert("connection".to_owned(), json!(connection));
        if reach == Reach::Full {
            answer.insert("waits_for".to_owned(), json!("space"));
        }
    }
    answer
}

async fn verify(client: &Client, name: &str, patience: Patience) -> Result<Value, Failure> {
    if client.account().await?.username == name.to_ascii_lowercase() {
        return Err(Error::from(Refusal::ChatWithOneself).into());
    }
    let number = reach::ask_until(patience.end(), client.safety_number(name)).await?;
    Ok(json!({"name": name, "digits": number.digits(), "qr": hex::encode(number.qr_bytes())}))
}

async fn settle(client: &Client, mut turn: Turn, patience: Patience) -> Result<Value, Failure> {
    match reach::settle_after(client, patience, turn.come()).await? {
        Reach::Head => Ok(json!({})),
        Reach::NotYet => {
            Err(Failure::refused("not_settled", "something is still on its way: wait longer"))
        }
        Reach::Offline => Err(Error::Offline.into()),
        Reach::SignedOut => Err(Failure::signed_out()),
        Reach::NameTaken => Err(Failure::name_taken()),
        Reach::Full => Err(Error::Store(StoreError::Full).into()),
    }
}

#[cfg(test)]
mod tests;
