//! The README's ten lines as a program: signs up, says hello to a friend, shows what happens.
//!
//! `cargo run -p corncrake-embed -- SERVER NAME PASSWORD FRIEND STORE`; the friend has to have an
//! account there.

#![expect(clippy::print_stdout, reason = "an example shows what happens")]

use std::{env, error::Error};

use corncrake::{Client, EventKind, SqliteStore, StoreKey};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [server, name, password, friend, path] = arguments.as_slice() else {
        return Err("usage: corncrake-embed SERVER NAME PASSWORD FRIEND STORE".into());
    };
    // An app keeps this key where the system keeps secrets; whoever has it and the store can read.
    let mut key = [0; 32];
    getrandom::fill(&mut key)?;

    let store = SqliteStore::open(path, StoreKey::from_bytes(key)).await?;
    let me = Client::sign_up(server, store, name, password).await?;
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
