//! What the page's reader works with: the table of all models, and the explorer.

use maud::{Markup, html};

use crate::analysis::{ROWS, Series};
use crate::explorer::Model;
use crate::scanned::Scanned;

pub(super) fn analysis_section(analysis: &[Series]) -> Markup {
    let models: usize = analysis.iter().map(|series| series.models.len()).sum();
    html! {
        section aria-labelledby="analysis-title" { "\n"
            h2 id="analysis-title" { "All models, every measurement" } "\n"
            p.soft {
                "The Model Analysis Table: " (models) " columns of " (ROWS.len()) " rows, "
                (models * ROWS.len()) " panels. Shaded or between dotted lines: the model's own \
                phase-change window. Pick columns; click a panel to enlarge it and read its \
                values, then move with the arrow keys. In the paper, models on other text and \
                with smeared keys have four of the rows."
            } "\n"
            @if analysis.is_empty() {
                p { "There are no runs, so there is nothing to draw." } "\n"
            } @else {
                details.columns open {
                    summary { "Columns" }
                    div id="analysis-picks" {}
                } "\n"
                div.wide tabindex="0" role="region" aria-label="The table; scroll it sideways" {
                    table id="analysis-table" class="analysis" {}
                } "\n"
                dialog id="enlarged" aria-labelledby="enlarged-title" {
                    h3 id="enlarged-title" {}
                    p id="enlarged-says" class="soft" {}
                    div id="enlarged-plot" class="plot" {}
                    button type="button" id="enlarged-close" { "Close" }
                } "\n"
            }
        } "\n"
    }
}

/// The models to explore, and of how many snapshots one with maps is in the page.
pub(super) fn explorer_section((models, every): &(Vec<Model>, usize)) -> Markup {
    if models.is_empty() {
        return Markup::default();
    }
    html! {
        section id="explorer" aria-labelledby="explorer-title" { "\n"
            h2 id="explorer-title" { "Explore a head" } "\n"
            p.soft {
                "What a head attends to on a held-out text, or on argument 4's prompts, and what \
                it adds to the prediction of the next token through each place (its direct path \
                to the logits, in nats, mean over the vocabulary taken off). "
                code { "induction report DIR --text FILE" } " puts a text of yours here. This \
                file holds attention in 64ths and attribution in 31sts of a head's largest"
                @if *every > 1 {
                    ", and one in " (every) " of the snapshots that have maps, counted back from \
                    the last"
                }
                "; of models on other text or with other seeds only the last. The tables are \
                finer."
            } "\n"
            div.controls { "\n"
                label { "Model " select id="x-model" {} } "\n"
                label { "Text " select id="x-text" {} } "\n"
                (range("Snapshot", "x-snapshot")) "\n"
            } "\n"
            fieldset id="x-heads" class="heads" { legend { "Head" } } "\n"
            div.sides { "\n"
                div { "\n"
                    (tokens("x-tokens", "x-said"))
                    ol id="x-top" class="top" {} "\n"
                } "\n"
                div { "\n"
                    (map())
                } "\n"
            } "\n"
            div.panels { "\n"
                div.panel {
                    h4 { "Its scores over training" }
                    div id="x-scores" class="plot low" {}
                } "\n"
                div.panel #x-removed {
                    h4 { "Without it, patterns kept" }
                    div id="x-effects" class="plot low" {}
                } "\n"
            } "\n"
            h4 { "Every measure of it, at the last snapshot" } "\n"
            dl id="x-measures" class="measures" {} "\n"
        } "\n"
        (text_section())
    }
}

/// Every head of the scanned models in its place, and what it attends to.
pub(super) fn scanned_section(models: &[Scanned]) -> Markup {
    if models.is_empty() {
        return Markup::default();
    }
    html! {
        section id="scanned" aria-labelledby="scanned-title" { "\n"
            h2 id="scanned-title" { "Every head of a scanned model" } "\n"
            p.soft {
                "A square is a head: its layer from the top, its number from the left, its shade \
                the measure. Choose one, or move with the arrow keys, to see what it attends to on \
                random tokens that repeat, on argument 4's prompts, or on the text that the scan \
                was given. " code { "scan.json" } " holds the same, in 255ths."
            } "\n"
            div.controls { "\n"
                label { "Model " select id="m-model" {} } "\n"
                label { "Shade " select id="m-measure" {} } "\n"
                label { "Text " select id="m-text" {} } "\n"
            } "\n"
            div id="m-heads" class="places" role="group" aria-label="Heads" {} "\n"
            p id="m-head" aria-live="polite" {} "\n"
            div.sides { "\n"
                div { "\n"
                    (tokens("m-tokens", "m-said"))
                    ol id="m-top" class="top" {} "\n"
                } "\n"
                div { "\n"
                    canvas id="m-map" class="map" role="img"
                        aria-label="The attention of the head on the text; the list beside it says \
                            the same token by token" {} "\n"
                    p id="m-map-said" class="soft" {
                        "Rows attend, columns are attended to. Click to hold a row in the text."
                    } "\n"
                } "\n"
            } "\n"
            dl id="m-measures" class="measures" {} "\n"
        } "\n"
    }
}

fn text_section() -> Markup {
    html! {
        section id="text-over-training" aria-labelledby="text-title" { "\n"
            h2 id="text-title" { "A text over training" } "\n"
            p.soft {
                "The loss of each token at one snapshot less that at another (the paper's figure \
                F8), and two tokens over all of training (F9)."
            } "\n"
            div.controls { "\n"
                label { "Model " select id="t-model" {} } "\n"
                (range("A", "t-before")) "\n"
                (range("B", "t-after")) "\n"
            } "\n"
            div.sides { "\n"
                div { "\n"
                    (tokens("t-tokens", "t-said"))
                } "\n"
                div.panel {
                    h4 { "Two tokens, and the mean of all" }
                    div id="t-plot" class="plot" {}
                } "\n"
            } "\n"
        } "\n"
    }
}

/// A choice of a snapshot, and beside it which one is chosen.
fn range(name: &str, id: &str) -> Markup {
    html! {
        label.range {
            (name) " " input type="range" id=(id) min="0" step="1"; " "
            output id={ (id) "-said" } for=(id) {}
        }
    }
}

/// A text whose tokens can be chosen, and what is said about the one that is.
fn tokens(id: &str, said: &str) -> Markup {
    html! {
        div id=(id) class="tokens" tabindex="0" role="listbox" aria-label="Tokens" {} "\n"
        p id=(said) aria-live="polite" {} "\n"
    }
}

fn map() -> Markup {
    html! {
        fieldset.kinds {
            legend { "Map: rows attend, columns are attended to" }
            label {
                input type="radio" name="x-kind" value="attention" checked; " attention"
            } " "
            label {
                input type="radio" name="x-kind" value="attribution";
                " added to the next token's logit"
            }
        } "\n"
        canvas id="x-map" class="map" role="img"
            aria-label="The map of the head on the text; the list beside it says the same token by \
                token" {} "\n"
        p id="x-map-said" class="soft" {
            "Point at the map to read it; click to hold a row in the text."
        } "\n"
    }
}
