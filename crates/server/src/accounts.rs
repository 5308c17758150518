//! Accounts and their devices, as rows.

use corncrake_wire::{
    AccountId, DeviceId, ErrorCode,
    account::{NewDevice, SignUpFinish, Vault},
    limits,
    open::{By, Found, SignedRecord},
};
use sqlx::{Row, SqliteConnection, SqlitePool, sqlite::SqliteRow};

use crate::Error;

/// An account, as far as a log-in needs it.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) num: i64,
    pub(crate) id: AccountId,
    pub(crate) opaque: Vec<u8>,
}

/// A version from SQLite.
fn version(row: &SqliteRow, column: &str) -> Result<u64, Error> {
    u64::try_from(row.try_get::<i64, _>(column)?).map_err(Error::failed)
}

/// A version for SQLite.
fn signed(version: u64) -> Result<i64, Error> {
    i64::try_from(version).map_err(|_| ErrorCode::VersionConflict.into())
}

/// Finds an account by its username.
pub(crate) async fn by_name(readers: &SqlitePool, name: &str) -> Result<Option<Account>, Error> {
    let row = sqlx::query("SELECT num, id, opaque FROM accounts WHERE name = ?")
        .bind(name.to_owned())
        .fetch_optional(readers)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let id = AccountId::try_from(row.try_get::<&[u8], _>("id")?)?;
    Ok(Some(Account { num: row.try_get("num")?, id, opaque: row.try_get("opaque")? }))
}

/// The name and the account record of a name or an id.
pub(crate) async fn look_up(readers: &SqlitePool, by: By) -> Result<Found, Error> {
    let query = match by {
        By::Name(name) => {
            sqlx::query("SELECT name, record_version, record FROM accounts WHERE name = ?")
                .bind(name)
        }
        By::Id(id) => sqlx::query("SELECT name, record_version, record FROM accounts WHERE id = ?")
            .bind(id.0.to_vec()),
    };
    let row = query.fetch_optional(readers).await?.ok_or(ErrorCode::UnknownAccount)?;
    let record =
        SignedRecord { version: version(&row, "record_version")?, bytes: row.try_get("record")? };
    Ok(Found { name: row.try_get("name")?, record })
}

/// Makes an account and gives its number.
pub(crate) async fn create(
    connection: &mut SqliteConnection,
    new: SignUpFinish,
    today: i64,
) -> Result<i64, Error> {
    // A device that brings its account back has to hear that another one was faster, and not that
    // somebody has its name.
    let there: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM accounts WHERE id = ?)")
        .bind(new.account.0.to_vec())
        .fetch_one(&mut *connection)
        .await?;
    if there {
        return Err(ErrorCode::IdTaken.into());
    }
    let num = crate::random_number()?;
    sqlx::query(
        "INSERT INTO accounts (num, name, id, identity_key, opaque, vault_version, vault, \
         record_version, record, signed_up_day) VALUES (?, ?, ?, ?, ?, 1, ?, ?, ?, ?)",
    )
    .bind(num)
    .bind(new.name)
    .bind(new.account.0.to_vec())
    .bind(new.identity_key.to_vec())
    .bind(new.opaque)
    .bind(new.vault)
    .bind(signed(new.record.version)?)
    .bind(new.record.bytes)
    .bind(today)
    .execute(connection)
    .await?;
    Ok(num)
}

/// The number of an account.
pub(crate) async fn number(readers: &SqlitePool, account: AccountId) -> Result<i64, Error> {
    let number = sqlx::query_scalar("SELECT num FROM accounts WHERE id = ?")
        .bind(account.0.to_vec())
        .fetch_optional(readers)
        .await?;
    number.ok_or_else(|| ErrorCode::UnknownAccount.into())
}

/// The id of an account, and the identity key that signs its replacements.
pub(crate) async fn identity(
    readers: &SqlitePool,
    account: i64,
) -> Result<(AccountId, [u8; 32]), Error> {
    let row = sqlx::query("SELECT id, identity_key FROM accounts WHERE num = ?")
        .bind(account)
        .fetch_one(readers)
        .await?;
    let key = row.try_get::<&[u8], _>("identity_key")?.try_into().map_err(Error::failed)?;
    Ok((AccountId::try_from(row.try_get::<&[u8], _>("id")?)?, key))
}

/// The vault of an account.
pub(crate) async fn vault(readers: &SqlitePool, account: i64) -> Result<Vault, Error> {
    let row = sqlx::query("SELECT vault_version, vault FROM accounts WHERE num = ?")
        .bind(account)
        .fetch_one(readers)
        .await?;
    Ok(Vault { version: version(&row, "vault_version")?, bytes: row.try_get("vault")? })
}

/// The record of an account.
pub(crate) async fn record(
    connection: &mut SqliteConnection,
    account: i64,
) -> Result<SignedRecord, Error> {
    let row = sqlx::query("SELECT record_version, record FROM accounts WHERE num = ?")
        .bind(account)
        .fetch_one(connection)
        .await?;
    Ok(SignedRecord { version: version(&row, "record_version")?, bytes: row.try_get("record")? })
}

