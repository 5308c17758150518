//! The account plane's storage: everything that is read from and written to its database.
//!
//! A write is one transaction of the plane's writer; what a caller is told has been synced.

use std::time::Duration;

use corncrake_wire::{
    AccountId, DeviceId, ErrorCode, InboxId, PackageId, SessionToken,
    account::{
        AddDevice, DeleteNotices, DeviceHoldings, Holdings, Notice, PackageList, Session,
        SignUpFinish, UploadPackages, Vault,
    },
    open::{By, ClaimedPackage, Deposit, Found, SignedRecord},
};
use sqlx::{FromRow, SqlitePool};
use tokio::{task::JoinHandle, time::sleep};

use crate::{
    Error, Origin,
    accounts::{self, Account},
    database::{self, Database},
    disk::Disk,
    health::Health,
    inboxes::{self, Usage},
    packages,
    sessions::{self, Caller},
    writer::Writer,
};

/// The account plane's storage.
#[derive(Debug)]
pub(crate) struct AccountStore {
    writer: Writer,
    readers: SqlitePool,
    instance: [u8; 16],
}

impl AccountStore {
    /// Opens the database and starts its writer, which ends when the store is gone.
    pub(crate) async fn open(
        database: Database,
        disk: Disk,
        now: u64,
    ) -> Result<(Self, JoinHandle<()>), Error> {
        database.prepare().await?;
        let mut connection = database.writer().await?;
        let instance = database::instance(&mut connection, &database, now).await?;
        sqlx::query("UPDATE server SET alive = ? WHERE alive = 0")
            .bind(i64::try_from(now / 86_400).unwrap_or(i64::MAX))
            .execute(&mut connection)
            .await?;
        let readers = database.readers().await?;
        let (writer, task) = Writer::start(database, connection, None, disk);
        Ok((Self { writer, readers, instance }, task))
    }

    /// Names the database.
    pub(crate) const fn instance(&self) -> [u8; 16] {
        self.instance
    }

    /// Whether the writer can write.
    pub(crate) const fn health(&self) -> &Health {
        self.writer.health()
    }

    /// Closes the connections that read.
    pub(crate) async fn close(&self) {
        self.readers.close().await;
    }

    /// Finds an account by its username.
    pub(crate) async fn by_name(&self, name: &str) -> Result<Option<Account>, Error> {
        accounts::by_name(&self.readers, name).await
    }

    /// The name and the account record of a name or an id.
    pub(crate) async fn look_up(&self, by: By) -> Result<Found, Error> {
        accounts::look_up(&self.readers, by).await
    }

    /// The number of an account.
    pub(crate) async fn number(&self, account: AccountId) -> Result<i64, Error> {
        accounts::number(&self.readers, account).await
    }

    /// The id of an account, and the identity key that signs its replacements.
    pub(crate) async fn identity(&self, account: i64) -> Result<(AccountId, [u8; 32]), Error> {
        accounts::identity(&self.readers, account).await
    }

    /// The vault of an account.
    pub(crate) async fn vault(&self, account: i64) -> Result<Vault, Error> {
        accounts::vault(&self.readers, account).await
    }

    /// A device's account number, own number and key.
    pub(crate) async fn device_key(
        &self,
        account: AccountId,
        device: DeviceId,
    ) -> Result<Option<(i64, i64, [u8; 32])>, Error> {
        accounts::device_key(&self.readers, account, device).await
    }

    /// The session of a token.
    pub(crate) async fn session(&self, token: &SessionToken, now: u64) -> Result<Caller, Error> {
        sessions::find(&self.readers, token, now).await
    }

    /// Lists the packages of a device.
    pub(crate) async fn list_packages(
        &self,
        device: i64,
        suite: u16,
        now: u64,
    ) -> Result<PackageList, Error> {
        packages::list(&self.readers, device, suite, now).await
    }

