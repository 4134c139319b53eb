//! F16: random kills.

use crate::case::{Case, Report, Trial};
use crate::lab::{Disposal, Lab, Settings};

pub(crate) fn case(lives: u32) -> Case {
    Case::new("soak", format!("{lives} lives"), move |trial: Trial| async move {
        let _ = lives;
        let lab = Lab::start(&trial).await;
        let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Delete));
        keyfall.start();
        let report: Report = lab.verify(&mut [&mut keyfall]).await;
        report
    })
}
