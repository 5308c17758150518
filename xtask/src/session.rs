//! A running `corncrake session`.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{Result, programs::Programs};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// A person's session; it is killed when this is dropped.
#[derive(Debug)]
pub struct Session {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    /// With the moment at which each was read.
    lines: Receiver<(Instant, Value)>,
    asked: u64,
    events: Vec<Value>,
    /// Answers that came before they were asked for: commands of different chats don't wait for each
    /// other.
    answers: BTreeMap<u64, Value>,
}

impl Session {
    /// Opens the account in `home`.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(programs: &Programs, name: &str, home: &Path, server: &str) -> Result<Self> {
        let mut command = programs.corncrake(home, server);
        command.args(["session", "--json"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let input = child.stdin.take();
        let output = child.stdout.take();
        let (sender, lines) = channel();
        thread::spawn(move || {
            let lines = output.into_iter().flat_map(|output| BufReader::new(output).lines());
            for line in lines.map_while(std::result::Result::ok) {
                let Ok(value) = serde_json::from_str(&line) else {
                    continue;
                };
                if sender.send((Instant::now(), value)).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            name: name.to_owned(),
            child,
            input,
            lines,
            asked: 0,
            events: Vec::new(),
            answers: BTreeMap::new(),
        })
    }

    /// Whose session this is.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes a command without waiting for its answer; its id.
    ///
    /// # Errors
    /// The session has ended.
    pub fn send(&mut self, mut command: Value) -> Result<u64> {
        self.asked += 1;
        if let Some(command) = command.as_object_mut() {
            command.insert("id".to_owned(), json!(self.asked));
        }
        let ended = || format!("the session of {} has ended", self.name);
        let input = self.input.as_mut().ok_or_else(ended)?;
        writeln!(input, "{command}").map_err(|_| ended())?;
        Ok(self.asked)
    }

    /// Waits for the answer to a command; events and other answers that come before it are kept.
    ///
    /// # Errors
    /// The session has ended, or nothing came in time.
    pub fn answer(&mut self, id: u64) -> Result<std::result::Result<Value, Value>> {
        if let Some(answer) = self.answers.remove(&id) {
            return Ok(outcome(answer));
        }
        let start = Instant::now();
        while let Some(left) = PATIENCE.checked_sub(start.elapsed()) {
            let line = match self.lines.recv_timeout(left) {
                Ok((_, line)) => line,
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(format!("the session of {} has ended", self.name).into());
                }
            };
            if line.get("event").is_some() {
                self.events.push(line);
            } else if let Some(answered) = line.get("id").and_then(Value::as_u64) {
                if answered == id {
                    return Ok(outcome(line));
                }
                self.answers.insert(answered, line);
            }
        }
        Err(format!("the session of {} gives no answer", self.name).into())
    }

    /// Asks and takes the answer, which may be a refusal.
    ///
    /// # Errors
    /// As [`Session::answer`].
    pub fn try_ask(&mut self, command: Value) -> Result<std::result::Result<Value, Value>> {
        let id = self.send(command)?;
        self.answer(id)
    }

    /// Asks and takes the answer, which must not be a refusal.
    ///
    /// # Errors
    /// As [`Session::answer`], and a refusal.
    pub fn ask(&mut self, command: Value) -> Result<Value> {
        let text = command.to_string();
        let id = self.send(command)?;
        let refused = self.answer(id)?.map_err(|error| format!("{}: {text}: {error}", self.name));
        Ok(refused?)
    }

    /// Waits until everything is read and sent.
    ///
    /// # Errors
    /// It is not within a minute and a half.
    pub fn settle(&mut self) -> Result<()> {
        self.ask(json!({"do": "settle", "wait": 80})).map(drop)
    }

    /// The newest lines of a chat, in order.
    ///
    /// # Errors
    /// As [`Session::ask`].
    pub fn history(&mut self, chat: &str) -> Result<Vec<Value>> {
        let mut answer = self.ask(json!({"do": "history", "chat": chat, "limit": 100_000}))?;
        match answer.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => Ok(items),
            _ => Err("a history without items".into()),
        }
    }

    /// Who said what in a chat, in order: what came, and what was sent.
    ///
    /// # Errors
    /// As [`Session::ask`].
    pub fn said(&mut self, chat: &str) -> Result<Vec<(String, String)>> {
        let items = self.history(chat)?;
        let text = |item: &Value, field: &str| Some(item.get(field)?.as_str()?.to_owned());
        let said = items
            .iter()
            .filter(|item| matches!(text(item, "delivery").as_deref(), Some("sent" | "received")));
        Ok(said.filter_map(|item| Some((text(item, "from")?, text(item, "text")?))).collect())
    }

    /// The events that have come so far, which are forgotten here.
    pub fn take_events(&mut self) -> Vec<Value> {
        let lines = self.lines.try_iter().map(|(_, line)| line);
        self.events.extend(lines.filter(|line| line.get("event").is_some()));
        std::mem::take(&mut self.events)
    }

    /// The process.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Waits for an event that tells of this text, and says when it came. Answers that come
    /// meanwhile are lost.
    ///
    /// # Errors
    /// The session has ended, or nothing came within `patience`.
    pub fn hear(&mut self, text: &str, patience: Duration) -> Result<Instant> {
        let start = Instant::now();
        while let Some(left) = patience.checked_sub(start.elapsed()) {
            match self.lines.recv_timeout(left) {
                Ok((at, line)) if line.pointer("/item/text") == Some(&json!(text)) => {
                    return Ok(at);
                }
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(format!("the session of {} has ended", self.name).into());
                }
            }
        }
        Err(format!("{} does not hear \"{text}\"", self.name).into())
    }

    /// Ends it without a warning, as a power cut would; what it had still said before.
    ///
    /// # Errors
    /// The system refuses.
    pub fn kill(mut self) -> Result<Vec<Value>> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(self.lines.iter().map(|(_, line)| line).collect())
    }

    /// Ends it by ending its input.
    ///
    /// # Errors
    /// It did not end well.
    pub fn close(mut self) -> Result<()> {
        drop(self.input.take());
        let status = self.child.wait()?;
        let message = || format!("the session of {} ended with {status}", self.name).into();
        if status.success() { Ok(()) } else { Err(message()) }
    }
}

/// What a line with an answer says.
fn outcome(mut line: Value) -> std::result::Result<Value, Value> {
    let error = line.get_mut("error").map(Value::take);
    let answer = line.get_mut("ok").map(Value::take).unwrap_or_default();
    error.map_or(Ok(answer), Err)
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
