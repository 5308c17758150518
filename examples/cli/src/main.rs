//! Corncrake from a terminal: `corncrake --help`.

use std::{
    env,
    ffi::OsString,
    io::{Write, stderr},
    process::ExitCode,
};

use clap::Parser;
use corncrake::Client;
use serde_json::json;
use tokio::time::timeout_at;

mod ask;
mod failure;
mod home;
mod hub;
mod input;
mod link;
mod listen;
mod options;
mod output;
mod password;
mod patience;
mod protocol;
mod qr;
mod queue;
mod reach;
mod service;
mod session;
mod show;
mod signals;
mod socket;
mod tame;
mod turns;
mod view;

use ask::Ask;
use failure::{Exit, Failure};
use home::Home;
use link::Link;
use options::{Command, Devices, Group, Options};
use patience::{Patience, Wait};
use reach::Reach;

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => return not_understood(&error, env::args_os()),
    };
    let json = options.json;
    let outcome = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let outcome = runtime.block_on(run(options));
            // A line that nobody reads is not waited for.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(Failure::home(format!("the system gives no event loop: {error}"))),
    };
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => {
            let text = if json {
                tame::json(&json!({"error": failure.json()}))
            } else {
                let (message, code) = (tame::line(&failure.message), tame::line(&failure.code));
                let mut lines = vec![format!("corncrake: {message} [{code}]")];
                lines.extend(failure.devices.iter().map(show::device));
                lines.join("\n")
            };
            drop(writeln!(stderr(), "{text}"));
            failure.exit.into()
        }
    }
}

/// Says what is wrong with a command line, or shows the help that was asked for.
fn not_understood(error: &clap::Error, typed: impl Iterator<Item = OsString>) -> ExitCode {
    let code = u8::try_from(error.exit_code()).unwrap_or(2);
    if error.use_stderr() && wants_json(typed) {
        let text = error.to_string();
        drop(writeln!(stderr(), "{}", tame::json(&json!({"error": bad_arguments(&text).json()}))));
    } else {
        drop(error.print());
    }
    ExitCode::from(code)
}

/// Whether answers were to be JSON, of a command line that was not understood.
fn wants_json(typed: impl Iterator<Item = OsString>) -> bool {
    typed.skip(1).take_while(|word| word != "--").any(|word| word == "--json")
}

/// The first part of what is wrong, without the usage that follows.
fn bad_arguments(text: &str) -> Failure {
    let what = text.split("\n\nUsage:").next().unwrap_or(text);
    let what = what.split("\n\nFor more information").next().unwrap_or(what);
    let words: Vec<_> = what.trim_start_matches("error: ").split_whitespace().collect();
    Failure::refused("bad_arguments", words.join(" "))
}

async fn run(options: Options) -> Result<Exit, Failure> {
    let home = Home::locate(options.home)?;
    let server = options::server(options.server);
    let json = options.json;
    let ask = match options.command {
        Command::SignUp { name, wait } => {
            let entering = enter(&home, server, (&name, wait), Way::SignUp, json);
            return unless_interrupted(entering).await;
        }
        Command::LogIn { name, drop, wait } => {
            let entering = enter(&home, server, (&name, wait), Way::LogIn { drop }, json);
            return unless_interrupted(entering).await;
        }
        Command::Listen => {
            let mut link = Link::new(home, server);
            let outcome = listen::run(&mut link, json).await;
            let closed = link.close().await;
            return outcome.and(closed).map(|()| Exit::Done);
        }
        Command::Session => {
            let mut link = Link::new(home, server);
            let outcome = session::run(&mut link).await;
            let closed = link.close().await;
            return outcome.and(closed).map(|()| Exit::Done);
        }
        command => unless_interrupted(ask_of(command)).await?,
    };
    let mut link = Link::new(home, server);
    let number = link.ask(ask.clone());
    let answer = unless_interrupted(link.answer(number)).await;
    let closed = link.close().await;
    let answer = answer?;
    if let Some(note) = show::note(&answer) {
        drop(writeln!(stderr(), "corncrake: {note}"));
    }
    let text = if json { tame::json(&answer) } else { show::answer(&ask, &answer)? };
    say(&text)?;
    closed.map(|()| show::exit(&ask, &answer))
}

/// Ends what is being done if a signal asks for that.
async fn unless_interrupted<T>(
    doing: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let mut signal = signals::end()?;
    tokio::select! {
        done = doing => done,
        () = signal.comes() => Err(Failure::interrupted()),
    }
}

/// Writes an answer.
fn say(text: &str) -> Result<(), Failure> {
    output::write(text).or_else(|error| output::ended("it is done, but the answer", &error))
}

