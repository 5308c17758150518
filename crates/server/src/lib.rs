//! The Corncrake server: stores ciphertext, orders it and hands it out.
//!
//! It has no keys, so it can't read; it links neither `corncrake-core` nor the client, so it has
//! no code to read with. Two planes share a listener: the *account plane* for one's own things,
//! under a session, and the *open plane* for what concerns others, which refuses sessions. Each
//! has a database and a writer of its own, so that no file joins an account to a log.
//!
//! - `routes`: one file per subject; `sockets`: the two WebSockets.
//! - `folder`, `database`: the data folder and the two databases in it.
//! - `writer`: the one task that writes a database, many requests to one fsync.
//! - `account_store`: the account plane's storage.
//! - `logs`: how logs are stored, read and followed.
//! - `accounts`, `sessions`, `packages`, `inboxes`: rows and their SQL.
//!
//! ```no_run
//! # async fn example() -> Result<(), corncrake_server::Error> {
//! use corncrake_server::{Config, Server};
//! let server = Server::start(Config::for_tests("data".into())).await?;
//! println!("listening on http://{}", server.address());
//! server.stop().await;
//! # Ok(())
//! # }
//! ```

mod account_store;
mod accounts;
mod attempts;
mod backup;
mod believed;
mod budget;
mod clock;
mod config;
mod database;
mod disk;
mod error;
mod extract;
mod folder;
mod health;
mod inboxes;
mod logs;
mod paced;
mod packages;
mod rates;
mod replacements;
mod retention;
mod routes;
mod seed_mark;
mod serve;
mod sessions;
mod sockets;
mod sql;
mod state;
mod steady;
mod writer;

pub use backup::{backup, restore, restored};
pub use clock::{Clock, SystemClock};
pub use config::{Config, Limits, LogFormat};
pub use error::Error;
pub use rates::Origin;
pub use routes::app;
pub use serve::Server;
pub use state::State;

/// Random bytes from the operating system.
fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| Error::failed(error.to_string()))?;
    Ok(bytes)
}

/// A number for a row that tells nothing about when the row came.
fn random_number() -> Result<i64, Error> {
    Ok(i64::from_le_bytes(random()?) & i64::MAX)
}

/// The operating system's generator, for the password protocol.
struct OsRandom;

impl rand_core::TryRng for OsRandom {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        // Going on with bytes that are not random would be worse than not going on.
        while getrandom::fill(bytes).is_err() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Ok(())
    }
}

impl rand_core::TryCryptoRng for OsRandom {}
