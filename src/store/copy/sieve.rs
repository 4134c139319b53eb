//! Finding the rows that the server refuses: staged records are tried window by window, each under a savepoint.
//!
//! Who chooses the windows sits in the pipeline. What is told apart here is whose fault a failure is: an answer that is
//! about a row leaves the transaction as it was before the window; anything else ends the load.

use futures::future;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};

use crate::domain::record::Position;
use crate::failpoint::{self, Point};

use super::super::deadline::bounded;
use super::super::error::StoreError;
use super::super::stage::Trace;
use super::Load;
use super::stage::{Over, Stage};

/// Where the transaction stands between two attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Savepoint {
    /// There is none.
    #[default]
    Unset,
    /// What was tried since is good.
    Kept,
    /// What was tried since has failed.
    Spoilt,
}

impl Savepoint {
    /// What makes room for the next attempt.
    const fn renew(self) -> &'static str {
        match self {
            Self::Unset => "SAVEPOINT _keyfall",
            Self::Kept => "RELEASE SAVEPOINT _keyfall; SAVEPOINT _keyfall",
            Self::Spoilt => "ROLLBACK TO SAVEPOINT _keyfall",
        }
    }

    /// What leaves the transaction without one.
    const fn end(self) -> &'static str {
        match self {
            Self::Unset => "",
            Self::Kept => "RELEASE SAVEPOINT _keyfall",
            Self::Spoilt => "ROLLBACK TO SAVEPOINT _keyfall; RELEASE SAVEPOINT _keyfall",
        }
    }
}

/// Statements that try staged records.
pub struct Sieve {
    over: Over,
    attempt: Statement,
    count: Option<Statement>,
    trace: Statement,
    remove: Statement,
    /// A failure of the query is a cell's: the query itself was understood.
    converts: bool,
    /// The first window's begin, and the last one's end; none where nothing is staged.
    pub bounds: Option<(i64, i64)>,
}

/// So many records or keys, from the first up to without the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first.
    pub from: i64,
    /// The first one behind it.
    pub to: i64,
    /// Which of the records with the same key, from 1. Of no meaning where there are no keys.
    pub place: i64,
}

/// What came of a window.
#[derive(Debug)]
pub enum Attempt {
    /// So many of its rows are in the table.
    Taken(u64),
    /// None is: the server refused one of them.
    Refused(StoreError),
}

impl Load {
    /// Takes records that have no key out of a stage; answers where they come from.
    pub async fn take_without_key(&self, stage: &Stage<'_>) -> Result<Vec<Trace>, StoreError> {
        if !stage.parts_nulls() {
            return Ok(Vec::new());
        }
        let sql = stage.take_without_key_sql();
        let client = self.client()?;
        let statement = bounded("PREPARE", self.stall, client.prepare_cached(&sql)).await?;
        let rows = bounded("keys", self.stall * 10, client.query(&statement, &[])).await?;
        rows.iter().map(read_trace).collect()
    }

    /// Makes a stage ready to be tried.
    pub async fn index_stage(&self, stage: &Stage<'_>, rows: u64) -> Result<(), StoreError> {
        failpoint::reach(Point::StageFilled).await?;
        let sql = stage.index_sql();
        bounded("CREATE INDEX", self.staged_deadline(rows), self.client()?.batch_execute(&sql)).await
    }

    /// Brings the records of a stage into the order in which they take each other's place.
    pub async fn rank_stage(&self, stage: &Stage<'_>, rows: u64) -> Result<(), StoreError> {
        let sql = stage.rank_sql();
        bounded("CREATE TEMP TABLE", self.staged_deadline(rows), self.client()?.batch_execute(&sql)).await
    }

    /// Constraints that wait for COMMIT are asked at once, or COMMIT would refuse all rows for one.
    pub async fn ask_constraints(&self) -> Result<(), StoreError> {
        let asked = self.client()?.batch_execute("SET CONSTRAINTS ALL IMMEDIATE");
        bounded("constraints", self.stall * 10, asked).await
    }

