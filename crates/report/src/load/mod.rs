//! Run folders into [`Run`]s. Everything is checked here, so that nothing downstream meets an
//! unvalidated number. What the files are, `induction-records` says.

mod explore;
mod history;
mod scan;
mod staged;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use induction_metrics::CopyingCeiling;
use induction_records::{
    AblatedFrom, AblationRow, CeilingOfText, Change, CopyRow, Downstream, HeadId, HeadRow, IclRow,
    KnockoutRow, LossRow, MEASUREMENTS, MeasuredFrom, Optimum, RandomTokenRow, Row, RunSpec, SPEC,
    Stage, StepRow, Summary, read_json, read_rows, step_file,
};
use ndarray::Array2;
use safetensors::{Dtype, SafeTensors};

use self::explore::load_explored;
pub use self::explore::{Explored, Maps, Prompt};
pub use self::scan::{Scan, load_scan, load_scans, parse_scan, scan_of};
pub use self::staged::Staged;
use self::staged::load_staged;
use crate::ReportError;
use crate::text::visible;

/// One head's scores at one snapshot: of a line of `heads.jsonl`, what the report judges.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct HeadScore {
    /// From 0.
    pub layer: usize,
    /// From 0.
    pub head: usize,
    /// The prefix-matching score (paper.md, 3).
    pub prefix_matching: f64,
    /// Its standard error over examples; `None` where there was only one.
    pub prefix_matching_stderr: Option<f64>,
    /// The copying score (paper.md, 3).
    pub copying: f64,
    /// The previous-token score (paper.md, 3).
    pub previous_token: f64,
    /// The eigenvalue ratio of the OV circuit (paper.md, 3).
    pub ov_copying: f64,
    /// The trace of the QK circuit's previous-token term (paper.md, 3); `None` in layer 0.
    pub qk_trace: Option<f64>,
    /// How often the QK circuit, reading through earlier previous-token heads, finds the token
    /// before; `None` in layer 0.
    pub k_composition_recall: Option<f64>,
    /// What its output does to the log probability of a token that can be copied, in nats, where it is
    /// carried into a prompt in which it cannot, with its standard error; `None` in runs that were
    /// measured without it.
    pub token_copying_nats: Option<(f64, Option<f64>)>,
}

impl HeadScore {
    pub(crate) fn id(&self) -> HeadId {
        HeadId { layer: self.layer, head: self.head }
    }

    /// The scores of a row, or what it lacks.
    fn of(row: &HeadRow) -> Result<Self, String> {
        let score = |name: &str| {
            row.scores.get(name).copied().ok_or_else(|| format!("`{name}` is missing"))
        };
        let number = |name: &str| {
            score(name)?.ok_or_else(|| format!("`{name}` is null, expected a finite number"))
        };
        Ok(Self {
            layer: row.layer,
            head: row.head,
            prefix_matching: number("prefix_matching")?,
            // A single example has none, which was once written as 0.
            prefix_matching_stderr: score("prefix_matching_stderr")?.filter(|&error| error > 0.0),
            copying: number("copying")?,
            previous_token: number("previous_token")?,
            ov_copying: number("ov_copying")?,
            qk_trace: score("qk_trace")?,
            k_composition_recall: score("k_composition_recall")?,
            token_copying_nats: row
                .scores
                .get("token_copying_nats")
                .copied()
                .flatten()
                .map(|nats| (nats, row.scores.get("token_copying_nats_stderr").copied().flatten())),
        })
    }
}

/// What a table with several lines a snapshot says of one.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Point<T> {
    /// The snapshot's step.
    pub step: u64,
    /// Training tokens seen.
    pub tokens: u64,
    /// Its lines, in order.
    pub rows: Vec<T>,
}

/// Every head of a snapshot, by layer and head.
pub type HeadsPoint = Point<HeadScore>;

/// Every head of a snapshot removed in both ways, by layer and head, full first.
pub type AblationPoint = Point<AblationRow>;

