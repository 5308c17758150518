//! `cargo xtask demo`: people talk through the real server with the real command-line client, and
//! what the server stored stands beside what the people saw.

use std::{io::BufRead, path::PathBuf};

use serde_json::json;
use tempfile::TempDir;

use crate::{Result, programs::Programs, say};

mod stage;

use stage::Stage;

/// What is said in the chat of two.
const GREETING: &str = "The corncrake is back.";
const ANSWER: &str = "Where did you hear it?";
/// What is said in the group.
const IN_GROUP: [&str; 3] =
    ["Meet at the meadow at six.", "I bring the binoculars.", "I bring the tea."];
/// What is said after the removal, and must not reach the one who was removed.
const AFTER_REMOVAL: [&str; 2] = ["Cem is out: not the meadow, the marsh.", "The marsh it is."];
/// What is said when a second device is in, and after everything was closed and started again.
const TO_BOTH: &str = "Do you read me on both of your devices?";
const AFTER_RESTART: &str = "Good morning, everything was switched off.";
const TITLE: &str = "Meadow watch";

/// Plays the demonstration; with `check` it ends when all is shown, else it stays open for a
/// person.
///
/// # Errors
/// A step did not hold.
pub fn run(check: bool) -> Result<()> {
    say("building corncrake-server and corncrake ...");
    let programs = Programs::build()?;
    let folder = TempDir::with_prefix("corncrake-demo-")?;
    let mut stage = Stage::new(programs, folder.path().to_owned())?;
    let outcome = play(&mut stage);
    if let Err(error) = &outcome {
        say(&format!("the demonstration stops: {error}"));
    }
    stage.show_everything()?;
    let texts = [&IN_GROUP[..], &AFTER_REMOVAL, &[GREETING, ANSWER, TO_BOTH, AFTER_RESTART, TITLE]];
    stage.nothing_readable(&texts.concat())?;
    outcome?;
    if !check {
        stay_open(&mut stage)?;
    }
    let faults = stage.close()?;
    if faults == 0 { Ok(()) } else { Err(format!("{faults} steps did not hold").into()) }
}

fn play(stage: &mut Stage) -> Result<()> {
    for name in ["ann", "bob", "cem"] {
        stage.sign_up(name)?;
    }
    chat_of_two(stage)?;
    group(stage)?;
    removal(stage)?;
    second_device(stage)?;
    restart(stage)
}

fn chat_of_two(stage: &mut Stage) -> Result<()> {
    stage.say_in("ann", "bob", GREETING)?;
    stage.say_in("bob", "ann", ANSWER)?;
    let said = [("ann", GREETING), ("bob", ANSWER)];
    stage.read("ann", "bob", &said)?;
    stage.read("bob", "ann", &said)?;
    stage.shown("a chat of two")?;
    let number = |stage: &mut Stage, who: &str, whom: &str| {
        let answer = stage.person(who)?.ask(json!({"do": "verify", "name": whom}))?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(answer.get("digits").cloned())
    };
    let (anns, bobs) = (number(stage, "ann", "bob")?, number(stage, "bob", "ann")?);
    stage.hold("ann and bob see the same safety number", anns.is_some() && anns == bobs);
    stage.shown("safety numbers")
}

fn group(stage: &mut Stage) -> Result<()> {
    stage.person("ann")?.ask(json!({"do": "create_group", "title": TITLE, "names": ["bob"]}))?;
    stage.saw(&format!("ann founds #{TITLE} with bob"));
    stage.settle()?;
    let chat = format!("#{TITLE}");
    stage.person("ann")?.ask(json!({"do": "add", "chat": chat, "names": ["cem"]}))?;
    stage.saw("ann adds cem");
    stage.settle()?;
    stage.shown("a group")?;
    let people = ["ann", "bob", "cem"];
    for (name, text) in people.into_iter().zip(IN_GROUP) {
        stage.say_in(name, &chat, text)?;
    }
    let said: Vec<_> = people.into_iter().zip(IN_GROUP).collect();
    for name in people {
        stage.read(name, &chat, &said)?;
    }
    stage.shown("a conversation of three")
}

fn removal(stage: &mut Stage) -> Result<()> {
    let chat = format!("#{TITLE}");
    stage.person("ann")?.ask(json!({"do": "remove", "chat": chat, "names": ["cem"]}))?;
    stage.saw("ann removes cem");
    stage.settle()?;
    stage.say_in("ann", &chat, AFTER_REMOVAL[0])?;
    stage.say_in("bob", &chat, AFTER_REMOVAL[1])?;
    let talk = [("ann", AFTER_REMOVAL[0]), ("bob", AFTER_REMOVAL[1])];
    stage.read("ann", &chat, &talk)?;
    stage.read("bob", &chat, &talk)?;
    stage.person("cem")?.settle()?;
    let heard = stage.person("cem")?.said(&chat)?;
    let nothing = heard.iter().all(|(_, text)| !AFTER_REMOVAL.contains(&text.as_str()));
    stage.hold("cem reads nothing that was said after the removal", nothing);
    let refused = stage.person("cem")?.try_ask(json!({
        "do": "send", "chat": chat, "text": "am I still here?", "wait": 20,
    }))?;
    let code = refused.err().and_then(|error| Some(error.get("code")?.as_str()?.to_owned()));
    stage.hold("cem cannot speak any more", code.as_deref() == Some("not_a_member"));
    stage.shown("a removal")
}

fn second_device(stage: &mut Stage) -> Result<()> {
    stage.log_in("ann", "ann's laptop")?;
    stage.shown("a second device")?;
    for chat in [String::from("ann"), format!("#{TITLE}")] {
        stage.say_in("bob", &chat, TO_BOTH)?;
    }
    for device in ["ann", "ann's laptop"] {
        stage.read(device, "bob", &[("bob", TO_BOTH)])?;
        stage.read(device, &format!("#{TITLE}"), &[("bob", TO_BOTH)])?;
    }
    stage.shown("both devices read")
}

fn restart(stage: &mut Stage) -> Result<()> {
    stage.restart()?;
    stage.say_in("ann's laptop", "bob", AFTER_RESTART)?;
    for (device, chat) in [("bob", "ann"), ("ann", "bob")] {
        stage.read(device, chat, &[("ann", AFTER_RESTART)])?;
    }
    stage.shown("everything was closed and started again")
}

/// Leaves the server running and the stores to whoever wants to try them.
fn stay_open(stage: &mut Stage) -> Result<()> {
    stage.close_sessions()?;
    say("The server stays up until you press Enter. In another terminal, for example:\n");
    for (name, home) in stage.homes() {
        say(&format!("  {name}: {}", stage.command_line(home)));
    }
    std::io::stdin().lock().read_line(&mut String::new())?;
    Ok(())
}

/// A home folder for a device.
fn home_in(folder: &std::path::Path, device: &str) -> PathBuf {
    folder.join(device.replace([' ', '\''], "-"))
}
