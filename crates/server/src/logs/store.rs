//! The statements that store a plan.

use std::mem;

use corncrake_wire::log::Point;
use sqlx::SqliteConnection;

use super::{
    part_number,
    plan::{EntryRow, Plan},
    signed,
};
use crate::{Error, sql};

impl Plan {
    /// Whether everything fits into one statement, which is its own transaction.
    pub(crate) fn is_one_statement(&self) -> bool {
        self.entries.len() <= sql::ROWS
            && self.besides.is_empty()
            && self.new_day.is_none()
            && self.progress.is_none()
            && !self.drafts.values().any(|draft| draft.settles || draft.is_new && draft.added > 0)
    }

    /// Stores what the plan brings. Takes the rows out of it.
    pub(crate) async fn store(&mut self, connection: &mut SqliteConnection) -> Result<(), Error> {
        self.insert_entries(connection).await?;
        if let Some((day, first)) = self.new_day {
            sqlx::query("INSERT OR IGNORE INTO days (day, first_entry) VALUES (?, ?)")
                .bind(day)
                .bind(first)
                .execute(&mut *connection)
                .await?;
        }
        for (id, draft) in self.drafts.iter().filter(|(_, draft)| draft.is_new && draft.added > 0) {
            sqlx::query(
                "INSERT INTO logs (num, id, head, newest_commit, newest_commit_id, running, day, held) \
                 VALUES (?, ?, 0, 0, zeroblob(32), zeroblob(32), ?, 0)",
            )
            .bind(draft.log.num)
            .bind(id.0.to_vec())
            .bind(self.day)
            .execute(&mut *connection)
            .await?;
        }
        for row in mem::take(&mut self.besides) {
            sqlx::query("INSERT INTO besides (log, part, position, bytes) VALUES (?, ?, ?, ?)")
                .bind(row.log)
                .bind(part_number(row.part))
                .bind(signed(row.position))
                .bind(row.bytes)
                .execute(&mut *connection)
                .await?;
        }
        self.settle(connection).await
    }

    async fn insert_entries(&mut self, connection: &mut SqliteConnection) -> Result<(), Error> {
        let mut rows = mem::take(&mut self.entries).into_iter();
        while rows.len() > 0 {
            let mut query = sqlx::query(sql::insert_entries(rows.len().min(sql::ROWS)));
            for row in rows.by_ref().take(sql::ROWS) {
                let EntryRow { entry, log, position, flags, bytes } = row;
                query = query.bind(entry).bind(log).bind(signed(position)).bind(flags).bind(bytes);
            }
            query.execute(&mut *connection).await?;
        }
        Ok(())
    }

    /// Gives the entries of logs that are due their places.
    async fn settle(&self, connection: &mut SqliteConnection) -> Result<(), Error> {
        let due: Vec<_> =
            self.drafts.values().filter(|draft| draft.settles).map(|draft| &draft.log).collect();
        let mut places = Vec::new();
        for log in &due {
            let tail = (log.settled + 1..).zip(&log.tail);
            places.extend(tail.map(|(position, placed)| (log.num, position, *placed)));
        }
        places.sort_unstable_by_key(|(log, position, _)| (*log, *position));
        for chunk in due.chunks(sql::ROWS) {
            let mut query = sqlx::query(sql::update_logs(chunk.len()));
            for log in chunk {
                let Point { position, id } = log.newest_commit;
                query = query.bind(log.num).bind(signed(log.head));
                query = query.bind(signed(position)).bind(id.0.to_vec());
                query = query.bind(log.running.to_vec()).bind(self.day).bind(signed(log.bytes));
            }
            query.execute(&mut *connection).await?;
        }
        for chunk in places.chunks(sql::ROWS) {
            let mut query = sqlx::query(sql::insert_places(chunk.len()));
            for (log, position, placed) in chunk {
                query = query
                    .bind(*log)
                    .bind(signed(*position))
                    .bind(placed.entry)
                    .bind(placed.flags)
                    .bind(signed(placed.length as u64))
                    .bind(placed.id.0.to_vec())
                    .bind(placed.running.to_vec());
            }
            query.execute(&mut *connection).await?;
        }
        if let Some(settled) = self.progress {
            sqlx::query("UPDATE progress SET settled = ?")
                .bind(settled)
                .execute(connection)
                .await?;
        }
        Ok(())
    }
}