    /// Notices of a device after a position.
    pub(crate) async fn notices(
        &self,
        device: i64,
        after: u64,
        limit: u32,
    ) -> Result<Vec<Notice>, Error> {
        inboxes::read(&self.readers, device, after, limit).await
    }

    /// How often the package is used that a notice is for.
    pub(crate) async fn usage(&self, inbox: InboxId, package: PackageId) -> Result<Usage, Error> {
        inboxes::usage(&self.readers, inbox, package).await
    }

    /// What is held about an account.
    pub(crate) async fn holdings(&self, account: i64, now: u64) -> Result<Holdings, Error> {
        #[derive(FromRow)]
        struct AccountRow {
            name: String,
            signed_up_day: u32,
            record_version: i64,
            record_length: i64,
            vault_version: i64,
            vault_length: i64,
            sessions: u32,
        }
        #[derive(FromRow)]
        struct DeviceRow {
            id: Vec<u8>,
            added_day: u32,
            packages: u32,
            notices: u32,
        }
        let mut connection = self.readers.acquire().await?;
        let row: AccountRow = sqlx::query_as(
            "SELECT name, signed_up_day, record_version, length(record) AS record_length, \
             vault_version, length(vault) AS vault_length, (SELECT count(*) FROM sessions \
             WHERE account = accounts.num AND expires > ?) AS sessions \
             FROM accounts WHERE num = ?",
        )
        .bind(i64::try_from(now).unwrap_or(i64::MAX))
        .bind(account)
        .fetch_one(&mut *connection)
        .await?;
        let devices: Vec<DeviceRow> = sqlx::query_as(
            "SELECT id, added_day, \
             (SELECT count(*) FROM packages WHERE device = devices.num) AS packages, \
             (SELECT count(*) FROM notices WHERE device = devices.num) AS notices \
             FROM devices WHERE account = ? ORDER BY id",
        )
        .bind(account)
        .fetch_all(&mut *connection)
        .await?;
        let count = |number: i64| u64::try_from(number).map_err(Error::failed);
        let devices = devices.into_iter().map(|device| {
            Ok(DeviceHoldings {
                device: DeviceId::try_from(device.id.as_slice())?,
                added_day: device.added_day,
                packages: device.packages,
                notices: device.notices,
            })
        });
        Ok(Holdings {
            devices: devices.collect::<Result<_, Error>>()?,
            name: row.name,
            signed_up_day: row.signed_up_day,
            record: (count(row.record_version)?, count(row.record_length)?),
            vault: (count(row.vault_version)?, count(row.vault_length)?),
            sessions: row.sessions,
        })
    }

    /// Makes an account with its first device, packages and session.
    pub(crate) async fn sign_up(
        &self,
        from: Origin,
        mut new: SignUpFinish,
        now: u64,
    ) -> Result<Session, Error> {
        let today = day(now);
        self.writer
            .run(from, move |connection| {
                Box::pin(async move {
                    let first = std::mem::take(&mut new.packages);
                    let device = new.device.clone();
                    let account = accounts::create(connection, new, today).await?;
                    let device = accounts::add_device(connection, account, &device, today).await?;
                    packages::upload(connection, device, first, today).await?;
                    sessions::begin(connection, account, Some(device), now).await
                })
            })
            .await
    }

    /// Begins a session without a device, and gives the account's record.
    pub(crate) async fn log_in(
        &self,
        from: Origin,
        account: i64,
        now: u64,
    ) -> Result<(Session, SignedRecord), Error> {
        self.writer
            .run(from, move |connection| {
                Box::pin(async move {
                    let record = accounts::record(connection, account).await?;
                    Ok((sessions::begin(connection, account, None, now).await?, record))
                })
            })
            .await
    }

    /// Begins a session of a device.
    pub(crate) async fn begin_session(
        &self,
        from: Origin,
        account: i64,
        device: i64,
        now: u64,
    ) -> Result<Session, Error> {
        self.writer
            .run(from, move |connection| {
                Box::pin(sessions::begin(connection, account, Some(device), now))
            })
            .await
    }

