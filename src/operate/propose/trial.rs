//! The samples go through the proposed mapping as a load would send them, up to the point where the server comes in.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::config::feed::{Feed, Rejects};
use crate::pipeline::decode::{self, DecodeError, Decoding, Piece, Target};
use crate::store::catalog;
use crate::store::encode::ColumnType;
use crate::store::stage::Staging;

use super::Column;
use super::sample::{Sample, Shop};
use super::survey::MOST_RECORDS;

/// Pieces on their way.
const PIECES: usize = 4;

/// Kinds of rejections that are told.
const MOST_TOLD: usize = 5;

/// Decodes the samples; answers what would be rejected, or quarantined.
pub(super) async fn run(shop: &Shop, feed: &Feed, columns: &[Column], samples: &[Sample]) -> Vec<String> {
    let Some(route) = feed.routes.first() else { return Vec::new() };
    let bigint = |name: &str| column(name, ColumnType::Int8, ("bigint".to_owned(), true));
    let shape = catalog::Shape {
        table: route.table.clone(),
        oid: 0,
        fingerprint: String::new(),
        columns: columns
            .iter()
            .map(|own| column(&own.name, own.sql.encoded(), (own.sql_type.clone(), !own.not_null)))
            .collect(),
        provenance: catalog::Provenance::ALL.into_iter().map(|which| (which, bigint(which.column()))).collect(),
        stored: catalog::Stored::default(),
    };
    let targets = [Target { shape: Arc::new(shape), staging: Staging::None }];
    let mut told: BTreeMap<String, u64> = BTreeMap::new();
    let mut remarks = Vec::new();
    for sample in samples {
        let outcome = decode(shop, (feed, &targets), sample, &mut told).await;
        if let Err(error) = outcome {
            remarks.push(format!("{} would be quarantined: {error}; {}", sample.object.uri(), error.advice()));
        }
    }
    let rejected = told.into_iter().take(MOST_TOLD);
    remarks
        .extend(rejected.map(|(reason, count)| format!("sample records that would be rejected: {count}, as {reason}")));
    remarks
}

fn column(name: &str, kind: ColumnType, (type_name, nullable): (String, bool)) -> catalog::Column {
    catalog::Column { name: name.to_owned(), kind, type_name, nullable, has_default: false }
}

async fn decode(
    shop: &Shop,
    (feed, targets): (&Feed, &[Target]),
    sample: &Sample,
    told: &mut BTreeMap<String, u64>,
) -> Result<(), DecodeError> {
    let body = sample.open(shop).await?;
    let rejects = Rejects { max_rows: u64::MAX, max_ratio: None };
    let decoding = Decoding { feed, object: &sample.object, targets, rejects };
    let (sender, mut pieces) = mpsc::channel(PIECES);
    let taking = async move {
        let mut seen = 0_u64;
        while let Some(piece) = pieces.recv().await {
            match piece {
                Piece::Target { .. } => {}
                Piece::Frame { rows, .. } => seen += rows,
                Piece::Rejections(rejections) => {
                    seen += rejections.len() as u64;
                    for rejection in rejections {
                        let column = rejection.column.map(|column| format!("column {column:?}: ")).unwrap_or_default();
                        *told.entry(format!("{column}{} ({})", rejection.reason, rejection.code)).or_default() += 1;
                    }
                }
            }
            if seen >= MOST_RECORDS {
                // Enough: the decoder ends when nobody listens.
                break;
            }
        }
    };
    let (decoded, ()) = tokio::join!(decode::pump(decoding, &body, sender), taking);
    match decoded {
        Ok(_) | Err(DecodeError::Abandoned) => Ok(()),
        Err(error) => Err(error),
    }
}
