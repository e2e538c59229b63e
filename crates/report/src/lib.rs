//! Claims with verdicts, figures and one page, from the measurements of runs.
//!
//! # Design
//!
//! The report is a pure function of files: the tables in `runs/NAME/`, `manifest.toml`, and scans in
//! `models/` (docs/FORMATS.md). It runs no model, reads no clock, asks no network, and the same
//! files give the same bytes. So a report can be rebuilt years later, or elsewhere, and
//! compared.
//!
//! Four stages, each ignorant of the next:
//!
//! - [`load_runs`] turns folders into checked [`Run`]s, [`load_scans`] scans of trained models into
//!   [`Scan`]s. A damaged line stops the report with its file and number: a verdict over half a
//!   table would be worth less than none.
//! - [`claims()`] is where results are interpreted. [`RULES`] holds each claim of the paper with
//!   our pass rule; the limits stand beside it and nowhere else. A run's part is told by its spec,
//!   never by its name or its results.
//! - [`table`] shows the claims in a terminal.
//! - The page shows the same claims with the figures behind them, as one file that works offline.
//!   Everything foreign in it - names, specs, corpora - is escaped by the templates it is put into,
//!   and its content security policy admits the two scripts we ship by hash, so that even a hole in
//!   the escaping would run nothing.
//!
//! # Example
//!
//! ```no_run
//! // Of a folder that `induction reproduce` made, or of any with run folders in `runs/`.
//! let report = induction_report::build("out/laptop".as_ref())?;
//! for claim in &report.claims {
//!     println!("{} {}: {}", claim.id, claim.title, claim.verdict.word());
//! }
//! println!("{}", report.page.display());
//! # Ok::<(), induction_report::ReportError>(())
//! ```
//!
//! # Features
//!
//! Off by default, since it takes minutes to build.
//!
//! - `parquet`: every figure's numbers as Parquet beside its CSV.
//!
//! Runnable: `cargo run -p induction-report --example report`.

mod analysis;
mod arguments;
mod claims;
mod compare;
mod error;
mod experiment;
mod explorer;
mod export;
mod figures;
mod load;
mod markdown;
mod page;
mod scanned;
mod series;
mod settings;
mod study;
mod terminal;
mod text;
mod trained;

use std::path::{Path, PathBuf};

use induction_records::{ManifestHead, Study};

pub use claims::{Claim, RULES, Rule, Verdict, claims, revision};
pub use error::ReportError;
pub use load::{
    AblationPoint, Explored, HeadScore, HeadsPoint, Maps, Point, Prompt, Run, Scan, Staged,
    load_run, load_runs, load_scan, load_scans, parse_scan, scan_of,
};
pub use terminal::table;

/// What [`build`] made.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// Every claim, in the order of [`RULES`].
    pub claims: Vec<Claim>,
    /// `DIR/report.html`.
    pub page: PathBuf,
    /// `DIR/claims.json`.
    pub claims_file: PathBuf,
}

/// What a page may weigh, 12 MB, less what the words of the explorer take.
const PAGE_BYTES: usize = 11_300_000;

/// Reads `dir/runs/*` and, where there are any, the scans of trained models in `dir/models`, and
/// writes `dir/claims.json`, `dir/claims.md`, `dir/series/`, `dir/figures/` and `dir/report.html`,
/// each file whole or not at all.
///
/// # Errors
/// If there is no run, a run's file is missing or damaged, or a result cannot be written.
pub fn build(dir: &Path) -> Result<Report, ReportError> {
    match study::load(dir)? {
        Some(study) => write_study(dir, &study, None),
        None => write_report(dir, &load_runs(dir)?),
    }
}

/// [`build`] from some of the runs, by the names of their folders: while others are still being
/// made.
///
/// # Errors
/// As [`build`].
pub fn build_of(dir: &Path, runs: &[String]) -> Result<Report, ReportError> {
    if let Some(study) = study::load(dir)? {
        return write_study(dir, &study, Some(runs));
    }
    let loaded = runs
        .iter()
        .map(|name| load_run(&dir.join("runs").join(name)))
        .collect::<Result<Vec<_>, _>>()?;
    write_report(dir, &loaded)
}

