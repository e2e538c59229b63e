//! Several reproductions - scales, seeds, texts - side by side: claims by claim, figure by figure.

use crate::analysis::Series;
use crate::experiment::Experiment;
use crate::figures::Figure;
use crate::{Claim, Verdict};

/// One of the reproductions.
pub(crate) struct Side<'a> {
    /// Its folder's name.
    pub(crate) name: String,
    pub(crate) experiments: Vec<Experiment<'a>>,
    pub(crate) claims: Vec<Claim>,
    pub(crate) figures: Vec<Figure>,
    pub(crate) analysis: Vec<Series>,
}

/// The figures of all sides as one list: panels of one figure stand together, each with its side's
/// name.
pub(crate) fn merged(sides: &mut [Side<'_>]) -> Vec<Figure> {
    let mut all: Vec<Figure> = Vec::new();
    for side in sides {
        for mut figure in std::mem::take(&mut side.figures) {
            for panel in &mut figure.panels {
                panel.title = format!("{}: {}", side.name, panel.title);
            }
            for row in figure.table.iter_mut().skip(1) {
                row[0] = format!("{}: {}", side.name, row[0]);
            }
            // Tables lie in the side's own folder, to which the page has no way that holds when one
            // of them moves.
            figure.files.clear();
            figure.here = format!("{}: {}", side.name, figure.here);
            match all.iter_mut().find(|other| other.id == figure.id) {
                None => all.push(figure),
                Some(other) => {
                    other.panels.append(&mut figure.panels);
                    other.table.extend(figure.table.into_iter().skip(1));
                    other.here = format!("{} {}", other.here, figure.here);
                    // Texts of different models are different texts: the first is shown.
                }
            }
        }
    }
    all
}

/// The sides whose verdict on a claim is another than the first side's.
pub(crate) fn differ(sides: &[Side<'_>], claim: usize) -> bool {
    let verdicts: Vec<Verdict> = sides.iter().map(|side| side.claims[claim].verdict).collect();
    verdicts.iter().any(|verdict| *verdict != verdicts[0])
}
