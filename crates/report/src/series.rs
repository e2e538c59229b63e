//! What is measured on several runs together, as tables.

use serde::Serialize;

use crate::Run;
use crate::cast::casts;

/// A line of `series/pca.jsonl`: a snapshot's place in the plane of the joint PCA (paper.md, 2).
#[derive(Serialize)]
struct PcaRow<'a> {
    run: &'a str,
    seed: u64,
    tokens: u64,
    pc1: f64,
    pc2: f64,
    /// Whether the snapshot lies in the run's own phase-change window.
    in_window: bool,
    /// Share of the variance of all snapshots along each axis.
    explained: &'a [f64],
}

/// The lines of `series/pca.jsonl`; none if the runs have no plane in common.
pub(crate) fn pca_rows(runs: &[Run]) -> String {
    let mut text = String::new();
    for cast in &casts(runs) {
        let explained = cast.explained().unwrap_or_default();
        for player in cast.players() {
            let Some((tokens, path)) = player.path() else { continue };
            for (tokens, place) in tokens.into_iter().zip(path.rows()) {
                let row = PcaRow {
                    run: &player.run.folder,
                    seed: player.run.spec.seed,
                    tokens,
                    pc1: place[0],
                    pc2: place[1],
                    in_window: player.window.as_ref().is_ok_and(|w| (w.start_tokens..=w.end_tokens).contains(&tokens)),
                    explained,
                };
                text += &serde_json::to_string(&row).expect("plain structs serialize");
                text.push('\n');
            }
        }
    }
    text
}
