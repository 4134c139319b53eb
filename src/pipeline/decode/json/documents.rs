//! Documents of any layout: arrays of objects, objects one after the other, and documents with an array inside.
//!
//! Read value by value: an array is never held, and neither is the document around it. What separates the values is
//! checked here; a mistake ends the object, since where the next record begins is anybody's guess then.

use tokio::io::AsyncRead;

use crate::config::feed::{FieldPath, Format};

use super::super::{DecodeError, Failure};
use super::envelope::Envelope;
use super::fault::Fault;
use super::frame;
use super::input::Input;
use super::walk::Rules;
use super::{Extent, NO_JSON, damaged, fault_of};

/// Where the reader stands.
pub(super) struct Documents {
    /// The way to the array, where it does not stand by itself.
    envelope: Option<Envelope>,
    at: At,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Between documents.
    Outside,
    /// In a document, on the way to its array or behind it.
    Envelope,
    /// In an array, behind its bracket.
    First,
    /// Behind a record.
    Behind,
    /// Behind a comma.
    Next,
}

impl Documents {
    pub(super) fn new(records: Option<FieldPath>) -> Self {
        Self { envelope: records.map(Envelope::new), at: At::Outside }
    }

    /// Looks for the next record.
    pub(super) async fn find<R: AsyncRead + Send + Unpin>(
        &mut self,
        input: &mut Input<R>,
        rules: Rules,
    ) -> Result<Option<Extent>, Failure> {
        loop {
            if let (At::Envelope, Some(envelope)) = (self.at, &mut self.envelope) {
                self.at = if envelope.seek(input, rules).await? { At::First } else { At::Outside };
                continue;
            }
            let Some(byte) = input.next_byte().await? else {
                return if self.at == At::Outside { Ok(None) } else { Err(frame::ends(input).into()) };
            };
            match (self.at, byte) {
                (At::Outside, b'{') if self.envelope.is_some() => {
                    input.skip(1);
                    self.at = self.envelope.as_mut().map_or(At::Outside, Envelope::enter);
                }
                (At::Outside, b'[') if self.envelope.is_none() => {
                    input.skip(1);
                    self.at = At::First;
                }
                (At::First | At::Behind, b']') => {
                    input.skip(1);
                    self.at = if self.envelope.is_some() { At::Envelope } else { At::Outside };
                }
                (At::Behind, b',') => {
                    input.skip(1);
                    self.at = At::Next;
                }
                (At::Behind, _) => return Err(unexpected(input, "a comma or the end of the array was expected")),
                (At::Outside, _) if self.envelope.is_some() => return Err(no_envelope(input, byte)),
                (At::Outside | At::First | At::Next | At::Envelope, _) => return self.record(input).await.map(Some),
            }
        }
    }

    /// The record at which the input stands.
    async fn record<R: AsyncRead + Send + Unpin>(&mut self, input: &mut Input<R>) -> Result<Extent, Failure> {
        if self.at != At::Outside {
            self.at = At::Behind;
        }
        let length = frame::value(input).await?;
        Ok(Extent { lead: 0, length, tail: 0, is_last: false })
    }

    /// Refuses an object with a record that is no JSON: behind it, everything may be something else than it seems.
    pub(super) fn refuse_broken<R: AsyncRead + Send + Unpin>(
        &self,
        input: &Input<R>,
        fault: &Fault,
        is_first: bool,
    ) -> Result<(), Failure> {
        let is_bare = !matches!(input.rest().first(), Some(b'{' | b'[' | b'"'));
        match fault {
            Fault::Syntax { .. } | Fault::Ends if is_first && is_bare && self.at == At::Outside => {
                Err(DecodeError::Format { found: NO_JSON, expected: Format::Json }.into())
            }
            Fault::Syntax { .. } | Fault::Ends => Err(fault_of(input.place(), fault).into()),
            Fault::Duplicate(_) | Fault::Depth(_) | Fault::Fields(_) | Fault::NoObject => Ok(()),
        }
    }
}

impl Envelope {
    /// Goes into a document.
    fn enter(&mut self) -> At {
        self.open();
        At::Envelope
    }
}

/// The document does not go on as it should.
pub(super) fn unexpected<R: AsyncRead + Send + Unpin>(input: &Input<R>, told: &'static str) -> Failure {
    damaged(input.place(), &format!("not valid JSON: {told}"), "E-JSON-SYNTAX").into()
}

/// A document without the object that `json.records` leads through.
fn no_envelope<R: AsyncRead + Send + Unpin>(input: &Input<R>, byte: u8) -> Failure {
    if matches!(byte, b'[' | b'"') {
        let reason = "the document is no object, and json.records leads into one";
        return damaged(input.place(), reason, Fault::NoObject.code()).into();
    }
    // A byte order mark may stand in front.
    if input.place().byte <= 3 {
        return DecodeError::Format { found: NO_JSON, expected: Format::Json }.into();
    }
    unexpected(input, "an object was expected")
}
