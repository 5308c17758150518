//! The real server's folder copied back under running sessions, with the instance that it had.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use xtask::{
    programs::{Programs, Server},
    session::Session,
};

/// Within this time everybody who belongs reads and writes again.
const MINUTE: Duration = Duration::from_secs(60);

struct Stage {
    programs: Programs,
    folder: TempDir,
    server: Option<Server>,
    address: String,
    url: String,
}

impl Stage {
    fn new() -> Self {
        let programs = Programs::build().unwrap();
        let folder = TempDir::new().unwrap();
        let server =
            Server::start(&programs, &folder.path().join("server"), "127.0.0.1:0", None).unwrap();
        let (address, url) = (server.address().to_owned(), server.url());
        Self { programs, folder, server: Some(server), address, url }
    }

    fn person(&self, name: &str) -> Session {
        let home = self.folder.path().join(name);
        let password = format!("seven herons of {name} over the wet meadow\n");
        self.programs.ask(&home, &self.url, &["sign-up", name], &password).unwrap();
        Session::start(&self.programs, name, &home, &self.url).unwrap()
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("server")
    }

    /// Stops the server, has something done with its folder, and starts it again.
    fn stopped(&mut self, work: impl FnOnce(&Path, &Path)) {
        self.server.take().unwrap().stop().unwrap();
        work(&self.data(), &self.folder.path().join("backup"));
        let server = Server::start(&self.programs, &self.data(), &self.address, None).unwrap();
        self.server = Some(server);
    }

    fn back_up(&mut self) {
        self.stopped(|data, backup| {
            drop(fs::remove_dir_all(backup));
            copy(data, backup);
        });
    }