    /// Ends the session with this hash.
    pub(crate) async fn end_session(&self, from: Origin, digest: [u8; 32]) -> Result<(), Error> {
        self.writer.run(from, move |connection| Box::pin(sessions::end(connection, digest))).await
    }

    /// Replaces a vault by its next version.
    pub(crate) async fn replace_vault(
        &self,
        from: Origin,
        account: i64,
        vault: Vault,
    ) -> Result<(), Error> {
        self.writer
            .run(from, move |connection| {
                Box::pin(accounts::replace_vault(connection, account, vault))
            })
            .await
    }

    /// Replaces a record by its next version.
    pub(crate) async fn replace_record(
        &self,
        from: Origin,
        account: i64,
        record: SignedRecord,
    ) -> Result<(), Error> {
        self.writer
            .run(from, move |connection| {
                Box::pin(accounts::replace_record(connection, account, record))
            })
            .await
    }

    /// Replaces the record and the vault that belongs to it, and adds a device with its packages, in
    /// the place of another if there is one to drop; begins its session, and gives the number of the one that was dropped.
    pub(crate) async fn add_device(
        &self,
        from: Origin,
        account: i64,
        new: AddDevice,
        now: u64,
    ) -> Result<(Session, Option<i64>), Error> {
        let today = day(now);
        let AddDevice { record, vault, device, packages: first, drop, signature: _ } = new;
        self.writer
            .run(from, move |connection| {
                Box::pin(async move {
                    accounts::replace_record(connection, account, record).await?;
                    accounts::follow_vault(connection, account, vault).await?;
                    let dropped = match drop {
                        Some(drop) => Some(accounts::drop_device(connection, account, drop).await?),
                        None => None,
                    };
                    let device = accounts::add_device(connection, account, &device, today).await?;
                    packages::upload(connection, device, first, today).await?;
                    let session = sessions::begin(connection, account, Some(device), now).await?;
                    Ok((session, dropped))
                })
            })
            .await
    }

    /// Takes a record of a later version, and the vault and the device that it was signed with, after a backup was
    /// brought back; gives the number of the device that was dropped.
    pub(crate) async fn restore_device(
        &self,
        from: Origin,
        account: i64,
        (add, least): (AddDevice, u64),
        now: u64,
    ) -> Result<Option<i64>, Error> {
        let today = day(now);
        self.writer
            .run(from, move |connection| {
                Box::pin(async move {
                    let pair = (add.record, add.vault);
                    accounts::restore_record(connection, account, pair, least).await?;
                    let dropped = match add.drop {
                        Some(drop) => {
                            match accounts::drop_device(connection, account, drop).await {
                                Err(Error::Refused(refusal))
                                    if refusal.code == ErrorCode::UnknownDevice =>
                                {
                                    None
                                }
                                dropped => Some(dropped?),
                            }
                        }
                        None => None,
                    };
                    let device =
                        accounts::add_device(connection, account, &add.device, today).await?;
                    packages::upload(connection, device, add.packages, today).await?;
                    Ok(dropped)
                })
            })
            .await
    }

    /// Stores packages of a device.
    pub(crate) async fn upload_packages(
        &self,
        from: Origin,
        device: i64,
        upload: UploadPackages,
        now: u64,
    ) -> Result<(), Error> {
        self.writer
            .run(from, move |connection| {
                Box::pin(async move {
                    if upload.replace {
                        packages::forget(connection, device).await?;
                    }
                    packages::welcome(connection, device, &upload.claimed, day(now)).await?;
                    packages::upload(connection, device, upload.packages, day(now)).await
                })
            })
            .await
    }

    /// Takes one package of each device of an account.
    pub(crate) async fn claim(
        &self,
        from: Origin,
        account: AccountId,
        suite: u16,
    ) -> Result<Vec<ClaimedPackage>, Error> {
        self.writer
            .run(from, move |connection| Box::pin(packages::claim(connection, account, suite)))
            .await
    }