fn write_report(dir: &Path, runs: &[Run]) -> Result<Report, ReportError> {
    let scans = load_scans(dir)?;
    let experiments = experiment::experiments(runs);
    let models = figures::Models::of_folders(&scans);
    let claims = claims::judge(&experiments, &models.each);
    let mut figures = figures::figures(&experiments, &claims);
    figures.extend(figures::models(&models, &claims));
    let folder = |name: &str| {
        let folder = dir.join(name);
        induction_files::make_folders(&folder)
            .map_err(|source| ReportError::Write { path: folder.clone(), source })?;
        Ok::<PathBuf, ReportError>(folder)
    };
    let series = folder("series")?;
    write(&series.join("pca.jsonl"), &series::pca_rows(&experiments))?;
    write(&series.join("models.jsonl"), &series::model_rows(&experiments))?;
    write_figures(&folder("figures")?, &figures)?;
    let rules = markdown::Rules { planned: planned_rules(dir) };
    let mut parts = page::Parts {
        runs,
        experiments: &experiments,
        claims: &claims,
        figures: &figures,
        brief: figures::brief(&experiments),
        analysis: analysis::analysis(&experiments),
        explorer: (Vec::new(), 1),
        scanned: scanned::scanned(&models),
        command: &command(dir, runs),
        rules: &rules,
    };
    let without = page::page(&parts).len();
    parts.explorer = explorer::explorer(&experiments, PAGE_BYTES.saturating_sub(without));
    let html = page::page(&parts);
    let report =
        Report { claims, page: dir.join("report.html"), claims_file: dir.join("claims.json") };
    write(&report.claims_file, &json_of(&report.claims))?;
    write(&dir.join("claims.md"), &markdown::markdown(&experiments, &report.claims, &rules))?;
    write(&report.page, &html)?;
    Ok(report)
}

/// The report of a study: its claims, figures and numbers in place of the paper's; of the runs
/// named, if some are.
fn write_study(dir: &Path, study: &Study, only: Option<&[String]>) -> Result<Report, ReportError> {
    let (runs, absent) = study::load_planned(dir, study, only)?;
    let studied = study::Studied::new(study, &runs, absent);
    let claims = studied.claims();
    let figures = study::figures(&studied);
    let folder = dir.join("figures");
    induction_files::make_folders(&folder)
        .map_err(|source| ReportError::Write { path: folder.clone(), source })?;
    write_figures(&folder, &figures)?;
    let (page, claims_file) = (dir.join("report.html"), dir.join("claims.json"));
    write(&claims_file, &json_of(&claims))?;
    write(&dir.join("claims.md"), &study::markdown(&studied, &claims))?;
    write(&page, &page::study(&studied, &claims, &figures, &runs))?;
    Ok(Report { claims, page, claims_file })
}

/// Reads the runs of several folders and writes `out/report.html` and `out/figures/`: the
/// reproductions side by side, each named by its folder.
///
/// # Errors
/// As [`build`], of any of the folders.
pub fn compare(dirs: &[PathBuf], out: &Path) -> Result<PathBuf, ReportError> {
    let loaded = dirs.iter().map(|dir| Ok((load_runs(dir)?, load_scans(dir)?)));
    let loaded = loaded.collect::<Result<Vec<_>, ReportError>>()?;
    let mut sides = Vec::new();
    for (dir, (runs, scans)) in dirs.iter().zip(&loaded) {
        let experiments = experiment::experiments(runs);
        let models = figures::Models::of_folders(scans);
        let claims = claims::judge(&experiments, &models.each);
        let mut figures = figures::figures(&experiments, &claims);
        figures.extend(figures::models(&models, &claims));
        let mut analysis = analysis::analysis(&experiments);
        let name = dir
            .file_name()
            .map_or_else(|| dir.display().to_string(), |name| name.to_string_lossy().into_owned());
        let name = text::visible(&name);
        analysis.iter_mut().for_each(|series| series.title = format!("{name}: {}", series.title));
        sides.push(compare::Side { name, experiments, claims, figures, analysis });
    }
    let figures = compare::merged(&mut sides);
    let analysis: Vec<analysis::Series> =
        sides.iter_mut().flat_map(|side| std::mem::take(&mut side.analysis)).collect();
    let files = out.join("figures");
    induction_files::make_folders(&files)
        .map_err(|source| ReportError::Write { path: files.clone(), source })?;
    write_figures(&files, &figures)?;
    let page = out.join("report.html");
    write(&page, &page::compared(&sides, &figures, &analysis))?;
    Ok(page)
}

