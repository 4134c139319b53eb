//! Failpoints: named steps of an object's life at which a test may kill, hold or fail the process.
//!
//! They exist with the feature `failpoints` only. Without it [`reach`] and [`pass`] are empty, [`Injected`] cannot be
//! made, and no name is in the binary. A step is named after what has just happened, so a process killed there dies
//! between that and what follows. `tests/faults` walks the whole table; a step added here is killed there unasked.

#[cfg(not(feature = "failpoints"))]
mod off;
#[cfg(feature = "failpoints")]
mod on;

#[cfg(not(feature = "failpoints"))]
pub use off::{Injected, pass, reach};
#[cfg(feature = "failpoints")]
pub use on::{Injected, check, pass, reach};

macro_rules! points {
    ($($point:ident $name:literal $how:ident $about:literal;)*) => {
        /// A step that can be made to fail.
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub enum Point {
            $(#[doc = $about] $point,)*
        }

        #[cfg(feature = "failpoints")]
        impl Point {
            /// Every step, in the order of an object's life.
            pub const ALL: &'static [Self] = &[$(Self::$point,)*];

            /// Name in specifications and on the control socket.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$point => $name,)* }
            }

            /// What has just happened there.
            pub const fn about(self) -> &'static str {
                match self { $(Self::$point => $about,)* }
            }

            /// Whether the step can answer an error, or only be held, killed or panic.
            pub const fn can_fail(self) -> bool {
                match self { $(Self::$point => points!(@ $how),)* }
            }
        }
    };
    (@ fails) => { true };
    (@ passes) => { false };
}

points! {
    MigrateLocked "migrate.locked" fails "the migrations' lock is held, nothing is applied yet";
    MigrateApplied "migrate.applied" fails "one migration is applied, the lock is still held";
    DiscoverListed "discover.listed" fails "a page has been listed, nothing of it is recorded";
    DiscoverRecorded "discover.recorded" fails "a page is in the ledger, nobody has been woken";
    DiscoverSwept "discover.swept" fails "a sweep has been written down";
    DiscoverPolled "discover.polled" fails "a poll has been written down";
    NotifyReceived "notify.received" passes "messages have been received, nothing of them is recorded";
    NotifyRecorded "notify.recorded" passes "all objects of the messages are in the ledger, none is acknowledged";
    NotifyAcknowledged "notify.acknowledged" passes "the messages have been acknowledged";
    LeaseTaken "lease.taken" fails "objects are leased, no worker has them yet";
    LeaseRenewed "lease.renewed" passes "the leases of this instance have been renewed";
    FetchOpened "fetch.opened" fails "a GET was answered, nothing of the body is read";
    CopyBegun "copy.begun" fails "the load transaction is open, its leases were checked";
    ReplaceDeleted "replace.deleted" fails "the rows of an older version are deleted, none of the newer is sent";
    ReplaceEmptied "replace.emptied" fails "all rows of a table are deleted, none of those that replace them is sent";
    CopyFrame "copy.frame" fails "a frame is about to be sent to COPY";
    CopyFinished "copy.finished" fails "COPY has ended in order, the ledger is not touched";
    StageFilled "stage.filled" fails "all rows lie in a stage, none is in its table";
    StageMerged "stage.merged" fails "the rows of a stage are in their table, the ledger is not touched";
    IsolateWindow "isolate.window" fails "a window of staged rows is in its table, more may follow";
    IsolateRefused "isolate.refused" fails "a refused row was found, its rejection is not written";
    ReplaceSuperseded "replace.superseded" fails "an older version is superseded, the newer is not loaded yet";
    CommitFenced "commit.fenced" fails "the fence has changed the ledger, COMMIT is not sent";
    CommitCommitted "commit.committed" fails "COMMIT was answered, nobody has looked";
    CommitReadBack "commit.read_back" passes "the ledger was asked which objects are loaded";
    SettleBegun "settle.begun" passes "an attempt has failed, the ledger does not know";
    SettleWritten "settle.written" passes "a failed attempt has been written down";
    DisposeTaken "dispose.taken" fails "a batch has been taken from the outbox";
    DisposeCopied "dispose.copied" passes "one object of the batch lies in the archive";
    DisposeArchived "dispose.archived" fails "the whole batch lies in the archive";
    DisposeDeleted "dispose.deleted" fails "the originals of the batch are deleted, the ledger does not know";
    DisposeMarked "dispose.marked" fails "the disposals have been written down";
    RepairDeleted "repair.deleted" fails "the rows of a loaded object are deleted, the ledger does not know";
    RepairMarked "repair.marked" fails "a repair has changed the ledger, COMMIT is not sent";
    RepairCommitted "repair.committed" fails "the COMMIT of a repair was answered, nobody has looked";
    RepairCopied "repair.copied" fails "rejected records are copied, the ledger still has them as rejected";
    ShutdownBegun "shutdown.begun" passes "a signal was taken, nothing is stopped yet";
    ShutdownReleased "shutdown.released" passes "a load was rolled back by the shutdown and its lease given back";
    ReloadApplied "reload.applied" passes "a new configuration runs, the old one is not drained";
}
