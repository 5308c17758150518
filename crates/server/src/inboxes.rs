//! Inboxes: anybody who knows one deposits, its device reads and deletes.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use corncrake_wire::{ErrorCode, InboxId, NoticeId, account::Notice, limits};
use sqlx::{Row, SqliteConnection, SqlitePool};
use tokio::sync::watch;

use crate::Error;

/// Puts a notice into an inbox and gives the device that it belongs to.
pub(crate) async fn deposit(
    connection: &mut SqliteConnection,
    inbox: InboxId,
    notice: Vec<u8>,
    today: i64,
) -> Result<i64, Error> {
    let row = sqlx::query("SELECT num, newest_notice FROM devices WHERE inbox = ?")
        .bind(inbox.0.to_vec())
        .fetch_optional(&mut *connection)
        .await?
        .ok_or(ErrorCode::UnknownInbox)?;
    let (device, newest): (i64, i64) = (row.try_get("num")?, row.try_get("newest_notice")?);
    let id = NoticeId::of(&notice).0.to_vec();
    let state = sqlx::query(
        "SELECT count(*) AS held, count(*) FILTER (WHERE id = ?) AS same FROM notices WHERE device = ?",
    )
    .bind(id.clone())
    .bind(device)
    .fetch_one(&mut *connection)
    .await?;
    if state.try_get::<i64, _>("same")? > 0 {
        return Ok(device);
    }
    if state.try_get::<i64, _>("held")? >= i64::try_from(limits::INBOX).unwrap_or(i64::MAX) {
        return Err(ErrorCode::InboxFull.into());
    }
    sqlx::query("INSERT INTO notices (device, position, id, bytes, day) VALUES (?, ?, ?, ?, ?)")
        .bind(device)
        .bind(newest + 1)
        .bind(id)
        .bind(notice)
        .bind(today)
        .execute(&mut *connection)
        .await?;
    sqlx::query("UPDATE devices SET newest_notice = ? WHERE num = ?")
        .bind(newest + 1)
        .bind(device)
        .execute(connection)
        .await?;
    Ok(device)
}

/// Notices of a device after a position.
pub(crate) async fn read(
    readers: &SqlitePool,
    device: i64,
    after: u64,
    limit: u32,
) -> Result<Vec<Notice>, Error> {
    let rows = sqlx::query(
        "SELECT position, bytes FROM notices WHERE device = ? AND position > ? \
         ORDER BY position LIMIT ?",
    )
    .bind(device)
    .bind(i64::try_from(after).unwrap_or(i64::MAX))
    .bind(limit.clamp(1, limits::PAGE_ENTRIES))
    .fetch_all(readers)
    .await?;
    rows.into_iter()
        .map(|row| {
            let position =
                u64::try_from(row.try_get::<i64, _>("position")?).map_err(Error::failed)?;
            Ok(Notice { position, bytes: row.try_get("bytes")? })
        })
        .collect()
}

/// Deletes notices of a device up to a position.
pub(crate) async fn delete(
    connection: &mut SqliteConnection,
    device: i64,
    up_to: u64,
) -> Result<(), Error> {
    sqlx::query("DELETE FROM notices WHERE device = ? AND position <= ?")
        .bind(device)
        .bind(i64::try_from(up_to).unwrap_or(i64::MAX))
        .execute(connection)
        .await?;
    Ok(())
}

/// Which devices have a connection that waits for notices.
#[derive(Debug, Default)]
pub(crate) struct Watchers(Mutex<HashMap<i64, watch::Sender<()>>>);

impl Watchers {
    /// Something that changes when a notice for the device was stored.
    pub(crate) fn watch(&self, device: i64) -> watch::Receiver<()> {
        let mut devices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        devices.retain(|_, wake| wake.receiver_count() > 0);
        devices.entry(device).or_insert_with(|| watch::Sender::new(())).subscribe()
    }

    /// Wakes the device's connections.
    pub(crate) fn wake(&self, device: i64) {
        let devices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wake) = devices.get(&device) {
            wake.send_replace(());
        }
    }
}
