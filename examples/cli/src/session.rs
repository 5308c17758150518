//! `corncrake session`: commands on standard input, answers and events on standard output.

use std::{
    collections::BTreeMap,
    future::pending,
    io::{self, BufRead, Read},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::{
    failure::Failure,
    link::{Heard, Link},
    output, protocol, signals, tame,
};

/// How long what was asked may still take after the end of standard input.
const AT_THE_END: Duration = Duration::from_secs(20);
/// And after a signal to end.
const AT_A_SIGNAL: Duration = Duration::from_secs(2);

/// Answers lines until standard input ends or a signal comes, and what was asked is answered.
pub(crate) async fn run(link: &mut Link) -> Result<(), Failure> {
    link.listen();
    let mut session = Session { link, ids: BTreeMap::new() };
    let outcome = session.answer_all().await;
    let failure = match &outcome {
        Ok(()) => Failure::interrupted(),
        Err(failure) => {
            // Whoever has gone does not read it.
            let _ = write(&json!({"event": "closed", "error": failure.json()})).await;
            failure.clone()
        }
    };
    for (_, id) in session.ids {
        let _ = write(&json!({"id": id, "error": failure.json()})).await;
    }
    outcome
}

struct Session<'a> {
    link: &'a mut Link,
    /// The ids of what was asked and not answered.
    ids: BTreeMap<u64, Value>,
}

impl Session<'_> {
    async fn answer_all(&mut self) -> Result<(), Failure> {
        let mut lines = read_lines();
        let mut signal = signals::end()?;
        let mut end = None;
        while end.is_none() || !self.ids.is_empty() {
            let over = async {
                match end {
                    Some(end) => sleep_until(end).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                () = over => break,
                () = signal.comes() => {
                    let soon = Instant::now() + AT_A_SIGNAL;
                    end = Some(end.map_or(soon, |end| soon.min(end)));
                }
                heard = self.link.next() => {
                    if let Err(error) = self.tell(heard?).await {
                        return Err(cut_off(&error));
                    }
                }
                line = lines.recv(), if end.is_none() => match line {
                    Some(line) => {
                        if let Err(error) = self.ask(&line).await {
                            return Err(cut_off(&error));
                        }
                    }
                    None => end = Some(Instant::now() + AT_THE_END),
                },
            }
        }
        Ok(())
    }

    async fn ask(&mut self, line: &[u8]) -> io::Result<()> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        match protocol::parse(line) {
            (id, Ok(ask)) => {
                self.ids.insert(self.link.ask(ask), id);
                Ok(())
            }
            (id, Err(failure)) => write(&json!({"id": id, "error": failure.json()})).await,
        }
    }

    async fn tell(&mut self, heard: Heard) -> io::Result<()> {
        match heard {
            Heard::Event(event) => {
                write(&event).await?;
                self.link.shown(&event);
                Ok(())
            }
            Heard::Answer(number, answer) => {
                let id = self.ids.remove(&number).unwrap_or_default();
                match answer {
                    Ok(answer) => write(&json!({"id": id, "ok": answer})).await,
                    Err(failure) => write(&json!({"id": id, "error": failure.json()})).await,
                }
            }
        }
    }
}

/// Bytes of a line that are read; what is longer is no command.
const LONGEST_LINE: u64 = 1 << 20;

/// Reads standard input on a thread of its own, which ends with the process. A line may hold any
/// bytes.
fn read_lines() -> mpsc::Receiver<Vec<u8>> {
    let (sender, lines) = mpsc::channel(1);
    thread::spawn(move || {
        let mut input = io::stdin().lock();
        while let Some(line) = read_line(&mut input) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// A line, or the beginning of one that is too long; nothing at the end.
fn read_line(input: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    let read = input.take(LONGEST_LINE).read_until(b'\n', &mut line).ok()?;
    if read == 0 {
        return None;
    }
    if !line.ends_with(b"\n") {
        input.skip_until(b'\n').ok()?;
    }
    Some(line)
}

/// What is asked of a session whose answers nobody can read is not read any more, and what was asked
/// may end with it.
fn cut_off(error: &io::Error) -> Failure {
    Failure::no_output("the session ends, and what was asked may not be done: its output", error)
}

async fn write(line: &Value) -> io::Result<()> {
    output::line(tame::json(line)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_end_is_not_held_and_the_next_one_is_read() {
        let long = "x".repeat(3 << 20);
        let mut input = io::Cursor::new(format!("one\n\n{long}\ntwo\n{long}"));
        let mut next = || read_line(&mut input);
        assert_eq!(next().as_deref(), Some("one\n".as_bytes()));
        assert_eq!(next().as_deref(), Some("\n".as_bytes()));
        assert_eq!(next().map(|line| line.len()), Some(1 << 20));
        assert_eq!(next().as_deref(), Some("two\n".as_bytes()));
        assert_eq!(next().map(|line| line.len()), Some(1 << 20));
        assert_eq!(next(), None);
    }
}
