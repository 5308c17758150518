//! The handle of a chat.

use core::time::Duration;

use corncrake_core::id::{ConversationId, DeviceId, MessageId};
use tokio::sync::oneshot;

use crate::{
    client::{A_MINUTE, Client},
    command::ChatCommand,
    error::Error,
    event::{Added, Adding, ChatInfo, Delivery, Item, LeftOut, Role},
};

/// A message that is stored here and on its way.
#[derive(Debug)]
pub struct Sending {
    id: MessageId,
    fate: oneshot::Receiver<Result<Delivery, Error>>,
    client: Client,
}

impl Sending {
    /// The message's id.
    #[must_use]
    pub const fn id(&self) -> MessageId {
        self.id
    }

    /// Waits, for as long as it takes, until the message is in the chat's log
    /// ([`Delivery::Sent`]) or never will be ([`Delivery::Failed`]). Dropping this changes nothing
    /// about the message.
    ///
    /// # Errors
    /// [`Error::Closed`] or the reason of the engine's end; the message goes on after a restart.
    pub async fn fate(self) -> Result<Delivery, Error> {
        self.fate.await.map_err(|_| self.client.reason())?
    }
}

/// People who are on their way into a group, which is stored here.
#[derive(Debug)]
pub struct Begun {
    left_out: Vec<LeftOut>,
    fate: oneshot::Receiver<Result<Adding, Error>>,
    client: Client,
}

impl Begun {
    /// Who is not among them, and why.
    #[must_use]
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// Waits until they are in, or until that has to wait for the confirmation of a removal.
    /// Dropping this changes nothing about it.
    ///
    /// # Errors
    /// `not_allowed`, `taken_back`; [`Error::Closed`] or the reason of the engine's end, and then it goes on after
    /// a restart.
    pub async fn fate(self) -> Result<Adding, Error> {
        self.fate.await.map_err(|_| self.client.reason())?
    }
}

/// A handle to a chat of a [`Client`].
///
/// On a device that was removed from its account, calls that others would see the outcome of are
/// refused with `signed_out`; the chat can still be read and hidden.
#[derive(Clone, Debug)]
pub struct Chat {
    id: ConversationId,
    client: Client,
}

impl Chat {
    pub(crate) const fn new(id: ConversationId, client: Client) -> Self {
        Self { id, client }
    }

    /// The conversation's id.
    #[must_use]
    pub const fn id(&self) -> ConversationId {
        self.id
    }

    /// Title, members and standing.
    ///
    /// # Errors
    /// `unknown_chat`.
    pub async fn info(&self) -> Result<ChatInfo, Error> {
        self.client.chat_info(self.id).await
    }

    /// Queues a text of at most 48 KiB. When this answers, the message is stored here and will be
    /// sent as soon as that is possible; its item in the timeline tells when it was. Where a chat of
    /// two continues in another, it is sent and shown there.
    ///
    /// # Errors
    /// `message_empty`, `message_too_long`, `not_a_member`.
    pub async fn send_text(&self, text: &str) -> Result<MessageId, Error> {
        Ok(self.send(text).await?.id())
    }

    /// The same, with what becomes of the message.
    ///
    /// # Errors
    /// As [`Chat::send_text`].
    pub async fn send(&self, text: &str) -> Result<Sending, Error> {
        let text = text.to_owned();
        let (told, fate) = oneshot::channel();
        let command = |reply| ChatCommand::SendText { text, reply, fate: told };
        let id = self.client.ask_chat(self.id, command).await?;
        Ok(Sending { id, fate, client: self.client.clone() })
    }

    /// At most `limit` items of the timeline before item `before` (the end without it), in order.
    ///
    /// # Errors
    /// `unknown_chat`, errors of the store.
    pub async fn history(&self, before: Option<u64>, limit: u32) -> Result<Vec<Item>, Error> {
        self.client.ask_chat(self.id, |reply| ChatCommand::History { before, limit, reply }).await
    }

