//! Runs' measurements become claims, figures and a page: `cargo run -p induction-report --example
//! report [-- DIR]`
//!
//! With a folder that `induction reproduce` made, its report is built again. Without one, of two
//! runs that were never trained: their tables are written here, a 2-layer model whose scores change
//! at 3M tokens and a 1-layer model whose scores do not.
//!
//! ```text
//! Q1  Before the phase change there is little in-context learning                   ● reproduced
//! Q2  After it, in-context learning is at its full strength                         ● reproduced
//! Q3  The change forms most of the final in-context learning                        ● reproduced
//! Q4  The change is abrupt, and no artefact of the schedule                         ● reproduced
//! Q5  One layer forms no induction heads and learns little in context               ● reproduced
//! Q6  Induction heads form in the same window                                       ● reproduced
//! Q7  The loss has a bump there, and leaves the 1-layer curve                       ● reproduced
//! Q8  The models' losses change direction at the phase change                       ○ not
//! Q15 Heads that match prefixes are more likely to copy                             ○ not
//! Q16 Copying and prefix matching can be told from the weights                      ◐ partly
//! Q22 Before the change the loss is flat in the late context, after it it falls     ● reproduced
//! K2  The previous-token head comes first, then the circuit                         ● reproduced
//! L1  The change is in the tokens that an earlier copy foretells                    ● reproduced
//! 25 claims need other runs
//! the page, with its figures: 1857 KB
//! ```
#![allow(clippy::unwrap_used, reason = "its test")]
#![allow(clippy::print_stdout, reason = "an example shows its result")]

use std::{collections::BTreeMap, fs, path::Path};

use induction_metrics::{CopyingCeiling, Role};
use induction_model::ModelConfig;
use induction_records::{
    BestHead, CeilingOfText, CopyRow, DataSpec, EvaluationSpec, FORMAT, HeadRow, IclRow, LossRow,
    MEASUREMENTS, MeasuredFrom, RandomTokenRow, RunSpec, SPEC, SnapshotSpec, StepRow, Summary,
    TrainSpec, write_json, write_rows,
};
use induction_report::Verdict;

fn spec(n_layers: usize) -> RunSpec {
    RunSpec {
        format: FORMAT,
        name: format!("{n_layers}L"),
        seed: 0,
        data: DataSpec::Corpus {
            text: "a-text.txt".into(),
            held_out: 0.1,
            blake3: None,
            control: None,
        },
        model: ModelConfig { n_layers, n_heads: 1, d_model: 32, d_head: 32, ..Default::default() },
        train: TrainSpec { warmup_steps: 1, ..TrainSpec::new(10_000_000, 200, 0.01) },
        snapshots: SnapshotSpec { every: 1 },
        evaluation: EvaluationSpec {
            examples: 4,
            icl_early: 50,
            icl_late: 500,
            icl_half_width: 5,
            head_examples: 10,
            ablation_examples: 4,
            ablation_every: 0,
            weights_every: 1,
            prefix_block: 25,
            prefix_repeats: 4,
        },
    }
}

