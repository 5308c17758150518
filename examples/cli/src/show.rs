//! Answers and events as lines for people. All of it passes through [`tame`].

use std::io::{IsTerminal, stdout};

use serde_json::Value;

use crate::{
    ask::Ask,
    failure::{Exit, Failure},
    patience::Wait,
    qr, tame,
    view::{Chat, Event, Happened, Item, What},
};

/// What a device says that lacks the account's newest keys.
const WAITS_FOR_KEYS: &str = "another device was removed from this account, and this one has not got \
     the keys made then: it hears of no chats begun since. Bring another device of this account online \
     and wait, or log in again with a new home folder";

/// An answer for people.
pub(crate) fn answer(ask: &Ask, answer: &Value) -> Result<String, Failure> {
    let field = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default();
    Ok(match ask {
        Ask::Account {} => format!("{} ({})", tame::line(field("name")), field("account")),
        Ask::Devices {} => devices(answer),
        Ask::RemoveDevice { .. } => removed(answer),
        Ask::Chats { .. } => chats(&list(answer, "chats")),
        Ask::History { .. } => {
            let lines: Vec<_> = list(answer, "items").iter().map(item_line).collect();
            lines.join("\n")
        }
        Ask::Verify { name } => verify(name, answer)?,
        Ask::Hide { .. } => "hidden and erased on this device".to_owned(),
        Ask::Settle { .. } => "everything is read and sent".to_owned(),
        Ask::Add { .. } if field("waits_for") == "removal" => {
            "queued: they are added as soon as another member's device has confirmed the removal \
             before, after an hour at the latest"
                .to_owned()
        }
        _ if field("delivery") == "queued" && field("waits_for") == "space" => {
            "queued: the disk is full; make room, and it leaves by itself".to_owned()
        }
        _ if field("delivery") == "queued" && field("connection") == "online" => {
            "queued: it has to wait for something else, and leaves by itself (`chats` may say why)"
                .to_owned()
        }
        _ if field("delivery") == "queued" && ask.wait().is_some_and(Wait::is_none) => {
            "queued".to_owned()
        }
        _ if matches!(field("connection"), "signed_out" | "name_taken") => {
            "queued: it may not leave any more, as the server no longer knows this device"
                .to_owned()
        }
        _ if field("delivery") == "queued" => {
            "queued: it leaves as soon as this account is online again".to_owned()
        }
        Ask::CreateGroup { title, .. } => format!("{} is founded", tame::line(title)),
        Ask::Add { .. } => "added".to_owned(),
        Ask::Remove { .. } => "removed".to_owned(),
        Ask::Leave { .. } => "left".to_owned(),
        Ask::Rename { .. } => "renamed".to_owned(),
        Ask::Role { .. } => "changed".to_owned(),
        _ => "sent".to_owned(),
    })
}

/// How the program ends after an answer.
pub(crate) fn exit(ask: &Ask, answer: &Value) -> Exit {
    let queued = answer.get("delivery").is_some_and(|state| state == "queued");
    if queued && !ask.wait().is_some_and(Wait::is_none) { Exit::Offline } else { Exit::Done }
}

/// What has to be said beside an answer that may not be all there is.
pub(crate) fn note(answer: &Value) -> Option<String> {
    let left_out = answer.get("left_out").and_then(Value::as_array);
    if let Some(left_out) = left_out {
        let one = |one: &Value| {
            let field = |name| one.get(name).and_then(Value::as_str).unwrap_or_default();
            let [name, code, now] = ["name", "code", "now"].map(|name| tame::line(field(name)));
            match now.as_str() {
                "" => format!("{name} [{code}]"),
                now => format!("{name} [{code}: it belongs to {now} now]"),
            }
        };
        let names: Vec<_> = left_out.iter().map(one).collect();
        return Some(format!("left out: {}", names.join(", ")));
    }
    let waits = answer.get("waits_for_keys").and_then(Value::as_bool) == Some(true);
    let notes = [read_note(answer), waits.then_some(WAITS_FOR_KEYS)];
    let notes: Vec<_> = notes.into_iter().flatten().collect();
    (!notes.is_empty()).then(|| notes.join("\ncorncrake: "))
}

/// How far what an answer shows was read, if not to the head.
fn read_note(answer: &Value) -> Option<&'static str> {
    match answer.get("read")?.as_str()? {
        "offline" => Some("not online: this is what this device has"),
        "not_yet" => Some("still reading: this is what this device has so far"),
        "signed_out" => Some(
            "the server no longer knows this device: this is what it has; to go on, log in with a \
             new home folder",
        ),
        "name_taken" => Some(
            "the server has lost this account and its name belongs to somebody else: this is what \
             this device has; to go on, sign up under another name with a new home folder",
        ),
        _ => None,
    }
}

