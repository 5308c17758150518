//! What can be asked of an account, on the command line and in a session alike.

use std::time::Duration;

use corncrake::{Client, Delivery, Role};
use serde::Deserialize;
use serde_json::json;

use crate::{
    failure::{Exit, Failure},
    options::RoleName,
    qr,
    reach::{self, Reach},
    show::{self, Answer, Names},
    tame,
};

/// A question or an order. In a session, the field `do` names it.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Ask {
    Account {},
    Devices {},
    Chats {},
    Send {
        chat: String,
        text: String,
        /// Seconds to wait until the message stands in the log.
        #[serde(default)]
        wait: u64,
    },
    History {
        chat: String,
        #[serde(default)]
        before: Option<u64>,
        #[serde(default = "page")]
        limit: u32,
    },
    CreateGroup {
        title: String,
        names: Vec<String>,
    },
    Add {
        chat: String,
        names: Vec<String>,
    },
    Remove {
        chat: String,
        names: Vec<String>,
    },
    Leave {
        chat: String,
    },
    Rename {
        chat: String,
        title: String,
    },
    Role {
        chat: String,
        name: String,
        role: RoleName,
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
        wait: u64,
    },
}

const fn page() -> u32 {
    50
}

impl Ask {
    /// Whether the answer depends on having read what is new.
    pub(crate) const fn reads(&self) -> bool {
        matches!(self, Self::Chats {} | Self::History { .. })
    }

    /// Asks and waits for the answer.
    pub(crate) async fn carry_out(self, client: &Client) -> Result<Answer, Failure> {
        match self {
            Self::Account {} => account(client).await,
            Self::Devices {} => devices(client).await,
            Self::Chats {} => chats(client).await,
            Self::Send { chat, text, wait } => send(client, &chat, &text, wait).await,
            Self::History { chat, before, limit } => history(client, &chat, before, limit).await,
            Self::CreateGroup { title, names } => {
                let chat = client.create_group(&title, &strs(&names)).await?;
                let text = format!("{} is founded", tame::line(&title));
                Ok(Answer::new(json!({"chat": chat.id().to_string()}), text))
            }
            Self::Add { chat, names } => {
                reach::find(client, &chat).await?.add(&strs(&names)).await?;
                Ok(done("added"))
            }
            Self::Remove { chat, names } => {
                reach::find(client, &chat).await?.remove(&strs(&names)).await?;
                Ok(done("removed"))
            }
            Self::Leave { chat } => {
                reach::find(client, &chat).await?.leave().await?;
                Ok(done("left"))
            }
            Self::Rename { chat, title } => {
                reach::find(client, &chat).await?.rename(&title).await?;
                Ok(done("renamed"))
            }
            Self::Role { chat, name, role } => {
                let role = match role {
                    RoleName::Owner => Role::Owner,
                    RoleName::Admin => Role::Admin,
                    RoleName::Member => Role::Member,
                };
                reach::find(client, &chat).await?.set_role(&name, role).await?;
                Ok(done("changed"))
            }
            Self::Hide { chat } => {
                reach::find(client, &chat).await?.hide().await?;
                Ok(done("hidden and erased on this device"))
            }
            Self::Verify { name } => verify(client, &name).await,
            Self::Settle { wait } => settle(client, wait).await,
        }
    }
}

fn strs(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

fn done(what: &str) -> Answer {
    Answer::new(json!({}), what.to_owned())
}

async fn account(client: &Client) -> Result<Answer, Failure> {
    let me = client.account().await?;
    let json = json!({
        "account": me.id.to_string(),
        "name": me.username,
        "device": me.device.to_string(),
    });
    Ok(Answer::new(json, format!("{} ({})", tame::line(&me.username), me.id)))
}

async fn devices(client: &Client) -> Result<Answer, Failure> {
    let devices = client.devices().await?;
    let list =
        devices.iter().map(|one| json!({"device": one.id.to_string(), "this": one.this_device}));
    let lines = devices.iter().map(|one| {
        let mark = if one.this_device { "  this one" } else { "" };
        format!("{}{mark}", one.id)
    });
    Ok(Answer::new(
        json!({"devices": list.collect::<Vec<_>>()}),
        lines.collect::<Vec<_>>().join("\n"),
    ))
}

async fn chats(client: &Client) -> Result<Answer, Failure> {
    let chats = client.chats().await?;
    let list: Vec<_> = chats.iter().map(show::chat_json).collect();
    let lines = chats.iter().filter(|chat| !chat.hidden).map(show::chat_line);
    let mut text = lines.collect::<Vec<_>>().join("\n");
    if text.is_empty() {
        "no chats yet: corncrake send NAME \"hi\"".clone_into(&mut text);
    }
    Ok(Answer::new(json!({"chats": list}), text))
}

async fn send(client: &Client, to: &str, text: &str, wait: u64) -> Result<Answer, Failure> {
    let mut chat = reach::find_or_start(client, to).await?;
    if let Some(other) = chat.info().await?.continues_in {
        chat = client.chat(other).await?;
    }
    let message = chat.send_text(text).await?;
    let delivery = match wait {
        0 => Delivery::Queued,
        _ => reach::wait_sent(client, &chat, message, Duration::from_secs(wait)).await?,
    };
    let answer = |state: &str, text: &str, exit| Answer {
        json: json!({
            "chat": chat.id().to_string(),
            "message": message.to_string(),
            "delivery": state,
        }),
        text: text.to_owned(),
        exit,
    };
    match delivery {
        Delivery::Failed(code) => {
            let message = "the message is in the history and will not be sent";
            Err(Failure::refused(&code, message))
        }
        Delivery::Queued => Ok(answer(
            "queued",
            "queued: it leaves as soon as this account is online again",
            Exit::Offline,
        )),
        Delivery::Sent | Delivery::Received => Ok(answer("sent", "sent", Exit::Done)),
    }
}

async fn history(
    client: &Client,
    chat: &str,
    before: Option<u64>,
    limit: u32,
) -> Result<Answer, Failure> {
    let chat = reach::find(client, chat).await?;
    let items = chat.history(before, limit).await?;
    let names = Names::of(client, &items).await?;
    let list: Vec<_> = items.iter().map(|item| show::item_json(item, &names)).collect();
    let lines: Vec<_> = items.iter().map(|item| show::item_line(item, &names)).collect();
    Ok(Answer::new(json!({"chat": chat.id().to_string(), "items": list}), lines.join("\n")))
}

async fn verify(client: &Client, name: &str) -> Result<Answer, Failure> {
    let number = client.safety_number(name).await?;
    let bytes = number.qr_bytes();
    let json = json!({"name": name, "digits": number.digits(), "qr": hex::encode(&bytes)});
    let [a, b, c] = [0, 4, 8].map(|from| {
        number.digits().iter().skip(from).take(4).cloned().collect::<Vec<_>>().join(" ")
    });
    let text = format!(
        "Compare with {}, over something other than this chat. The same digits or code on both \
         sides: nobody stands between you.\n\n  {a}\n  {b}\n  {c}\n\n{}",
        tame::line(name),
        qr::draw(&bytes)?
    );
    Ok(Answer::new(json, text))
}

async fn settle(client: &Client, wait: u64) -> Result<Answer, Failure> {
    match reach::catch_up(client, Duration::from_secs(wait)).await? {
        Reach::Head => Ok(done("everything is read and sent")),
        Reach::NotYet => {
            Err(Failure::refused("not_settled", "something is still on its way: wait longer"))
        }
        Reach::Offline => Err(corncrake::Error::Offline.into()),
    }
}
