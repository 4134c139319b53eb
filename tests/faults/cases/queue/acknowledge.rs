//! F11, F76, F80–F83, F88: between a message's delivery and its deletion.

use std::time::Duration;

use ::keyfall::demo::notifier::{Envelope, KeySpelling, compose};
use ::keyfall::demo::s3::{Action as S3Action, FaultRule as S3Rule, Gate, Operation as S3Operation};
use ::keyfall::demo::sqs::{Action, FaultRule, Operation};

use super::{
    by_queue, deliveries, demand, event, listening, read_once, redelivers, requests, tell, until_dead, until_left,
};
use crate::case::{Case, Report, Trial};
use crate::control::Strike;
use crate::lab::{Disposal, Lab, Settings, key, within};
use crate::mailbox::{DEAD, QUEUE};

const SOON: Duration = Duration::from_secs(1);

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("F11", "killed with a message recorded, before its acknowledgement", killed_before_acknowledging),
        Case::new("F11-received", "killed with messages received, nothing recorded", killed_before_recording),
        Case::new("F76", "one message in the hands of two, one event in two messages", in_two_hands),
        Case::new("F80", "ten records in a message, the seventh cannot be recorded for a while", one_not_recorded)
            .first_wave(),
        Case::new("F80-ledger", "ten records in a message, the ledger takes none for a while", none_recorded),
        Case::new("F80-poison", "ten records in a message, the seventh cannot be read", one_not_readable),
        Case::new("F81", "a load of many times the visibility timeout", longer_than_visibility),
        Case::new("F81-held", "a message is recorded long after it became visible again", recorded_late),
        Case::new("F82", "receipts that have expired", expired_receipts),
        Case::new("F83", "deletions that fail in part, or are not mentioned", partial_deletions),
        Case::new("F88", "ten messages at once about slow objects, two workers", slow_objects),
    ]
}

async fn killed_before_acknowledging(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    redelivers(&lab, SOON, 100);
    let mut keyfall = lab.keyfall("a", &by_queue(Disposal::Keep));
    listening(&lab, &mut keyfall).await;
    let killed = keyfall.control.arm("notify.recorded", 1, Strike::Kill);
    lab.expect_hits("notify.recorded kill", &killed, 1);
    lab.put(0..3, 5);
    let message = tell(&lab, 0..3);
    keyfall.killed().await;
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects").await, 3, "records in the ledger");
    assert_eq!(lab.mail.sqs.len(QUEUE), 1, "it was acknowledged");
    keyfall.start();
    until_left(&lab, 0).await;
    lab.until_state("loaded", 3).await;
    assert_eq!(deliveries(&lab, &message), 2);
    // Recognised by the ledger: nothing was recorded or read again for it.
    read_once(&lab, 0..3);
    lab.verify(&mut [&mut keyfall]).await
}

async fn killed_before_recording(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    redelivers(&lab, SOON, 100);
    let mut keyfall = lab.keyfall("a", &by_queue(Disposal::Keep));
    listening(&lab, &mut keyfall).await;
    let killed = keyfall.control.arm("notify.received", 1, Strike::Kill);
    lab.expect_hits("notify.received kill", &killed, 1);
    lab.put(0..3, 5);
    let message = tell(&lab, 0..3);
    keyfall.killed().await;
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects").await, 0);
    assert_eq!(lab.mail.sqs.len(QUEUE), 1, "it was acknowledged before anything was recorded");
    keyfall.start();
    until_left(&lab, 0).await;
    assert_eq!(deliveries(&lab, &message), 2);
    lab.verify(&mut [&mut keyfall]).await
}

async fn in_two_hands(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    redelivers(&lab, SOON, 100);
    let settings = by_queue(Disposal::Delete);
    let (mut one, mut other) = (lab.keyfall("one", &settings), lab.keyfall("other", &settings));
    listening(&lab, &mut one).await;
    listening(&lab, &mut other).await;
    let gate = Gate::new();
    for program in [&one, &other] {
        let held = program.control.arm("notify.received", 1, Strike::Hold(gate.clone()));
        lab.expect_hits("notify.received hold", &held, 1);
    }
    lab.put(0..1, 5);
    let message = tell(&lab, [0]);
    within("both have the message", async {
        one.control.reached("notify.received", 1).await;
        other.control.reached("notify.received", 1).await;
    })
    .await;
    assert_eq!(deliveries(&lab, &message), 2);
    gate.open();
    until_left(&lab, 0).await;
    // The same events again: twice in one message, and in two messages.
    lab.put(1..3, 5);
    let both = [event(&lab, &key(1)), event(&lab, &key(2))];
    let events = [both.as_slice(), &both].concat();
    lab.mail.send(&compose(&events, Envelope::S3, KeySpelling::Aws), both.iter().map(demand).collect());
    tell(&lab, 1..3);
    until_left(&lab, 0).await;
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 3).await;
    read_once(&lab, 0..3);
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects").await, 3);
    lab.verify(&mut [&mut one, &mut other]).await
}