/// A trained and measured run.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Run {
    /// The folder's name under `runs/`, as it is on disk.
    pub folder: String,
    /// The spec.
    pub spec: RunSpec,
    /// The spec's text.
    pub spec_text: String,
    /// `metrics.jsonl`, at least one line.
    pub metrics: Vec<StepRow>,
    /// `icl.jsonl`, at least one line.
    pub icl: Vec<IclRow>,
    /// `loss_by_index.jsonl`, at least one line, each with as many entries.
    pub losses: Vec<LossRow>,
    /// `copies.jsonl`, at least one line, each with as many entries.
    pub copies: Vec<CopyRow>,
    /// `random_tokens.jsonl`, at least one line, each with as many entries.
    pub random_tokens: Vec<RandomTokenRow>,
    /// Every loss of the last snapshot, `[example, index]`, if they were kept.
    pub last_losses: Option<Array2<f32>>,
    /// `heads.jsonl`, at least one snapshot, each with every head.
    pub heads: Vec<HeadsPoint>,
    /// Every measure of the last snapshot in that table by name, without standard errors and means
    /// over fewer examples: one an head, in the order of `heads`; `None` where a head has none.
    pub last_measures: BTreeMap<String, Vec<Option<f64>>>,
    /// `ablations.jsonl`, each snapshot with every head; empty if the run is not ablated.
    pub ablations: Vec<AblationPoint>,
    /// How the losses moved over the phase change; nothing if it did not come, or the run is not
    /// ablated.
    pub change: Option<Change>,
    /// `knockouts.jsonl`; empty if the run is not ablated.
    pub knockouts: Vec<KnockoutRow>,
    /// What its heads do on a text and on prompts, if that was looked at.
    pub explored: Option<Explored>,
    /// How far its predictions are from simple ones, and what weights count; nothing in a run that
    /// was measured without.
    pub staged: Option<Staged>,
    /// What trained it, where and for how long, in words, if that was kept.
    pub made: Option<String>,
    /// What a bigram with in-context matches gains on the same text.
    pub ceiling: CeilingOfText,
    /// What the ideal predictor of synthetic data and simpler ones reach on the same examples;
    /// `None` for a text, and in runs that were measured without it.
    pub optimum: Option<Optimum>,
    /// What heads of this width can reach of the copying score.
    pub copying_ceiling: CopyingCeiling,
    /// How often each token of the text was read, on average; `None` for endless data.
    pub passes: Option<f64>,
    /// `meta.json`: what the tables were made with.
    pub meta: MeasuredFrom,
}

impl Run {
    /// The name for people: inert in a terminal and on a page.
    pub fn label(&self) -> String {
        visible(&self.folder)
    }

    /// The knockouts of a name, in the order of the table.
    pub(crate) fn knockout<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a KnockoutRow> {
        self.knockouts.iter().filter(move |knockout| knockout.name == name)
    }

    /// Training tokens at the last measured snapshot.
    pub fn measured_tokens(&self) -> u64 {
        self.icl.last().map_or(0, |row| row.tokens)
    }
}

/// Reads every run folder of `dir/runs`, ordered by folder name.
///
/// Folders whose name starts with a dot are somebody's temporaries and left out.
///
/// # Errors
/// If there is no run, or a run's file is missing or damaged.
pub fn load_runs(dir: &Path) -> Result<Vec<Run>, ReportError> {
    let runs = dir.join("runs");
    let read = |source| ReportError::Read { path: runs.clone(), source };
    let entries = match fs::read_dir(&runs) {
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => {
            return Err(ReportError::NoRuns { path: runs });
        }
        entries => entries.map_err(read)?,
    };
    let mut folders = Vec::new();
    for entry in entries {
        let path = entry.map_err(read)?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if path.is_dir() && !hidden {
            folders.push(path);
        }
    }
    folders.sort();
    if folders.is_empty() {
        return Err(ReportError::NoRuns { path: runs });
    }
    folders.iter().map(|folder| load_run(folder)).collect()
}

