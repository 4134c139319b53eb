//! F97: the endpoint that hands out a container's credentials refuses, hangs, or hands out some that soon expire.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::keyfall::demo::s3::{ACCESS_KEY_ID, SECRET_ACCESS_KEY};
use jiff::{SignedDuration, Timestamp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use crate::case::{Case, Report, Trial};
use crate::lab::{Disposal, Lab, Settings};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("F97", "the credentials' endpoint answers 404, then hangs, then recovers", endpoint_fails),
        Case::new("F97-expiry", "credentials that expire within seconds", credentials_expire),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Mood {
    NotFound,
    Hang,
    /// Hands out credentials that last so many seconds.
    Lasting(i64),
}

/// The endpoint, with the number of requests in each mood.
struct Endpoint {
    url: String,
    mood: Arc<Mutex<Mood>>,
    asked: Arc<AtomicU64>,
    _serving: AbortOnDropHandle<()>,
}

impl Endpoint {
    async fn start(mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/credentials", listener.local_addr().expect("an address"));
        let (mood, asked) = (Arc::new(Mutex::new(mood)), Arc::new(AtomicU64::new(0)));
        let (moods, count) = (Arc::clone(&mood), Arc::clone(&asked));
        #[expect(clippy::disallowed_methods, reason = "ends with the endpoint")]
        let serving = tokio::spawn(async move {
            let mut hanging = BTreeMap::new();
            while let Ok((stream, peer)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let mood = *moods.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(stream) = answer(stream, mood).await {
                    hanging.insert(peer, stream);
                }
            }
        });
        Self { url, mood, asked, _serving: AbortOnDropHandle::new(serving) }
    }

    /// Changes the mood; answers how often it was asked until then.
    fn turn(&self, mood: Mood) -> u64 {
        *self.mood.lock().unwrap_or_else(PoisonError::into_inner) = mood;
        self.asked.swap(0, Ordering::SeqCst)
    }
}

/// Answers one request and closes; gives the connection back where it is to stay open.
async fn answer(mut stream: TcpStream, mood: Mood) -> Option<TcpStream> {
    let mut request = [0; 2048];
    // One read holds so small a request; nothing of it matters.
    if stream.read(&mut request).await.ok()? == 0 {
        return None;
    }
    let (status, body) = match mood {
        Mood::Hang => return Some(stream),
        Mood::NotFound => ("404 Not Found", "{}".to_owned()),
        Mood::Lasting(seconds) => {
            let expiry = Timestamp::now() + SignedDuration::from_secs(seconds);
            let body = format!(
                r#"{{"AccessKeyId":"{ACCESS_KEY_ID}","SecretAccessKey":"{SECRET_ACCESS_KEY}","Token":"t","Expiration":"{expiry:.0}"}}"#
            );
            ("200 OK", body)
        }
    };
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n");
    let text = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(text.as_bytes()).await.ok()?;
    stream.shutdown().await.ok()?;
    None
}

/// A program that has no credentials of its own.
fn program(lab: &Lab, endpoint: &Endpoint) -> crate::keyfall::Keyfall {
    let s3 = "connect_timeout = \"1s\"\nread_timeout = \"1s\"\nmax_attempts = 1".to_owned();
    let mut keyfall = lab.keyfall("a", &Settings { s3, ..Settings::new(Disposal::Delete) });
    keyfall.rewrite(&format!("access_key_id = \"{ACCESS_KEY_ID}\""), "");
    keyfall.rewrite(&format!("secret_access_key = \"{SECRET_ACCESS_KEY}\""), "");
    let nowhere = lab.directory().join("nothing").display().to_string();
    for (name, value) in [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", endpoint.url.as_str()),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_CONFIG_FILE", &nowhere),
        ("AWS_SHARED_CREDENTIALS_FILE", &nowhere),
    ] {
        keyfall.environment.push((name.to_owned(), value.to_owned()));
    }
    keyfall
}

async fn endpoint_fails(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..10, 3);
    let endpoint = Endpoint::start(Mood::NotFound).await;
    let mut keyfall = program(&lab, &endpoint);
    keyfall.start();
    keyfall.says_times("the bucket cannot be listed", 3).await;
    let listings = keyfall.log().matches("the bucket cannot be listed").count();
    let refused = endpoint.turn(Mood::Hang);
    // The provider asks again by itself a few times; none of that may multiply.
    assert!(refused > 0 && refused <= 4 * listings as u64 + 4, "{refused} requests for {listings} listings");
    keyfall.answers_with("/readyz?verbose", 503, &["redential"]).await;
    keyfall.says_times("the bucket cannot be listed", listings + 1).await;
    let hung = endpoint.turn(Mood::Lasting(3600));
    assert!(hung > 0 && hung <= 24, "{hung} requests while it hung");
    lab.until_state("loaded", 10).await;
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 10).await;
    let served = endpoint.turn(Mood::Lasting(3600));
    assert!((1..=3).contains(&served), "{served} requests for credentials that last an hour");
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects WHERE state = 'quarantined'").await, 0);
    let note = format!("{refused} refused, {hung} unanswered, {served} served");
    Report { note, ..lab.verify(&mut [&mut keyfall]).await }
}

async fn credentials_expire(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..10, 3);
    let endpoint = Endpoint::start(Mood::Lasting(14)).await;
    let mut keyfall = program(&lab, &endpoint);
    let begun = Instant::now();
    keyfall.start();
    lab.until_state("loaded", 10).await;
    let mut next = 10;
    while endpoint.asked.load(Ordering::SeqCst) < 3 && begun.elapsed() < Duration::from_mins(1) {
        lab.put(next..next + 1, 3);
        next += 1;
        lab.until_state("loaded", i64::try_from(next).expect("few")).await;
    }
    let (seconds, asked) = (begun.elapsed().as_secs(), endpoint.turn(Mood::Lasting(3600)));
    assert!(asked >= 3, "never refreshed: {asked} requests in {seconds} s");
    assert!(asked <= 3 + seconds, "{asked} requests in {seconds} s");
    assert!(!keyfall.log().contains("cannot be listed"), "{}", keyfall.log());
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects WHERE attempt <> 1").await, 0);
    let note = format!("asked {asked} times in {seconds} s, {next} objects");
    Report { note, ..lab.verify(&mut [&mut keyfall]).await }
}
