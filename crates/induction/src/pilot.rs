//! The search behind the defaults: small runs that differ from the base in one choice each, and a
//! table of what they did.

use std::path::{Path, PathBuf};

use induction_metrics::{IclIndices, half_time};
use induction_model::ModelConfig;
use induction_records::{
    FORMAT, HeadRow, IclRow, LossRow, Manifest, PlannedRun, RunSpec, Text, read_rows,
};
use serde::Serialize;

use crate::{
    Error,
    executor::{Executor, Task},
    plan::{Base, Scale},
    progress::Screen,
    reproduce::prepare,
};

/// Tokens that each run of the search gets.
pub const TOKENS: u64 = 6_000_000;

/// The seed of the search: none that a claim is judged on.
pub const SEED: u64 = 10;

/// The search: the laptop's models with one choice changed at a time. First what the families'
/// settings come from, the learning rate by depth and family and the batch; then what else could be
/// otherwise, on 2 attention-only layers.
///
/// Tokens a step stay where the context changes; the width of a head stays, whatever the model's.
pub fn plan(text: &Text, seed: u64, tokens: u64) -> Manifest {
    type Change = fn(&mut RunSpec);
    const FAMILIES: [(usize, bool); 5] = [(2, false), (3, false), (6, false), (2, true), (6, true)];
    const RATES: [(&str, Change); 4] = [
        ("lr-0.0025", |spec| spec.train.lr = 2.5e-3),
        ("lr-0.005", |spec| spec.train.lr = 5e-3),
        ("lr-0.01", |spec| spec.train.lr = 1e-2),
        ("lr-0.02", |spec| spec.train.lr = 2e-2),
    ];
    const TWO: [(&str, Change); 13] = [
        ("batch-2", |spec| spec.train.batch = 2),
        ("batch-4", |spec| spec.train.batch = 4),
        ("batch-16", |spec| spec.train.batch = 16),
        ("no-decay", |spec| spec.train.decay_share = 0.0),
        ("gain-all-1", |spec| spec.model.pos_gain_init = [1.0, 1.0]),
        ("gain-0.03", |spec| spec.model.pos_gain_init = [1.0, 0.03]),
        ("gain-first-3", |spec| spec.model.pos_gain_init = [3.0, 0.1]),
        ("context-256", |spec| context(spec, 256)),
        ("context-128", |spec| context(spec, 128)),
        ("vocab-256", |spec| spec.model.d_vocab = 258),
        ("vocab-1024", |spec| spec.model.d_vocab = 1024),
        ("width-64", |spec| width(spec, 64)),
        ("width-256", |spec| width(spec, 256)),
    ];
    let base = Base::of(Scale::Laptop, text, seed);
    let row = |layers: usize, mlp: bool, name: &str, change: Change| {
        let mut spec = base.run(layers, mlp, false);
        change(&mut spec);
        spec.train.tokens = tokens;
        spec.name = format!("{}-{name}", spec.name);
        spec.snapshots.every = spec.steps().div_ceil(24);
        spec.evaluation.examples = 256;
        spec.evaluation.head_examples = 20;
        spec.evaluation.ablation_every = 0;
        PlannedRun {
            series: vec![if mlp { "with MLPs" } else { "attention-only" }.to_string()],
            hash: None,
            spec,
        }
    };
    let rates = FAMILIES
        .iter()
        .flat_map(|&(layers, mlp)| RATES.map(|(name, change)| row(layers, mlp, name, change)));
    let runs = rates.chain(TWO.map(|(name, change)| row(2, false, name, change))).collect();
    Manifest { format: FORMAT, name: "pilot".into(), rules: None, runs }
}

fn context(spec: &mut RunSpec, n_ctx: usize) {
    spec.train.batch = spec.train.batch * spec.model.n_ctx / n_ctx;
    spec.model.n_ctx = n_ctx;
    let icl = IclIndices::for_context(n_ctx).expect("the search's contexts are long enough");
    (spec.evaluation.icl_early, spec.evaluation.icl_late) = (icl.early, icl.late);
    spec.evaluation.icl_half_width = icl.half_width;
}