    fn restore(&mut self) {
        self.stopped(|data, backup| {
            fs::remove_dir_all(data).unwrap();
            copy(backup, data);
        });
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn say(person: &mut Session, chat: &str, text: &str) {
    person.ask(json!({"do": "send", "chat": chat, "text": text})).unwrap();
}

/// Waits until everybody has these texts, whatever the order.
fn all_have(people: &mut [(&mut Session, &str)], texts: &[String]) {
    let mut expected = texts.to_vec();
    expected.sort();
    let start = Instant::now();
    loop {
        let mut readings = people.iter_mut().map(|(person, chat)| {
            let mut said: Vec<String> =
                person.said(chat).unwrap_or_default().into_iter().map(|(_, text)| text).collect();
            said.sort();
            said
        });
        let readings: Vec<_> = readings.by_ref().collect();
        if readings.iter().all(|said| *said == expected) {
            return;
        }
        assert!(start.elapsed() < MINUTE, "{expected:?} is not what they have: {readings:?}");
        thread::sleep(Duration::from_millis(300));
    }
}

fn tells_of_the_loss(person: &mut Session, chat: &str) -> bool {
    let items = person.history(chat).unwrap();
    items.iter().any(|item| item.get("kind").and_then(Value::as_str) == Some("server_lost_entries"))
}

#[test]
fn audit_prog_h2_a_backup_ten_messages_old_is_put_back_under_running_sessions() {
    let mut stage = Stage::new();
    let [mut ann, mut bob] = ["ann", "bob"].map(|name| stage.person(name));
    let mut texts = Vec::new();
    for number in 0..2 {
        texts.push(format!("kept {number}"));
        say(&mut ann, "bob", texts.last().expect("a text"));
    }
    all_have(&mut [(&mut ann, "bob"), (&mut bob, "ann")], &texts);
    stage.back_up();
    for number in 0..10 {
        texts.push(format!("lost {number}"));
        let text = texts.last().expect("a text");
        if number % 2 == 0 { say(&mut ann, "bob", text) } else { say(&mut bob, "ann", text) }
    }
    all_have(&mut [(&mut ann, "bob"), (&mut bob, "ann")], &texts);
    stage.restore();
    for (person, to) in [(&mut ann, "bob"), (&mut bob, "ann")] {
        texts.push(format!("new to {to}"));
        say(person, to, texts.last().expect("a text"));
    }
    all_have(&mut [(&mut ann, "bob"), (&mut bob, "ann")], &texts);
    assert!(tells_of_the_loss(&mut ann, "bob") && tells_of_the_loss(&mut bob, "ann"));
    // The log has all of it again: a device that comes now follows, and nothing hangs.
    ann.settle().unwrap();
    bob.settle().unwrap();
}

#[test]
fn audit_prog_h2_a_backup_from_before_a_removal_lets_the_removed_one_read_nothing() {
    let mut stage = Stage::new();
    let [mut ann, mut bob, mut cem] = ["ann", "bob", "cem"].map(|name| stage.person(name));
    let group = "#Meadow";
    let create = json!({"do": "create_group", "title": "Meadow", "names": ["bob", "cem"]});
    ann.ask(create).unwrap();
    let mut texts = vec!["kept".to_owned()];
    for person in [&mut ann, &mut bob, &mut cem] {
        person.settle().unwrap();
    }
    say(&mut ann, group, "kept");
    all_have(&mut [(&mut ann, group), (&mut bob, group), (&mut cem, group)], &texts);
    stage.back_up();
    ann.ask(json!({"do": "remove", "chat": group, "names": ["cem"]})).unwrap();
    ann.settle().unwrap();
    for person in [&mut ann, &mut bob] {
        texts.push(format!("secret of {}", person.name()));
        say(person, group, texts.last().expect("a text"));
    }
    all_have(&mut [(&mut ann, group), (&mut bob, group)], &texts);
    stage.restore();
    for person in [&mut ann, &mut bob] {
        texts.push(format!("second secret of {}", person.name()));
        say(person, group, texts.last().expect("a text"));
    }
    all_have(&mut [(&mut ann, group), (&mut bob, group)], &texts);
    assert!(tells_of_the_loss(&mut ann, group) && tells_of_the_loss(&mut bob, group));
    for person in [&mut ann, &mut bob] {
        let chats = person.ask(json!({"do": "chats"})).unwrap();
        let members = chats["chats"][0]["members"].as_array().unwrap();
        assert_eq!(members.len(), 2, "the removal is made again: {members:?}");
    }
    cem.settle().unwrap();
    let read = cem.said(group).unwrap();
    assert_eq!(read.len(), 1, "the removed one reads on: {read:?}");
}

#[test]
fn audit_srv_a10_who_signed_up_after_the_backup_and_who_was_offline_find_each_other() {
    let mut stage = Stage::new();
    let [mut ann, mut bob, mut dan] = ["ann", "bob", "dan"].map(|name| stage.person(name));
    stage.back_up();
    let mut cem = stage.person("cem");
    // Two of ann's key packages are used up, which the server forgets.
    for (person, name) in [(&mut bob, "bob"), (&mut cem, "cem")] {
        say(person, "ann", "lost");
        all_have(&mut [(&mut ann, name)], &["lost".to_owned()]);
    }
    ann.close().unwrap();
    // The counters stay, so the server notices.
    stage.stopped(|data, backup| {
        for database in ["accounts.db", "logs.db"] {
            fs::copy(backup.join(database), data.join(database)).unwrap();
        }
    });
    say(&mut dan, "ann", "from somebody new");
    say(&mut cem, "ann", "from somebody whom the server had lost");
    cem.settle().unwrap();
    dan.settle().unwrap();
    dan.close().unwrap();
    let home = stage.folder.path().join("ann");
    let mut ann = Session::start(&stage.programs, "ann", &home, &stage.url).unwrap();
    all_have(&mut [(&mut ann, "dan")], &["from somebody new".to_owned()]);
    let texts = ["lost", "from somebody whom the server had lost"].map(str::to_owned);
    all_have(&mut [(&mut ann, "cem"), (&mut cem, "ann")], &texts);
    say(&mut ann, "cem", "welcome back");
    cem.hear("welcome back", MINUTE).unwrap();
}
