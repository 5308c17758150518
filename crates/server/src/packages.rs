//! Key packages: uploaded by their device, each handed out once, the one of last resort again
//! and again.

use corncrake_wire::{
    AccountId, DeviceId, ErrorCode, PackageId,
    account::{NewPackage, PackageList},
    limits,
    open::ClaimedPackage,
};
use sqlx::{Row, SqliteConnection, SqlitePool};

use crate::Error;

/// Packages of a device that were handed out and may still be named by notices.
const MOST_CLAIMED: i64 = 4096;

/// For how many days, the one of the copy and today apart, private keys are sure to be kept for a
/// package of last resort that its device has replaced: devices keep them for a week.
const KEYS_KEPT: u64 = 5;

/// Checks sizes and numbers of packages.
pub(crate) fn check(packages: &[NewPackage]) -> Result<(), ErrorCode> {
    if packages.len() > limits::UPLOAD {
        return Err(ErrorCode::TooManyPackages);
    }
    if packages.iter().any(|package| package.bytes.len() > limits::KEY_PACKAGE) {
        return Err(ErrorCode::TooLarge);
    }
    if packages.iter().any(|package| package.bytes.is_empty()) {
        return Err(ErrorCode::Malformed);
    }
    if packages.iter().any(|package| !limits::SUITES.contains(&package.suite)) {
        return Err(ErrorCode::UnsupportedSuite);
    }
    Ok(())
}

/// Drops all packages of a device.
pub(crate) async fn forget(connection: &mut SqliteConnection, device: i64) -> Result<(), Error> {
    sqlx::query("DELETE FROM packages WHERE device = ?").bind(device).execute(connection).await?;
    Ok(())
}

/// Drops the packages that must not be handed out from an old copy of the database. One for a
/// single use may have been used since the copy was made, and its private keys go with its Welcome;
/// its device uploads others as soon as it sees the new instance. The keys of one of last resort
/// are there for at least a week after the copy was made, however often it was renewed since.
pub(crate) async fn forget_used(connection: &mut SqliteConnection, now: u64) -> Result<(), Error> {
    let before = (now / 86_400).saturating_sub(KEYS_KEPT);
    let before = i64::try_from(before).unwrap_or(i64::MAX);
    sqlx::query("DELETE FROM packages WHERE last_resort = 0 OR (SELECT alive FROM server) < ?")
        .bind(before)
        .execute(connection)
        .await?;
    Ok(())
}