fn width(spec: &mut RunSpec, d_model: usize) {
    let ModelConfig { d_head, .. } = spec.model;
    spec.model.d_model = d_model;
    spec.model.n_heads = d_model / d_head;
}

/// What one run of the search did: a line of `pilot.jsonl`.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The run's name.
    pub name: String,
    /// Tokens that it learned from.
    pub tokens: u64,
    /// Highest prefix matching of a head at the snapshots nearest to a third, two thirds and the
    /// end.
    pub prefix_matching: [f64; 3],
    /// The layer of the best head at the end, from 0.
    pub layer: usize,
    /// When the highest prefix matching was half of its end, in tokens, if it ended above 0.1.
    pub half_time: Option<f64>,
    /// Same-token ICL score at the end, in nats.
    pub icl_score: f64,
    /// Held-out loss at the end, in nats a token; not comparable between vocabularies.
    pub loss: f64,
}

/// What the search found.
#[derive(Clone, Debug, Serialize)]
pub struct Pilot {
    /// Each run, in the order of the plan.
    pub runs: Vec<Outcome>,
    /// The table for people.
    pub table: PathBuf,
}

/// Works off the search, as far as it is not done, and writes `pilot.jsonl` and `pilot.md`.
///
/// # Errors
/// As [`crate::reproduce::reproduce`].
pub fn pilot(
    manifest: &Manifest,
    out: &Path,
    executor: &dyn Executor,
    screen: &Screen,
) -> Result<Pilot, Error> {
    let mut tasks = prepare(manifest, None, out, screen)?;
    let names: Vec<String> = tasks.iter().map(|task| task.spec.name.clone()).collect();
    tasks.sort_by_cached_key(|task| {
        std::cmp::Reverse(crate::predict::Cost::of(&task.spec).flop.train as u128)
    });
    if let Some(first) = executor.execute(&tasks, &|_| {}).into_iter().next() {
        return Err(first.error);
    }
    tasks.sort_by_key(|task| names.iter().position(|name| *name == task.spec.name));
    let runs = tasks.iter().map(outcome).collect::<Result<Vec<_>, _>>()?;
    let mut lines = Vec::new();
    let mut text = String::from(
        "| run | prefix matching at 1/3, 2/3, end | layer | half-way at | same-token ICL | loss |\n|---|---|---|---|---|---|\n",
    );
    for run in &runs {
        serde_json::to_writer(&mut lines, run).expect("plain structs serialize");
        lines.push(b'\n');
        let [first, second, end] = run.prefix_matching;
        let half = run.half_time.map_or("–".to_string(), |at| format!("{:.1}M", at / 1e6));
        text += &format!(
            "| {} | {first:.2} {second:.2} **{end:.2}** | {} | {half} | {:.2} | {:.2} |\n",
            run.name, run.layer, run.icl_score, run.loss
        );
    }
    let table = out.join("pilot.md");
    for (path, bytes) in
        [(out.join("pilot.jsonl"), lines.as_slice()), (table.clone(), text.as_bytes())]
    {
        induction_files::write_atomic(&path, bytes).map_err(Error::io(&path))?;
    }
    Ok(Pilot { runs, table })
}