    /// Puts a notice into an inbox and gives the device that it belongs to.
    pub(crate) async fn deposit(
        &self,
        from: Origin,
        deposit: Deposit,
        now: u64,
    ) -> Result<i64, Error> {
        self.writer
            .run(from, move |connection| Box::pin(inboxes::deposit(connection, deposit, day(now))))
            .await
    }

    /// Deletes notices of a device up to a position.
    pub(crate) async fn delete_notices(
        &self,
        from: Origin,
        device: i64,
        read: DeleteNotices,
    ) -> Result<(), Error> {
        self.writer
            .run(from, move |connection| Box::pin(inboxes::delete(connection, device, read)))
            .await
    }
}

impl AccountStore {
    /// Notes that the server is alive on this day: by it a copy of the database tells its age.
    pub(crate) async fn note_alive(&self, now: u64) -> Result<(), Error> {
        let today = i64::try_from(now / 86_400).unwrap_or(i64::MAX);
        let note = self.writer.run_own(move |connection| {
            Box::pin(async move {
                sqlx::query("UPDATE server SET alive = ?").bind(today).execute(connection).await?;
                Ok(())
            })
        });
        note.await
    }

    /// Lets what was written by a clock that was ahead be of now, and ends sessions that would
    /// last longer than any does.
    pub(crate) async fn take_back_days(&self, now: u64) -> Result<(), Error> {
        let week = day(now);
        let longest = i64::try_from(now + sessions::LONGEST).unwrap_or(i64::MAX);
        let texts = [
            ("UPDATE sessions SET expires = ?1 WHERE expires > ?1", longest),
            ("UPDATE notices SET day = ?1 WHERE day > ?1", week),
            ("UPDATE packages SET day = ?1 WHERE day > ?1", week),
            ("UPDATE uploads SET day = ?1 WHERE day > ?1", week),
        ];
        for (text, latest) in texts {
            let step = self.writer.run_own(move |connection| {
                Box::pin(async move {
                    Ok(sqlx::query(text).bind(latest).execute(connection).await?.rows_affected())
                })
            });
            step.await?;
        }
        Ok(())
    }

    /// Deletes what has expired, in small steps, and gives space back: sessions at their end,
    /// notices and key packages after 90 days.
    pub(crate) async fn expire(&self, now: u64) -> Result<(), Error> {
        // The day of a row may be up to six days before the true one.
        let day = i64::try_from(now / 86_400).unwrap_or(i64::MAX) - 96;
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let texts = [
            (
                "DELETE FROM sessions WHERE digest IN \
              (SELECT digest FROM sessions WHERE expires <= ? LIMIT 256)",
                now,
            ),
            (
                "DELETE FROM notices WHERE (device, position) IN \
              (SELECT device, position FROM notices WHERE day < ? LIMIT 256)",
                day,
            ),
            (
                "DELETE FROM packages WHERE (device, digest) IN \
              (SELECT device, digest FROM packages WHERE day < ? LIMIT 256)",
                // None is handed out that has expired: they go up to six days before their time.
                day + 7,
            ),
            (
                "DELETE FROM uploads WHERE (device, digest) IN \
              (SELECT device, digest FROM uploads WHERE day < ? LIMIT 256)",
                day,
            ),
        ];
        for (text, before) in texts {
            loop {
                let step = self.writer.run_own(move |connection| {
                    Box::pin(async move {
                        let done = sqlx::query(text).bind(before).execute(connection).await?;
                        Ok(done.rows_affected())
                    })
                });
                if step.await? == 0 {
                    break;
                }
                sleep(PAUSE).await;
            }
        }
        self.writer.give_back().await
    }
}

/// The pause between two steps of deleting.
const PAUSE: Duration = Duration::from_millis(20);

/// The day that rows of this plane keep: rounded down to a week, because a day on which one
/// account and one log began would link the two.
fn day(now: u64) -> i64 {
    const WEEK: u64 = 7;
    let day = now / 86_400;
    i64::try_from(day - day % WEEK).unwrap_or(i64::MAX)
}