/// Stores packages of a device. One of last resort replaces the one before it.
pub(crate) async fn upload(
    connection: &mut SqliteConnection,
    device: i64,
    packages: Vec<NewPackage>,
    today: i64,
) -> Result<(), Error> {
    for NewPackage { suite, last_resort, bytes } in packages {
        let digest = PackageId::of(&bytes);
        admit(connection, device, digest, (last_resort, today)).await?;
        let digest = digest.0.to_vec();
        if last_resort {
            sqlx::query("DELETE FROM packages WHERE device = ? AND suite = ? AND last_resort = 1")
                .bind(device)
                .bind(suite)
                .execute(&mut *connection)
                .await?;
        }
        sqlx::query(
            "INSERT OR IGNORE INTO packages (device, suite, last_resort, bytes, digest, day) \
             VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(device)
        .bind(suite)
        .bind(last_resort)
        .bind(bytes)
        .bind(digest)
        .bind(today)
        .execute(&mut *connection)
        .await?;
    }
    let held: i64 =
        sqlx::query_scalar("SELECT count(*) FROM packages WHERE device = ? AND last_resort = 0")
            .bind(device)
            .fetch_one(connection)
            .await?;
    if held > i64::try_from(limits::KEY_PACKAGES).unwrap_or(i64::MAX) {
        return Err(ErrorCode::TooManyPackages.into());
    }
    Ok(())
}

/// Lets notices come for a package from now on, whether it is held or was handed out.
async fn admit(
    connection: &mut SqliteConnection,
    device: i64,
    package: PackageId,
    (last_resort, today): (bool, i64),
) -> Result<(), Error> {
    sqlx::query(
        "INSERT OR IGNORE INTO uploads (device, digest, last_resort, day) VALUES (?, ?, ?, ?)",
    )
    .bind(device)
    .bind(package.0.to_vec())
    .bind(last_resort)
    .bind(today)
    .execute(connection)
    .await?;
    Ok(())
}

/// Lets notices come for packages of which this server doesn't know that it handed them out. Of
/// those that were, a few thousand are remembered, the newest.
pub(crate) async fn welcome(
    connection: &mut SqliteConnection,
    device: i64,
    claimed: &[PackageId],
    today: i64,
) -> Result<(), Error> {
    for package in claimed {
        admit(connection, device, *package, (false, today)).await?;
    }
    sqlx::query(
        "DELETE FROM uploads WHERE device = ?1 AND digest IN (SELECT digest FROM uploads u \
         WHERE device = ?1 AND NOT EXISTS (SELECT 1 FROM packages p \
         WHERE p.device = ?1 AND p.digest = u.digest) ORDER BY day DESC, digest LIMIT -1 OFFSET ?2)",
    )
    .bind(device)
    .bind(MOST_CLAIMED)
    .execute(connection)
    .await?;
    Ok(())
}

/// Lists the packages of a device.
pub(crate) async fn list(
    readers: &SqlitePool,
    device: i64,
    suite: u16,
    now: u64,
) -> Result<PackageList, Error> {
    let rows =
        sqlx::query("SELECT digest, last_resort FROM packages WHERE device = ? AND suite = ?")
            .bind(device)
            .bind(suite)
            .fetch_all(readers)
            .await?;
    let mut list = PackageList { now, one_time: Vec::new(), last_resort: None };
    for row in rows {
        let id = PackageId::try_from(row.try_get::<&[u8], _>("digest")?)?;
        if row.try_get("last_resort")? {
            list.last_resort = Some(id);
        } else {
            list.one_time.push(id);
        }
    }
    Ok(list)
}

/// Takes one package of each device of an account, the oldest first.
pub(crate) async fn claim(
    connection: &mut SqliteConnection,
    account: AccountId,
    suite: u16,
) -> Result<Vec<ClaimedPackage>, Error> {
    let devices: Vec<(Option<i64>, Option<Vec<u8>>)> = sqlx::query_as(
        "SELECT devices.num, devices.id FROM accounts \
         LEFT JOIN devices ON devices.account = accounts.num \
         WHERE accounts.id = ? ORDER BY devices.id",
    )
    .bind(account.0.to_vec())
    .fetch_all(&mut *connection)
    .await?;
    if devices.is_empty() {
        return Err(ErrorCode::UnknownAccount.into());
    }
    let mut claimed = Vec::with_capacity(devices.len());
    for (num, id) in devices {
        let (Some(num), Some(id)) = (num, id) else { continue };
        let Some((last_resort, bytes)) = take(connection, num, suite).await? else { continue };
        let device = DeviceId::try_from(id.as_slice())?;
        claimed.push(ClaimedPackage { device, last_resort, bytes });
    }
    Ok(claimed)
}

/// Takes a device's oldest package for one use, or that of last resort, which stays; whether it is
/// that one.
async fn take(
    connection: &mut SqliteConnection,
    device: i64,
    suite: u16,
) -> Result<Option<(bool, Vec<u8>)>, Error> {
    let taken: Vec<Vec<u8>> = sqlx::query_scalar(
        "DELETE FROM packages WHERE device = ?1 AND digest = (SELECT digest FROM packages \
         WHERE device = ?1 AND suite = ?2 AND last_resort = 0 ORDER BY day, digest LIMIT 1) \
         RETURNING bytes",
    )
    .bind(device)
    .bind(suite)
    .fetch_all(&mut *connection)
    .await?;
    if let Some(bytes) = taken.into_iter().next() {
        return Ok(Some((false, bytes)));
    }
    let kept: Option<Vec<u8>> = sqlx::query_scalar(
        "SELECT bytes FROM packages WHERE device = ? AND suite = ? AND last_resort = 1 \
         ORDER BY day, digest LIMIT 1",
    )
    .bind(device)
    .bind(suite)
    .fetch_optional(connection)
    .await?;
    Ok(kept.map(|bytes| (true, bytes)))
}
