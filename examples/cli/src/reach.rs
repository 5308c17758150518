//! Finding chats by what a person types, and waiting for the network as long as a person would.

use std::{future::ready, time::Duration};

use corncrake::{
    Chat, ChatInfo, ChatKind, Client, Connection, Delivery, Error, Sending, Standing,
    store::StoreError,
};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::{
    failure::Failure,
    patience::{MOMENT, Patience},
};

/// How long a command that reads waits for what is still to be sent, and one that has sent for word of
/// a removal of this device.
const SENDING: Duration = Duration::from_secs(3);
/// How long no socket may be up before a command goes on without the server, unless somebody asked
/// it to wait: where attempts fail, and where the first one is still under way, as on a slow path.
const PATIENCE_OFFLINE: Duration = Duration::from_secs(3);
const PATIENCE_SLOW: Duration = Duration::from_secs(10);

/// How far the network let us come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Everything that was waited for is there.
    Head,
    /// Something is still on its way.
    NotYet,
    /// The server is not there.
    Offline,
    /// The server no longer knows this device.
    SignedOut,
    /// The server lost the account, and somebody else has its name.
    NameTaken,
    /// What has come can't be stored: the disk is full.
    Full,
}

impl Reach {
    /// Its stable name.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::NotYet => "not_yet",
            Self::Offline => "offline",
            Self::SignedOut => "signed_out",
            Self::NameTaken => "name_taken",
            Self::Full => "store_full",
        }
    }
}

/// Waits until the connection is up; refuses if the server does not know this device.
pub(crate) async fn connect(client: &Client, patience: Patience) -> Result<(), Failure> {
    match watch_connection(client, patience, Some(Connection::Online)).await? {
        Reach::SignedOut => Err(Failure::signed_out()),
        Reach::NameTaken => Err(Failure::name_taken()),
        Reach::Full => Err(Error::Store(StoreError::Full).into()),
        _ => Ok(()),
    }
}

/// Refuses if the server is known not to know this device; nothing is waited for.
pub(crate) async fn refuse_if_over(client: &Client) -> Result<(), Failure> {
    match client.connection().await? {
        Connection::SignedOut => Err(Failure::signed_out()),
        Connection::NameTaken => Err(Failure::name_taken()),
        _ => Ok(()),
    }
}

/// Waits until everything is read, and a moment for what is still to be sent: the next program may
/// be long in coming.
pub(crate) async fn catch_up(client: &Client, patience: Patience) -> Result<Reach, Failure> {
    let reach = reached(client, within(client, patience, client.caught_up()).await?).await?;
    if reach == Reach::Head {
        settle(client, patience.at_most(SENDING)).await?;
    }
    Ok(reach)
}

/// Waits until everything is read and sent.
pub(crate) async fn settle(client: &Client, patience: Patience) -> Result<Reach, Failure> {
    settle_after(client, patience, ready(())).await
}

/// Waits until something has happened, and then until everything is read and sent.
pub(crate) async fn settle_after(
    client: &Client,
    patience: Patience,
    before: impl Future<Output = ()>,
) -> Result<Reach, Failure> {
    let settled = async {
        before.await;
        client.settle().await
    };
    reached(client, within(client, patience, settled).await?).await
}

/// A device that was removed has nothing to read or to send any more, and is not at the head.
async fn reached(client: &Client, reach: Result<(), Reach>) -> Result<Reach, Failure> {
    match client.connection().await? {
        Connection::SignedOut => Ok(Reach::SignedOut),
        Connection::NameTaken => Ok(Reach::NameTaken),
        _ if reach == Err(Reach::Full) => Err(Error::Store(StoreError::Full).into()),
        _ => Ok(reach.err().unwrap_or(Reach::Head)),
    }
}

/// Waits for something, but not longer than there is patience.
pub(crate) async fn within<T>(
    client: &Client,
    patience: Patience,
    wish: impl Future<Output = Result<T, Error>>,
) -> Result<Result<T, Reach>, Failure> {
    tokio::select! {
        biased;
        done = wish => Ok(Ok(done?)),
        reach = watch_connection(client, patience, None) => reach.map(Err),
    }
}

/// Asks the server for something, and where somebody asked to wait, again whenever the server is
/// reached after it was not.
pub(crate) async fn patiently<T, F: Future<Output = Result<T, Error>>>(
    client: &Client,
    patience: Patience,
    ask: impl Fn() -> F,
) -> Result<Result<T, Error>, Failure> {
    loop {
        let answer = ask().await;
        let waits = patience.is_given() && patience.left() > MOMENT;
        if !waits || !matches!(answer, Err(Error::Offline)) {
            return Ok(answer);
        }
        sleep(MOMENT).await;
        connect(client, patience).await?;
    }
}

