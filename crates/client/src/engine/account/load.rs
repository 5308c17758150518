//! Reads the account's side of the store.

use super::{
    AccountState, Me, ORIGIN_ROW, Stage,
    again::AGAIN_ROW,
    directory::ContactRow,
    inbox::{INBOX_ROW, Notice},
    keys::KEYS_ROW,
    letters::LetterRow,
    log::{LogRow, OWED, OwedRow},
    packages::PackageRow,
};
use crate::{
    engine::tables::{Table, decode},
    host::Clock,
    store::{Order, SealedStore, Store, StoreError},
};

/// What the store holds about the account.
pub(crate) async fn load<S: Store>(
    store: &SealedStore<'_, S>,
    origin: &str,
    clock: Clock,
) -> Result<AccountState, StoreError> {
    let mut account = AccountState::default();
    match store.get(Table::Account.into(), &[], 0).await? {
        Some(bytes) => match decode(&bytes)? {
            Stage::Pending(pending) => account.pending = Some(pending),
            Stage::Account(row) => {
                let bytes = store.get(Table::Account.into(), ORIGIN_ROW, 0).await?;
                let known: String = decode(&bytes.ok_or(StoreError::Damaged)?)?;
                if known != origin {
                    return Err(StoreError::WrongServer);
                }
                let me = Me::from_row(row.clone()).ok_or(StoreError::Damaged)?;
                account.log.open(&me.storage_key);
                account.row = Some(row);
                account.me = Some(me);
            }
        },
        None => return Ok(account),
    }
    if let Some(bytes) = store.get(Table::Account.into(), AGAIN_ROW, 0).await? {
        account.again.row = decode(&bytes)?;
    }
    if let Some(bytes) = store.get(Table::Account.into(), KEYS_ROW, 0).await? {
        account.keys.load(decode(&bytes)?, clock);
    }
    if let Some(bytes) = store.get(Table::Session.into(), &[], 0).await? {
        account.sessions.load(decode(&bytes)?, clock);
    }
    if let Some(bytes) = store.get(Table::Account.into(), INBOX_ROW, 0).await? {
        account.inbox.row = decode(&bytes)?;
    }
    for (number, bytes) in store.scan(Table::Packages.into()).await? {
        let row: PackageRow = decode(&bytes)?;
        let package = row.into_package().ok_or(StoreError::Damaged)?;
        account.packages.rows.insert(number, package);
    }
    for (position, bytes) in store.scan(Table::Notices.into()).await? {
        let notice: Notice = decode(&bytes)?;
        account.inbox.kept.insert(position, notice);
    }
    for (_, bytes) in store.scan(Table::Letters.into()).await? {
        let row: LetterRow = decode(&bytes)?;
        account.letters.insert(row, clock);
    }
    for (_, bytes) in store.scan(Table::Contacts.into()).await? {
        let row: ContactRow = decode(&bytes)?;
        whole(account.directory.load(row))?;
    }
    if let Some(bytes) = store.get(Table::AccountLog.into(), &[], 0).await? {
        let row: LogRow = decode(&bytes)?;
        whole(account.log.load(&row))?;
    }
    let owed = (Table::AccountLog.into(), OWED);
    for (_, bytes) in store.range(owed, 0..=u64::MAX, Order::Ascending, u32::MAX).await? {
        let row: OwedRow = decode(&bytes)?;
        whole(account.log.load_owed(&row))?;
    }
    Ok(account)
}

fn whole(is_whole: bool) -> Result<(), StoreError> {
    if is_whole { Ok(()) } else { Err(StoreError::Damaged) }
}
