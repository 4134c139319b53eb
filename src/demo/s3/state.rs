//! What all connections share, and the way of a request through log, hook and faults to its effect.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock};

use futures::future::BoxFuture;
use hyper::StatusCode;
use hyper::http::Extensions;
use s3s::{S3Error, S3ErrorCode, S3Response, S3Result};

use super::faults::{Action, Faults};
use super::keyring::Keyring;
use super::log::{Log, Operation, RequestInfo};
use super::multipart::Uploads;
use super::server::Control;
use super::store::Store;

type Hook = Arc<dyn Fn(RequestInfo) -> BoxFuture<'static, ()> + Send + Sync>;

/// Everything the server knows.
pub(super) struct State {
    pub(super) store: Store,
    pub(super) uploads: Uploads,
    pub(super) faults: Faults,
    pub(super) log: Log,
    pub(super) keys: Keyring,
    hook: RwLock<Option<Hook>>,
}

/// What a request is about.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) op: Operation,
    pub(super) bucket: &'a str,
    pub(super) key: &'a str,
}

/// The faults that struck one request.
pub(super) struct Call {
    actions: Vec<Action>,
    control: Option<Control>,
}

impl State {
    pub(super) fn new(sequence: Arc<AtomicU64>) -> Self {
        Self {
            store: Store::default(),
            uploads: Uploads::default(),
            faults: Faults::default(),
            log: Log::new(sequence),
            keys: Keyring::of(super::ACCESS_KEY_ID, super::SECRET_ACCESS_KEY),
            hook: RwLock::new(None),
        }
    }

    pub(super) fn set_hook(&self, hook: Hook) {
        *self.hook.write().unwrap_or_else(PoisonError::into_inner) = Some(hook);
    }

    /// Logs a request, lets hook and faults have their way with it, does its `work` and logs the outcome.
    pub(super) async fn run<T: Send>(
        &self,
        subject: Subject<'_>,
        extensions: &Extensions,
        work: impl FnOnce(&Call) -> S3Result<S3Response<T>> + Send,
    ) -> S3Result<S3Response<T>> {
        let Subject { op, bucket, key } = subject;
        let seq = self.log.arrive(op, bucket, key);
        let hook = self.hook.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(hook) = hook {
            hook(RequestInfo { seq, op, bucket: bucket.to_owned(), key: key.to_owned() }).await;
        }
        let actions = self.faults.strike(op, Some(key).filter(|_| op != Operation::DeleteObjects));
        let call = Call { actions, control: extensions.get().cloned() };
        call.wait().await;
        let answer = call.refusal().and_then(|()| work(&call)).and_then(|done| call.afterwards().map(|()| done));
        let status = match &answer {
            Ok(done) => done.status.unwrap_or(StatusCode::OK),
            Err(error) => error.status_code().unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        };
        self.log.answer(seq, status.as_u16());
        answer
    }
}

impl Call {
    /// A call inside another: one key of a batch.
    pub(super) fn part(actions: Vec<Action>) -> Self {
        Self { actions, control: None }
    }

    pub(super) fn actions(&self) -> &[Action] {
        &self.actions
    }

    pub(super) fn control(&self) -> Option<&Control> {
        self.control.as_ref()
    }

    pub(super) fn ignores_conditions(&self) -> bool {
        self.has(|action| matches!(action, Action::IgnoreConditions))
    }

    pub(super) fn pretends(&self) -> bool {
        self.has(|action| matches!(action, Action::Pretend))
    }

    pub(super) fn has(&self, wanted: impl Fn(&Action) -> bool) -> bool {
        self.actions.iter().any(wanted)
    }

    async fn wait(&self) {
        for action in &self.actions {
            if let Action::Delay(time) = action {
                tokio::time::sleep(*time).await;
            } else if let Action::Hold(gate) = action {
                gate.pass().await;
            }
        }
    }

    /// An error where a rule wants one instead of any work.
    pub(super) fn refusal(&self) -> S3Result<()> {
        for action in &self.actions {
            if let Action::Status(status, code) = action {
                return Err(scripted(*status, code));
            }
            if matches!(action, Action::Denied) {
                return Err(S3Error::with_message(S3ErrorCode::AccessDenied, "Access Denied"));
            }
            if let (Action::Instead(canned), Some(control)) = (action, &self.control) {
                control.answer_instead(canned.clone());
                return Err(scripted(canned.status(), "InternalError"));
            }
            if matches!(action, Action::CopyError200) {
                return Err(scripted(200, "InternalError"));
            }
        }
        Ok(())
    }

    /// An error, or no answer at all, where a rule wants it after the work.
    pub(super) fn afterwards(&self) -> S3Result<()> {
        for action in &self.actions {
            if let Action::FailAfter(status, code) = action {
                return Err(scripted(*status, code));
            }
            if let (Action::Gzip, Some(control)) = (action, &self.control) {
                control.compress();
            }
            if let (Action::HangUp, Some(control)) = (action, &self.control) {
                control.hang_up();
            }
        }
        Ok(())
    }
}

fn scripted(status: u16, code: &'static str) -> S3Error {
    let code = S3ErrorCode::from_bytes(code.as_bytes()).unwrap_or(S3ErrorCode::InternalError);
    let mut error = S3Error::with_message(code, "a fault rule wants it so");
    error.set_status_code(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
    error
}