/// What a command asks of an account that is open.
async fn ask_of(command: Command) -> Result<Ask, Failure> {
    let usual = Wait::Usual { usual: patience::USUAL.as_secs() };
    Ok(match command {
        Command::Send { chat, text, wait } => {
            Ask::Send { chat, text: input::text_of(text).await?, wait: Wait::or_usual(wait, 15) }
        }
        Command::History { chat, limit, before } => {
            Ask::History { chat, before, limit, wait: usual }
        }
        Command::Group(group) => match (group.what, Wait::or_usual(group.wait, 15)) {
            (Group::Create { title, names }, wait) => Ask::CreateGroup { title, names, wait },
            (Group::Add { chat, names }, wait) => Ask::Add { chat, names, wait },
            (Group::Remove { chat, names }, wait) => Ask::Remove { chat, names, wait },
            (Group::Leave { chat }, wait) => Ask::Leave { chat, wait },
            (Group::Rename { chat, title }, wait) => Ask::Rename { chat, title, wait },
            (Group::Role { chat, name, role }, wait) => Ask::Role { chat, name, role, wait },
        },
        Command::Hide { chat } => Ask::Hide { chat },
        Command::Devices { what: None } => Ask::Devices {},
        Command::Devices { what: Some(Devices::Remove { device }) } => {
            let password = password::ask(password::Kind::Known).await?.into();
            Ask::RemoveDevice { device, password, wait: usual }
        }
        Command::Verify { name } => Ask::Verify { name },
        _ => Ask::Chats { wait: usual },
    })
}

/// How somebody comes into an account.
enum Way {
    SignUp,
    LogIn { drop: Option<String> },
}

/// Signs up or logs in, and says where the key is.
async fn enter(
    home: &Home,
    server: Option<String>,
    (name, wait): (&str, u64),
    way: Way,
    json: bool,
) -> Result<Exit, Failure> {
    let server = home.server(server)?;
    home.check_free(&server).await?;
    let kind = match way {
        Way::SignUp if !is_username(name) => {
            return Err(corncrake::Error::from(corncrake::Refusal::BadUsername).into());
        }
        Way::SignUp => password::Kind::New,
        Way::LogIn { .. } => password::Kind::Known,
    };
    let password = password::ask(kind).await?;
    let store = home.make().await?;
    // Before there is an account: one whose server can't be written down is not made.
    home.remember_server(&server)?;
    let come_in = async {
        match way {
            Way::SignUp => Client::sign_up(&server, store, name, &password).await,
            Way::LogIn { drop: None } => Client::log_in(&server, store, name, &password).await,
            Way::LogIn { drop: Some(device) } => {
                Client::log_in_for(&server, store, name, &password, &device).await
            }
        }
    };
    // A server that takes the connection and says nothing would be waited for a long time.
    let patience = Patience::of(Some(Wait::Given(wait)));
    let client = timeout_at(patience.end(), come_in).await;
    let client = client.unwrap_or(Err(corncrake::Error::Offline))?;
    let reach =
        match reach::settle(&client, patience.to_look().hasty().at_most(patience::USUAL)).await {
            // It is in the account all the same, and goes on once there is room.
            Err(failure) if failure.is_store_full() => Reach::Full,
            reach => reach?,
        };
    let me = client.account().await?;
    match client.close().await {
        // What it had stored stays stored, and the device is in the account.
        Err(error) if Failure::from(error.clone()).is_store_full() => {}
        closed => closed?,
    }
    let key = home.key_path().display().to_string();
    let answer = json!({
        "account": me.id.to_string(),
        "name": me.username,
        "device": me.device.to_string(),
        "key_file": key,
        "settled": reach == Reach::Head,
    });
    let text = format!(
        "This device is now one of {}.\nThe key of its store lies unencrypted in {}: only you can \
         read that file, and whoever copies it together with the store can read your chats.",
        tame::line(&me.username),
        tame::line(&key)
    );
    say(&if json { tame::json(&answer) } else { text })?;
    Ok(Exit::Done)
}

/// Whether a server would take this name, so that nobody types a password for nothing.
fn is_username(name: &str) -> bool {
    (3..=32).contains(&name.len())
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audit_issue_7_al3_a_command_line_that_is_not_understood_is_one_line_of_json() {
        for words in [&["send", "bob"][..], &["fly"], &["send", "bob", "hi", "--wait", "long"]] {
            let typed = ["corncrake", "--json"].iter().chain(words);
            let error = Options::try_parse_from(typed.clone()).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.use_stderr() && wants_json(typed.map(OsString::from)));
            let failure = bad_arguments(&error.to_string());
            assert_eq!(failure.code, "bad_arguments");
            let message = failure.message;
            assert!(message.len() > 10 && !message.contains("Usage"), "{message}");
            assert!(!message.contains('\n') && !message.starts_with("error"), "{message}");
        }
        let typed = ["corncrake", "send", "bob", "--", "--json", "more"].map(OsString::from);
        assert!(!wants_json(typed.into_iter()), "that is a message");
        assert!(!Options::try_parse_from(["corncrake", "--help"]).unwrap_err().use_stderr());
    }
}