/// The page about scanned models alone, in one file: their verdicts, and the figures of the
/// report's section on them. Several scans are a series, in the order given, such as the
/// checkpoints of a training run.
pub fn scan_page(scans: &[Scan]) -> String {
    let models = figures::Models::of_series(scans);
    let mut claims = claims::judge(&[], &models.each);
    claims.retain(|claim| arguments::REAL_MODELS.rests_on(&claim.id));
    let figures = figures::models(&models, &claims);
    let mut names: Vec<&str> = scans.iter().map(|scan| scan.found.model.name.as_str()).collect();
    names.dedup();
    page::scanned(&names, &claims, &figures, &scanned::scanned(&models))
}

/// Reads the scans in `dirs` (each `DIR/scan.json`, or of several models `DIR/*/scan.json`) and
/// writes [`scan_page`] of them to `out`.
///
/// # Errors
/// If a folder holds no scan, one is damaged, or the page cannot be written.
pub fn build_scan(dirs: &[PathBuf], out: &Path) -> Result<(), ReportError> {
    let loaded = dirs.iter().map(|dir| load_scan(dir)).collect::<Result<Vec<_>, _>>()?;
    write(out, &scan_page(&loaded.concat()))
}

fn json_of(claims: &[Claim]) -> String {
    let json = serde_json::to_string_pretty(claims).expect("claims are texts and optional texts");
    json + "\n"
}

fn write_figures(folder: &Path, figures: &[figures::Figure]) -> Result<(), ReportError> {
    for figure in figures {
        write(&folder.join(format!("{}.svg", figure.id)), &export::svg(figure))?;
        write(&folder.join(format!("{}.csv", figure.id)), &export::csv(figure))?;
        #[cfg(feature = "parquet")]
        {
            let path = folder.join(format!("{}.parquet", figure.id));
            let failed = |source| ReportError::Write { path: path.clone(), source };
            if let Some(bytes) = export::parquet(figure).map_err(failed)? {
                induction_files::write_atomic(&path, &bytes).map_err(failed)?;
            }
        }
    }
    Ok(())
}

/// Revision of the rules on the day the runs were planned, by their manifest.
fn planned_rules(dir: &Path) -> Option<String> {
    ManifestHead::of(dir)?.rules
}

/// What makes these runs again: their scale's command if the manifest beside them is a scale's,
/// else its own.
fn command(dir: &Path, runs: &[Run]) -> String {
    let Some(name) = ManifestHead::of(dir).and_then(|head| head.name) else {
        return "induction run SPEC --out RUN".to_string();
    };
    if !["smoke", "laptop", "full", "gpu", "paper"].contains(&name.as_str()) {
        return "induction reproduce --manifest manifest.toml --out DIR".to_string();
    }
    let seeds: std::collections::BTreeSet<u64> = runs.iter().map(|run| run.spec.seed).collect();
    // What laptop and full do without being told.
    let judged = name == "laptop" || name == "full";
    let (usual_first, usual_seeds) = if judged { (1, 3) } else { (0, 1) };
    let mut command = format!("cargo xtask reproduce --scale {name}");
    if let Some(first) = seeds.first().filter(|first| **first != usual_first) {
        command += &format!(" --seed {first}");
    }
    if seeds.len() != usual_seeds {
        command += &format!(" --seeds {}", seeds.len());
    }
    if !judged && runs.iter().any(|run| !run.spec.model.clamp.is_empty()) {
        command += " --clamp";
    }
    command
}

fn write(path: &Path, text: &str) -> Result<(), ReportError> {
    induction_files::write_atomic(path, text.as_bytes())
        .map_err(|source| ReportError::Write { path: path.to_path_buf(), source })
}
