//! The tables of docs/SCALE.md.

use super::{
    Assumptions,
    models::{self, AS_THE_PAPER, Model, Run, SHORT},
    sweep::{self, Job, Part, Summary, Weather},
};

const HOUR: f64 = 3600.0;
const DAY: f64 = 24.0 * HOUR;
const YEAR: f64 = 365.25 * DAY;
/// Shares of the peak, in percent, beside the assumed one.
const SHARES: [f64; 3] = [10.0, 25.0, 40.0];
/// Seconds until a stopped run goes on: at once elsewhere, and as Slurm requeues by default.
const DELAYS: [f64; 2] = [30.0, 121.0];
/// Mean hours between pre-emptions; `None`: never.
const BETWEEN: [Option<f64>; 4] = [Some(1.0), Some(6.0), Some(24.0), None];
const WORKERS: [usize; 3] = [1, 8, 64];
/// Memory of a GPU, and what its context takes.
const DEVICE_BYTES: f64 = 80e9;
const CONTEXT_BYTES: f64 = 1.5e9;

/// FLOP/s of a core of docs/BENCHMARKS.md in training: tokens a second on one thread, at the case's
/// FLOP a token.
fn core(
    tokens_per_s: f64,
    d_model: u64,
    n_layers: u64,
    d_mlp: u64,
    n_ctx: u64,
    d_vocab: u64,
) -> f64 {
    let model =
        Model { n_layers, d_model, n_heads: d_model / 32, d_head: 32, d_mlp, n_ctx, d_vocab };
    3.0 * model.forward(n_ctx) * tokens_per_s
}

/// The nearest measured case to the paper's models: B, or C where there are MLPs.
fn core_at_paper(model: &Model) -> f64 {
    if model.d_mlp > 0 {
        core(8_293.0, 128, 6, 512, 512, 512)
    } else {
        core(14_657.0, 256, 2, 0, 256, 1024)
    }
}

/// Seconds of a run's stages on a core, at the measured rates of docs/BENCHMARKS.md: A or C in
/// training, a snapshot of the laptop scale's 2-layer model measured in 1.58 s, and its heads
/// removed on 128 examples in 2.99 s.
fn on_a_core(run: &Run) -> [f64; 3] {
    let train = if run.model.d_mlp > 0 {
        core_at_paper(&run.model)
    } else {
        core(38_833.0, 128, 2, 0, 512, 512)
    };
    let mut known = models::full().swap_remove(1);
    (known.every, known.evaluation.removal_every, known.evaluation.removal_examples) = (1, 1, 128);
    let snapshots = known.kept() as f64;
    let (measure, remove) = (known.measure() / snapshots / 1.58, known.remove() / snapshots / 2.99);
    [run.train() / train, run.measure() / measure, run.remove() / remove]
}

/// Seconds of a run's stages on a GPU.
fn on_a_gpu(run: &Run, a: &Assumptions) -> [f64; 3] {
    [run.train() / a.train(), run.measure() / a.float32, run.remove() / a.float32]
}

/// A run as the simulation takes it: training in pieces between snapshots, measuring and removing
/// snapshot by snapshot.
fn job(run: &Run, [train, measure, remove]: [f64; 3], write: f64) -> Job {
    let pieces = run.steps().div_ceil(run.every.max(1));
    let part = |seconds: f64, pieces: u64, saves: bool| Part { seconds, pieces, saves };
    let mut parts = vec![part(train + pieces as f64 * run.saved() / write, pieces, true)];
    parts.push(part(measure, run.kept(), false));
    if run.sweeps() > 0 {
        parts.push(part(remove, run.sweeps(), false));
    }
    Job(parts)
}

/// The paper's small models on a GPU, measured on short examples; `seeds` of each.
fn paper_jobs(a: &Assumptions, seeds: usize) -> Vec<Job> {
    let one = models::paper().into_iter().map(|run| {
        let run = Run { every: a.interval, ..run.measured(SHORT) };
        job(&run, on_a_gpu(&run, a), a.write)
    });
    let one: Vec<Job> = one.collect();
    one.iter().cycle().take(seeds * one.len()).cloned().collect()
}