    /// Adds people to a group; answers when the commit is in the log, or when it has to wait until
    /// another member's device has confirmed a removal. [`ChatInfo::adding`] names those who wait.
    /// Who can't be added keeps nobody else out. People are named by username, or by the id of
    /// their account, written out.
    ///
    /// # Errors
    /// `unknown_account`, `name_changed_hands` or `no_key_package` if nobody can be added,
    /// `already_so`, `not_allowed`, `not_in_direct_chat`, `taken_back` if [`Chat::remove`] came first.
    pub async fn add(&self, names: &[&str]) -> Result<Added, Error> {
        let begun = self.begin_add(names, A_MINUTE).await?;
        let left_out = begun.left_out().to_vec();
        Ok(Added { adding: begun.fate().await?, left_out })
    }

    /// The same, answered when it is stored here and will happen by itself. Those who are not found
    /// within `patience` are left out, with the reason why it took long: a server takes only so many
    /// questions a second.
    ///
    /// # Errors
    /// As [`Chat::add`]; `not_allowed` and `taken_back` may come with the fate.
    pub async fn begin_add(&self, names: &[&str], patience: Duration) -> Result<Begun, Error> {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        let (told, fate) = oneshot::channel();
        let command = |reply| ChatCommand::Add { names, patience, reply, fate: told };
        let left_out = self.client.ask_chat(self.id, command).await?;
        Ok(Begun { left_out, fate, client: self.client.clone() })
    }

    /// Removes people from a group; answers when the commit is in the log. Whoever is still to be
    /// added by this device is not any more. They are named as in [`Chat::add`].
    ///
    /// # Errors
    /// `unknown_member`, `not_allowed`, `not_in_direct_chat`.
    pub async fn remove(&self, names: &[&str]) -> Result<(), Error> {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        self.client.ask_chat(self.id, |reply| ChatCommand::Remove { names, reply }).await
    }

    /// Leaves a group with all devices of the account. When its last owner leaves, its admins act as
    /// owners, or all members if there are none: name another owner before.
    ///
    /// # Errors
    /// `not_a_member`, `not_in_direct_chat`.
    pub async fn leave(&self) -> Result<(), Error> {
        self.client.ask_chat(self.id, ChatCommand::Leave).await
    }

    /// Gives a group another title: one line of at most 128 bytes.
    ///
    /// # Errors
    /// `title_too_long`, `bad_title`, `not_allowed`, `not_in_direct_chat`.
    pub async fn rename(&self, title: &str) -> Result<(), Error> {
        let title = title.to_owned();
        self.client.ask_chat(self.id, |reply| ChatCommand::Rename { title, reply }).await
    }

    /// Gives a member another role.
    ///
    /// # Errors
    /// `unknown_member`, `not_allowed`, `not_in_direct_chat`, and `last_owner` for the only owner of a
    /// group with other members.
    pub async fn set_role(&self, name: &str, role: Role) -> Result<(), Error> {
        let name = name.to_owned();
        self.client.ask_chat(self.id, |reply| ChatCommand::SetRole { name, role, reply }).await
    }

    /// Removes one of the own account's devices from this chat and bars its key for ever.
    ///
    /// # Errors
    /// `unknown_member`, `not_a_member`.
    pub async fn revoke_device(&self, device: DeviceId) -> Result<(), Error> {
        self.client.ask_chat(self.id, |reply| ChatCommand::RevokeDevice { device, reply }).await
    }

    /// Waits until the chat is in its log and nothing that was asked for in it before is still on
    /// its way: after [`Client::create_group`](crate::Client::create_group), until the people named
    /// are invited. Whoever stops waiting has asked for it all the same; it is stored, and happens
    /// when the server is reached.
    ///
    /// # Errors
    /// `not_a_member` if this device was removed or left meanwhile, `unknown_chat`.
    pub async fn settled(&self) -> Result<(), Error> {
        self.client.ask_chat(self.id, ChatCommand::Settled).await
    }

    /// Hides the chat and erases its history on this device. Starting it again or a new message
    /// brings it back, without the history.
    ///
    /// # Errors
    /// `unknown_chat`.
    pub async fn hide(&self) -> Result<(), Error> {
        self.client.ask_chat(self.id, ChatCommand::Hide).await
    }
}
