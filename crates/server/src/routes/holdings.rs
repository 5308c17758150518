//! What the server holds about an account, told to its owner.

use std::sync::Arc;

use axum::{Router, extract, routing::post};
use corncrake_wire::{
    Call, DeviceId,
    account::{DeviceHoldings, Holdings, WhatYouHold},
};
use sqlx::Row;

use crate::{
    Error, State,
    extract::{Answer, Posted},
    sessions::Caller,
};

pub(super) fn router() -> Router<Arc<State>> {
    Router::new().route(WhatYouHold::PATH, post(what_you_hold))
}

async fn what_you_hold(
    extract::State(state): extract::State<Arc<State>>,
    caller: Caller,
    Posted(WhatYouHold): Posted<WhatYouHold>,
) -> Result<Answer<Holdings>, Error> {
    let mut connection = state.readers.acquire().await?;
    let account = sqlx::query(
        "SELECT name, signed_up_day, record_version, length(record), vault_version, length(vault), \
         (SELECT count(*) FROM sessions WHERE account = accounts.num AND expires > ?) \
         FROM accounts WHERE num = ?",
    )
    .bind(i64::try_from(state.clock.now()).unwrap_or(i64::MAX))
    .bind(caller.account)
    .fetch_one(&mut *connection)
    .await?;
    let rows = sqlx::query(
        "SELECT id, added_day, (SELECT count(*) FROM packages WHERE device = devices.num), \
         (SELECT count(*) FROM notices WHERE device = devices.num) \
         FROM devices WHERE account = ? ORDER BY num",
    )
    .bind(caller.account)
    .fetch_all(&mut *connection)
    .await?;
    let mut devices = Vec::with_capacity(rows.len());
    for row in rows {
        devices.push(DeviceHoldings {
            device: DeviceId::try_from(row.try_get::<&[u8], _>(0)?)?,
            added_day: row.try_get(1)?,
            packages: row.try_get(2)?,
            notices: row.try_get(3)?,
        });
    }
    let count = |column: usize| {
        let number: i64 = account.try_get(column)?;
        u64::try_from(number).map_err(Error::failed)
    };
    Ok(Answer(Holdings {
        name: account.try_get(0)?,
        signed_up_day: account.try_get(1)?,
        record: (count(2)?, count(3)?),
        vault: (count(4)?, count(5)?),
        devices,
        sessions: account.try_get(6)?,
    }))
}
