//! Scans for a reader at a terminal.

use std::fmt::Write;

use induction_metrics::{CopyingCeiling, RoleThresholds};
use induction_records::{
    CutHeads, CutOn, ModelScan, PathFrom, PathsAgree, Reads, RemovedKind, ScanHead, StandsOut,
};

use super::{Onset, Scan, onset};

/// Heads in the table.
const ROWS: usize = 12;

/// Of [`scan`](super::scan).
pub fn of_tokens(scan: &Scan) -> String {
    let mut text = String::from("layer head  prefix matching  copying  previous token\n");
    for row in &scan.heads {
        let score = |name| row.score(name);
        let _ = writeln!(
            text,
            "{:>5} {:>4}  {:>15.3}  {:>7.3}  {:>14.3}",
            row.layer,
            row.head,
            score("prefix_matching"),
            score("copying"),
            score("previous_token")
        );
    }
    let mean = scan.nll.iter().sum::<f32>() / scan.nll.len() as f32;
    let _ = write!(text, "mean loss {mean:.4} nats over {} tokens", scan.nll.len());
    text
}

/// Of [`scan_model`](super::scan_model): the whole of one, a line of each of several.
pub fn of_models(scans: &[ModelScan]) -> String {
    match scans {
        [one] => of_model(one),
        several => {
            let width =
                several.iter().map(|scan| scan.model.name.chars().count()).max().unwrap_or(0);
            let mut text = format!(
                "{:<width$}  best prefix matching  loss, first copy  second copy  ICL score\n",
                "model"
            );
            for scan in several {
                let best = best(scan, "prefix_matching");
                let icl =
                    scan.icl.as_ref().map_or("-".to_string(), |icl| format!("{:.3}", icl.score));
                let _ = writeln!(
                    text,
                    "{:<width$}  {:>5}.{:<2} {:>11.3}  {:>16.3}  {:>11.3}  {icl:>9}",
                    scan.model.name,
                    best.layer,
                    best.head,
                    best.score("prefix_matching"),
                    scan.repeated.first,
                    scan.repeated.second
                );
            }
            let limit = RoleThresholds::default().prefix_matching;
            if let Some(Onset { before, after }) = onset(several, limit) {
                let _ = writeln!(
                    text,
                    "heads that match prefixes came between steps {} ({:.3}) and {} ({:.3})",
                    before.0, before.1, after.0, after.1
                );
            }
            for scan in several {
                for warning in &scan.how.warnings {
                    let _ = writeln!(text, "warning, {}: {warning}", scan.model.name);
                }
            }
            text.trim_end().to_string()
        }
    }
}

fn best<'a>(scan: &'a ModelScan, name: &str) -> &'a ScanHead {
    scan.heads
        .iter()
        .max_by(|a, b| a.score(name).total_cmp(&b.score(name)))
        .expect("a model has heads")
}

fn how_run(scan: &ModelScan) -> String {
    let (m, how) = (&scan.model, &scan.how);
    let mut text = format!("start token {} ({})", how.start, how.start_said());
    let _ = match how.declared_ctx {
        Some(declared) => {
            write!(text, ", context {} (of {declared} in its files)", m.n_ctx)
        }
        None => write!(text, ", context {}", m.n_ctx),
    };
    text += if how.tied_embeddings { ", embeddings tied" } else { ", embeddings not tied" };
    if !how.ignored.is_empty() {
        let _ = write!(text, "\nnot needed: {}", how.ignored.join(", "));
    }
    for warning in &how.warnings {
        let _ = write!(text, "\nwarning: {warning}");
    }
    text + "\n"
}

/// A probability, which may be next to nothing.
fn share(probability: f64) -> String {
    match probability {
        p if p > 0.0 && p < 1e-3 => format!("{p:.1e}"),
        p => format!("{p:.3}"),
    }
}

/// Heads that stand out, the first few of each measure.
fn who_stands_out(scan: &ModelScan) -> String {
    const NAMED: usize = 5;
    let mut text = String::new();
    for (measure, what) in StandsOut::MEASURES {
        let of: Vec<&StandsOut> = scan.roles.iter().filter(|of| of.measure == measure).collect();
        if scan.heads.iter().all(|head| head.measure(measure).is_none()) {
            continue;
        }
        let one = |of: &&StandsOut| {
            format!("{}.{} {:+.3} ± {:.3}", of.layer, of.head, of.effect, of.margin)
        };
        let mut named: Vec<String> = of.iter().take(NAMED).map(one).collect();
        if named.is_empty() {
            named.push("none".to_string());
        }
        let more = match of.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let unit = if measure.ends_with("_nats") { " (nats)" } else { "" };
        let _ = writeln!(text, "  {what}{unit}: {}{more}", named.join(", "));
    }
    if text.is_empty() {
        return text;
    }
    let heads = scan.heads.len();
    format!(
        "\nwhat heads do, as far as they stand out among all {heads}: the score less the mean of the other heads of the layer, 95 % intervals for all heads together\n{text}\n"
    )
}