/// Refuses one key with this error from now on.
async fn refuse(lab: &Lab, key: &str, sqlstate: &str) {
    let sql = format!(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'not this one' USING ERRCODE = '{sqlstate}'; END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON keyfall.objects FOR EACH ROW WHEN (NEW.key = '{key}')
             EXECUTE FUNCTION refuse()"
    );
    lab.execute(&sql).await;
}

/// The ledger blames the row: its message comes again and again, the others go on.
async fn one_not_recorded(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    redelivers(&lab, SOON, 100);
    let mut keyfall = lab.keyfall("a", &by_queue(Disposal::Delete));
    listening(&lab, &mut keyfall).await;
    refuse(&lab, &key(6), "23514").await;
    lab.put(0..12, 5);
    let message = tell(&lab, 0..10);
    tell(&lab, [10]);
    tell(&lab, [11]);
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE key >= 'incoming/2024-05-01-00-00-1'", 2).await;
    within("the message comes back", async {
        while deliveries(&lab, &message) < 3 {
            assert_ne!(lab.mail.sqs.len(QUEUE), 0, "a message about an object that is nowhere was acknowledged");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let left: Vec<String> = lab.mail.sqs.messages(QUEUE).into_iter().map(|message| message.id).collect();
    assert_eq!(left, [message], "what is recorded is acknowledged, and nothing else");
    lab.execute("DROP TRIGGER refuse ON keyfall.objects").await;
    until_left(&lab, 0).await;
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 12).await;
    read_once(&lab, 0..12);
    lab.verify(&mut [&mut keyfall]).await
}

/// The ledger is in trouble: the messages wait in the hand that has them, and do not use up their deliveries.
async fn none_recorded(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    redelivers(&lab, SOON, 2);
    let mut keyfall = lab.keyfall("a", &by_queue(Disposal::Delete));
    listening(&lab, &mut keyfall).await;
    refuse(&lab, &key(6), "53100").await;
    lab.put(0..10, 5);
    let message = tell(&lab, 0..10);
    keyfall.says_times("notifications cannot be written down", 2).await;
    // Longer than the message stays hidden.
    tokio::time::sleep(2 * SOON).await;
    assert_eq!((lab.mail.sqs.len(QUEUE), deliveries(&lab, &message)), (1, 1));
    lab.execute("DROP TRIGGER refuse ON keyfall.objects").await;
    until_left(&lab, 0).await;
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 10).await;
    assert_eq!(lab.mail.sqs.len(DEAD), 0);
    read_once(&lab, 0..10);
    lab.verify(&mut [&mut keyfall]).await
}

async fn one_not_readable(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    redelivers(&lab, SOON, 3);
    let mut keyfall = lab.keyfall("a", &by_queue(Disposal::Keep));
    listening(&lab, &mut keyfall).await;
    lab.put(0..10, 5);
    let events: Vec<_> = (0..10).map(|number| event(&lab, &key(number))).collect();
    let mut body: serde_json::Value =
        serde_json::from_str(&compose(&events, Envelope::S3, KeySpelling::Aws)).expect("JSON");
    *body.pointer_mut("/Records/6/s3/object/key").expect("the seventh record") = "incoming/%zz".into();
    // Nobody may take it for done: it demands what its seventh record told of.
    let message = lab.mail.send(&body.to_string(), events.iter().map(demand).collect());
    lab.until_state("loaded", 9).await;
    until_dead(&lab, 1).await;
    assert_eq!(lab.mail.sqs.messages(DEAD).first().map(|dead| dead.id.clone()), Some(message));
    read_once(&lab, 0..6);
    read_once(&lab, 7..10);
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects").await, 9);
    // A good message about the same object.
    tell(&lab, [6]);
    until_left(&lab, 0).await;
    lab.verify(&mut [&mut keyfall]).await
}

async fn longer_than_visibility(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    redelivers(&lab, SOON, 2);
    let mut keyfall = lab.keyfall("a", &by_queue(Disposal::Delete));
    listening(&lab, &mut keyfall).await;
    let gate = Gate::new();
    let held = lab.s3.inject(S3Rule::on(S3Operation::GetObject, S3Action::Hold(gate.clone())).times(1));
    lab.expect_s3("GET held", &held, 1);
    lab.put(0..1, 5);
    let message = tell(&lab, [0]);
    within("the object is asked for", gate.reached()).await;
    // Recorded is enough: the load has hardly begun.
    until_left(&lab, 0).await;
    assert_eq!(lab.count("SELECT count(*) FROM items").await, 0);
    // Nothing happens that could be waited for: three timeouts pass, and the message does not come again.
    tokio::time::sleep(3 * SOON).await;
    assert_eq!(deliveries(&lab, &message), 1);
    gate.open();
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 1).await;
    read_once(&lab, 0..1);
    assert!(requests(&lab, Operation::ChangeVisibility).is_empty(), "a heartbeat that nobody needs");
    assert_eq!(lab.mail.sqs.len(DEAD), 0);
    lab.verify(&mut [&mut keyfall]).await
}