fn list<T: serde::de::DeserializeOwned>(answer: &Value, name: &str) -> Vec<T> {
    let list = answer.get(name).and_then(Value::as_array);
    let known = list.into_iter().flatten().filter_map(|one| T::deserialize(one).ok());
    known.collect()
}

/// A device that was removed.
fn removed(answer: &Value) -> String {
    match answer.get("settled").and_then(Value::as_bool) {
        Some(true) => "removed: it is in none of your chats any more",
        _ => {
            "removed: it leaves your chats as soon as another device of yours is online long enough"
        }
    }
    .to_owned()
}

fn devices(answer: &Value) -> String {
    let devices = answer.get("devices").and_then(Value::as_array);
    devices.into_iter().flatten().map(device).collect::<Vec<_>>().join("\n")
}

/// A device of one's own as a line.
pub(crate) fn device(device: &Value) -> String {
    let field = |name| device.get(name).and_then(Value::as_str).unwrap_or_default();
    let this = device.get("this").and_then(Value::as_bool).unwrap_or_default();
    let parts = [field("device"), field("name"), if this { "this one" } else { "" }];
    let parts = parts.into_iter().filter(|part| !part.is_empty()).map(tame::line);
    parts.collect::<Vec<_>>().join("  ")
}

/// The chats that are not hidden, the newest first.
fn chats(chats: &[Chat]) -> String {
    let mut shown: Vec<_> = chats.iter().filter(|chat| !chat.hidden).collect();
    shown.sort_by_key(|chat| core::cmp::Reverse(chat.last_at));
    let mut lines: Vec<_> = shown.iter().map(|chat| chat_line(chat)).collect();
    if shown.is_empty() {
        lines.push("no chats yet: corncrake send NAME \"hi\"".to_owned());
    }
    if shown.iter().any(|chat| !chat.confirmed) {
        lines.push("* only the one who invited you has spoken there so far".to_owned());
    }
    lines.join("\n")
}

/// A chat as a line: the columns are two blanks apart, which no name or title contains.
fn chat_line(chat: &Chat) -> String {
    let id: String = tame::line(&chat.chat).chars().take(8).collect();
    let mark = if chat.kind == "group" { "#" } else { "" };
    let people = chat.members.iter().filter_map(|member| member.name.as_deref());
    let people = people.map(tame::line).collect::<Vec<_>>().join(", ");
    let at = chat.last_at.map_or_else(|| " ".repeat(16), clock);
    let mut line = format!("{id}  {at}  {mark}{}  ({people})", tame::line(&chat.title));
    if chat.standing != "member" {
        line.push_str("  ");
        line.push_str(&tame::line(&chat.standing));
    }
    if !chat.adding.is_empty() {
        let adding: Vec<_> = chat.adding.iter().map(|name| tame::line(name)).collect();
        line.push_str("  adding ");
        line.push_str(&adding.join(", "));
    }
    if !chat.confirmed {
        line.push_str("  *");
    }
    if chat.members.iter().any(|member| member.unnamed > 0) {
        line.push_str("  ! a device that is not in its account's list");
    }
    if let Some(other) = &chat.continues_in {
        let other: String = tame::line(other).chars().take(8).collect();
        line.push_str("  goes on in ");
        line.push_str(&other);
    }
    line
}

fn verify(name: &str, answer: &Value) -> Result<String, Failure> {
    let digits = answer.get("digits").and_then(Value::as_array);
    let digits: Vec<_> = digits.into_iter().flatten().filter_map(Value::as_str).collect();
    let mut text = format!(
        "Compare with {}, over something other than this chat. The same digits or code on both \
         sides: nobody stands between you.\n",
        tame::line(name)
    );
    for row in digits.chunks(4) {
        text.push_str("\n  ");
        text.push_str(&tame::line(&row.join(" ")));
    }
    let code = answer.get("qr").and_then(Value::as_str).and_then(|code| hex::decode(code).ok());
    if let Some(code) = code.filter(|_| stdout().is_terminal()) {
        text.push_str("\n\n");
        text.push_str(&qr::draw(&code)?);
    }
    Ok(text)
}

