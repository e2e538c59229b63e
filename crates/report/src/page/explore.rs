//! What the page's reader works with: the table of all models, the explorer, and their data.

use std::fmt::Write as _;

use crate::analysis::{ROWS, Series};
use crate::explorer::Model;
use crate::text::json_for_script;

pub(super) fn analysis_section(out: &mut String, analysis: &[Series]) {
    let models: usize = analysis.iter().map(|series| series.models.len()).sum();
    let panels = models * ROWS.len();
    let _ = write!(
        out,
        r#"<section aria-labelledby="analysis-title">
<h2 id="analysis-title">All models, every measurement</h2>
<p class="soft">The Model Analysis Table: {models} columns of {} rows, {panels} panels. Shaded or between dotted lines: the model's own phase-change window. Pick columns; click a panel to enlarge it and read its values, then move with the arrow keys. In the paper, models on other text and with smeared keys have four of the rows.</p>
"#,
        ROWS.len()
    );
    if analysis.is_empty() {
        out.push_str("<p>There are no runs, so there is nothing to draw.</p>\n</section>\n");
        return;
    }
    out.push_str(
        r#"<details class="columns" open><summary>Columns</summary><div id="analysis-picks"></div></details>
<div class="wide" tabindex="0" role="region" aria-label="The table; scroll it sideways"><table id="analysis-table" class="analysis"></table></div>
<dialog id="enlarged" aria-labelledby="enlarged-title"><h3 id="enlarged-title"></h3><p id="enlarged-says" class="soft"></p><div id="enlarged-plot" class="plot"></div><button type="button" id="enlarged-close">Close</button></dialog>
</section>
"#,
    );
}

pub(super) fn explorer_section(out: &mut String, (models, every): &(Vec<Model>, usize)) {
    if models.is_empty() {
        return;
    }
    let thinned = match every {
        1 => String::new(),
        n => {
            format!(", and one in {n} of the snapshots that have maps, counted back from the last")
        }
    };
    let _ = write!(
        out,
        r#"<section id="explorer" aria-labelledby="explorer-title">
<h2 id="explorer-title">Explore a head</h2>
<p class="soft">What a head attends to on a held-out text, or on argument 4's prompts, and what it adds to the prediction of the next token through each place (its direct path to the logits, in nats, mean over the vocabulary taken off). <code>induction report DIR --text FILE</code> puts a text of yours here. This file holds attention in 64ths and attribution in 31sts of a head's largest{thinned}; of models on other text or with other seeds only the last. The tables are finer.</p>
<div class="controls">
<label>Model <select id="x-model"></select></label>
<label>Text <select id="x-text"></select></label>
<label class="range">Snapshot <input type="range" id="x-snapshot" min="0" step="1"> <output id="x-snapshot-said" for="x-snapshot"></output></label>
</div>
<fieldset id="x-heads" class="heads"><legend>Head</legend></fieldset>
<div class="sides">
<div>
<div id="x-tokens" class="tokens" tabindex="0" role="listbox" aria-label="Tokens"></div>
<p id="x-said" aria-live="polite"></p>
<ol id="x-top" class="top"></ol>
</div>
<div>
<fieldset class="kinds"><legend>Map: rows attend, columns are attended to</legend><label><input type="radio" name="x-kind" value="attention" checked> attention</label> <label><input type="radio" name="x-kind" value="attribution"> added to the next token's logit</label></fieldset>
<canvas id="x-map" class="map" role="img" aria-label="The map of the head on the text; the list beside it says the same token by token"></canvas>
<p id="x-map-said" class="soft">Point at the map to read it; click to hold a row in the text.</p>
</div>
</div>
<div class="panels">
<div class="panel"><h4>Its scores over training</h4><div id="x-scores" class="plot low"></div></div>
<div class="panel" id="x-removed"><h4>Without it, patterns kept</h4><div id="x-effects" class="plot low"></div></div>
</div>
<h4>Every measure of it, at the last snapshot</h4>
<dl id="x-measures" class="measures"></dl>
</section>
<section id="text-over-training" aria-labelledby="text-title">
<h2 id="text-title">A text over training</h2>
<p class="soft">The loss of each token at one snapshot less that at another (the paper's figure F8), and two tokens over all of training (F9).</p>
<div class="controls">
<label>Model <select id="t-model"></select></label>
<label class="range">A <input type="range" id="t-before" min="0" step="1"> <output id="t-before-said" for="t-before"></output></label>
<label class="range">B <input type="range" id="t-after" min="0" step="1"> <output id="t-after-said" for="t-after"></output></label>
</div>
<div class="sides">
<div>
<div id="t-tokens" class="tokens" tabindex="0" role="listbox" aria-label="Tokens"></div>
<p id="t-said" aria-live="polite"></p>
</div>
<div class="panel"><h4>Two tokens, and the mean of all</h4><div id="t-plot" class="plot"></div></div>
</div>
</section>
"#
    );
}

/// What the table of all models and the explorer work on.
pub(super) fn data(out: &mut String, analysis: &[Series], explorer: &[Model]) {
    #[derive(serde::Serialize)]
    struct Shown<'a> {
        label: &'a str,
        panels: &'a [crate::figures::Panel],
        said: Vec<String>,
    }
    #[derive(serde::Serialize)]
    struct Group<'a> {
        title: &'a str,
        models: Vec<Shown<'a>>,
    }
    let mut put = |id: &str, json: &str| {
        let _ = writeln!(
            out,
            "<script type=\"application/json\" id=\"{id}\">{}</script>",
            json_for_script(json)
        );
    };
    if !analysis.is_empty() {
        let groups = analysis.iter().map(|series| Group {
            title: &series.title,
            models: series
                .models
                .iter()
                .map(|model| Shown {
                    label: &model.label,
                    panels: &model.panels,
                    said: (0..ROWS.len()).map(|row| model.said(row)).collect(),
                })
                .collect(),
        });
        let groups: Vec<Group<'_>> = groups.collect();
        let json = serde_json::json!({ "rows": ROWS, "series": groups });
        put("analysis", &json.to_string());
    }
    if !explorer.is_empty() {
        put("explorer-data", &serde_json::to_string(explorer).expect("texts and finite numbers"));
        for (k, model) in explorer.iter().enumerate() {
            let _ = writeln!(
                out,
                "<script type=\"text/plain\" id=\"packed-{k}\">{}</script>",
                model.packed
            );
        }
    }
}