fn outcome(task: &Task) -> Result<Outcome, Error> {
    let folder = task.run.join("measurements");
    let heads: Vec<HeadRow> = read_rows(&folder)?;
    let icl: Vec<IclRow> = read_rows(&folder)?;
    let losses: Vec<LossRow> = read_rows(&folder)?;
    let steps = task.spec.snapshot_steps();
    let best_at = |step: u64| {
        let of = heads.iter().filter(|row| row.step == step);
        let best =
            of.max_by(|a, b| a.score("prefix_matching").total_cmp(&b.score("prefix_matching")));
        best.map_or((f64::NAN, 0), |row| (row.score("prefix_matching"), row.layer))
    };
    let near = |share: f64| {
        let at = share * task.spec.steps() as f64;
        steps
            .iter()
            .copied()
            .min_by_key(|step| (*step as f64 - at).abs() as u64)
            .unwrap_or_default()
    };
    let (tokens, best): (Vec<u64>, Vec<f64>) =
        steps.iter().map(|&step| (step * task.spec.tokens_per_step(), best_at(step).0)).unzip();
    let (end, layer) = best_at(task.spec.steps());
    let [icl, loss] =
        [icl.last().map(|row| row.same_token_score), losses.last().map(|row| row.loss)]
            .map(|last| last.expect("a table that was read has a line"));
    Ok(Outcome {
        name: task.spec.name.clone(),
        tokens: task.spec.steps() * task.spec.tokens_per_step(),
        prefix_matching: [best_at(near(1.0 / 3.0)).0, best_at(near(2.0 / 3.0)).0, end],
        layer,
        half_time: half_time(&tokens, &best).ok().flatten().filter(|_| end > 0.1),
        icl_score: icl,
        loss,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two tiny models through the search itself: the table holds what their measurements say.
    #[test]
    fn the_search_writes_its_tables() {
        use induction_records::DataSpec;

        let folder = tempfile::tempdir().unwrap();
        let mut runs = plan(&"text".into(), 0, TOKENS).runs;
        runs.truncate(2);
        for row in &mut runs {
            let spec = &mut row.spec;
            spec.data = DataSpec::repeats(3, 8);
            spec.model = ModelConfig {
                d_model: 16,
                n_heads: 2,
                d_head: 8,
                d_vocab: 16,
                ..spec.model.clone()
            };
            context(spec, 32);
            (spec.train.batch, spec.train.tokens, spec.snapshots.every) = (2, 64 * 12, 4);
            (
                spec.evaluation.examples,
                spec.evaluation.head_examples,
                spec.evaluation.prefix_block,
            ) = (4, 2, 5);
        }
        let manifest = Manifest { format: FORMAT, name: "pilot".into(), rules: None, runs };
        let console = crate::progress::Console::quiet();
        let device = crate::device::Device::Cpu;
        let executor =
            crate::executor::Local { jobs: 2, threads_per_job: 1, device, console: &console };
        let found = pilot(&manifest, folder.path(), &executor, &console.screen).unwrap();
        let names: Vec<&str> = found.runs.iter().map(|run| run.name.as_str()).collect();
        assert_eq!(names, ["2L-lr-0.0025", "2L-lr-0.005"]);
        let run = &found.runs[0];
        let heads: Vec<HeadRow> =
            read_rows(&folder.path().join("runs/2L-lr-0.0025/measurements")).unwrap();
        let best = |step: u64| {
            let scores =
                heads.iter().filter(|row| row.step == step).map(|row| row.score("prefix_matching"));
            scores.fold(0.0, f64::max)
        };
        assert_eq!((run.tokens, run.prefix_matching), (64 * 12, [best(4), best(8), best(12)]));
        let table = std::fs::read_to_string(found.table).unwrap();
        assert!(
            table.contains(&format!("| 2L-lr-0.0025 | {:.2} ", best(4)))
                && table.lines().count() == 4,
            "{table}"
        );
        assert_eq!(
            std::fs::read_to_string(folder.path().join("pilot.jsonl")).unwrap().lines().count(),
            2
        );
    }

    #[test]
    fn the_search_is_valid_and_keeps_tokens_a_step_but_where_the_batch_is_asked() {
        let manifest = plan(&"text".into(), 0, TOKENS);
        manifest.check().unwrap();
        let changed = |row: &&PlannedRun| row.spec.name.contains("batch");
        assert!(
            manifest
                .runs
                .iter()
                .filter(|row| !changed(row))
                .all(|row| row.spec.tokens_per_step() == 4096)
        );
        assert_eq!(manifest.runs.len(), 5 * 4 + 13);
    }
}
