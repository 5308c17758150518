//! `corncrake session`: commands on standard input, answers and events on standard output.

use std::{
    io::{self, BufRead, Write},
    thread,
};

use corncrake::{Client, Event, EventKind};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    ask::Ask,
    failure::Failure,
    show::{self, Names},
    tame,
};

/// Answers lines until standard input ends. Events are written between answers.
pub(crate) async fn run(client: &Client) -> Result<(), Failure> {
    let mut lines = read_lines();
    let events = tokio::spawn(write_events(client.clone()));
    while let Some(line) = lines.recv().await {
        if !line.trim().is_empty() && write(&answer(client, &line).await).is_err() {
            break;
        }
    }
    events.abort();
    Ok(())
}

/// Reads standard input on a thread of its own, which ends with the process.
fn read_lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(1);
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

async fn answer(client: &Client, line: &str) -> Value {
    let (id, ask) = parse(line);
    let answer = match ask {
        Ok(ask) => ask.carry_out(client).await,
        Err(failure) => Err(failure),
    };
    match answer {
        Ok(answer) => json!({"id": id, "ok": answer.json}),
        Err(failure) => json!({
            "id": id,
            "error": {"code": failure.code, "message": failure.message},
        }),
    }
}

/// The `id` of a line and what it asks for.
fn parse(line: &str) -> (Value, Result<Ask, Failure>) {
    let bad = |message: String| Failure::refused("bad_command", message);
    let mut value: Value = match serde_json::from_str(line) {
        Ok(value) => value,
        Err(error) => {
            return (Value::Null, Err(bad(format!("not a line of JSON: {error}"))));
        }
    };
    let id = value.as_object_mut().and_then(|object| object.remove("id")).unwrap_or_default();
    (id, serde_json::from_value(value).map_err(|error| bad(error.to_string())))
}

/// Writes each event; the engine counts it as taken once the next one is asked for.
async fn write_events(client: Client) {
    let mut events = client.events();
    while let Some(event) = events.next().await {
        let names = names_for(&client, &event).await;
        if write(&show::event_json(&event, &names)).is_err() {
            return;
        }
    }
}

/// The names that an event's line needs.
pub(crate) async fn names_for(client: &Client, event: &Event) -> Names {
    match &event.what {
        EventKind::Item { item, .. } => Names::of(client, [item]).await.unwrap_or_default(),
        _ => Names::default(),
    }
}

fn write(line: &Value) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{}", tame::json(line))?;
    output.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_on_the_page_of_sessions_is_understood() {
        let page = include_str!("../../../docs/session.md");
        let commands = page.split("```").nth(1).unwrap();
        let lines: Vec<_> = commands.lines().filter(|line| line.starts_with('{')).collect();
        assert!(lines.len() > 10);
        for line in lines {
            let (id, ask) = parse(line);
            assert!(id.is_number() && ask.is_ok(), "{line}: {ask:?}");
        }
    }

    #[test]
    fn lines_are_understood_or_refused_with_their_id() {
        let (id, ask) = parse(r#"{"id": 7, "do": "send", "chat": "bob", "text": "hi"}"#);
        assert_eq!(id, json!(7));
        assert!(matches!(ask, Ok(Ask::Send { wait: 0, .. })));
        for line in [
            r#"{"id": 7, "do": "fly"}"#,
            r#"{"id": 7}"#,
            r#"{"id": 7, "do": "send", "chat": "bob"}"#,
            r#"{"id": 7, "do": "chats", "extra": 1}"#,
        ] {
            let (id, ask) = parse(line);
            assert_eq!(id, json!(7));
            assert_eq!(ask.unwrap_err().code, "bad_command");
        }
        for line in ["", "[]", "7", "{", "null"] {
            assert_eq!(parse(line).1.unwrap_err().code, "bad_command");
        }
    }
}
