//! Inboxes: anybody who knows one deposits, its device reads and deletes.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use corncrake_wire::{
    ErrorCode, InboxId, NoticeId, PackageId,
    account::{DeleteNotices, Notice},
    limits,
    open::Deposit,
};
use sqlx::{Row, SqliteConnection, SqlitePool};
use tokio::sync::watch;

use crate::Error;

/// How often a key package is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    Once,
    LastResort,
}

/// How often the package is used that a notice is for.
pub(crate) async fn usage(
    readers: &SqlitePool,
    inbox: InboxId,
    package: PackageId,
) -> Result<Usage, Error> {
    let row = sqlx::query(
        "SELECT u.last_resort FROM devices d \
         LEFT JOIN uploads u ON u.device = d.num AND u.digest = ? WHERE d.inbox = ?",
    )
    .bind(package.0.to_vec())
    .bind(inbox.0.to_vec())
    .fetch_optional(readers)
    .await?
    .ok_or(ErrorCode::UnknownInbox)?;
    let last_resort: Option<bool> = row.try_get(0)?;
    let last_resort = last_resort.ok_or(ErrorCode::UnknownPackage)?;
    Ok(if last_resort { Usage::LastResort } else { Usage::Once })
}

/// Puts a notice into an inbox and gives the device that it belongs to.
pub(crate) async fn deposit(
    connection: &mut SqliteConnection,
    Deposit { inbox, package, notice, admission: _ }: Deposit,
    today: i64,
) -> Result<i64, Error> {
    let id = NoticeId::of(&notice).0.to_vec();
    let row = sqlx::query(
        "SELECT num, newest_notice, \
         (SELECT count(*) FROM notices WHERE device = num) AS held, \
         EXISTS (SELECT 1 FROM notices WHERE device = num AND id = ?) AS same \
         FROM devices WHERE inbox = ?",
    )
    .bind(id.clone())
    .bind(inbox.0.to_vec())
    .fetch_optional(&mut *connection)
    .await?
    .ok_or(ErrorCode::UnknownInbox)?;
    let (device, newest): (i64, i64) = (row.try_get("num")?, row.try_get("newest_notice")?);
    if row.try_get("same")? {
        return Ok(device);
    }
    if row.try_get::<i64, _>("held")? >= i64::try_from(limits::INBOX).unwrap_or(i64::MAX) {
        return Err(ErrorCode::InboxFull.into());
    }
    // Those of last resort are counted by the day, in memory: a day in a row would tell when
    // somebody was invited.
    let counted = sqlx::query(
        "UPDATE uploads SET notices = notices + 1 - last_resort \
         WHERE device = ? AND digest = ? AND notices < ?",
    )
    .bind(device)
    .bind(package.0.to_vec())
    .bind(limits::NOTICES)
    .execute(&mut *connection)
    .await?;
    if counted.rows_affected() == 0 {
        return Err(ErrorCode::TooManyNotices.into());
    }
    sqlx::query(
        "UPDATE devices SET newest_notice = ?2 WHERE num = ?1; \
         INSERT INTO notices (device, position, id, bytes, day) VALUES (?1, ?2, ?3, ?4, ?5)",
    )
    .bind(device)
    .bind(newest + 1)
    .bind(id)
    .bind(notice)
    .bind(today)
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

/// Deletes notices of a device up to a position, if the notice there is the one that it has read.
pub(crate) async fn delete(
    connection: &mut SqliteConnection,
    device: i64,
    DeleteNotices { up_to, newest }: DeleteNotices,
) -> Result<(), Error> {
    sqlx::query(
        "DELETE FROM notices WHERE device = ?1 AND position <= ?2 AND EXISTS \
         (SELECT 1 FROM notices WHERE device = ?1 AND position = ?2 AND id = ?3)",
    )
    .bind(device)
    .bind(i64::try_from(up_to).unwrap_or(i64::MAX))
    .bind(newest.0.to_vec())
    .execute(connection)
    .await?;
    Ok(())
}

/// Which devices have a connection that waits for notices.
#[derive(Debug, Default)]
pub(crate) struct Watchers(Mutex<HashMap<i64, watch::Sender<Ended>>>);

/// How often sessions of a device were ended while it was connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ended(u64);

impl Watchers {
    /// Something that changes when a notice for the device was stored, or a session of it ended.
    pub(crate) fn watch(&self, device: i64) -> watch::Receiver<Ended> {
        let mut devices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        devices.retain(|_, wake| wake.receiver_count() > 0);
        devices.entry(device).or_default().subscribe()
    }

    /// Wakes the device's connections: there is a notice.
    pub(crate) fn wake(&self, device: i64) {
        self.change(device, |_| {});
    }

    /// Has the device's connections look at their sessions: one of them has ended.
    pub(crate) fn session_ended(&self, device: i64) {
        self.change(device, |Ended(times)| *times += 1);
    }

    fn change(&self, device: i64, change: impl FnOnce(&mut Ended)) {
        let devices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wake) = devices.get(&device) {
            wake.send_modify(change);
        }
    }
}