/// Reads one run folder.
///
/// # Errors
/// If one of its files is missing or damaged.
pub fn load_run(folder: &Path) -> Result<Run, ReportError> {
    let Some(name) = folder.file_name().and_then(|name| name.to_str()) else {
        return Err(ReportError::Name { path: folder.to_path_buf() });
    };
    let spec_path = folder.join(SPEC);
    let spec_text = fs::read_to_string(&spec_path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => ReportError::NoSpec { path: spec_path.clone() },
        _ => ReportError::Read { path: spec_path.clone(), source },
    })?;
    let spec = RunSpec::parse(&spec_path, &spec_text)?;
    let tables = folder.join(MEASUREMENTS);
    let losses: Vec<LossRow> = read_rows(&tables)?;
    let (heads, last_measures) = load_heads(&tables, &spec)?;
    let summary: Summary = read_json(&tables.join(Summary::FILE), Stage::Measuring)?;
    Ok(Run {
        folder: name.to_string(),
        metrics: read_rows(folder)?,
        icl: read_rows(&tables)?,
        copies: read_rows(&tables)?,
        random_tokens: read_rows(&tables)?,
        last_losses: losses.last().map_or(Ok(None), |row| load_losses(&tables, row))?,
        losses,
        heads,
        last_measures,
        ablations: load_ablations(&tables, &spec)?,
        change: load_change(&tables)?,
        knockouts: load_knockouts(&tables, &spec)?,
        explored: load_explored(&tables, &spec)?,
        staged: load_staged(&tables, &spec)?,
        made: history::load_made(folder)?,
        ceiling: summary.ceiling,
        optimum: load_optimum(&tables)?,
        copying_ceiling: summary.copying_ceiling,
        passes: summary.passes,
        meta: read_json(&tables.join(MeasuredFrom::FILE), Stage::Measuring)?,
        spec,
        spec_text,
    })
}

fn load_optimum(tables: &Path) -> Result<Option<Optimum>, ReportError> {
    let path = tables.join(Optimum::FILE);
    if !path.exists() {
        return Ok(None);
    }
    Ok(Some(read_json(&path, Stage::Measuring)?))
}

/// The losses of one snapshot; `None` if they are not there.
fn load_losses(tables: &Path, row: &LossRow) -> Result<Option<Array2<f32>>, ReportError> {
    let path = tables.join("losses").join(step_file(row.step));
    if !path.exists() {
        return Ok(None);
    }
    let bytes =
        fs::read(&path).map_err(|source| ReportError::Read { path: path.clone(), source })?;
    let expected = [row.by_example.len(), row.loss_by_index.len()];
    let parse = || -> Result<Array2<f32>, String> {
        let file = SafeTensors::deserialize(&bytes).map_err(|error| visible(&error.to_string()))?;
        let tensor = file.tensor("losses").map_err(|error| error.to_string())?;
        if (tensor.dtype(), tensor.shape()) != (Dtype::F32, expected.as_slice()) {
            return Err(format!(
                "`losses` is {:?} of shape {:?}, expected F32 of {expected:?}",
                tensor.dtype(),
                tensor.shape()
            ));
        }
        let values: Vec<f32> = tensor
            .data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        if values.iter().any(|value| !value.is_finite()) {
            return Err("`losses` holds a value that is not finite".to_string());
        }
        Array2::from_shape_vec(expected, values).map_err(|error| error.to_string())
    };
    parse().map(Some).map_err(|problem| damaged(&path, 1, problem, Stage::Measuring))
}

fn damaged(path: &Path, line: usize, problem: String, stage: Stage) -> ReportError {
    induction_records::Error::Line { path: path.to_path_buf(), line, problem, stage }.into()
}

/// One number a head, by the measure's name.
type Measures = BTreeMap<String, Vec<Option<f64>>>;

fn load_heads(tables: &Path, spec: &RunSpec) -> Result<(Vec<HeadsPoint>, Measures), ReportError> {
    let rows: Vec<HeadRow> = read_rows(tables)?;
    let points = by_snapshot(tables, spec, rows, &[()], |row| (row.id(), ()))?;
    let mut measures = Measures::new();
    for row in points.last().map_or(&[][..], |point| &point.rows) {
        let averages = row
            .scores
            .iter()
            .filter(|(name, _)| !name.ends_with("_stderr") && !name.ends_with("_10"));
        for (name, value) in averages {
            let heads = spec.model.n_layers * spec.model.n_heads;
            let column = measures.entry(name.clone()).or_insert_with(|| vec![None; heads]);
            column[row.layer * spec.model.n_heads + row.head] = *value;
        }
    }
    let path = tables.join(HeadRow::FILE);
    let mut line = 0;
    let scored = points.into_iter().map(|Point { step, tokens, rows }| {
        let scores = rows.iter().map(|row| {
            line += 1;
            HeadScore::of(row).map_err(|problem| damaged(&path, line, problem, Stage::Measuring))
        });
        Ok(Point { step, tokens, rows: scores.collect::<Result<_, ReportError>>()? })
    });
    Ok((scored.collect::<Result<_, ReportError>>()?, measures))
}