/// What heads are worth without their induction pattern, a line for each set.
fn worth(scan: &ModelScan) -> String {
    let mut text = String::new();
    for CutHeads { is_control, heads, worth } in &scan.cut {
        let which = match (heads.len(), is_control) {
            (1, false) => "the head that matches prefixes best".to_string(),
            (count, false) => format!("the {count} heads that match prefixes best"),
            (1, true) => "another head of its layer".to_string(),
            (count, true) => format!("{count} others of their layers"),
        };
        let on = worth.iter().map(|of| {
            let what = match of.on {
                CutOn::Repeats => "repeated random tokens",
                CutOn::Text => "copied tokens of prose",
                CutOn::Patterns => "labels of patterns",
            };
            let error = |stderr: Option<f64>| {
                stderr.map_or_else(String::new, |e| format!(" ± {:.3}", 1.96 * e))
            };
            format!(
                "{what} {:+.3}{} ({:+.3}{})",
                of.cut,
                error(of.cut_stderr),
                of.removed,
                error(of.removed_stderr)
            )
        });
        let on: Vec<String> = on.collect();
        let _ = writeln!(text, "  {which}: {}", on.join(", "));
    }
    match text.is_empty() {
        true => text,
        false => format!(
            "by how much the loss rises with heads' induction pattern cut (with the heads removed), in nats:\n{text}"
        ),
    }
}

/// What feeds each head, the first few parts of each kind.
fn fed(scan: &ModelScan) -> String {
    const NAMED: usize = 4;
    let mut text = String::new();
    for of in &scan.paths {
        let _ = writeln!(
            text,
            "what feeds {}.{}, by patching paths: it attends {:.3} to what followed the earlier copy, and raises the next token by {:+.2} logits; what is lost of either",
            of.layer, of.head, of.attention, of.raises
        );
        for PathsAgree { into, rank_correlation } in &of.agreement {
            let mut paths: Vec<&PathFrom> =
                of.paths.iter().filter(|path| path.into == *into).collect();
            // Shares of next to nothing say nothing: of what is raised the logits.
            let lost = |path: &PathFrom| match into {
                Reads::Values => (path.exact, path.exact_stderr),
                _ => (path.lost * of.attention, path.lost_stderr.map(|e| e * of.attention)),
            };
            paths.sort_by(|a, b| lost(b).0.total_cmp(&lost(a).0));
            let one = |path: &&PathFrom| {
                let (lost, stderr) = lost(path);
                let error = stderr.map_or_else(String::new, |e| format!(" ± {:.3}", 1.96 * e));
                format!("{} {lost:+.3}{error}", path.part())
            };
            let named: Vec<String> = paths.iter().take(NAMED).map(one).collect();
            let agreement = rank_correlation
                .map_or_else(String::new, |r| format!(" (first order: rank correlation {r:+.2})"));
            let _ = writeln!(text, "  {into}: {}{agreement}", named.join(", "));
        }
    }
    text
}

