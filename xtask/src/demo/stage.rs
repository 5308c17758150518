//! The demonstration's server and people, and what was seen so far.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::json;

use super::home_in;
use crate::{
    Result, markers,
    programs::{Programs, Server},
    say,
    session::Session,
    stored::{self, StoredRow},
};

/// How wide the column of what people saw is.
const LEFT: usize = 58;
/// How many new rows of one table a step shows.
const SHOWN: usize = 4;
/// How long a text may take to reach somebody.
const PATIENCE: Duration = Duration::from_secs(60);

/// Everything that runs, and what was stored and seen when it was last looked at.
pub(super) struct Stage {
    programs: Programs,
    folder: PathBuf,
    server: Option<Server>,
    url: String,
    people: BTreeMap<String, (PathBuf, Option<Session>)>,
    stored: BTreeSet<StoredRow>,
    seen: Vec<String>,
    faults: usize,
}

impl Stage {
    pub(super) fn new(programs: Programs, folder: PathBuf) -> Result<Self> {
        let server = Server::start(&programs, &folder.join("server"), "127.0.0.1:0", None)?;
        let url = server.url();
        say(&format!("corncrake-server listens on {url}\n"));
        let stored = stored::rows(&folder.join("server"))?;
        let (people, seen) = (BTreeMap::new(), Vec::new());
        Ok(Self { programs, folder, server: Some(server), url, people, stored, seen, faults: 0 })
    }

    /// Notes what people saw.
    pub(super) fn saw(&mut self, line: &str) {
        self.seen.push(line.to_owned());
    }

    /// Notes whether something holds that has to.
    pub(super) fn hold(&mut self, what: &str, holds: bool) {
        self.faults += usize::from(!holds);
        self.seen.push(format!("{} {what}", if holds { "[holds]" } else { "[DOES NOT HOLD]" }));
    }

    pub(super) fn sign_up(&mut self, name: &str) -> Result<()> {
        self.enter("sign-up", name, name)?;
        self.saw(&format!("{name} signs up"));
        self.shown("a new account")
    }

    /// One more device of somebody's.
    pub(super) fn log_in(&mut self, name: &str, device: &str) -> Result<()> {
        self.enter("log-in", name, device)?;
        self.saw(&format!("{name} logs in on {device}"));
        self.settle()
    }

    fn enter(&mut self, how: &str, name: &str, device: &str) -> Result<()> {
        let home = home_in(&self.folder, device);
        self.programs.ask(&home, &self.url, &[how, name], &password(name))?;
        let session = Session::start(&self.programs, device, &home, &self.url)?;
        self.people.insert(device.to_owned(), (home, Some(session)));
        Ok(())
    }

    /// Somebody's session.
    pub(super) fn person(&mut self, device: &str) -> Result<&mut Session> {
        let session = self.people.get_mut(device).and_then(|(_, session)| session.as_mut());
        session.ok_or_else(|| format!("{device} is not here").into())
    }

    /// Waits until everybody has read and sent everything.
    pub(super) fn settle(&mut self) -> Result<()> {
        self.people
            .values_mut()
            .filter_map(|(_, session)| session.as_mut())
            .try_for_each(Session::settle)
    }

    /// Somebody says something, and waits until it stands in the log.
    pub(super) fn say_in(&mut self, device: &str, chat: &str, text: &str) -> Result<()> {
        let command = json!({"do": "send", "chat": chat, "text": text, "wait": 60});
        let answer = self.person(device)?.ask(command)?;
        let sent = answer.get("delivery").is_some_and(|state| state == "sent");
        self.saw(&format!("{device} to {chat}: {text}"));
        if sent { Ok(()) } else { Err(format!("{device} could not send: {answer}").into()) }
    }