    /// Prepares a sieve over a stage.
    pub async fn sieve(&self, stage: &Stage<'_>, over: Over) -> Result<Sieve, StoreError> {
        let sql = stage.sieve(over);
        let client = self.client()?;
        let bounds = bounded("bounds", self.stall * 10, client.query_one(&sql.bounds, &[])).await?;
        let (first, last): (Option<i64>, Option<i64>) = (bounds.try_get(0)?, bounds.try_get(1)?);
        let prepare = |text| bounded("PREPARE", self.stall, client.prepare_cached(text));
        let counts = over == Over::Ranked && stage.is_key_alone();
        Ok(Sieve {
            over,
            attempt: prepare(&sql.attempt).await?,
            count: if counts { Some(prepare(&sql.count).await?) } else { None },
            trace: prepare(&sql.trace).await?,
            remove: prepare(&sql.remove).await?,
            converts: stage.converts(),
            bounds: first.zip(last).map(|(first, last)| (first, last.saturating_add(1))),
        })
    }

    /// Tries a window; savepoint and rows go out together. Whatever the process dies of, nothing of it is durable
    /// before COMMIT.
    pub async fn attempt(&mut self, sieve: &Sieve, window: Window) -> Result<Attempt, StoreError> {
        let (renew, deadline) = (self.savepoint.renew(), self.stall * 10);
        let client = self.client()?;
        let savepoint = client.batch_execute(renew);
        let rows = async {
            let parameters = sieve.parameters(&window);
            match &sieve.count {
                None => client.execute(&sieve.attempt, &parameters).await,
                Some(count) => {
                    client.execute(&sieve.attempt, &parameters).await?;
                    let row = client.query_one(count, &parameters).await?;
                    Ok(row.try_get::<_, i64>(0)?.unsigned_abs())
                }
            }
        };
        // Sent in the order in which they stand here, and answered in one round trip.
        let both = async { Ok::<_, StoreError>(future::join(savepoint, rows).await) };
        let (begun, taken) = bounded("a window of rows", deadline, both).await?;
        begun?;
        let told = |error| {
            let error = StoreError::from(error);
            if sieve.converts { error.of_conversion() } else { error }
        };
        match taken.map_err(told) {
            Ok(taken) => {
                self.savepoint = Savepoint::Kept;
                failpoint::reach(Point::IsolateWindow).await?;
                Ok(Attempt::Taken(taken))
            }
            Err(error) if error.refuses_row() => {
                self.savepoint = Savepoint::Spoilt;
                Ok(Attempt::Refused(error))
            }
            Err(error) => Err(error),
        }
    }

    /// Where the record of a window of one comes from; none where there is no such record.
    pub async fn traced(&mut self, sieve: &Sieve, window: Window) -> Result<Option<Trace>, StoreError> {
        self.end_attempts().await?;
        let client = self.client()?;
        let rows = bounded("a record", self.settle, client.query(&sieve.trace, &sieve.parameters(&window))).await?;
        rows.first().map(read_trace).transpose()
    }

    /// Takes the records of a window out of the stage.
    pub async fn remove(&mut self, sieve: &Sieve, window: Window) -> Result<(), StoreError> {
        self.end_attempts().await?;
        let client = self.client()?;
        let parameters = sieve.parameters(&window);
        bounded("a record", self.settle, client.execute(&sieve.remove, &parameters)).await.map(drop)
    }

    /// Leaves no savepoint behind. To be called before any other statement.
    pub async fn end_attempts(&mut self) -> Result<(), StoreError> {
        let sql = std::mem::take(&mut self.savepoint).end();
        if sql.is_empty() {
            return Ok(());
        }
        bounded("SAVEPOINT", self.settle, self.client()?.batch_execute(sql)).await
    }
}

impl Sieve {
    /// What it goes over.
    pub const fn over(&self) -> Over {
        self.over
    }

    fn parameters<'w>(&self, window: &'w Window) -> Vec<&'w (dyn ToSql + Sync)> {
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&window.from, &window.to];
        if self.over == Over::Ranked {
            parameters.push(&window.place);
        }
        parameters
    }
}

fn read_trace(row: &Row) -> Result<Trace, StoreError> {
    let number = |index: usize| -> Result<u64, StoreError> { Ok(row.try_get::<_, i64>(index)?.unsigned_abs()) };
    let position = Position { record: number(0)?, line: number(1)?, byte: number(2)? };
    Ok(Trace { position, raw: row.try_get(3)?, raw_bytes: number(4)? })
}