/// The scale `full` on a core. What its snapshots of some MB take is in the measured rates.
fn full_jobs() -> Vec<Job> {
    models::full().iter().map(|run| job(run, on_a_core(run), f64::INFINITY)).collect()
}

pub(super) fn models_table(a: &Assumptions) -> String {
    let mut rows = Vec::new();
    let mut add = |name: &str, run: &Run| {
        let model = &run.model;
        let mut row = vec![
            name.to_string(),
            short(model.d_model as f64),
            short(model.blocks() as f64 / 1e6),
            short(model.parameters() as f64 / 1e6),
            format!("{:.2e}", (run.steps() * run.tokens_per_step) as f64),
            format!("{:.2e}", run.train()),
            percent(1.0 - model.forward(0) / model.forward(model.n_ctx)),
        ];
        row.extend(SHARES.map(|share| short(run.train() / (a.peak * share / 100.0) / HOUR)));
        row.push(short(run.train() / core_at_paper(model) / YEAR));
        rows.push(row);
    };
    let paper = models::paper();
    for run in &paper[..14] {
        add(&run.name, run);
    }
    models::large().iter().for_each(|run| add(&run.name, run));
    let [low, middle, high] = SHARES.map(|share| format!("GPU-hours at {share} %"));
    let head = ["model", "d_model", "M in blocks", "M in all", "tokens", "FLOP", "of it attention"];
    table(&[&head[..], &[&low, &middle, &high, "core-years"]].concat(), &rows)
}

pub(super) fn families(a: &Assumptions) -> String {
    let (paper, large) = (models::paper(), models::large());
    let families: [(&str, &str, &[Run]); 7] = [
        ("attention-only, 1 to 6 layers", "6", &paper[..6]),
        ("with MLPs, 1 to 6 layers", "6", &paper[6..12]),
        ("smeared keys, 1 and 2 layers", "4, of which 2 are above", &paper[12..14]),
        ("both families on books", "12", &paper[14..]),
        ("all small models", "28", &paper),
        ("large, 4 to 16 layers", "4", &large[..4]),
        ("large, 24 and 40 layers", "2", &large[4..]),
    ];
    let rows = families.map(|(name, models, runs)| {
        let sum = |of: &dyn Fn(&Run) -> f64| runs.iter().map(of).sum::<f64>();
        let flop = sum(&Run::train);
        let mut row = vec![
            name.to_string(),
            models.to_string(),
            runs.len().to_string(),
            format!("{flop:.2e}"),
        ];
        row.extend(SHARES.map(|share| short(flop / (a.peak * share / 100.0) / HOUR)));
        row.push(short(sum(&|run| run.train() / core_at_paper(&run.model)) / YEAR));
        row
    });
    let [low, middle, high] = SHARES.map(|share| format!("GPU-hours at {share} %"));
    table(&["family", "models", "runs", "FLOP", &low, &middle, &high, "core-years"], &rows)
}

/// Some single runs, and all of them.
fn some_and_all() -> Vec<(&'static str, Vec<Run>)> {
    let paper = models::paper();
    let one = |at: usize| vec![paper[at].clone()];
    vec![
        ("1L", one(0)),
        ("2L", one(1)),
        ("6L", one(5)),
        ("1L-mlp", one(6)),
        ("6L-mlp", one(11)),
        ("all 26 runs", paper),
    ]
}

pub(super) fn measuring(a: &Assumptions) -> String {
    let rows: Vec<Vec<String>> = some_and_all()
        .into_iter()
        .map(|(name, runs)| {
            let sum = |of: &dyn Fn(&Run) -> f64| runs.iter().map(of).sum::<f64>();
            let hours = |flop: f64| short(flop / a.float32 / HOUR);
            vec![
                name.to_string(),
                short(sum(&Run::train) / a.train() / HOUR),
                hours(sum(&Run::measure)),
                hours(sum(&|run| run.measured(SHORT).measure())),
                hours(sum(&Run::remove)),
                hours(sum(&|run| run.measured(SHORT).remove())),
                hours(sum(&|run| run.measured(AS_THE_PAPER).remove())),
            ]
        })
        .collect();
    let share = format!("training at {} %", 100.0 * a.share);
    let head = ["runs", &share, "losses, 10,000 x 8192", "losses, 10,000 x 512"];
    table(
        &[&head[..], &["heads, 128 x 8192", "heads, 128 x 512", "heads, 10,000 x 512"]].concat(),
        &rows,
    )
}