    /// Somebody's history has to end in what was said.
    pub(super) fn read(&mut self, device: &str, chat: &str, said: &[(&str, &str)]) -> Result<()> {
        let start = Instant::now();
        let mut holds = false;
        while !holds && start.elapsed() < PATIENCE {
            let heard = self.person(device)?.try_ask(json!({"do": "chats"}))?;
            holds = heard.is_ok() && self.ends_in(device, chat, said);
            if !holds {
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        let last = said.last().map_or("", |(_, text)| text);
        self.hold(&format!("{device} reads up to \"{last}\""), holds);
        Ok(())
    }

    fn ends_in(&mut self, device: &str, chat: &str, said: &[(&str, &str)]) -> bool {
        let heard = self.person(device).and_then(|session| session.said(chat));
        let heard = heard.unwrap_or_default();
        let end = heard.len().checked_sub(said.len()).and_then(|start| heard.get(start..));
        let same = |((from, text), (who, what)): (&(String, String), &(&str, &str))| {
            from == who && text == what
        };
        end.is_some_and(|end| end.iter().zip(said).all(same))
    }

    /// Shows what was seen since the last time, and beside it what the server stored meanwhile.
    pub(super) fn shown(&mut self, title: &str) -> Result<()> {
        let now = stored::rows(&self.folder.join("server"))?;
        let mut right = Vec::new();
        let mut tables: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for row in now.difference(&self.stored) {
            tables.entry(&row.table).or_default().push(&row.line);
        }
        for (table, lines) in &tables {
            right.extend(lines.iter().take(SHOWN).map(|line| format!("{table}: {line}")));
            if lines.len() > SHOWN {
                right.push(format!("{table}: {} more like these", lines.len() - SHOWN));
            }
        }
        let gone = self.stored.difference(&now).count();
        if gone > 0 {
            right.push(format!("({gone} rows replaced or deleted)"));
        }
        say(&format!("--- {title}"));
        let rows = self.seen.len().max(right.len());
        let mut left = self.seen.iter().flat_map(|line| wrap(line)).collect::<Vec<_>>().into_iter();
        let mut right = right.into_iter();
        for _ in 0..rows.max(left.len()) {
            let (left, right) = (left.next().unwrap_or_default(), right.next().unwrap_or_default());
            say(format!("{left:<LEFT$} | {right}").trim_end());
        }
        say("");
        self.seen.clear();
        self.stored = now;
        Ok(())
    }

    /// Ends every session.
    pub(super) fn close_sessions(&mut self) -> Result<()> {
        let mut sessions = self.people.values_mut().filter_map(|(_, session)| session.take());
        sessions.try_for_each(Session::close)
    }

    /// Closes every session and the server, and starts them again.
    pub(super) fn restart(&mut self) -> Result<()> {
        self.close_sessions()?;
        let Some(server) = self.server.take() else {
            return Err("there is no server".into());
        };
        let address = server.address().to_owned();
        server.stop()?;
        let folder = self.folder.join("server");
        self.server = Some(Server::start(&self.programs, &folder, &address, None)?);
        for (device, (home, session)) in &mut self.people {
            *session = Some(Session::start(&self.programs, device, home, &self.url)?);
        }
        self.saw("everybody and the server are closed and started again");
        Ok(())
    }

    /// Everything that the people have, and every row that the server has.
    pub(super) fn show_everything(&mut self) -> Result<()> {
        say("=== What the people have\n");
        let devices: Vec<String> = self.people.keys().cloned().collect();
        for device in devices {
            let chats = self.person(&device)?.ask(json!({"do": "chats"}))?;
            let list = chats.get("chats").and_then(|chats| chats.as_array()).cloned();
            for chat in list.unwrap_or_default() {
                let field = |name: &str| {
                    chat.get(name).and_then(|it| it.as_str()).unwrap_or("?").to_owned()
                };
                say(&format!(
                    "{device}: {} {} ({})",
                    field("kind"),
                    field("title"),
                    field("standing")
                ));
                for (from, text) in self.person(&device)?.said(&field("chat"))? {
                    say(&format!("    {from}: {text}"));
                }
            }
        }
        say("\n=== What the server has\n");
        let mut packages = 0;
        for row in stored::rows(&self.folder.join("server"))? {
            packages += usize::from(row.table == "packages");
            if row.table != "packages" || packages <= SHOWN {
                say(&format!("{}: {}", row.table, row.line));
            }
        }
        say(&format!("packages: {packages} rows in all like the {SHOWN} above\n"));
        Ok(())
    }

    /// Looks for what people typed in everything that the server wrote.
    pub(super) fn nothing_readable(&mut self, texts: &[&str]) -> Result<()> {
        for text in texts {
            let found = markers::find_in_folder(text, &self.folder.join("server"))?;
            if !found.is_empty() {
                self.faults += 1;
                say(&format!("[DOES NOT HOLD] \"{text}\" stands in {}", found.join(", ")));
            }
        }
        say("looked for every text and title in the server's files, as text, hex and base64");
        Ok(())
    }

    /// The devices and their home folders.
    pub(super) fn homes(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.people.iter().map(|(device, (home, _))| (device.as_str(), home.as_path()))
    }

    /// What a person types to use a home folder.
    pub(super) fn command_line(&self, home: &Path) -> String {
        let program = self.programs.corncrake(home, &self.url);
        format!(
            "{} --home {} --server {} chats",
            program.get_program().to_string_lossy(),
            home.display(),
            self.url
        )
    }

    /// Ends everything; how many things did not hold.
    pub(super) fn close(mut self) -> Result<usize> {
        self.close_sessions()?;
        self.server.take().map_or(Ok(()), Server::stop)?;
        say(&format!("{} things did not hold", self.faults));
        Ok(self.faults)
    }
}

/// A password that is good enough for anybody called `name`.
fn password(name: &str) -> String {
    format!("seven herons of {name} over the wet meadow\n")
}

/// Breaks a line at spaces so that it fits the left column.
fn wrap(line: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in line.split(' ') {
        let Some(last) = lines.last_mut() else { break };
        if last.is_empty() {
            last.push_str(word);
        } else if last.chars().count() + word.chars().count() < LEFT {
            last.push(' ');
            last.push_str(word);
        } else {
            lines.push(format!("  {word}"));
        }
    }
    lines
}