/// Asks the server for something that can be asked again: who has no answer in time is offline.
pub(crate) async fn ask_until<T>(
    end: Instant,
    ask: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    timeout_at(end, ask).await.unwrap_or(Err(Error::Offline))
}

/// Waits until the connection is as it should be, or there is no more patience: which ends early
/// where no socket is up and nobody asked to wait, and where the disk is full.
async fn watch_connection(
    client: &Client,
    patience: Patience,
    wanted: Option<Connection>,
) -> Result<Reach, Failure> {
    let end = patience.end();
    let mut connection = client.connection().await?;
    let (mut since, mut has_failed) = (Instant::now(), false);
    loop {
        let until = match connection {
            Connection::SignedOut => return Ok(Reach::SignedOut),
            Connection::NameTaken => return Ok(Reach::NameTaken),
            other if Some(other) == wanted => return Ok(Reach::Head),
            Connection::Offline if patience.is_given() => end,
            Connection::Offline if has_failed => end.min(since + PATIENCE_OFFLINE),
            Connection::Offline => end.min(since + PATIENCE_SLOW),
            // With one socket up there is a server, however slow it is.
            _ => end,
        };
        tokio::select! {
            changed = client.connection_after(connection) => {
                connection = changed?;
                (since, has_failed) = (Instant::now(), false);
            }
            full = client.store_full() => return full.map(|()| Reach::Full).map_err(Failure::from),
            failed = client.unreachable(), if !has_failed && until < end => {
                failed?;
                has_failed = true;
            }
            () = sleep_until(until), if until < end => return Ok(Reach::Offline),
            () = sleep_until(end) => return Ok(match connection {
                Connection::Offline => Reach::Offline,
                _ => Reach::NotYet,
            }),
        }
    }
}

/// Waits until an own message is in the log, or never will be.
pub(crate) async fn wait_sent(
    client: &Client,
    sending: Sending,
    patience: Patience,
) -> Result<(Delivery, Reach), Failure> {
    let delivery = tokio::select! {
        biased;
        delivery = sending.fate() => delivery?,
        reach = watch_connection(client, patience, None) => return Ok((Delivery::Queued, reach?)),
    };
    // A device that was removed may write before it hears of that, and nobody will read it.
    connect(client, patience.at_most(SENDING)).await?;
    Ok((delivery, Reach::Head))
}
/// The chat that `name` names, and whether it is new: the chat of two with somebody is started if
/// there is none.
pub(crate) async fn find_or_start(
    client: &Client,
    name: &str,
    patience: Patience,
) -> Result<(Chat, bool), Failure> {
    if name.starts_with('#') {
        return Ok((find(client, name, patience).await?, false));
    }
    let chats = client.chats().await?;
    match find_among(&chats, name)? {
        Some(found) => match found.continues_in {
            Some(other) => Ok((client.chat(other).await?, false)),
            None => Ok((client.chat_of(found), false)),
        },
        None => {
            // A device that was removed learns of it here, before it speaks to anybody new.
            connect(client, patience.hasty()).await?;
            let names = &[name];
            let start = || {
                let started = client.start_chat_within(names, patience.left());
                ask_until(patience.end(), started)
            };
            match patiently(client, patience, start).await? {
                Ok(chat) => Ok((chat, true)),
                // They may be known and the chat on its way: then what is said there waits for it.
                Err(Error::Offline) => match find_among(&client.chats().await?, name)? {
                    Some(begun) => Ok((client.chat_of(begun), true)),
                    None => Err(Error::Offline.into()),
                },
                Err(error) => Err(error.into()),
            }
        }
    }
}

/// The chat that `name` names; one that is not known is waited for.
pub(crate) async fn find(client: &Client, name: &str, patience: Patience) -> Result<Chat, Failure> {
    let known = async || -> Result<_, Failure> {
        let chats = client.chats().await?;
        Ok(find_among(&chats, name)?.map(|found| client.chat_of(found)))
    };
    if let Some(found) = known().await? {
        return Ok(found);
    }
    // Somebody may have let this device in since it read last.
    catch_up(client, patience).await?;
    known().await?.ok_or_else(|| unknown(name))
}

fn find_among<'a>(chats: &'a [ChatInfo], name: &str) -> Result<Option<&'a ChatInfo>, Failure> {
    if let Some(title) = name.strip_prefix('#') {
        let titled = |chat: &&ChatInfo| chat.kind == ChatKind::Group && chat.title == title;
        // Whoever has left a group may read it, and hide it; others of that title come first.
        let first = chats.iter().filter(titled).map(rank).min();
        let groups = chats.iter().filter(titled).filter(|chat| Some(rank(chat)) == first);
        return only(groups, name);
    }
    let lower = name.to_ascii_lowercase();
    let is_with = |chat: &&ChatInfo| {
        chat.title == lower || chat.peer.is_some_and(|peer| peer.to_string() == lower)
    };
    let direct = chats
        .iter()
        .filter(|chat| chat.kind == ChatKind::Direct && !chat.hidden)
        .filter(is_with)
        .min_by_key(|chat| chat.id);
    // A stranger may have taken the digits of a chat as a name.
    let may_be_id = name.len() >= 8 && name.bytes().all(|digit| digit.is_ascii_hexdigit());
    let by_id = chats.iter().filter(|chat| {
        may_be_id
            && chat.id.to_string().starts_with(&lower)
            && direct.is_none_or(|direct| direct.id != chat.id)
    });
    only(direct.into_iter().chain(by_id), name)
}

