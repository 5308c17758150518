//! The mark that the password protocol's seed leaves in both databases. The seed is kept apart from
//! them, so it may be mixed up with another server's; log-ins would fail then as if every password
//! were wrong, and sign-ups would need the wrong seed for ever.

use sha2::{Digest, Sha256};
use sqlx::Connection;

use crate::{Error, database::Database};

const LABEL: &[u8] = b"corncrake v1 seed mark";

/// The mark that a seed leaves in a database: another one in each, so that they share nothing.
fn mark_of(seed: &[u8], database: &Database) -> Vec<u8> {
    let hash = Sha256::new_with_prefix(LABEL).chain_update(database.name()).chain_update(seed);
    hash.finalize().to_vec()
}

fn other_seed(database: &Database) -> Error {
    let path = database.path().display();
    Error::failed(format!("opaque-seed is not the one that {path} was made with"))
}

/// Refuses a copy of a database that another seed has marked.
pub(crate) async fn check(copy: &Database, of: &Database, seed: &[u8]) -> Result<(), Error> {
    let mut connection = Database::open_copy(copy.path()).await?;
    let found: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT mark FROM seed").fetch_optional(&mut connection).await?;
    match found {
        Some(found) if found != mark_of(seed, of) => Err(other_seed(copy)),
        _ => Ok(()),
    }
}

/// The number of accounts, before the database has its writer.
pub(crate) async fn accounts(database: &Database) -> Result<u64, Error> {
    let mut connection = database.writer().await?;
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM accounts").fetch_one(&mut connection).await?;
    connection.close().await?;
    u64::try_from(count).map_err(Error::failed)
}

/// Lets a database remember its seed, or refuses another one. Where nobody has signed up yet, a new
/// seed may take the place of one that was lost.
pub(crate) async fn remember(database: &Database, seed: &[u8], accounts: u64) -> Result<(), Error> {
    let mut connection = database.writer().await?;
    let found: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT mark FROM seed").fetch_optional(&mut connection).await?;
    let mark = mark_of(seed, database);
    if found.as_ref() != Some(&mark) {
        if found.is_some() && accounts > 0 {
            return Err(other_seed(database));
        }
        let stored = sqlx::query("INSERT OR REPLACE INTO seed (one, mark) VALUES (1, ?)")
            .bind(mark)
            .execute(&mut connection)
            .await
            .map(drop)
            .map_err(Error::from);
        match stored {
            // Even then reading goes on.
            Err(error) if error.is_full() => tracing::warn!(%error, "the disk is full"),
            stored => stored?,
        }
    }
    Ok(connection.close().await?)
}