fn of_model(scan: &ModelScan) -> String {
    let m = &scan.model;
    let layers =
        if m.n_layers == 1 { "1 layer".to_string() } else { format!("{} layers", m.n_layers) };
    let params = match m.n_params as f64 {
        few if few < 1e6 => format!("{:.0}k", few / 1e3),
        many => format!("{:.0}M", many / 1e6),
    };
    let mut text = format!(
        "{}: {}, {layers} of {} heads, d_model {}, {params} parameters ({})\n",
        m.name, m.family, m.n_heads, m.d_model, m.encoding
    );
    text += &how_run(scan);
    text.push('\n');
    let mut heads: Vec<&ScanHead> = scan.heads.iter().collect();
    heads.sort_by(|a, b| b.score("prefix_matching").total_cmp(&a.score("prefix_matching")));
    text += "layer head  prefix matching  induction pattern  copying  previous token  depth";
    for of in &scan.causes {
        let _ = write!(text, "  {}", of.cause.verb());
    }
    text.push('\n');
    for head in heads.iter().take(ROWS) {
        let _ = write!(
            text,
            "{:>5} {:>4}  {:>15.3}  {:>17.3}  {:>7.3}  {:>14.3}  {:>5.2}",
            head.layer,
            head.head,
            head.score("prefix_matching"),
            head.score("induction_head_mul"),
            head.score("copying"),
            head.score("previous_token"),
            (head.layer + 1) as f64 / m.n_layers as f64
        );
        for of in &scan.causes {
            let width = of.cause.verb().len();
            let _ = write!(text, "  {:>+width$.3}", head.score(of.cause.nats()));
        }
        text.push('\n');
    }
    if heads.len() > ROWS {
        let _ =
            writeln!(text, "(the {ROWS} that match prefixes best; --out has all {})", heads.len());
    }
    if let Some(CopyingCeiling { ceiling, chance }) = scan.copying_ceiling {
        let _ = writeln!(
            text,
            "the copying score is {chance:.3} of a head that raises all tokens alike, and {ceiling:.3} of a perfect copier of {} dimensions",
            m.d_head
        );
    }
    text += &who_stands_out(scan);
    let previous = best(scan, "previous_token");
    let limit = RoleThresholds::default().prefix_matching;
    let matching = heads.iter().filter(|head| head.score("prefix_matching") > limit).count();
    let _ = writeln!(
        text,
        "{matching} of {} heads match prefixes (above {limit}); best previous-token head {}.{}, {:.3}\n",
        heads.len(),
        previous.layer,
        previous.head,
        previous.score("previous_token")
    );
    let _ = writeln!(
        text,
        "repeated random tokens: {:.3} nats a token the first time, {:.3} the second",
        scan.repeated.first, scan.repeated.second
    );
    for of in &scan.causes {
        let nats = of.cause.nats();
        let best = best(scan, nats);
        let error = best.measure(&format!("{nats}_stderr"));
        let error = error.map_or_else(String::new, |e| format!(" ± {:.3}", 1.96 * e));
        let carried =
            of.with.map_or_else(String::new, |with| format!(", {} where it is told", share(with)));
        let matching = of.matching.map_or_else(String::new, |with| {
            format!(
                "; over all heads, rank correlation with prefix matching {:+.2} ({:+.2} to {:+.2})",
                with.rank_correlation, with.low, with.high
            )
        });
        let _ = writeln!(
            text,
            "{}, {} prompts: probability {}{carried}; most by a head alone: {}.{} {:+.3}{error} nats{matching}",
            of.cause.title(),
            of.prompts,
            share(of.plain),
            best.layer,
            best.head,
            best.score(nats)
        );
    }
    text += &worth(scan);
    text += &fed(scan);
    if let Some(loss) = scan.how.prompt_loss {
        let _ = writeln!(text, "the prompts, one after the other: {loss:.3} nats a token");
    }
    for removed in scan.ablation.iter().flat_map(|ablation| &ablation.sets) {
        let what = match removed.kind {
            RemovedKind::Induction => "these heads",
            RemovedKind::Matched => "as many others of the same layers",
            RemovedKind::Any => "as many others of any layer",
        };
        let icl = removed.icl.map_or_else(String::new, |icl| format!("; ICL score {icl:+.3}"));
        let _ = writeln!(
            text,
            "  without {what} ({}): {:.3} the second time ({:+.3}){icl}",
            removed.heads.len(),
            removed.second,
            removed.second_change
        );
    }
    if let Some(icl) = &scan.icl {
        let error = icl.stderr.map_or_else(String::new, |e| format!(" ± {:.3}", 1.96 * e));
        let _ = writeln!(
            text,
            "ICL score on {} windows of {}: {:+.3}{error} nats",
            icl.examples, icl.text, icl.score
        );
    }
    for name in ["literal copying", "translation", "pattern matching"] {
        let rows = scan.behaviours.iter().filter(|row| row.behaviour == name);
        let Some(best) = rows.max_by(|a, b| a.share.total_cmp(&b.share)) else { continue };
        let literal = best.literal_share_among.map_or_else(String::new, |share| {
            format!(", by copying literally {:.0} %", 100.0 * share)
        });
        let _ = writeln!(
            text,
            "{name}: head {}.{} has {:.0} % of its attention on right places (chance {:.0} %), {:.0} % of that on places of the kind (chance {:.0} %{literal}), from {} positions",
            best.layer,
            best.head,
            100.0 * best.share,
            100.0 * best.chance,
            100.0 * best.share_among,
            100.0 * best.chance_among,
            best.queries
        );
    }
    text.trim_end().to_string()
}
