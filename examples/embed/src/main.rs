//! The README's lines as a program: signs up the first time, later opens the same account again;
//! says hello to a friend and shows what happens.
//!
//! `cargo run -p corncrake-embed -- SERVER NAME FRIEND FOLDER`; the friend has to have an account
//! there. The password is asked for, or read from standard input, the first time only.

#![expect(clippy::print_stdout, reason = "an example shows what happens")]

use std::{
    env,
    error::Error,
    fs::{self, DirBuilder, OpenOptions},
    io::{IsTerminal, Write, stdin},
    path::Path,
};

use corncrake::{Client, EventKind, SqliteStore, StoreKey};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [server, name, friend, folder] = arguments.as_slice() else {
        return Err("usage: corncrake-embed SERVER NAME FRIEND FOLDER".into());
    };
    let folder = Path::new(folder);
    let key = key_in(folder)?;
    let path = folder.join("store.db");
    let signed_up = folder.join("signed-up");
    let first_password = if signed_up.exists() { None } else { Some(ask_password()?) };

    let store = SqliteStore::open(path, StoreKey::from_bytes(key)).await?;
    let me = match first_password {
        Some(password) => Client::sign_up(server, store, name, &password).await?,
        None => Client::open(server, store).await?,
    };
    fs::write(signed_up, "")?;
    let chat = me.start_chat(&[friend]).await?;
    chat.send_text("The corncrake is back.").await?;

    let mut events = me.events();
    while let Some(event) = events.next().await {
        if let EventKind::Item { chat, item } = event.what {
            println!("{chat}: {:?}", item.what);
        }
    }
    Ok(())
}

/// The key of the store. An app keeps it where the system keeps secrets; here it is a file beside
/// the store, and whoever copies both can read.
fn key_in(folder: &Path) -> Result<[u8; 32], Box<dyn Error>> {
    let path = folder.join("key");
    if !path.exists() {
        let mut folders = DirBuilder::new();
        let mut files = OpenOptions::new();
        #[cfg(unix)]
        {
            use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
            folders.mode(0o700);
            files.mode(0o600);
        }
        folders.recursive(true).create(folder)?;
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        // It has its name only once it is whole.
        let new = folder.join("key.new");
        let mut file = files.write(true).create(true).truncate(true).open(&new)?;
        file.write_all(&key)?;
        file.sync_all()?;
        fs::rename(new, &path)?;
    }
    let key = fs::read(&path)?;
    key.try_into().map_err(|_| format!("{} is no key", path.display()).into())
}

/// A password typed without echo, or the first line of standard input; never an argument, which
/// everybody on the machine could see.
fn ask_password() -> Result<String, Box<dyn Error>> {
    if stdin().is_terminal() {
        return Ok(rpassword::prompt_password("Password: ")?);
    }
    let mut line = String::new();
    stdin().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