pub(super) fn storage(_: &Assumptions) -> String {
    let mut lines = some_and_all();
    lines.push(("6 large models", models::large()));
    let rows: Vec<Vec<String>> = lines
        .into_iter()
        .map(|(name, runs)| {
            let gb = |of: &dyn Fn(&Run) -> f64| short(runs.iter().map(of).sum::<f64>() / 1e9);
            vec![
                name.to_string(),
                gb(&|run| run.model.weights()),
                gb(&Run::saved),
                gb(&|run| run.kept() as f64 * run.saved()),
                gb(&|run| run.snapshots(1)),
                gb(&|run| run.snapshots(3)),
                gb(&|run| run.snapshots(10)),
                gb(&Run::tables),
                gb(&|run| run.measured(SHORT).tables()),
            ]
        })
        .collect();
    let head = [
        "runs",
        "weights",
        "as written",
        "every snapshot as written",
        "weights_every 1",
        "3",
        "10",
    ];
    table(&[&head[..], &["tables, 10,000 x 8192", "tables, 10,000 x 512"]].concat(), &rows)
}

/// Seconds that a save takes, of `bytes` every `between` seconds on each of `n` devices: all at
/// once, and spread evenly, when only what the file system cannot write meanwhile is waited for.
fn save_seconds(n: usize, bytes: f64, between: f64, alone: f64, together: f64) -> [f64; 2] {
    let all = n as f64 * bytes / together;
    [all.max(bytes / alone), (all - between).max(bytes / alone)]
}

/// Mean bytes of a save and seconds of training between two, over the paper's small models.
fn saves(a: &Assumptions) -> (f64, f64) {
    let runs = models::paper();
    let pieces: f64 = runs.iter().map(|run| run.steps() as f64 / a.interval as f64).sum();
    let bytes: f64 =
        runs.iter().map(|run| run.saved() * run.steps() as f64 / a.interval as f64).sum();
    (bytes / pieces, runs.iter().map(Run::train).sum::<f64>() / a.train() / pieces)
}

pub(super) fn writing(a: &Assumptions) -> String {
    let (bytes, between) = saves(a);
    let systems = [2e9, 10e9, 50e9];
    let rows = [1, 8, 26, 64].map(|n| {
        let mut row = vec![n.to_string(), short(n as f64 * bytes / between / 1e9)];
        // Stalls under a twentieth of the time.
        row.push(short(n as f64 * bytes / (between / 19.0) / 1e9));
        for together in systems {
            let [at_once, spread] = save_seconds(n, bytes, between, a.write, together);
            let share = |save: f64| percent(save / (save + between));
            row.push(format!("{} to {}", share(spread), share(at_once)));
        }
        row
    });
    let [slow, middle, fast] = systems.map(|system| format!("stalled at {} GB/s", system / 1e9));
    let head = ["GPUs", "written, GB/s", "for stalls under 5 %, all at once, GB/s"];
    table(&[&head[..], &[&slow, &middle, &fast]].concat(), &rows)
}

/// Whether a GPU holds what training needs.
fn fits(parts: [f64; 3]) -> bool {
    CONTEXT_BYTES + parts.iter().sum::<f64>() <= DEVICE_BYTES
}

pub(super) fn memory(_: &Assumptions) -> String {
    let paper = models::paper();
    let runs = [&paper[0], &paper[5], &paper[11]].into_iter().cloned().chain(models::large());
    let rows: Vec<Vec<String>> = runs
        .map(|run| {
            let [states, rows, patterns] = run.model.on_a_device();
            let said = |yes: bool| if yes { "yes" } else { "no" }.to_string();
            let mut row = vec![run.name.clone()];
            row.extend([states, rows, patterns].map(|bytes| short(bytes / 1e9)));
            row.extend([said(fits([states, rows, patterns])), said(fits([states, rows, 0.0]))]);
            row
        })
        .collect();
    let head =
        ["model", "weights, gradients, moments", "activations of one example", "its patterns"];
    table(&[&head[..], &["fits", "fits without patterns"]].concat(), &rows)
}

