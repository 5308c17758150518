//! The real server and three real sessions, killed without a warning again and again.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on should fail, and tells its seed"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use xtask::{
    programs::{Programs, Server},
    session::Session,
};

const PEOPLE: [&str; 3] = ["ann", "bob", "cem"];
const TITLE: &str = "Killed";
const KILLS: usize = 50;
/// The longest a victim runs before it is killed, in milliseconds.
const LONGEST: u64 = 400;

/// One of the three, with what was said and not yet answered, and what was acknowledged.
struct Person {
    home: PathBuf,
    session: Option<Session>,
    waiting: BTreeMap<u64, (String, String)>,
    acknowledged: BTreeSet<(String, String)>,
    said: usize,
}

impl Person {
    fn session(&mut self) -> &mut Session {
        self.session.as_mut().unwrap()
    }

    /// Says something without waiting for the answer.
    fn say(&mut self, name: &str, chat: &str) {
        self.said += 1;
        let text = format!("{name} says number {}", self.said);
        let command = json!({"do": "send", "chat": chat, "text": text});
        let id = self.session().send(command).unwrap();
        self.waiting.insert(id, (chat.to_owned(), text));
    }

    /// Takes the answers that a session still owes.
    fn collect(&mut self) {
        for (id, said) in std::mem::take(&mut self.waiting) {
            let answer = self.session().answer(id).unwrap();
            assert!(answer.is_ok(), "{said:?} was refused: {answer:?}");
            self.acknowledged.insert(said);
        }
    }

    /// Kills the session; what it acknowledged before it died counts.
    fn kill(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        for line in self.session.take().unwrap().kill().unwrap() {
            let id = line.get("id").and_then(Value::as_u64);
            if let (Some(said), Some(_)) = (id.and_then(|id| waiting.get(&id)), line.get("ok")) {
                self.acknowledged.insert(said.clone());
            }
        }
    }
}

/// The three, by name.
type People = BTreeMap<&'static str, Person>;

/// Numbers that look random; the seed is printed so that a failure can be looked at again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

fn sign_up(programs: &Programs, folder: &TempDir, url: &str, name: &str) -> Person {
    let home = folder.path().join(name);
    let password = format!("seven herons of {name} over the wet meadow\n");
    programs.ask(&home, url, &["sign-up", name], &password).unwrap();
    let session = Some(Session::start(programs, name, &home, url).unwrap());
    let (waiting, acknowledged) = (BTreeMap::new(), BTreeSet::new());
    Person { home, session, waiting, acknowledged, said: 0 }
}

/// What everybody reads in a chat, which must be the same for all within a minute: what one has
/// heard may still be on its way to another.
fn agreed(people: &mut People, chat_of: &[(&'static str, &str)]) -> Vec<(String, String)> {
    let mut read = || {
        let said = |(who, chat): &(&'static str, &str)| {
            people.get_mut(who).unwrap().session().said(chat).unwrap()
        };
        chat_of.iter().map(said).collect::<Vec<_>>()
    };
    let mut readings = read();
    for _ in 0..600 {
        if readings.iter().all(|reading| Some(reading) == readings.first()) {
            break;
        }
        thread::sleep(Duration::from_millis(100));
        readings = read();
    }
    let first = readings.swap_remove(0);
    for reading in readings {
        assert_eq!(reading, first, "two of {chat_of:?} read different histories");
    }
    first
}

/// Everybody reads everything: what one sends while he settles is read by the others in the
/// second round.
fn settle(people: &mut People) {
    for _ in 0..2 {
        people.values_mut().for_each(|person| person.session().settle().unwrap());
    }
}

#[test]
fn nothing_acknowledged_is_lost_or_doubled_however_often_we_are_killed() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut dice = Dice(u64::from(now.subsec_nanos()) | 1);
    println!("seed {}", dice.0);
    let programs = Programs::build().unwrap();
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("server");
    let mut server = Server::start(&programs, &data, "127.0.0.1:0", None).unwrap();
    let (address, url) = (server.address().to_owned(), server.url());
    let mut people: People =
        PEOPLE.map(|name| (name, sign_up(&programs, &folder, &url, name))).into();
    let group = format!("#{TITLE}");
    let ann = people.get_mut("ann").unwrap().session();
    ann.ask(json!({"do": "create_group", "title": TITLE, "names": ["bob", "cem"]})).unwrap();
    settle(&mut people);

    for round in 0..KILLS {
        for (name, person) in &mut people {
            person.say(name, &group);
            if *name != "cem" {
                person.say(name, if *name == "ann" { "bob" } else { "ann" });
            }
        }
        thread::sleep(Duration::from_millis(dice.below(LONGEST)));
        match PEOPLE.get(round % (PEOPLE.len() + 1)) {
            Some(name) => {
                let person = people.get_mut(name).unwrap();
                person.kill();
                let session = Session::start(&programs, name, &person.home, &url);
                person.session = Some(session.unwrap());
            }
            None => {
                server.kill().unwrap();
                server = Server::start(&programs, &data, &address, None).unwrap();
            }
        }
        people.values_mut().for_each(Person::collect);
    }

    settle(&mut people);
    let in_group = agreed(&mut people, &PEOPLE.map(|name| (name, group.as_str())));
    let in_two = agreed(&mut people, &[("ann", "bob"), ("bob", "ann")]);
    let all: Vec<_> = in_group.iter().chain(&in_two).map(|(_, text)| text.clone()).collect();
    let once: BTreeSet<_> = all.iter().collect();
    assert_eq!(once.len(), all.len(), "something stands there twice");
    let mut acknowledged = 0;
    for (name, person) in &people {
        for (chat, text) in &person.acknowledged {
            assert!(once.contains(text), "{name} was told that {chat} has it: {text}");
            acknowledged += 1;
        }
    }
    println!("{KILLS} kills, {acknowledged} acknowledged messages, {} in the end", all.len());
    assert!(acknowledged >= KILLS);
    for person in people.into_values() {
        person.session.unwrap().close().unwrap();
    }
    server.stop().unwrap();
}