/// Replaces the vault by its next version.
pub(crate) async fn replace_vault(
    connection: &mut SqliteConnection,
    account: i64,
    vault: Vault,
) -> Result<(), Error> {
    let done = sqlx::query(
        "UPDATE accounts SET vault = ?1, vault_version = ?2 \
         WHERE num = ?3 AND vault_version = ?2 - 1",
    )
    .bind(vault.bytes)
    .bind(signed(vault.version)?)
    .bind(account)
    .execute(connection)
    .await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(ErrorCode::VersionConflict.into()) }
}

/// The same for the vault that comes with a record: the same vault once more changes nothing.
pub(crate) async fn follow_vault(
    connection: &mut SqliteConnection,
    account: i64,
    vault: Vault,
) -> Result<(), Error> {
    let done = sqlx::query(
        "UPDATE accounts SET vault = ?1, vault_version = ?2 WHERE num = ?3 \
         AND (vault_version = ?2 - 1 OR vault_version = ?2 AND vault = ?1)",
    )
    .bind(vault.bytes)
    .bind(signed(vault.version)?)
    .bind(account)
    .execute(connection)
    .await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(ErrorCode::VersionConflict.into()) }
}

/// Replaces the record by its next version. The same record once more changes nothing.
pub(crate) async fn replace_record(
    connection: &mut SqliteConnection,
    account: i64,
    record: SignedRecord,
) -> Result<(), Error> {
    let done = sqlx::query(
        "UPDATE accounts SET record = ?1, record_version = ?2 WHERE num = ?3 \
         AND (record_version = ?2 - 1 OR record_version = ?2 AND record = ?1)",
    )
    .bind(record.bytes)
    .bind(signed(record.version)?)
    .bind(account)
    .execute(connection)
    .await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(ErrorCode::VersionConflict.into()) }
}

/// Replaces record and vault, if the record's version is at least this one, by later versions: a
/// backup has lost those in between. The same once more changes nothing. With a later vault, whose
/// keys were renewed, comes the record that counts, although another one was signed meanwhile.
pub(crate) async fn restore_record(
    connection: &mut SqliteConnection,
    account: i64,
    (record, vault): (SignedRecord, Vault),
    least: u64,
) -> Result<(), Error> {
    if self::record(connection, account).await?.version < least {
        return Err(ErrorCode::VersionGap.into());
    }
    let done = sqlx::query(
        "UPDATE accounts SET record = ?1, record_version = ?2, vault = ?3, vault_version = ?4 \
         WHERE num = ?5 AND (vault_version < ?4 OR vault_version = ?4 AND vault = ?3 \
         AND (record_version < ?2 OR record_version = ?2 AND record = ?1))",
    )
    .bind(record.bytes)
    .bind(signed(record.version)?)
    .bind(vault.bytes)
    .bind(signed(vault.version)?)
    .bind(account)
    .execute(connection)
    .await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(ErrorCode::VersionConflict.into()) }
}

/// Adds a device to an account and gives its number. A device that is there with the same key and
/// inbox stays.
pub(crate) async fn add_device(
    connection: &mut SqliteConnection,
    account: i64,
    device: &NewDevice,
    today: i64,
) -> Result<i64, Error> {
    let there: Option<i64> = sqlx::query_scalar(
        "SELECT num FROM devices WHERE account = ? AND id = ? AND key = ? AND inbox = ?",
    )
    .bind(account)
    .bind(device.id.0.to_vec())
    .bind(device.key.to_vec())
    .bind(device.inbox.0.to_vec())
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(num) = there {
        return Ok(num);
    }
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM devices WHERE account = ?")
        .bind(account)
        .fetch_one(&mut *connection)
        .await?;
    if count >= i64::try_from(limits::DEVICES).unwrap_or(i64::MAX) {
        return Err(ErrorCode::TooManyDevices.into());
    }
    let num = crate::random_number()?;
    sqlx::query(
        "INSERT INTO devices (num, account, id, key, inbox, added_day) VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(num)
    .bind(account)
    .bind(device.id.0.to_vec())
    .bind(device.key.to_vec())
    .bind(device.inbox.0.to_vec())
    .bind(today)
    .execute(connection)
    .await?;
    Ok(num)
}

/// Drops a device with its sessions, key packages and inbox; gives its number.
pub(crate) async fn drop_device(
    connection: &mut SqliteConnection,
    account: i64,
    device: DeviceId,
) -> Result<i64, Error> {
    let dropped = sqlx::query("DELETE FROM devices WHERE account = ? AND id = ? RETURNING num")
        .bind(account)
        .bind(device.0.to_vec())
        .fetch_optional(connection)
        .await?;
    Ok(dropped.ok_or(ErrorCode::UnknownDevice)?.try_get("num")?)
}

/// A device's account number, own number and key.
pub(crate) async fn device_key(
    readers: &SqlitePool,
    account: AccountId,
    device: DeviceId,
) -> Result<Option<(i64, i64, [u8; 32])>, Error> {
    let row = sqlx::query(
        "SELECT a.num AS account, d.num AS device, d.key AS key FROM devices d JOIN accounts a ON a.num = d.account \
         WHERE a.id = ? AND d.id = ?",
    )
    .bind(account.0.to_vec())
    .bind(device.0.to_vec())
    .fetch_optional(readers)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let key = row.try_get::<&[u8], _>("key")?.try_into().map_err(Error::failed)?;
    Ok(Some((row.try_get("account")?, row.try_get("device")?, key)))
}
