//! Which feeds this instance lists, sweeps and disposes of: each is done by one instance at a time, loading by all.
//!
//! The ledger lends duties for a while; [`Keeper`] renews them, takes what is free and gives back what is another's by
//! now. Whoever works asks [`Duties`] before each step. A duty counts as held only until the lease, measured by this
//! process's own monotonic clock from before the renewal was sent, is over: an instance that was frozen or cut off
//! stops by itself, earlier than the ledger lends its duties to another.
//!
//! Deliberately absent: a fence. Two that list record the same rows once, two that dispose name the version they loaded.
//! A duty spares work; what must not happen twice is guarded where it happens.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::domain::duty::Duty;
use crate::domain::feed::FeedName;
use crate::store::bell::Bells;
use crate::store::ledger::{Beat, Ledger};

/// Longest lease: a dead instance's feeds are polled again after so long.
const LONGEST_LEASE: Duration = Duration::from_secs(15);
/// Added to the end of another's lease, so that it has ended when we look.
const MARGIN: Duration = Duration::from_millis(20);
/// For signing off: what takes longer ends by itself after the lease.
const SIGN_OFF_TIME: Duration = Duration::from_secs(2);

/// How long duties are lent, by the lease of objects.
pub fn lease(objects: Duration) -> Duration {
    objects.min(LONGEST_LEASE)
}

/// What this instance holds, and until when by its own clock.
#[derive(Debug, Default)]
struct Held {
    duties: Vec<(String, Duty)>,
    until: Option<Instant>,
    /// Why the last renewal failed, where it did.
    trouble: Option<String>,
}

impl Held {
    fn is_current(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() < until)
    }

    fn holds(&self, feed: &FeedName, duty: Duty) -> bool {
        self.is_current() && self.duties.iter().any(|(of, held)| of == feed.as_str() && *held == duty)
    }
}

/// Answers what this instance may do at the moment.
#[derive(Debug, Clone)]
pub struct Duties(Option<watch::Receiver<Held>>);

impl Duties {
    /// For whoever works by himself on an operator's word: he holds all of them, and takes them from nobody.
    pub fn unshared() -> Self {
        Self(None)
    }

    /// Whether this instance holds the duty now.
    pub fn holds(&self, feed: &FeedName, duty: Duty) -> bool {
        self.0.as_ref().is_none_or(|held| held.borrow().holds(feed, duty))
    }

    /// Why this instance can hold nothing at the moment, where that is so. A renewal that failed once is none: there is
    /// time for two more.
    pub fn trouble(&self) -> Option<String> {
        let held = self.0.as_ref()?.borrow();
        held.trouble.clone().filter(|_| !held.is_current())
    }