pub(super) fn evidence(a: &Assumptions) -> String {
    let short_eval =
        |runs: &[Run]| -> Vec<Run> { runs.iter().map(|run| run.measured(SHORT)).collect() };
    let paper = short_eval(&models::paper());
    let large: Vec<Run> = models::large();
    let three = paper.iter().cycle().take(3 * paper.len()).cloned().collect();
    let steps: Vec<(&str, Vec<Run>)> = vec![
        ("attention-only, 1 to 3 layers: F3 to F9, heads removed", paper[..3].to_vec()),
        ("attention-only, 1 to 6 layers", paper[..6].to_vec()),
        ("smeared keys, 1 and 2 layers", paper[12..14].to_vec()),
        ("with MLPs, 1 to 6 layers", paper[6..12].to_vec()),
        ("both families on books", paper[14..].to_vec()),
        ("all small models", paper.clone()),
        ("all small models, three seeds", three),
        ("4 layers, large", large[..1].to_vec()),
        ("6 layers, large", large[1..2].to_vec()),
        ("10 layers, large", large[2..3].to_vec()),
        ("16 layers, large", large[3..4].to_vec()),
        ("24 layers, large", large[4..5].to_vec()),
        ("40 layers, large", large[5..].to_vec()),
    ];
    let rows: Vec<Vec<String>> = steps
        .into_iter()
        .map(|(name, runs)| {
            let mut row = vec![name.to_string()];
            let sum =
                |stage: usize| runs.iter().map(|run| on_a_gpu(run, a)[stage]).sum::<f64>() / HOUR;
            row.extend([sum(0), sum(1), sum(2)].map(short));
            let fits = runs.iter().all(|run| fits(run.model.on_a_device()));
            // Saves are left out: they are in the sweeps.
            let jobs: Vec<Job> =
                runs.iter().map(|run| job(run, on_a_gpu(run, a), f64::INFINITY)).collect();
            row.extend(WORKERS.map(|workers| {
                if fits { days(makespan(&jobs, workers)) } else { "no".to_string() }
            }));
            row.push(short(jobs.iter().map(Job::seconds).sum::<f64>() / 64.0 / HOUR));
            row
        })
        .collect();
    let head = ["evidence", "training, GPU-hours", "measuring", "removing heads"];
    table(
        &[&head[..], &["days on 1 GPU", "on 8", "on 64", "hours on 64 if runs could be split"]]
            .concat(),
        &rows,
    )
}

pub(super) fn shares(a: &Assumptions) -> String {
    let rows = SHARES.map(|share| {
        let rate = Assumptions { share: share / 100.0, ..*a };
        let runs = models::paper().into_iter().map(|run| run.measured(SHORT));
        let jobs: Vec<Job> =
            runs.map(|run| job(&run, on_a_gpu(&run, &rate), f64::INFINITY)).collect();
        let mut row =
            vec![format!("{share} %"), short(jobs.iter().map(Job::seconds).sum::<f64>() / HOUR)];
        row.extend(WORKERS.map(|workers| days(makespan(&jobs, workers))));
        row
    });
    table(&["share of the peak", "GPU-hours", "days on 1 GPU", "on 8", "on 64"], &rows)
}

/// Seconds without pre-emption, the longest first.
fn makespan(jobs: &[Job], workers: usize) -> f64 {
    let calm = Weather { workers, between: None, delay: 0.0, warned: true, limit: None, seed: 0 };
    sweep::simulate(&sweep::longest_first(jobs.to_vec()), &calm)
        .map_or(f64::NAN, |outcome| outcome.makespan)
}