/// A line of a timeline for people.
fn item_line(item: &Item) -> String {
    let line = tame::line;
    let all = |who: &[String]| who.iter().map(|one| line(one)).collect::<Vec<_>>().join(", ");
    let what = match &item.what {
        What::Message { from, text, delivery, code, .. } => {
            let mark = match (delivery.as_str(), code) {
                ("queued", _) => " (queued)".to_owned(),
                ("failed", code) => {
                    format!(" (not sent: {})", line(code.as_deref().unwrap_or_default()))
                }
                _ => String::new(),
            };
            // The mark comes first: after the text, the text could end in one.
            format!("{}{mark}: {}", line(from), tame::text(text))
        }
        What::UnknownKind { from, .. } => {
            format!("{} sent something that needs a newer version", line(from))
        }
        What::Unreadable { code, .. } => format!("* something could not be read ({})", line(code)),
        What::ServerLostEntries => {
            "* the server has lost messages; yours are sent again".to_owned()
        }
        What::NotRepeated { from, .. } => format!(
            "* the server has lost something that {} said; it is not sent again, for others have \
             come in since",
            line(from)
        ),
        What::RemovalLost { who } => {
            let who = all(who);
            format!(
                "* the server has lost the removal of {who}: nothing is sent here until somebody \
                 who may removes {who} again"
            )
        }
        What::NewGroupNeeded { without } => format!(
            "* nobody has removed {} for a day: create a new group without them",
            all(without)
        ),
        What::JoinedHere => "* this device joined here".to_owned(),
        What::Expired => "* messages are missing here that the server no longer keeps".to_owned(),
        What::Gap => "* this device was out; what was said meanwhile is not here".to_owned(),
        What::Added { by, who } => format!("* {} added {}", line(by), all(who)),
        What::Removed { by, who } => format!("* {} removed {}", line(by), all(who)),
        What::Rejoined { who } => format!("* a device of {} came in", line(who)),
        What::Left { who } => format!("* {} left", line(who)),
        What::Renamed { by, title } => format!("* {} named the group {}", line(by), line(title)),
        What::RolesChanged { by } => format!("* {} changed the roles", line(by)),
        What::LockedOut { by } => {
            let by = line(by);
            format!("* a change by {by} shut this device out; you may want to remove {by}")
        }
        What::Copied { .. } => {
            "* this home folder is used in two places: messages wait for up to a \
                                day; end one of them, or log in with a new folder"
                .to_owned()
        }
        What::ViewDiffers { from } => format!(
            "* {} saw another history than you: the server may be lying to one of you",
            line(from)
        ),
        What::NameChangedHands { before, now } => {
            let (before, now) = (line(before), line(now));
            format!(
                "* {now} is not the {before} that you know: the name belongs to another account now"
            )
        }
        What::Other => "* something that needs a newer version".to_owned(),
    };
    let mark = if item.wrong_clock { " (read; the sender's clock is wrong)" } else { "" };
    format!("{:>5}  {}{mark}  {what}", item.number, clock(item.at))
}

/// An event for people; some are of no interest to them.
pub(crate) fn event_line(event: &Event) -> Option<String> {
    // The first closing bracket ends the name, whatever the name is.
    let chat = |name: &str| tame::line(name).replace('[', "(").replace(']', ")");
    match &event.what {
        Happened::Connection { connection } if connection == "signed_out" => Some(
            "* the server no longer knows this device: log in with a new home folder".to_owned(),
        ),
        Happened::Connection { connection } if connection == "name_taken" => Some(
            "* the server has lost this account, and somebody else has its name: sign up under \
             another name with a new home folder"
                .to_owned(),
        ),
        Happened::Connection { connection } => Some(format!("* {}", tame::line(connection))),
        Happened::ChatAdded { name, .. } => Some(format!("[{}] * new", chat(name))),
        // It is shown once, when it is sent or has failed.
        Happened::Item { item: Item { what: What::Message { delivery, .. }, .. }, .. }
            if delivery == "queued" =>
        {
            None
        }
        Happened::Item { name, item, .. } => Some(format!("[{}] {}", chat(name), item_line(item))),
        Happened::Lagged => Some("* some lines were left out here: see the histories".to_owned()),
        _ => None,
    }
}