    /// Waits until this instance holds the duty.
    pub async fn given(&self, feed: &FeedName, duty: Duty) {
        let Some(mut held) = self.0.clone() else { return };
        // Without a keeper nothing is given any more; who waits also waits for the end of the engine.
        if held.wait_for(|held| held.holds(feed, duty)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// How long work may go on: until the engine stops and, where it is one instance's duty, while this one holds it.
#[derive(Clone, Copy)]
pub struct Leave<'a> {
    stop: &'a CancellationToken,
    duty: Option<(&'a Duties, &'a FeedName, Duty)>,
}

impl<'a> Leave<'a> {
    /// Until the engine stops.
    pub fn until(stop: &'a CancellationToken) -> Self {
        Self { stop, duty: None }
    }

    /// The same, while the duty is held.
    pub fn while_held(duties: &'a Duties, feed: &'a FeedName, duty: Duty, stop: &'a CancellationToken) -> Self {
        Self { stop, duty: Some((duties, feed, duty)) }
    }

    /// Whether to end. Asked before each step, so that the last one taken too late is a single page or batch.
    pub fn is_over(&self) -> bool {
        self.stop.is_cancelled() || self.duty.is_some_and(|(duties, feed, duty)| !duties.holds(feed, duty))
    }

    /// Waits until an instant, or until the engine stops.
    pub async fn rest_until(&self, end: Instant) {
        tokio::select! { () = self.stop.cancelled() => {}, () = sleep_until(end) => {} }
    }
}

/// Keeps the duties of one engine.
pub struct Keeper {
    ledger: Ledger,
    id: Uuid,
    name: String,
    feeds: Vec<FeedName>,
    lease: Duration,
    /// Rung when another instance gave something back; knows our session.
    bells: Bells,
    held: watch::Sender<Held>,
}

impl Keeper {
    /// A keeper for an instance of this name with these feeds; `lease` is that of duties.
    pub fn new(ledger: Ledger, name: String, feeds: Vec<FeedName>, lease: Duration, bells: Bells) -> Self {
        Self { ledger, id: Uuid::new_v4(), name, feeds, lease, bells, held: watch::Sender::default() }
    }

    /// What whoever works asks.
    pub fn duties(&self) -> Duties {
        Duties(Some(self.held.subscribe()))
    }

    /// Renews and takes until told to stop, then gives everything back at once. `declined` answers the feeds whose
    /// bucket does not answer this instance.
    pub async fn run(&self, declined: impl Fn() -> Vec<FeedName>, stop: &CancellationToken) {
        loop {
            let pause = tokio::select! {
                pause = self.beat(declined()) => pause,
                // A ledger that answers has answered by now; otherwise there is nobody to sign off with. A heartbeat that
                // is still under way must not come after the signing off and take everything again.
                () = async { stop.cancelled().await; sleep(SIGN_OFF_TIME).await } => return,
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = self.bells.duties.notified() => {}
                () = sleep(pause) => {}
            }
        }
        if !matches!(timeout(SIGN_OFF_TIME, self.ledger.sign_off(self.id)).await, Ok(Ok(()))) {
            tracing::debug!("the duties could not be given back; they end by themselves");
        }
    }

    /// One heartbeat; answers how long to wait for the next. Three fit into a lease, so two may fail.
    async fn beat(&self, declined: Vec<FeedName>) -> Duration {
        let third = self.lease / 3;
        let beat = Beat {
            id: self.id,
            name: &self.name,
            feeds: self.feeds.iter().map(FeedName::as_str).collect(),
            declined: declined.iter().map(FeedName::as_str).collect(),
            session: self.bells.session(),
            lease: self.lease,
        };
        // Before the ledger's clock is read: ours ends first.
        let until = Instant::now() + self.lease;
        let granted = match self.ledger.beat(&beat).await {
            Ok(granted) => granted,
            Err(error) => {
                tracing::warn!(error = %error, advice = error.advice(), "duties could not be renewed");
                self.held.send_modify(|held| held.trouble = Some(format!("duties cannot be kept: {error}")));
                return third;
            }
        };
        self.tell(&granted.duties);
        self.held.send_replace(Held { duties: granted.duties, until: Some(until), trouble: None });
        if granted.given_back > 0
            && let Err(error) = self.ledger.ring_for_duties().await
        {
            tracing::debug!(error = %error, "other instances were not told; they look by themselves");
        }
        granted.next_end.map_or(third, |end| third.min(end + MARGIN))
    }

    fn tell(&self, now: &[(String, Duty)]) {
        let before = self.held.borrow();
        for (feed, duty) in now.iter().filter(|duty| !before.duties.contains(duty)) {
            tracing::debug!(feed = %feed, duty = duty.as_str(), "duty taken");
        }
        for (feed, duty) in before.duties.iter().filter(|duty| !now.contains(duty)) {
            tracing::debug!(feed = %feed, duty = duty.as_str(), "duty given to another instance");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(name: &str) -> FeedName {
        name.parse().unwrap()
    }

    const LONG: Duration = Duration::from_mins(1);

    fn lent(duty: Duty, until: Instant) -> Held {
        Held { duties: vec![("a".to_owned(), duty)], until: Some(until), trouble: None }
    }

    #[test]
    fn a_duty_is_held_no_longer_than_the_lease_by_our_own_clock() {
        let held = watch::Sender::new(Held::default());
        let duties = Duties(Some(held.subscribe()));
        assert!(!duties.holds(&feed("a"), Duty::Poll), "nothing was lent");
        held.send_replace(lent(Duty::Poll, Instant::now() + LONG));
        assert!(duties.holds(&feed("a"), Duty::Poll));
        assert!(!duties.holds(&feed("a"), Duty::Sweep) && !duties.holds(&feed("b"), Duty::Poll));
        held.send_replace(lent(Duty::Poll, Instant::now()));
        assert!(!duties.holds(&feed("a"), Duty::Poll), "nobody renewed it");
    }

    #[tokio::test]
    async fn leave_ends_with_the_engine_or_with_the_duty() {
        let (stop, held) = (CancellationToken::new(), watch::Sender::new(Held::default()));
        let (duties, name) = (Duties(Some(held.subscribe())), feed("a"));
        let leave = Leave::while_held(&duties, &name, Duty::Dispose, &stop);
        assert!(leave.is_over());
        held.send_replace(lent(Duty::Dispose, Instant::now() + LONG));
        duties.given(&name, Duty::Dispose).await;
        assert!(!leave.is_over());
        held.send_replace(lent(Duty::Poll, Instant::now() + LONG));
        assert!(leave.is_over() && !Leave::until(&stop).is_over());
        stop.cancel();
        assert!(Leave::until(&stop).is_over());
    }

    #[test]
    fn a_failed_renewal_is_a_trouble_once_the_lease_is_over() {
        let failed = |until| Held { trouble: Some("denied".to_owned()), ..lent(Duty::Poll, until) };
        let held = watch::Sender::new(failed(Instant::now() + LONG));
        let duties = Duties(Some(held.subscribe()));
        assert_eq!(duties.trouble(), None);
        held.send_replace(failed(Instant::now()));
        assert_eq!(duties.trouble().as_deref(), Some("denied"));
    }

    #[test]
    fn whoever_works_alone_holds_everything() {
        assert!(Duty::ALL.into_iter().all(|duty| Duties::unshared().holds(&feed("a"), duty)));
    }

    #[test]
    fn duties_are_never_lent_for_long() {
        assert_eq!(lease(Duration::from_secs(5)), Duration::from_secs(5));
        assert_eq!(lease(Duration::from_hours(1)), LONGEST_LEASE);
    }
}