pub(super) fn check(a: &Assumptions) -> String {
    let mut rows = Vec::new();
    for (hours, pieces, between, delay, warned) in [
        (1.0, 1, 1.0, 0.0, false),
        (2.0, 1, 1.0, 121.0, false),
        (9.0, 1, 6.0, 121.0, false),
        (9.0, 200, 1.0, 30.0, false),
        (9.0, 200, 1.0, 121.0, false),
        (9.0, 10, 1.0, 121.0, false),
        (9.0, 200, 6.0, 121.0, false),
        (9.0, 200, 1.0, 121.0, true),
    ] {
        let job = Job(vec![Part { seconds: hours * HOUR, pieces, saves: true }]);
        let between_s = between * HOUR;
        let weather = Weather {
            workers: 1,
            between: Some(between_s),
            delay,
            warned,
            limit: None,
            seed: a.seed,
        };
        let form = if warned {
            sweep::expected_warned(hours * HOUR, between_s, delay)
        } else {
            sweep::expected(hours * HOUR, pieces, between_s, delay)
        };
        let Some(found) = sweep::many(&[job], &weather, 20 * a.draws) else { continue };
        rows.push(vec![
            short(hours),
            pieces.to_string(),
            short(between),
            format!("{delay} s"),
            if warned { "yes" } else { "no" }.to_string(),
            format!("{:.3}", form / HOUR),
            format!("{:.3} ± {:.3}", found.makespan / HOUR, found.stderr / HOUR),
        ]);
    }
    table(
        &[
            "work, h",
            "pieces",
            "between stops, h",
            "delay",
            "warned",
            "closed form, h",
            "simulated, h",
        ],
        &rows,
    )
}

pub(super) fn sweep_paper(a: &Assumptions) -> String {
    sweeps(&paper_jobs(a, 1), a, HOUR, "h")
}

pub(super) fn sweep_seeds(a: &Assumptions) -> String {
    sweeps(&paper_jobs(a, 3), a, HOUR, "h")
}

pub(super) fn sweep_full(a: &Assumptions) -> String {
    sweeps(&full_jobs(), a, 60.0, "min")
}

/// One line for each number of workers and each time between pre-emptions.
fn sweeps(jobs: &[Job], a: &Assumptions, unit: f64, name: &str) -> String {
    let sorted = sweep::longest_first(jobs.to_vec());
    let work: f64 = jobs.iter().map(Job::seconds).sum();
    let mut rows = Vec::new();
    for workers in WORKERS {
        for between in BETWEEN {
            let run = |jobs: &[Job], delay: f64, warned: bool| {
                let between = between.map(|hours| hours * HOUR);
                let weather =
                    Weather { workers, between, delay, warned, limit: None, seed: a.seed };
                sweep::many(jobs, &weather, a.draws)
            };
            let [quick, slow] = DELAYS;
            let (at_30, at_121) = (run(&sorted, quick, false), run(&sorted, slow, false));
            let (warned, listed) = (run(&sorted, slow, true), run(jobs, slow, false));
            let cell = |found: &Option<Summary>, of: &dyn Fn(&Summary) -> String| {
                found.as_ref().map_or_else(|| "never ends".to_string(), of)
            };
            let time = |seconds: f64| short(seconds / unit);
            let makespan = |found: &Option<Summary>| cell(found, &|s| time(s.makespan));
            rows.push(vec![
                workers.to_string(),
                between.map_or("never".to_string(), |hours| format!("{hours} h")),
                time(sweep::bound(jobs, workers)),
                makespan(&at_30),
                makespan(&at_121),
                cell(&at_121, &|s| time(s.late)),
                makespan(&warned),
                makespan(&listed),
                cell(&at_121, &|s| short(s.stops)),
                cell(&at_121, &|s| time(s.busy)),
                cell(&at_121, &|s| percent(s.lost / s.busy)),
                cell(&warned, &|s| percent(s.lost / s.busy)),
                cell(&at_121, &|s| percent(work / (workers as f64 * s.makespan))),
            ]);
        }
    }
    let head =
        ["workers", "between stops", &format!("ideal, {name}"), "30 s", "121 s", "1 in 20 over"];
    let rest =
        ["warned", "manifest's order", "stops", "worked", "lost", "lost if warned", "utilisation"];
    table(&[&head[..], &rest[..]].concat(), &rows)
}