fn load_ablations(tables: &Path, spec: &RunSpec) -> Result<Vec<AblationPoint>, ReportError> {
    if !tables.join(AblationRow::FILE).exists() {
        return Ok(Vec::new());
    }
    let kinds = [Downstream::Full, Downstream::PatternPreserving];
    by_snapshot(tables, spec, read_rows(tables)?, &kinds, |row: &AblationRow| {
        (row.id(), row.downstream)
    })
}

/// The rows of a table by snapshot. Refuses one that lacks a head or a kind, or has one that the
/// model has not: a maximum over some of them would pass for one over all.
fn by_snapshot<T: Row, K: PartialEq + Copy>(
    tables: &Path,
    spec: &RunSpec,
    rows: Vec<T>,
    kinds: &[K],
    of: impl Fn(&T) -> (HeadId, K),
) -> Result<Vec<Point<T>>, ReportError> {
    let [layers, heads] = [spec.model.n_layers, spec.model.n_heads];
    let each = layers * heads * kinds.len();
    let wrong = |line, problem| Err(damaged(&tables.join(T::FILE), line, problem, T::STAGE));
    let short = |point: &Point<T>| {
        format!("step {} ends with {} lines, expected {each}", point.step, point.rows.len())
    };
    let mut points: Vec<Point<T>> = Vec::new();
    let all = rows.len();
    for (k, row) in rows.into_iter().enumerate() {
        let (step, tokens) = row.at();
        match points.last() {
            Some(last) if last.step == step => {}
            Some(last) if last.rows.len() < each => return wrong(k + 1, short(last)),
            _ => points.push(Point { step, tokens, rows: Vec::new() }),
        }
        let Some(point) = points.last_mut() else { continue };
        let at = point.rows.len();
        let (head, kind) = of(&row);
        if at == each {
            return wrong(k + 1, format!("a further line of step {step}, expected {each}"));
        }
        let expected = HeadId { layer: at / kinds.len() / heads, head: at / kinds.len() % heads };
        if (head, kind) != (expected, kinds[at % kinds.len()]) {
            return wrong(
                k + 1,
                format!(
                    "head {head}, expected head {expected} in this place of a model of {layers} layers of {heads} heads"
                ),
            );
        }
        point.rows.push(row);
    }
    match points.last() {
        Some(last) if last.rows.len() < each => wrong(all, short(last)),
        _ => Ok(points),
    }
}

fn load_change(tables: &Path) -> Result<Option<Change>, ReportError> {
    let path = tables.join(AblatedFrom::FILE);
    if !path.exists() {
        return Ok(None);
    }
    let made: AblatedFrom = read_json(&path, Stage::Ablating)?;
    Ok(made.change)
}

fn load_knockouts(tables: &Path, spec: &RunSpec) -> Result<Vec<KnockoutRow>, ReportError> {
    let path = tables.join(KnockoutRow::FILE);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let rows: Vec<KnockoutRow> = read_rows(tables)?;
    for (k, row) in rows.iter().enumerate() {
        for head in row.heads() {
            check_head(head, spec)
                .map_err(|problem| damaged(&path, k + 1, problem, Stage::Ablating))?;
        }
    }
    Ok(rows)
}

/// Refuses a head that the spec's model has not.
fn check_head(head: HeadId, spec: &RunSpec) -> Result<(), String> {
    let [layers, heads] = [spec.model.n_layers, spec.model.n_heads];
    if head.layer < layers && head.head < heads {
        return Ok(());
    }
    Err(format!("head {head}, expected one of a model of {layers} layers of {heads} heads"))
}