async fn recorded_late(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    redelivers(&lab, SOON, 100);
    let settings = by_queue(Disposal::Delete);
    let (mut slow, mut other) = (lab.keyfall("slow", &settings), lab.keyfall("other", &settings));
    listening(&lab, &mut slow).await;
    let gate = Gate::new();
    let held = slow.control.arm("notify.received", 1, Strike::Hold(gate.clone()));
    lab.expect_hits("notify.received hold", &held, 1);
    lab.put(0..10, 5);
    let message = tell(&lab, 0..10);
    within("the message is received", gate.reached()).await;
    listening(&lab, &mut other).await;
    // The other has recorded, acknowledged and loaded it all before the first goes on.
    until_left(&lab, 0).await;
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 10).await;
    assert_eq!(deliveries(&lab, &message), 2);
    gate.open();
    within("the late one has acknowledged", slow.control.reached("notify.acknowledged", 1)).await;
    read_once(&lab, 0..10);
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects").await, 10);
    lab.verify(&mut [&mut slow, &mut other]).await
}

async fn expired_receipts(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    redelivers(&lab, SOON, 100);
    let mut keyfall = lab.keyfall("a", &by_queue(Disposal::Delete));
    listening(&lab, &mut keyfall).await;
    let expired = lab.mail.sqs.inject(FaultRule::on(Operation::DeleteBatch, Action::ExpireReceipts).times(2));
    lab.expect_s3("receipts expired", &expired, 2);
    lab.put(0..5, 5);
    let message = tell(&lab, 0..5);
    until_left(&lab, 0).await;
    assert!(deliveries(&lab, &message) >= 2, "the message cannot have been deleted at once");
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 5).await;
    read_once(&lab, 0..5);
    assert!(requests(&lab, Operation::ChangeVisibility).is_empty());
    lab.verify(&mut [&mut keyfall]).await
}

async fn partial_deletions(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    // Long enough that none comes back by itself: only a second deletion takes it away in time.
    redelivers(&lab, Duration::from_mins(10), 100);
    let mut keyfall = lab.keyfall("a", &by_queue(Disposal::Keep));
    listening(&lab, &mut keyfall).await;
    let gate = Gate::new();
    let held = lab.mail.sqs.inject(FaultRule::on(Operation::Receive, Action::Hold(gate.clone())).times(1));
    lab.expect_s3("receive held", &held, 1);
    within("the next request is held", gate.reached()).await;
    let failing = lab.mail.sqs.inject(FaultRule::on(Operation::DeleteBatch, Action::FailEntry(3)).times(1));
    let forgotten = lab.mail.sqs.inject(FaultRule::on(Operation::DeleteBatch, Action::ForgetEntry(8)).times(1));
    lab.expect_s3("entry 3 failed", &failing, 1);
    lab.expect_s3("entry 8 forgotten", &forgotten, 1);
    lab.put(0..10, 5);
    let messages: Vec<String> = (0..10).map(|number| tell(&lab, [number])).collect();
    gate.open();
    until_left(&lab, 0).await;
    let batches = requests(&lab, Operation::DeleteBatch);
    let [first, again @ ..] = batches.as_slice() else { panic!("nothing was deleted") };
    assert_eq!(first.messages, messages);
    let entries: usize = again.iter().map(|request| request.entries).sum();
    let mut again: Vec<&String> = again.iter().flat_map(|request| &request.messages).collect();
    again.sort();
    let mut wanted = [2, 7].map(|place: usize| messages.get(place).expect("ten messages"));
    wanted.sort();
    assert_eq!((again, entries), (wanted.to_vec(), 2), "only what failed is asked for again, and once");
    lab.until_state("loaded", 10).await;
    read_once(&lab, 0..10);
    lab.verify(&mut [&mut keyfall]).await
}

async fn slow_objects(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    redelivers(&lab, SOON, 2);
    let settings = Settings { workers: "max = 2\ngroup_objects = 1".to_owned(), ..by_queue(Disposal::Delete) };
    let mut keyfall = lab.keyfall("a", &settings);
    listening(&lab, &mut keyfall).await;
    let slow = lab.s3.inject(S3Rule::on(S3Operation::GetObject, S3Action::Delay(Duration::from_millis(700))));
    lab.expect_s3("GET slow", &slow, 10);
    lab.put(0..10, 5);
    let messages: Vec<String> = (0..10).map(|number| tell(&lab, [number])).collect();
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 10).await;
    for message in &messages {
        assert_eq!(deliveries(&lab, message), 1, "a message waited for a worker");
    }
    assert_eq!(lab.mail.sqs.len(DEAD), 0);
    read_once(&lab, 0..10);
    lab.verify(&mut [&mut keyfall]).await
}
