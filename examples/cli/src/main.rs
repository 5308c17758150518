//! Corncrake from a terminal: `corncrake --help`.

use std::{
    io::{Write, stderr, stdout},
    process::ExitCode,
};

use clap::Parser;
use corncrake::{Client, Event, EventKind};
use serde_json::json;

mod ask;
mod failure;
mod home;
mod options;
mod password;
mod qr;
mod reach;
mod session;
mod show;
mod tame;

use ask::Ask;
use failure::{Exit, Failure};
use home::Home;
use options::{Command, Group, Options};
use reach::Reach;
use show::Answer;

fn main() -> ExitCode {
    let options = Options::parse();
    let json = options.json;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(options)),
        Err(error) => Err(Failure::home(format!("the system gives no event loop: {error}"))),
    };
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => {
            let text = if json {
                tame::json(&json!({"error": {"code": failure.code, "message": failure.message}}))
            } else {
                format!(
                    "corncrake: {} [{}]",
                    tame::line(&failure.message),
                    tame::line(&failure.code)
                )
            };
            drop(writeln!(stderr(), "{text}"));
            failure.exit.into()
        }
    }
}

async fn run(options: Options) -> Result<Exit, Failure> {
    let home = Home::locate(options.home)?;
    let ask = match options.command {
        Command::SignUp { name } => {
            return enter(&home, options.server, &name, password::Kind::New, options.json).await;
        }
        Command::LogIn { name } => {
            return enter(&home, options.server, &name, password::Kind::Known, options.json).await;
        }
        Command::Listen => {
            let client = open(&home, options.server).await?;
            listen(&client, options.json).await;
            client.close().await?;
            return Ok(Exit::Done);
        }
        Command::Session => {
            let client = open(&home, options.server).await?;
            session::run(&client).await?;
            client.close().await?;
            return Ok(Exit::Done);
        }
        command => ask_of(command),
    };
    let client = open(&home, options.server).await?;
    if ask.reads() && reach::catch_up(&client, reach::CATCH_UP).await? != Reach::Head {
        drop(writeln!(stderr(), "corncrake: not online: this is what this device has"));
    }
    let answer = ask.carry_out(&client).await;
    client.close().await?;
    let answer = answer?;
    print(&answer, options.json);
    Ok(answer.exit)
}

/// What a command asks of an account that is open.
fn ask_of(command: Command) -> Ask {
    match command {
        Command::Send { chat, text, wait } => Ask::Send { chat, text, wait },
        Command::History { chat, limit, before } => Ask::History { chat, before, limit },
        Command::Group(Group::Create { title, names }) => Ask::CreateGroup { title, names },
        Command::Group(Group::Add { chat, names }) => Ask::Add { chat, names },
        Command::Group(Group::Remove { chat, names }) => Ask::Remove { chat, names },
        Command::Group(Group::Leave { chat }) => Ask::Leave { chat },
        Command::Group(Group::Rename { chat, title }) => Ask::Rename { chat, title },
        Command::Group(Group::Role { chat, name, role }) => Ask::Role { chat, name, role },
        Command::Hide { chat } => Ask::Hide { chat },
        Command::Devices => Ask::Devices {},
        Command::Verify { name } => Ask::Verify { name },
        _ => Ask::Chats {},
    }
}

async fn open(home: &Home, server: Option<String>) -> Result<Client, Failure> {
    let store = home.open().await?;
    Ok(Client::open(&home.server(server)?, store).await?)
}

/// Signs up or logs in, and says where the key lies.
async fn enter(
    home: &Home,
    server: Option<String>,
    name: &str,
    kind: password::Kind,
    json: bool,
) -> Result<Exit, Failure> {
    let server = home.server(server)?;
    let password = password::ask(kind)?;
    let store = home.make().await?;
    let client = match kind {
        password::Kind::New => Client::sign_up(&server, store, name, &password).await?,
        password::Kind::Known => Client::log_in(&server, store, name, &password).await?,
    };
    home.remember_server(&server)?;
    let reach = reach::catch_up(&client, reach::CATCH_UP).await?;
    let me = client.account().await?;
    client.close().await?;
    let key = home.key_path();
    let text = format!(
        "This device is now one of {}.\nThe key of its store lies unencrypted in {}: only you can \
         read that file, and whoever copies it together with the store can read your chats.",
        tame::line(&me.username),
        tame::line(&key.display().to_string())
    );
    let json_answer = json!({
        "account": me.id.to_string(),
        "name": me.username,
        "device": me.device.to_string(),
        "key_file": key.display().to_string(),
        "settled": reach == Reach::Head,
    });
    print(&Answer::new(json_answer, text), json);
    Ok(Exit::Done)
}

/// Shows events until interrupted.
async fn listen(client: &Client, json: bool) {
    let mut events = client.events();
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            _ = tokio::signal::ctrl_c() => None,
        };
        let Some(event) = event else { return };
        let line = describe(client, &event, json).await;
        if line.is_some_and(|line| writeln!(stdout(), "{line}").is_err()) {
            return;
        }
    }
}

async fn describe(client: &Client, event: &Event, json: bool) -> Option<String> {
    let names = session::names_for(client, event).await;
    if json {
        return Some(tame::json(&show::event_json(event, &names)));
    }
    let title = match &event.what {
        EventKind::ChatAdded(chat) | EventKind::Item { chat, .. } => {
            let chats = client.chats().await.unwrap_or_default();
            chats.into_iter().find(|info| info.id == *chat).map(|info| info.title)
        }
        _ => None,
    };
    show::event_line(event, title.as_deref(), &names)
}

fn print(answer: &Answer, json: bool) {
    let text = if json { tame::json(&answer.json) } else { answer.text.clone() };
    drop(writeln!(stdout(), "{text}"));
}
