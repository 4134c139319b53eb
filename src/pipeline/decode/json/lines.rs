//! One object per line.
//!
//! A line is a record whatever is in it, so a bad one takes no other with it. Two things are said of the object
//! instead: that it is no such file at all, and that it ends in the middle of a record.

use tokio::io::AsyncRead;

use crate::config::feed::Format;

use super::super::{DecodeError, Failure};
use super::fault::Fault;
use super::input::{Input, Line, blanks};
use super::{DOCUMENT, Extent, NO_JSON};

/// Looks for the next line that is not blank.
pub(super) async fn find<R: AsyncRead + Send + Unpin>(input: &mut Input<R>) -> Result<Option<Extent>, Failure> {
    while let Some(Line { length, is_closed }) = input.line().await? {
        let whole = length + usize::from(is_closed);
        let line = input.rest().get(..length).unwrap_or_default();
        let lead = blanks(line);
        if lead == length {
            input.skip(whole);
            continue;
        }
        let behind = line.iter().rev().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r')).count();
        let (length, tail) = (length - lead - behind, behind + usize::from(is_closed));
        return Ok(Some(Extent { lead, length, tail, is_last: !is_closed }));
    }
    Ok(None)
}

/// Refuses an object whose first line shows that it is something else.
pub(super) async fn refuse_foreign<R: AsyncRead + Send + Unpin>(
    input: &mut Input<R>,
    extent: Extent,
    fault: &Fault,
) -> Result<(), Failure> {
    let first = extent.of(input.rest()).first().copied();
    let found = match (first, fault) {
        (Some(b'['), _) => DOCUMENT,
        (Some(b'{'), Fault::Ends) if goes_on(input, extent).await? => DOCUMENT,
        (Some(b'{'), _) | (_, Fault::NoObject) => return Ok(()),
        _ => NO_JSON,
    };
    Err(DecodeError::Format { found, expected: Format::Jsonl }.into())
}

/// Whether what follows an unfinished line is no record of its own: then an object is spread over lines.
async fn goes_on<R: AsyncRead + Send + Unpin>(input: &mut Input<R>, extent: Extent) -> Result<bool, Failure> {
    let from = extent.lead + extent.length + extent.tail;
    loop {
        // No further than one more record might reach, however much was read.
        let behind = input.rest().get(from..).unwrap_or_default();
        let behind = input.within_cap(behind);
        if let Some(first) = behind.get(blanks(behind)) {
            return Ok(*first != b'{');
        }
        if !input.is_within_cap(behind.len()) || !input.more().await? {
            return Ok(false);
        }
    }
}
