//! What the page's grids of scanned models work on: every head's scores, and what it attends to.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::figures::Models;
use crate::text::rounded;

/// A scanned model.
#[derive(Debug, Serialize)]
pub(crate) struct Scanned {
    label: String,
    layers: usize,
    heads: usize,
    /// Every measure by name, of each head, layer by layer.
    measures: Vec<(String, Vec<Option<f64>>)>,
    texts: Vec<Text>,
}

/// A text with attention.
#[derive(Debug, Serialize)]
struct Text {
    name: String,
    tokens: Vec<String>,
    /// As [`ShownText::attention`](induction_records::ShownText::attention); stands in the page
    /// apart from the rest.
    #[serde(skip)]
    attention: String,
}

impl Scanned {
    /// The packed attention on each text.
    pub(crate) fn packed(&self) -> impl Iterator<Item = &str> {
        self.texts.iter().map(|text| text.attention.as_str())
    }
}

/// Every model that is shown in full.
pub(crate) fn scanned(models: &Models<'_>) -> Vec<Scanned> {
    let of = |scan: &&crate::Scan| {
        let (model, heads) = (&scan.found.model, &scan.found.heads);
        let names: BTreeSet<&str> =
            heads.iter().flat_map(|head| head.scores.keys()).map(String::as_str).collect();
        let measured = |name: &str| !name.ends_with("_stderr") && !name.ends_with("_10");
        // What most people ask for first.
        let mut names: Vec<&str> = names.into_iter().filter(|name| measured(name)).collect();
        names.sort_by_key(|name| *name != "prefix_matching");
        let column = |name: &str| {
            let of_head = |head: &induction_records::ScanHead| head.measure(name).map(rounded);
            (name.to_string(), heads.iter().map(of_head).collect())
        };
        Scanned {
            label: models.label(scan),
            layers: model.n_layers,
            heads: model.n_heads,
            measures: names.into_iter().map(column).collect(),
            texts: (scan.found.shown.iter())
                .map(|shown| Text {
                    name: shown.text.clone(),
                    tokens: shown.tokens.clone(),
                    attention: shown.attention.clone(),
                })
                .collect(),
        }
    };
    models.each.iter().filter(|scan| !scan.found.shown.is_empty()).map(of).collect()
}