/// Writes what measuring leaves of a run of 100 snapshots, one every 100k tokens.
fn made_up(run: &Path, n_layers: usize) -> Result<(), Box<dyn std::error::Error>> {
    let tables = run.join(MEASUREMENTS);
    fs::create_dir_all(&tables)?;
    let spec = spec(n_layers);
    fs::write(run.join(SPEC), spec.to_toml())?;
    let (mut steps, mut icl, mut losses, mut copies) = (vec![], vec![], vec![], vec![]);
    let (mut random_tokens, mut heads) = (vec![], vec![]);
    for step in 0..=100 {
        let tokens = step * 100_000;
        // From 0 to 1 around 3M tokens.
        let change = 1.0 / (1.0 + (15.0 - step as f64 / 2.0).exp());
        let formed = if n_layers == 2 { change } else { 0.0 };
        let score = -0.02 - 0.34 * formed;
        let loss = 5.0 - 0.5 * (step as f64 + 1.0).ln() + score;
        let examples = |middle: f64| [-0.01, -0.005, 0.005, 0.01].map(|off| middle + off).to_vec();
        let loss_by_index: Vec<f64> =
            (1..=512).map(|index| loss - score + score * f64::from(index).ln() / 6.2).collect();
        if step > 0 {
            let [lr, grad_norm, tokens_per_s] = [0.01, 1.0, 1e5];
            steps.push(StepRow { step, tokens, loss, lr, grad_norm, tokens_per_s });
        }
        icl.push(IclRow {
            step,
            tokens,
            icl_score: score,
            stderr: Some(0.004),
            by_example: examples(score),
            same_token_score: score,
            same_token_stderr: Some(0.004),
            same_token_by_example: examples(score),
            same_token_by_index: vec![score; 62],
            late_slope: score / 2.3,
            late_slope_by_example: examples(score / 2.3),
        });
        losses.push(LossRow {
            step,
            tokens,
            loss,
            loss_by_index,
            by_example: examples(loss),
            derivative_index: vec![],
            d_loss_d_ln_index: vec![],
            icl_sensitivity: vec![],
        });
        copies.push(CopyRow {
            step,
            tokens,
            foretold_loss: 4.0 - formed,
            others_loss: 4.0,
            foretold_by_example: examples(400.0 - 100.0 * formed),
            others_by_example: examples(1640.0),
            n_foretold_by_example: vec![100; 4],
            n_others_by_example: vec![410; 4],
        });
        let random = examples(6.0 - formed);
        random_tokens.push(RandomTokenRow { step, tokens, loss: 6.0 - formed, losses: random });
        for layer in 0..n_layers {
            let [prefix, previous] =
                if layer == 1 { [0.02 + 0.8 * formed, 0.1] } else { [0.02, 0.7] };
            let later = |score: f64| (layer > 0).then_some(score);
            let scores = [
                ("prefix_matching", Some(prefix)),
                ("prefix_matching_stderr", Some(0.003)),
                ("copying", Some(prefix)),
                ("previous_token", Some(previous)),
                ("ov_copying", Some(prefix)),
                ("qk_trace", later(400.0 * prefix)),
                ("k_composition_recall", later(prefix)),
            ];
            let scores = scores.map(|(name, score)| (name.to_string(), score)).into();
            heads.push(HeadRow { step, tokens, layer, head: 0, role: Role::Other, scores });
        }
    }
    write_rows(run, &mut steps)?;
    write_rows(&tables, &mut icl)?;
    write_rows(&tables, &mut losses)?;
    write_rows(&tables, &mut copies)?;
    write_rows(&tables, &mut random_tokens)?;
    write_rows(&tables, &mut heads)?;
    let made = MeasuredFrom {
        measures: 1,
        spec_hash: spec.training_hash(),
        engine: "none".to_string(),
        evaluation: spec.evaluation,
        snapshots: BTreeMap::new(),
    };
    write_json(&tables.join(MeasuredFrom::FILE), &made)?;
    let summary = Summary {
        window: None,
        no_window: None,
        loss_bumps: vec![],
        best_head: BestHead {
            layer: n_layers - 1,
            head: 0,
            prefix_matching: 0.82,
            half_time_tokens: None,
            change_point_tokens: None,
        },
        observed_onset_tokens: None,
        predicted_onset_tokens: 1e8,
        ceiling: CeilingOfText {
            loss: 2.0,
            icl_score: -0.5,
            stderr: Some(0.01),
            loss_by_index: vec![],
            bigram_loss: 3.0,
            bigram_icl_score: 0.0,
        },
        copying_ceiling: CopyingCeiling { ceiling: 0.7, chance: -0.1 },
        passes: Some(0.5),
    };
    Ok(write_json(&tables.join(Summary::FILE), &summary)?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if let Some(dir) = std::env::args_os().nth(1) {
        return show(dir.as_ref());
    }
    let folder = tempfile::tempdir()?;
    for n_layers in 1..=2 {
        made_up(&folder.path().join(format!("runs/{n_layers}L")), n_layers)?;
    }
    show(folder.path())
}

/// Builds a report and shows what it says.
fn show(dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let report = induction_report::build(dir)?;
    // `induction_report::table` shows each with what the paper has, what was found, its interval
    // and its reason.
    let (told, not) =
        report.claims.iter().partition::<Vec<_>, _>(|claim| claim.verdict != Verdict::OutOfReach);
    for claim in told {
        println!(
            "{:3} {:77} {} {}",
            claim.id,
            claim.title,
            claim.verdict.symbol(),
            claim.verdict.word()
        );
    }
    println!("{} claims need other runs", not.len());
    println!("the page, with its figures: {} KB", fs::metadata(&report.page)?.len() / 1024);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_made_up_runs_make_a_report() {
        let folder = tempfile::tempdir().unwrap();
        (1..=2).for_each(|n| made_up(&folder.path().join(format!("runs/{n}L")), n).unwrap());
        show(folder.path()).unwrap();
    }
}
