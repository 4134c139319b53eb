//! Records looked at and not loaded: what a proposal for a new feed is made of.
//!
//! Whatever the format, the records come from the reader that will load them, so what is seen here is what a load will
//! see. Nothing is judged and nothing is kept.

use std::ops::ControlFlow;

use tokio_util::io::StreamReader;

use crate::config::feed::Feed;
use crate::domain::object::ObjectRef;
use crate::domain::record::BadRecord;
use crate::pipeline::fetch::Body;

use super::reader::{Next, RecordReader, Schema, Typing, Value};
use super::{DecodeError, Failure, Task};

/// Which field a value is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'a> {
    /// The field at this place of the schema.
    Slot(usize),
    /// The field of this name, where each record has its own.
    Name(&'a str),
}

/// Somebody who looks at the records of an object.
pub trait Look: Send {
    /// Which fields there are; comes first, unless there is no record at all.
    fn fields(&mut self, typing: Typing, schema: &Schema);
    /// A value of the record at hand.
    fn value(&mut self, place: Place<'_>, value: Value<'_>);
    /// The record at hand is complete; so many bytes of the object were read. `Break` ends the looking.
    fn record(&mut self, bytes: u64) -> ControlFlow<()>;
    /// A record that cannot be read.
    fn bad(&mut self, bad: &BadRecord) -> ControlFlow<()>;
}

/// Shows the records of an object to somebody, until its end or until he has seen enough.
pub async fn look<L: Look>(feed: &Feed, object: &ObjectRef, body: &Body, eye: &mut L) -> Result<(), DecodeError> {
    super::read(feed, object.size, StreamReader::new(body.stream()), Some(body), Looking { eye }).await
}

/// The same with bytes that are there.
pub async fn look_at<L: Look>(feed: &Feed, bytes: Vec<u8>, eye: &mut L) -> Result<(), DecodeError> {
    let size = bytes.len() as u64;
    super::read(feed, size, std::io::Cursor::new(bytes), None, Looking { eye }).await
}

struct Looking<'l, L> {
    eye: &'l mut L,
}

impl<L: Look> Task for Looking<'_, L> {
    type Outcome = ();

    async fn run<R: RecordReader>(self, mut reader: R) -> Result<(), Failure> {
        let eye = self.eye;
        let Some(schema) = reader.schema().await? else { return Ok(()) };
        eye.fields(R::TYPING, &schema);
        let slots: Vec<usize> = match &schema {
            Schema::Named(fields) => {
                let claim = |name: &String| reader.claim(name, std::slice::from_ref(name));
                fields.iter().map(|field| &field.name).filter_map(claim).collect()
            }
            Schema::Positions(fields) => (0..*fields).collect(),
            Schema::Open => Vec::new(),
        };
        loop {
            let flow = match reader.next().await? {
                Next::Record => {
                    for (place, slot) in slots.iter().enumerate() {
                        eye.value(Place::Slot(place), reader.value(*slot));
                    }
                    if schema == Schema::Open {
                        reader.unclaimed(&mut |name, value| eye.value(Place::Name(name), value));
                    }
                    eye.record(reader.bytes())
                }
                Next::Blank => ControlFlow::Continue(()),
                Next::Bad(bad) => eye.bad(&bad),
                Next::End => return Ok(()),
            };
            if flow.is_break() {
                return Ok(());
            }
        }
    }
}