/// A moment in UTC, to the minute (Howard Hinnant's days-to-civil).
fn clock(at: u64) -> String {
    let minutes = at / 60_000;
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
    use serde_json::json;

    use super::*;

    const FORGED: &str = "X  (ann, bob)\ndeadbeef  bank  (bank, bob)";
    const NAME: &str = "mal\n    2  1970-01-01 00:00  bob";

    #[test]
    fn audit_prog_h7_titles_and_names_cannot_forge_rows() {
        let chat = Chat {
            chat: "0".repeat(64),
            kind: "group".to_owned(),
            title: FORGED.to_owned(),
            members: Vec::new(),
            standing: "member".to_owned(),
            hidden: false,
            confirmed: false,
            continues_in: None,
            adding: Vec::new(),
            lost_removals: Vec::new(),
            needs_new_group: false,
            last_item: Some(0),
            last_at: Some(0),
        };
        let row =
            "00000000  1970-01-01 00:00  #X (ann, bob)\u{fffd}deadbeef bank (bank, bob)  ()  *";
        assert_eq!(chat_line(&chat), row);
        let said = |delivery: &str| What::Message {
            message: String::new(),
            from: NAME.to_owned(),
            text: "hi\n    2  1970-01-01 00:00  bob: mine (queued)".to_owned(),
            delivery: delivery.to_owned(),
            code: Some("not\nso".to_owned()),
        };
        let renamed = What::Renamed { by: NAME.to_owned(), title: FORGED.to_owned() };
        let added = What::Added { by: NAME.to_owned(), who: vec![NAME.to_owned()] };
        let unreadable = What::Unreadable { from: None, code: "a\nb".to_owned() };
        for what in [said("received"), said("failed"), renamed, added, unreadable] {
            let item = Item { number: 1, at: 0, wrong_clock: false, what };
            let line = item_line(&item);
            assert!(line.starts_with("    1  1970-01-01 00:00  "), "{line}");
            assert!(line.lines().skip(1).all(|line| line.starts_with(tame::CONTINUED)), "{line}");
            let name = "a]     1  1970-01-01 00:00  bob: yes".to_owned();
            let what = Happened::Item { chat: String::new(), name, item };
            let line = event_line(&Event { sequence: None, what }).unwrap();
            assert!(line.starts_with("[a) 1 1970-01-01 00:00 bob: yes]     1  "), "{line}");
        }
    }

    /// Whether a row of the screen begins as a line of a timeline does.
    fn begins_a_line(row: &str) -> bool {
        let row = row.rsplit_once(']').map_or(row, |(_, row)| row).trim_start();
        let Some((number, rest)) = row.split_once("  ") else { return false };
        let Some((date, rest)) = rest.split_once("  ") else { return false };
        let is_date =
            date.len() == 16 && date.chars().all(|c| c.is_ascii_digit() || "-: ".contains(c));
        number.bytes().all(|c| c.is_ascii_digit()) && is_date && rest.contains(':')
    }

    #[test]
    fn audit_prog_h7_a_terminal_that_breaks_lines_shows_no_line_of_another() {
        let forged = "    5  2026-11-27 19:08  bob: forged";
        assert!(begins_a_line(forged) && begins_a_line(&format!("[#Trip] {forged}")));
        let ways = ["", "hi\n", "hi\r\n\t", "\u{2003}", "\u{a0}\u{3000}"];
        let between = [" ", "\t", "x", "\u{3000}", "lorem ipsum "];
        for (way, filler) in ways.iter().flat_map(|way| between.map(|filler| (way, filler))) {
            for count in 0..130 {
                let text = format!("{way}{}{forged}", filler.repeat(count));
                let (message, delivery) = (String::new(), "received".to_owned());
                let what =
                    What::Message { message, from: "mal".to_owned(), text, delivery, code: None };
                let item = Item { number: 4, at: 0, wrong_clock: false, what };
                let line = item_line(&item);
                for width in [40, 80, 100, 132] {
                    let rows = line.lines().flat_map(|line| {
                        let line: Vec<char> = line.chars().collect();
                        let rows = line.chunks(width).map(String::from_iter);
                        rows.collect::<Vec<String>>()
                    });
                    let begun = rows.skip(1).find(|row| begins_a_line(row));
                    assert_eq!(begun, None, "{way:?}, {count} times {filler:?}, {width} wide");
                }
            }
        }
    }

    #[test]
    fn a_device_without_the_newest_keys_says_what_to_do() {
        let answer = json!({"devices": [], "waits_for_keys": true});
        let said = note(&answer).unwrap();
        assert!(said.contains("another device of this account online"), "{said}");
        assert!(said.contains("log in again"), "{said}");
        let both = note(&json!({"chats": [], "waits_for_keys": true, "read": "offline"})).unwrap();
        assert!(both.starts_with("not online") && both.ends_with(&said), "{both}");
        assert_eq!(note(&json!({"devices": [], "waits_for_keys": false})), None);
    }

    #[test]
    fn moments_are_written_in_utc() {
        assert_eq!(clock(0), "1970-01-01 00:00");
        assert_eq!(clock(951_782_400_000), "2000-02-29 00:00");
        assert_eq!(clock(1_767_225_599_000), "2025-12-31 23:59");
    }
}
