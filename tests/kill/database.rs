//! A database that a query writes to: the rows of an epoch and its number in one transaction.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use rusqlite::{Connection, params};
use tidemill::connectors::EpochRows;

pub(crate) struct Database(Connection);

impl Database {
    pub(crate) fn open(path: &Path) -> Result<Database, rusqlite::Error> {
        let connection = Connection::open(path)?;
        // The process is killed, not the machine.
        connection.pragma_update(None, "synchronous", "OFF")?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS rows (id INTEGER, epoch INTEGER, repeatable INTEGER);
             CREATE TABLE IF NOT EXISTS written (query TEXT, epoch INTEGER, PRIMARY KEY (query, epoch));",
        )?;
        Ok(Database(connection))
    }

    /// The pattern that `for_each_epoch` documents: skips an epoch that is repeatable and already written.
    pub(crate) fn write(&mut self, change: &EpochRows<u64>) -> Result<(), Box<dyn Error + Send + Sync>> {
        let epoch = i64::try_from(change.epoch.number())?;
        let transaction = self.0.transaction()?;
        let new = transaction
            .execute("INSERT OR IGNORE INTO written VALUES (?1, ?2)", params![change.query, epoch])?;
        if new == 0 && change.repeatable {
            return Ok(());
        }
        for id in &change.rows {
            let id = i64::try_from(*id)?;
            transaction
                .execute("INSERT INTO rows VALUES (?1, ?2, ?3)", params![id, epoch, change.repeatable])?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// How often each row was written: in repeatable epochs, and in all.
    pub(crate) fn times(&self) -> Result<BTreeMap<u64, (usize, usize)>, rusqlite::Error> {
        let mut times = BTreeMap::<u64, (usize, usize)>::new();
        let mut query = self.0.prepare("SELECT id, repeatable FROM rows")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let (id, repeatable): (i64, bool) = (row.get(0)?, row.get(1)?);
            let slot = times.entry(id as u64).or_default();
            slot.0 += usize::from(repeatable);
            slot.1 += 1;
        }
        Ok(times)
    }
}
