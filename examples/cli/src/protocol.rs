//! The lines of JSON that a session takes and gives, between programs of one home folder too.
//!
//! There, a few more are in use: the program that has the store greets with `hello`; `listen` asks
//! it for events, and `shown` tells that an event has been shown; `bye` is its last line, and says
//! that whatever it has not answered was not begun; `end` tells why its engine ended by itself.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{ask::Ask, failure::Failure, view::Event};

/// Grows when programs of different versions no longer understand each other.
const VERSION: u64 = 2;

/// What is asked of the program that has the store.
#[derive(Debug)]
pub(crate) enum Request {
    /// A command, and the answer's id.
    Ask(Value, Result<Ask, Failure>),
    /// Events, please; what came after the last that was heard from another program, too.
    Listen(Option<u64>),
    /// Events up to this one have been shown.
    Shown(u64),
}

/// What it says.
#[derive(Debug)]
pub(crate) enum Line {
    /// It has the store, and talks to this server.
    Hello(String),
    /// The answer to the command with this number.
    Answer(u64, Result<Value, Failure>),
    /// Something happened.
    Event(Value),
    /// Nothing more will come.
    Bye,
    /// Its engine has ended.
    End(Failure),
}

/// The `id` of a command's line and what it asks for.
pub(crate) fn parse(line: &[u8]) -> (Value, Result<Ask, Failure>) {
    let bad = |message: String| Failure::refused("bad_command", message);
    let mut value: Value = match serde_json::from_slice(line) {
        Ok(value) => value,
        Err(error) => {
            return (Value::Null, Err(bad(format!("not a line of JSON: {error}"))));
        }
    };
    let id = value.as_object_mut().and_then(|object| object.remove("id")).unwrap_or_default();
    (id, serde_json::from_value(value).map_err(|error| bad(error.to_string())))
}

/// What a line asks of the program that has the store.
pub(crate) fn request(line: &str) -> Request {
    #[derive(Deserialize)]
    #[serde(tag = "do", rename_all = "snake_case")]
    enum Besides {
        Listen {
            #[serde(default)]
            after: Option<u64>,
        },
        Shown {
            sequence: u64,
        },
    }
    match serde_json::from_str(line) {
        Ok(Besides::Listen { after }) => Request::Listen(after),
        Ok(Besides::Shown { sequence }) => Request::Shown(sequence),
        Err(_) => {
            let (id, ask) = parse(line.as_bytes());
            Request::Ask(id, ask)
        }
    }
}

/// What a line of the program that has the store says; `None` for what is not understood here.
pub(crate) fn line(line: &str) -> Option<Line> {
    let mut value: Value = serde_json::from_str(line).ok()?;
    if value.get("event").is_some() {
        return Some(Line::Event(value));
    }
    let fields = value.as_object_mut()?;
    if let Some(hello) = fields.get("hello") {
        let server = fields.get("server").and_then(Value::as_str)?.to_owned();
        return (*hello == json!(VERSION)).then_some(Line::Hello(server));
    }
    if fields.contains_key("bye") {
        return Some(Line::Bye);
    }
    if let Some(end) = fields.remove("end") {
        return Some(Line::End(serde_json::from_value(end).ok()?));
    }
    let id = fields.get("id").and_then(Value::as_u64)?;
    match (fields.remove("ok"), fields.remove("error")) {
        (Some(ok), None) => Some(Line::Answer(id, Ok(ok))),
        (_, error) => Some(Line::Answer(id, Err(serde_json::from_value(error?).ok()?))),
    }
}

/// A command with its number.
pub(crate) fn ask(id: u64, ask: &Ask) -> String {
    let mut value = json!(ask);
    if let Some(fields) = value.as_object_mut() {
        fields.insert("id".to_owned(), json!(id));
    }
    value.to_string()
}

pub(crate) fn listen(after: Option<u64>) -> String {
    json!({"do": "listen", "after": after}).to_string()
}

pub(crate) fn shown(sequence: u64) -> String {
    json!({"do": "shown", "sequence": sequence}).to_string()
}

pub(crate) fn hello(server: &str) -> String {
    json!({"hello": VERSION, "server": server}).to_string()
}

pub(crate) fn bye() -> String {
    json!({"bye": true}).to_string()
}

pub(crate) fn end(failure: &Failure) -> String {
    json!({"end": failure}).to_string()
}

pub(crate) fn event(event: &Event) -> String {
    json!(event).to_string()
}

/// The answer to a command, for a program of the same home folder.
pub(crate) fn answer(id: &Value, answer: &Result<Value, Failure>) -> String {
    match answer {
        Ok(answer) => json!({"id": id, "ok": answer}),
        Err(failure) => json!({"id": id, "error": failure}),
    }
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{failure::Exit, patience::Wait};

    #[test]
    fn every_command_on_the_page_of_sessions_is_understood_and_passed_on() {
        let page = include_str!("../../../docs/session.md");
        let commands = page.split("```").nth(1).unwrap();
        let lines: Vec<_> = commands.lines().filter(|line| line.starts_with('{')).collect();
        assert!(lines.len() > 10);
        for line in lines {
            let (id, asked) = parse(line.as_bytes());
            let asked = asked.unwrap();
            assert!(id.is_number(), "{line}");
            let Request::Ask(id, Ok(again)) = request(&ask(7, &asked)) else {
                panic!("{line} is not passed on");
            };
            assert_eq!((id, json!(again)), (json!(7), json!(asked)));
        }
    }

    #[test]
    fn lines_are_understood_or_refused_with_their_id() {
        let (id, ask) = parse(br#"{"id": 7, "do": "send", "chat": "bob", "text": "hi"}"#);
        assert_eq!(id, json!(7));
        assert!(matches!(ask, Ok(Ask::Send { wait: Wait::NONE, .. })));
        for line in [
            r#"{"id": 7, "do": "fly"}"#,
            r#"{"id": 7}"#,
            r#"{"id": 7, "do": "send", "chat": "bob"}"#,
            r#"{"id": 7, "do": "chats", "extra": 1}"#,
        ] {
            let (id, ask) = parse(line.as_bytes());
            assert_eq!(id, json!(7));
            assert_eq!(ask.unwrap_err().code, "bad_command");
        }
        for line in ["", "[]", "7", "{", "null"] {
            assert_eq!(parse(line.as_bytes()).1.unwrap_err().code, "bad_command");
        }
        assert_eq!(parse(b"\xff\xfe").1.unwrap_err().code, "bad_command");
    }

    #[test]
    fn what_programs_of_one_home_say_to_each_other_is_understood() {
        assert!(matches!(request(&listen(None)), Request::Listen(None)));
        assert!(matches!(request(&listen(Some(7))), Request::Listen(Some(7))));
        assert!(matches!(request(&shown(3)), Request::Shown(3)));
        assert!(matches!(line(&hello("x")), Some(Line::Hello(server)) if server == "x"));
        assert!(matches!(line(&bye()), Some(Line::Bye)));
        let failure = Failure::home("x");
        assert!(matches!(line(&end(&failure)), Some(Line::End(it)) if it.exit == Exit::Files));
        let failed = line(&answer(&json!(7), &Err(failure)));
        assert!(matches!(failed, Some(Line::Answer(7, Err(it))) if it.code == "home_unusable"));
        let done = line(&answer(&json!(7), &Ok(json!({}))));
        assert!(matches!(done, Some(Line::Answer(7, Ok(_)))));
        assert!(line(r#"{"hello": 1, "server": "x"}"#).is_none());
    }
}