/// Which of several groups of one title is meant: the lowest.
const fn rank(chat: &ChatInfo) -> u8 {
    match chat.standing {
        Standing::Left if chat.hidden => 2,
        Standing::Left => 1,
        _ => 0,
    }
}

fn only<'a>(
    mut chats: impl Iterator<Item = &'a ChatInfo>,
    name: &str,
) -> Result<Option<&'a ChatInfo>, Failure> {
    let first = chats.next();
    match chats.next() {
        None => Ok(first),
        Some(_) => Err(Failure::refused(
            "ambiguous_chat",
            format!(
                "several chats are called {name}: use all 64 digits of the id that `corncrake --json chats` shows"
            ),
        )),
    }
}

fn unknown(name: &str) -> Failure {
    let message = format!("this device knows no chat {name}: `corncrake chats` lists them");
    Failure::refused("unknown_chat", message)
}

#[cfg(test)]
mod tests {
    use corncrake::{AccountId, ConversationId};

    use super::*;

    fn chat(first: u8, kind: ChatKind, title: &str) -> ChatInfo {
        ChatInfo {
            id: ConversationId::from_bytes([first; 32]),
            kind,
            peer: (kind == ChatKind::Direct).then(|| AccountId::from_bytes([first + 100; 32])),
            title: title.to_owned(),
            members: Vec::new(),
            adding: Vec::new(),
            standing: Standing::Member,
            hidden: false,
            confirmed: true,
            continues_in: None,
            lost_removals: Vec::new(),
            needs_new_group: false,
            last_item: None,
            last_at: None,
        }
    }

    #[test]
    fn chats_are_found_by_name_title_and_id() {
        let chats = [
            chat(5, ChatKind::Direct, "06060606"),
            chat(6, ChatKind::Direct, "ann"),
            chat(1, ChatKind::Direct, "bob"),
            chat(2, ChatKind::Group, "bob"),
            chat(3, ChatKind::Group, "twice"),
            chat(4, ChatKind::Group, "twice"),
        ];
        let found = |name: &str| {
            let found = find_among(&chats, name).map_err(|failure| failure.code);
            found.map(|found| found.map(|chat| chat.id))
        };
        assert_eq!(found("Bob"), Ok(Some(chats[2].id)));
        assert_eq!(found("#bob"), Ok(Some(chats[3].id)));
        assert_eq!(found("02020202"), Ok(Some(chats[3].id)));
        // A stranger's name is the beginning of another chat's id.
        assert_eq!(found("06060606"), Err("ambiguous_chat".to_owned()));
        assert_eq!(found("0606060606"), Ok(Some(chats[1].id)));
        assert_eq!(found(&"06".repeat(32)), Ok(Some(chats[1].id)));
        let bob = chats[2].peer.unwrap().to_string();
        assert_eq!(found(&bob), Ok(Some(chats[2].id)));
        assert_eq!(found(&bob[..63]), Ok(None));
        assert_eq!(found("0202020"), Ok(None));
        assert_eq!(found("carol"), Ok(None));
        assert_eq!(found("#carol"), Ok(None));
        assert_eq!(found("#twice"), Err("ambiguous_chat".to_owned()));
    }

    #[test]
    fn audit_issue_7_a_group_that_was_left_is_found_by_its_title() {
        let group = |first, standing, hidden| ChatInfo {
            standing,
            hidden,
            ..chat(first, ChatKind::Group, "meadow")
        };
        let found = |chats: &[ChatInfo]| {
            let found = find_among(chats, "#meadow").map_err(|failure| failure.code);
            found.map(|found| found.map(|chat| *chat.id.as_bytes().first().unwrap()))
        };
        let hidden = group(1, Standing::Left, true);
        assert_eq!(found(core::slice::from_ref(&hidden)), Ok(Some(1)));
        let left = group(2, Standing::Left, false);
        assert_eq!(found(&[hidden.clone(), left.clone()]), Ok(Some(2)));
        let again = group(3, Standing::Left, false);
        assert_eq!(found(&[left.clone(), again]), Err("ambiguous_chat".to_owned()));
        assert_eq!(found(&[hidden, left, group(4, Standing::Removed, false)]), Ok(Some(4)));
    }
}