pub(super) fn limits(a: &Assumptions) -> String {
    let jobs = sweep::longest_first(paper_jobs(a, 1));
    let mut rows = Vec::new();
    for (limit, name) in [(120.0, "120 s"), (HOUR, "1 h"), (4.0 * HOUR, "4 h"), (DAY, "24 h")] {
        let mut row = vec![name.to_string()];
        for workers in WORKERS {
            for warned in [true, false] {
                let limit = Some(limit);
                let weather =
                    Weather { workers, between: None, delay: 121.0, warned, limit, seed: a.seed };
                let found = sweep::simulate(&jobs, &weather);
                let said = |o: sweep::Outcome| {
                    format!("{} ({})", short(o.makespan / HOUR), percent(o.lost / o.busy))
                };
                row.push(found.map_or("never ends".to_string(), said));
            }
        }
        rows.push(row);
    }
    let mut head = vec!["limit".to_string()];
    head.extend(WORKERS.iter().flat_map(|n| [format!("{n}, warned"), format!("{n}, not")]));
    table(&head.iter().map(String::as_str).collect::<Vec<_>>(), &rows)
}

pub(super) fn intervals(a: &Assumptions) -> String {
    let longest = models::paper().into_iter().find(|run| run.name == "6L-mlp");
    let Some(run) = longest else { return String::new() };
    let alone = run.train() / a.train();
    let save = run.saved() / a.write;
    let row = |every: u64| {
        let pieces = run.steps().div_ceil(every);
        let mut row = vec![
            every.to_string(),
            short(alone / pieces as f64),
            percent(pieces as f64 * save / alone),
        ];
        for hours in BETWEEN.into_iter().flatten() {
            let expected =
                sweep::expected(alone + pieces as f64 * save, pieces, hours * HOUR, 121.0);
            row.push(format!("{:.1} %", 100.0 * (expected / alone - 1.0)));
        }
        row
    };
    // Young's rule: the root of twice the cost of a save and the time between stops.
    let mut best = vec!["best distance".to_string(), String::new(), String::new()];
    best.extend(
        BETWEEN
            .into_iter()
            .flatten()
            .map(|hours| format!("{} s", short((2.0 * save * hours * HOUR).sqrt()))),
    );
    let mut rows: Vec<Vec<String>> = [5, 10, 25, 50, 100, 250, 1000].map(row).into();
    rows.push(best);
    table(&["every, steps", "s apart", "saving", "stops every 1 h", "6 h", "24 h"], &rows)
}

/// A Markdown table.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &[&str]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(head) + &format!("|{}\n", "---|".repeat(head.len()));
    for row in rows {
        text += &line(&row.iter().map(String::as_str).collect::<Vec<_>>());
    }
    text
}

/// Three digits, or all before the point, in groups.
fn short(x: f64) -> String {
    match x.abs() {
        0.0 => "0".to_string(),
        x if x < 0.01 => format!("{x:.1e}"),
        x if x < 10.0 => format!("{x:.2}"),
        x if x < 100.0 => format!("{x:.1}"),
        x if x < 1000.0 => format!("{x:.0}"),
        x => {
            let digits = format!("{x:.0}");
            let groups: Vec<&str> = digits
                .as_bytes()
                .rchunks(3)
                .rev()
                .map(|group| std::str::from_utf8(group).unwrap_or_default())
                .collect();
            groups.join(",")
        }
    }
}

fn days(seconds: f64) -> String {
    short(seconds / DAY)
}

fn percent(share: f64) -> String {
    let digits = usize::from(share.abs() < 0.1);
    format!("{:.digits$} %", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_is_as_fast_as_measured() {
        // docs/BENCHMARKS.md: A 76, B 81, C 82 GFLOP/s on one thread.
        let rates = [core(38_833.0, 128, 2, 0, 512, 512), core(14_657.0, 256, 2, 0, 256, 1024)];
        assert_eq!(rates.map(|rate| (rate / 1e9).round()), [76.0, 81.0]);
        assert_eq!((core(8_293.0, 128, 6, 512, 512, 512) / 1e9).round(), 82.0);
    }

    #[test]
    fn full_takes_on_two_cores_what_it_took() {
        // docs/results/full.md: about 2 h 8 min on two cores, whose second one slows the first.
        let hours = makespan(&full_jobs(), 2) / HOUR;
        assert!((hours / (2.0 + 8.0 / 60.0) - 1.0).abs() < 0.1, "{hours}");
    }

    #[test]
    fn numbers_have_three_digits() {
        let numbers = [0.0, 0.001, 1.234, 12.34, 123.4, 1234.5, 1_234_567.0].map(short);
        assert_eq!(numbers, ["0", "1.0e-3", "1.23", "12.3", "123", "1,234", "1,234,567"]);
    }
}
