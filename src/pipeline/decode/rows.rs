//! Records of any format become rows of their tables, rejections, or nothing, each counted once.

use tokio::sync::mpsc;

use super::outlet::{Outlet, Room};
use super::plan::Plans;
use super::reader::{Next, RecordReader};
use super::{DecodeError, Decoded, Decoding, Failure, Piece};

/// Reads all records of an object into the channel.
pub async fn run<R: RecordReader>(
    decoding: Decoding<'_>,
    mut reader: R,
    pieces: mpsc::Sender<Piece>,
) -> Result<Decoded, Failure> {
    let mut outlet = Outlet::new(pieces, decoding.rejects);
    let Some(schema) = reader.schema().await? else {
        // Blank records have no fields, and are counted all the same.
        while let Next::Blank = reader.next().await? {
            outlet.filter();
        }
        return Ok(outlet.finish(reader.bytes(), None).await?);
    };
    let plans = Plans::settle(decoding, schema, &mut reader)?;
    outlet.begin(plans.targets());
    loop {
        let room = match reader.next().await? {
            Next::Record => take(&plans, &reader, &mut outlet)?,
            Next::Blank => outlet.filter(),
            Next::Bad(bad) => outlet.reject(&reader, bad, None)?,
            Next::End => break,
        };
        outlet.make(room).await?;
    }
    let (bytes, header) = (reader.bytes(), reader.header());
    let decoded = outlet.finish(bytes, header).await?;
    Ok(Decoded { fields: plans.into_fields(), ..decoded })
}

/// One record: to its route, to the rejections, or nowhere.
#[inline]
fn take<R: RecordReader>(plans: &Plans<'_>, reader: &R, outlet: &mut Outlet) -> Result<Room, DecodeError> {
    if let Some(bad) = plans.check_unknown(reader)? {
        return outlet.reject(reader, bad, None);
    }
    let plan = match plans.choose(reader) {
        Ok(Some(plan)) => plan,
        Ok(None) => return Ok(outlet.filter()),
        Err(bad) => return outlet.reject(reader, bad, None),
    };
    match outlet.put(plan.route(), |out| plan.encode(reader, out)) {
        Ok(room) => Ok(room),
        Err(bad) => outlet.reject(reader, bad, Some(plan.table())),
    }
}
